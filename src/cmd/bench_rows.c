#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "cmd/bench.h"
#include "data/table.h"
#include "data/zfile.h"
#include "plan/stats.h"

enum { MOST_COLUMNS = 256 };

/* Takes the line, which loses its end; fields point into it. */
static char **split(char *line, char separator, size_t *n)
{
    char **fields = mem_array(MOST_COLUMNS, sizeof *fields);
    line[strcspn(line, "\r\n")] = 0;
    *n = table_csv_split(line, separator, fields, MOST_COLUMNS);
    for (size_t i = 0; i < *n && separator == ';'; i++)
        table_csv_point(fields[i]);
    return fields;
}

static char *copy(const struct buf *b)
{
    char *text = mem_alloc(b->len + 1);
    memcpy(text, b->data, b->len);
    return text;
}

void bench_rows_init(struct bench_rows *r)
{
    *r = (struct bench_rows){0};
    results_put_csv_header(&r->header);
    r->separator = table_csv_separator(r->header.data);
    r->names = split(copy(&r->header), r->separator, &r->n_column);
}

void bench_rows_free(struct bench_rows *r)
{
    for (size_t i = 0; i < r->n; i++) {
        free(r->row[i].csv);
        free(r->row[i].json);
        free(r->row[i].cells[0]);
        free(r->row[i].cells);
    }
    free(r->row);
    free(r->names[0]);
    free(r->names);
    buf_free(&r->header);
}

static void add(struct bench_rows *r, const struct buf *csv, const struct buf *json)
{
    size_t n;
    if (r->n == r->room) {
        r->room = r->room ? 2 * r->room : 16;
        r->row = mem_resize(r->row, r->room, sizeof *r->row);
    }
    r->row[r->n++] = (struct bench_row){ copy(csv), copy(json), split(copy(csv), r->separator, &n) };
    CHECK(n == r->n_column);
}

void bench_rows_add(struct bench_rows *r, const struct summary *s)
{
    struct buf csv = {0}, json = {0};
    results_put_csv(&csv, s);
    results_put_json(&json, s);
    add(r, &csv, &json);
    buf_free(&csv);
    buf_free(&json);
}

/* The whole file; NULL: there is none, or err_text() and *bad. */
static char *read_part(const char *folder, const char *name, size_t *len, bool *bad)
{
    struct buf path = {0};
    buf_printf(&path, "%s/%s", folder, name);
    FILE *f = fopen(path.data, "r");
    char *text = NULL;
    if (f) {
        fclose(f);
        text = zfile_read_all(path.data, len);
        *bad = *bad || !text;
    }
    buf_free(&path);
    return text;
}

/* summary.json is written last: where it is, the run is whole. */
int bench_rows_read(struct bench_rows *r, const char *folder)
{
    size_t csv_len = 0, json_len = 0;
    bool bad = false;
    char *json = read_part(folder, "summary.json", &json_len, &bad), *csv = json ? read_part(folder, "summary.csv", &csv_len, &bad) : NULL;
    int rc = bad ? -1 : json && csv;
    if (rc > 0 && (csv_len <= r->header.len || memcmp(csv, r->header.data, r->header.len)))
        rc = err_set("%s/summary.csv: its columns are those of another version; name another folder", folder);
    if (rc > 0)
        add(r, &(struct buf){ csv + r->header.len, csv_len - r->header.len, 0 }, &(struct buf){ json, json_len, 0 });
    free(json);
    free(csv);
    return rc;
}

static size_t find_column(const struct bench_rows *r, const char *column)
{
    for (size_t i = 0; i < r->n_column; i++)
        if (strcmp(r->names[i], column) == 0)
            return i;
    CHECK(!"a column of the summary");
    return 0;
}

const char *bench_rows_cell(const struct bench_rows *r, size_t row, const char *column)
{
    return r->row[row].cells[find_column(r, column)];
}

/* Beside the old one, which it replaces whole. */
int bench_rows_write(const struct bench_rows *r, const char *folder)
{
    struct buf path = {0}, new = {0};
    buf_printf(&path, "%s/summary.csv", folder);
    buf_printf(&new, "%s.new", path.data);
    FILE *f = fopen(new.data, "w");
    bool good = f && fwrite(r->header.data, 1, r->header.len, f) == r->header.len;
    for (size_t i = 0; i < r->n && good; i++)
        good = fputs(r->row[i].csv, f) >= 0;
    if (f && fclose(f))
        good = false;
    if (!good || rename(new.data, path.data))
        good = err_set("%s: %s", path.data, strerror(errno)) == 0;
    buf_free(&path);
    buf_free(&new);
    return good ? 0 : -1;
}

/* ---- what people see ---- */

static const struct shown { const char *column, *title; int decimals; } shown[] = {
    {"point", "point", -1}, {"repetition", "run", -1}, {"done", "done", -1}, {"wall_s", "wall s", 2},
    {"output_tokens_per_s", "output tok/s", 1}, {"total_tokens_per_s", "total tok/s", 1}, {"usd_per_mtok", "$/Mtok", 4},
    {"ttft_p50_ms", "ttft p50 ms", 1}, {"ttft_p99_ms", "ttft p99 ms", 1}, {"tpot_p50_ms", "tpot p50 ms", 2},
    {"tpot_p99_ms", "tpot p99 ms", 2}, {"e2el_p50_ms", "e2el p50 ms", 1}, {"goodput_rps", "goodput /s", 2}, {"slo_kept", "SLO kept", -1},
    {"validity", "validity", -1},
};

enum { N_SHOWN = sizeof shown / sizeof *shown };

static bool is_empty(const struct bench_rows *r, const char *column)
{
    for (size_t i = 0; i < r->n; i++)
        if (bench_rows_cell(r, i, column)[0])
            return false;
    return true;
}

static void put_cell(char text[64], const struct bench_rows *r, size_t row, const struct shown *s)
{
    const char *cell = bench_rows_cell(r, row, s->column);
    if (s->decimals < 0 || !cell[0])
        snprintf(text, 64, "%s", cell);
    else
        snprintf(text, 64, "%.*f", s->decimals, strtod(cell, NULL));
}

static int width_of(const struct bench_rows *r, const struct shown *s)
{
    size_t width = strlen(s->title);
    char text[64];
    for (size_t i = 0; i < r->n; i++) {
        put_cell(text, r, i, s);
        width = strlen(text) > width ? strlen(text) : width;
    }
    return (int)width;
}

/* Columns in which no row has anything are left out. */
static void print_table(const struct bench_rows *r, bool md)
{
    int width[N_SHOWN];
    const char *gap = md ? " | " : "  ", *begin = md ? "| " : "", *end = md ? " |\n" : "\n";
    for (size_t k = 0; k < N_SHOWN; k++)
        width[k] = is_empty(r, shown[k].column) ? 0 : width_of(r, &shown[k]);
    for (size_t k = 0, n = 0; k < N_SHOWN; k++)
        if (width[k])
            printf("%s%*s", n++ ? gap : begin, width[k], shown[k].title);
    fputs(end, stdout);
    for (size_t k = 0; k < N_SHOWN && md; k++)
        if (width[k])
            printf("%s%.*s:", "|", width[k] + 1, "--------------------------------------------------------------");
    fputs(md ? "|\n" : "", stdout);
    for (size_t i = 0; i < r->n; i++) {
        char text[64];
        for (size_t k = 0, n = 0; k < N_SHOWN; k++)
            if (width[k]) {
                put_cell(text, r, i, &shown[k]);
                printf("%s%*s", n++ ? gap : begin, width[k], text);
            }
        fputs(end, stdout);
    }
}

/* Of the rows of one point: mean and its 95 % interval (nothing here is negative), median and standard deviation. */
static void print_spread(const struct bench_rows *r, const char *point, const struct shown *s)
{
    double *x = mem_array(r->n, sizeof *x);
    size_t n = 0;
    for (size_t i = 0; i < r->n; i++)
        if (strcmp(bench_rows_cell(r, i, "point"), point) == 0 && bench_rows_cell(r, i, s->column)[0])
            x[n++] = strtod(bench_rows_cell(r, i, s->column), NULL);
    if (n > 1) {
        struct interval c = stats_mean_interval(x, n, 0.95);
        printf("%s%s%-13s mean %.*f (95 %%: %.*f .. %.*f), median %.*f, stddev %.*f over %zu runs\n", point, point[0] ? "  " : "", s->title, s->decimals,
               stats_mean(x, n), s->decimals, c.low > 0 ? c.low : 0.0, s->decimals, c.high, s->decimals, stats_median(x, n), s->decimals, stats_deviation(x, n), n);
    }
    free(x);
}

static void print_spreads(const struct bench_rows *r)
{
    for (size_t i = 0; i < r->n; i++) {
        const char *point = bench_rows_cell(r, i, "point");
        bool first = true;
        for (size_t k = 0; k < i; k++)
            first = first && strcmp(bench_rows_cell(r, k, "point"), point);
        for (size_t k = 0; k < N_SHOWN && first; k++)
            if (shown[k].decimals > 0)
                print_spread(r, point, &shown[k]);
    }
}

static bool repeats(const struct bench_rows *r)
{
    return r->n && strcmp(bench_rows_cell(r, r->n - 1, "repetition"), "1");
}

static void print_json(const struct bench_rows *r, bool lines)
{
    for (size_t i = 0; i < r->n; i++)
        printf("%s%s", lines ? "" : i ? "," : "[", r->row[i].json);
    fputs(lines ? "" : "]\n", stdout);
}

void bench_rows_print(const struct bench_rows *r, enum bench_format f)
{
    if (f == BENCH_CSV) {
        fwrite(r->header.data, 1, r->header.len, stdout);
        for (size_t i = 0; i < r->n; i++)
            fputs(r->row[i].csv, stdout);
    } else if (f == BENCH_JSON || f == BENCH_JSONL) {
        print_json(r, f == BENCH_JSONL);
    } else {
        print_table(r, f == BENCH_MD);
    }
    if (f == BENCH_TABLE && repeats(r)) {
        putchar('\n');
        print_spreads(r);
    }
}

/* Reading results folders.  Whatever is bad ends the program: there is nothing to report then. */
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "cmd/chart.h"
#include "cmd/report.h"
#include "data/csv.h"

static struct csv *open_or_die(const char *path)
{
    struct csv *c = csv_open(path);
    if (!c)
        die("report: %s", err_text());
    return c;
}

static bool next_or_die(struct csv *c)
{
    int rc = csv_next(c);
    if (rc < 0)
        die("report: %s", err_text());
    return rc > 0;
}

static double number_or_die(const struct csv *c, int column)
{
    double x;
    if (csv_number(c, column, &x))
        die("report: %s", err_text());
    return x;
}

static void read_rows(struct summary_file *s, struct csv *c)
{
    size_t cap = 0;
    while (next_or_die(c)) {
        if (s->n_row == cap) {
            cap = cap ? cap * 2 : 16;
            s->rows = mem_resize(s->rows, cap, sizeof *s->rows);
        }
        struct summary_row *row = &s->rows[s->n_row++];
        row->line = csv_line(c);
        row->cells = arena_alloc(&s->memory, s->n_name * sizeof *row->cells);
        for (size_t i = 0; i < s->n_name; i++)
            row->cells[i] = arena_dup(&s->memory, csv_text(c, (int)i), strlen(csv_text(c, (int)i)));
    }
}

void summary_open(struct summary_file *s, const char *folder)
{
    struct buf path = {0};
    *s = (struct summary_file){ .folder = folder };
    buf_printf(&path, "%s/summary.csv", folder);
    if (access(path.data, R_OK))
        die("report: there is no %s (a folder that tokmill run or tokmill bench has written is expected)", path.data);
    struct csv *c = open_or_die(path.data);
    s->n_name = csv_columns(c);
    s->names = arena_alloc(&s->memory, s->n_name * sizeof *s->names);
    for (size_t i = 0; i < s->n_name; i++)
        s->names[i] = arena_dup(&s->memory, csv_name(c, i), strlen(csv_name(c, i)));
    read_rows(s, c);
    if (!s->n_row)
        die("report: %s has no row", path.data);
    csv_close(c);
    buf_free(&path);
}

void summary_close(struct summary_file *s)
{
    free(s->rows);
    arena_free(&s->memory);
    *s = (struct summary_file){0};
}

const char *summary_text(const struct summary_file *s, size_t row, const char *column)
{
    for (size_t i = 0; i < s->n_name; i++)
        if (strcmp(s->names[i], column) == 0)
            return s->rows[row].cells[i];
    return "";
}

double summary_number(const struct summary_file *s, size_t row, const char *column)
{
    double x;
    const char *text = summary_text(s, row, column);
    if (csv_to_number(text, &x))
        die("report: %s/summary.csv:%zu: column \"%s\": \"%.40s\" is not a number", s->folder, s->rows[row].line, column, text);
    return x;
}

size_t summary_best(const struct summary_file *s)
{
    size_t best = 0;
    for (size_t i = 1; i < s->n_row; i++) {
        double now = summary_number(s, i, "output_tokens_per_s"), old = summary_number(s, best, "output_tokens_per_s");
        if (isfinite(now) && !(now <= old))
            best = i;
    }
    return best;
}

/* The mean over the rows of a point that have a value. */
static double point_mean(const struct summary_file *s, const char *name, const char *column)
{
    double sum = 0, n = 0;
    for (size_t i = 0; i < s->n_row; i++) {
        double x = summary_number(s, i, column);
        if (strcmp(summary_text(s, i, "point"), name) == 0 && isfinite(x))
            sum += x, n++;
    }
    return n > 0 ? sum / n : (double)NAN;
}

size_t summary_points(const struct summary_file *s, struct point *points)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n_row; i++) {
        const char *name = summary_text(s, i, "point");
        size_t k = 0;
        while (k < n && strcmp(points[k].name, name) != 0)
            k++;
        if (k == n)
            points[n++] = (struct point){ .name = name, .output_per_s = point_mean(s, name, "output_tokens_per_s"),
                .ttft_p50 = point_mean(s, name, "ttft_p50_ms"), .ttft_p99 = point_mean(s, name, "ttft_p99_ms"),
                .tpot_p50 = point_mean(s, name, "tpot_p50_ms"), .tpot_p99 = point_mean(s, name, "tpot_p99_ms"),
                .goodput = point_mean(s, name, "goodput_rps") };
        points[k].n_row++;
    }
    return n;
}

bool summary_part(const struct summary_file *s, size_t row, const char *name, struct buf *path)
{
    buf_clear(path);
    buf_printf(path, "%s/%04zu/%s", s->folder, row + 1, name);
    if (access(path->data, R_OK) == 0)
        return true;
    buf_clear(path);
    buf_printf(path, "%s/%s", s->folder, name);
    return s->n_row == 1 && access(path->data, R_OK) == 0;
}

void stages_read(struct stages *s, const char *path)
{
    struct csv *c = open_or_die(path);
    int stage = csv_find(c, "stage"), busy = csv_find(c, "busy_s"), share = csv_find(c, "share"), usd = csv_find(c, "usd");
    s->n = 0;
    while (next_or_die(c) && s->n < MAX_STAGE) {
        struct stage_line *line = &s->line[s->n];
        snprintf(line->name, sizeof line->name, "%s", csv_text(c, stage));
        line->busy_s = number_or_die(c, busy), line->share = number_or_die(c, share), line->usd = number_or_die(c, usd);
        if (line->share < 0 || line->share > 1)
            die("report: %s:%zu: a share of %g is not within 0 and 1", path, csv_line(c), line->share);
        s->n += isfinite(line->share);
    }
    csv_close(c);
}

static void add_known(struct series *s, double value)
{
    if (isfinite((float)value))
        series_add(s, value);
}

static int compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void sort(struct series *s)
{
    if (s->n)
        qsort(s->values, s->n, sizeof *s->values, compare_floats);
}

void latencies_read(struct latencies *l, const char *path)
{
    struct csv *c = open_or_die(path);
    int ttft = csv_find(c, "ttft_ms"), tpot = csv_find(c, "tpot_ms"), e2el = csv_find(c, "e2el_ms");
    *l = (struct latencies){0};
    while (next_or_die(c)) {
        add_known(&l->ttft, number_or_die(c, ttft));
        add_known(&l->tpot, number_or_die(c, tpot));
        add_known(&l->e2el, number_or_die(c, e2el));
    }
    csv_close(c);
    sort(&l->ttft);
    sort(&l->tpot);
    sort(&l->e2el);
}

void latencies_free(struct latencies *l)
{
    free(l->ttft.values);
    free(l->tpot.values);
    free(l->e2el.values);
    *l = (struct latencies){0};
}

/* The numbers of samples are those of the summary's own percentiles. */
double latency_at(const struct series *s, double p)
{
    if (s->n < (p > 0.98 ? 459 : p > 0.89 ? 44 : 1))
        return (double)NAN;
    size_t rank = (size_t)ceil(p * (double)s->n);
    return (double)s->values[rank ? rank - 1 : 0];
}

void steps_read(struct steps *s, const char *path)
{
    struct csv *c = open_or_die(path);
    const int start = csv_find(c, "start_s"), time = csv_find(c, "time_ms"), sequences = csv_find(c, "sequences"), prefill = csv_find(c, "prefill_tokens"),
        decode = csv_find(c, "decode_tokens"), used = csv_find(c, "kv_blocks_used"), total = csv_find(c, "kv_blocks");
    *s = (struct steps){0};
    while (next_or_die(c)) {
        double from = number_or_die(c, start), ms = number_or_die(c, time), blocks = number_or_die(c, total);
        if (!(from >= 0 && from < 1e9 && ms >= 0 && ms < 1e12))       /* 30 years */
            die("report: %s:%zu: start_s and time_ms of a step are expected", path, csv_line(c));
        series_add(&s->start_s, from);
        series_add(&s->time_ms, ms);
        series_add(&s->sequences, number_or_die(c, sequences));
        series_add(&s->prefill, number_or_die(c, prefill));
        series_add(&s->decode, number_or_die(c, decode));
        series_add(&s->kv, blocks > 0 ? 100 * number_or_die(c, used) / blocks : (double)NAN);
    }
    csv_close(c);
}

void steps_free(struct steps *s)
{
    struct series *const all[] = { &s->start_s, &s->time_ms, &s->sequences, &s->prefill, &s->decode, &s->kv };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]->values);
    *s = (struct steps){0};
}

const char *show(const char *fmt, ...)
{
    static char texts[16][512];
    static size_t next;
    char *text = texts[next++ % 16];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof texts[0], fmt, ap);
    va_end(ap);
    return text;
}

const char *show_number(double v)
{
    double size = fabs(v);
    return isfinite(v) ? show("%.*f", size == 0 || size >= 1000 ? 0 : size >= 10 ? 1 : size >= 0.1 ? 2 : size >= 0.001 ? 4 : 7, v) : "-";
}

const char *show_ms(double ms)
{
    return !isfinite(ms) ? "-" : ms >= 10000 ? show("%.1f s", ms / 1000) : show("%s ms", show_number(ms));
}

const char *show_percent(double share)
{
    double percent = 100 * share, size = fabs(percent);
    return isfinite(share) ? show("%.*f %%", size == 0 || size >= 0.095 ? 1 : 2, percent) : "-";
}

const char *show_si(double v, const char *unit)
{
    char text[32];
    chart_number(text, v);
    size_t digits = strspn(text, "0123456789.e+-");
    return show("%.*s %s%s", (int)digits, text, text + digits, unit);
}

/* Two digits that count, at least cents. */
const char *show_usd(double usd)
{
    int decimals = usd > 0 && usd < 0.1 ? 1 - (int)floor(log10(usd)) : 2;
    return isfinite(usd) ? show("%.*f", decimals < 12 ? decimals : 12, usd) : "-";
}

/* The report in the forms of other tools.  Those that keep a history of their own (github-action-benchmark, Bencher) get NEW alone,
 * as mean and Student's 95 % interval of the mean; those that compare two sides get every repetition of both. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cmd/compare.h"
#include "data/json.h"

/* "run", "run/max_seqs=64"; behind the side's name where there are several. */
static void put_run_name(struct buf *b, const struct compare_report *r, const struct compare_pair *p, const struct compare_row *row)
{
    if (r->n_pair > 1)
        buf_printf(b, "%s: ", p->new);
    buf_printf(b, "run%s%s", row->group[0] ? "/" : "", row->group);
}

static void put_run_string(struct buf *b, const struct compare_report *r, const struct compare_pair *p, const struct compare_row *row, const char *after)
{
    struct buf name = {0};
    put_run_name(&name, r, p, row);
    buf_puts(&name, after);
    json_put_string(b, name.data, name.len);
    buf_free(&name);
}

/* What a run gave, for those that take one value and a range. */
struct told { double value; struct interval interval; };

static struct told tell(const struct compare_row *row)
{
    double finite[COMPARE_MAX_REPETITION];
    size_t n = 0;
    for (size_t i = 0; row->new && i < row->n_new; i++)
        if (isfinite(row->new[i]))
            finite[n++] = row->new[i];
    return (struct told){ row->new ? stats_mean(finite, n) : row->c.new, stats_mean_interval(finite, n, 0.95) };
}

/* ---- JUnit XML ---- */

/* A file's name may be any bytes; XML may not. */
static void put_xml(struct buf *b, const char *s)
{
    size_t bad;
    bool text = utf8_valid(s, strlen(s), &bad);
    for (; *s; s++) {
        if (strchr("<>&\"'", *s))
            buf_printf(b, "&#%d;", *s);
        else
            buf_putc(b, (unsigned char)*s < 0x20 || *s == 0x7f ? ' ' : (unsigned char)*s >= 0x80 && !text ? '?' : *s);
    }
}

static void put_side(struct buf *b, const char *side, double x)
{
    if (isfinite(x))
        buf_printf(b, "%s %.6g ", side, x);
    else
        buf_printf(b, "%s none ", side);
}

/* "base 40980 new 38860 tok/s: -5.17 % (p 0.0002); limit 2 %" */
static void put_sentence(struct buf *b, const struct compare_row *row)
{
    const struct comparison *c = &row->c;
    put_side(b, "base", c->base);
    put_side(b, "new", c->new);
    buf_printf(b, "%s%s", row->metric->unit, isnan(c->change) ? "" : ": ");
    compare_put_change(b, c);
    if (row->gate)
        buf_printf(b, "; limit %g %%", 100 * row->limit);
    if (c->verdict == VERDICT_INCONCLUSIVE) {
        buf_puts(b, "; ");
        verdict_put_reason(b, c);
    }
}

static void put_testcase(struct buf *b, const struct compare_row *row)
{
    struct buf sentence = {0};
    const char *element = compare_fails(row) ? "failure" : compare_lacks(row) ? "error" : NULL;
    buf_puts(b, "    <testcase classname=\"tokmill");
    put_xml(b, row->group[0] ? "." : "");
    put_xml(b, row->group);
    buf_printf(b, "\" name=\"%s\" time=\"0\">", row->metric->name);
    put_sentence(&sentence, row);
    if (element)
        buf_printf(b, "<%s type=\"%s\" message=\"", element, verdict_name(row->c.verdict));
    if (element)
        put_xml(b, sentence.data);
    buf_puts(b, element ? "\">" : "<system-out>");
    buf_printf(b, "%s: ", verdict_name(row->c.verdict));
    put_xml(b, sentence.data);
    buf_printf(b, "</%s></testcase>\n", element ? element : "system-out");
    buf_free(&sentence);
}

static void put_lost(struct buf *b, const struct compare_pair *p)
{
    buf_puts(b, "    <testcase classname=\"tokmill\" name=\"configurations\" time=\"0\"><error type=\"inconclusive\" message=\"not all of base is in new\">");
    for (size_t i = 0; i < p->n_note; i++) {
        put_xml(b, p->notes[i]);
        buf_putc(b, '\n');
    }
    buf_puts(b, "</error></testcase>\n");
}

void compare_put_junit(struct buf *b, const struct compare_report *r)
{
    buf_puts(b, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for (size_t i = 0; i < r->n_pair; i++) {
        const struct compare_pair *p = &r->pairs[i];
        size_t failures = 0, errors = p->n_lost > 0;
        for (size_t k = 0; k < p->n_row; k++) {
            failures += compare_fails(&p->rows[k]);
            errors += compare_lacks(&p->rows[k]);
        }
        buf_puts(b, "  <testsuite name=\"tokmill compare ");
        put_xml(b, p->base);
        buf_putc(b, ' ');
        put_xml(b, p->new);
        buf_printf(b, "\" tests=\"%zu\" failures=\"%zu\" errors=\"%zu\" skipped=\"0\" time=\"0\">\n", p->n_row + (p->n_lost > 0), failures, errors);
        for (size_t k = 0; k < p->n_row; k++)
            put_testcase(b, &p->rows[k]);
        if (p->n_lost)
            put_lost(b, p);
        buf_puts(b, "  </testsuite>\n");
    }
    buf_puts(b, "</testsuites>\n");
}

/* ---- github-action-benchmark: src/extract.ts of benchmark-action/github-action-benchmark, tools custom(Bigger|Smaller)IsBetter ---- */

static void put_github_entry(struct buf *b, const struct compare_report *r, const struct compare_pair *p, const struct compare_row *row)
{
    struct told t = tell(row);
    struct buf extra = {0};
    char metric[64];
    snprintf(metric, sizeof metric, " %s", row->metric->name);
    buf_puts(b, "{\"name\":");
    put_run_string(b, r, p, row, metric);
    buf_printf(b, ",\"unit\":\"%s\",\"value\":", row->metric->unit);
    json_put_real(b, t.value);
    if (isfinite(t.interval.low))
        buf_printf(b, ",\"range\":\"± %.6g\"", t.interval.high - t.value);
    put_sentence(&extra, row);
    buf_puts(b, ",\"extra\":");
    json_put_string(b, extra.data, extra.len);
    buf_putc(b, '}');
    buf_free(&extra);
}

static void put_github(struct buf *b, const struct compare_report *r, bool bigger)
{
    bool any = false;
    buf_putc(b, '[');
    for (size_t i = 0; i < r->n_pair; i++)
        for (size_t k = 0; k < r->pairs[i].n_row; k++) {
            const struct compare_row *row = &r->pairs[i].rows[k];
            if (row->metric->higher_is_better != bigger || !row->c.n_new)
                continue;
            buf_puts(b, any ? ",\n" : "\n");
            put_github_entry(b, r, &r->pairs[i], row);
            any = true;
        }
    buf_puts(b, "\n]\n");
}

void compare_put_github_bigger(struct buf *b, const struct compare_report *r)
{
    put_github(b, r, true);
}

void compare_put_github_smaller(struct buf *b, const struct compare_report *r)
{
    put_github(b, r, false);
}

/* ---- Bencher Metric Format ---- */

static void put_measure(struct buf *b, const struct compare_row *row)
{
    struct told t = tell(row);
    buf_printf(b, "\"%s\":{\"value\":", row->metric->name);
    json_put_real(b, t.value);
    if (isfinite(t.interval.low)) {
        buf_puts(b, ",\"lower_value\":");
        json_put_real(b, t.interval.low);
        buf_puts(b, ",\"upper_value\":");
        json_put_real(b, t.interval.high);
    }
    buf_putc(b, '}');
}

void compare_put_bencher(struct buf *b, const struct compare_report *r)
{
    bool open = false;
    buf_putc(b, '{');
    for (size_t i = 0; i < r->n_pair; i++) {
        const struct compare_pair *p = &r->pairs[i];
        const char *group = NULL;
        for (size_t k = 0; k < p->n_row; k++) {
            if (!p->rows[k].c.n_new)
                continue;
            bool same = group && strcmp(group, p->rows[k].group) == 0;     /* a group's rows stand together */
            buf_puts(b, same ? ",\n " : open ? "},\n" : "\n");
            group = p->rows[k].group;
            open = true;
            if (!same) {
                put_run_string(b, r, p, &p->rows[k], "");
                buf_puts(b, ":{");
            }
            put_measure(b, &p->rows[k]);
        }
    }
    buf_puts(b, open ? "}}\n" : "}\n");
}

/* ---- each repetition: the rows of one configuration, from p->rows[from] on; returns where the next one begins ---- */

static size_t group_end(const struct compare_pair *p, size_t from)
{
    size_t to = from;
    while (to < p->n_row && strcmp(p->rows[to].group, p->rows[from].group) == 0)
        to++;
    return to;
}

/* ---- Go's benchmark text (golang.org/design/14313-benchmark-format), for benchstat -col side ---- */

/* A key's name and the value that all rows share; benchstat makes tables apart where one differs. */
static void put_go_facts(struct buf *b, const struct compare_pair *p)
{
    for (size_t k = 0; k < N_KEY; k++) {
        const char *x = p->key_base[k], *y = p->key_new[k];
        if (!x || !y || !x[0] || strcmp(x, y) != 0)
            continue;
        for (const char *s = key_columns[k].name; *s; s++)
            buf_putc(b, *s == '_' ? '-' : *s);
        buf_puts(b, ": ");
        for (; *x; x++)
            buf_putc(b, (unsigned char)*x < 0x20 ? ' ' : *x);
        buf_putc(b, '\n');
    }
}

static void put_go_unit(struct buf *b, const struct metric *m)
{
    buf_puts(b, strcmp(m->name, "wall_s") == 0 ? "sec/op" : m->name);
}

static bool has_metric(const struct compare_pair *p, const struct metric *m)
{
    for (size_t i = 0; i < p->n_row; i++)
        if (p->rows[i].metric == m && p->rows[i].base)
            return true;
    return false;
}

static void put_go_lines(struct buf *b, const struct compare_pair *p, size_t from, size_t to, bool new)
{
    size_t n = new ? p->rows[from].n_new : p->rows[from].n_base;
    for (size_t i = 0; i < n; i++) {
        buf_puts(b, p->rows[from].group[0] ? "BenchmarkRun/" : "BenchmarkRun");
        for (const char *s = p->rows[from].group; *s; s++)
            buf_putc(b, isspace((unsigned char)*s) ? '_' : *s);
        buf_puts(b, "\t1");
        for (size_t k = from; k < to; k++) {
            double x = new ? p->rows[k].new[i] : p->rows[k].base[i];
            if (!isfinite(x))
                continue;
            buf_printf(b, "\t%.9g ", x);
            put_go_unit(b, p->rows[k].metric);
        }
        buf_putc(b, '\n');
    }
}

void compare_put_gobench(struct buf *b, const struct compare_report *r)
{
    const struct compare_pair *p = &r->pairs[0];
    put_go_facts(b, p);
    for (size_t m = 0; m < N_METRIC; m++) {
        if (!has_metric(p, &metrics[m]))
            continue;
        buf_puts(b, "Unit ");
        put_go_unit(b, &metrics[m]);
        buf_printf(b, " better=%s\n", metrics[m].higher_is_better ? "higher" : "lower");
    }
    for (int side = 0; side < 2; side++) {
        buf_puts(b, side ? "side: new\n" : "side: base\n");
        for (size_t from = 0, to; from < p->n_row; from = to) {
            to = group_end(p, from);
            if (p->rows[from].base)
                put_go_lines(b, p, from, to, side);
        }
    }
}

/* ---- Google Benchmark's JSON, for compare.py filters FILE base new ---- */

static double value_of(const struct compare_row *row, bool new, size_t i)
{
    return new ? row->new[i] : row->base[i];
}

static double find_wall_s(const struct compare_pair *p, size_t from, size_t to, bool new, size_t i)
{
    for (size_t k = from; k < to; k++)
        if (strcmp(p->rows[k].metric->name, "wall_s") == 0)
            return value_of(&p->rows[k], new, i);
    return (double)NAN;
}

static void put_google_entry(struct buf *b, const struct compare_pair *p, size_t from, size_t to, bool new, size_t i)
{
    const struct compare_row *first = &p->rows[from];
    double ms = 1000 * find_wall_s(p, from, to, new, i);
    struct buf name = {0};
    buf_printf(&name, "%s/run%s%s", new ? "new" : "base", first->group[0] ? "/" : "", first->group);
    buf_puts(b, "{\"name\":");
    json_put_string(b, name.data, name.len);
    buf_puts(b, ",\"run_name\":");
    json_put_string(b, name.data, name.len);
    buf_printf(b, ",\"run_type\":\"iteration\",\"repetitions\":%zu,\"repetition_index\":%zu,\"threads\":1,\"iterations\":1,\"real_time\":",
               new ? first->n_new : first->n_base, i);
    json_put_real(b, ms);
    buf_puts(b, ",\"cpu_time\":");
    json_put_real(b, ms);
    buf_puts(b, ",\"time_unit\":\"ms\"");
    for (size_t k = from; k < to; k++)
        if (isfinite(value_of(&p->rows[k], new, i))) {
            buf_printf(b, ",\"%s\":", p->rows[k].metric->name);
            json_put_real(b, value_of(&p->rows[k], new, i));
        }
    buf_putc(b, '}');
    buf_free(&name);
}

/* An entry must have a time: repetitions without one are left out. */
static void put_google_side(struct buf *b, const struct compare_pair *p, size_t from, size_t to, bool new)
{
    size_t n = new ? p->rows[from].n_new : p->rows[from].n_base;
    for (size_t i = 0; p->rows[from].base && i < n; i++)
        if (isfinite(find_wall_s(p, from, to, new, i))) {
            buf_puts(b, b->data[b->len - 1] == '[' ? "\n" : ",\n");
            put_google_entry(b, p, from, to, new, i);
        }
}

void compare_put_google(struct buf *b, const struct compare_report *r)
{
    const struct compare_pair *p = &r->pairs[0];
    buf_puts(b, "{\"context\":{\"executable\":\"tokmill\",\"num_cpus\":1,\"mhz_per_cpu\":0,\"cpu_scaling_enabled\":false,\"caches\":[],\"load_avg\":[],"
                "\"library_build_type\":\"release\"},\n\"benchmarks\":[");
    for (size_t from = 0, to; from < p->n_row; from = to) {
        to = group_end(p, from);
        put_google_side(b, p, from, to, false);
        put_google_side(b, p, from, to, true);
    }
    buf_puts(b, "\n]}\n");
}

/* ---- GitHub's workflow commands: escapes as in actions/toolkit, packages/core/src/command.ts ---- */

static void put_command_text(struct buf *b, const char *s)
{
    for (; *s; s++) {
        if (*s == '%' || *s == '\r' || *s == '\n')
            buf_printf(b, "%%%02X", *s);
        else
            buf_putc(b, *s);
    }
}

void compare_put_annotations(struct buf *b, const struct compare_report *r)
{
    struct buf text = {0};
    for (size_t i = 0; i < r->n_pair; i++)
        for (size_t k = 0; k < r->pairs[i].n_row; k++) {
            const struct compare_row *row = &r->pairs[i].rows[k];
            if (!compare_fails(row))
                continue;
            buf_clear(&text);
            put_run_name(&text, r, &r->pairs[i], row);
            buf_printf(&text, " %s is worse: ", row->metric->name);
            put_sentence(&text, row);
            buf_puts(b, "::error title=tokmill compare::");
            put_command_text(b, text.data);
            buf_putc(b, '\n');
        }
    buf_free(&text);
}

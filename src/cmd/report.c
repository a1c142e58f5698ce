/* tokmill report: a page of what result folders hold, for people: HTML with charts, or Markdown. */
#include "cmd/report.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "cmd/cmd.h"

struct report_opts { const char *output, *baseline; };

const struct opt report_options[] = {
    {"output", 'o', OPT_TEXT, "FILE", offsetof(struct report_opts, output), NULL, "page to write, .html or .md; - is HTML on standard output (default: report.html in the first folder)", NULL, 0, 0},
    {"baseline", 0, OPT_TEXT, "DIR", offsetof(struct report_opts, baseline), NULL, "results to show the change against", NULL, 0, 0},
    {0},
};

/* A row of a card; what is not known is left out. */
static void fact(struct page *p, const char *name, const char *value)
{
    const char *cells[] = { name, value };
    if (*value && strcmp(value, "-") != 0)
        page_row(p, cells, 2);
}

static void fact_latency(struct page *p, const struct summary_file *s, size_t row, const char *name, const char *column)
{
    const char *p50 = show_number(summary_number(s, row, show("%s_p50_ms", column)));
    const char *p90 = show_number(summary_number(s, row, show("%s_p90_ms", column)));
    const char *p99 = show_number(summary_number(s, row, show("%s_p99_ms", column)));
    fact(p, name, strcmp(p50, "-") == 0 ? "" : show("p50 %s, p90 %s, p99 %s", p50, p90, p99));
}

/* "3 done": nothing where the count is not known. */
static const char *count(const struct summary_file *s, size_t row, const char *before, const char *column, const char *word)
{
    double n = summary_number(s, row, column);
    return isfinite(n) ? show("%s%.0f %s", before, n, word) : "";
}

static void put_identity(struct page *p, const struct summary_file *s, size_t row)
{
    const char *compute = summary_text(s, row, "compute"), *kv = summary_text(s, row, "kv_dtype"), *slo = summary_text(s, row, "slo");
    fact(p, "validity", summary_text(s, row, "validity"));
    fact(p, "rules", summary_text(s, row, "validity_rules"));
    fact(p, "model", summary_text(s, row, "model"));
    fact(p, "device", summary_text(s, row, "device_text"));
    fact(p, "numbers", *compute ? show("compute %s, weights %s%s%s", compute, summary_text(s, row, "weight_dtype"), *kv ? ", KV " : "", kv) : "");
    fact(p, "corpus", summary_text(s, row, "corpus"));
    fact(p, "scenario", summary_text(s, row, "scenario"));
    fact(p, "SLO", *slo ? show("%s: %s requests/s met it", slo, show_number(summary_number(s, row, "goodput_rps"))) : "");
    fact(p, "begun, UTC", summary_text(s, row, "date_utc"));
}

static void put_rates(struct page *p, const struct summary_file *s, size_t row)
{
    double score = summary_number(s, row, "score"), price = summary_number(s, row, "price_usd_per_h");
    fact(p, "requests", show("%s%s", count(s, row, "", "done", "done"), count(s, row, ", ", "failed", "failed")));
    fact(p, "tokens", show("%s%s%s", count(s, row, "", "input_tokens", "in"), count(s, row, ", of them ", "cached_tokens", "cached"),
        count(s, row, ", ", "output_tokens", "out")));
    fact(p, "time, s", show_number(summary_number(s, row, "wall_s")));
    fact(p, "loading before, s", show_number(summary_number(s, row, "load_s")));
    fact(p, "output tokens/s", show_number(summary_number(s, row, "output_tokens_per_s")));
    fact(p, "total tokens/s", show_number(summary_number(s, row, "total_tokens_per_s")));
    fact(p, "requests/s", show_number(summary_number(s, row, "requests_per_s")));
    fact_latency(p, s, row, "first token, ms", "ttft");
    fact_latency(p, s, row, "per token, ms", "tpot");
    fact_latency(p, s, row, "whole answer, ms", "e2el");
    fact(p, "score", isfinite(score) ? show("%s exact matches", show_percent(score)) : "");
    fact(p, "price", isfinite(price) ? show("%s USD/h (%s)", show_usd(price), summary_text(s, row, "price_source")) : "not known");
    fact(p, "cost", isfinite(price) ? show("%s USD per million tokens", show_usd(summary_number(s, row, "usd_per_mtok"))) : "");
    fact(p, "energy", isfinite(summary_number(s, row, "energy_j")) ? show("%s J", show_number(summary_number(s, row, "energy_j"))) : "");
    fact(p, "clock slowed by", summary_text(s, row, "throttle_reasons"));
}

static void put_card(struct page *p, const struct summary_file *s, size_t row)
{
    const char *point = summary_text(s, row, "point");
    page_table(p, s->n_row == 1 ? "The run" : *point ? show("Point of most output: %s", point) : show("Row of most output: %zu", row + 1), NULL, 2);
    put_identity(p, s, row);
    put_rates(p, s, row);
    page_table_end(p);
}

/* ---- files of a row; the name of one that is missing, or empty, is noted ---- */

static void note(struct buf *missing, const char *file, const char *what)
{
    buf_printf(missing, "%sNo %s: %s is not there or has no such rows.", missing->len ? " " : "", what, file);
}

static void put_stages(struct page *p, const struct summary_file *s, size_t row, struct buf *missing)
{
    struct stages stages = { .n = 0 };
    struct buf path = {0};
    if (summary_part(s, row, "stages.csv", &path))
        stages_read(&stages, path.data);
    if (stages.n)
        figure_stages(p, &stages);
    else
        note(missing, "stages.csv", "stages");
    buf_free(&path);
}

static void put_latencies(struct page *p, const struct summary_file *s, size_t row, struct buf *missing)
{
    struct latencies l = {0};
    struct buf path = {0};
    if (summary_part(s, row, "requests.csv", &path))
        latencies_read(&l, path.data);
    if (l.ttft.n || l.e2el.n)
        figure_latencies(p, &l);
    else
        note(missing, "requests.csv", "latencies");
    latencies_free(&l);
    buf_free(&path);
}

static void put_steps(struct page *p, const struct summary_file *s, size_t row, struct buf *missing)
{
    struct steps steps = {0};
    struct buf path = {0};
    if (summary_part(s, row, "steps.csv", &path))
        steps_read(&steps, path.data);
    if (steps.start_s.n)
        figure_steps(p, &steps);
    else
        note(missing, "steps.csv", "batch over time");
    steps_free(&steps);
    buf_free(&path);
}

/* ---- against the baseline ---- */

/* The baseline's row of the same point of a sweep, else its best. */
static size_t same_point(const struct summary_file *base, const char *point)
{
    for (size_t i = 0; i < base->n_row && *point; i++)
        if (strcmp(summary_text(base, i, "point"), point) == 0)
            return i;
    return summary_best(base);
}

static size_t find_changes(struct change *changes, const struct summary_file *base, size_t base_row, const struct summary_file *s, size_t row)
{
    static const struct { const char *name, *column; bool higher; } metrics[] = {
        { "output tok/s", "output_tokens_per_s", true }, { "total tok/s", "total_tokens_per_s", true },
        { "ttft p50, ms", "ttft_p50_ms", false }, { "ttft p99, ms", "ttft_p99_ms", false }, { "tpot p50, ms", "tpot_p50_ms", false },
        { "tpot p99, ms", "tpot_p99_ms", false }, { "e2el p50, ms", "e2el_p50_ms", false }, { "e2el p99, ms", "e2el_p99_ms", false },
        { "USD/Mtok", "usd_per_mtok", false }, { "energy, J", "energy_j", false }, { "score", "score", true },
    };
    size_t n = 0;
    for (size_t i = 0; i < sizeof metrics / sizeof *metrics; i++) {
        struct change c = { metrics[i].name, metrics[i].higher, summary_number(base, base_row, metrics[i].column), summary_number(s, row, metrics[i].column) };
        if (c.old > 0 && c.now >= 0)
            changes[n++] = c;
    }
    return n;
}

static void put_baseline(struct page *p, const struct summary_file *base, const struct summary_file *s, size_t row)
{
    static const char *const same[] = { "model", "device_text", "compute", "weight_dtype", "kv_dtype", "corpus", "point", "price_usd_per_h" };
    struct change changes[16];
    struct buf reads = {0};
    size_t base_row = same_point(base, summary_text(s, row, "point")), n = find_changes(changes, base, base_row, s, row), n_other = 0;
    if (!n)
        die("report: %s and %s have no metric in common", base->folder, s->folder);
    buf_printf(&reads, "Baseline: %s.", base->folder);
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        if (strcmp(summary_text(s, row, same[i]), summary_text(base, base_row, same[i])) != 0)
            buf_printf(&reads, "%s %s", n_other++ ? "," : " The two differ in", same[i]);
    buf_printf(&reads, "%s One run each: tokmill compare tells a change from noise.", n_other ? "." : "");
    figure_changes(p, changes, n, reads.data);
    buf_free(&reads);
}

/* ---- the page ---- */

static void put_folder(struct page *p, const struct summary_file *s, const struct summary_file *base)
{
    size_t row = summary_best(s);
    struct buf missing = {0};
    page_heading(p, s->folder);
    figure_curve(p, s);
    put_card(p, s, row);
    put_stages(p, s, row, &missing);
    put_latencies(p, s, row, &missing);
    put_steps(p, s, row, &missing);
    figure_roofline(p, s, &missing);
    if (base)
        put_baseline(p, base, s, row);
    page_clear(p);
    if (missing.len)
        page_text(p, missing.data);
    buf_free(&missing);
}

static void put_overview(struct page *p, const struct summary_file *all, size_t n)
{
    static const char *const heads[] = { "folder", "output tokens/s", "ttft p50, ms", "tpot p50, ms", "validity" };
    page_table(p, "All results", heads, 5);
    for (size_t i = 0; i < n; i++) {
        size_t row = summary_best(&all[i]);
        const char *cells[] = { all[i].folder, show_number(summary_number(&all[i], row, "output_tokens_per_s")), show_number(summary_number(&all[i], row, "ttft_p50_ms")),
            show_number(summary_number(&all[i], row, "tpot_p50_ms")), summary_text(&all[i], row, "validity") };
        page_row(p, cells, 5);
    }
    page_table_end(p);
    page_clear(p);
}

static void put_report(struct buf *to, bool html, const struct summary_file *all, size_t n, const struct summary_file *base)
{
    struct page p;
    page_open(&p, to, html, "tokmill report");
    page_text(&p, "Throughput counts tokens that were computed; latencies are those of requests, from arrival. A dash is a value that is not known or has too few samples "
        "to be told. results/README.md defines every number.");
    if (n > 1)
        put_overview(&p, all, n);
    for (size_t i = 0; i < n; i++)
        put_folder(&p, &all[i], base);
    page_close(&p);
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

static void write_page(const struct buf *b, const char *path)
{
    FILE *to = strcmp(path, "-") == 0 ? stdout : fopen(path, "w");
    if (!to || fwrite(b->data, 1, b->len, to) != b->len || fflush(to) || (to != stdout && fclose(to)))
        die("report: cannot write %s: %s", path, strerror(errno));
}

int cmd_report(int argc, char **argv)
{
    struct report_opts o = {0};
    int first = cmd_options(&o, argc, argv), n = argc - first;
    if (n < 1)
        die("report: a results folder is expected");
    struct buf path = {0}, text = {0};
    buf_printf(&path, "%s%s", o.output ? o.output : argv[first], o.output ? "" : "/report.html");
    bool markdown = ends_with(path.data, ".md");
    if (!markdown && strcmp(path.data, "-") != 0 && !ends_with(path.data, ".html"))
        die("report: --output \"%s\": a name that ends with .html or .md, or -, is expected", path.data);
    struct summary_file base = {0}, *all = mem_array((size_t)n, sizeof *all);
    for (int i = 0; i < n; i++)
        summary_open(&all[i], argv[first + i]);
    if (o.baseline)
        summary_open(&base, o.baseline);
    put_report(&text, !markdown, all, (size_t)n, o.baseline ? &base : NULL);
    write_page(&text, path.data);
    for (int i = 0; i < n; i++)
        summary_close(&all[i]);
    summary_close(&base);
    free(all);
    buf_free(&path);
    buf_free(&text);
    return EXIT_GOOD;
}

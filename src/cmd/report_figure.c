/* The figures of a report.  All are of one size, so that they stand in rows where a window is wide. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/chart.h"
#include "cmd/report.h"

#define WIDTH  ((double)PAGE_FIGURE_WIDTH)
#define HEIGHT 276.0
#define LEFT   44.0            /* of the plots: room for the ticks of y */
#define RIGHT  (WIDTH - 8)

static double larger(double a, double b)
{
    return isfinite(a) && !(a <= b) ? a : b;
}

static double smaller(double a, double b)
{
    return isfinite(a) && !(a >= b) ? a : b;
}

/* ---- throughput and latency ---- */

struct curve { const char *title; double *low, *high; };       /* p50 and p99, one a point */

/* points: for their names; NULL: no labels */
static void draw_curve(struct chart *c, const struct curve *v, const struct point *points, const double *x, size_t n, struct chart_box plot, struct chart_axis ax)
{
    double min = NAN, max = NAN;
    for (size_t i = 0; i < n; i++) {
        min = smaller(v->low[i], min);
        max = larger(v->high[i], larger(v->low[i], max));
    }
    bool log = min > 0 && max > 20 * min;
    chart_panel(c, plot, ax, chart_scale(min, max, log, v->title));
    chart_line(c, x, v->high, n, CHART_RED);
    chart_line(c, x, v->low, n, CHART_BLUE);
    for (size_t i = 0; i < n; i++) {
        if (isfinite(v->high[i]))
            chart_dot(c, x[i], v->high[i], CHART_RED);
        if (isfinite(v->low[i]))
            chart_dot(c, x[i], v->low[i], CHART_BLUE);
    }
    for (size_t i = n; points && i-- > 0;)
        chart_label(c, x[i], isfinite(v->high[i]) ? v->high[i] : v->low[i], points[i].name);
}

static void draw_curves(struct page *p, const struct point *points, size_t n)
{
    double *all = mem_array(5 * n, sizeof *all), *x = all, top = NAN;
    struct curve ttft = { "time to first token, ms", all + n, all + 2 * n }, tpot = { "time per output token, ms", all + 3 * n, all + 4 * n };
    for (size_t i = 0; i < n; i++) {
        x[i] = points[i].output_per_s, top = larger(x[i], top);
        ttft.low[i] = points[i].ttft_p50, ttft.high[i] = points[i].ttft_p99;
        tpot.low[i] = points[i].tpot_p50, tpot.high[i] = points[i].tpot_p99;
    }
    struct chart c;
    struct chart_axis ax = chart_scale(x[0] * 0.7, top, x[0] > 0 && top > 8 * x[0], "output tokens/s"), above = ax;
    above.title = NULL;
    chart_open(&c, p->to, WIDTH, HEIGHT, "Latency against throughput, one point for each setting of the sweep");
    chart_key(&c, chart_key(&c, 220, 14, CHART_BLUE, "p50"), 14, CHART_RED, "p99");
    draw_curve(&c, &ttft, points, x, n, (struct chart_box){ LEFT, 22, RIGHT, 118 }, above);
    draw_curve(&c, &tpot, NULL, x, n, (struct chart_box){ LEFT, 150, RIGHT, 242 }, ax);
    chart_close(&c);
    free(all);
}

static void table_points(struct page *p, const struct point *points, size_t n, bool repeated)
{
    static const char *const heads[] = { "point", "output tokens/s", "ttft p50, ms", "ttft p99, ms", "tpot p50, ms", "goodput, 1/s" };
    page_table(p, repeated ? "Points of the sweep, means" : "Points of the sweep", heads, 6);
    for (size_t i = 0; i < n; i++) {
        const struct point *a = &points[i];
        const char *cells[] = { a->name, show_number(a->output_per_s), show_number(a->ttft_p50), show_number(a->ttft_p99), show_number(a->tpot_p50),
            show_number(a->goodput) };
        page_row(p, cells, 6);
    }
    page_table_end(p);
}

/* In the order of throughput, whatever the order of the sweep was; what has none goes to the end. */
static int compare_points(const void *a, const void *b)
{
    double x = ((const struct point *)a)->output_per_s, y = ((const struct point *)b)->output_per_s;
    return isnan(x) || isnan(y) ? isnan(x) - isnan(y) : (x > y) - (x < y);
}

static const char *went(const char *what, double from_ms, double to_ms)
{
    return isfinite(from_ms) && isfinite(to_ms) ? show(", %s from %s to %s", what, show_ms(from_ms), show_ms(to_ms)) : "";
}

void figure_curve(struct page *p, const struct summary_file *s)
{
    struct point *points = mem_array(s->n_row, sizeof *points);
    size_t n = summary_points(s, points), n_x = 0;
    if (n > 1) {
        table_points(p, points, n, s->n_row > n);
        qsort(points, n, sizeof *points, compare_points);
        while (n_x < n && points[n_x].output_per_s >= 0)
            n_x++;
    }
    if (n_x > 1) {
        const struct point *low = &points[0], *high = &points[n_x - 1];
        page_figure(p, "What throughput costs in latency");
        if (p->html)
            draw_curves(p, points, n_x);
        page_figure_end(p, show("From %s to %s output went from %s to %s tokens/s%s%s.", low->name, high->name, show_number(low->output_per_s),
            show_number(high->output_per_s), went("the median time to first token", low->ttft_p50, high->ttft_p50),
            went("per output token", low->tpot_p50, high->tpot_p50)));
    }
    if (n > 1)
        page_clear(p);
    free(points);
}

/* ---- stages ---- */

/* Money of stages in a unit that leaves few zeros. */
struct money { const char *unit; double usd; };

static struct money money_unit(const struct stages *s)
{
    double usd = 0;
    for (size_t i = 0; i < s->n; i++)
        usd += s->line[i].usd;
    return usd >= 1 ? (struct money){ "USD", 1 } : usd >= 1e-3 ? (struct money){ "mUSD", 1e-3 } : (struct money){ "\302\265USD", 1e-6 };
}

static const char *show_money(double v)
{
    return isfinite(v) ? show("%.2f", v) : "-";
}

static void draw_stages(struct page *p, const struct stages *s)
{
    struct chart c;
    struct money money = money_unit(s);
    double most = 0, room = WIDTH - 80 - 118;          /* names on the left, numbers on the right */
    for (size_t i = 0; i < s->n; i++)
        most = larger(s->line[i].share, most);
    chart_open(&c, p->to, WIDTH, HEIGHT, "Share of busy time and money of each stage");
    chart_text(&c, 80, 12, CHART_START, "share of busy time");
    chart_text(&c, WIDTH, 12, CHART_END, money.unit);
    double high = fmin(24, (HEIGHT - 20) / (double)s->n);
    for (size_t i = 0; i < s->n; i++) {
        const struct stage_line *line = &s->line[i];
        double top = 20 + high * (double)i, length = most > 0 ? room * line->share / most : 0;
        chart_bar(&c, (struct chart_box){ 80, top + 2, 80 + length, top + high - 3 }, CHART_BLUE);
        chart_text(&c, 74, top + high / 2 + 4, CHART_END, line->name);
        chart_text(&c, 80 + length + 5, top + high / 2 + 4, CHART_START, show_percent(line->share));
        chart_text(&c, WIDTH, top + high / 2 + 4, CHART_END, show_money(line->usd / money.usd));
    }
    chart_close(&c);
}

static void table_stages(struct page *p, const struct stages *s)
{
    struct money money = money_unit(s);
    const char *const heads[] = { "stage", "busy, s", "share", money.unit };
    page_table(p, "Stages", heads, 4);
    for (size_t i = 0; i < s->n; i++) {
        const struct stage_line *line = &s->line[i];
        const char *cells[] = { line->name, show_number(line->busy_s), show_percent(line->share), show_money(line->usd / money.usd) };
        page_row(p, cells, 4);
    }
    page_table_end(p);
}

static const char *read_stages(const struct stages *s)
{
    const struct stage_line *first = &s->line[0], *second = NULL;
    double usd = 0;
    for (size_t i = 0; i < s->n; i++) {
        const struct stage_line *line = &s->line[i];
        usd += line->usd;
        if (line->share > first->share)
            second = first, first = line;
        else if (line != first && (!second || line->share > second->share))
            second = line;
    }
    const char *most = second ? show("Of the busy time %s took %s, %s %s.", first->name, show_percent(first->share), second->name, show_percent(second->share))
                              : show("%s took all of the busy time.", first->name);
    return isfinite(usd) ? show("%s The run cost %s USD.", most, show_usd(usd)) : show("%s No price is known: --price gives one.", most);
}

void figure_stages(struct page *p, const struct stages *s)
{
    if (!p->html)
        table_stages(p, s);
    page_figure(p, "Where time and money went");
    if (p->html)
        draw_stages(p, s);
    page_figure_end(p, read_stages(s));
}

/* ---- latencies ---- */

#define N_CURVE 200        /* points of a distribution's line: more than a phone has pixels for */

static void draw_distribution(struct chart *c, const struct series *s, const char *colour)
{
    static const double marks[] = { 0.5, 0.9, 0.99 };
    double x[N_CURVE], y[N_CURVE];
    size_t n = s->n < N_CURVE ? s->n : N_CURVE;
    for (size_t i = 0; i < n; i++) {
        size_t rank = n > 1 ? i * (s->n - 1) / (n - 1) : 0;
        x[i] = (double)s->values[rank];
        y[i] = 100 * (double)(rank + 1) / (double)s->n;
    }
    chart_line(c, x, y, n, colour);
    for (size_t i = 0; i < 3; i++)
        if (isfinite(latency_at(s, marks[i])))
            chart_dot(c, latency_at(s, marks[i]), 100 * marks[i], colour);
}

static void draw_latencies(struct page *p, const struct latencies *l)
{
    static const double ticks[] = { 0, 25, 50, 75, 90, 99 };
    const struct series *const all[] = { &l->ttft, &l->tpot, &l->e2el };
    static const char *const colours[] = { CHART_BLUE, CHART_GREEN, CHART_RED }, *const names[] = { "first token", "per token", "whole answer" };
    double min = NAN, max = NAN, key = 0;
    for (size_t i = 0; i < 3; i++)
        if (all[i]->n) {
            min = smaller((double)all[i]->values[0], min);
            max = larger((double)all[i]->values[all[i]->n - 1], max);
        }
    min = fmax(min, max * 1e-5);                /* a log axis begins somewhere */
    struct chart c;
    struct chart_axis y = { .min = 0, .max = 100, .title = "% of requests", .ticks = ticks, .n_tick = 6 };
    chart_open(&c, p->to, WIDTH, HEIGHT, "Cumulative distributions of latency over the requests");
    for (size_t i = 0; i < 3; i++)
        if (all[i]->n)
            key = chart_key(&c, key, 12, colours[i], names[i]);
    chart_panel(&c, (struct chart_box){ LEFT, 42, RIGHT, 242 }, max > 0 ? chart_scale(min, max, true, "ms") : chart_scale(0, 1, false, "ms"), y);
    for (size_t i = 0; i < 3; i++)
        draw_distribution(&c, all[i], colours[i]);
    chart_close(&c);
}

static void table_latencies(struct page *p, const struct latencies *l)
{
    static const char *const heads[] = { "", "p1", "p25", "p50", "p75", "p90", "p99" };
    static const char *const names[] = { "first token, ms", "per token, ms", "whole answer, ms" };
    const struct series *const all[] = { &l->ttft, &l->tpot, &l->e2el };
    page_table(p, "Latencies", heads, 7);
    for (size_t i = 0; i < 3; i++) {
        const char *cells[] = { names[i], show_number(latency_at(all[i], 0.01)), show_number(latency_at(all[i], 0.25)), show_number(latency_at(all[i], 0.5)),
            show_number(latency_at(all[i], 0.75)), show_number(latency_at(all[i], 0.9)), show_number(latency_at(all[i], 0.99)) };
        page_row(p, cells, 7);
    }
    page_table_end(p);
}

void figure_latencies(struct page *p, const struct latencies *l)
{
    const struct series *some = l->ttft.n ? &l->ttft : &l->e2el;
    double share = isfinite(latency_at(some, 0.9)) ? 0.9 : 0.5;
    if (!p->html)
        table_latencies(p, l);
    page_figure(p, "How long requests took");
    if (p->html)
        draw_latencies(p, l);
    page_figure_end(p, show("%s of %zu requests had %s%s%s%s%s.%s", share > 0.5 ? "90 %" : "Half", some->n,
        l->ttft.n ? "the first token within " : "", l->ttft.n ? show_ms(latency_at(&l->ttft, share)) : "", l->ttft.n && l->e2el.n ? " and " : "",
        l->e2el.n ? "the whole answer within " : "", l->e2el.n ? show_ms(latency_at(&l->e2el, share)) : "",
        p->html ? " Dots: p50, p90 and p99, where there are enough requests for them." : ""));
}

/* ---- steps ---- */

#define N_BIN 280          /* about one a pixel */

struct bins { double x[N_BIN], low[N_BIN], high[N_BIN], mean[N_BIN], n[N_BIN], from, to; };

/* The least, the most and the mean of the steps in each bin of time; where none ran, nothing. */
static void thin(struct bins *b, const struct steps *s, const struct series *v)
{
    double wide = (b->to - b->from) / N_BIN;
    for (int i = 0; i < N_BIN; i++)
        b->x[i] = b->from + (i + 0.5) * wide, b->low[i] = INFINITY, b->high[i] = -INFINITY, b->mean[i] = b->n[i] = 0;
    for (size_t k = 0; k < s->start_s.n; k++) {
        double value = (double)v->values[k], start = (double)s->start_s.values[k] - b->from;
        int first = (int)(start / wide), last = (int)((start + (double)s->time_ms.values[k] * 1e-3) / wide);
        for (int i = first; i <= last && i < N_BIN && isfinite(value); i++) {
            b->low[i] = fmin(b->low[i], value);
            b->high[i] = fmax(b->high[i], value);
            b->mean[i] += value;
            b->n[i]++;
        }
    }
    for (int i = 0; i < N_BIN; i++)
        if (b->n[i] > 0)
            b->mean[i] /= b->n[i];
        else
            b->low[i] = b->high[i] = 0;
}

/* NaN: no step has a value. */
static double most_of(const struct series *s)
{
    double most = NAN;
    for (size_t i = 0; i < s->n; i++)
        most = larger((double)s->values[i], most);
    return most;
}

static double mean_over_time(const struct steps *s, const struct series *v)
{
    double sum = 0, time = 0;
    for (size_t i = 0; i < v->n; i++) {
        if (!isfinite(v->values[i]))
            continue;
        sum += (double)v->values[i] * (double)s->time_ms.values[i];
        time += (double)s->time_ms.values[i];
    }
    return time > 0 ? sum / time : (double)NAN;
}

static void span(struct bins *b, const struct steps *s)
{
    b->from = INFINITY, b->to = -INFINITY;
    for (size_t i = 0; i < s->start_s.n; i++) {
        double start = (double)s->start_s.values[i];
        b->from = fmin(b->from, start);
        b->to = fmax(b->to, start + (double)s->time_ms.values[i] * 1e-3);
    }
    if (b->to <= b->from)
        b->to = b->from + 1e-3;
}

static const struct { const char *title, *colour; size_t at; } step_rows[] = {
    { "sequences in a step", CHART_BLUE, offsetof(struct steps, sequences) }, { "prompt tokens in a step", CHART_RED, offsetof(struct steps, prefill) },
    { "decode tokens in a step", CHART_GREEN, offsetof(struct steps, decode) }, { "KV blocks in use, %", CHART_GREY, offsetof(struct steps, kv) },
};
#define N_STEP_ROW (sizeof step_rows / sizeof *step_rows)

static const struct series *step_values(const struct steps *s, size_t row)
{
    return (const struct series *)((const char *)s + step_rows[row].at);
}

static void draw_steps(struct page *p, const struct steps *s)
{
    static struct bins b;
    struct chart c;
    span(&b, s);
    chart_open(&c, p->to, WIDTH, HEIGHT, "Batch and KV memory over the time of the run");
    for (size_t i = 0; i < N_STEP_ROW; i++) {
        const struct series *v = step_values(s, i);
        double top = 22 + 60 * (double)i, most = most_of(v);
        struct chart_axis x = { .min = b.from, .max = b.to, .title = i + 1 == N_STEP_ROW ? "seconds" : NULL };
        thin(&b, s, v);
        struct chart_axis y = chart_scale(0, most, false, isfinite(most) ? step_rows[i].title : show("%s: not known", step_rows[i].title));
        const double ticks[] = { 0, y.max };
        y.ticks = ticks, y.n_tick = 2;
        chart_panel(&c, (struct chart_box){ LEFT, top, RIGHT, top + 40 }, x, y);
        if (!isfinite(most))
            continue;
        chart_band(&c, b.x, b.low, b.high, N_BIN, step_rows[i].colour);
        chart_line(&c, b.x, b.mean, N_BIN, step_rows[i].colour);
    }
    chart_close(&c);
}

#define N_SPARK 40         /* N_BIN is a multiple */

/* The most of each part of the time, as bars of text. */
static void put_spark(struct buf *text, const struct bins *b, double most)
{
    for (int i = 0; i < N_BIN; i += N_BIN / N_SPARK) {
        double high = 0;
        for (int k = i; k < i + N_BIN / N_SPARK; k++)
            high = fmax(high, b->high[k]);
        int eighths = most > 0 ? (int)ceil(8 * high / most) : 0;
        buf_printf(text, eighths ? "\xe2\x96%c" : "\xc2\xb7", 0x80 + eighths);      /* U+2581 to U+2588; a middle dot */
    }
}

static void table_steps(struct page *p, const struct steps *s)
{
    static const char *const heads[] = { "", "most", "over the time of the run" };
    static struct bins b;
    span(&b, s);
    page_table(p, "Steps", heads, 3);
    for (size_t i = 0; i < N_STEP_ROW; i++) {
        const struct series *v = step_values(s, i);
        struct buf spark = {0};
        thin(&b, s, v);
        put_spark(&spark, &b, most_of(v));
        const char *cells[] = { step_rows[i].title, show_number(most_of(v)), spark.data };
        page_row(p, cells, 3);
        buf_free(&spark);
    }
    page_table_end(p);
}

void figure_steps(struct page *p, const struct steps *s)
{
    if (!p->html)
        table_steps(p, s);
    page_figure(p, "The batch over time");
    if (p->html)
        draw_steps(p, s);
    const char *kv = isfinite(most_of(&s->kv)) ? show("; KV use was %s %% at most", show_number(most_of(&s->kv))) : "";
    page_figure_end(p, show("A step held %s sequences in the mean over time, %s at most%s.%s", show_number(mean_over_time(s, &s->sequences)),
        show_number(most_of(&s->sequences)), kv, p->html ? " Lines: means; pale: least to most." : ""));
}

/* ---- roofline ---- */

struct roof { double flops, bandwidth; };              /* a second */
struct reach { double intensity, flops, mfu, mbu; };

/* What a row reached of its peaks; false: it does not tell. */
static bool reach_of(const struct summary_file *s, size_t row, struct roof *roof, struct reach *r)
{
    *roof = (struct roof){ summary_number(s, row, "peak_flops"), summary_number(s, row, "peak_bandwidth_bytes_per_s") };
    r->mfu = summary_number(s, row, "mfu"), r->mbu = summary_number(s, row, "mbu");
    r->flops = r->mfu * roof->flops;
    r->intensity = r->flops / (r->mbu * roof->bandwidth);
    return roof->flops > 0 && roof->bandwidth > 0 && r->mfu > 0 && r->mbu > 0;
}

static bool first_of_point(const struct summary_file *s, size_t row)
{
    for (size_t i = 0; i < row; i++)
        if (strcmp(summary_text(s, i, "point"), summary_text(s, row, "point")) == 0)
            return false;
    return true;
}

static void draw_roofline(struct page *p, const struct summary_file *s, struct roof roof)
{
    struct chart c;
    struct roof its;
    struct reach r;
    double ridge = roof.flops / roof.bandwidth, left = ridge, right = ridge, low = roof.flops;
    for (size_t i = 0; i < s->n_row; i++)
        if (reach_of(s, i, &its, &r))
            left = fmin(left, r.intensity), right = fmax(right, r.intensity), low = fmin(low, r.flops);
    struct chart_axis x = chart_scale(left / 3, right * 3, true, "FLOP per byte");
    struct chart_axis y = chart_scale(fmin(low / 3, x.min * roof.bandwidth), roof.flops, true, "FLOP/s");
    double xs[] = { x.min, ridge, x.max }, ys[] = { x.min * roof.bandwidth, roof.flops, roof.flops };
    chart_open(&c, p->to, WIDTH, HEIGHT, "Roofline: FLOP/s reached against arithmetic intensity");
    chart_panel(&c, (struct chart_box){ LEFT, 24, RIGHT, 242 }, x, y);
    chart_line(&c, xs, ys, 3, CHART_GREY);
    chart_rule(&c, ridge, y.min, ridge, roof.flops, CHART_GREY);
    for (size_t i = 0; i < s->n_row; i++)
        if (reach_of(s, i, &its, &r))
            chart_dot(&c, r.intensity, r.flops, CHART_BLUE);
    for (size_t i = 0; i < s->n_row; i++)
        if (reach_of(s, i, &its, &r) && first_of_point(s, i))
            chart_label(&c, r.intensity, r.flops, s->n_row > 1 ? summary_text(s, i, "point") : "this run");
    chart_close(&c);
}

void figure_roofline(struct page *p, const struct summary_file *s, struct buf *missing)
{
    struct roof roof;
    struct reach r;
    if (!reach_of(s, summary_best(s), &roof, &r)) {
        buf_printf(missing, "%sNo roofline: the summary has no measured peaks, or no mfu and mbu.", missing->len ? " " : "");
        return;
    }
    bool memory = r.intensity < roof.flops / roof.bandwidth;
    page_figure(p, "How near to the machine's ceilings");
    if (p->html)
        draw_roofline(p, s, roof);
    page_figure_end(p, show("At %s FLOP a byte %s is the ceiling; of the measured %s the run reached %s.", show_number(r.intensity),
        memory ? "memory" : "arithmetic", memory ? show_si(roof.bandwidth, "B/s") : show_si(roof.flops, "FLOP/s"), show_percent(memory ? r.mbu : r.mfu)));
}

/* ---- comparison ---- */

static const char *show_change(const struct change *c)
{
    double percent = 100 * (c->now / c->old - 1);
    return percent > 9999 ? "> 9999 %" : show("%+.*f %%", fabs(percent) < 99.95 ? 1 : 0, percent);
}

static void draw_changes(struct page *p, const struct change *changes, size_t n)
{
    struct chart c;
    const double middle = 226, half = 56;      /* names on the left; numbers beside the bars */
    double most = 0.05;
    for (size_t i = 0; i < n; i++)
        most = larger(fmin(fabs(changes[i].now / changes[i].old - 1), 1), most);
    chart_open(&c, p->to, WIDTH, HEIGHT, "Change of each metric against the baseline");
    double next = chart_key(&c, 110, 12, CHART_BLUE, "better");
    chart_key(&c, next, 12, CHART_RED, "worse");
    double high = fmin(24, (HEIGHT - 24) / (double)n);
    for (size_t i = 0; i < n; i++) {
        double change = changes[i].now / changes[i].old - 1, top = 24 + high * (double)i, base = top + high / 2 + 4;
        double end = middle + half * fmax(fmin(change, 1), -1) / most;
        chart_text(&c, 0, base, CHART_START, changes[i].name);
        chart_bar(&c, (struct chart_box){ fmin(middle, end), top + 3, fmax(middle, end), top + high - 3 }, (change > 0) == changes[i].higher ? CHART_BLUE : CHART_RED);
        chart_text(&c, change < 0 ? end - 4 : end + 4, base, change < 0 ? CHART_END : CHART_START, show_change(&changes[i]));
    }
    chart_bar(&c, (struct chart_box){ middle - 0.5, 24, middle + 0.5, 24 + high * (double)n }, CHART_INK);
    chart_close(&c);
}

void figure_changes(struct page *p, const struct change *changes, size_t n, const char *reads)
{
    static const char *const heads[] = { "", "baseline", "now", "change" };
    page_table(p, "Against the baseline", heads, 4);
    for (size_t i = 0; i < n; i++) {
        const struct change *a = &changes[i];
        const char *cells[] = { a->name, show_number(a->old), show_number(a->now), show_change(a) };
        page_row(p, cells, 4);
    }
    page_table_end(p);
    page_figure(p, "Change against the baseline");
    if (p->html)
        draw_changes(p, changes, n);
    page_figure_end(p, reads);
}

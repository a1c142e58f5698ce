#include "plan/verdict.h"

#include <math.h>
#include <stdlib.h>

#include "base/mem.h"

static enum verdict judge_change(const struct rule *r, double change)
{
    if (!(fabs(change) >= r->limit) || change == 0)
        return VERDICT_PASS;
    return (change > 0) == r->higher_is_better ? VERDICT_IMPROVEMENT : VERDICT_REGRESSION;
}

static enum verdict judge(const struct rule *r, const struct comparison *c)
{
    if (c->few)
        return VERDICT_INCONCLUSIVE;
    if (c->p < VERDICT_ALPHA)
        return judge_change(r, c->change);
    return c->detectable <= r->limit ? VERDICT_PASS : VERDICT_INCONCLUSIVE;
}

static size_t keep_finite(double *to, const double *x, size_t n)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (isfinite(x[i]))
            to[kept++] = x[i];
    return kept;
}

/* The noise of a side is a share of its own median: a side that is ten times as slow may spread ten times as wide. */
static void scale(double *x, size_t n, double median)
{
    for (size_t i = 0; i < n && median > 0; i++)
        x[i] /= median;
}

struct comparison verdict_make(const struct rule *r, const double *base, size_t n_base, const double *new, size_t n_new)
{
    double *x = mem_array(n_base, sizeof *x), *y = mem_array(n_new, sizeof *y), u;
    struct comparison c = { .n_base = keep_finite(x, base, n_base), .n_new = keep_finite(y, new, n_new) };
    c.base = stats_median(x, c.n_base);
    c.new = stats_median(y, c.n_new);
    c.change = stats_ratio(x, c.n_base, y, c.n_new, 1 - VERDICT_ALPHA, &c.interval) - 1;
    c.interval = (struct interval){ c.interval.low - 1, c.interval.high - 1 };
    c.p = stats_mann_whitney(x, c.n_base, y, c.n_new, &u);
    scale(x, c.n_base, c.base);
    scale(y, c.n_new, c.new);
    c.detectable = stats_detectable(x, c.n_base, y, c.n_new, VERDICT_ALPHA, VERDICT_POWER);
    c.few = c.n_base < VERDICT_MIN_SAMPLE || c.n_new < VERDICT_MIN_SAMPLE;
    c.verdict = judge(r, &c);
    free(x);
    free(y);
    return c;
}

struct comparison verdict_of_counts(const struct rule *r, double base, size_t n_base, double new, size_t n_new)
{
    struct comparison c = { .n_base = n_base, .n_new = n_new, .base = base, .new = new, .few = !n_base || !n_new,
        .interval = { (double)NAN, (double)NAN }, .p = (double)NAN, .detectable = (double)NAN };
    struct interval none;
    c.change = stats_ratio(&base, n_base > 0, &new, n_new > 0, 1 - VERDICT_ALPHA, &none) - 1;
    c.verdict = c.few ? VERDICT_INCONCLUSIVE : judge_change(r, c.change);
    return c;
}

const char *verdict_name(enum verdict v)
{
    static const char *const names[] = { "pass", "regression", "improvement", "inconclusive" };
    return names[v];
}

void verdict_put_reason(struct buf *b, const struct comparison *c)
{
    if (c->verdict != VERDICT_INCONCLUSIVE)
        return;
    if (!c->n_base || !c->n_new)
        buf_puts(b, "no value on a side");
    else if (c->few)
        buf_printf(b, "fewer than %d repetitions on a side", VERDICT_MIN_SAMPLE);
    else
        buf_printf(b, "noise hides changes below %.1f %%", 100 * c->detectable);
}

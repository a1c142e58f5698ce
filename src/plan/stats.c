#include "plan/stats.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define PI 3.14159265358979323846
#define MAX_EXACT 400          /* n_x n_y up to which every deal is counted: 20 a side */

double stats_mean(const double *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += x[i];
    return n ? sum / (double)n : (double)NAN;
}

static int compare_reals(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double sorted_median(const double *x, size_t n)
{
    return n ? (x[(n - 1) / 2] + x[n / 2]) / 2 : (double)NAN;
}

double stats_median(const double *x, size_t n)
{
    double *sorted = mem_array(n + 1, sizeof *sorted);
    for (size_t i = 0; i < n; i++)
        sorted[i] = x[i];
    qsort(sorted, n, sizeof *sorted, compare_reals);
    double median = sorted_median(sorted, n);
    free(sorted);
    return median;
}

static double sum_of_squares(const double *x, size_t n)
{
    double mean = stats_mean(x, n), sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (x[i] - mean) * (x[i] - mean);
    return sum;
}

double stats_deviation(const double *x, size_t n)
{
    return n < 2 ? (double)NAN : sqrt(sum_of_squares(x, n) / (double)(n - 1));
}

/* P(|T| <= t), t >= 0: Abramowitz & Stegun 26.7.3 (odd df), 26.7.4 (even df), 26.2.29 for the normal distribution. */
static double t_within(double t, unsigned df)
{
    if (df == 0)
        return erf(t / sqrt(2));
    double angle = atan(t / sqrt(df)), square = cos(angle) * cos(angle);
    double term = df % 2 ? cos(angle) : 1, sum = 0;
    for (unsigned k = df % 2 ? 1 : 0; k + 2 <= df; k += 2) {
        sum += term;
        term *= square * (k + 1) / (k + 2);
    }
    return df % 2 ? 2 / PI * (angle + sin(angle) * sum) : sin(angle) * sum;
}

double stats_t_quantile(double p, unsigned df)
{
    double want = fabs(2 * p - 1), low = 0, high = 1;
    while (t_within(high, df) < want && high < 1e9)
        high *= 2;
    for (int i = 0; i < 100; i++) {
        double middle = (low + high) / 2;
        if (t_within(middle, df) < want)
            low = middle;
        else
            high = middle;
    }
    return p < 0.5 ? -low : low;
}

struct interval stats_mean_interval(const double *x, size_t n, double confidence)
{
    if (n < 2)
        return (struct interval){ (double)NAN, (double)NAN };
    double half = stats_t_quantile((1 + confidence) / 2, (unsigned)n - 1) * stats_deviation(x, n) / sqrt((double)n);
    return (struct interval){ stats_mean(x, n) - half, stats_mean(x, n) + half };
}

/* ---- Mann-Whitney ---- */

struct ranked { double value; bool of_x; };

static int compare_ranked(const void *a, const void *b)
{
    return compare_reals(&((const struct ranked *)a)->value, &((const struct ranked *)b)->value);
}

/* Both samples sorted together: sizes of the groups of equal values, and twice the sum of x's midranks. */
struct ranks { size_t *tie, n_tie; double sum_x; };

static struct ranks rank_all(const double *x, size_t n_x, const double *y, size_t n_y)
{
    size_t n = n_x + n_y;
    struct ranked *all = mem_array(n + 1, sizeof *all);
    struct ranks r = { .tie = mem_array(n + 1, sizeof *r.tie) };
    for (size_t i = 0; i < n; i++)
        all[i] = i < n_x ? (struct ranked){ x[i], true } : (struct ranked){ y[i - n_x], false };
    qsort(all, n, sizeof *all, compare_ranked);
    for (size_t from = 0, to; from < n; from = to) {
        size_t in_x = 0;
        for (to = from; to < n && all[to].value == all[from].value; to++)
            in_x += all[to].of_x;
        r.tie[r.n_tie++] = to - from;
        r.sum_x += (double)in_x * (double)(from + to + 1);     /* ranks from + 1 .. to, twice their mean */
    }
    free(all);
    return r;
}

/* ways[s], s = 0 .. n (n + 1): in how many of all choices of n_pick from the n ranked values twice the rank sum is s. */
static double *count_ways(const size_t *tie, size_t n_tie, size_t n, size_t n_pick)
{
    size_t row = n * (n + 1) + 1, before = 0;
    double *ways = mem_array((n_pick + 1) * row, sizeof *ways);        /* [picked so far][sum] */
    ways[0] = 1;
    for (size_t g = 0; g < n_tie; before += tie[g++]) {
        size_t rank = 2 * before + tie[g] + 1;
        for (size_t k = n_pick; k > 0; k--) {
            double choices = 1;                    /* binomial(tie, j) */
            for (size_t j = 1; j <= tie[g] && j <= k; j++) {
                choices *= (double)(tie[g] - j + 1) / (double)j;
                for (size_t s = j * rank; s < row; s++)
                    ways[k * row + s] += choices * ways[(k - j) * row + s - j * rank];
            }
        }
    }
    memmove(ways, ways + n_pick * row, row * sizeof *ways);
    return ways;
}

static double exact_p(const struct ranks *r, size_t n_x, size_t n_y)
{
    size_t n = n_x + n_y, last = n * (n + 1), n_pick = n_x < n_y ? n_x : n_y;
    double sum = n_x <= n_y ? r->sum_x : (double)last - r->sum_x, below = 0, above = 0, all = 0;
    double *ways = count_ways(r->tie, r->n_tie, n, n_pick);
    for (size_t s = 0; s <= last; s++) {
        all += ways[s];
        below += (double)s <= sum ? ways[s] : 0;
        above += (double)s >= sum ? ways[s] : 0;
    }
    free(ways);
    return fmin(1, 2 * fmin(below, above) / all);
}

static double normal_p(const struct ranks *r, size_t n_x, size_t n_y, double u)
{
    double a = (double)n_x, b = (double)n_y, n = a + b, ties = 0;
    for (size_t g = 0; g < r->n_tie; g++)
        ties += pow((double)r->tie[g], 3) - (double)r->tie[g];
    double deviation = sqrt(a * b / 12 * (n + 1 - ties / (n * (n - 1))));
    double off = fabs(u - a * b / 2) - 0.5;
    return off <= 0 || deviation == 0 ? 1 : erfc(off / deviation / sqrt(2));
}

double stats_mann_whitney(const double *x, size_t n_x, const double *y, size_t n_y, double *u)
{
    *u = (double)NAN;
    if (!n_x || !n_y)
        return (double)NAN;
    struct ranks r = rank_all(x, n_x, y, n_y);
    *u = (r.sum_x - (double)(n_x * (n_x + 1))) / 2;
    double p = n_x * n_y <= MAX_EXACT ? exact_p(&r, n_x, n_y) : normal_p(&r, n_x, n_y, *u);
    free(r.tie);
    return p;
}

/* How many of the U = 0, 1, ... from the lowest on have P(U <= that) <= tail, no ties (0: not even U = 0); *reached is that P. */
static size_t tail_count(size_t n_x, size_t n_y, double tail, double *reached)
{
    size_t n = n_x + n_y, n_pick = n_x < n_y ? n_x : n_y, count = 0;
    *reached = tail;
    if (n_x * n_y > MAX_EXACT) {
        double a = (double)n_x, b = (double)n_y;
        return (size_t)fmax(0, floor(a * b / 2 - stats_t_quantile(1 - tail, 0) * sqrt(a * b * (a + b + 1) / 12)));
    }
    size_t *single = mem_array(n, sizeof *single), last = n * (n + 1);
    for (size_t i = 0; i < n; i++)
        single[i] = 1;
    double *ways = count_ways(single, n, n, n_pick), all = 0, below = 0;
    for (size_t s = 0; s <= last; s++)
        all += ways[s];
    for (size_t s = n_pick * (n_pick + 1); below + ways[s] <= tail * all; s += 2, count++)
        below += ways[s];
    *reached = below / all;
    free(ways);
    free(single);
    return count;
}

static double ratio(double y, double x)
{
    return x > 0 ? y / x : y > 0 ? (double)INFINITY : 1;
}

double stats_ratio(const double *x, size_t n_x, const double *y, size_t n_y, double confidence, struct interval *interval)
{
    *interval = (struct interval){ (double)NAN, (double)NAN };
    if (!n_x || !n_y)
        return (double)NAN;
    double reached;
    size_t n = n_x * n_y, skip = tail_count(n_x, n_y, (1 - confidence) / 2, &reached);
    double *ratios = mem_array(n, sizeof *ratios);
    for (size_t i = 0; i < n; i++)
        ratios[i] = ratio(y[i % n_y], x[i / n_y]);
    qsort(ratios, n, sizeof *ratios, compare_reals);
    double median = sorted_median(ratios, n);
    if (skip)
        *interval = (struct interval){ ratios[skip - 1], ratios[n - skip] };
    free(ratios);
    return median;
}

double stats_detectable(const double *x, size_t n_x, const double *y, size_t n_y, double alpha, double power)
{
    double tail;
    if (n_x < 2 || n_y < 2 || !tail_count(n_x, n_y, alpha / 2, &tail))
        return (double)NAN;
    unsigned df = (unsigned)(n_x + n_y - 2);
    double pooled = sqrt((sum_of_squares(x, n_x) + sum_of_squares(y, n_y)) / df);
    double t = stats_t_quantile(1 - tail, df) + stats_t_quantile(power, df);
    return t * pooled * sqrt(1 / (double)n_x + 1 / (double)n_y) * sqrt(PI / 3);
}

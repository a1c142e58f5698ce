/* Statistics against what scipy makes of the same samples (tests/golden/make_stats.py), and the power that the detectable
 * change promises against a simulation. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"
#include "data/json.h"
#include "plan/stats.h"

static double number(const struct json *object, const char *key)
{
    double x = (double)NAN;
    json_number(json_get(object, key), &x);
    return x;
}

static double *numbers(const struct json *list, size_t *n)
{
    *n = json_len(list);
    double *x = mem_array(*n, sizeof *x);
    for (size_t i = 0; i < *n; i++)
        assert_true(json_number(json_at(list, i), &x[i]));
    return x;
}

/* Both NaN, or as near as 1e-12 of the value. */
static void same(const char *what, double got, double want)
{
    if (isnan(want) ? !isnan(got) : !(fabs(got - want) <= 1e-12 * fmax(1e-3, fabs(want))))
        fail_msg("%s: %.17g, scipy has %.17g", what, got, want);
}

static void quantiles(void **state)
{
    (void)state;
    struct json *root = json_parse_file("tests/golden/stats.json");
    if (!root)
        fail_msg("%s", err_text());
    const struct json *list = json_get(root, "quantiles");
    assert_true(json_len(list) > 50);
    for (size_t i = 0; i < json_len(list); i++) {
        const struct json *q = json_at(list, i);
        same("t", stats_t_quantile(number(q, "p"), (unsigned)number(q, "df")), number(q, "t"));
    }
    json_free(root);
}

static void check_case(const struct json *c)
{
    size_t n_x, n_y;
    double *x = numbers(json_get(c, "x"), &n_x), *y = numbers(json_get(c, "y"), &n_y), u, u_of_y;
    struct interval in, mean = stats_mean_interval(x, n_x, 0.95);
    const struct json *interval = json_get(c, "interval");
    same("p", stats_mann_whitney(x, n_x, y, n_y, &u), number(c, "p"));
    same("u", u, number(c, "u"));
    same("p of y and x", stats_mann_whitney(y, n_y, x, n_x, &u_of_y), number(c, "p"));
    same("u of y", u_of_y, (double)n_x * (double)n_y - u);
    same("median", stats_median(x, n_x), number(c, "median"));
    same("deviation", stats_deviation(x, n_x), number(c, "deviation"));
    if (n_x > 1 && stats_deviation(x, n_x) > 0) {
        same("mean low", mean.low, number(c, "mean_low"));
        same("mean high", mean.high, number(c, "mean_high"));
    }
    double ratio = stats_ratio(x, n_x, y, n_y, 0.95, &in);
    same("ratio", isinf(ratio) ? (double)NAN : ratio, number(c, "ratio"));
    if (interval) {
        bool some = json_kind(interval) == JSON_KIND_ARRAY;
        double low = (double)NAN, high = (double)NAN;
        json_number(some ? json_at(interval, 0) : NULL, &low);
        json_number(some ? json_at(interval, 1) : NULL, &high);
        same("ratio low", in.low, low);
        same("ratio high", in.high, high);
    }
    free(x);
    free(y);
}

static void samples(void **state)
{
    (void)state;
    struct json *root = json_parse_file("tests/golden/stats.json");
    if (!root)
        fail_msg("%s", err_text());
    const struct json *list = json_get(root, "samples");
    assert_true(json_len(list) > 30);
    for (size_t i = 0; i < json_len(list); i++)
        check_case(json_at(list, i));
    json_free(root);
}

static void few(void **state)
{
    (void)state;
    const double x[] = { 3 }, y[] = { 5 };
    double u;
    struct interval i;
    assert_true(isnan(stats_mean(x, 0)) && isnan(stats_median(x, 0)) && isnan(stats_deviation(x, 1)));
    assert_true(isnan(stats_mean_interval(x, 1, 0.95).low));
    assert_true(isnan(stats_mann_whitney(x, 0, y, 1, &u)) && isnan(u));
    assert_true(isnan(stats_ratio(x, 1, y, 0, 0.95, &i)) && isnan(i.high));
    assert_true(stats_ratio(x, 1, y, 1, 0.95, &i) == 5.0 / 3 && isnan(i.low));
    assert_true(isnan(stats_detectable(x, 1, y, 1, 0.05, 0.8)));
}

/* The interval holds the true ratio in 95 % of tries or a little more, exact and for large samples. */
static void coverage(void **state)
{
    (void)state;
    static const size_t sizes[][2] = { { 5, 6 }, { 10, 8 }, { 25, 30 } };
    struct rng r;
    rng_init(&r, 1);
    for (size_t s = 0; s < 3; s++) {
        double x[30], y[30];
        int held = 0;
        for (int i = 0; i < 2000; i++) {
            struct interval in;
            for (size_t k = 0; k < 30; k++)
                x[k] = exp((double)rng_normal(&r)), y[k] = exp((double)rng_normal(&r)) * 3;     /* as skewed as latencies */
            stats_ratio(x, sizes[s][0], y, sizes[s][1], 0.95, &in);
            held += in.low <= 3 && 3 <= in.high;
        }
        assert_in_range(held, 1880, 1960);
    }
}

/* At the detectable change the test finds 4 of 5. */
static void power(void **state)
{
    (void)state;
    static const size_t sizes[] = { 5, 8, 12 };
    struct rng r;
    rng_init(&r, 2);
    for (size_t s = 0; s < 3; s++) {
        size_t n = sizes[s];
        double x[12], y[12], u, sum = 0;
        int found = 0;
        for (int i = 0; i < 2000; i++) {
            for (size_t k = 0; k < n; k++)
                x[k] = (double)rng_normal(&r), y[k] = (double)rng_normal(&r);
            sum += stats_detectable(x, n, y, n, 0.05, 0.8);
        }
        for (int i = 0; i < 2000; i++) {
            for (size_t k = 0; k < n; k++)
                x[k] = (double)rng_normal(&r), y[k] = (double)rng_normal(&r) + sum / 2000;
            found += stats_mann_whitney(x, n, y, n, &u) < 0.05;
        }
        if (found < 1500 || found > 1700)
            fail_msg("%zu a side: %d of 2000 found", n, found);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantiles), cmocka_unit_test(samples), cmocka_unit_test(few), cmocka_unit_test(coverage), cmocka_unit_test(power),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

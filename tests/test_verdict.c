/* Verdicts on hand-made repetitions, limits as users write them, and simulations: how often the same build is called a
 * regression, and how often a slower one is found. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "base/err.h"
#include "base/rng.h"
#include "plan/metric.h"
#include "plan/verdict.h"

#define NO (double)NAN

/* The two middle ones of all ratios, less 1. */
#define SLOWER ((91 / 101.0 + 92 / 102.0) / 2 - 1)
#define FASTER ((102 / 92.0 + 101 / 91.0) / 2 - 1)
#define NOISE ((101 / 100.0 + 101 / 99.0) / 2 - 1)
#define THREE ((11 / 100.0 + 12 / 102.0) / 2 - 1)

struct judged { const char *name; double base[8], new[8]; bool higher; double limit; enum verdict want; double change; bool few; };

static const struct judged cases[] = {
    { "the same values", { 5, 5, 5, 5 }, { 5, 5, 5, 5 }, true, 0.02, VERDICT_PASS, 0, false },
    { "slower", { 100, 101, 102, 103 }, { 90, 91, 92, 93 }, true, 0.02, VERDICT_REGRESSION, SLOWER, false },
    { "faster", { 90, 91, 92, 93 }, { 100, 101, 102, 103 }, true, 0.02, VERDICT_IMPROVEMENT, FASTER, false },
    { "longer", { 90, 91, 92, 93 }, { 100, 101, 102, 103 }, false, 0.02, VERDICT_REGRESSION, FASTER, false },
    { "shorter", { 100, 101, 102, 103 }, { 90, 91, 92, 93 }, false, 0.02, VERDICT_IMPROVEMENT, SLOWER, false },
    { "just at the limit", { 100, 100, 100, 100 }, { 98, 98, 98, 98 }, true, 0.02, VERDICT_REGRESSION, -0.02, false },
    { "sure but small", { 100, 100, 100, 100 }, { 99, 99, 99, 99 }, true, 0.02, VERDICT_PASS, -0.01, false },
    { "no limit, no change", { 5, 5, 5, 5 }, { 5, 5, 5, 5 }, true, 0, VERDICT_PASS, 0, false },
    { "noise", { 100, 80, 120, 99 }, { 101, 79, 118, 103 }, true, 0.02, VERDICT_INCONCLUSIVE, NOISE, false },
    { "noise below the limit", { 100, 80, 120, 99 }, { 101, 79, 118, 103 }, true, 0.6, VERDICT_PASS, NOISE, false },
    { "three", { 100, 101, 102, NO }, { 10, 11, 12, 13 }, true, 0.02, VERDICT_INCONCLUSIVE, THREE, true },
    { "none", { NO, NO, NO, NO }, { 10, 11, 12, 13 }, true, 0.02, VERDICT_INCONCLUSIVE, NO, true },
    { "an empty cell is left out", { 100, NO, 100, 100, 100 }, { 90, 90, NO, 90, 90 }, true, 0.02, VERDICT_REGRESSION, -0.1, false },
    { "from nothing", { 0, 0, 0, 0 }, { 3, 3, 3, 3 }, false, 0.02, VERDICT_REGRESSION, INFINITY, false },
    { "nothing", { 0, 0, 0, 0 }, { 0, 0, 0, 0 }, false, 0.02, VERDICT_PASS, 0, false },
};

/* Values up to the first 0 after a value. */
static size_t count(const double *x)
{
    size_t n = 4;
    while (n < 8 && x[n] != 0)
        n++;
    return n;
}

static void verdicts(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct judged *j = &cases[i];
        struct rule r = { j->higher, j->limit };
        struct comparison c = verdict_make(&r, j->base, count(j->base), j->new, count(j->new));
        bool same = isnan(j->change) ? isnan(c.change) : isinf(j->change) ? c.change == j->change : fabs(c.change - j->change) < 1e-12;
        if (c.verdict != j->want || c.few != j->few || !same)
            fail_msg("%s: %s, change %g, few %d", j->name, verdict_name(c.verdict), c.change, c.few);
    }
}

static void counts(void **state)
{
    (void)state;
    struct rule r = { true, 0.01 };
    assert_int_equal(verdict_of_counts(&r, 1, 1000, 0.991, 1000).verdict, VERDICT_PASS);
    assert_int_equal(verdict_of_counts(&r, 1, 1000, 0.989, 1000).verdict, VERDICT_REGRESSION);
    assert_int_equal(verdict_of_counts(&r, 0.5, 10, 0.6, 10).verdict, VERDICT_IMPROVEMENT);
    assert_int_equal(verdict_of_counts(&r, NO, 0, 0.6, 10).verdict, VERDICT_INCONCLUSIVE);
    r.limit = 0;
    assert_int_equal(verdict_of_counts(&r, 1, 1, 1, 1).verdict, VERDICT_PASS);
    assert_int_equal(verdict_of_counts(&r, 1, 1, 1 - 1e-9, 1).verdict, VERDICT_REGRESSION);
}

struct limit_case { const char *text, *name; double limit; const char *error; };

static const struct limit_case limits[] = {
    { "score", "score", NO, NULL },
    { "output_tokens_per_s:-3%", "output_tokens_per_s", 0.03, NULL },
    { "output_tokens_per_s:3%", "output_tokens_per_s", 0.03, NULL },
    { "ttft_p99_ms:+0.5%", "ttft_p99_ms", 0.005, NULL },
    { "same_rate:-0%", "same_rate", 0, NULL },
    { "ttft_p99_ms:-3%", NULL, 0, "lower is better" },
    { "score:+3%", NULL, 0, "higher is better" },
    { "score:3", NULL, 0, "not a limit such as -3%" },
    { "score:", NULL, 0, "not a limit" },
    { "score:%", NULL, 0, "not a limit" },
    { "score:x%", NULL, 0, "not a limit" },
    { "score:nan%", NULL, 0, "not a limit" },
    { "score:-3%%", NULL, 0, "not a limit" },
    { "score:-00000000000000000000000000000000003%", NULL, 0, "not a limit" },
    { "scor:-3%", NULL, 0, "\"scor\" is not a metric; these are: output_tokens_per_s, " },
    { "", NULL, 0, "\"\" is not a metric" },
    { ":-3%", NULL, 0, "\"\" is not a metric" },
};

static void limits_parsed(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        const struct limit_case *l = &limits[i];
        double limit;
        const struct metric *m = metric_limit(l->text, strlen(l->text), &limit);
        if (!m != !l->name)
            fail_msg("%s: %s", l->text, m ? "taken" : err_text());
        if (!m)
            assert_non_null(strstr(err_text(), l->error));
        else if (strcmp(m->name, l->name) || (isnan(l->limit) ? !isnan(limit) : fabs(limit - l->limit) > 1e-15))
            fail_msg("%s: %s, %g", l->text, m->name, limit);
    }
}

/* Every row filled in, no name twice. */
static void table(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_METRIC; i++) {
        assert_non_null(metrics[i].name);
        assert_ptr_equal(metric_find(metrics[i].name, strlen(metrics[i].name)), &metrics[i]);
        assert_true(metrics[i].sources && metrics[i].unit);
    }
}

/* A run's tokens a second: 2 % from run to run, and now and then something else had the machine. */
static double tokens_per_s(struct rng *r, double speed)
{
    double disturbed = rng_below(r, 10) == 0 ? 0.95 : 1;
    return speed * disturbed * (1 + 0.02 * (double)rng_normal(r));
}

static int found(struct rng *r, const struct rule *rule, double speed, size_t n, int tries, enum verdict what)
{
    int hits = 0;
    for (int i = 0; i < tries; i++) {
        double base[20], new[20];
        for (size_t k = 0; k < n; k++)
            base[k] = tokens_per_s(r, 1000), new[k] = tokens_per_s(r, speed);
        hits += verdict_make(rule, base, n, new, n).verdict == what;
    }
    return hits;
}

static void false_alarms(void **state)
{
    (void)state;
    static const size_t sizes[] = { 4, 8 };
    struct rng r;
    rng_init(&r, 3);
    for (size_t s = 0; s < 2; s++) {
        struct rule any = { true, 0 }, usual = { true, 0.02 };
        int alarms = found(&r, &any, 1000, sizes[s], 1000, VERDICT_REGRESSION);
        assert_in_range(alarms, 5, 50);         /* one side of a two-sided test: half of at most 5 % is expected */
        assert_true(found(&r, &usual, 1000, sizes[s], 1000, VERDICT_REGRESSION) <= 50);
    }
}

static void slower_is_found(void **state)
{
    (void)state;
    struct rng r;
    struct rule usual = { true, 0.02 };
    rng_init(&r, 4);
    assert_true(found(&r, &usual, 900, 8, 1000, VERDICT_REGRESSION) >= 950);
    assert_true(found(&r, &usual, 1100, 8, 1000, VERDICT_IMPROVEMENT) >= 950);
    assert_true(found(&r, &usual, 990, 8, 1000, VERDICT_PASS) < 200);          /* 1 % cannot be excluded with this noise */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(verdicts), cmocka_unit_test(counts), cmocka_unit_test(limits_parsed), cmocka_unit_test(table),
        cmocka_unit_test(false_alarms), cmocka_unit_test(slower_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

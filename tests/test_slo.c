/* Limits of latencies as text, and the search for the highest rate on queues whose knee is known. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/rng.h"
#include "plan/slo.h"

/* ---- text ---- */

static void good_texts(void **state)
{
    (void)state;
    static const struct { const char *text; struct slo slo; } cases[] = {
        { "ttft:500ms", { { 500, INFINITY, INFINITY }, { 0.99, 0.99, 0.99 } } },
        { "ttft:p99:500ms,tpot:50ms,e2el:10s", { { 500, 50, 10000 }, { 0.99, 0.99, 0.99 } } },
        { "e2el:p50:2m,tpot:p90:0.5ms", { { INFINITY, 0.5, 120000 }, { 0.99, 0.9, 0.5 } } },
        { "tpot:p99.9:1.5", { { INFINITY, 1500, INFINITY }, { 0.99, 0.999, 0.99 } } },         /* a bare number is seconds */
        { "e2el:1h", { { INFINITY, INFINITY, 3600000 }, { 0.99, 0.99, 0.99 } } },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct slo s;
        if (slo_parse(&s, cases[i].text))
            fail_msg("%s: %s", cases[i].text, err_text());
        for (int k = 0; k < N_SLO; k++) {
            double limit = cases[i].slo.limit_ms[k];
            assert_true(isinf(limit) ? isinf(s.limit_ms[k]) : fabs(s.limit_ms[k] / limit - 1) < 1e-12);
            assert_true(fabs(s.percentile[k] - cases[i].slo.percentile[k]) < 1e-12);
        }
    }
}

/* Whatever is wrong, the part that is wrong stands in the message. */
static void bad_texts(void **state)
{
    (void)state;
    static const struct { const char *text, *named; } cases[] = {
        { "", "\"\"" }, { "ttft", "\"ttft\"" }, { "ttft:", "\"ttft:\"" }, { "TTFT:1s", "\"TTFT:1s\"" }, { "itl:1s", "\"itl:1s\"" }, { ":1s", "\":1s\"" },
        { "ttft:0", "\"ttft:0\"" }, { "ttft:-1s", "\"ttft:-1s\"" }, { "ttft:nan", "\"ttft:nan\"" }, { "ttft:1y", "\"ttft:1y\"" },
        { "ttft:p0:1s", "\"ttft:p0:1s\"" }, { "ttft:p100:1s", "\"ttft:p100:1s\"" }, { "ttft:90:1s", "\"ttft:90:1s\"" }, { "ttft:p:1s", "\"ttft:p:1s\"" },
        { "ttft:p9x:1s", "\"ttft:p9x:1s\"" }, { "ttft:pnan:1s", "\"ttft:pnan:1s\"" }, { "ttft:p99:", "\"ttft:p99:\"" }, { "ttft:p99:p90:1s", "\"ttft:p99:p90:1s\"" },
        { "ttft:1s,ttft:2s", "\"ttft:2s\"" }, { "ttft:1s,", "\"\"" }, { ",ttft:1s", "\"\"" }, { "ttft:1s;tpot:1s", "\"ttft:1s;tpot:1s\"" },
        { "ttft:1s,tpot:x,e2el:1s", "\"tpot:x\"" },
    };
    struct slo s;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (slo_parse(&s, cases[i].text) != -1)
            fail_msg("\"%s\" was taken", cases[i].text);
        if (!strstr(err_text(), cases[i].named))
            fail_msg("\"%s\": %s", cases[i].text, err_text());
    }
    char longer[400];
    memset(longer, '9', sizeof longer);
    memcpy(longer, "ttft:", 5);
    longer[sizeof longer - 1] = 0;
    assert_int_equal(slo_parse(&s, longer), -1);
}

/* 1 - p^n >= 0.99: 0.9^44 = 0.0097, 0.9^43 = 0.0108; 0.99^459 = 0.00993, 0.99^458 = 0.01003; and so on. */
static void samples(void **state)
{
    (void)state;
    static const struct { const char *text; size_t n; } cases[] = {
        { "ttft:p50:1s", 7 }, { "ttft:p90:1s", 44 }, { "e2el:p95:1s", 90 }, { "tpot:1s", 459 }, { "ttft:p99.9:1s", 4603 },
        { "ttft:p50:1s,tpot:p90:1s", 44 }, { "ttft:p90:1s,tpot:p50:1s", 44 }, { "ttft:p50:1s,e2el:1s", 459 }, { "ttft:p1:1s", 1 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct slo s;
        assert_int_equal(slo_parse(&s, cases[i].text), 0);
        assert_int_equal(slo_samples(&s), cases[i].n);
    }
}

/* ---- the search ---- */

/* Time in an M/M/1 queue is exponential with rate service - rate (Kleinrock, Queueing Systems I, 1975, section 5.8), so its
 * p99 is ln 100 / (service - rate): a queue that serves twice the knee has that of 2 x knee - knee there. */
static bool keeps_limit(double knee, double rate)
{
    double service = 2 * knee, limit = log(100) / knee;
    return rate < service && log(100) / (service - rate) <= limit;
}

static struct slo_search search(double knee, double first, double precision)
{
    struct slo_search s;
    slo_search_init(&s, first, precision);
    while (slo_search_next(&s)) {
        assert_true(s.next > 0 && isfinite(s.next));
        assert_true((s.kept <= 0 || s.next > s.kept) && (s.broken <= 0 || s.next < s.broken));    /* a probe that can tell */
        slo_search_tell(&s, keeps_limit(knee, s.next));
        assert_true(s.kept <= knee && (s.broken <= 0 || s.broken > knee));
        assert_true(s.n_probe <= 24);
    }
    return s;
}

/* Knees over eight decades from first rates around them: doublings to get there and halvings of the rest, no more. */
static void finds_knee(void **state)
{
    (void)state;
    static const double firsts[] = { 0.01, 0.7, 1, 3, 1000 }, precisions[] = { 0.2, 0.05, 0.01 };
    for (int k = -30; k <= 50; k++)
        for (size_t i = 0; i < 5; i++)
            for (size_t j = 0; j < 3; j++) {
                double knee = pow(10, 0.1 * k), way = fabs(log2(knee / firsts[i])), step = precisions[j];
                int most = 2 + (int)ceil(way) + (int)ceil(log2(log(2) / log1p(step)));
                if (most > 24)
                    continue;
                struct slo_search s = search(knee, firsts[i], step);
                assert_true(s.kept > 0 && s.broken <= s.kept * (1 + step));
                assert_true(s.kept * (1 + step) >= knee);
                assert_true(s.n_probe <= most);
            }
}

static void knee_at_first_rate(void **state)
{
    (void)state;
    struct slo_search s = search(1, 1, 0.05);
    assert_true(s.kept >= 1 && s.broken <= 1.05);
}

/* 24 probes, then the bounds are as they are: never kept, always kept, and a precision that 24 do not reach. */
static void gives_up(void **state)
{
    (void)state;
    struct slo_search s;
    slo_search_init(&s, 8, 0.05);
    while (slo_search_next(&s))
        slo_search_tell(&s, false);
    assert_true(s.kept <= 0 && s.n_probe == 24 && fabs(s.broken / (8 * 0x1p-23) - 1) < 1e-12);
    slo_search_init(&s, 8, 0.05);
    while (slo_search_next(&s))
        slo_search_tell(&s, true);
    assert_true(s.broken <= 0 && s.n_probe == 24 && fabs(s.kept / (8 * 0x1p23) - 1) < 1e-12);
    s = search(1e5, 1, 0.001);
    assert_true(s.n_probe == 24 && s.kept > 0 && s.broken > s.kept * 1.001);
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

enum { N_CUSTOMER = 20000 };

/* The same queue simulated: Lindley's recursion (1952), wait = max(0, wait + service - gap). */
static double simulated_p99(double service, double rate, struct rng *r)
{
    static double times[N_CUSTOMER];
    double wait = 0;
    for (int i = 0; i < N_CUSTOMER; i++) {
        double work = -log(1 - (double)rng_uniform(r)) / service;
        times[i] = wait + work;
        wait = fmax(0, times[i] + log(1 - (double)rng_uniform(r)) / rate);
    }
    qsort(times, N_CUSTOMER, sizeof *times, compare_doubles);
    return times[N_CUSTOMER * 99 / 100 - 1];
}

/* At the knee p99 grows by as many percent as the rate, and that of 20000 customers spreads by 5 %: what is found is within 20 %. */
static void finds_knee_in_noise(void **state)
{
    (void)state;
    static const double knees[] = { 0.01, 1, 37, 1e4 };
    struct rng r;
    rng_init(&r, 1);
    for (int seed = 0; seed < 10; seed++)
        for (size_t i = 0; i < 4; i++) {
            struct slo_search s;
            slo_search_init(&s, 1, 0.05);
            while (slo_search_next(&s))
                slo_search_tell(&s, simulated_p99(2 * knees[i], s.next, &r) <= log(100) / knees[i]);
            assert_true(s.kept > 0.8 * knees[i] && s.kept < 1.2 * knees[i]);
            assert_true(s.n_probe <= 2 + 14 + 4);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_texts), cmocka_unit_test(bad_texts), cmocka_unit_test(samples), cmocka_unit_test(finds_knee),
        cmocka_unit_test(knee_at_first_rate), cmocka_unit_test(gives_up), cmocka_unit_test(finds_knee_in_noise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

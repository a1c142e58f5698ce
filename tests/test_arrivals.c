/* Arrival processes against the distributions they are to have, and their text. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "plan/arrivals.h"
#include "tests/fit.h"

enum { N = 20000 };

static double at[N], gap[N];

static struct arrivals_config parse(const char *text, uint64_t seed)
{
    struct arrivals_config c = { .seed = seed };
    if (arrivals_parse(&c, text))
        fail_msg("%s", err_text());
    return c;
}

/* The first N arrivals, and their gaps. */
static void draw(const char *text, uint64_t seed)
{
    struct arrivals_config c = parse(text, seed);
    struct arrivals a;
    arrivals_init(&a, &c);
    for (int i = 0; i < N; i++) {
        at[i] = arrivals_next(&a, NAN);
        gap[i] = at[i] - (i ? at[i - 1] : 0);
        assert_true(isfinite(at[i]) && gap[i] >= 0);
    }
}

/* ---- distributions, written from their formulas ---- */

static double exponential_cdf(double x, const void *rate)
{
    return 1 - exp(-x * *(const double *)rate);
}

/* Gamma with shape k and mean 1/rate: the series of the lower incomplete gamma function (Abramowitz and Stegun 6.5.29). */
struct gamma { double rate, k; };

static double gamma_cdf(double x, const void *of)
{
    const struct gamma *g = of;
    double y = x * g->rate * g->k, term = exp(g->k * log(y) - y - lgamma(g->k + 1)), sum = term;
    for (int i = 1; term > 1e-17 * sum; i++)
        sum += term *= y / (g->k + i);
    return y > 0 ? sum : 0;
}

static void test_gamma_cdf(void **state)
{
    (void)state;
    for (double x = 0.01; x < 8; x *= 1.3) {
        assert_true(fabs(gamma_cdf(x, &(struct gamma){ 2, 1 }) - exponential_cdf(x, &(double){ 2 })) < 1e-12);
        assert_true(fabs(gamma_cdf(x, &(struct gamma){ 1, 0.5 }) - erf(sqrt(x / 2))) < 1e-12);
        assert_true(fabs(gamma_cdf(x, &(struct gamma){ 1, 2 }) - (1 - (1 + 2 * x) * exp(-2 * x))) < 1e-12);
    }
}

/* Rates that change, as rate(t); the number expected up to t is their area by Simpson's rule over pieces that no corner cuts. */
struct course { double (*rate)(double t); double corner[2]; };

static double line_rate(double t)  { return t < 60 ? 1 + 15 * t / 60 : 16; }
static double zero_rate(double t)  { return t < 100 ? 4 * t / 100 : 4; }
static double fall_rate(double t)  { return t < 50 ? 40 - 38 * t / 50 : 2; }
static double exp_rate(double t)   { return t < 60 ? pow(16, t / 60) : 16; }
static double decay_rate(double t) { return t < 10 ? 100 * pow(0.05, t / 10) : 5; }
static double peak_rate(double t)  { return t >= 60 && t < 90 ? 32 : 8; }
static double lull_rate(double t)  { return t < 1000 ? 2.5 : 10; }

static double area(const struct course *c, double from, double to)
{
    enum { STEPS = 20 };
    double h = (to - from) / STEPS, sum = 0;
    for (int i = 0; i < STEPS && to > from; i++) {
        double l = from + i * h + 1e-9 * h, r = from + (i + 1) * h - 1e-9 * h;         /* not on a corner, where the rate jumps */
        sum += (c->rate(l) + 4 * c->rate((l + r) / 2) + c->rate(r)) * h / 6;
    }
    return sum;
}

static double expected(const struct course *c, double t)
{
    double a = fmin(t, c->corner[0]), b = fmin(t, c->corner[1]);
    return area(c, 0, a) + area(c, a, b) + area(c, b, t);
}

struct until { const struct course *course; double end; };

static double arrival_cdf(double t, const void *of)
{
    const struct until *u = of;
    return expected(u->course, t) / expected(u->course, u->end);
}

/* ---- ---- */

static void test_constant(void **state)
{
    (void)state;
    draw("constant:8", 1);
    for (int i = 0; i < N; i++)
        assert_true(at[i] == i / 8.0);
}

static void test_poisson(void **state)
{
    (void)state;
    static const double rate[] = { 0.01, 1, 8, 1000 };
    for (size_t i = 0; i < sizeof rate / sizeof *rate; i++)
        for (uint64_t seed = 0; seed < 5; seed++) {
            char text[40];
            snprintf(text, sizeof text, "poisson:%g", rate[i]);
            draw(text, seed);
            assert_true(fabs(N / at[N - 1] / rate[i] - 1) < 4 / sqrt(N));      /* the mean rate, within 4 deviations */
            assert_true(ks_distance(gap, N, exponential_cdf, &rate[i]) < KS_FAR);
            assert_true(ks_distance(gap, N, exponential_cdf, &(double){ rate[i] * 1.06 }) > KS_FAR);
        }
}

static void test_gamma(void **state)
{
    (void)state;
    static const double shape[] = { 0.3, 0.5, 1, 1.5, 4, 50 };
    for (size_t i = 0; i < sizeof shape / sizeof *shape; i++)
        for (uint64_t seed = 0; seed < 5; seed++) {
            char text[40];
            double k = shape[i];
            snprintf(text, sizeof text, "gamma:8:%g", k);
            draw(text, seed);
            assert_true(fabs(N / at[N - 1] / 8 - 1) < 4 / sqrt(N * k));
            assert_true(ks_distance(gap, N, gamma_cdf, &(struct gamma){ 8, k }) < KS_FAR);
            assert_true(ks_distance(gap, N, gamma_cdf, &(struct gamma){ 8, k * 1.2 }) > KS_FAR);
            assert_true(ks_distance(gap, N, gamma_cdf, &(struct gamma){ 8, k / 1.2 }) > KS_FAR);
        }
}

/* Small shapes have gaps that the sum of many would swallow: here the first gap of many seeds. */
static void test_first_gaps(void **state)
{
    (void)state;
    static const double shape[] = { 0.02, 0.3, 1, 7 };
    for (size_t i = 0; i < sizeof shape / sizeof *shape; i++) {
        struct arrivals_config c = { .kind = ARRIVALS_GAMMA, .rate = 8, .burstiness = shape[i] };
        for (c.seed = 0; c.seed < N; c.seed++) {
            struct arrivals a;
            arrivals_init(&a, &c);
            gap[c.seed] = arrivals_next(&a, NAN);
        }
        assert_true(ks_distance(gap, N, gamma_cdf, &(struct gamma){ 8, shape[i] }) < KS_FAR);
        assert_true(ks_distance(gap, N, gamma_cdf, &(struct gamma){ 8, shape[i] * 1.2 }) > KS_FAR);
    }
}

/* Neighbouring gaps have nothing to do with each other. */
static void test_independent(void **state)
{
    (void)state;
    static const char *const texts[] = { "poisson:1", "gamma:1:0.5", "gamma:1:3" };
    for (size_t k = 0; k < 3; k++) {
        double square = 0, product = 0;
        draw(texts[k], 3);
        for (int i = 0; i + 1 < N; i++) {
            square += (gap[i] - 1) * (gap[i] - 1);
            product += (gap[i] - 1) * (gap[i + 1] - 1);
        }
        assert_true(fabs(product / square) < 4 / sqrt(N));
    }
}

static const struct { const char *text; struct course course; const char *wrong; } courses[] = {
    { "ramp:1..16:60", { line_rate, { 60, 60 } }, "ramp:1..19:60" },
    { "ramp:0..4:100", { zero_rate, { 100, 100 } }, "ramp:1..4:100" },
    { "ramp:40..2:50", { fall_rate, { 50, 50 } }, "exp-ramp:40..2:50" },
    { "exp-ramp:1..16:60", { exp_rate, { 60, 60 } }, "ramp:1..16:60" },
    { "exp-ramp:100..5:10", { decay_rate, { 10, 10 } }, "exp-ramp:100..5:20" },
    { "burst:8:4x:at60:for30", { peak_rate, { 60, 90 } }, "burst:8:4x:at70:for30" },
    { "burst:10:0.25x:at0:for1000", { lull_rate, { 0, 1000 } }, "burst:10:0.35x:at0:for1000" },
};

/* Seen through the expected number, a process of changing rate is Poisson of rate 1. */
static double course_distance(const char *text, const struct course *c, uint64_t seed)
{
    double before = 0;
    enum { FEW = 1500 };            /* about the time in which the rate changes */
    draw(text, seed);
    for (int i = 0; i < FEW; i++) {
        double now = expected(c, at[i]);
        gap[i] = now - before;
        before = now;
    }
    return ks_distance(gap, FEW, exponential_cdf, &(double){ 1 });
}

/* Arrivals up to a time are as if drawn from the course of the rate; end: a time in which most of it is seen. */
static double arrivals_distance(const char *text, const struct course *c, uint64_t seed, size_t *n)
{
    double end = c->corner[1] * 1.2;
    draw(text, seed);
    assert_true(at[N - 1] > end);
    for (*n = 0; at[*n] < end;)
        ++*n;
    return ks_distance(at, *n, arrival_cdf, &(struct until){ c, end });
}

static void test_courses(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof courses / sizeof *courses; i++) {
        const struct course *c = &courses[i].course;
        double apart = 0;
        for (uint64_t seed = 0; seed < 10; seed++) {
            size_t n;
            double mean = expected(c, c->corner[1] * 1.2);
            assert_true(course_distance(courses[i].text, c, seed) < KS_FAR);
            assert_true(arrivals_distance(courses[i].text, c, seed, &n) < KS_FAR);
            assert_true(fabs((double)n - mean) < 4 * sqrt(mean));
            apart = fmax(apart, fmax(arrivals_distance(courses[i].wrong, c, seed, &n), course_distance(courses[i].wrong, c, seed)));
        }
        assert_true(apart > KS_FAR);
    }
}

/* The same text and seed give the same times; another seed gives others; one that repeats itself is not random. */
static void test_seeds(void **state)
{
    (void)state;
    static const char *const texts[] = { "poisson:8", "gamma:8:0.5", "ramp:1..16:60", "exp-ramp:1..16:60", "burst:8:4x:at60:for30" };
    static double first[N];
    for (size_t i = 0; i < 5; i++) {
        draw(texts[i], 7);
        memcpy(first, at, sizeof at);
        draw(texts[i], 7);
        assert_memory_equal(first, at, sizeof at);
        draw(texts[i], 8);
        assert_true(at[0] != first[0] && gap[1] != gap[0]);
    }
    draw("poisson:8", 7);
    memcpy(first, gap, sizeof gap);
    draw("poisson:1", 7);
    for (int i = 0; i < N; i++)         /* the rate does not change what is drawn */
        assert_true(fabs(gap[i] / 8 - first[i]) < 1e-9);
}

static void test_trace(void **state)
{
    (void)state;
    static const struct { const char *text; double speed; } cases[] = { { "trace", 1 }, { "trace:2x", 2 }, { "trace:0.5x", 0.5 } };
    for (size_t i = 0; i < 3; i++) {
        struct arrivals_config c = parse(cases[i].text, 0);
        struct arrivals a;
        arrivals_init(&a, &c);
        for (double t = 0; t < 5; t += 0.75)
            assert_true(arrivals_next(&a, t) == t / cases[i].speed);
    }
}

static void test_parse(void **state)
{
    (void)state;
    struct arrivals_config c = parse("burst:8.5:4x:at60:for30", 9);
    assert_true(c.kind == ARRIVALS_BURST && c.rate == 8.5 && c.factor == 4 && c.start_s == 60 && c.length_s == 30 && c.seed == 9);
    c = parse("ramp:0..1.6e1:60", 9);
    assert_true(c.kind == ARRIVALS_RAMP && c.rate == 0 && c.end_rate == 16 && c.duration_s == 60);
    c = parse("exp-ramp:.5..2.:1e3", 9);
    assert_true(c.kind == ARRIVALS_EXP_RAMP && c.rate == 0.5 && c.end_rate == 2 && c.duration_s == 1000);
    c = parse("gamma:8:0.5", 9);
    assert_true(c.kind == ARRIVALS_GAMMA && c.rate == 8 && c.burstiness == 0.5);
    static const struct { const char *text, *want; } bad[] = {
        { "", "\"\": it must begin with constant, poisson, gamma, ramp, exp-ramp, burst or trace, for example \"poisson:8\"" },
        { "fast:8", "\"fast:8\": it must begin with constant, poisson, gamma, ramp, exp-ramp, burst or trace, for example \"poisson:8\"" },
        { "gamm:8", "\"gamm:8\": it must begin with constant, poisson, gamma, ramp, exp-ramp, burst or trace, for example \"poisson:8\"" },
        { "poisson", "\"poisson\": write poisson:RATE, for example \"poisson:8\"" },
        { "poisson:", "\"poisson:\": write poisson:RATE, for example \"poisson:8\"" },
        { "poisson:x", "\"poisson:x\": write poisson:RATE, for example \"poisson:8\"" },
        { "poisson:8/s", "\"poisson:8/s\": write poisson:RATE, for example \"poisson:8\"" },
        { "poisson:8e", "\"poisson:8e\": write poisson:RATE, for example \"poisson:8\"" },
        { "poisson:inf", "\"poisson:inf\": write poisson:RATE, for example \"poisson:8\"" },
        { "poisson:0", "\"poisson:0\": RATE is 0; it must be from 1e-06 to 1e+09, for example \"poisson:8\"" },
        { "poisson:-1", "\"poisson:-1\": RATE is -1; it must be from 1e-06 to 1e+09, for example \"poisson:8\"" },
        { "poisson:1e400", "\"poisson:1e400\": RATE is inf; it must be from 1e-06 to 1e+09, for example \"poisson:8\"" },
        { "poisson:00000000000000000000000000000000000000001", "\"poisson:00000000000000000000000000000000000000001\": write poisson:RATE, for example \"poisson:8\"" },
        { "gamma:8", "\"gamma:8\": write gamma:RATE:BURSTINESS, for example \"gamma:8:0.5\"" },
        { "gamma:8:0", "\"gamma:8:0\": BURSTINESS is 0; it must be from 0.001 to 1e+06, for example \"gamma:8:0.5\"" },
        { "gamma:8:1:1", "\"gamma:8:1:1\": write gamma:RATE:BURSTINESS, for example \"gamma:8:0.5\"" },
        { "ramp:1.16:60", "\"ramp:1.16:60\": write ramp:FROM..TO:SECONDS, for example \"ramp:1..16:60\"" },
        { "ramp:1..0:60", "\"ramp:1..0:60\": TO is 0; it must be from 1e-06 to 1e+09, for example \"ramp:1..16:60\"" },
        { "exp-ramp:0..1:60", "\"exp-ramp:0..1:60\": FIRST is 0; it must be from 1e-06 to 1e+09, for example \"exp-ramp:1..16:60\"" },
        { "burst:8:4:at60:for30", "\"burst:8:4:at60:for30\": write burst:RATE:FACTORx:atSTART:forLENGTH, for example \"burst:8:4x:at60:for30\"" },
        { "burst:8:4x:at60:for", "\"burst:8:4x:at60:for\": write burst:RATE:FACTORx:atSTART:forLENGTH, for example \"burst:8:4x:at60:for30\"" },
        { "trace:2", "\"trace:2\": write trace:SPEEDx, for example \"trace:2x\"" },
        { "trace:0x", "\"trace:0x\": SPEED is 0; it must be from 1e-06 to 1e+06, for example \"trace:2x\"" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(arrivals_parse(&c, bad[i].text), -1);
        assert_string_equal(err_text(), bad[i].want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gamma_cdf), cmocka_unit_test(test_constant), cmocka_unit_test(test_poisson), cmocka_unit_test(test_gamma),
        cmocka_unit_test(test_first_gaps),
        cmocka_unit_test(test_independent), cmocka_unit_test(test_courses), cmocka_unit_test(test_seeds), cmocka_unit_test(test_trace),
        cmocka_unit_test(test_parse),
    };
    return cmocka_run_group_tests_name("arrivals", tests, NULL, NULL);
}

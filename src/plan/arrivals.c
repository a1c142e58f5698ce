#define _DEFAULT_SOURCE     /* M_PI */
#include "plan/arrivals.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/rng.h"

/* The high bits of a block's number say what it is for; plan/workload.c has others. */
#define GAP   ((uint64_t)16 << 56)
#define BOOST ((uint64_t)17 << 56)

/* ---- from text ---- */

#define AT(member) offsetof(struct arrivals_config, member)
#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

/* The words of the shapes: what stands in their place is a number for a field. */
static const struct field { const char *name; size_t at; double min, max; } fields[] = {
    { "RATE", AT(rate), 1e-6, 1e9 }, { "FIRST", AT(rate), 1e-6, 1e9 }, { "FROM", AT(rate), 0, 1e9 }, { "TO", AT(end_rate), 1e-6, 1e9 },
    { "SECONDS", AT(duration_s), 1e-3, 1e9 }, { "BURSTINESS", AT(burstiness), 1e-3, 1e6 }, { "FACTOR", AT(factor), 1e-6, 1e6 },
    { "START", AT(start_s), 0, 1e9 }, { "LENGTH", AT(length_s), 1e-3, 1e9 }, { "SPEED", AT(speed), 1e-6, 1e6 },
};

static const struct form { const char *name; enum arrivals_kind kind; const char *shape, *example; } forms[] = {
    { "constant", ARRIVALS_CONSTANT, ":RATE", ":8" },
    { "poisson", ARRIVALS_POISSON, ":RATE", ":8" },
    { "gamma", ARRIVALS_GAMMA, ":RATE:BURSTINESS", ":8:0.5" },
    { "ramp", ARRIVALS_RAMP, ":FROM..TO:SECONDS", ":1..16:60" },
    { "exp-ramp", ARRIVALS_EXP_RAMP, ":FIRST..TO:SECONDS", ":1..16:60" },
    { "burst", ARRIVALS_BURST, ":RATE:FACTORx:atSTART:forLENGTH", ":8:4x:at60:for30" },
    { "trace", ARRIVALS_TRACE, ":SPEEDx", ":2x" },
    { NULL, 0, NULL, NULL },
};

static const struct field *find_field(const char *name, size_t len)
{
    const struct field *f = fields;
    while (strlen(f->name) != len || memcmp(f->name, name, len))
        f++;                            /* every word of the shapes is there */
    return f;
}

/* The number that *at begins with, up to ".." if that follows; false: there is none. */
static bool take_number(const char **at, double *x)
{
    char number[32] = "", *end;
    size_t n = strspn(*at, "0123456789.eE+-");
    const char *dots = strstr(*at, "..");
    if (dots && (size_t)(dots - *at) < n)
        n = (size_t)(dots - *at);
    if (!n || n >= sizeof number)
        return false;
    memcpy(number, *at, n);
    *x = strtod(number, &end);
    *at += n;
    return !*end;
}

static int wrong_shape(const struct form *f, const char *text)
{
    return err_set("\"%s\": write %s%s, for example \"%s%s\"", text, f->name, f->shape, f->name, f->example);
}

/* rest: the text behind the name, to be as the shape says. */
static int read_form(struct arrivals_config *c, const struct form *f, const char *text, const char *rest)
{
    for (const char *shape = f->shape; *shape;) {
        size_t n = strspn(shape, UPPER);
        if (!n) {
            if (*rest++ != *shape++)
                return wrong_shape(f, text);
            continue;
        }
        const struct field *field = find_field(shape, n);
        double x;
        if (!take_number(&rest, &x))
            return wrong_shape(f, text);
        if (!(x >= field->min && x <= field->max))
            return err_set("\"%s\": %s is %g; it must be from %g to %g, for example \"%s%s\"", text, field->name, x, field->min, field->max,
                           f->name, f->example);
        *(double *)((char *)c + field->at) = x;
        shape += n;
    }
    return *rest ? wrong_shape(f, text) : 0;
}

int arrivals_parse(struct arrivals_config *c, const char *text)
{
    const struct form *f = forms;
    size_t len = strcspn(text, ":");
    while (f->name && (strlen(f->name) != len || memcmp(f->name, text, len)))
        f++;
    if (!f->name)
        return err_set("\"%s\": it must begin with constant, poisson, gamma, ramp, exp-ramp, burst or trace, for example \"poisson:8\"", text);
    *c = (struct arrivals_config){ .kind = f->kind, .speed = 1, .seed = c->seed };
    return c->kind == ARRIVALS_TRACE && !text[len] ? 0 : read_form(c, f, text, text + len);
}

/* ---- random gaps, of mean 1 ---- */

/* Poisson: exponential, by inversion of a number of 52 bits in (0, 1). */
static double exponential_gap(const struct arrivals *a)
{
    uint32_t w[4];
    rng_block(a->config.seed, a->n, GAP, w);
    return -log(((double)(((uint64_t)w[0] << 32 | w[1]) >> 12) + 0.5) * 0x1p-52);
}

/* Gamma of shape `shape` >= 1 (Marsaglia and Tsang, "A simple method for generating gamma variables", ACM TOMS 26, 2000):
 * a rejection takes the next block, so the gap is still a function of (seed, request). */
static double gamma_sample(const struct arrivals *a, double shape)
{
    double d = shape - 1 / 3.0, c = 1 / sqrt(9 * d);
    for (uint64_t round = 0;; round++) {
        uint32_t w[4];
        rng_block(a->config.seed, a->n, GAP | round, w);
        double x = sqrt(-2 * log((w[0] + 1.0) * 0x1p-32)) * cos(2 * M_PI * 0x1p-32 * w[1]);     /* normal: Box and Muller 1958 */
        double v = (1 + c * x) * (1 + c * x) * (1 + c * x);
        if (v > 0 && log((w[2] + 1.0) * 0x1p-32) < x * x / 2 + d * (1 - v + log(v)))
            return d * v;
    }
}

/* Below shape 1: gamma of shape + 1 times u^(1/shape), as they say in section 6. */
static double gamma_gap(const struct arrivals *a)
{
    double shape = a->config.burstiness;
    if (shape >= 1)
        return gamma_sample(a, shape) / shape;
    uint32_t w[4];
    rng_block(a->config.seed, a->n, BOOST, w);
    return gamma_sample(a, shape + 1) * exp(log((w[0] + 1.0) * 0x1p-32) / shape) / shape;
}

/* ---- rates that change: a Poisson process of rate 1, seen through the inverse of the number expected up to a time ---- */

/* The rate goes from r in a straight line: r t + k t^2 / 2 = expected. */
static double ramp_time(const struct arrivals_config *c, double expected)
{
    double area = (c->rate + c->end_rate) / 2 * c->duration_s, k = (c->end_rate - c->rate) / c->duration_s;
    if (expected > area)
        return c->duration_s + (expected - area) / c->end_rate;
    return 2 * expected / (c->rate + sqrt(fmax(c->rate * c->rate + 2 * k * expected, 0)));
}

/* The rate is r e^(g t): r (e^(g t) - 1) / g = expected. */
static double exp_ramp_time(const struct arrivals_config *c, double expected)
{
    double g = log1p((c->end_rate - c->rate) / c->rate) / c->duration_s;
    double area = g == 0 ? c->rate * c->duration_s : (c->end_rate - c->rate) / g;
    if (expected > area)
        return c->duration_s + (expected - area) / c->end_rate;
    return g == 0 ? expected / c->rate : log1p(g * expected / c->rate) / g;
}

static double burst_time(const struct arrivals_config *c, double expected)
{
    double before = c->rate * c->start_s, within = c->rate * c->factor * c->length_s;
    if (expected <= before)
        return expected / c->rate;
    if (expected <= before + within)
        return c->start_s + (expected - before) / (c->rate * c->factor);
    return c->start_s + c->length_s + (expected - before - within) / c->rate;
}

/* ---- */

void arrivals_init(struct arrivals *a, const struct arrivals_config *c)
{
    *a = (struct arrivals){ .config = *c };
}

double arrivals_next(struct arrivals *a, double recorded_s)
{
    const struct arrivals_config *c = &a->config;
    if (c->kind == ARRIVALS_TRACE)
        return recorded_s / c->speed;
    if (c->kind == ARRIVALS_CONSTANT)
        return (double)a->n++ / c->rate;
    a->sum += c->kind == ARRIVALS_GAMMA ? gamma_gap(a) : exponential_gap(a);
    a->n++;
    switch (c->kind) {
    case ARRIVALS_RAMP:     return ramp_time(c, a->sum);
    case ARRIVALS_EXP_RAMP: return exp_ramp_time(c, a->sum);
    case ARRIVALS_BURST:    return burst_time(c, a->sum);
    default:                return a->sum / c->rate;
    }
}

#define _DEFAULT_SOURCE     /* strsep */
#include "plan/slo.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/opt.h"

enum { MOST_PROBES = 24 };

static int bad(const char *part)
{
    return err_set("\"%s\" is not a limit; give for example ttft:p99:500ms or tpot:50ms", part);
}

static int find_latency(const char *name)
{
    static const char *const names[N_SLO] = { "ttft", "tpot", "e2el" };
    for (int i = 0; i < N_SLO; i++)
        if (strcmp(name, names[i]) == 0)
            return i;
    return -1;
}

/* "p99": 0.99; NaN: it is none that can be told. */
static double parse_percentile(const char *text)
{
    char *end;
    double p = text[0] == 'p' ? strtod(text + 1, &end) / 100 : (double)NAN;
    return p > 0 && p < 1 && !*end ? p : (double)NAN;
}

static int parse_part(struct slo *s, char *part)
{
    struct { double seconds; } limit;
    static const struct opt duration = {"limit", 0, OPT_DURATION, "", 0, NULL, "", NULL, 1e-6, 1e6};
    char whole[64], *rest = part, *name = strsep(&rest, ":"), *last = rest ? strrchr(rest, ':') : NULL;
    snprintf(whole, sizeof whole, "%s%s%s", name, rest ? ":" : "", rest ? rest : "");
    int which = find_latency(name);
    if (which < 0 || !rest || isfinite(s->limit_ms[which]))
        return bad(whole);
    double p = 0.99;
    if (last) {
        *last = 0;
        p = parse_percentile(rest);
    }
    if (!isfinite(p) || opt_set(&duration, &limit, last ? last + 1 : rest))
        return bad(whole);
    s->limit_ms[which] = limit.seconds * 1e3;
    s->percentile[which] = p;
    return 0;
}

int slo_parse(struct slo *s, const char *text)
{
    char copy[256], *rest = copy, *part;
    *s = (struct slo){ { INFINITY, INFINITY, INFINITY }, { 0.99, 0.99, 0.99 } };
    if (strlen(text) >= sizeof copy)
        return bad(text);
    strcpy(copy, text);
    while ((part = strsep(&rest, ",")))
        if (parse_part(s, part))
            return -1;
    return 0;
}

/* The least n from which a percentile p is told at confidence 99 %: 1 - p^n >= 0.99, that of p99 being 459. */
size_t slo_samples(const struct slo *s)
{
    double most = 1;
    for (int i = 0; i < N_SLO; i++)
        if (isfinite(s->limit_ms[i]))
            most = fmax(most, ceil(log(0.01) / log(s->percentile[i])));
    return (size_t)most;
}

void slo_search_init(struct slo_search *s, double first_rate, double precision)
{
    *s = (struct slo_search){ .next = first_rate, .precision = precision };
}

bool slo_search_next(struct slo_search *s)
{
    if (s->n_probe == MOST_PROBES || (s->kept > 0 && s->broken > 0 && s->broken <= s->kept * (1 + s->precision)))
        return false;
    if (s->n_probe)
        s->next = s->kept > 0 && s->broken > 0 ? sqrt(s->kept * s->broken) : s->kept > 0 ? 2 * s->kept : s->broken / 2;
    s->n_probe++;
    return true;
}

/* A probe lies within the bounds, so they stay nested, with noise too. */
void slo_search_tell(struct slo_search *s, bool kept)
{
    *(kept ? &s->kept : &s->broken) = s->next;
}

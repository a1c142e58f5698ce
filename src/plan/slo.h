/* slo.h - what is promised of latencies, and the search for the highest rate that keeps it.
 *
 *   ttft:500ms,tpot:p99:50ms,e2el:10s      of ttft, tpot and e2el, each at most once; without a percentile p99
 *
 * A request is good when it is within all limits (goodput); a run keeps the SLO when of each latency the named percentile is. */
#ifndef PLAN_SLO_H
#define PLAN_SLO_H

#include <stdbool.h>
#include <stddef.h>

enum slo_latency { SLO_TTFT, SLO_TPOT, SLO_E2EL, N_SLO };

struct slo { double limit_ms[N_SLO], percentile[N_SLO]; };     /* limit INFINITY: none; percentile 0.99 */

int slo_parse(struct slo *s, const char *text);    /* 0, or -1: err_text() */

/* Requests that a run must have so that each percentile can be told (results/README.md). */
size_t slo_samples(const struct slo *s);

/* The search: probes at rates that it names, until the bounds are within `precision` of each other.  Brackets by doubling or
 * halving from the first rate, then bisects by the geometric mean.  Pure: the caller runs the probes. */
struct slo_search { double kept, broken, next, precision; int n_probe; };      /* rates; 0: none known yet */

void slo_search_init(struct slo_search *s, double first_rate, double precision);
bool slo_search_next(struct slo_search *s);                    /* false: done, or 24 probes were made: the bounds are as they are */
void slo_search_tell(struct slo_search *s, bool kept);         /* of the probe at s->next */

#endif

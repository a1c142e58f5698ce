/* arrivals.h - when requests come, as seconds from the start of a run: a point process without a clock.  Random numbers are
 * a function of (seed, request), so the same text and seed give the same times everywhere.
 *
 * As text, rates in requests a second (SHAPE, then an example):
 *   constant:RATE                           constant:8              one each 1/8 s, the first at 0
 *   poisson:RATE                            poisson:8
 *   gamma:RATE:BURSTINESS                   gamma:8:0.5             gaps gamma distributed with shape BURSTINESS and mean 1/RATE, as vLLM's
 *                                                                   --burstiness: 1 is Poisson, less comes in bursts, more is even
 *   ramp:FROM..TO:SECONDS                   ramp:1..16:60           Poisson; the rate goes in a straight line, then stays at TO
 *   exp-ramp:FIRST..TO:SECONDS              exp-ramp:1..16:60       the same with a rate that grows by a factor each second
 *   burst:RATE:FACTORx:atSTART:forLENGTH    burst:8:4x:at60:for30   Poisson; 4 times the rate from second 60 on for 30 seconds
 *   trace, trace:SPEEDx                     trace:2x                as recorded; 2x: in half the time */
#ifndef PLAN_ARRIVALS_H
#define PLAN_ARRIVALS_H

#include <stdint.h>

enum arrivals_kind { ARRIVALS_CONSTANT, ARRIVALS_POISSON, ARRIVALS_GAMMA, ARRIVALS_RAMP, ARRIVALS_EXP_RAMP, ARRIVALS_BURST, ARRIVALS_TRACE };

struct arrivals_config {
    enum arrivals_kind kind;
    double rate;                       /* requests a second; of a ramp: at its start */
    double burstiness;                 /* gamma */
    double end_rate, duration_s;       /* ramps */
    double factor, start_s, length_s;  /* burst */
    double speed;                      /* trace */
    uint64_t seed;
};

/* Everything but the seed from the text.  0, or -1: err_text() says what is wrong and gives an example. */
int arrivals_parse(struct arrivals_config *c, const char *text);

struct arrivals { struct arrivals_config config; uint64_t n; double sum; };    /* n arrivals so far; sum: of their random gaps, of mean 1 */

void arrivals_init(struct arrivals *a, const struct arrivals_config *c);

/* When the next request comes, never before the one before.  recorded_s: what the trace says of it (NaN: nothing), for
 * ARRIVALS_TRACE alone, which needs a trace that has times (workload_has_arrivals). */
double arrivals_next(struct arrivals *a, double recorded_s);

#endif

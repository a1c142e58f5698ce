/* meter.h - where time went: stages, steps and requests, collected while the run goes on.  What is made of them
 * at the end is results.h; the definition of every number: results/README.md.
 * Each thread adds to its own stage_clock and calls only the functions of its part; the rest is merged at the end. */
#ifndef ENGINE_METER_H
#define ENGINE_METER_H

#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/hist.h"
#include "data/answer.h"
#include "engine/gauge.h"
#include "engine/timeline.h"

enum stage {
    STAGE_LOAD, STAGE_READ, STAGE_PARSE, STAGE_TOKENIZE, STAGE_QUEUE, STAGE_PREFILL, STAGE_DECODE, STAGE_SAMPLE,
    STAGE_DETOKENIZE, STAGE_WRITE, STAGE_IDLE, STAGE_DRAIN, N_STAGE,
};

const char *stage_name(enum stage s);

struct stage_count { uint64_t items, tokens; int64_t busy_ns; struct hist times; };    /* times: one entry a call */
struct stage_clock {
    struct stage_count stage[N_STAGE];
    struct timeline *timeline; enum timeline_track track;      /* where calls are drawn; NULL: nowhere */
};

void stage_add(struct stage_clock *c, enum stage s, int64_t ns, uint64_t items, uint64_t tokens);

/* One engine step, as a row of steps.csv. */
struct step_row {
    uint64_t step; double start_s, time_ms, plan_ms, forward_ms, sample_ms;
    uint32_t n_seq, n_prefill_tok, n_decode_tok, n_out, n_waiting, n_preempted;
    uint32_t kv_used, kv_total;    /* blocks */
    struct telemetry device;       /* meter_step fills it in */
    double device_ms;              /* from the step's first op on the device to its last */
    int64_t begin_ns, end_ns;      /* clock: planning begins; its tokens are taken in */
};

/* Exact values over requests, for percentiles. */
struct series { float *values; size_t n, cap; };
void series_add(struct series *s, double value);
double series_percentile(const struct series *s, double p);    /* nearest rank, the values being sorted; NaN of none */

/* A request that is within all of them is good; INFINITY: no limit. */
struct slo_limits { double ttft_ms, tpot_ms, e2el_ms; };

enum { THREAD_ENGINE, THREAD_READER, THREAD_WRITER, N_METER_THREAD };

struct meter {
    struct stage_clock *clock[N_METER_THREAD];
    struct hist *gaps;                         /* engine: ns between consecutive tokens */
    struct series ttft_ms, tpot_ms, e2el_ms, queue_ms;     /* writer */
    uint64_t lines, done, failed, scored, matched;         /* writer */
    uint64_t input_tokens, cached_tokens, recomputed_tokens, output_tokens, preemptions;    /* writer */
    uint64_t drifted;                          /* writer: answers that are not as long as was asked exactly */
    uint64_t good; struct slo_limits slo;      /* writer */
    uint64_t expected;                         /* rows there will be, for the progress line; 0: unknown */
    int64_t first_arrival_ns, last_token_ns;               /* writer */
    int64_t last_arrival_ns, last_arrival_done_ns;         /* writer: of the request that came last, and its last token */
    uint64_t n_step; uint32_t kv_used_max;                 /* engine */
    double device_s;                           /* engine: steps on the device */
    uint32_t first_tok; double first_ms;       /* engine: of the first step */
    double alike_ms; uint64_t n_alike;         /* engine: of steps with about as many tokens */
    double flops, bytes;                       /* engine: of the model's work, for mfu and mbu */
    struct gauge *gauge;                       /* whoever runs the engine opens and closes it; NULL: none */
    FILE *steps, *requests;                    /* NULL: not kept */
    struct timeline *timeline;                 /* NULL: none is drawn */
    struct buf row;                            /* writer: scratch */
    struct buf step_text;                      /* engine: scratch */
    atomic_uint_fast64_t rows_out;             /* for the progress line */
    uint64_t tokens_out;                       /* engine */
    int64_t start_ns, shown_ns;                /* engine: of the progress line */
    uint64_t shown_tokens;
};

/* folder: where steps.csv and requests.csv are written as they come; NULL: nowhere.  0, or -1: err_text(). */
int  meter_open(struct meter *m, const char *folder);
int  meter_draw(struct meter *m, const char *folder);  /* the run is also drawn, in trace.json there: 0, or -1: err_text() */
int  meter_flush(struct meter *m);         /* steps.csv, requests.csv and trace.json are written out: 0, or -1: err_text() */
void meter_close(struct meter *m);

/* The engine's thread. */
struct stage_clock *meter_engine_clock(struct meter *m);
void meter_step(struct meter *m, const struct step_row *row);
void meter_gap(struct meter *m, int64_t ns, uint64_t times);           /* time between consecutive tokens */
void meter_cost(struct meter *m, double flops, double bytes);          /* of a step (forward_cost) */

/* The writer's thread: an answer that leaves; match as answer_put_row gave it. */
void meter_answer(struct meter *m, const struct answer *a, int match);

#endif

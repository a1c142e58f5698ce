/* engine.h - the loop: takes requests from a queue, runs them as a continuous batch, puts answers into a queue.  On a
 * device that runs beside the host one step is in flight while the next is planned, built and enqueued: a sampled token
 * feeds that step on the device, and that a sequence has ended is noticed one step late.
 * One thread owns the scheduler, the block pool and the device.  Nothing in the step loop allocates: memory is
 * made at opening, a request's own at its start and its finish. */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include <stdatomic.h>

#include "base/queue.h"
#include "data/answer.h"
#include "engine/meter.h"
#include "engine/sched.h"
#include "model/weights.h"

struct engine_config {
    uint32_t max_seqs, max_step_tokens;    /* no more sequences run than a step has tokens */
    uint32_t block_size;           /* tokens; a multiple of 16 */
    uint32_t n_block;              /* 0: as many as kv_memory holds and can be of use */
    size_t   kv_memory;            /* bytes */
    bool     kv_fp8;               /* KV in e4m3, where the device has that and heads are a multiple of 16; else in its compute type */
    bool     prefix_cache;
    enum sched_order order;
    uint64_t *in_flight;           /* [max_seqs] index + 1 of the line that a slot answers, 0: none; NULL: not told */
    bool     ahead;                /* keep one step in flight on a device that does not ask for it, too */
};

struct engine;

/* NULL: err_text().  The tokenizer serves stop strings only; NULL: requests that have some are refused.  meter NULL:
 * nothing is measured.  Model, tokenizer and meter must outlive the engine. */
struct engine *engine_open(struct model *m, const struct tokenizer *t, const struct engine_config *c, struct meter *meter);
void           engine_close(struct engine *e);

uint32_t engine_max_len(const struct engine *e);   /* prompt + output tokens that one sequence may have */
uint64_t engine_kv_blocks(const struct engine *e);
uint64_t engine_kv_bytes(const struct engine *e);

/* Runs steps of the usual sizes on nothing, so that the device makes what it makes at first use before the clock starts. */
void engine_warm_up(struct engine *e);

void engine_forget(struct engine *e);              /* between runs: no prompt of the last one is found again */

/* Takes struct answer from `in` until it is closed and empty and all are finished; every answer goes to `out` once.
 * `out` stays open.  *stop (any thread may set it): requests that have begun are finished, those that still wait are
 * freed without an answer, nothing is taken any more; close `in` beside it, to wake the engine if it waits there. */
void engine_run(struct engine *e, struct queue *in, struct queue *out, const atomic_bool *stop);

/* For the last words of a thread that dies in engine_run: calls visit with the request of each answer that has begun and was
 * not given to `out`.  Allocates nothing. */
void engine_in_flight(const struct engine *e, void (*visit)(const struct request *r, void *arg), void *arg);

#endif

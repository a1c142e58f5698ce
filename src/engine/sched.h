/* sched.h - policy: which tokens run in the next step.  Reads no clock, touches no device, allocates nothing after
 * opening; the same code runs in the engine, in tests and under a simulated clock.
 *
 * A request waits in a heap until a slot is free, then runs as one sequence for each of its n answers.  Running
 * sequences stand in the order of their admission: first those with blocks (active), then those that were preempted.
 * A step goes through the active ones in that order: one token for each that decodes, and what is left of the budget for
 * the last one if it is still within its prompt.  With budget and blocks to spare, preempted ones resume, then new ones
 * are admitted: so no more than one is ever within its prompt between steps, and it is the last active one.  A sequence
 * that finds no block preempts the one admitted last, whose tokens are computed again later.  So the sequence admitted
 * first always goes on, and whatever fits alone gets its turn: no deadlock, no starvation.
 *
 * The next step may be planned before the tokens of the last one are known, and no further ahead.  A sequence whose
 * newest token is pending decodes on it unseen; it may turn out to have ended before that, and then its part of the step
 * in flight is dropped.  Its slot and blocks are free at once: whatever is written there next is enqueued behind that step.
 *
 * Blocks are indexed when their tokens are planned, and may be read by other sequences in the same step: the device
 * writes all keys and values of a layer before it reads any. */
#ifndef ENGINE_SCHED_H
#define ENGINE_SCHED_H

#include "engine/blocks.h"
#include "engine/seq.h"

/* Longest (prompt + max_new) first, so that the batch stays full to the end; prompts with a common beginning together.
 * Requests are sorted within runs of `window` arrivals, so that none waits for ever. */
enum sched_order { ORDER_FCFS, ORDER_LONGEST, ORDER_PREFIX };

struct sched_config {
    uint32_t max_seqs, max_step_tokens;    /* 1 <= max_seqs <= max_step_tokens */
    uint32_t max_context;                  /* tokens that the model's positions allow */
    uint32_t window;                       /* requests that wait here at most */
    enum sched_order order;
};

struct sched_request {
    const int32_t *prompt; uint32_t n_prompt;      /* must stay until the last answer is finished */
    uint32_t max_new;                              /* 0: as many as fit */
    uint32_t n;                                    /* answers, >= 1 */
    bool sees_tokens;                              /* see struct seq */
    void *owner;
};

/* A sequence's tokens from .. from+n-1 run in the step.  out: its next token is sampled.  first: its first part ever.
 * pending: its one token is that of row prev_row of the step before.  dropped: it has ended, seq may be another by now. */
struct plan_part { struct seq *seq; uint32_t from, n, prev_row; bool out, first, decode, pending, dropped; };

struct plan {
    struct plan_part *part; uint32_t n_part;       /* [max_seqs] */
    uint32_t n_tok, n_prefill, n_decode, n_again;  /* tokens; n_again: of the prefill, computed before */
    uint32_t n_out, n_preempted;
    uint32_t n_dropped;                            /* parts; the other counts but n_part are without them */
};

struct sched;

struct sched *sched_open(const struct sched_config *c, struct blocks *b);
void          sched_close(struct sched *s);
uint32_t      sched_max_len(const struct sched *s);    /* tokens that a sequence may have: context and blocks allow them */

bool     sched_full(const struct sched *s);            /* as many requests (or prompt tokens) wait as may */
bool     sched_busy(const struct sched *s);            /* something runs or waits */
uint32_t sched_n_waiting(const struct sched *s);       /* requests with answers not started */
uint32_t sched_n_running(const struct sched *s);       /* sequences in slots */

/* The request waits for its turn.  0, or -1: it can never run, err_text() gives the numbers.  Not while full. */
int sched_add(struct sched *s, const struct sched_request *r);

/* Takes out the requests of which no answer has started, and gives each one's owner to `drop`. */
void sched_forget_waiting(struct sched *s, void (*drop)(void *owner));

/* Calls visit with the owner of each request of which an answer has started and not all are finished, in the order of their
 * admission. */
void sched_each_begun(const struct sched *s, void (*visit)(void *owner, void *arg), void *arg);

/* Decides the next step and takes its blocks; the caller must run it.  Empty only if nothing runs or waits, or if it takes
 * the tokens of the last step to go on.  Stays until the call after the next. */
const struct plan *sched_plan(struct sched *s);

/* After the step, for each part with `out` that was not dropped: the sampled token; and when that was the last, the
 * sequence's end. */
void sched_append(struct sched *s, struct seq *q, int32_t id);
void sched_finish(struct sched *s, struct seq *q);

bool sched_sane(const struct sched *s);                /* invariants; for CHECK in tests */

#endif

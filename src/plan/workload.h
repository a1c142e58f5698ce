/* workload.h - the requests of a benchmark, made one at a time: lengths drawn from distributions, or as a trace has them.
 * The i-th request is a function of (seed, i) and the trace's row; no list of requests is kept.
 *
 * Prompts are token ids, uniform over the vocabulary without the special ids, so their lengths are exact: they are never
 * text.  The one exception is ShareGPT, whose texts are tokenized: the prompt is the first turn, the length of the answer
 * that of the second.
 *
 * Shared prefixes: a prompt begins with one of prefix_count prefixes of prefix_len tokens, chosen by the seed, and the input
 * length counts what follows it, as in vLLM's random dataset (vllm/benchmarks/datasets.py, RandomDataset).
 * Mooncake: blocks with the same hash id have the same ids, so that a prefix cache finds what the trace says. */
#ifndef PLAN_WORKLOAD_H
#define PLAN_WORKLOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "data/tokenizer.h"

/* A distribution of lengths in tokens, all from 1 to 2^24 (TRACE_MAX_TOKENS). */
struct lengths {
    bool normal;
    uint32_t low, high;            /* uniform: both ends included */
    double mean, deviation;        /* normal: rounded to the nearest, halves up, then clipped to 1 .. 2^24 */
};

/* "128", "64..256", "normal(128,32)".  0, or -1: err_text(). */
int lengths_parse(struct lengths *l, const char *text);

struct workload_config {
    uint64_t seed;
    uint32_t n_vocab;
    const int32_t *special_ids; uint32_t n_special;        /* never generated; in any order, ids beyond the vocabulary are passed over */
    struct lengths input, output;                          /* without a trace */
    uint32_t prefix_len, prefix_count;                     /* without a trace; prefix_len 0: none */
    const char *trace;                                     /* path; NULL: none */
    struct tok_state *tok;                                 /* borrowed; for a trace of texts alone, may be NULL otherwise */
};

/* Zero it to begin; prompt_ids grows as needed and stays the caller's: free() it at the end. */
struct workload_request {
    double arrival_s;              /* as the trace says, from its first row on; NaN: it does not, or there is none */
    uint32_t n_prompt, n_output;   /* at least 1 each */
    int32_t *prompt_ids;           /* [n_prompt] */
    uint32_t room;                 /* of prompt_ids */
};

struct workload_counts { uint64_t n_dropped, n_late; };    /* rows of the trace: not usable; earlier than a row before (data/trace.h) */

struct workload;

/* NULL: err_text() says what is wrong with the configuration or the trace. */
struct workload       *workload_open(const struct workload_config *c);
void                   workload_close(struct workload *w);
bool                   workload_has_arrivals(const struct workload *w);
struct workload_counts workload_counts(const struct workload *w);      /* so far */

/* The next request: 1; 0: the trace has ended (without a trace there is no end); -1: the trace is bad from here on, err_text(). */
int workload_next(struct workload *w, struct workload_request *r);

#endif

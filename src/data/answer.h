/* answer.h - what came of one request: filled by the engine (or by whoever refused it), written as one row.
 * Owns the request and the outputs. */
#ifndef DATA_ANSWER_H
#define DATA_ANSWER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "data/request.h"
#include "data/tokenizer.h"

enum finish { FINISH_STOP, FINISH_LENGTH, FINISH_ERROR };

struct token_top { int32_t id; float logprob; };

struct output {                    /* one of the request's n answers */
    int32_t *ids; uint32_t n_id;   /* without the stop token */
    uint32_t n_generated;          /* tokens sampled, the stop token included: usage's completion_tokens */
    enum finish finish;
    bool at_text;                  /* a stop string ended it, in the text of the last token */
    float *logprobs;               /* [n_id] or NULL */
    struct token_top *tops;        /* [n_id, n_top] or NULL */
    uint32_t n_top;
    int64_t first_ns, last_ns;     /* clock when its first and last token were on the host */
};

struct answer {
    struct request *request;
    uint64_t serial;                               /* place among the rows to write, from 0 (blank lines have none) */
    struct output *outputs; uint32_t n_output;     /* n_output = request->sampling.n; 0 for an error */
    uint32_t n_left;                               /* outputs still running (the engine's count) */
    uint32_t cached_tokens, recomputed_tokens, n_preempted;
    int64_t arrival_ns, scheduled_ns;              /* clock; scheduled: first step that held it */
    bool due;                                      /* arrival_ns is when it was to come, whenever the engine took it */
};

struct answer *answer_new(struct request *r);      /* takes the request; outputs are made for its n */
void           answer_free(struct answer *a);
uint32_t       answer_generated(const struct answer *a);   /* tokens sampled over all outputs */
int64_t        answer_last_ns(const struct answer *a);     /* clock of the last token of all outputs */

/* What to add to a row, and what it names. */
struct row_style { const char *model; bool token_ids, metrics; };

/* Appends the answer as one output row (with "\n").  Decodes and cuts at stop strings.  *match: exact match with
 * `expected` (1, 0; -1: no score). */
void answer_put_row(struct buf *b, const struct answer *a, struct tok_state *tok, const struct row_style *style, int *match);

#endif

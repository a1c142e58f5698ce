/* sampler.h - a request's sampling wishes as rows of the device's sample op, and whether a sampled token was the last.
 * Penalties, biases and bans become edits of logits, worked out from the tokens themselves: there is no state to keep in
 * step with preemption.  Random numbers are a function of (seed, input line and choice, position). */
#ifndef ENGINE_SAMPLER_H
#define ENGINE_SAMPLER_H

#include "data/request.h"
#include "data/tokenizer.h"
#include "engine/seq.h"
#include "kernels/device.h"
#include "model/config.h"

#define SAMPLER_MAX_TOP 20      /* best logprobs that a request may ask for */

struct sampler;

/* The tokenizer serves stop strings; NULL: requests that have some are refused. */
struct sampler *sampler_open(const struct model_config *c, const struct tokenizer *t, uint32_t max_seqs);
void            sampler_close(struct sampler *s);

/* Whether the vocabulary has the ids that the request names, and so on.  0, or -1: err_text(). */
int sampler_check(const struct sampler *s, const struct request *r);

void sampler_begin(struct sampler *s, const struct seq *q, const struct request *r);   /* q is new in its slot */
void sampler_end(struct sampler *s, const struct seq *q);

/* Whether the rows of its sequences depend on the very tokens before, not on their number alone. */
bool sampler_sees_tokens(const struct request *r);

/* The rows of a step: none; one more, for q's token in place `at`; what the sample op takes. */
struct sample_rows { const struct sample_row *rows; const struct logit_edit *edits; uint32_t n_row, max_top; };
void               sampler_clear(struct sampler *s);
void               sampler_put(struct sampler *s, const struct seq *q, uint32_t at);
struct sample_rows sampler_rows(const struct sampler *s);

/* What q's newest token, just appended, means. */
enum verdict { VERDICT_GO_ON, VERDICT_STOP_TOKEN, VERDICT_STOP_TEXT, VERDICT_LENGTH };
enum verdict sampler_judge(struct sampler *s, const struct seq *q);

#endif

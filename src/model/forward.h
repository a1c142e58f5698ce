/* forward.h - the one graph: from a step's token ids to logits, for every family and every device.
 * Owns the activations and the rope table; allocates only at opening. */
#ifndef MODEL_FORWARD_H
#define MODEL_FORWARD_H

#include "kernels/device.h"
#include "model/weights.h"

struct forward;

/* Room for steps of up to max_tok tokens with max_out sampled rows, of positions below max_pos.  The model and kv must
 * outlive it. */
struct forward *forward_open(struct model *m, struct kv *kv, uint32_t max_tok, uint32_t max_out, uint32_t max_pos);
void            forward_close(struct forward *f);

/* Runs the step; returns logits [s->n_out, n_vocab] f32 (device memory, overwritten by the next call). */
struct tensor forward_run(struct forward *f, const struct step *s);

/* Bytes of device memory that it holds when opened so. */
size_t forward_need(struct model *m, uint32_t max_tok, uint32_t max_out, uint32_t max_pos);

/* Bytes that a number takes in the layers' matrices, in the head, in the KV. */
struct forward_sizes { size_t layer, head, kv; };

/* Model FLOPs of the step's matrix products and attention, and bytes that must move (weights once, KV read): for mfu, mbu
 * and for sharing a mixed step between prefill and decode.  sum_context: over the tokens, how many keys each one sees
 * (without a window). */
struct forward_cost { double flops, bytes; };
struct forward_cost forward_cost_tokens(const struct model_config *c, const struct forward_sizes *s, uint32_t n_tok, uint64_t sum_context,
                                        uint32_t n_out);

#endif

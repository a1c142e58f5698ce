/* seq.h - one running sequence: its tokens, how many of them have been computed, and the blocks that hold them.
 * Lives in a slot of the scheduler; its arrays are the slot's.  Behind the known tokens come n_pending that the device
 * samples or has sampled, and the host does not know yet: one between steps at most, and while a step is planned on top
 * of the one that samples it, two.  Invariant: n_done <= n_token + n_pending <= max_len, and the first n_block entries
 * of `block` are held and have room for n_done tokens. */
#ifndef ENGINE_SEQ_H
#define ENGINE_SEQ_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/blocks.h"

struct seq {
    void    *owner;                /* the request it answers; the scheduler does not look inside */
    uint32_t choice;               /* which of its n answers */
    uint32_t slot;
    int32_t *tokens;               /* [max_len] prompt, then output */
    uint32_t n_prompt, n_token;    /* tokens known: prompt, all */
    uint32_t n_pending;            /* tokens to come of steps that run */
    bool     sees_tokens;          /* its next token depends on how the ones before read, so it never runs on a pending one */
    uint32_t max_len;              /* tokens it may come to have */
    uint32_t n_done;               /* leading tokens whose keys and values are in its blocks */
    uint32_t n_high;               /* most that n_done was after a step: what is computed below it is computed again */
    uint32_t *block;               /* [n_block] of its blocks in order */
    uint32_t n_block, n_indexed;   /* blocks held; leading ones that others can find */
    uint32_t part, out_row;        /* in the plan that samples its newest pending token: its part, its row among the sampled */
    uint32_t n_uploaded;           /* leading entries of `block` that the device has */
    uint32_t n_cached;             /* prompt tokens that were found, not computed */
    uint32_t n_recomputed, n_preempted;
};

bool seq_decodes(const struct seq *q);                 /* only its newest token, known or pending, is to be computed */
uint32_t seq_todo(const struct seq *q);                /* tokens that the next step may compute */
uint32_t seq_blocks_for(uint32_t n_token, uint32_t block_size);

/* Takes as many idle blocks as n_token tokens need, or as there are; returns the tokens there is now room for. */
uint32_t seq_grow(struct seq *q, struct blocks *b, uint32_t n_token);

/* For a sequence without blocks: holds those that have its leading tokens already, as many as are found; never its last
 * token, because something must be computed to sample from. */
void seq_reuse(struct seq *q, struct blocks *b);

/* Counts n more tokens as computed, and what seq_reuse found before them as cached; makes blocks that are full of known
 * tokens findable.  Returns how many of the n had been computed before. */
uint32_t seq_advance(struct seq *q, struct blocks *b, uint32_t n);

void seq_drop_blocks(struct seq *q, struct blocks *b); /* gives all back, the last one first; nothing is computed then */

#endif

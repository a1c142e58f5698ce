/* blocks.h - owns KV memory as numbered blocks of block_size tokens.  Knows no request, no device, no policy.
 * Every block is held (refs > 0) or idle (refs == 0).  A full block may be indexed: it is then found by its tokens
 * and by the block before it.  An idle block keeps its content, so a later prompt may take it back; the oldest idle
 * block is the next one overwritten, and one that nobody can find goes before all others.
 *
 * Whoever holds an indexed block holds the block before it too, and drops a chain from its end.  So a block never
 * turns idle before those that follow it, is never overwritten before them, and a block number is enough to say
 * "the content before this one". */
#ifndef ENGINE_BLOCKS_H
#define ENGINE_BLOCKS_H

#include <stdbool.h>
#include <stdint.h>

#define BLOCK_NONE UINT32_MAX

struct block {
    uint32_t refs;                 /* readers */
    uint32_t older, newer;         /* neighbours among the idle; BLOCK_NONE at the ends */
    bool     indexed;
    uint32_t parent, n_child;      /* indexed: block before it (BLOCK_NONE: it is the first), indexed blocks after it */
    uint32_t next;                 /* indexed: next in the bucket */
    uint64_t hash;                 /* indexed: of all tokens up to its end */
};

struct blocks {
    uint32_t n_block, block_size, n_idle;
    uint32_t oldest, newest;       /* ends of the idle list */
    struct block *block;           /* [n_block] */
    bool      index;               /* false: nothing is ever found */
    int32_t  *tokens;              /* [n_block, block_size] of the indexed ones */
    uint32_t *bucket;              /* [n_bucket] first block of each */
    uint32_t  n_bucket;            /* a power of two */
};

void blocks_init(struct blocks *b, uint32_t n_block, uint32_t block_size, bool index);
void blocks_free(struct blocks *b);

uint32_t blocks_take(struct blocks *b);                /* oldest idle block, refs = 1, content forgotten; BLOCK_NONE if none */
void     blocks_hold(struct blocks *b, uint32_t id);   /* one reader more */
void     blocks_drop(struct blocks *b, uint32_t id);   /* one reader less; idle when the last leaves */

/* The block that holds these block_size tokens behind `parent` (an indexed block, or BLOCK_NONE at the start);
 * BLOCK_NONE if there is none.  The caller holds it before anything else is taken. */
uint32_t blocks_find(const struct blocks *b, uint32_t parent, const int32_t *tokens);

/* Makes the held block findable as these tokens behind `parent`.  False: another block with that content came
 * first (or there is no index); nothing changed. */
bool blocks_index(struct blocks *b, uint32_t id, uint32_t parent, const int32_t *tokens);

bool blocks_sane(const struct blocks *b);              /* every invariant above; for CHECK in tests; O(n_block) */

#endif

#include "engine/blocks.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"

/* ---- the idle list ---- */

static void idle_unlink(struct blocks *b, uint32_t id)
{
    struct block *k = &b->block[id];
    *(k->older == BLOCK_NONE ? &b->oldest : &b->block[k->older].newer) = k->newer;
    *(k->newer == BLOCK_NONE ? &b->newest : &b->block[k->newer].older) = k->older;
    b->n_idle--;
}

static void idle_put_newest(struct blocks *b, uint32_t id)
{
    struct block *k = &b->block[id];
    k->older = b->newest;
    k->newer = BLOCK_NONE;
    *(k->older == BLOCK_NONE ? &b->oldest : &b->block[k->older].newer) = id;
    b->newest = id;
    b->n_idle++;
}

static void idle_put_oldest(struct blocks *b, uint32_t id)
{
    struct block *k = &b->block[id];
    k->newer = b->oldest;
    k->older = BLOCK_NONE;
    *(k->newer == BLOCK_NONE ? &b->newest : &b->block[k->newer].older) = id;
    b->oldest = id;
    b->n_idle++;
}

/* ---- the index ---- */

static const int32_t *tokens_of(const struct blocks *b, uint32_t id)
{
    return b->tokens + (size_t)id * b->block_size;
}

static uint64_t chain_hash(const struct blocks *b, uint32_t parent, const int32_t *tokens)
{
    uint64_t before = parent == BLOCK_NONE ? 0 : b->block[parent].hash;
    return hash_bytes(tokens, (size_t)b->block_size * sizeof *tokens, before);
}

static uint32_t *bucket_of(const struct blocks *b, uint64_t hash)
{
    return &b->bucket[hash & (b->n_bucket - 1)];
}

static uint32_t lookup(const struct blocks *b, uint64_t hash, uint32_t parent, const int32_t *tokens)
{
    for (uint32_t id = *bucket_of(b, hash); id != BLOCK_NONE; id = b->block[id].next) {
        const struct block *k = &b->block[id];
        if (k->hash == hash && k->parent == parent
            && !memcmp(tokens_of(b, id), tokens, (size_t)b->block_size * sizeof *tokens))
            return id;
    }
    return BLOCK_NONE;
}

uint32_t blocks_find(const struct blocks *b, uint32_t parent, const int32_t *tokens)
{
    return b->index ? lookup(b, chain_hash(b, parent, tokens), parent, tokens) : BLOCK_NONE;
}

bool blocks_index(struct blocks *b, uint32_t id, uint32_t parent, const int32_t *tokens)
{
    if (!b->index)
        return false;
    struct block *k = &b->block[id];
    CHECK(k->refs && !k->indexed);
    CHECK(parent == BLOCK_NONE || (b->block[parent].indexed && b->block[parent].refs));
    uint64_t hash = chain_hash(b, parent, tokens);
    if (lookup(b, hash, parent, tokens) != BLOCK_NONE)
        return false;
    memcpy(b->tokens + (size_t)id * b->block_size, tokens, (size_t)b->block_size * sizeof *tokens);
    uint32_t *first = bucket_of(b, hash);
    k->indexed = true;
    k->hash = hash;
    k->parent = parent;
    k->n_child = 0;
    k->next = *first;
    *first = id;
    if (parent != BLOCK_NONE)
        b->block[parent].n_child++;
    return true;
}

static void forget(struct blocks *b, uint32_t id)
{
    struct block *k = &b->block[id];
    CHECK(!k->n_child);             /* those that follow are overwritten first */
    uint32_t *link = bucket_of(b, k->hash);
    while (*link != id)
        link = &b->block[*link].next;
    *link = k->next;
    if (k->parent != BLOCK_NONE)
        b->block[k->parent].n_child--;
    k->indexed = false;
}

/* ---- taking and giving back ---- */

void blocks_init(struct blocks *b, uint32_t n_block, uint32_t block_size, bool index)
{
    CHECK(n_block < BLOCK_NONE && block_size > 0);
    *b = (struct blocks){ .n_block = n_block, .block_size = block_size, .oldest = BLOCK_NONE, .newest = BLOCK_NONE };
    b->block = mem_array(n_block, sizeof *b->block);
    for (uint32_t id = 0; id < n_block; id++)
        idle_put_newest(b, id);
    if (!index)
        return;
    b->index = true;
    b->tokens = mem_array((size_t)n_block * block_size, sizeof *b->tokens);
    b->n_bucket = 1;
    while (b->n_bucket < n_block && b->n_bucket < 1u << 31)
        b->n_bucket *= 2;
    b->bucket = mem_array(b->n_bucket, sizeof *b->bucket);
    memset(b->bucket, 0xff, b->n_bucket * sizeof *b->bucket);      /* BLOCK_NONE */
}

void blocks_free(struct blocks *b)
{
    free(b->block);
    free(b->tokens);
    free(b->bucket);
    *b = (struct blocks){ 0 };
}

uint32_t blocks_take(struct blocks *b)
{
    if (!b->n_idle)
        return BLOCK_NONE;          /* not an error: the scheduler decides who waits */
    uint32_t id = b->oldest;
    if (b->block[id].indexed)
        forget(b, id);
    blocks_hold(b, id);
    return id;
}

void blocks_hold(struct blocks *b, uint32_t id)
{
    if (!b->block[id].refs++)
        idle_unlink(b, id);
}

void blocks_drop(struct blocks *b, uint32_t id)
{
    struct block *k = &b->block[id];
    CHECK(k->refs);
    if (--k->refs)
        return;
    if (k->indexed)
        idle_put_newest(b, id);
    else
        idle_put_oldest(b, id);
}

/* ---- invariants ---- */

static bool idle_list_sane(const struct blocks *b, uint32_t *age)
{
    uint32_t n = 0, before = BLOCK_NONE;
    for (uint32_t id = b->oldest; id != BLOCK_NONE; before = id, id = b->block[id].newer) {
        if (id >= b->n_block || b->block[id].refs || b->block[id].older != before || n == b->n_idle)
            return false;
        age[id] = n++;
    }
    return before == b->newest && n == b->n_idle;
}

/* A block's parent outlives it: held, or idle and newer. */
static bool indexed_sane(const struct blocks *b, uint32_t id, const uint32_t *age, uint32_t *n_child)
{
    const struct block *k = &b->block[id];
    if (k->hash != chain_hash(b, k->parent, tokens_of(b, id)) || lookup(b, k->hash, k->parent, tokens_of(b, id)) != id)
        return false;
    if (k->parent == BLOCK_NONE)
        return true;
    const struct block *parent = &b->block[k->parent];
    n_child[k->parent]++;
    return parent->indexed && (parent->refs || (!k->refs && age[k->parent] > age[id]));
}

bool blocks_sane(const struct blocks *b)
{
    uint32_t *age = mem_array(b->n_block, sizeof *age), *n_child = mem_array(b->n_block, sizeof *n_child);
    bool sane = idle_list_sane(b, age);
    uint32_t n_held = 0;
    for (uint32_t id = 0; sane && id < b->n_block; id++) {
        n_held += b->block[id].refs > 0;
        sane = !b->block[id].indexed || indexed_sane(b, id, age, n_child);
    }
    for (uint32_t id = 0; sane && id < b->n_block; id++)
        sane = !b->block[id].indexed || b->block[id].n_child == n_child[id];
    free(age);
    free(n_child);
    return sane && n_held + b->n_idle == b->n_block;
}

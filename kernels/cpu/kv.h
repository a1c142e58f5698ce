/* kv.h - how the paged KV memory lies.
 *
 * It is [n_layer][n_block][n_kv_head][K and V of block_size keys], so that a layer's part is dense and what one KV head
 * reads of a block is contiguous.  The unit is a word of 32 bits, which holds `per` elements: one f32, or two bf16.
 *   K   [block_size / 16][d_head / per][16 keys] words: a word has `per` neighbouring dimensions of one key
 *   V   [block_size / per][d_head] words:               a word has one dimension of `per` neighbouring keys
 * so that a register of 16 words is 16 keys of K, or 16 dimensions of V, and a query or a probability times it is one
 * instruction in either type. */
#ifndef KERNELS_CPU_KV_H
#define KERNELS_CPU_KV_H

#include "kernels/device.h"

enum { KV_GROUP = 16, KV_MAX_HEAD = 256 };     /* keys of a register; the widest head */

struct kv {
    struct kv_shape shape;
    uint32_t per;              /* elements of a word */
    size_t head_words;         /* of one KV head in one block: K and V */
    uint32_t *words;
    size_t size;               /* bytes, with one register to spare behind the last word */
};

/* Sixteen keys, of which `offset` is one: K [d_head / per][16], V [16 / per][d_head]. */
struct kv_group { uint32_t *k, *v; };

static inline struct kv_group kv_group(const struct kv *kv, uint32_t layer, uint32_t block, uint32_t head, uint32_t offset)
{
    const struct kv_shape *s = &kv->shape;
    size_t at = ((size_t)layer * s->n_block + block) * s->n_kv_head + head;
    uint32_t *k = kv->words + at * kv->head_words + (size_t)(offset / KV_GROUP) * KV_GROUP * (s->d_head / kv->per);
    return (struct kv_group){ k, k + kv->head_words / 2 };
}

#endif

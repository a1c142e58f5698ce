#include "engine/seq.h"

#include "base/err.h"

bool seq_decodes(const struct seq *q)
{
    uint32_t n = q->n_token + q->n_pending;
    return n > q->n_prompt && q->n_done + 1 == n;
}

/* With a token pending, all before it has been computed; it may be the last. */
uint32_t seq_todo(const struct seq *q)
{
    if (!q->n_pending)
        return q->n_token - q->n_done;
    return q->n_token + q->n_pending < q->max_len && !q->sees_tokens;
}

uint32_t seq_blocks_for(uint32_t n_token, uint32_t block_size)
{
    return n_token / block_size + (n_token % block_size != 0);
}

uint32_t seq_grow(struct seq *q, struct blocks *b, uint32_t n_token)
{
    uint32_t want = seq_blocks_for(n_token, b->block_size);
    while (q->n_block < want) {
        uint32_t id = blocks_take(b);
        if (id == BLOCK_NONE)
            return q->n_block * b->block_size;
        q->block[q->n_block++] = id;
    }
    return n_token;
}

static uint32_t last_indexed(const struct seq *q)
{
    return q->n_indexed ? q->block[q->n_indexed - 1] : BLOCK_NONE;
}

void seq_reuse(struct seq *q, struct blocks *b)
{
    CHECK(!q->n_block);
    while (q->n_done + b->block_size < q->n_token) {
        uint32_t id = blocks_find(b, last_indexed(q), q->tokens + q->n_done);
        if (id == BLOCK_NONE)
            break;
        blocks_hold(b, id);
        q->block[q->n_block++] = id;
        q->n_indexed++;
        q->n_done += b->block_size;
    }
}

uint32_t seq_advance(struct seq *q, struct blocks *b, uint32_t n)
{
    if (q->n_done > q->n_high) {                /* what lies between was found */
        q->n_cached += q->n_done - q->n_high;
        q->n_high = q->n_done;
    }
    uint32_t known = q->n_high - q->n_done, again = known < n ? known : n;
    q->n_done += n;
    q->n_recomputed += again;
    if (q->n_done > q->n_high)
        q->n_high = q->n_done;
    uint32_t n_full = (q->n_done < q->n_token ? q->n_done : q->n_token) / b->block_size;
    while (q->n_indexed < n_full
           && blocks_index(b, q->block[q->n_indexed], last_indexed(q), q->tokens + q->n_indexed * b->block_size))
        q->n_indexed++;
    return again;
}

void seq_drop_blocks(struct seq *q, struct blocks *b)
{
    while (q->n_block)
        blocks_drop(b, q->block[--q->n_block]);
    q->n_done = q->n_indexed = q->n_uploaded = 0;
}

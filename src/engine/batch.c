#include "engine/batch.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { MOST_PATCHES = 4096 };      /* in one upload */

void batch_open(struct batch *b, struct device *d, const struct sched_config *c, uint32_t max_len, uint32_t block_size, bool padded)
{
    *b = (struct batch){
        .device = d, .block_size = block_size, .table_cols = seq_blocks_for(max_len, block_size), .max_tok = c->max_step_tokens,
        .max_seqs = c->max_seqs, .padded = padded,
    };
    b->n_word = 3 * (size_t)b->max_tok + 4 * (size_t)b->max_seqs + 1 + MOST_PATCHES * sizeof *b->patches / sizeof *b->host;
    b->table_size = (size_t)c->max_seqs * b->table_cols * sizeof *b->table;
    b->host = mem_array(b->n_word, sizeof *b->host);
    b->patches = mem_array(MOST_PATCHES, sizeof *b->patches);
    b->memory = d->ops->alloc(d, b->n_word * sizeof *b->memory);
    b->table = d->ops->alloc(d, b->table_size);
}

void batch_close(struct batch *b)
{
    if (!b->device)
        return;
    b->device->ops->free(b->device, b->memory, b->n_word * sizeof *b->memory);
    b->device->ops->free(b->device, b->table, b->table_size);
    free(b->host);
    free(b->patches);
    *b = (struct batch){ 0 };
}

/* The sizes of a step as it runs, and where its arrays begin, in words. */
struct layout { uint32_t n_tok, n_seq, n_out; size_t ids, pos, slot, seq_start, kv_len, table_row, out_rows, end; };

static uint32_t size_up_to(const struct batch *b, uint32_t n, uint32_t most)
{
    uint32_t size = b->padded ? device_bucket(n) : n;
    return size < most ? size : most;
}

/* Padded, all sequences sample or none does: no more than one of them does not. */
static struct layout lay_out(const struct batch *b, const struct plan *p)
{
    struct layout l = { .n_tok = size_up_to(b, p->n_tok, b->max_tok), .n_seq = size_up_to(b, p->n_part, b->max_seqs) };
    l.n_out = b->padded && p->n_out ? l.n_seq : p->n_out;
    l.pos = l.n_tok;
    l.slot = 2 * (size_t)l.n_tok;
    l.seq_start = 3 * (size_t)l.n_tok;
    l.kv_len = l.seq_start + l.n_seq + 1;
    l.table_row = l.kv_len + l.n_seq;
    l.out_rows = l.table_row + l.n_seq;
    l.end = l.out_rows + l.n_out;
    return l;
}

static void put_tokens(struct batch *b, const struct layout *l, const struct plan_part *part, uint32_t row, uint32_t prev_at)
{
    const struct seq *q = part->seq;
    if (part->pending)
        b->host[l->ids + row] = ~(prev_at + part->prev_row);
    else
        memcpy(b->host + l->ids + row, q->tokens + part->from, part->n * sizeof *q->tokens);
    for (uint32_t i = 0; i < part->n; i++) {
        uint32_t pos = part->from + i;
        b->host[l->pos + row + i] = pos;
        b->host[l->slot + row + i] = q->block[pos / b->block_size] * b->block_size + pos % b->block_size;
    }
}

/* Uploads words from .. end-1 of the step with the patches behind them, and patches the tables. */
static void upload(struct batch *b, size_t from, size_t end)
{
    const struct device_ops *ops = b->device->ops;
    struct scatter s = { .patches = (const struct patch *)(b->memory + end), .n = b->n_patch, .y = b->table };
    memcpy(b->host + end, b->patches, b->n_patch * sizeof *b->patches);
    ops->upload(b->device, b->memory + from, b->host + from, (end - from) * sizeof *b->host + b->n_patch * sizeof *b->patches);
    if (b->n_patch)
        ops->scatter(b->device, &s);
    b->n_patch = 0;
}

static void patch_table(struct batch *b, const struct layout *l, struct seq *q)
{
    for (; q->n_uploaded < q->n_block; q->n_uploaded++) {
        if (b->n_patch == MOST_PATCHES)
            upload(b, l->end, l->end);
        b->patches[b->n_patch++] = (struct patch){ q->slot * b->table_cols + q->n_uploaded, q->block[q->n_uploaded] };
    }
}

/* Behind n_tok tokens of n_seq sequences, n_out of which are sampled. */
static void pad(struct batch *b, const struct layout *l, uint32_t n_tok, uint32_t n_seq, uint32_t n_out)
{
    for (uint32_t i = n_tok; i < l->n_tok; i++) {
        b->host[l->ids + i] = b->host[l->pos + i] = 0;
        b->host[l->slot + i] = SLOT_NONE;
    }
    for (uint32_t i = n_seq; i < l->n_seq; i++) {
        b->host[l->seq_start + i + 1] = n_tok;
        b->host[l->kv_len + i] = b->host[l->table_row + i] = 0;
    }
    for (uint32_t i = n_out; i < l->n_out; i++)
        b->host[l->out_rows + i] = n_tok - 1;
}

const struct step *batch_build(struct batch *b, const struct plan *p, const int32_t *prev, uint32_t prev_at)
{
    struct layout l = lay_out(b, p);
    uint32_t row = 0, n_out = 0;
    for (uint32_t i = 0; i < p->n_part; i++) {
        const struct plan_part *part = &p->part[i];
        b->host[l.seq_start + i] = row;
        b->host[l.kv_len + i] = part->from + part->n;
        b->host[l.table_row + i] = part->seq->slot;
        put_tokens(b, &l, part, row, prev_at);
        patch_table(b, &l, part->seq);
        row += part->n;
        if (part->out)
            b->host[l.out_rows + n_out++] = row - 1;
    }
    b->host[l.seq_start + p->n_part] = row;
    pad(b, &l, row, p->n_part, n_out);
    upload(b, 0, l.end);
    b->step = (struct step){
        .n_tok = l.n_tok, .n_seq = l.n_seq, .n_out = l.n_out, .ids = (const int32_t *)(b->memory + l.ids), .prev = prev,
        .pos = b->memory + l.pos, .slot = b->memory + l.slot, .seq_start = b->memory + l.seq_start, .kv_len = b->memory + l.kv_len,
        .table_row = b->memory + l.table_row, .block_table = b->table, .table_cols = b->table_cols,
        .out_rows = b->memory + l.out_rows,
    };
    return &b->step;
}

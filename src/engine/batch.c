#include "engine/batch.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

void batch_open(struct batch *b, struct device *d, const struct sched_config *c, uint32_t max_len, uint32_t block_size)
{
    *b = (struct batch){ .device = d, .block_size = block_size, .table_cols = seq_blocks_for(max_len, block_size) };
    b->n_word = 3 * (size_t)c->max_step_tokens + 4 * (size_t)c->max_seqs + 1;
    b->table_size = (size_t)c->max_seqs * b->table_cols * sizeof *b->table;
    b->host = mem_array(b->n_word, sizeof *b->host);
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
    *b = (struct batch){ 0 };
}

/* Where the arrays of a step begin, in words. */
struct layout { size_t ids, pos, slot, seq_start, kv_len, table_row, out_rows, end; };

static struct layout lay_out(const struct plan *p)
{
    struct layout l = { .ids = 0, .pos = p->n_tok, .slot = 2 * (size_t)p->n_tok, .seq_start = 3 * (size_t)p->n_tok };
    l.kv_len = l.seq_start + p->n_part + 1;
    l.table_row = l.kv_len + p->n_part;
    l.out_rows = l.table_row + p->n_part;
    l.end = l.out_rows + p->n_out;
    return l;
}

static void put_tokens(struct batch *b, const struct layout *l, const struct plan_part *part, uint32_t row)
{
    const struct seq *q = part->seq;
    if (part->pending)
        b->host[l->ids + row] = ~part->prev_row;
    else
        memcpy(b->host + l->ids + row, q->tokens + part->from, part->n * sizeof *q->tokens);
    for (uint32_t i = 0; i < part->n; i++) {
        uint32_t pos = part->from + i;
        b->host[l->pos + row + i] = pos;
        b->host[l->slot + row + i] = q->block[pos / b->block_size] * b->block_size + pos % b->block_size;
    }
}

static void upload_table(struct batch *b, struct seq *q)
{
    uint32_t n_new = q->n_block - q->n_uploaded;
    if (!n_new)
        return;
    uint32_t *row = b->table + (size_t)q->slot * b->table_cols;
    b->device->ops->upload(b->device, row + q->n_uploaded, q->block + q->n_uploaded, n_new * sizeof *row);
    q->n_uploaded = q->n_block;
}

const struct step *batch_build(struct batch *b, const struct plan *p, const int32_t *prev)
{
    struct layout l = lay_out(p);
    uint32_t row = 0, n_out = 0;
    for (uint32_t i = 0; i < p->n_part; i++) {
        const struct plan_part *part = &p->part[i];
        b->host[l.seq_start + i] = row;
        b->host[l.kv_len + i] = part->from + part->n;
        b->host[l.table_row + i] = part->seq->slot;
        put_tokens(b, &l, part, row);
        upload_table(b, part->seq);
        row += part->n;
        if (part->out)
            b->host[l.out_rows + n_out++] = row - 1;
    }
    b->host[l.seq_start + p->n_part] = row;
    b->device->ops->upload(b->device, b->memory, b->host, l.end * sizeof *b->host);
    b->step = (struct step){
        .n_tok = p->n_tok, .n_seq = p->n_part, .n_out = p->n_out, .ids = (const int32_t *)(b->memory + l.ids), .prev = prev,
        .pos = b->memory + l.pos, .slot = b->memory + l.slot, .seq_start = b->memory + l.seq_start, .kv_len = b->memory + l.kv_len,
        .table_row = b->memory + l.table_row, .block_table = b->table, .table_cols = b->table_cols,
        .out_rows = b->memory + l.out_rows,
    };
    return &b->step;
}

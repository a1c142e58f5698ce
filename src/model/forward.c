#include "model/forward.h"

#include <math.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "model/arch.h"

/* A step that has run, and from its second time on its ops as the device has recorded them.  Every field of the step is the
 * key, addresses included: what lies there may be other numbers the next time. */
struct recorded { struct step step; struct graph *graph; uint64_t used; };

enum { N_RECORDED = 96 };      /* steps of decodes alone have 32 sizes up to 1024 sequences */

/* All buffers of a step lie in one block of device memory; those of attention and of the FFN are never needed together
 * and share their place. */
struct forward {
    struct model *model;
    struct device *device;
    struct kv *kv;
    uint32_t max_tok, max_out, max_pos;
    float *rope;                   /* [max_pos, d_head] */
    struct tensor x;               /* [max_tok, d_model] f32: the residual stream */
    struct tensor norm;            /* [max_tok, d_model] */
    struct tensor qkv, q, att;     /* [max_tok, (n_head + 2 n_kv_head) d_head], [max_tok, n_head d_head] twice */
    struct tensor gate_up, ff;     /* [max_tok, 2 d_ff], [max_tok, d_ff] */
    struct tensor x_out, att_out;  /* [max_out, d_model] f32, [max_out, n_head d_head]: the rows that are sampled */
    struct tensor logits;          /* [max_out, n_vocab] f32 */
    char *block; size_t size;
    struct recorded recorded[N_RECORDED];
    uint64_t n_run;
};

/* ---- opening -------------------------------------------------------------------------------------------------- */

static struct tensor carve(size_t *at, uint32_t rows, uint32_t cols, enum dtype dtype)
{
    struct tensor t = { (void *)*at, dtype, rows, cols };       /* an offset until the block is there */
    *at = (*at + (size_t)rows * cols * dtype_size(dtype) + 63) & ~(size_t)63;
    return t;
}

/* Lays all buffers out; returns the size of the block. */
static size_t lay_out(struct forward *f)
{
    const struct model_config *c = &f->model->config;
    enum dtype compute = f->device->compute;
    uint32_t d_q = c->n_head * c->d_head;
    size_t at = 0;
    f->x = carve(&at, f->max_tok, c->d_model, DTYPE_F32);
    f->x_out = carve(&at, f->max_out, c->d_model, DTYPE_F32);
    f->att_out = carve(&at, f->max_out, d_q, compute);
    f->logits = carve(&at, f->max_out, c->n_vocab, DTYPE_F32);
    f->norm = carve(&at, f->max_tok, c->d_model, compute);
    size_t ffn_at = at;
    f->qkv = carve(&at, f->max_tok, d_q + 2 * c->n_kv_head * c->d_head, compute);
    f->q = carve(&at, f->max_tok, d_q, compute);
    f->att = carve(&at, f->max_tok, d_q, compute);
    f->gate_up = carve(&ffn_at, f->max_tok, 2 * c->d_ff, compute);
    f->ff = carve(&ffn_at, f->max_tok, c->d_ff, compute);
    return at > ffn_at ? at : ffn_at;
}

static void place(struct forward *f)
{
    struct tensor *all[] = { &f->x, &f->x_out, &f->att_out, &f->logits, &f->norm, &f->qkv, &f->q, &f->att, &f->gate_up, &f->ff };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        all[i]->data = f->block + (size_t)all[i]->data;
}

static size_t rope_size(const struct forward *f)
{
    return (size_t)f->max_pos * f->model->config.d_head * sizeof(float);
}

static void make_rope(struct forward *f)
{
    float *host = mem_alloc(rope_size(f));
    rope_table(host, f->max_pos, &f->model->config);
    f->rope = f->device->ops->alloc(f->device, rope_size(f));
    f->device->ops->upload(f->device, f->rope, host, rope_size(f));
    free(host);
}

struct forward *forward_open(struct model *m, struct kv *kv, uint32_t max_tok, uint32_t max_out, uint32_t max_pos)
{
    struct forward *f = mem_alloc(sizeof *f);
    *f = (struct forward){ .model = m, .device = m->device, .kv = kv, .max_tok = max_tok, .max_out = max_out, .max_pos = max_pos };
    f->size = lay_out(f);
    f->block = f->device->ops->alloc(f->device, f->size);
    place(f);
    make_rope(f);
    return f;
}

void forward_close(struct forward *f)
{
    if (!f)
        return;
    for (int i = 0; i < N_RECORDED && f->device->async; i++)
        f->device->ops->graph_free(f->device, f->recorded[i].graph);
    f->device->ops->free(f->device, f->block, f->size);
    f->device->ops->free(f->device, f->rope, rope_size(f));
    free(f);
}

size_t forward_need(struct model *m, uint32_t max_tok, uint32_t max_out, uint32_t max_pos)
{
    struct forward f = { .model = m, .device = m->device, .max_tok = max_tok, .max_out = max_out, .max_pos = max_pos };
    return lay_out(&f) + rope_size(&f);
}

/* ---- a step --------------------------------------------------------------------------------------------------- */

/* The first n rows of a buffer. */
static struct tensor rows(const struct tensor *t, uint32_t n)
{
    return (struct tensor){ t->data, t->dtype, n, t->cols };
}

static void norm(struct forward *f, struct tensor x, const float *w, struct tensor y)
{
    f->device->ops->norm(f->device, &(struct norm){ .x = x, .w = w, .eps = f->model->config.norm_eps, .y = y });
}

/* norm, qkv, rope: the step's keys and values are stored, its queries lie in f->q. */
static void attention_in(struct forward *f, const struct step *s, uint32_t i)
{
    const struct model_config *c = &f->model->config;
    const struct layer *l = &f->model->layers[i];
    const struct device_ops *ops = f->device->ops;
    struct tensor h = rows(&f->norm, s->n_tok), qkv = rows(&f->qkv, s->n_tok);
    norm(f, rows(&f->x, s->n_tok), l->norm_attn, h);
    ops->linear(f->device, &(struct linear){ .x = h, .w = l->qkv, .bias = l->qkv_bias, .y = qkv });
    ops->rope_store(f->device, &(struct rope_store){
        .qkv = qkv, .n_head = c->n_head, .q_norm = l->q_norm, .k_norm = l->k_norm, .eps = c->norm_eps, .rope = f->rope,
        .d_rot = c->d_head, .kv = f->kv, .layer = i, .step = s, .q = rows(&f->q, s->n_tok) });
}

static void attend(struct forward *f, const struct step *s, uint32_t i)
{
    const struct model_config *c = &f->model->config;
    f->device->ops->attention(f->device, &(struct attention){
        .q = rows(&f->q, s->n_tok), .kv = f->kv, .layer = i, .step = s, .scale = (float)(1 / sqrt(c->d_head)),
        .window = i >= c->window_from ? c->window : 0, .y = rows(&f->att, s->n_tok) });
}

/* Output projection and FFN of the rows att and x, added to x. */
static void attention_out_ffn(struct forward *f, uint32_t i, struct tensor att, struct tensor x)
{
    const struct layer *l = &f->model->layers[i];
    const struct device_ops *ops = f->device->ops;
    struct tensor h = rows(&f->norm, x.rows), gate_up = rows(&f->gate_up, x.rows), ff = rows(&f->ff, x.rows);
    ops->linear(f->device, &(struct linear){ .x = att, .w = l->out, .bias = l->out_bias, .residual = x, .y = x });
    norm(f, x, l->norm_ffn, h);
    ops->linear(f->device, &(struct linear){ .x = h, .w = l->gate_up, .bias = l->gate_up_bias, .y = gate_up });
    ops->act(f->device, &(struct act){ .kind = f->model->config.arch->act, .x = gate_up, .y = ff });
    ops->linear(f->device, &(struct linear){ .x = ff, .w = l->down, .bias = l->down_bias, .residual = x, .y = x });
}

/* After the last attention only the rows that are sampled matter: the rest of the prompt ends here. */
static struct tensor last_rows(struct forward *f, const struct step *s)
{
    const struct device_ops *ops = f->device->ops;
    const struct model_config *c = &f->model->config;
    uint32_t last = c->n_layer - 1;
    struct tensor x = rows(&f->x_out, s->n_out), att = rows(&f->att_out, s->n_out), h = rows(&f->norm, s->n_out);
    attend(f, s, last);
    ops->gather(f->device, &(struct gather){ .x = rows(&f->x, s->n_tok), .rows = s->out_rows, .y = x });
    ops->gather(f->device, &(struct gather){ .x = rows(&f->att, s->n_tok), .rows = s->out_rows, .y = att });
    attention_out_ffn(f, last, att, x);
    norm(f, x, f->model->norm_final, h);
    return h;
}

static void run_ops(struct forward *f, const struct step *s)
{
    const struct device_ops *ops = f->device->ops;
    struct tensor x = rows(&f->x, s->n_tok);
    ops->embed(f->device, &(struct embed){ .table = f->model->embed, .ids = s->ids, .prev = s->prev, .scale = 1, .y = x });
    for (uint32_t i = 0;; i++) {
        attention_in(f, s, i);
        if (i == f->model->config.n_layer - 1)
            break;
        attend(f, s, i);
        attention_out_ffn(f, i, rows(&f->att, s->n_tok), x);
    }
    if (s->n_out)
        ops->linear(f->device, &(struct linear){ .x = last_rows(f, s), .w = f->model->lm_head, .y = rows(&f->logits, s->n_out) });
}

static bool same_step(const struct step *a, const struct step *b)
{
    return a->n_tok == b->n_tok && a->n_seq == b->n_seq && a->n_out == b->n_out && a->ids == b->ids && a->prev == b->prev && a->pos == b->pos
        && a->slot == b->slot && a->seq_start == b->seq_start && a->kv_len == b->kv_len && a->table_row == b->table_row
        && a->block_table == b->block_table && a->table_cols == b->table_cols && a->out_rows == b->out_rows;
}

/* The place of the step, or the one that was used least recently. */
static struct recorded *find_recorded(struct forward *f, const struct step *s)
{
    struct recorded *oldest = &f->recorded[0];
    for (int i = 0; i < N_RECORDED; i++) {
        struct recorded *r = &f->recorded[i];
        if (r->used && same_step(&r->step, s))
            return r;
        oldest = r->used < oldest->used ? r : oldest;
    }
    return oldest;
}

/* The first time op by op, so that the device has made what it makes at first use; then recorded; then all at once. */
static void run_recorded(struct forward *f, const struct step *s)
{
    const struct device_ops *ops = f->device->ops;
    struct recorded *r = find_recorded(f, s);
    bool known = r->used && same_step(&r->step, s);
    r->used = ++f->n_run;
    if (known && r->graph && ops->replay(f->device, r->graph))
        return;
    ops->graph_free(f->device, r->graph);
    *r = (struct recorded){ .step = *s, .used = r->used };
    if (known) {
        ops->record(f->device);
        run_ops(f, s);
        r->graph = ops->record_end(f->device);
        ops->replay(f->device, r->graph);
    } else {
        run_ops(f, s);
    }
}

struct tensor forward_run(struct forward *f, const struct step *s)
{
    CHECK(s->n_tok && s->n_tok <= f->max_tok && s->n_out <= f->max_out);
    if (f->device->async)
        run_recorded(f, s);
    else
        run_ops(f, s);
    return rows(&f->logits, s->n_out);
}

struct forward_cost forward_cost_tokens(const struct model_config *c, const struct forward_sizes *s, uint32_t n_tok, uint64_t sum_context,
                                        uint32_t n_out)
{
    double d = c->d_model, d_q = (double)c->n_head * c->d_head, d_kv = (double)c->n_kv_head * c->d_head;
    double layer = d * (2 * d_q + 2 * d_kv) + 3 * d * c->d_ff, head = d * c->n_vocab;
    uint64_t in_window = (uint64_t)n_tok * c->window;
    double windowed = c->window ? c->n_layer - c->window_from : 0;
    double seen = (c->n_layer - windowed) * (double)sum_context + windowed * (double)(in_window < sum_context ? in_window : sum_context);
    return (struct forward_cost){
        .flops = 2.0 * n_tok * c->n_layer * layer + 2.0 * n_out * head + 4 * d_q * seen,
        .bytes = (double)s->layer * c->n_layer * layer + (n_out ? (double)s->head * head : 0) + (double)s->kv * 2 * d_kv * seen,
    };
}

/* cases.h - norm, activation, gather, products, embed, rope with the KV write, and attention through the door of any device, against naive
 * sums in float64 written from the formulas.
 *
 * KV memory is NaN before it is written, and table entries that no one may read are wild. */
#ifndef TESTS_CASES_H
#define TESTS_CASES_H

#include "tests/tensors.h"

static void kv_spoil(struct device *d, struct kv *kv);       /* of the device under test: NaN in every type */

/* ---- norm, act, gather ---- */

static void norm_case(struct device *d, struct rng *r, uint32_t n, uint32_t cols, enum dtype type, bool in_place)
{
    struct tensor x = tensor_random(r, n, cols, DTYPE_F32), old = tensor_new(n, cols, DTYPE_F32);
    struct tensor y = in_place ? x : tensor_new(n, cols, type);
    float *w = floats_random(r, cols);
    memcpy(old.data, x.data, tensor_size(&x));
    d->ops->norm(d, &(struct norm){ .x = tensor_on(d, &x), .w = on(d, w, cols * sizeof *w), .eps = 1e-5f, .y = tensor_on(d, &y) });
    back(d);
    for (uint32_t i = 0; i < n; i++) {
        double sum = 0;
        for (uint32_t j = 0; j < cols; j++)
            sum += get(&old, i * cols + j) * get(&old, i * cols + j);
        double inv = 1 / sqrt(sum / cols + (double)1e-5f);
        for (uint32_t j = 0; j < cols; j++)
            close_to(get(&y, i * cols + j), get(&old, i * cols + j) * inv * (double)w[j], y.dtype, 5);
    }
    free(w);
    free(old.data);
    free(x.data);
    if (!in_place)
        free(y.data);
}

static void norm_here(struct device *d)
{
    static const uint32_t cols[] = { 1, 8, 15, 16, 63, 64, 100, 1024, 1031 };
    struct rng r;
    rng_init(&r, 1);
    for (size_t i = 0; i < sizeof cols / sizeof *cols; i++) {
        uint32_t n = 1 + rng_below(&r, 20);
        norm_case(d, &r, n, cols[i], DTYPE_F32, false);
        norm_case(d, &r, n, cols[i], DTYPE_F32, true);
        norm_case(d, &r, n, cols[i], DTYPE_BF16, false);
    }
}

static double act_of(enum act_kind kind, double x)
{
    if (kind == ACT_SILU)
        return x / (1 + exp(-x));
    return 0.5 * x * (1 + tanh(sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x)));
}

static void act_case(struct device *d, struct rng *r, enum act_kind kind, uint32_t n, uint32_t cols, enum dtype from, enum dtype to)
{
    struct tensor x = tensor_random(r, n, 2 * cols, from), y = tensor_new(n, cols, to);
    set(&x, 0, 200);                    /* e^-200 and e^200 are no floats */
    set(&x, 2 * cols * (n - 1), -200);
    d->ops->act(d, &(struct act){ .kind = kind, .x = tensor_on(d, &x), .y = tensor_on(d, &y) });
    back(d);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < cols; j++) {
            double gate = get(&x, 2 * i * cols + j), up = get(&x, (2 * i + 1) * cols + j), want = act_of(kind, gate) * up;
            close_to(get(&y, i * cols + j), want, to, 1 + fabs(want));
        }
    free(x.data);
    free(y.data);
}

static void act_here(struct device *d)
{
    static const uint32_t cols[] = { 1, 7, 16, 24, 100, 512 };
    struct rng r;
    rng_init(&r, 2);
    for (size_t i = 0; i < sizeof cols / sizeof *cols; i++)
        for (int k = 0; k < 8; k++)
            act_case(d, &r, k & 1 ? ACT_SILU : ACT_GELU_TANH, 1 + rng_below(&r, 30), cols[i], k & 2 ? DTYPE_BF16 : DTYPE_F32,
                     k & 4 ? DTYPE_BF16 : DTYPE_F32);
}

static void gather_here(struct device *d)
{
    uint32_t rows[] = { 0, 3, 3, 8, 6, 2 };
    struct rng r;
    rng_init(&r, 3);
    for (int k = 0; k < 2; k++) {
        struct tensor x = tensor_random(&r, 9, 1500, k ? DTYPE_BF16 : DTYPE_F32), y = tensor_new(6, 1500, x.dtype);
        d->ops->gather(d, &(struct gather){ .x = tensor_on(d, &x), .rows = on(d, rows, sizeof rows), .y = tensor_on(d, &y) });
        back(d);
        size_t row = tensor_size(&y) / 6;
        for (size_t i = 0; i < 6; i++)
            assert_memory_equal((char *)y.data + i * row, (char *)x.data + rows[i] * row, row);
        free(x.data);
        free(y.data);
    }
}

/* ---- linear, and embed out of the same weight ---- */

enum residual { NO_RESIDUAL, RESIDUAL, IN_PLACE };
struct product { enum dtype part, w, x, y; uint32_t n, n_in, n_out; bool bias; enum residual residual; };

/* As the weight holds it. */
static double weight_want(const struct product *p, const struct tensor *w, size_t i)
{
    return p->w == DTYPE_BF16 ? (double)bf16_to_f32(bf16_from_f32((float)get(w, i))) : get(w, i);
}

static void product_check(const struct product *p, const struct tensor *x, const struct tensor *w, const float *bias,
                          const struct tensor *residual, const struct tensor *y)
{
    for (size_t i = 0; i < p->n; i++)
        for (size_t j = 0; j < p->n_out; j++) {
            double sum = (bias ? (double)bias[j] : 0) + (residual->data ? get(residual, i * p->n_out + j) : 0), size = 1;
            for (size_t k = 0; k < p->n_in; k++) {
                double term = get(x, i * p->n_in + k) * weight_want(p, w, j * p->n_in + k);
                sum += term;
                size += fabs(term);
            }
            if (bias && (p->y == DTYPE_BF16 || p->w == DTYPE_E4M3))         /* which may be rounded first */
                size += 2000 * fabs((double)bias[j]);
            close_to(get(y, i * p->n_out + j), sum, p->y, size);
        }
}

static void embed_check(struct device *d, const struct product *p, const struct tensor *w, const struct weight *packed)
{
    int32_t want[] = { (int32_t)p->n_out - 1, 0, (int32_t)p->n_out / 2 }, ids[] = { want[0], ~1, ~0 }, prev[] = { want[2], want[1] };
    struct tensor e = tensor_new(3, p->n_in, DTYPE_F32);
    d->ops->embed(d, &(struct embed){
        .table = packed, .ids = on(d, ids, sizeof ids), .prev = on(d, prev, sizeof prev), .scale = 2, .y = tensor_on(d, &e) });
    back(d);
    for (size_t i = 0; i < 3; i++)
        for (size_t k = 0; k < p->n_in; k++)
            assert_true(get(&e, i * p->n_in + k) == 2 * weight_want(p, w, (size_t)want[i] * p->n_in + k));
    free(e.data);
}

static void product_case(struct device *d, struct rng *r, const struct product *p)
{
    struct tensor w = tensor_random(r, p->n_out, p->n_in, p->part), x = tensor_random(r, p->n, p->n_in, p->x);
    struct tensor old = p->residual ? tensor_random(r, p->n, p->n_out, DTYPE_F32) : (struct tensor){ 0 }, y = tensor_new(p->n, p->n_out, p->y);
    float *bias = p->bias ? floats_random(r, p->n_out) : NULL;
    uint32_t half = p->n_out / 2;
    struct tensor parts[] = { { w.data, w.dtype, half, w.cols }, { (char *)w.data + half * (tensor_size(&w) / w.rows), w.dtype, w.rows - half, w.cols } };
    struct weight *packed = half ? d->ops->weight_pack(d, parts, 2, p->w) : d->ops->weight_pack(d, &w, 1, p->w);
    if (p->residual == IN_PLACE)
        memcpy(y.data, old.data, tensor_size(&y));
    d->ops->linear(d, &(struct linear){
        .x = tensor_on(d, &x), .w = packed, .bias = on(d, bias, p->n_out * sizeof *bias),
        .residual = p->residual ? tensor_on(d, p->residual == IN_PLACE ? &y : &old) : (struct tensor){ 0 }, .y = tensor_on(d, &y) });
    back(d);
    bool e4m3 = p->w == DTYPE_E4M3;
    struct tensor w_held = e4m3 ? e4m3_rows(&w) : w, x_held = e4m3 ? e4m3_rows(&x) : x;
    product_check(p, &x_held, &w_held, bias, &old, &y);
    embed_check(d, p, &w_held, packed);
    d->ops->weight_free(d, packed);
    if (e4m3) {
        free(w_held.data);
        free(x_held.data);
    }
    free(w.data);
    free(x.data);
    free(old.data);
    free(y.data);
    free(bias);
}

/* ---- rope_store and attention ---- */

struct shape {
    uint32_t n_head, n_kv_head, d_head, d_rot, block_size, window;
    float softcap;
    bool sinks, qk_norm;
    enum dtype dtype, kv_dtype, y_dtype;
};

static const struct shape shapes[] = {
    { 16, 8, 128, 128, 16, 0,  0,  false, true,  DTYPE_BF16, DTYPE_BF16, DTYPE_BF16 },     /* Qwen3-0.6B */
    { 4,  1, 64,  64,  16, 0,  0,  false, false, DTYPE_BF16, DTYPE_BF16, DTYPE_F32 },
    { 8,  4, 8,   8,   16, 0,  0,  false, false, DTYPE_F32,  DTYPE_F32,  DTYPE_F32 },      /* stories260K */
    { 3,  3, 24,  24,  32, 0,  0,  false, true,  DTYPE_BF16, DTYPE_BF16, DTYPE_F32 },
    { 6,  2, 80,  40,  16, 0,  30, false, false, DTYPE_BF16, DTYPE_BF16, DTYPE_BF16 },
    { 4,  4, 96,  96,  48, 40, 0,  true,  false, DTYPE_BF16, DTYPE_BF16, DTYPE_F32 },
    { 7,  1, 112, 20,  16, 5,  0,  false, false, DTYPE_F32,  DTYPE_F32,  DTYPE_BF16 },
    { 16, 1, 40,  32,  64, 0,  0,  true,  true,  DTYPE_F32,  DTYPE_F32,  DTYPE_F32 },
    { 2,  1, 256, 256, 16, 70, 50, true,  false, DTYPE_BF16, DTYPE_BF16, DTYPE_F32 },
    { 5,  1, 128, 0,   16, 1,  0,  false, false, DTYPE_F32,  DTYPE_F32,  DTYPE_F32 },
};

enum { N_SEQ = 4, MOST_LEN = 150, N_BLOCK = 60, TABLE_COLS = 16, MOST_TOK = N_SEQ * MOST_LEN, MOST_HEAD = 256 };

/* Some sequences with all their qkv rows, which do not depend on attention here. */
struct scene {
    struct shape s;
    uint32_t len[N_SEQ], row[N_SEQ], n_row;        /* row: of the sequence's first token in qkv and y */
    float *q_norm, *k_norm, *sinks, *rope;
    struct tensor qkv;
};

static uint32_t qkv_cols(const struct shape *s)
{
    return (s->n_head + 2 * s->n_kv_head) * s->d_head;
}

static struct scene scene_new(struct rng *r, const struct shape *s)
{
    struct scene c = { .s = *s };
    for (int i = 0; i < N_SEQ; i++) {
        c.len[i] = i ? 1 + rng_below(r, MOST_LEN) : MOST_LEN;
        c.row[i] = c.n_row;
        c.n_row += c.len[i];
    }
    c.qkv = tensor_random(r, c.n_row, qkv_cols(s), s->dtype);
    c.q_norm = floats_random(r, s->d_head);
    c.k_norm = floats_random(r, s->d_head);
    c.sinks = floats_random(r, s->n_head);
    c.rope = mem_array((size_t)MOST_LEN * s->d_rot, sizeof *c.rope);
    for (uint32_t p = 0; p < MOST_LEN; p++)
        for (uint32_t i = 0; i < s->d_rot / 2; i++) {
            double angle = p * pow(10000, -2.0 * i / s->d_rot);
            c.rope[p * s->d_rot + i] = (float)cos(angle);
            c.rope[p * s->d_rot + s->d_rot / 2 + i] = (float)sin(angle);
        }
    return c;
}

static void scene_free(struct scene *c)
{
    free(c->qkv.data);
    free(c->q_norm);
    free(c->k_norm);
    free(c->sinks);
    free(c->rope);
}

/* How a scene is run: which sequence takes how many tokens in each step, and where its blocks are. */
enum pieces { WHOLE, ONE_BY_ONE, RANDOM };

enum { MOST_PAD = 5 };

struct batch {
    struct step step;
    uint32_t n_tok;                                /* of the sequences; those behind them pad the step */
    uint32_t pos[MOST_TOK + MOST_PAD], slot[MOST_TOK + MOST_PAD], seq_start[N_SEQ + MOST_PAD + 1];
    uint32_t kv_len[N_SEQ + MOST_PAD], table_row[N_SEQ + MOST_PAD];
    uint32_t table[N_SEQ * TABLE_COLS], from[MOST_TOK + MOST_PAD];         /* from: rows of the scene */
    uint32_t done[N_SEQ], used, order[N_BLOCK];
};

static void shuffle(struct rng *r, uint32_t *x, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t k = i + rng_below(r, n - i), old = x[i];
        x[i] = x[k];
        x[k] = old;
    }
}

static void batch_init(struct batch *b, struct rng *r)
{
    memset(b, 0, sizeof *b);
    memset(b->table, 0xf1, sizeof b->table);
    for (uint32_t i = 0; i < N_BLOCK; i++)
        b->order[i] = i;
    shuffle(r, b->order, N_BLOCK);
}

static void batch_add(struct batch *b, const struct scene *c, uint32_t seq, uint32_t n)
{
    uint32_t size = c->s.block_size, s = b->step.n_seq++;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t t = b->step.n_tok++, pos = b->done[seq]++, *block = &b->table[seq * TABLE_COLS + pos / size];
        if (pos % size == 0)
            *block = b->order[b->used++];
        b->pos[t] = pos;
        b->slot[t] = *block * size + pos % size;
        b->from[t] = c->row[seq] + pos;
    }
    b->table_row[s] = seq;
    b->kv_len[s] = b->done[seq];
    b->seq_start[s + 1] = b->step.n_tok;
}

static void batch_pad(struct batch *b, struct rng *r)
{
    uint32_t n_tok = b->step.n_tok + rng_below(r, MOST_PAD + 1), n_seq = b->step.n_seq + rng_below(r, MOST_PAD + 1);
    for (uint32_t t = b->step.n_tok; t < n_tok; t++) {
        b->pos[t] = b->from[t] = 0;
        b->slot[t] = SLOT_NONE;
    }
    for (uint32_t s = b->step.n_seq; s < n_seq; s++) {
        b->seq_start[s + 1] = b->step.n_tok;
        b->kv_len[s] = b->table_row[s] = 0;
    }
    b->step.n_tok = n_tok;
    b->step.n_seq = n_seq;
}

/* False when all is done. */
static bool batch_fill(struct batch *b, const struct scene *c, struct rng *r, enum pieces plan)
{
    uint32_t seqs[N_SEQ] = { 0, 1, 2, 3 };
    b->step = (struct step){ .pos = b->pos, .slot = b->slot, .seq_start = b->seq_start, .kv_len = b->kv_len,
                             .table_row = b->table_row, .block_table = b->table, .table_cols = TABLE_COLS };
    if (plan == RANDOM)
        shuffle(r, seqs, N_SEQ);
    for (uint32_t i = 0; i < N_SEQ; i++) {
        uint32_t left = c->len[seqs[i]] - b->done[seqs[i]], most = plan == WHOLE ? left : plan == ONE_BY_ONE ? 1 : 1 + rng_below(r, 50);
        if (left && (plan != RANDOM || rng_below(r, 3)))
            batch_add(b, c, seqs[i], most < left ? most : left);
    }
    b->n_tok = b->step.n_tok;
    if (plan == RANDOM && b->n_tok)
        batch_pad(b, r);
    for (uint32_t i = 0; i < N_SEQ; i++)
        if (b->done[i] < c->len[i] || b->n_tok)
            return true;
    return false;
}

/* A window of w never looks at more than w + 1 blocks back: what is before may be given away. */
static void forget_blocks(struct batch *b, const struct scene *c)
{
    for (uint32_t i = 0; c->s.window && i < N_SEQ; i++)
        for (uint32_t k = 0; (k + 1) * c->s.block_size + c->s.window <= b->done[i] + 1; k++)
            b->table[i * TABLE_COLS + k] = 0xf1f1f1f1;
}

static struct step step_on(struct device *d, const struct batch *b)
{
    struct step s = b->step;
    s.pos = on(d, b->pos, s.n_tok * sizeof *b->pos);
    s.slot = on(d, b->slot, s.n_tok * sizeof *b->slot);
    s.seq_start = on(d, b->seq_start, (s.n_seq + 1) * sizeof *b->seq_start);
    s.kv_len = on(d, b->kv_len, s.n_seq * sizeof *b->kv_len);
    s.table_row = on(d, b->table_row, s.n_seq * sizeof *b->table_row);
    s.block_table = on(d, b->table, sizeof b->table);
    return s;
}

static void step_run(struct device *d, const struct scene *c, struct kv *kv, uint32_t layer, struct batch *b, struct tensor *out)
{
    const struct shape *s = &c->s;
    uint32_t n = b->step.n_tok;
    struct tensor qkv = tensor_new(n, qkv_cols(s), s->dtype), q = tensor_new(n, s->n_head * s->d_head, s->dtype);
    struct tensor y = tensor_new(n, s->n_head * s->d_head, s->y_dtype);
    size_t in = tensor_size(&qkv) / n, row = tensor_size(&y) / n;
    for (uint32_t t = 0; t < n; t++)
        memcpy((char *)qkv.data + t * in, (char *)c->qkv.data + b->from[t] * in, in);
    struct step step = step_on(d, b);
    struct tensor q_on = tensor_on(d, &q);
    d->ops->rope_store(d, &(struct rope_store){
        .qkv = tensor_on(d, &qkv), .n_head = s->n_head, .q_norm = s->qk_norm ? on(d, c->q_norm, s->d_head * sizeof(float)) : NULL,
        .k_norm = s->qk_norm ? on(d, c->k_norm, s->d_head * sizeof(float)) : NULL, .eps = 1e-6f,
        .rope = on(d, c->rope, (size_t)MOST_LEN * s->d_rot * sizeof(float)), .d_rot = s->d_rot, .kv = kv, .layer = layer, .step = &step,
        .q = q_on });
    d->ops->attention(d, &(struct attention){
        .q = q_on, .kv = kv, .layer = layer, .step = &step, .scale = 1 / sqrtf((float)s->d_head), .softcap = s->softcap,
        .window = s->window, .sinks = s->sinks ? on(d, c->sinks, s->n_head * sizeof(float)) : NULL, .y = tensor_on(d, &y) });
    back(d);
    for (uint32_t t = 0; t < b->n_tok; t++)
        memcpy((char *)out->data + b->from[t] * row, (char *)y.data + t * row, row);
    free(qkv.data);
    free(q.data);
    free(y.data);
}

static struct tensor scene_run(struct device *d, const struct scene *c, uint64_t seed, enum pieces plan)
{
    struct kv_shape shape = { .n_layer = 2, .n_block = N_BLOCK, .block_size = c->s.block_size, .n_kv_head = c->s.n_kv_head,
                              .d_head = c->s.d_head, .dtype = c->s.kv_dtype };
    struct kv *kv = d->ops->kv_open(d, &shape);
    struct tensor out = tensor_new(c->n_row, c->s.n_head * c->s.d_head, c->s.y_dtype);
    struct batch *b = mem_alloc(sizeof *b);
    struct rng r;
    rng_init(&r, seed);
    kv_spoil(d, kv);
    batch_init(b, &r);
    while (batch_fill(b, c, &r, plan))
        if (b->n_tok) {
            step_run(d, c, kv, 1, b, &out);
            forget_blocks(b, c);
        }
    d->ops->kv_close(d, kv);
    free(b);
    return out;
}

/* x[d] = a head of a scene's row as it is stored: normed, rotated, rounded. */
static void head_want(const struct scene *c, uint32_t row, uint32_t pos, uint32_t head, const float *norm, bool rotate, double *x)
{
    uint32_t d = c->s.d_head, half = c->s.d_rot / 2;
    double sum = 0, old[MOST_HEAD];
    for (uint32_t i = 0; i < d; i++) {
        x[i] = get(&c->qkv, (size_t)row * qkv_cols(&c->s) + head * d + i);
        sum += x[i] * x[i];
    }
    for (uint32_t i = 0; norm && i < d; i++)
        x[i] *= (double)norm[i] / sqrt(sum / d + 1e-6);
    memcpy(old, x, d * sizeof *x);
    for (uint32_t i = 0; rotate && i < half; i++) {
        double cosine = (double)c->rope[pos * 2 * half + i], sine = (double)c->rope[pos * 2 * half + half + i];
        x[i] = old[i] * cosine - old[half + i] * sine;
        x[half + i] = old[half + i] * cosine + old[i] * sine;
    }
    enum dtype type = head < c->s.n_head ? c->s.dtype : c->s.kv_dtype;
    for (uint32_t i = 0; type != DTYPE_F32 && i < d; i++)
        x[i] = type == DTYPE_E4M3 ? e4m3_round(x[i]) : (double)bf16_to_f32(bf16_from_f32((float)x[i]));
}

static void attend_want(const struct scene *c, const double *q, const double *k, const double *v, uint32_t pos, uint32_t head, double *y)
{
    uint32_t d = c->s.d_head, first = c->s.window && pos >= c->s.window ? pos + 1 - c->s.window : 0;
    double total = c->s.sinks ? exp((double)c->sinks[head]) : 0;
    memset(y, 0, d * sizeof *y);
    for (uint32_t p = first; p <= pos; p++) {
        double s = 0;
        for (uint32_t i = 0; i < d; i++)
            s += q[i] * k[p * d + i];
        s /= sqrt(d);
        double weight = exp(c->s.softcap > 0 ? (double)c->s.softcap * tanh(s / (double)c->s.softcap) : s);
        total += weight;
        for (uint32_t i = 0; i < d; i++)
            y[i] += weight * v[p * d + i];
    }
    for (uint32_t i = 0; i < d; i++)
        y[i] /= total;
}

/* The weights are bf16 where the values are. */
static void scene_check(const struct scene *c, const struct tensor *y)
{
    const struct shape *s = &c->s;
    uint32_t d = s->d_head;
    double *k = mem_array((size_t)MOST_LEN * d, sizeof *k), *v = mem_array((size_t)MOST_LEN * d, sizeof *v);
    double q[MOST_HEAD], want[MOST_HEAD];
    for (uint32_t seq = 0; seq < N_SEQ; seq++)
        for (uint32_t h = 0; h < s->n_head; h++) {
            uint32_t kv_head = s->n_head + h / (s->n_head / s->n_kv_head);
            for (uint32_t p = 0; p < c->len[seq]; p++) {
                head_want(c, c->row[seq] + p, p, kv_head, s->qk_norm ? c->k_norm : NULL, true, k + p * d);
                head_want(c, c->row[seq] + p, p, kv_head + s->n_kv_head, NULL, false, v + p * d);
                head_want(c, c->row[seq] + p, p, h, s->qk_norm ? c->q_norm : NULL, true, q);
                attend_want(c, q, k, v, p, h, want);
                for (uint32_t i = 0; i < d; i++)
                    close_to(get(y, ((size_t)(c->row[seq] + p) * s->n_head + h) * d + i), want[i], s->y_dtype,
                             s->dtype == DTYPE_BF16 ? 2500 : 10);
            }
        }
    free(k);
    free(v);
}

#endif

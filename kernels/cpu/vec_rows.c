/* vec_rows.c - what is done row by row and bound by memory: norm, gated activation, and rope with the KV write.
 * Each is one pass over its bytes; a row is short enough to be still in the first cache when it is read again. */
#include <math.h>

#include "kernels/cpu/kv.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/vec.h"

/* Row `row` of a tensor. */
SIMD void *row_of(const struct tensor *t, uint32_t row)
{
    return (char *)t->data + (size_t)row * t->cols * dtype_size(t->dtype);
}

/* The sum of squares, in four chains so that one need not wait for another; the order depends on d alone. */
SIMD float square_sum(const float *x, size_t d)
{
    vf sum[4] = { vf_set(0), vf_set(0), vf_set(0), vf_set(0) };
    size_t i = 0;
    for (; i + 4 * LANES <= d; i += 4 * LANES)
        for (int c = 0; c < 4; c++) {
            vf v = vf_load(x + i + c * LANES);
            sum[c] = vf_fma(v, v, sum[c]);
        }
    for (; i < d; i += LANES) {
        vf v = vf_load_as(x, DTYPE_F32, i, lanes_left(i, d));
        sum[0] = vf_fma(v, v, sum[0]);
    }
    return vf_total(vf_add(vf_add(sum[0], sum[1]), vf_add(sum[2], sum[3])));
}

SIMD void norm_row(const float *x, const float *w, float eps, size_t d, void *y, enum dtype type)
{
    vf inv = vf_set(1 / sqrtf(square_sum(x, d) / (float)d + eps));
    for (size_t i = 0; i < d; i += LANES) {
        uint32_t n = lanes_left(i, d);
        vf v = vf_mul(vf_load_as(x, DTYPE_F32, i, n), inv);
        vf_store_as(y, type, i, n, vf_mul(v, vf_load_as(w, DTYPE_F32, i, n)));
    }
}

static void norm(const struct norm *op, uint32_t from, uint32_t to)
{
    for (uint32_t r = from; r < to; r++)
        norm_row(row_of(&op->x, r), op->w, op->eps, op->x.cols, row_of(&op->y, r), op->y.dtype);
}

/* x / (1 + e^-x) */
SIMD vf silu(vf x)
{
    return vf_div(x, vf_add(vf_set(1), vf_exp(vf_sub(vf_set(0), x))));
}

/* x (1 + tanh(u)) / 2 = x / (1 + e^-2u), u = sqrt(2/pi) (x + 0.044715 x^3)   (Hendrycks & Gimpel 2016) */
SIMD vf gelu_tanh(vf x)
{
    const float root = 0.7978845608f;
    vf cubic = vf_fma(vf_mul(x, x), vf_set(-2 * root * 0.044715f), vf_set(-2 * root));
    return vf_div(x, vf_add(vf_set(1), vf_exp(vf_mul(x, cubic))));
}

static void act(const struct act *op, uint32_t from, uint32_t to)
{
    size_t d = op->y.cols;
    for (uint32_t r = from; r < to; r++) {
        const void *x = row_of(&op->x, r);
        void *y = row_of(&op->y, r);
        for (size_t i = 0; i < d; i += LANES) {
            uint32_t n = lanes_left(i, d);
            vf gate = vf_load_as(x, op->x.dtype, i, n), up = vf_load_as(x, op->x.dtype, d + i, n);
            vf f = op->kind == ACT_SILU ? silu(gate) : gelu_tanh(gate);
            vf_store_as(y, op->y.dtype, i, n, vf_mul(f, up));
        }
    }
}

/* x = the head at element `at` of the row, normed where there are weights and rotated. */
SIMD void rope_head(const struct rope_store *op, const void *row, size_t at, size_t d, const float *norm_w,
                    const float *angles, float *x)
{
    for (size_t i = 0; i < d; i += LANES)
        vf_store_as(x, DTYPE_F32, i, lanes_left(i, d), vf_load_as(row, op->qkv.dtype, at + i, lanes_left(i, d)));
    if (norm_w)
        norm_row(x, norm_w, op->eps, d, x, DTYPE_F32);
    size_t half = op->d_rot / 2;
    for (size_t i = 0; i < half; i += LANES) {
        uint32_t n = lanes_left(i, half);
        vf a = vf_load_as(x, DTYPE_F32, i, n), b = vf_load_as(x, DTYPE_F32, half + i, n);
        vf c = vf_load_as(angles, DTYPE_F32, i, n), s = vf_load_as(angles, DTYPE_F32, half + i, n);
        vf_store_as(x, DTYPE_F32, i, n, vf_sub(vf_mul(a, c), vf_mul(b, s)));
        vf_store_as(x, DTYPE_F32, half + i, n, vf_add(vf_mul(b, c), vf_mul(a, s)));
    }
}

/* x as elements of the type, packed in words; d is even. */
SIMD void pack_head(uint32_t *words, enum dtype type, const void *x, enum dtype from, size_t at, size_t d)
{
    for (size_t i = 0; i < d; i += LANES)
        vf_store_as(words, type, i, lanes_left(i, d), vf_load_as(x, from, at + i, lanes_left(i, d)));
}

SIMD void store_k(const struct kv *kv, struct kv_group g, uint32_t lane, const uint32_t *words)
{
    for (size_t i = 0; i < kv->shape.d_head / kv->per; i++)
        g.k[i * KV_GROUP + lane] = words[i];
}

/* Only this key's half of a word is written: another thread may be writing its neighbour's. */
SIMD void store_v(const struct kv *kv, struct kv_group g, uint32_t lane, const uint32_t *words)
{
    size_t d = kv->shape.d_head;
    if (kv->per == 1) {
        memcpy(g.v + lane * d, words, d * sizeof *words);
        return;
    }
    const char *from = (const char *)words;
    char *to = (char *)(g.v + lane / 2 * d) + lane % 2 * 2;
    for (size_t i = 0; i < d; i++)
        memcpy(to + 4 * i, from + 2 * i, 2);
}

SIMD void rope_token(const struct rope_store *op, uint32_t t)
{
    const struct kv *kv = op->kv;
    size_t d = kv->shape.d_head, n_kv = kv->shape.n_kv_head, n_head = op->n_head;
    const void *row = row_of(&op->qkv, t);
    const float *angles = op->rope + (size_t)op->step->pos[t] * op->d_rot;
    uint32_t slot = op->step->slot[t], block = slot / kv->shape.block_size, offset = slot % kv->shape.block_size;
    float x[KV_MAX_HEAD];
    uint32_t words[KV_MAX_HEAD];
    for (size_t h = 0; h < n_head; h++) {
        rope_head(op, row, h * d, d, op->q_norm, angles, x);
        for (size_t i = 0; i < d; i += LANES)
            vf_store_as(row_of(&op->q, t), op->q.dtype, h * d + i, lanes_left(i, d), vf_load_as(x, DTYPE_F32, i, lanes_left(i, d)));
    }
    for (size_t h = 0; h < n_kv; h++) {
        struct kv_group g = kv_group(kv, op->layer, block, (uint32_t)h, offset);
        rope_head(op, row, (n_head + h) * d, d, op->k_norm, angles, x);
        pack_head(words, kv->shape.dtype, x, DTYPE_F32, 0, d);
        store_k(kv, g, offset % KV_GROUP, words);
        pack_head(words, kv->shape.dtype, row, op->qkv.dtype, (n_head + n_kv + h) * d, d);
        store_v(kv, g, offset % KV_GROUP, words);
    }
}

static void rope_store(const struct rope_store *op, uint32_t from, uint32_t to)
{
    for (uint32_t t = from; t < to; t++)
        if (op->step->slot[t] != SLOT_NONE)
            rope_token(op, t);
}

VEC_TABLE(vec_rows) = { norm, act, rope_store };

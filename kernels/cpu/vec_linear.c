/* vec_linear.c - the passes around the products of linear.c, each bound by bytes in the first or second cache. */
#include "kernels/cpu/linear.h"
#include "kernels/cpu/simd.h"

static void widen_bf16(float *y, const uint16_t *x, size_t n)
{
    for (size_t i = 0; i < n; i += LANES) {
        uint32_t m = lanes_left(i, n);
        vf_store_as(y, DTYPE_F32, i, m, vf_load_as(x, DTYPE_BF16, i, m));
    }
}

static void narrow_bf16(uint16_t *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i += LANES) {
        uint32_t m = lanes_left(i, n);
        vf_store_as(y, DTYPE_BF16, i, m, vf_load_as(x, DTYPE_F32, i, m));
    }
}

static void widen_i8(float *y, const int8_t *x, size_t n)
{
    for (size_t i = 0; i < n; i += LANES) {
        int32_t whole[LANES];
        uint32_t m = lanes_left(i, n);
        int8_t byte[LANES] = { 0 };
        memcpy(byte, x + i, m);
        for (int k = 0; k < LANES; k++)
            whole[k] = byte[k];
        vf_store_as(y, DTYPE_F32, i, m, vf_of_int(vi_load((const uint32_t *)whole)));
    }
}

static float largest(const float *x, size_t n)
{
    vf max = vf_set(0);
    for (size_t i = 0; i < n; i += LANES) {
        vf v = vf_load_as(x, DTYPE_F32, i, lanes_left(i, n));
        max = vf_max(vf_bits(vi_and(vi_bits(v), vi_set(0x7fffffff))), max);
    }
    return vf_top(max);
}

static float quantise(uint8_t *q, const float *x, size_t n)
{
    float max = largest(x, n);
    vf inverse = vf_set(max > 0 ? 127 / max : 0);
    for (size_t i = 0; i < n; i += LANES) {
        uint32_t whole[LANES], m = lanes_left(i, n);
        uint8_t byte[LANES];
        vi_store(whole, vi_add(vi_of_float(vf_mul(vf_load_as(x, DTYPE_F32, i, m), inverse)), vi_set(128)));
        for (int k = 0; k < LANES; k++)
            byte[k] = (uint8_t)whole[k];
        memcpy(q + i, byte, m);
    }
    return max / 127;
}

/* Outputs i .. i+m-1 of a row; the tests of what there is are the same in every round. */
SIMD vf finished(const struct linear_block *b, uint32_t row, size_t i, uint32_t m)
{
    vf y = vf_load_as(b->c, DTYPE_F32, (size_t)row * b->c_cols + i, m);
    if (b->sum_w) {
        vi sum_w = vi_bits(vf_load_as(b->sum_w, DTYPE_F32, i, m));
        y = vf_of_int(vi_sub(vi_bits(y), vi_shl(sum_w, 7)));
    }
    if (b->scale_w)
        y = vf_mul(y, vf_mul(vf_load_as(b->scale_w, DTYPE_F32, i, m), vf_set(b->scale_x ? b->scale_x[row] : 1)));
    if (b->bias)
        y = vf_add(y, vf_load_as(b->bias, DTYPE_F32, i, m));
    if (b->residual)
        y = vf_add(y, vf_load_as(b->residual, DTYPE_F32, (size_t)row * b->y_cols + i, m));
    return y;
}

static void finish(const struct linear_block *block)
{
    const struct linear_block b = *block;      /* a copy: what is written through y cannot change it */
    for (uint32_t row = 0; row < b.n_row; row++)
        for (size_t i = 0; i < b.n_col; i += LANES) {
            uint32_t m = lanes_left(i, b.n_col);
            vf_store_as(b.y, b.y_dtype, (size_t)row * b.y_cols + i, m, finished(&b, row, i, m));
        }
}

VEC_TABLE(vec_linear) = {
    .widen_bf16 = widen_bf16,
    .widen_i8 = widen_i8,
    .narrow_bf16 = narrow_bf16,
    .quantise = quantise,
    .finish = finish,
};

/* rows.cu - embed, norm, quantise, act and gather: row by row, and bound by memory, one read and one write of each element.
 *
 * A thread does eight neighbouring elements at a time.  norm reads its row twice, the second time from the first cache; the
 * order of its sum depends on the width alone.  quantise does the same. */
#include "base/err.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/prim.h"
#include "kernels/cuda/vec8.h"

#define LOG2_E 0x1.715476p+0f
#define E4M3_MOST 448.0f
#define LEAST 0x1p-126f        /* normal f32: its inverse is finite */

enum { N_THREAD = 128, N_WARP = N_THREAD / 32, WARP_WIDTH = 1024 };

/* Row r's elements on n_thread threads, of which this is the one number i: eight at 8 i, then at 8 (i + n_thread), ... */
#define EACH_EIGHT(at, i, n_thread, cols) for (uint32_t at = 8 * (i); at < (cols); at += 8 * (n_thread))

/* x [n_tok, d_model] f32 = scale * table[ids], bf16 or e4m3 */
static __global__ void __launch_bounds__(N_THREAD)
embed_kernel(float *y, const int32_t *ids, const int32_t *prev, struct weight table, float scale)
{
    int32_t given = ids[blockIdx.x];
    uint32_t id = (uint32_t)(given < 0 ? prev[~given] : given), d = table.n_in;
    if (table.scale)
        scale *= table.scale[id];
    EACH_EIGHT(i, threadIdx.x, N_THREAD, d) {
        float v[8];
        load8(v, table.data, table.dtype, (size_t)id * d + i, left8(i, d));
        UNROLL for (int k = 0; k < 8; k++)
            v[k] *= scale;
        store8(y, DTYPE_F32, (size_t)blockIdx.x * d + i, left8(i, d), v);
    }
}

cudaError_t cuda_embed(struct cuda_device *d, const struct embed *op)
{
    CHECK(op->table->dtype == DTYPE_BF16 || op->table->dtype == DTYPE_E4M3);
    CHECK(op->y.dtype == DTYPE_F32 && op->y.cols == op->table->n_in);
    if (!op->y.rows)
        return cudaSuccess;
    return prim_launch(embed_kernel, op->y.rows, N_THREAD, 0, d->stream, (float *)op->y.data, op->ids, op->prev, *op->table, op->scale);
}

/* x [n, d] f32 -> y [n, d] f32 or bf16; a warp a row up to WARP_WIDTH elements, then a block.  y may be x: a thread reads
 * again what it alone writes. */
template <bool WARP> static __global__ void __launch_bounds__(N_THREAD) norm_kernel(struct norm op)
{
    SHARED(float, part, 32);
    uint32_t row = WARP ? blockIdx.x * N_WARP + warp_id() : blockIdx.x, d = op.x.cols;
    uint32_t thread = WARP ? lane_id() : threadIdx.x, n_thread = WARP ? 32 : N_THREAD;
    if (row >= op.x.rows)
        return;
    size_t at = (size_t)row * d;
    float v[8], w[8], sum = 0;
    EACH_EIGHT(i, thread, n_thread, d) {
        load8(v, op.x.data, DTYPE_F32, at + i, left8(i, d));
        sum += square_sum8(v);
    }
    float inv = inverse_root(WARP ? warp_sum(sum) : block_sum(sum, part), d, op.eps);
    EACH_EIGHT(i, thread, n_thread, d) {
        load8(v, op.x.data, DTYPE_F32, at + i, left8(i, d));
        load8(w, op.w, DTYPE_F32, i, left8(i, d));
        UNROLL for (int k = 0; k < 8; k++)
            v[k] = v[k] * inv * w[k];
        store8(op.y.data, op.y.dtype, at + i, left8(i, d), v);
    }
}

cudaError_t cuda_norm(struct cuda_device *d, const struct norm *op)
{
    CHECK(op->x.dtype == DTYPE_F32 && is_float(&op->y));
    CHECK(op->y.rows == op->x.rows && op->y.cols == op->x.cols);
    if (!op->x.rows)
        return cudaSuccess;
    if (op->x.cols <= WARP_WIDTH)
        return prim_launch(norm_kernel<true>, (op->x.rows + N_WARP - 1) / N_WARP, N_THREAD, 0, d->stream, *op);
    return prim_launch(norm_kernel<false>, op->x.rows, N_THREAD, 0, d->stream, *op);
}

/* x [n, d] bf16 or f32 -> y [n, d] e4m3 and scale [n]: y = x / scale, scale = max |x| / 448; rows as in norm. */
template <bool WARP> static __global__ void __launch_bounds__(N_THREAD) quantise_kernel(struct tensor x, uint8_t *y, float *scale)
{
    SHARED(float, part, 32);
    uint32_t row = WARP ? blockIdx.x * N_WARP + warp_id() : blockIdx.x, d = x.cols;
    uint32_t thread = WARP ? lane_id() : threadIdx.x, n_thread = WARP ? 32 : N_THREAD;
    if (row >= x.rows)
        return;
    size_t at = (size_t)row * d;
    float v[8], most = 0;
    EACH_EIGHT(i, thread, n_thread, d) {
        load8(v, x.data, x.dtype, at + i, left8(i, d));
        UNROLL for (int k = 0; k < 8; k++)
            most = fmaxf(most, fabsf(v[k]));
    }
    float step = fmaxf(div_rn(WARP ? warp_max(most) : block_max(most, part), E4M3_MOST), LEAST), inv = div_rn(1, step);
    EACH_EIGHT(i, thread, n_thread, d) {
        load8(v, x.data, x.dtype, at + i, left8(i, d));
        UNROLL for (int k = 0; k < 8; k++)
            v[k] = mul_rn(v[k], inv);
        store8(y, DTYPE_E4M3, at + i, left8(i, d), v);
    }
    if (thread == 0)
        scale[row] = step;
}

cudaError_t cuda_quantise(struct cuda_device *d, const struct tensor *x, uint8_t *y, float *scale)
{
    CHECK(is_float(x));
    if (!x->rows)
        return cudaSuccess;
    if (x->cols <= WARP_WIDTH)
        return prim_launch(quantise_kernel<true>, (x->rows + N_WARP - 1) / N_WARP, N_THREAD, 0, d->stream, *x, y, scale);
    return prim_launch(quantise_kernel<false>, x->rows, N_THREAD, 0, d->stream, *x, y, scale);
}

/* x / (1 + e^-x) */
DEVICE float silu(float x)
{
    return x * rcp_fast(1 + exp2_fast(-LOG2_E * x));
}

/* x (1 + tanh(u)) / 2 = x / (1 + e^-2u), u = sqrt(2/pi) (x + 0.044715 x^3)   (Hendrycks & Gimpel 2016) */
DEVICE float gelu_tanh(float x)
{
    const float root = 0.7978845608f;
    return x * rcp_fast(1 + exp2_fast(LOG2_E * x * fma_rn(x * x, -2 * root * 0.044715f, -2 * root)));
}

/* x [n, 2 d], rows [gate | up] -> y [n, d]; f32 or bf16.  Block (r, c): row r, the c-th 8 N_THREAD columns. */
static __global__ void __launch_bounds__(N_THREAD) act_kernel(struct act op)
{
    uint32_t d = op.y.cols, i = 8 * (blockIdx.y * N_THREAD + threadIdx.x), n = left8(i, d);
    size_t row = blockIdx.x;
    float gate[8], up[8];
    if (!n)
        return;
    load8(gate, op.x.data, op.x.dtype, row * 2 * d + i, n);
    load8(up, op.x.data, op.x.dtype, row * 2 * d + d + i, n);
    UNROLL for (int k = 0; k < 8; k++)
        gate[k] = (op.kind == ACT_SILU ? silu(gate[k]) : gelu_tanh(gate[k])) * up[k];
    store8(op.y.data, op.y.dtype, row * d + i, n, gate);
}

cudaError_t cuda_act(struct cuda_device *d, const struct act *op)
{
    CHECK(is_float(&op->x) && is_float(&op->y));
    CHECK(op->y.rows == op->x.rows && 2 * (size_t)op->y.cols == op->x.cols);
    if (!op->y.rows)
        return cudaSuccess;
    dim3 grid(op->y.rows, (op->y.cols + 8 * N_THREAD - 1) / (8 * N_THREAD));
    return prim_launch(act_kernel, grid, N_THREAD, 0, d->stream, *op);
}

/* y[r] = x[rows[r]], rows of `size` bytes, which are a multiple of UNIT: 16 where they and both addresses are, or 2. */
template <uint32_t UNIT> static __global__ void __launch_bounds__(N_THREAD) gather_kernel(char *y, const char *x, const uint32_t *rows, size_t size)
{
    const char *from = x + rows[blockIdx.x] * size;
    char *to = y + blockIdx.x * size;
    for (size_t i = (size_t)threadIdx.x * UNIT; i < size; i += N_THREAD * UNIT)
        if (UNIT == 16)
            store16(to + i, load16_readonly(from + i));
        else
            *(uint16_t *)(to + i) = *(const uint16_t *)(from + i);
}

cudaError_t cuda_gather(struct cuda_device *d, const struct gather *op)
{
    CHECK(op->x.dtype == op->y.dtype && is_float(&op->x) && op->x.cols == op->y.cols);
    size_t size = op->x.cols * (op->x.dtype == DTYPE_F32 ? (size_t)4 : 2);
    if (!op->y.rows)
        return cudaSuccess;
    bool by16 = (size | (uintptr_t)op->x.data | (uintptr_t)op->y.data) % 16 == 0;
    return prim_launch(by16 ? gather_kernel<16> : gather_kernel<2>, op->y.rows, N_THREAD, 0, d->stream, (char *)op->y.data,
                       (const char *)op->x.data, op->rows, size);
}

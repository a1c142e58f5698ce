/* rope.cu - the heads of qkv on their way to attention: q and k normed and rotated, q out, k and v into the KV memory.
 *
 * qkv [n_tok, (n_head + 2 n_kv_head) d_head] -> q [n_tok, n_head d_head] and the KV slots of the tokens, bf16 or e4m3.  Bound:
 * memory, one read and one write of each element; a warp a head of a token, whose partners meet in shared memory. */
#include "base/err.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/prim.h"
#include "kernels/cuda/vec8.h"

enum { N_THREAD = 128, N_WARP = N_THREAD / 32, MOST_HEAD = 256 };      /* MOST_HEAD: eight elements a lane */

/* cosine and sine for the elements i .. i+7 of a head and the elements that they are rotated with, of x in shared memory;
 * all of it within the d_rot first. */
DEVICE void partners8(float other[8], float cosine[8], float sine[8], const float *x, const float *angles, uint32_t i, uint32_t half)
{
    if (half % 8 == 0) {
        uint32_t k = i < half ? i : i - half;
        load8(other, x, DTYPE_F32, i < half ? i + half : k, 8);
        load8(cosine, angles, DTYPE_F32, k, 8);
        load8(sine, angles, DTYPE_F32, half + k, 8);
        return;
    }
    UNROLL for (uint32_t c = 0; c < 8; c++) {
        uint32_t e = i + c, k = e < half ? e : e - half;
        bool in = e < 2 * half;
        other[c] = in ? x[e < half ? e + half : k] : 0;
        cosine[c] = in ? angles[k] : 1;
        sine[c] = in ? angles[half + k] : 0;
    }
}

/* x: of the warp, [MOST_HEAD] */
DEVICE void rotate(float v[8], float *x, const float *angles, uint32_t half)
{
    uint32_t i = 8 * lane_id();
    store8(x, DTYPE_F32, i, 8, v);
    warp_sync();
    if (i >= 2 * half)
        return;
    float other[8], cosine[8], sine[8];
    partners8(other, cosine, sine, x, angles, i, half);
    UNROLL for (uint32_t c = 0; c < 8; c++)
        v[c] = v[c] * cosine[c] + (i + c < half ? -other[c] : other[c]) * sine[c];
}

static __global__ void __launch_bounds__(N_THREAD) rope_store_kernel(struct rope_store op, struct kv kv, const uint32_t *pos,
                                                                     const uint32_t *slot)
{
    SHARED(float, heads, N_WARP * MOST_HEAD);
    uint32_t n_head = op.n_head, n_kv = kv.shape.n_kv_head, d = kv.shape.d_head;
    uint32_t job = blockIdx.x * N_WARP + warp_id(), t = job / (n_head + 2 * n_kv), h = job % (n_head + 2 * n_kv);
    uint32_t i = 8 * lane_id(), n = left8(i, d);
    if (t >= op.qkv.rows || slot[t] == SLOT_NONE)
        return;
    float v[8], w[8];
    load8(v, op.qkv.data, op.qkv.dtype, (size_t)t * op.qkv.cols + h * d + i, n);
    const float *norm = h < n_head ? op.q_norm : h < n_head + n_kv ? op.k_norm : nullptr;
    if (norm) {
        float inv = inverse_root(warp_sum(square_sum8(v)), d, op.eps);
        load8(w, norm, DTYPE_F32, i, n);
        UNROLL for (uint32_t c = 0; c < 8; c++)
            v[c] = v[c] * inv * w[c];
    }
    if (h < n_head + n_kv)
        rotate(v, heads + warp_id() * MOST_HEAD, op.rope + (size_t)pos[t] * op.d_rot, op.d_rot / 2);
    if (h < n_head) {
        store8(op.q.data, op.q.dtype, (size_t)t * op.q.cols + h * d + i, n, v);
        return;
    }
    bool is_v = h >= n_head + n_kv;
    uint32_t block = slot[t] / kv.shape.block_size, offset = slot[t] % kv.shape.block_size;
    char *head = kv_head_at(&kv, op.layer, block, h - n_head - (is_v ? n_kv : 0)) + (is_v ? kv.head_size : 0);
    store8(head, kv.shape.dtype, (size_t)offset * d + i, n, v);
}

cudaError_t cuda_rope_store(struct cuda_device *d, const struct rope_store *op)
{
    const struct kv_shape *s = &op->kv->shape;
    CHECK(is_float(&op->qkv) && is_float(&op->q) && (s->dtype == DTYPE_BF16 || s->dtype == DTYPE_E4M3));
    CHECK(op->qkv.rows == op->step->n_tok && op->q.rows == op->step->n_tok);
    CHECK(op->qkv.cols == (op->n_head + 2 * s->n_kv_head) * s->d_head && op->q.cols == op->n_head * s->d_head);
    CHECK(s->d_head <= MOST_HEAD && op->d_rot <= s->d_head && op->d_rot % 2 == 0 && op->layer < s->n_layer);
    uint32_t n_job = op->qkv.rows * (op->n_head + 2 * s->n_kv_head);
    if (!n_job)
        return cudaSuccess;
    return prim_launch(rope_store_kernel, (n_job + N_WARP - 1) / N_WARP, N_THREAD, 0, d->stream, *op, *op->kv, op->step->pos,
                       op->step->slot);
}

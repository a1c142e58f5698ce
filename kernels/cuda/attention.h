/* attention.h - what prefill.cu and decode.cu share: the job, which sequence a unit of work falls on, tiles of keys and values
 * in shared memory and their fragments, and the softmax of a row of scores.
 *
 * Templates take D, the d_head that a kernel has room for (what is beyond d_head is zero), and E, the bytes of an element of
 * the KV memory: 2 for bf16, 1 for e4m3, which becomes bf16 on its way into the tensor cores.  g and t are prim.h's. */
#ifndef KERNELS_CUDA_ATTENTION_H
#define KERNELS_CUDA_ATTENTION_H

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/prim.h"

#define LOG2_E    0x1.715476p+0f
#define FAR_BELOW (-1e30f)     /* a first maximum that any score beats, and that exp2 can subtract from itself */

#define CONSTANT static __host__ __device__ constexpr inline    /* a function of template arguments, or of sizes on either side */

enum { KV_GROUP = 16 };        /* keys that always lie in one block, one behind the other */

/* The maximum and the sum of some weights of a row, which go with their weighted values. */
struct attention_part { float top, sum; };

struct attention_job {
    struct attention op;
    struct kv kv;
    struct step step;
    uint32_t n_head, n_group_head;         /* query heads, and those of a KV head */
    float factor, cap;                     /* base 2: s = factor q.k, or cap tanh(x) where e^2x = 2^(factor q.k) */
    uint32_t prefill_least;                /* tokens of a sequence that is prefill.cu's: 2 or more, or 1 where decode.cu has none */
    uint32_t max_split;
    struct attention_part *part;           /* [n_seq, n_head, max_split]; decode.cu */
    float *acc;                            /* [n_seq, n_head, max_split, d_head] */
};

/* Splits of a sequence that there may be at most; scratch has room for them. */
uint32_t    decode_max_split(const struct attention *op);
cudaError_t cuda_decode(struct cuda_device *d, const struct attention_job *j);     /* sequences with one token */
cudaError_t cuda_prefill(struct cuda_device *d, const struct attention_job *j);    /* those with prefill_least or more */

DEVICE uint32_t tokens_of(const struct attention_job &j, uint32_t seq)
{
    return j.step.seq_start[seq + 1] - j.step.seq_start[seq];
}

/* The first position that is seen from pos. */
DEVICE uint32_t first_seen(const struct attention_job &j, uint32_t pos)
{
    return j.op.window && pos >= j.op.window ? pos + 1 - j.op.window : 0;
}

/* ---- units of work, numbered through the sequences; only the device knows how many a sequence has ---- */

struct walk { uint32_t seq, unit; };       /* `unit` units stand before sequence `seq`; zeroed: the beginning */

/* In every lane: the sequence on which unit number `unit` falls, and which of the sequence's units it is; false past the
 * last.  Numbers asked for one after the other rise. */
template <uint32_t (*COUNT)(const struct attention_job &, uint32_t seq)>
DEVICE bool walk_to(struct walk *w, const struct attention_job &j, uint32_t unit, uint32_t *seq, uint32_t *at)
{
    enum { EACH = 4 };                     /* sequences a lane counts */
    for (; w->seq < j.step.n_seq; w->seq += 32 * EACH) {
        uint32_t first = w->seq + lane_id() * EACH, n[EACH], end = 0;
        UNROLL for (uint32_t k = 0; k < EACH; k++) {
            n[k] = first + k < j.step.n_seq ? COUNT(j, first + k) : 0;
            end += n[k];
        }
        uint32_t mine = end;
        UNROLL for (uint32_t step = 1; step < 32; step *= 2) {
            uint32_t before = warp_shuffle_up(end, step);
            end += lane_id() >= step ? before : 0;
        }
        uint32_t all = warp_shuffle(end, 31), which = unit - w->unit;
        if (which < all) {
            uint32_t lane = count_ones(warp_ballot(end <= which)), left = which - (end - mine), k = 0;
            UNROLL for (uint32_t i = 0; i + 1 < EACH; i++)
                if (k == i && left >= n[i]) {
                    left -= n[i];
                    k++;
                }
            *seq = warp_shuffle(first + k, lane);
            *at = warp_shuffle(left, lane);
            return true;
        }
        w->unit += all;
    }
    return false;
}

/* ---- tiles: rows of CHUNKS times 16 bytes, laid so that 8 rows at one chunk are in different banks ---- */

CONSTANT uint32_t tile_stride(uint32_t chunks)
{
    return chunks % 8 ? chunks | 1 : chunks;
}

template <uint32_t CHUNKS> DEVICE uint4 *tile_at(uint4 *tile, uint32_t row, uint32_t chunk)
{
    return tile + row * tile_stride(CHUNKS) + (CHUNKS % 8 ? chunk : chunk ^ row % 8);
}

/* Where this lane's row of 16 starts for ldmatrix, at chunk 0 or 1, and the same 2 step chunks on; with stride and row of 8, all
 * that is between them is an exclusive or. */
template <uint32_t CHUNKS> DEVICE uint4 *matrix_at(uint4 *tile, uint32_t row, uint32_t step)
{
    uint32_t lane = lane_id(), at = lane % 16 * tile_stride(CHUNKS);
    at = CHUNKS % 8 ? at + lane / 16 + 2 * step : (at + (lane / 16 ^ lane % 8)) ^ 2 * step;
    return tile + at + row * tile_stride(CHUNKS);
}

/* Copies keys or values key .. key+15 of a KV head in a block to tile rows row .. row+15 by one warp; zeros for those outside
 * of [first, end), which are never read.  from: of key key. */
template <uint32_t D, uint32_t E>
DEVICE void tile_load(uint4 *tile, uint32_t row, const char *from, uint32_t d_head, uint32_t key, uint32_t first, uint32_t end)
{
    constexpr uint32_t CHUNKS = D * E / 16;
    uint32_t n_chunk = d_head * E / 16;
    for (uint32_t i = lane_id(); i < KV_GROUP * CHUNKS; i += 32) {         /* not unrolled: the addresses would fill the registers */
        uint32_t k = i / CHUNKS, chunk = i % CHUNKS;
        bool there = key + k >= first && key + k < end && chunk < n_chunk;
        cp_async16(tile_at<CHUNKS>(tile, row + k, chunk), from + (there ? (k * n_chunk + chunk) * 16 : 0), there ? 16 : 0);
    }
}

/* Which group of 16 keys holds key, in the KV memory: its block, if any of the group lies in [first, end); other entries of
 * the table are not looked at. */
DEVICE uint32_t group_block(const struct attention_job &j, const uint32_t *table, uint32_t key, uint32_t first, uint32_t end)
{
    return key + KV_GROUP > first && key < end ? table[key / j.kv.shape.block_size] : 0;
}

template <uint32_t E> DEVICE const char *group_at(const struct attention_job &j, uint32_t block, uint32_t kv_head, uint32_t key)
{
    return kv_head_at(&j.kv, j.op.layer, block, kv_head) + key % j.kv.shape.block_size * j.kv.shape.d_head * E;
}

/* ---- fragments ---- */

/* Of 16 dimensions a lane holds two pairs of neighbours; pair i begins here.  Where a word has four e4m3, the dimensions go
 * through the tensor cores in another order, the same for queries and keys. */
template <uint32_t E> DEVICE uint32_t pair_at(uint32_t i)
{
    return E == 2 ? 8 * i + lane_id() % 4 * 2 : lane_id() % 4 * 4 + 2 * i;
}

DEVICE uint32_t bf16x2_of_e4m3x2(uint32_t u)
{
    float2 v = e4m3x2_unpack((uint16_t)u);
    return bf16x2_pack(v.x, v.y);
}

/* b of the products with keys row .. row+7 (b[0], b[1]) and row+8 .. row+15, dimensions 16 step .. */
template <uint32_t D, uint32_t E> DEVICE void key_fragment(uint32_t b[4], uint4 *tile, uint32_t row, uint32_t step)
{
    constexpr uint32_t CHUNKS = D * E / 16;
    uint32_t lane = lane_id();
    if constexpr (E == 2) {
        uint32_t r[4];
        ldmatrix_x4(r, matrix_at<CHUNKS>(tile, row, step));
        b[0] = r[0], b[1] = r[2], b[2] = r[1], b[3] = r[3];
    } else {
        UNROLL for (uint32_t i = 0; i < 2; i++) {
            uint32_t word = ((const uint32_t *)tile_at<CHUNKS>(tile, row + 8 * i + lane / 4, step))[lane % 4];
            b[2 * i] = bf16x2_of_e4m3x2(word & 0xffff);
            b[2 * i + 1] = bf16x2_of_e4m3x2(word >> 16);
        }
    }
}

/* b of the products of the weights of keys row .. row+15 with their values, two tiles of 8 dimensions from 16 step on: in
 * order, or the even ones and the odd ones of e4m3. */
template <uint32_t D, uint32_t E> DEVICE void value_fragment(uint32_t b[4], uint4 *tile, uint32_t row, uint32_t step)
{
    constexpr uint32_t CHUNKS = D * E / 16;
    uint32_t lane = lane_id();
    if constexpr (E == 2) {
        ldmatrix_x4_trans(b, matrix_at<CHUNKS>(tile, row, step));
    } else {
        UNROLL for (uint32_t i = 0; i < 2; i++) {
            uint32_t key = row + 8 * i + lane % 4 * 2;
            uint32_t lo = ((const uint16_t *)tile_at<CHUNKS>(tile, key, step))[lane / 4];
            uint32_t hi = ((const uint16_t *)tile_at<CHUNKS>(tile, key + 1, step))[lane / 4];
            b[i] = bf16x2_of_e4m3x2((lo & 0xff) | (hi & 0xff) << 8);
            b[2 + i] = bf16x2_of_e4m3x2(lo >> 8 | (hi & 0xff00));
        }
    }
}

/* From what value_fragment's two tiles became, a and b: row g (half 0) or g+8 (half 1), pair i. */
template <uint32_t E> DEVICE float2 value_pair(const float a[4], const float b[4], uint32_t half, uint32_t i)
{
    if constexpr (E == 2)
        return i ? float2{b[2 * half], b[2 * half + 1]} : float2{a[2 * half], a[2 * half + 1]};
    return float2{a[2 * half + i], b[2 * half + i]};
}

/* ---- the softmax (Milakov & Gimelshein 2018), in base 2.  What must be the same in every way to a row is rounded by name. ---- */

/* Scores from dot products. */
template <uint32_t N> DEVICE void scores_of(const struct attention_job &j, float s[N][4])
{
    if (j.cap > 0) {                       /* tanh x = 1 - 2 / (e^2x + 1) */
        UNROLL for (uint32_t n = 0; n < 4 * N; n++) {
            float e = exp2_fast(mul_rn(s[n / 4][n % 4], j.factor));
            s[n / 4][n % 4] = mul_rn(j.cap, fma_rn(-2, rcp_fast(add_rn(e, 1)), 1));
        }
    } else {
        UNROLL for (uint32_t n = 0; n < 4 * N; n++)
            s[n / 4][n % 4] = mul_rn(s[n / 4][n % 4], j.factor);
    }
}

DEVICE float quad_max(float v)
{
    v = max(v, warp_shuffle_xor(v, 1));
    return max(v, warp_shuffle_xor(v, 2));
}

DEVICE float quad_sum(float v)
{
    v = add_rn(v, warp_shuffle_xor(v, 1));
    return add_rn(v, warp_shuffle_xor(v, 2));
}

/* Scores of N tiles of 8 keys become weights: p[][half] as pairs of bf16, for row g + 8 half.  Takes them into the row's part,
 * whose sum is this lane's share, and returns what the older values are to be multiplied by.  The sum is of the weights as
 * they are rounded, so that their average stays an average. */
template <uint32_t N> DEVICE float row_weigh(const float s[N][4], uint32_t half, struct attention_part *row, uint32_t p[N][2])
{
    float top = row->top;
    UNROLL for (uint32_t n = 0; n < N; n++)
        top = max(top, max(s[n][2 * half], s[n][2 * half + 1]));
    top = quad_max(top);
    float fade = exp2_fast(sub_rn(row->top, top)), sum = mul_rn(row->sum, fade);
    UNROLL for (uint32_t n = 0; n < N; n++) {
        p[n][half] = bf16x2_pack(exp2_fast(sub_rn(s[n][2 * half], top)), exp2_fast(sub_rn(s[n][2 * half + 1], top)));
        float2 rounded = bf16x2_unpack(p[n][half]);
        sum = add_rn(sum, add_rn(rounded.x, rounded.y));
    }
    *row = {top, sum};
    return fade;
}

/* What a row has before its first key, in one lane of it: the sink, or nothing. */
DEVICE struct attention_part row_begin(const struct attention_job &j, uint32_t head)
{
    if (!j.op.sinks)
        return {FAR_BELOW, 0};
    return {mul_rn(j.op.sinks[head], LOG2_E), 1};
}

/* y of a token and head, two dimensions.  The + 0 makes one of both zeros: a masked key may have turned one into the other. */
DEVICE void store_y(const struct attention_job &j, uint32_t tok, uint32_t head, uint32_t dim, float2 v)
{
    size_t at = ((size_t)tok * j.n_head + head) * j.kv.shape.d_head + dim;
    if (dim >= j.kv.shape.d_head)
        return;
    v = {add_rn(v.x, 0), add_rn(v.y, 0)};
    if (j.op.y.dtype == DTYPE_F32)
        *(float2 *)((float *)j.op.y.data + at) = v;
    else
        *(uint32_t *)((uint16_t *)j.op.y.data + at) = bf16x2_pack(v.x, v.y);
}

/* ---- launch ---- */

/* f<D, E>(d, j) with room for the job's d_head. */
#define ATTENTION_BY_HEAD(f, E, d, j)                                                                       \
    ((j)->kv.shape.d_head <= 64 ? f<64, E>(d, j) : (j)->kv.shape.d_head <= 80 ? f<80, E>(d, j)              \
     : (j)->kv.shape.d_head <= 96 ? f<96, E>(d, j) : (j)->kv.shape.d_head <= 128 ? f<128, E>(d, j) : f<256, E>(d, j))

/* Blocks of n_warp warps that walk over up to n_unit units: as many as the device holds at a time. */
static inline cudaError_t attention_launch(struct cuda_device *d, void (*kernel)(struct attention_job), size_t n_unit, uint32_t n_warp,
                                           size_t shared, const struct attention_job *j)
{
    int per_sm = 0;
    cudaError_t e = prim_allow_shared(kernel, shared);
    if (e == cudaSuccess)
        e = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&per_sm, (const void *)kernel, (int)(32 * n_warp), shared);
    if (e != cudaSuccess)
        return e;
    size_t most = (size_t)d->n_sm * (size_t)(per_sm > 0 ? per_sm : 1);
    return prim_launch(kernel, dim3((uint32_t)(n_unit < most ? n_unit : most)), 32 * n_warp, shared, d->stream, *j);
}

#endif

/* decode.cu - attention of the sequences with one token in the step, split over their keys (Dao et al. 2023, Flash-Decoding).
 *
 * A unit is a KV head, up to 16 of its query heads, which are the rows of the tensor cores' tiles, and a split of the keys.
 * Each warp takes every fourth group of 16 keys (every second above d_head 128) with a ring of copies of its own; no barrier
 * stands in that loop.  Then the warps' parts are joined in shared memory, and where a sequence has several splits, these in
 * global memory by join_kernel.
 *
 * Sameness: how the keys are split and who takes which depends on kv_len and the window alone, so the bits of a token do not
 * depend on the batch.  They are not those that prefill.cu gives to the same token among others of its sequence.
 *
 * Bound: memory; K and V are read once, 4 d_head bytes a key and KV head in bf16; all stages of a ring but one are under way.
 * Registers, sm_90, room for d_head 64, 80, 96, 128, 256: bf16 132, 137, 139, 172, 254; e4m3 117, 128, 147, 165, 253. */
#include "kernels/cuda/attention.h"

/* Keys of a split; where there would be more than MAX_SPLIT of them, a multiple. */
enum { SPLIT_KEYS = 256, MAX_SPLIT = 16 };

CONSTANT uint32_t n_warp(uint32_t d)  { return d <= 128 ? 4 : 2; }
CONSTANT uint32_t n_stage(uint32_t e) { return 6 / e; }
CONSTANT uint32_t group_chunks(uint32_t d, uint32_t e) { return KV_GROUP * tile_stride(d * e / 16); }     /* 16 bytes each: K or V */
CONSTANT uint32_t ring_chunks(uint32_t d, uint32_t e)  { return n_stage(e) * 2 * group_chunks(d, e); }

CONSTANT uint32_t up_to(uint32_t n, uint32_t step)
{
    return (n + step - 1) / step;
}

uint32_t decode_max_split(const struct attention *op)
{
    uint32_t n = up_to(op->step->table_cols * op->kv->shape.block_size, SPLIT_KEYS);
    return n < MAX_SPLIT ? n : (uint32_t)MAX_SPLIT;
}

/* The n splits of a sequence: at begin, begin + size, ...; keys before `first` are not seen. */
struct splits { uint32_t first, begin, size, n; };

DEVICE struct splits splits_of(const struct attention_job &j, uint32_t seq)
{
    struct splits s;
    uint32_t len = j.step.kv_len[seq];
    s.first = first_seen(j, len - 1);
    s.begin = s.first / SPLIT_KEYS * SPLIT_KEYS;
    s.size = up_to(len - s.begin, SPLIT_KEYS * MAX_SPLIT) * SPLIT_KEYS;
    s.n = up_to(len - s.begin, s.size);
    return s;
}

DEVICE uint32_t n_row_tile(const struct attention_job &j)
{
    return up_to(j.n_group_head, 16);
}

DEVICE uint32_t n_unit(const struct attention_job &j, uint32_t seq)
{
    return tokens_of(j, seq) == 1 ? splits_of(j, seq).n * n_row_tile(j) * j.kv.shape.n_kv_head : 0;
}

/* head, n_row: query heads; first, end: keys; begin: of the split; split: which one of n_split. */
struct unit { uint32_t seq, kv_head, head, n_row, first, end, begin, split, n_split; };

DEVICE struct unit unit_of(const struct attention_job &j, uint32_t seq, uint32_t at)
{
    struct unit u;
    struct splits s = splits_of(j, seq);
    uint32_t n_tile = n_row_tile(j), tile = at / j.kv.shape.n_kv_head % n_tile;
    u.seq = seq;
    u.kv_head = at % j.kv.shape.n_kv_head;
    u.head = u.kv_head * j.n_group_head + tile * 16;
    u.n_row = min(16u, j.n_group_head - tile * 16);
    u.split = at / (j.kv.shape.n_kv_head * n_tile);
    u.n_split = s.n;
    u.begin = s.begin + u.split * s.size;
    u.first = max(s.first, u.begin);
    u.end = min(u.begin + s.size, j.step.kv_len[seq]);
    return u;
}

/* a of the unit's rows, from global memory; zero beyond them. */
template <uint32_t D, uint32_t E> DEVICE void load_queries(const struct attention_job &j, const struct unit &u, uint32_t a[D / 16][4])
{
    uint32_t d = j.kv.shape.d_head;
    const uint16_t *q = (const uint16_t *)j.op.q.data + ((size_t)j.step.seq_start[u.seq] * j.n_head + u.head) * d;
    UNROLL for (uint32_t step = 0; step < D / 16; step++)
        UNROLL for (uint32_t i = 0; i < 4; i++) {
            uint32_t row = lane_id() / 4 + i % 2 * 8, dim = 16 * step + pair_at<E>(i / 2);
            a[step][i] = row < u.n_row && dim < d ? *(const uint32_t *)(q + (size_t)row * d + dim) : 0;
        }
}

/* The blocks of a warp's next 32 groups, one a lane. */
template <uint32_t D> DEVICE uint32_t load_blocks(const struct attention_job &j, const struct unit &u, uint32_t key)
{
    const uint32_t *table = j.step.block_table + (size_t)j.step.table_row[u.seq] * j.step.table_cols;
    return group_block(j, table, key + lane_id() * n_warp(D) * KV_GROUP, u.first, u.end);
}

/* The 16 keys from `key` on for the rows. */
template <uint32_t D, uint32_t E>
DEVICE void group_step(const struct attention_job &j, const struct unit &u, const uint32_t q[D / 16][4], uint4 *tiles, uint32_t key,
                       struct attention_part part[2], float acc[D / 8][4])
{
    float s[2][4] = {}, fade[2];
    uint32_t p[2][2], b[4];
    UNROLL for (uint32_t step = 0; step < D / 16; step++) {
        key_fragment<D, E>(b, tiles, 0, step);
        mma_bf16(s[0], q[step], b);
        mma_bf16(s[1], q[step], b + 2);
    }
    scores_of<2>(j, s);
    UNROLL for (uint32_t n = 0; n < 2; n++)
        UNROLL for (uint32_t i = 0; i < 4; i++) {
            uint32_t k = key + 8 * n + lane_id() % 4 * 2 + i % 2;
            if (k < u.first || k >= u.end)
                s[n][i] = -INFINITY;
        }
    UNROLL for (uint32_t half = 0; half < 2; half++)
        fade[half] = row_weigh<2>(s, half, &part[half], p);
    if (!warp_all(fade[0] == 1 && fade[1] == 1))
        UNROLL for (uint32_t n = 0; n < D / 8; n++)
            UNROLL for (uint32_t i = 0; i < 4; i++)
                acc[n][i] *= fade[i / 2];
    uint32_t a[4] = {p[0][0], p[0][1], p[1][0], p[1][1]};
    UNROLL for (uint32_t step = 0; step < D / 16; step++) {
        value_fragment<D, E>(b, tiles + group_chunks(D, E), 0, step);
        mma_bf16(acc[2 * step], a, b);
        mma_bf16(acc[2 * step + 1], a, b + 2);
    }
}

/* The warp's groups of the unit, through its ring. */
template <uint32_t D, uint32_t E>
DEVICE void warp_run(const struct attention_job &j, const struct unit &u, const uint32_t q[D / 16][4], uint4 *ring,
                     struct attention_part part[2], float acc[D / 8][4])
{
    constexpr uint32_t STRIDE = n_warp(D) * KV_GROUP, N_STAGE = n_stage(E), STAGE = 2 * group_chunks(D, E);
    uint32_t begin = u.begin + (u.first - u.begin) / KV_GROUP * KV_GROUP + warp_id() * KV_GROUP;
    uint32_t n = u.end > begin ? up_to(u.end - begin, STRIDE) : 0, blocks = 0;
    for (uint32_t i = 0; i < n + N_STAGE - 1; i++) {               /* group i is asked for, group i - (N_STAGE - 1) is taken in */
        if (i >= N_STAGE - 1) {
            cp_async_wait<N_STAGE - 2>();
            warp_sync();                   /* the oldest is there for all lanes, and all are done with the one before */
        }
        if (i < n) {
            uint32_t key = begin + i * STRIDE;
            if (i % 32 == 0)
                blocks = load_blocks<D>(j, u, key);
            const char *k = group_at<E>(j, warp_shuffle(blocks, i % 32), u.kv_head, key);
            uint4 *to = ring + i % N_STAGE * STAGE;
            tile_load<D, E>(to, 0, k, j.kv.shape.d_head, key, u.first, u.end);
            tile_load<D, E>(to + group_chunks(D, E), 0, k + j.kv.head_size, j.kv.shape.d_head, key, u.first, u.end);
        }
        cp_async_commit();
        if (i >= N_STAGE - 1) {
            uint32_t old = i - (N_STAGE - 1);
            group_step<D, E>(j, u, q, ring + old % N_STAGE * STAGE, begin + old * STRIDE, part, acc);
        }
    }
    cp_async_wait<0>();
}

/* Joins n parts of a row, `step` apart, to `whole`; returns two dimensions of the joint sum of values. */
DEVICE float2 parts_join(const struct attention_part *part, const float *acc, uint32_t n, uint32_t step, uint32_t width,
                         struct attention_part *whole)
{
    float top = whole->top;
    for (uint32_t i = 0; i < n; i++)
        top = max(top, part[i * step].top);
    float sum = mul_rn(whole->sum, exp2_fast(sub_rn(whole->top, top)));
    float2 v = {0, 0};
    for (uint32_t i = 0; i < n; i++) {
        float fade = exp2_fast(sub_rn(part[i * step].top, top));
        float2 a = *(const float2 *)(acc + (size_t)i * step * width);
        sum = fma_rn(part[i * step].sum, fade, sum);
        v = {fma_rn(a.x, fade, v.x), fma_rn(a.y, fade, v.y)};
    }
    *whole = {top, sum};
    return v;
}

DEVICE size_t part_at(const struct attention_job &j, uint32_t seq, uint32_t head)
{
    return ((size_t)seq * j.n_head + head) * j.max_split;
}

/* Joins the warps' parts, [n_warp][16] rows: to y if there is one split, or to the part of the split. */
template <uint32_t D>
DEVICE void unit_end(const struct attention_job &j, const struct unit &u, const struct attention_part *part, const float *acc)
{
    for (uint32_t i = threadIdx.x; i < u.n_row * D / 2; i += 32 * n_warp(D)) {
        uint32_t row = i / (D / 2), dim = i % (D / 2) * 2, d = j.kv.shape.d_head;
        size_t at = part_at(j, u.seq, u.head + row) + u.split;
        struct attention_part whole = {FAR_BELOW, 0};
        if (u.n_split == 1)
            whole = row_begin(j, u.head + row);
        float2 v = parts_join(part + row, acc + row * D + dim, n_warp(D), 16, D, &whole);
        if (u.n_split == 1)
            store_y(j, j.step.seq_start[u.seq], u.head + row, dim, float2{div_rn(v.x, whole.sum), div_rn(v.y, whole.sum)});
        else if (dim < d)
            *(float2 *)(j.acc + at * d + dim) = v;
        if (u.n_split > 1 && dim == 0)
            j.part[at] = whole;
    }
}

template <uint32_t D, uint32_t E> DEVICE void unit_run(const struct attention_job &j, const struct unit &u, uint4 *shared)
{
    uint32_t q[D / 16][4];
    float acc[D / 8][4] = {};
    struct attention_part part[2] = {{FAR_BELOW, 0}, {FAR_BELOW, 0}};
    load_queries<D, E>(j, u, q);
    warp_run<D, E>(j, u, q, shared + warp_id() * ring_chunks(D, E), part, acc);
    block_sync();                          /* what was the rings is now for the warps' parts */
    float *all_acc = (float *)shared;
    struct attention_part *all_part = (struct attention_part *)(all_acc + n_warp(D) * 16 * D);
    UNROLL for (uint32_t half = 0; half < 2; half++) {
        uint32_t row = warp_id() * 16 + 8 * half + lane_id() / 4;
        float sum = quad_sum(part[half].sum);
        if (lane_id() % 4 == 0)
            all_part[row] = {part[half].top, sum};
        UNROLL for (uint32_t step = 0; step < D / 16; step++)
            UNROLL for (uint32_t i = 0; i < 2; i++)
                *(float2 *)(all_acc + row * D + 16 * step + pair_at<E>(i)) = value_pair<E>(acc[2 * step], acc[2 * step + 1], half, i);
    }
    block_sync();
    unit_end<D>(j, u, all_part, all_acc);
    block_sync();                          /* and the rings again */
}

template <uint32_t D, uint32_t E> static __global__ void __launch_bounds__(32 * n_warp(D), 2) decode_kernel(struct attention_job j)
{
    SHARED_DYNAMIC(uint4, shared);
    struct walk w = {};
    uint32_t seq, at;
    for (uint32_t number = blockIdx.x; walk_to<n_unit>(&w, j, number, &seq, &at); number += gridDim.x)
        unit_run<D, E>(j, unit_of(j, seq, at), shared);
}

/* A warp joins the splits of a sequence and head. */
static __global__ void __launch_bounds__(128) join_kernel(struct attention_job j)
{
    uint32_t row = blockIdx.x * 4 + warp_id(), seq = row / j.n_head, head = row % j.n_head, d = j.kv.shape.d_head;
    if (seq >= j.step.n_seq || tokens_of(j, seq) != 1)
        return;
    uint32_t n = splits_of(j, seq).n;
    if (n == 1)
        return;
    size_t at = part_at(j, seq, head);
    for (uint32_t dim = lane_id() * 2; dim < d; dim += 64) {
        struct attention_part whole = row_begin(j, head);
        float2 v = parts_join(j.part + at, j.acc + at * d + dim, n, 1, d, &whole);
        store_y(j, j.step.seq_start[seq], head, dim, float2{div_rn(v.x, whole.sum), div_rn(v.y, whole.sum)});
    }
}

template <uint32_t D, uint32_t E> static cudaError_t launch(struct cuda_device *d, const struct attention_job *j)
{
    const size_t shared = n_warp(D) * ring_chunks(D, E) * sizeof(uint4);
    static_assert(n_warp(D) * ring_chunks(D, E) * sizeof(uint4) >= n_warp(D) * 16 * (D * sizeof(float) + sizeof(struct attention_part)), "the parts fit");
    size_t most = (size_t)j->step.n_seq * j->max_split * up_to(j->n_group_head, 16) * j->kv.shape.n_kv_head;
    return attention_launch(d, decode_kernel<D, E>, most, n_warp(D), shared, j);
}

cudaError_t cuda_decode(struct cuda_device *d, const struct attention_job *j)
{
    cudaError_t e = j->kv.shape.dtype == DTYPE_BF16 ? ATTENTION_BY_HEAD(launch, 2, d, j) : ATTENTION_BY_HEAD(launch, 1, d, j);
    if (e != cudaSuccess || j->max_split == 1)
        return e;
    return prim_launch(join_kernel, dim3(up_to(j->step.n_seq * j->n_head, 4)), 128, 0, d->stream, *j);
}

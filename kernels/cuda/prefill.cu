/* prefill.cu - attention of the sequences with more than one token in the step, on a deterministic device of all, on tensor
 * cores (Dao 2023, FlashAttention-2).
 *
 * A unit is a KV head and 128 rows of a sequence (64 above d_head 128), a row being a query head of a token: the heads of a KV
 * head stand together and share its keys.  Each of four warps has its rows; together they go over the keys in tiles at fixed
 * positions, and the next tile is copied while this one is multiplied.  A warp leaves out the keys that none of its rows sees.
 *
 * Sameness: a row's sums go over the keys in fixed steps from key 0 on, and a key that is masked adds exactly nothing, whether
 * its step is left out or not.  So the bits of a token do not depend on how its prompt was cut into steps, nor on the batch;
 * but where it is decode.cu's, being alone in its step, that sums in another order and rounds otherwise.
 *
 * Bound: 4 d_head FLOP a key and row, on the tensor cores.  Shared memory comes next: 16 rows a warp would read each key twice
 * as often as 32 do, and 32 rows leave registers for the scores of 32 keys at d_head 128.
 * Registers, sm_90, room for d_head 64, 80, 96, 128, 256: bf16 212, 236, 237, 243, 243; e4m3 212, 254, 217, 246, 248. */
#include "kernels/cuda/attention.h"

enum { N_WARP = 4 };

CONSTANT uint32_t m_tiles(uint32_t d)   { return d <= 128 ? 2 : 1; }              /* of 16 rows, a warp */
CONSTANT uint32_t unit_rows(uint32_t d) { return N_WARP * 16 * m_tiles(d); }
CONSTANT uint32_t tile_keys(uint32_t d) { return d <= 128 ? 64 : 32; }
CONSTANT uint32_t step_keys(uint32_t d, uint32_t e)                                /* whose scores a warp holds at a time */
{
    return d <= 80 || (d == 96 && e == 2) ? 64 : d == 128 && e == 1 ? 16 : 32;
}

/* 16 bytes each: a tile of K or of V, and the queries. */
CONSTANT uint32_t kv_chunks(uint32_t d, uint32_t e) { return tile_keys(d) * tile_stride(d * e / 16); }
CONSTANT uint32_t q_chunks(uint32_t d)              { return unit_rows(d) * tile_stride(d / 8); }

template <uint32_t D> DEVICE uint32_t n_row_tile(const struct attention_job &j, uint32_t seq)
{
    return (tokens_of(j, seq) * j.n_group_head + unit_rows(D) - 1) / unit_rows(D);
}

template <uint32_t D> DEVICE uint32_t n_unit(const struct attention_job &j, uint32_t seq)
{
    return tokens_of(j, seq) >= j.prefill_least ? n_row_tile<D>(j, seq) * j.kv.shape.n_kv_head : 0;
}

/* The rows of a unit, and the keys that any of them sees: [first, end).  It stands in shared memory, as registers are scarce. */
template <uint32_t D> struct unit {
    uint32_t kv_head, row, n_row;          /* rows row .. n_row-1 of the sequence */
    uint32_t tok, first, end;              /* tok: the sequence's first in the step */
    const uint32_t *table;
    uint32_t row_tok[unit_rows(D)], row_pos[unit_rows(D)];         /* past the last row, as of the last */
};

/* By the whole block.  The last rows, which see most keys, come first. */
template <uint32_t D> DEVICE void unit_set(const struct attention_job &j, struct unit<D> *u, uint32_t seq, uint32_t at)
{
    uint32_t n_tok = tokens_of(j, seq), n_kv_head = j.kv.shape.n_kv_head, pos = j.step.kv_len[seq] - n_tok;
    uint32_t row = (n_row_tile<D>(j, seq) - 1 - at / n_kv_head) * unit_rows(D), n_row = min(row + unit_rows(D), n_tok * j.n_group_head);
    for (uint32_t r = threadIdx.x; r < unit_rows(D); r += 32 * N_WARP) {
        u->row_tok[r] = min(row + r, n_row - 1) / j.n_group_head;
        u->row_pos[r] = pos + u->row_tok[r];
    }
    if (threadIdx.x == 0) {
        u->kv_head = at % n_kv_head;
        u->row = row;
        u->n_row = n_row;
        u->tok = j.step.seq_start[seq];
        u->first = first_seen(j, pos + row / j.n_group_head);
        u->end = pos + (n_row - 1) / j.n_group_head + 1;
        u->table = j.step.block_table + (size_t)j.step.table_row[seq] * j.step.table_cols;
    }
}

/* Of the unit's row r: its token in the step, and its query head. */
template <uint32_t D> DEVICE uint32_t row_token(const struct unit<D> &u, uint32_t r)
{
    return u.tok + u.row_tok[r];
}

template <uint32_t D> DEVICE uint32_t row_head(const struct attention_job &j, const struct unit<D> &u, uint32_t r)
{
    return u.kv_head * j.n_group_head + u.row + r - u.row_tok[r] * j.n_group_head;
}

template <uint32_t D> DEVICE void load_queries(const struct attention_job &j, const struct unit<D> &u, uint4 *tile)
{
    constexpr uint32_t CHUNKS = D / 8;
    uint32_t d = j.kv.shape.d_head;
    for (uint32_t i = threadIdx.x; i < unit_rows(D) * CHUNKS; i += 32 * N_WARP) {
        uint32_t r = i / CHUNKS, chunk = i % CHUNKS;
        bool there = u.row + r < u.n_row && chunk * 8 < d;
        size_t at = there ? ((size_t)row_token(u, r) * j.n_head + row_head(j, u, r)) * d + chunk * 8 : 0;
        cp_async16(tile_at<CHUNKS>(tile, r, chunk), (const uint16_t *)j.op.q.data + at, there ? 16 : 0);
    }
}

/* The warp's 16 keys of the tile at `key`: K, or V, or both.  Its block was looked up before. */
template <uint32_t D> DEVICE uint32_t warp_group(void)
{
    return warp_id() % (tile_keys(D) / KV_GROUP) * KV_GROUP;
}

template <uint32_t D, uint32_t E>
DEVICE void load_tile(const struct attention_job &j, const struct unit<D> &u, uint4 *tiles, uint32_t key, uint32_t block)
{
    constexpr uint32_t N_GROUP = tile_keys(D) / KV_GROUP;
    uint32_t row = warp_group<D>(), at = key + row;
    const char *from = group_at<E>(j, block, u.kv_head, at);
    for (uint32_t v = warp_id() / N_GROUP; v < 2; v += N_WARP / N_GROUP)
        tile_load<D, E>(tiles + v * kv_chunks(D, E), row, from + v * j.kv.head_size, j.kv.shape.d_head, at, u.first, u.end);
}

template <uint32_t D> DEVICE uint32_t tile_block(const struct attention_job &j, const struct unit<D> &u, uint32_t key)
{
    return group_block(j, u.table, key + warp_group<D>(), u.first, u.end);
}

/* a of rows row .. row+15 of the queries, dimensions 16 step .. */
template <uint32_t D, uint32_t E> DEVICE void query_fragment(uint32_t a[4], uint4 *tile, uint32_t row, uint32_t step)
{
    constexpr uint32_t CHUNKS = D / 8;
    uint32_t lane = lane_id();
    if constexpr (E == 2) {
        ldmatrix_x4(a, matrix_at<CHUNKS>(tile, row, step));
    } else {
        UNROLL for (uint32_t half = 0; half < 2; half++) {
            uint2 two = ((const uint2 *)tile_at<CHUNKS>(tile, row + 8 * half + lane / 4, 2 * step + lane % 4 / 2))[lane % 2];
            a[half] = two.x;
            a[2 + half] = two.y;
        }
    }
}

/* Scores in place of dot products; masked, where some row of the warp does not see some key of the tile. */
template <uint32_t D, uint32_t M, uint32_t N>
DEVICE void step_scores(const struct attention_job &j, const struct unit<D> &u, uint32_t r, uint32_t key, float s[M][N][4])
{
    scores_of<M * N>(j, s[0]);
    if (key + 8 * N - 1 <= u.row_pos[r] && key >= first_seen(j, u.row_pos[r + 16 * M - 1]))
        return;
    UNROLL for (uint32_t m = 0; m < M; m++)
        UNROLL for (uint32_t half = 0; half < 2; half++) {
            uint32_t pos = u.row_pos[r + 16 * m + 8 * half + lane_id() / 4], first = first_seen(j, pos);
            UNROLL for (uint32_t n = 0; n < N; n++)
                UNROLL for (uint32_t i = 0; i < 2; i++) {
                    uint32_t k = key + 8 * n + lane_id() % 4 * 2 + i;
                    if (k > pos || k < first)
                        s[m][n][2 * half + i] = -INFINITY;
                }
        }
}

/* Keys key .. in tile rows tile_row .. for the warp's rows, from the unit's row r on: into their parts and acc. */
template <uint32_t D, uint32_t E>
DEVICE void keys_step(const struct attention_job &j, const struct unit<D> &u, uint4 *queries, uint4 *tiles, uint32_t tile_row, uint32_t r, uint32_t key,
                      struct attention_part part[m_tiles(D)][2], float acc[m_tiles(D)][D / 8][4])
{
    constexpr uint32_t M = m_tiles(D), N = step_keys(D, E) / 8;
    float s[M][N][4];
    uint32_t p[M][N][2], b[4];
    UNROLL for (uint32_t m = 0; m < M; m++)
        UNROLL for (uint32_t n = 0; n < N; n++)
            UNROLL for (uint32_t i = 0; i < 4; i++)
                s[m][n][i] = 0;
    UNROLL for (uint32_t step = 0; step < D / 16; step++) {
        uint32_t a[M][4];
        UNROLL for (uint32_t m = 0; m < M; m++)
            query_fragment<D, E>(a[m], queries, r + 16 * m, step);
        UNROLL for (uint32_t n = 0; n < N; n += 2) {
            key_fragment<D, E>(b, tiles, tile_row + 8 * n, step);
            UNROLL for (uint32_t m = 0; m < M; m++) {
                mma_bf16(s[m][n], a[m], b);
                mma_bf16(s[m][n + 1], a[m], b + 2);
            }
        }
    }
    step_scores<D, M, N>(j, u, r, key, s);
    float fade[M][2];
    bool same = true;
    UNROLL for (uint32_t m = 0; m < M; m++)
        UNROLL for (uint32_t half = 0; half < 2; half++) {
            fade[m][half] = row_weigh<N>(s[m], half, &part[m][half], p[m]);
            same = same && fade[m][half] == 1;
        }
    if (!warp_all(same))
        UNROLL for (uint32_t m = 0; m < M; m++)
            UNROLL for (uint32_t n = 0; n < D / 8; n++)
                UNROLL for (uint32_t i = 0; i < 4; i++)
                    acc[m][n][i] *= fade[m][i / 2];
    UNROLL for (uint32_t n = 0; n < N; n += 2)
        UNROLL for (uint32_t step = 0; step < D / 16; step++) {
            value_fragment<D, E>(b, tiles + kv_chunks(D, E), tile_row + 8 * n, step);
            UNROLL for (uint32_t m = 0; m < M; m++) {
                uint32_t a[4] = {p[m][n][0], p[m][n][1], p[m][n + 1][0], p[m][n + 1][1]};
                mma_bf16(acc[m][2 * step], a, b);
                mma_bf16(acc[m][2 * step + 1], a, b + 2);
            }
        }
}

template <uint32_t D, uint32_t E>
DEVICE void rows_end(const struct attention_job &j, const struct unit<D> &u, uint32_t row, const struct attention_part part[m_tiles(D)][2],
                     const float acc[m_tiles(D)][D / 8][4])
{
    UNROLL for (uint32_t m = 0; m < m_tiles(D); m++)
        UNROLL for (uint32_t half = 0; half < 2; half++) {
            uint32_t r = row + 16 * m + 8 * half + lane_id() / 4, tok = row_token(u, r), head = row_head(j, u, r);
            float inv = rcp_fast(quad_sum(part[m][half].sum));
            if (u.row + r < u.n_row)
                UNROLL for (uint32_t step = 0; step < D / 16; step++)
                    UNROLL for (uint32_t i = 0; i < 2; i++) {
                        float2 v = value_pair<E>(acc[m][2 * step], acc[m][2 * step + 1], half, i);
                        store_y(j, tok, head, 16 * step + pair_at<E>(i), float2{mul_rn(v.x, inv), mul_rn(v.y, inv)});
                    }
        }
}

template <uint32_t D, uint32_t E> DEVICE void unit_run(const struct attention_job &j, const struct unit<D> &u, uint4 *shared)
{
    constexpr uint32_t M = m_tiles(D), KEYS = tile_keys(D), STEP = step_keys(D, E), STAGE = 2 * kv_chunks(D, E);
    uint4 *queries = shared + 2 * STAGE;
    uint32_t r = 16 * M * warp_id(), key = u.first / KEYS * KEYS, stage = 0, block = tile_block<D>(j, u, key);
    struct attention_part part[M][2];
    float acc[M][D / 8][4];
    load_queries<D>(j, u, queries);
    load_tile<D, E>(j, u, shared, key, block);
    cp_async_commit();
    block = tile_block<D>(j, u, key + KEYS);
    UNROLL for (uint32_t m = 0; m < M; m++) {
        UNROLL for (uint32_t half = 0; half < 2; half++) {
            uint32_t row = min(r + 16 * m + 8 * half + lane_id() / 4, u.n_row - 1 - u.row);
            part[m][half] = row_begin(j, row_head(j, u, row));
            if (lane_id() % 4)
                part[m][half].sum = 0;
        }
        UNROLL for (uint32_t n = 0; n < D / 8; n++)
            UNROLL for (uint32_t i = 0; i < 4; i++)
                acc[m][n][i] = 0;
    }
    for (; key < u.end; key += KEYS, stage ^= 1) {
        cp_async_wait<0>();
        block_sync();                      /* this tile is there for all, and all are done with the last */
        if (key + KEYS < u.end) {
            load_tile<D, E>(j, u, shared + (stage ^ 1) * STAGE, key + KEYS, block);
            cp_async_commit();
            block = tile_block<D>(j, u, key + 2 * KEYS);
        }
        for (uint32_t at = 0; at < KEYS; at += STEP)
            if (u.row + r < u.n_row && key + at <= u.row_pos[r + 16 * M - 1] && key + at + STEP > first_seen(j, u.row_pos[r]))
                keys_step<D, E>(j, u, queries, shared + stage * STAGE, at, r, key + at, part, acc);
    }
    rows_end<D, E>(j, u, r, part, acc);
}

template <uint32_t D, uint32_t E> static __global__ void __launch_bounds__(32 * N_WARP, 2) prefill_kernel(struct attention_job j)
{
    SHARED_DYNAMIC(uint4, shared);
    SHARED(struct unit<D>, u, 1);
    struct walk w = {};
    uint32_t seq, at;
    for (uint32_t number = blockIdx.x; walk_to<n_unit<D>>(&w, j, number, &seq, &at); number += gridDim.x) {
        unit_set<D>(j, u, seq, at);
        block_sync();
        unit_run<D, E>(j, *u, shared);
        block_sync();                      /* the next unit overwrites it, and the queries */
    }
}

template <uint32_t D, uint32_t E> static cudaError_t launch(struct cuda_device *d, const struct attention_job *j)
{
    const size_t shared = (4 * kv_chunks(D, E) + q_chunks(D)) * sizeof(uint4);
    size_t most = ((size_t)j->step.n_tok * j->n_group_head / unit_rows(D) + j->step.n_seq) * j->kv.shape.n_kv_head;
    return attention_launch(d, prefill_kernel<D, E>, most, N_WARP, shared, j);
}

cudaError_t cuda_prefill(struct cuda_device *d, const struct attention_job *j)
{
    return j->kv.shape.dtype == DTYPE_BF16 ? ATTENTION_BY_HEAD(launch, 2, d, j) : ATTENTION_BY_HEAD(launch, 1, d, j);
}

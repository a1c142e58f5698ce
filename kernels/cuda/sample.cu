/* sample.cu - from logits to a token, a block a row: what kernels/cpu/sample.c and vec_sample.c define, and the same token
 * for the same logits.
 *
 * logits [n_out, n_vocab] f32.  Bound: reading.  Greedy and plain temperature read a row once, top_k and min_p twice, top_p
 * three times, logprobs two or three times more.  The draw's random numbers cost about as much as its read.
 *
 * The filters become a cut: the least x = l / temperature that stays, and of what is equal to it the last id that stays.
 * What can be above the cut is listed in shared memory, in no order; the cut is then found by the digits of the values'
 * bits, and nothing that is asked of the list depends on its order.  Where the list would be too long, as with logits that are
 * all but equal, the row itself is searched, by the same code.
 *
 * What picks the token is f32 rounded as on the CPU (mul_rn, add_rn: no product is fused with a sum; compiled without
 * -use_fast_math or -ftz) and sums of whole numbers.  The logarithms of min_p and of the row's mass are in float64, and the
 * CPU's may differ in their last bit: a logprob then differs by a step of f32, once in about 2^29. */
#include "base/err.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/prim.h"

#define COLDEST 1e-5f          /* temperatures below it: the arg-max */
#define LOG2_E  0x1.715476p+0f

enum { N_THREAD = 512, N_LIST = 3072, N_SET = 4 * N_THREAD, N_DIGIT = 1 << 11, N_BIN = N_DIGIT / N_THREAD };

/* x above `at` stays, and x equal to it of ids up to `last`. */
struct cut { float at; uint32_t last; };

/* A digit or a key, what is still wanted there, and the sum of the weights there. */
struct found { uint32_t key; uint64_t left, sum; };

/* Shared by the block. */
struct board {
    uint64_t part[32];         /* a warp's, for sums and maxima */
    struct found found;
    uint32_t low[N_DIGIT], high[N_DIGIT];      /* sums of weights by digit */
    uint32_t n;
    float x[N_LIST];           /* the list: n values and their ids; or the maxima of N_SET sets */
    uint32_t id[N_LIST];
    float raw;
};

/* A row in the making; every thread of the block has the same. */
struct work {
    struct board *board;
    float *l;                  /* [n] */
    uint32_t n, n_list;
    bool listed;               /* searches and draws go over the list, not the row */
    float scale;
    struct cut cut;
};

/* ---- formulas: kernels/cpu/vec_sample.c ---- */

DEVICE float mul_add(float a, float b, float c) { return add_rn(mul_rn(a, b), c); }

/* 2^n for the whole number that x + 1.5 2^23 holds in its low bits. */
DEVICE uint32_t whole_of(float shifted) { return bits_of_f32(shifted) - 0x4b400000; }

DEVICE float exp_fixed(float x)
{
    x = -80 > x ? -80 : x;
    float shifted = mul_add(x, LOG2_E, 0x1.8p23f), n = sub_rn(shifted, 0x1.8p23f);
    float r = sub_rn(sub_rn(x, mul_rn(n, 0x1.62e4p-1f)), mul_rn(n, 0x1.7f7d1cp-20f));
    float p = mul_add(0x1.6a2446p-10f, r, 0x1.1239d4p-7f);
    p = mul_add(p, r, 0x1.5558f2p-5f);
    p = mul_add(p, r, 0x1.555492p-3f);
    p = mul_add(p, r, 0x1.fffffcp-2f);
    p = add_rn(mul_add(mul_rn(r, r), p, r), 1);
    return mul_rn(p, f32_of_bits((whole_of(shifted) + 127) << 23));
}

DEVICE float log_fixed(float x)
{
    uint32_t bits = bits_of_f32(x);
    int32_t exponent = (int32_t)(bits - 0x3f3504f3) >> 23;
    float n = (float)exponent, f = sub_rn(f32_of_bits(bits - ((uint32_t)exponent << 23)), 1);
    float p = mul_add(0x1.645e64p-4f, f, -0x1.243282p-3f);
    p = mul_add(p, f, 0x1.31744ap-3f);
    p = mul_add(p, f, -0x1.53825p-3f);
    p = mul_add(p, f, 0x1.98d7f4p-3f);
    p = mul_add(p, f, -0x1.000382p-2f);
    p = mul_add(p, f, 0x1.5556d8p-2f);
    float square = mul_rn(f, f), y = mul_rn(mul_rn(square, f), p);
    y = mul_add(n, 0x1.7f7d1cp-20f, y);
    y = add_rn(sub_rn(y, mul_rn(square, 0.5f)), f);
    return mul_add(n, 0x1.62e4p-1f, y);
}

DEVICE float soften(float x, float by, float cap)
{
    float y = mul_rn(x, by);
    if (!(cap > 0))
        return y;
    float down = y > 0 ? sub_rn(0, y) : y, e = exp_fixed(add_rn(down, down));
    float size = mul_rn(cap, div_rn(sub_rn(1, e), add_rn(1, e)));
    return y > 0 ? size : sub_rn(0, size);
}

DEVICE uint64_t mass_of(float x, float top)
{
    return (uint64_t)rintf(mul_rn(exp_fixed(sub_rn(x, top)), 0x1p44f));
}

/* Philox-4x32-10: src/base/rng.c */
DEVICE void philox(uint64_t key, uint64_t a, uint32_t b, uint32_t word[4])
{
    uint32_t c0 = (uint32_t)a, c1 = (uint32_t)(a >> 32), c2 = b, c3 = 0, k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    UNROLL for (int i = 0; i < 10; i++) {
        uint32_t high0 = mul_high(c0, 0xD2511F53u), low0 = c0 * 0xD2511F53u;
        uint32_t high1 = mul_high(c2, 0xCD9E8D57u), low1 = c2 * 0xCD9E8D57u;
        c0 = high1 ^ c1 ^ k0;
        c1 = low1;
        c2 = high0 ^ c3 ^ k1;
        c3 = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    word[0] = c0, word[1] = c1, word[2] = c2, word[3] = c3;
}

DEVICE float uniform(uint32_t word)
{
    float t = mul_rn(add_rn((float)(int32_t)(word >> 1), 0.5f), 0x1p-31f);
    return t < 1 - 0x1p-24f ? t : 1 - 0x1p-24f;
}

/* No less than gumbel(t). */
DEVICE float gumbel_most(float t)
{
    float exponent = (float)((int32_t)(bits_of_f32(t) >> 23) - 127);
    return sub_rn(1e-4f, mul_rn(exponent, 0x1.62e43p-1f));
}

DEVICE float gumbel(float t)
{
    float u = sub_rn(1, t), rest = sub_rn(sub_rn(1, u), t);
    return sub_rn(0, log_fixed(sub_rn(0, add_rn(log_fixed(u), rest))));
}

/* ---- order ---- */

/* Numbers in the order of the floats; both zeros are one. */
DEVICE uint32_t order_of(float x)
{
    uint32_t u = bits_of_f32(add_rn(x, 0));
    return u & 0x80000000 ? ~u : u | 0x80000000;
}

DEVICE float of_order(uint32_t u)
{
    return f32_of_bits(u & 0x80000000 ? u & 0x7fffffff : ~u);
}

/* The greatest of these is the greatest x, of equal ones the lowest id; 0 is less than any, for no token is ever -inf. */
DEVICE uint64_t rank_of(float x, uint32_t id)
{
    return x > -INFINITY ? (uint64_t)order_of(x) << 32 | (uint32_t)~id : 0;
}

DEVICE uint32_t id_of(uint64_t rank)
{
    return rank ? ~(uint32_t)rank : 0;
}

DEVICE bool stays(struct cut c, float x, uint32_t id)
{
    return x > c.at || (x == c.at && id <= c.last);
}

#define NO_CUT (cut{-INFINITY, ~0u})

/* ---- passes ---- */

DEVICE uint32_t n_source(const struct work *w)
{
    return w->listed ? w->n_list : w->n;
}

DEVICE float source(const struct work *w, uint32_t i, uint32_t *id)
{
    *id = w->listed ? w->board->id[i] : i;
    return w->listed ? w->board->x[i] : mul_rn(w->l[i], w->scale);
}

DEVICE uint32_t best_id(const struct work *w)
{
    float best = -INFINITY;
    uint32_t id = 0;
    for (uint32_t at = threadIdx.x; at < w->n; at += 4 * N_THREAD) {
        float x[4];
        UNROLL for (uint32_t c = 0; c < 4; c++)
            x[c] = at + c * N_THREAD < w->n ? w->l[at + c * N_THREAD] : -INFINITY;
        UNROLL for (uint32_t c = 0; c < 4; c++)
            if (x[c] > best)
                best = x[c], id = at + c * N_THREAD;
    }
    return id_of(block_max(rank_of(best, id), w->board->part));
}

/* The maxima of N_SET disjoint sets of columns become the list; returns the greatest. */
DEVICE float list_maxima(struct work *w)
{
    float top[4] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY}, all = -INFINITY;
    for (uint32_t at = threadIdx.x; at < w->n; at += 4 * N_THREAD)
        UNROLL for (uint32_t c = 0; c < 4; c++) {
            float x = at + c * N_THREAD < w->n ? w->l[at + c * N_THREAD] : -INFINITY;
            top[c] = x > top[c] ? x : top[c];
        }
    UNROLL for (uint32_t c = 0; c < 4; c++) {
        uint32_t set = threadIdx.x + c * N_THREAD;
        w->board->x[set] = top[c];
        w->board->id[set] = set;
        all = top[c] > all ? top[c] : all;
    }
    w->n_list = N_SET;
    w->listed = true;
    return of_order((uint32_t)block_max((uint64_t)order_of(all), w->board->part));
}

/* Lists what stays and is not below least; or turns to the row if that is too long.  A search comes before the next list. */
DEVICE void collect(struct work *w, float least)
{
    struct board *b = w->board;
    if (threadIdx.x == 0)
        b->n = 0;
    block_sync();
    for (uint32_t i = threadIdx.x; i < w->n; i += N_THREAD) {
        float x = mul_rn(w->l[i], w->scale);
        if (!(x >= least) || !stays(w->cut, x, i))
            continue;
        uint32_t at = atomic_add(&b->n, 1u);
        if (at >= N_LIST)
            break;
        b->x[at] = x;
        b->id[at] = i;
    }
    block_sync();
    w->n_list = b->n;
    w->listed = b->n <= N_LIST;
}

DEVICE uint64_t mass_that_stays(const struct work *w, float top)
{
    uint64_t sum = 0;
    for (uint32_t i = threadIdx.x, id; i < n_source(w); i += N_THREAD) {
        float x = source(w, i, &id);
        if (stays(w->cut, x, id))
            sum += mass_of(x, top);
    }
    return block_sum(sum, w->board->part);
}

/* ---- the cut ---- */

DEVICE void add_weight(struct board *b, uint32_t digit, uint64_t weight)
{
    uint32_t low = (uint32_t)weight, old = atomic_add(&b->low[digit], low), high = (uint32_t)(weight >> 32) + (old + low < old);
    if (high)
        atomic_add(&b->high[digit], high);
}

/* The greatest digit at which the sum of weights from there on upwards reaches want > 0; false if none does. */
DEVICE bool find_digit(struct board *b, uint64_t want, struct found *f)
{
    uint32_t first = N_DIGIT - N_BIN * (threadIdx.x + 1);      /* thread 0 has the greatest */
    uint64_t own[N_BIN], sum = 0;
    UNROLL for (uint32_t c = 0; c < N_BIN; c++) {
        own[c] = (uint64_t)b->high[first + c] << 32 | b->low[first + c];
        sum += own[c];
    }
    uint64_t reached = sum;
    UNROLL for (uint32_t step = 1; step < 32; step *= 2) {
        uint64_t before = warp_shuffle_up(reached, step);
        reached += lane_id() >= step ? before : 0;
    }
    if (lane_id() == 31)
        b->part[warp_id()] = reached;
    if (threadIdx.x == 0)
        b->found = {0, 0, 0};
    block_sync();
    for (uint32_t i = 0; i < warp_id(); i++)
        reached += b->part[i];
    uint64_t above = reached - sum;
    UNROLL for (int c = N_BIN - 1; c >= 0; c--) {
        if (above < want && want <= above + own[c])
            b->found = {first + (uint32_t)c, want - above, own[c]};
        above += own[c];
    }
    block_sync();
    *f = b->found;
    return f->sum;
}

enum by { BY_COUNT, BY_MASS, BY_ID };

/* Of what stays, the greatest key at which the sum of weights from there on upwards reaches want: the order of x, with a
 * weight of 1 or its mass; or ~id of what is equal to the cut, `unit` each.  Digit by digit; the first of ~id is all ones. */
template <enum by BY> DEVICE bool search(const struct work *w, float top, uint64_t unit, uint64_t want, struct found *f)
{
    struct board *b = w->board;
    uint32_t prefix = BY == BY_ID ? N_DIGIT - 1 : 0;
    for (int k = BY == BY_ID ? 1 : 0; k < 3; k++) {
        uint32_t shift = k == 0 ? 21 : k == 1 ? 10 : 0, bits = k == 2 ? 10 : 11;
        for (uint32_t i = threadIdx.x; i < N_DIGIT; i += N_THREAD)
            b->low[i] = b->high[i] = 0;
        block_sync();
        for (uint32_t i = threadIdx.x, id; i < n_source(w); i += N_THREAD) {
            float x = source(w, i, &id);
            uint32_t key = BY == BY_ID ? ~id : order_of(x);
            bool in = BY == BY_ID ? x == w->cut.at : stays(w->cut, x, id);
            if (in && key >> shift >> bits == prefix)
                add_weight(b, key >> shift & ((1u << bits) - 1), BY == BY_MASS ? mass_of(x, top) : unit);
        }
        block_sync();
        if (!find_digit(b, want, f))
            return false;
        f->key |= prefix << bits;
        prefix = f->key;
        want = f->left;
    }
    return true;
}

/* The fewest best whose weights reach want stay, of equal ones the lower ids; all if they do not reach it. */
template <enum by BY> DEVICE void cut_at(struct work *w, float top, uint64_t want)
{
    struct found f;
    if (!search<BY>(w, top, 1, want, &f))
        return;
    float at = of_order(f.key);
    uint64_t unit = BY == BY_MASS ? mass_of(at, top) : 1;
    if (at > w->cut.at)
        w->cut = {at, ~0u};
    if (f.left + unit <= f.sum && search<BY_ID>(w, top, unit, f.left, &f))
        w->cut.last = ~f.key;
}

/* The k best stay; needs the maxima.  None of the k best is below the k-th of these. */
DEVICE void keep_best(struct work *w, uint32_t k)
{
    float least = -INFINITY;
    struct found f;
    if (k < N_SET) {
        struct work maxima = *w;
        maxima.cut = NO_CUT;
        if (search<BY_COUNT>(&maxima, 0, 1, k, &f))
            least = mul_rn(of_order(f.key), w->scale);
    }
    collect(w, least);
    cut_at<BY_COUNT>(w, 0, k);
}

/* What is below (1 - top_p) of the mean mass cannot stay: all of it together is less than 1 - top_p. */
DEVICE void keep_top_p(struct work *w, float top, double top_p, bool cut_already)
{
    if (!cut_already)
        w->listed = false;
    uint64_t total = mass_that_stays(w, top);
    if (!cut_already) {
        double mean = (1 - top_p) * (double)total * 0x1p-44 / w->n;
        collect(w, add_rn(top, (float)(log(mean) - 0.01)));    /* 0.01 is more than all rounding on the way */
    }
    double want = ceil(top_p * (double)total);
    cut_at<BY_MASS>(w, top, want < 1 ? 1 : (uint64_t)want);
}

DEVICE void filter(struct work *w, const struct sample_row *r)
{
    bool min_p = r->min_p > 0, top_k = r->top_k && r->top_k < w->n, top_p = r->top_p < 1;
    if (!min_p && !top_k && !top_p)
        return;
    float top = mul_rn(list_maxima(w), w->scale);
    if (!(fabsf(top) < INFINITY)) {
        w->listed = false;
        return;
    }
    if (min_p)
        w->cut.at = r->min_p < 1 ? add_rn(top, (float)log((double)r->min_p)) : top;
    if (top_k)
        keep_best(w, r->top_k);
    if (top_p)
        keep_top_p(w, top, (double)r->top_p, top_k);
    w->listed = w->listed && (top_k || top_p);
}

/* ---- the pick ---- */

/* The best of x + gumbel.  The logarithms are taken only where a bound on them says that the token could be the warp's best. */
DEVICE uint64_t draw_row(const struct work *w, const struct sample_row *r)
{
    float best = -INFINITY, warp_best = -INFINITY;
    uint32_t best_id = 0;
    for (uint32_t at = 0; at < w->n; at += 4 * N_THREAD) {
        uint32_t block = at / 4 + threadIdx.x, first = block / 16 * 64 + block % 16, word[4];
        float x[4];
        bool any = false;
        UNROLL for (uint32_t c = 0; c < 4; c++) {
            uint32_t id = first + 16 * c;
            x[c] = id < w->n ? mul_rn(w->l[id], w->scale) : -INFINITY;
            x[c] = stays(w->cut, x[c], id) ? x[c] : -INFINITY;
            any |= x[c] > -INFINITY;
        }
        if (any) {
            philox(r->seed, r->stream, block, word);
            UNROLL for (uint32_t c = 0; c < 4; c++) {
                float t = uniform(word[c]);
                if (!(add_rn(x[c], gumbel_most(t)) >= warp_best))
                    continue;
                float y = add_rn(x[c], gumbel(t));
                if (y > best)
                    best = y, best_id = first + 16 * c;
            }
        }
        warp_best = warp_max(best);
    }
    return rank_of(best, best_id);
}

DEVICE uint64_t draw_list(const struct work *w, const struct sample_row *r)
{
    uint64_t best = 0;
    for (uint32_t i = threadIdx.x; i < w->n_list; i += N_THREAD) {
        uint32_t id = w->board->id[i], word[4], c = id / 16 % 4;
        float x = w->board->x[i];
        if (!stays(w->cut, x, id))
            continue;
        philox(r->seed, r->stream, id / 64 * 16 + id % 16, word);
        uint64_t rank = rank_of(add_rn(x, gumbel(uniform(c == 0 ? word[0] : c == 1 ? word[1] : c == 2 ? word[2] : word[3]))), id);
        best = rank > best ? rank : best;
    }
    return best;
}

DEVICE uint32_t pick(struct work *w, const struct sample_row *r)
{
    if (!(r->temperature > COLDEST))
        return best_id(w);
    w->scale = div_rn(1, r->temperature);
    filter(w, r);
    return id_of(block_max(w->listed ? draw_list(w, r) : draw_row(w, r), w->board->part));
}

/* ---- logprobs and edits ---- */

/* Writes the row's n_top best; returns what a logit is above its logprob. */
DEVICE double rank_row(struct work *w, const struct sample *op, uint32_t n_top)
{
    float top = list_maxima(w);
    struct work row = *w;
    row.listed = false;
    uint64_t total = fabsf(top) < INFINITY ? mass_that_stays(&row, top) : 0;
    double log_total = total ? top + log((double)total * 0x1p-44) : 0;
    if (!n_top)
        return log_total;
    keep_best(w, n_top);
    if (!w->listed)
        collect(w, w->cut.at);
    struct board *b = w->board;
    for (uint32_t i = threadIdx.x; i < w->n_list; i += N_THREAD) {
        if (!stays(w->cut, b->x[i], b->id[i]))
            continue;
        size_t place = (size_t)blockIdx.x * op->max_top;
        for (uint32_t k = 0; k < w->n_list; k++)
            place += b->x[k] > b->x[i] || (b->x[k] == b->x[i] && b->id[k] < b->id[i]);
        op->top_ids[place] = (int32_t)b->id[i];
        op->top_logprobs[place] = (float)(b->x[i] - log_total);
    }
    block_sync();              /* the list is free again */
    return log_total;
}

/* An id has one edit at most; what stood in the row is kept in its place. */
DEVICE void edit(struct work *w, struct logit_edit *e, uint32_t n)
{
    for (uint32_t i = threadIdx.x; i < n; i += N_THREAD) {
        float l = w->l[e[i].id];
        w->l[e[i].id] = add_rn(l > 0 ? div_rn(l, e[i].repeat) : mul_rn(l, e[i].repeat), e[i].add);
        e[i].repeat = l;
    }
}

/* In thread 0. */
DEVICE float raw_logit(const struct work *w, const struct logit_edit *e, uint32_t n, uint32_t id)
{
    if (threadIdx.x == 0)
        w->board->raw = w->l[id];
    block_sync();
    for (uint32_t i = threadIdx.x; i < n; i += N_THREAD)
        if ((uint32_t)e[i].id == id)
            w->board->raw = e[i].repeat;
    block_sync();
    return w->board->raw;
}

static __global__ void __launch_bounds__(N_THREAD, 2) sample_kernel(struct sample op, struct logit_edit *edits)
{
    SHARED(struct board, board, 1);
    const struct sample_row r = op.rows[blockIdx.x];
    struct logit_edit *own_edits = edits + r.edit_start;
    double log_total = 0;
    struct work begin = {}, w;
    begin.board = board;
    begin.n = op.logits.cols;
    begin.l = (float *)op.logits.data + (size_t)blockIdx.x * begin.n;
    begin.scale = 1;
    begin.cut = NO_CUT;
    if (op.softcap > 0 || op.logit_scale != 1) {
        float by = op.softcap > 0 ? div_rn(op.logit_scale, op.softcap) : op.logit_scale;
        for (uint32_t i = threadIdx.x; i < begin.n; i += N_THREAD)
            begin.l[i] = soften(begin.l[i], by, op.softcap);
        block_sync();
    }
    w = begin;
    if (r.n_top >= 0)
        log_total = rank_row(&w, &op, (uint32_t)r.n_top);
    if (r.n_edit) {
        edit(&begin, own_edits, r.n_edit);
        block_sync();
    }
    w = begin;
    uint32_t id = pick(&w, &r);
    if (threadIdx.x == 0)
        op.ids[blockIdx.x] = (int32_t)id;
    if (r.n_top >= 0) {
        float raw = raw_logit(&begin, own_edits, r.n_edit, id);
        if (threadIdx.x == 0)
            op.logprobs[blockIdx.x] = (float)(raw - log_total);
    }
}

cudaError_t cuda_sample(struct cuda_device *d, const struct sample *op, const struct sample_row *rows, struct logit_edit *edits)
{
    CHECK(op->logits.dtype == DTYPE_F32 && op->logits.cols && op->logits.cols <= 1u << 19 && op->max_top <= N_LIST);
    struct sample on_device = *op;
    on_device.rows = rows;
    on_device.edits = NULL;
    if (!op->logits.rows)
        return cudaSuccess;
    return prim_launch(sample_kernel, op->logits.rows, N_THREAD, 0, d->stream, on_device, edits);
}

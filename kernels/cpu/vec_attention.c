/* vec_attention.c - attention of the query heads that share a KV head, for one or more tokens of a sequence.
 *
 * A query walks its keys in tiles of 64 at fixed positions, whichever step it is in, with the running maximum and sum of
 * Milakov & Gimelshein 2018 in base 2.  Within a tile every score, and every element of the output, is one chain of
 * products in the order of the dimensions, or of the keys; a key that is masked adds exactly nothing.  So the bits do
 * not depend on which other queries go along, which is what lets one body serve prefill and decode.
 *
 * Bound: one token reads 2 n d elements for 4 n d products, n keys a query head; with two heads on the same keys that is
 * 1 to 2 FLOP a byte: memory.  The next tile is asked for while this one is multiplied, at the same offsets.
 * Prefill does 32 query rows on a tile while it is in the cache, 4 at a time in registers: the multipliers.  AMX takes 16
 * rows at a time; from there on the exponentials bound. */
#include <math.h>

#include "kernels/cpu/kv.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/vec.h"
#ifdef __AMX_TILE__
#include "kernels/cpu/amx.h"
#endif

enum { GROUPS = 4, TILE = GROUPS * KV_GROUP, ROWS = 4, TILE_ROWS = 16 };

#define FAR_BELOW (-1e30f)     /* a first maximum that any score beats, and that exp2 can subtract from itself */

/* What is the same for all rows of a unit. */
struct call {
    const struct attention *op;
    const struct kv *kv;
    size_t d, n_word, width;   /* d_head; words of a query; d_head in whole registers */
    float factor, cap;         /* base 2: s = factor q.k, or cap tanh(factor q.k) */
    bool tiles;                /* by AMX */
};

/* One query head of one token. */
struct row {
    const char *q;             /* [d_head] of the KV's type */
    void *y;                   /* [d_head] of op->y's */
    float *sum, *acc;          /* [LANES] of the weights so far, [width] of the weighted values */
    float top;                 /* the greatest score so far */
    uint32_t pos;
};

/* Neighbouring rows of V, as words, and where to look ahead. */
struct values { const uint32_t *v, *ahead; uint32_t n; };

struct tile {
    uint32_t key, end, n_group;            /* the first key's position; behind the last; groups of 16 keys between */
    const uint32_t *k[GROUPS], *k_ahead[GROUPS];
    struct values values[GROUPS];
    uint32_t tail[KV_GROUP * KV_MAX_HEAD]; /* the last group's values if it is not full */
};

/* The floats of a row: its sum and acc. */
SIMD size_t state_of(const struct call *c)
{
    return LANES + c->width;
}

SIMD vi word_at(const void *p, size_t i)
{
    uint32_t word;
    memcpy(&word, (const char *)p + 4 * i, 4);
    return vi_set(word);
}

SIMD vf dot(bool pair, vf acc, vi a, vi b)
{
    return pair ? vf_dot_bf16(acc, a, b) : vf_dot_f32(acc, a, b);
}

/* s[r][g .. g+n_group-1] = q.k of n_row rows and n_group groups. */
SIMD void scores(int n_row, int n_group, bool pair, size_t n_word, const struct row *row, const struct tile *t, uint32_t g,
                 vf s[ROWS][GROUPS])
{
    vf acc[ROWS][GROUPS];
    UNROLL for (int r = 0; r < n_row; r++)
        UNROLL for (int c = 0; c < n_group; c++)
            acc[r][c] = vf_set(0);
    for (size_t i = 0; i < n_word; i++) {
        vi k[GROUPS];
        UNROLL for (int c = 0; c < n_group; c++) {
            k[c] = vi_load(t->k[g + c] + i * KV_GROUP);
            __builtin_prefetch(t->k_ahead[g + c] + i * KV_GROUP, 0, 2);
        }
        UNROLL for (int r = 0; r < n_row; r++) {
            vi q = word_at(row[r].q, i);
            UNROLL for (int c = 0; c < n_group; c++)
                acc[r][c] = dot(pair, acc[r][c], q, k[c]);
        }
    }
    UNROLL for (int r = 0; r < n_row; r++)
        UNROLL for (int c = 0; c < n_group; c++)
            s[r][g + c] = acc[r][c];
}

/* How many of 16 keys from `key` lie before `end`. */
SIMD uint32_t keys_before(uint32_t key, uint32_t end)
{
    return end <= key ? 0 : end - key < KV_GROUP ? end - key : KV_GROUP;
}

/* The first position that is seen from pos. */
SIMD uint32_t first_seen(const struct attention *op, uint32_t pos)
{
    return op->window && pos >= op->window ? pos + 1 - op->window : 0;
}

SIMD vf score_masked(const struct call *c, const struct row *row, uint32_t key, vf dot_product)
{
    vf x = vf_mul(dot_product, vf_set(c->factor));
    if (c->cap > 0)
        x = vf_mul(vf_set(c->cap), vf_tanh(x));
    uint32_t end = keys_before(key, row->pos + 1), start = keys_before(key, first_seen(c->op, row->pos));
    if (start == 0 && end == KV_GROUP)
        return x;
    return vf_pick(vm_andnot(vm_first(end), vm_first(start)), x, vf_set(-INFINITY));
}

/* Scores become weights in p, as words; returns what the row's old sums are to be multiplied by.  The sum is of the
 * weights as they are stored, so that rounding them leaves their average an average. */
SIMD vf weigh(const struct call *c, bool pair, struct row *row, const struct tile *t, vf *s, uint32_t *p)
{
    vf best = vf_set(-INFINITY);
    for (uint32_t g = 0; g < t->n_group; g++) {
        s[g] = score_masked(c, row, t->key + g * KV_GROUP, s[g]);
        best = vf_max(best, s[g]);
    }
    float top = vf_top(best);
    top = top > row->top ? top : row->top;
    vf base = vf_set(top), fade = vf_exp2(vf_sub(vf_set(row->top), base));
    vf sum = vf_mul(vf_load(row->sum), fade);
    for (uint32_t g = 0; g < t->n_group; g++) {
        vf weight = vf_exp2(vf_sub(s[g], base));
        if (pair)
            weight = vf_store_bf16((uint16_t *)p + g * KV_GROUP, weight);
        else
            vf_store((float *)p + g * KV_GROUP, weight);
        sum = vf_add(sum, weight);
    }
    vf_store(row->sum, sum);
    row->top = top;
    return fade;
}

/* acc[at .. at + 16 n_vec - 1] of n_row rows takes the tile's values in. */
SIMD void add_values(int n_row, int n_vec, bool pair, size_t d, const struct row *row, const struct tile *t, size_t at,
                     const vf *fade, uint32_t p[ROWS][TILE])
{
    vf acc[ROWS][8];
    UNROLL for (int r = 0; r < n_row; r++)
        UNROLL for (int c = 0; c < n_vec; c++)
            acc[r][c] = vf_mul(vf_load(row[r].acc + at + c * LANES), fade[r]);
    size_t i = 0;
    for (const struct values *x = t->values; x < t->values + t->n_group; x++) {
        const uint32_t *from = x->v + at, *ahead = x->ahead + at;
        for (uint32_t n = 0; n < x->n; n++, i++, from += d, ahead += d) {
            vi v[8];
            UNROLL for (int c = 0; c < n_vec; c++) {
                v[c] = vi_load(from + c * LANES);
                __builtin_prefetch(ahead + c * LANES, 0, 2);
            }
            UNROLL for (int r = 0; r < n_row; r++) {
                vi weight = vi_set(p[r][i]);
                UNROLL for (int c = 0; c < n_vec; c++)
                    acc[r][c] = dot(pair, acc[r][c], weight, v[c]);
            }
        }
    }
    UNROLL for (int r = 0; r < n_row; r++)
        UNROLL for (int c = 0; c < n_vec; c++)
            vf_store(row[r].acc + at + c * LANES, acc[r][c]);
}

SIMD int at_most(int n, int most)
{
    return n < most ? n : most;
}

/* One tile for n_row rows, in pieces that fit the registers. */
SIMD void step_rows(int n_row, bool pair, const struct call *c, struct row *row, const struct tile *t)
{
    vf s[ROWS][GROUPS], fade[ROWS];
    uint32_t p[ROWS][TILE];
    const int n_group = at_most(ACCUMULATORS / n_row, GROUPS), n_vec = at_most(ACCUMULATORS / n_row, 8);
    uint32_t g = 0;
    for (; t->n_group - g >= (uint32_t)n_group; g += (uint32_t)n_group)
        scores(n_row, n_group, pair, c->n_word, row, t, g, s);
    for (; n_group > 2 && t->n_group - g >= 2; g += 2)
        scores(n_row, 2, pair, c->n_word, row, t, g, s);
    for (; g < t->n_group; g++)
        scores(n_row, 1, pair, c->n_word, row, t, g, s);
    for (int r = 0; r < n_row; r++)
        fade[r] = weigh(c, pair, &row[r], t, s[r], p[r]);
    size_t at = 0, whole = (size_t)n_vec * LANES;
    for (; c->width - at >= whole; at += whole)
        add_values(n_row, n_vec, pair, c->d, row, t, at, fade, p);
    for (; n_vec > 4 && c->width - at >= 4 * LANES; at += 4 * LANES)
        add_values(n_row, 4, pair, c->d, row, t, at, fade, p);
    for (; at < c->width; at += LANES)
        add_values(n_row, 1, pair, c->d, row, t, at, fade, p);
}

/* Whether any of the rows, in rising order of position, sees a key of the tile. */
SIMD bool any_seen(const struct call *c, const struct row *first, const struct row *last, const struct tile *t)
{
    return t->key <= last->pos && first_seen(c->op, first->pos) < t->key + t->n_group * KV_GROUP;
}

SIMD void step_unit(bool pair, const struct call *c, struct row *row, uint32_t n_row, const struct tile *t)
{
    uint32_t r = 0;
    for (; n_row - r >= 4; r += 4)
        if (any_seen(c, row + r, row + r + 3, t))
            step_rows(4, pair, c, row + r, t);
    for (; n_row - r >= 2; r += 2)
        if (any_seen(c, row + r, row + r + 1, t))
            step_rows(2, pair, c, row + r, t);
    if (r < n_row && any_seen(c, row + r, row + r, t))
        step_rows(1, pair, c, row + r, t);
}

typedef void step_function(const struct call *c, struct row *row, uint32_t n_row, const struct tile *t);

static void step_f32(const struct call *c, struct row *row, uint32_t n_row, const struct tile *t)
{
    step_unit(false, c, row, n_row, t);
}

static void step_bf16(const struct call *c, struct row *row, uint32_t n_row, const struct tile *t)
{
    step_unit(true, c, row, n_row, t);
}

/* ---- the same with AMX, 16 rows at a time: a group of K, or of V, is a column of tiles as it lies ------------------- */

#ifdef __AMX_TILE__
#define HAS_TILES true

/* A KiB. */
SIMD void ask_for(const uint32_t *p)
{
    for (size_t i = 0; i < 16; i++)
        __builtin_prefetch(p + i * LANES, 0, 2);
}

/* acc[i] += x y: tile i of 16 rows by 16 keys, or dimensions. */
#define K_PRODUCT(i)                                                                        \
    do {                                                                                    \
        if (i < t->n_group) {                                                               \
            _tile_loadd(5, t->k[i] + word * KV_GROUP, KV_GROUP * 4);                        \
            if (ask)                                                                        \
                ask_for(t->k_ahead[i] + word * KV_GROUP);                                   \
            _tile_dpbf16ps(i, 4, 5);                                                        \
        }                                                                                   \
    } while (0)

/* s [16 rows, 64 keys] = q.k */
SIMD void scores_tiles(const struct call *c, const char *q, const struct tile *t, float *s, bool ask)
{
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (size_t word = 0; word < c->n_word; word += LANES) {
        _tile_loadd(4, q + word * 4, c->d * 2);
        K_PRODUCT(0);
        K_PRODUCT(1);
        K_PRODUCT(2);
        K_PRODUCT(3);
    }
    _tile_stored(0, s, TILE * 4);
    _tile_stored(1, s + LANES, TILE * 4);
    _tile_stored(2, s + 2 * LANES, TILE * 4);
    _tile_stored(3, s + 3 * LANES, TILE * 4);
}

#define V_PRODUCT(i)                                                                        \
    do {                                                                                    \
        _tile_loadd(7, x->v + at + i * LANES, c->d * 4);                                    \
        _tile_dpbf16ps(i, 6, 7);                                                            \
    } while (0)

/* acc [16 rows, 32 dimensions from `at`] += p v */
SIMD void values_tiles(const struct call *c, float *acc, const struct tile *t, const uint32_t *p, size_t at, bool ask)
{
    size_t row = state_of(c) * sizeof *acc;
    _tile_loadd(0, acc + at, row);
    _tile_loadd(1, acc + at + LANES, row);
    for (uint32_t g = 0; g < t->n_group; g++) {
        const struct values *x = &t->values[g];
        _tile_loadd(6, p + g * KV_GROUP / 2, TILE * 2);
        V_PRODUCT(0);
        V_PRODUCT(1);
        if (ask)
            ask_for(x->ahead + at * KV_GROUP / 2);
    }
    _tile_stored(0, acc + at, row);
    _tile_stored(1, acc + at + LANES, row);
}

static void fade_row(const struct call *c, const struct row *row, vf fade)
{
    for (size_t i = 0; i < c->width; i += LANES)
        vf_store(row->acc + i, vf_mul(vf_load(row->acc + i), fade));
}

SIMD void step_rows_tiles(const struct call *c, struct row *row, uint32_t n_row, const struct tile *t, bool ask)
{
    float s[TILE_ROWS][TILE];
    uint32_t p[TILE_ROWS][TILE / 2];
    scores_tiles(c, row->q, t, s[0], ask);
    for (uint32_t r = 0; r < n_row; r++) {
        vf mine[GROUPS];
        for (uint32_t g = 0; g < t->n_group; g++)
            mine[g] = vf_load(s[r] + g * KV_GROUP);
        fade_row(c, &row[r], weigh(c, true, &row[r], t, mine, p[r]));
    }
    amx_written(p);
    for (size_t at = 0; at < c->width; at += 2 * LANES)
        values_tiles(c, row->acc, t, p[0], at, ask);
}

/* For n rows: sums in 0 to 3, q in 4, K in 5, p in 6, V in 7. */
static void configure(uint32_t n)
{
    uint8_t r = (uint8_t)n;
    struct amx_config config = {
        .palette = 1, .row_bytes = { 64, 64, 64, 64, 64, 64, 32, 64 }, .rows = { r, r, r, r, r, 16, r, 8 },
    };
    amx_configure(&config);
}

static void step_tiles(const struct call *c, struct row *row, uint32_t n_row, const struct tile *t)
{
    uint32_t configured = 0;
    for (uint32_t r = 0, n; r < n_row; r += n) {
        n = n_row - r < TILE_ROWS ? n_row - r : TILE_ROWS;
        if (!any_seen(c, row + r, row + r + n - 1, t))
            continue;
        if (n != configured)
            configure(n);
        if (!configured)
            step_rows_tiles(c, row + r, n, t, true);
        else
            step_rows_tiles(c, row + r, n, t, false);
        configured = n;
    }
}

#else
#define HAS_TILES false
#define step_tiles step_bf16
#endif

/* ---- a unit --------------------------------------------------------------------------------------------------- */

static struct kv_group group_at(const struct call *c, const struct attention_unit *u, uint32_t key)
{
    uint32_t size = c->kv->shape.block_size;
    return kv_group(c->kv, c->op->layer, u->blocks[key / size], u->kv_head, key % size);
}

/* In the last group, and in half of its last word, may be keys that are not there: whatever their values are must not be
 * multiplied, not even by 0. */
static void cut_tail(const struct call *c, struct tile *t)
{
    struct values *last = &t->values[t->n_group - 1];
    size_t n = last->n * c->d;
    memcpy(t->tail, last->v, n * sizeof *t->tail);
    for (size_t i = n - c->d; t->end % c->kv->per && i < n; i++)
        t->tail[i] &= 0xffff;
    memset(t->tail + n, 0, (KV_GROUP / c->kv->per * c->d - n) * sizeof *t->tail);
    last->v = t->tail;
}

/* The unit's groups with keys from `first` to end-1, all in the tile at `key`; it looks ahead at itself. */
static void tile_open(struct tile *t, const struct call *c, const struct attention_unit *u, uint32_t key, uint32_t first,
                      uint32_t end)
{
    uint32_t per = c->kv->per;
    t->key = first > key ? first / KV_GROUP * KV_GROUP : key;
    t->end = end < key + TILE ? end : key + TILE;
    t->n_group = (t->end - t->key + KV_GROUP - 1) / KV_GROUP;
    for (uint32_t g = 0; g < t->n_group; g++) {
        uint32_t at = t->key + g * KV_GROUP;
        struct kv_group kv = group_at(c, u, at);
        t->k[g] = t->k_ahead[g] = kv.k;
        t->values[g] = (struct values){ kv.v, kv.v, (keys_before(at, t->end) + per - 1) / per };
    }
}

static void look_ahead(struct tile *t, const struct tile *next)
{
    for (uint32_t g = 0; g < t->n_group && g < next->n_group; g++) {
        t->k_ahead[g] = next->k[g];
        t->values[g].ahead = next->values[g].v;
    }
}

/* For AMX: copies of the queries, one behind the other. */
static void pack_queries(const struct call *c, struct row *row, uint32_t n_row, char *to)
{
    size_t size = c->d * sizeof(uint16_t);
    for (uint32_t r = 0; r < n_row; r++, to += size) {
        memcpy(to, row[r].q, size);
        row[r].q = to;
    }
}

/* The rows of a unit by rising position, laid out in scratch. */
static struct row *open_rows(const struct call *c, const struct attention_unit *u, uint32_t n_group_head, void *scratch)
{
    const struct attention *op = c->op;
    uint32_t n_row = u->n_tok * n_group_head;
    struct row *row = scratch;
    float *state = (float *)(row + n_row);
    size_t q_size = c->d * dtype_size(op->q.dtype), y_size = c->d * dtype_size(op->y.dtype);
    memset(state, 0, n_row * state_of(c) * sizeof *state);
    for (uint32_t r = 0; r < n_row; r++, state += state_of(c)) {
        uint32_t tok = r / n_group_head, head = u->kv_head * n_group_head + r % n_group_head;
        size_t at = (size_t)(u->tok + tok) * (op->q.cols / c->d) + head;
        row[r] = (struct row){ .q = (const char *)op->q.data + at * q_size, .y = (char *)op->y.data + at * y_size,
                               .sum = state, .acc = state + LANES, .top = FAR_BELOW, .pos = u->pos + tok };
        if (op->sinks) {
            row[r].top = op->sinks[head] * LOG2_E;
            state[0] = 1;
        }
    }
    if (c->tiles)
        pack_queries(c, row, n_row, (char *)(row[0].sum + n_row * state_of(c)));
    return row;
}

/* The + 0 makes one of both zeros: a masked key may have turned one into the other. */
static void close_row(const struct call *c, const struct row *row)
{
    vf inv = vf_set(1 / vf_total(vf_load(row->sum)));
    for (size_t i = 0; i < c->d; i += LANES) {
        vf y = vf_add(vf_mul(vf_load(row->acc + i), inv), vf_set(0));
        vf_store_as(row->y, c->op->y.dtype, i, lanes_left(i, c->d), y);
    }
}

static struct call call_of(const struct attention *op)
{
    size_t d = op->kv->shape.d_head;
    struct call c = { .op = op, .kv = op->kv, .d = d, .n_word = d / op->kv->per, .width = (d + LANES - 1) / LANES * LANES,
                      .factor = op->scale * LOG2_E, .tiles = HAS_TILES && op->kv->per == 2 && d % (2 * LANES) == 0 };
    if (op->softcap > 0) {
        c.factor = op->scale / op->softcap;
        c.cap = op->softcap * LOG2_E;
    }
    return c;
}

/* step: one of the above, a constant. */
SIMD void attend(step_function *step, const struct call *c, const struct attention_unit *u, const struct attention_unit *next, void *scratch)
{
    uint32_t n_group_head = c->op->q.cols / (uint32_t)c->d / c->kv->shape.n_kv_head;
    uint32_t first = first_seen(c->op, u->pos), end = u->pos + u->n_tok;
    struct row *row = open_rows(c, u, n_group_head, scratch);
    struct tile tiles[2], *t = &tiles[0], *ahead = &tiles[1];
    tile_open(t, c, u, first / TILE * TILE, first, end);
    for (uint32_t key = first / TILE * TILE; key < end; key += TILE) {
        bool more = key + TILE < end;
        uint32_t begin = next ? first_seen(c->op, next->pos) : 0;
        if (more)
            tile_open(ahead, c, u, key + TILE, first, end);
        else if (next)
            tile_open(ahead, c, next, begin / TILE * TILE, begin, next->pos + next->n_tok);
        if (more || next)
            look_ahead(t, ahead);
        if (t->end % KV_GROUP)
            cut_tail(c, t);
        step(c, row, u->n_tok * n_group_head, t);
        struct tile *done = t;
        t = ahead;
        ahead = done;
    }
    for (uint32_t r = 0; r < u->n_tok * n_group_head; r++)
        close_row(c, &row[r]);
}

static size_t scratch_size(const struct attention *op, uint32_t n_row)
{
    struct call c = call_of(op);
    size_t q_size = c.tiles ? c.d * sizeof(uint16_t) : 0;
    return n_row * (sizeof(struct row) + state_of(&c) * sizeof(float) + q_size);
}

static void unit(const struct attention *op, const struct attention_unit *u, const struct attention_unit *next, void *scratch)
{
    struct call c = call_of(op);
    if (c.tiles)
        attend(step_tiles, &c, u, next, scratch);
    else if (c.kv->per == 2)
        attend(step_bf16, &c, u, next, scratch);
    else
        attend(step_f32, &c, u, next, scratch);
}

VEC_TABLE(vec_attention) = { scratch_size, unit };

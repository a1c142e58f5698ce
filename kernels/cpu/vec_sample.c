/* vec_sample.c - passes over a row of logits, and the formulas that every device must repeat to pick the same token.
 *
 * Everything here is products and sums of f32, each rounded to nearest even and never fused, so that any IEEE machine
 * gets the same bits.  With Philox-4x32-10 as in base/rng.h, a token's Gumbel number is
 *     block = id / 64 * 16 + id % 16      word = rng_block(seed, stream, block)[id / 16 % 4]
 *     t = min((float(word >> 1) + 0.5) 2^-31, 1 - 2^-24)      u = 1 - t
 *     e = -(log(u) + ((1 - u) - t))       which is -log(1 - t), exact to f32 also where t is far below 2^-24
 *     g = -log(e)
 * so that a register of 16 blocks serves 64 ids in a row, and the greatest g, which decide, are the finest.
 * A token's mass is 2^44 e^(x - top) as a whole number: sums of masses do not depend on their order.
 *
 * Bound: reading, but for draw, which makes numbers: some 3 operations a token.  The logarithms are taken only where a
 * bound on g says that the token could become the best so far, which is seldom. */
#include <math.h>

#include "kernels/cpu/simd.h"
#include "kernels/cpu/vec.h"

/* x = n ln 2 + r, n whole; e^x = 2^n (r^2 P(r) + r + 1); x <= 0, below -80 as at -80.  Relative error 1e-7. */
SIMD vf exp_fixed(vf x)
{
    x = vf_max(vf_set(-80), x);
    vf n = vf_round(vf_mul(x, vf_set(LOG2_E)));
    vf r = vf_sub(vf_sub(x, vf_mul(n, vf_set(0x1.62e4p-1f))), vf_mul(n, vf_set(0x1.7f7d1cp-20f)));
    vf p = vf_add(vf_mul(vf_set(0x1.6a2446p-10f), r), vf_set(0x1.1239d4p-7f));
    p = vf_add(vf_mul(p, r), vf_set(0x1.5558f2p-5f));
    p = vf_add(vf_mul(p, r), vf_set(0x1.555492p-3f));
    p = vf_add(vf_mul(p, r), vf_set(0x1.fffffcp-2f));
    return vf_scale2(vf_add(vf_add(vf_mul(vf_mul(r, r), p), r), vf_set(1)), n);
}

/* x = 2^n (1 + f), sqrt(1/2) <= 1 + f < sqrt(2); log x = f^3 P(f) - f^2 / 2 + f + n ln 2; x > 0 and not subnormal. */
SIMD vf log_fixed(vf x)
{
    vi bits = vi_bits(x), exponent = vi_sar(vi_sub(bits, vi_set(0x3f3504f3)), 23);
    vf n = vf_of_int(exponent), f = vf_sub(vf_bits(vi_sub(bits, vi_shl(exponent, 23))), vf_set(1));
    vf p = vf_add(vf_mul(vf_set(0x1.645e64p-4f), f), vf_set(-0x1.243282p-3f));
    p = vf_add(vf_mul(p, f), vf_set(0x1.31744ap-3f));
    p = vf_add(vf_mul(p, f), vf_set(-0x1.53825p-3f));
    p = vf_add(vf_mul(p, f), vf_set(0x1.98d7f4p-3f));
    p = vf_add(vf_mul(p, f), vf_set(-0x1.000382p-2f));
    p = vf_add(vf_mul(p, f), vf_set(0x1.5556d8p-2f));
    vf square = vf_mul(f, f), y = vf_mul(vf_mul(square, f), p);
    y = vf_add(y, vf_mul(n, vf_set(0x1.7f7d1cp-20f)));
    y = vf_add(vf_sub(y, vf_mul(square, vf_set(0.5f))), f);
    return vf_add(y, vf_mul(n, vf_set(0x1.62e4p-1f)));
}

/* tanh |x| = (1 - e^-2|x|) / (1 + e^-2|x|) */
static void soften(float *x, size_t from, size_t to, float scale, float cap)
{
    vf by = vf_set(cap > 0 ? scale / cap : scale), none = vf_set(0), one = vf_set(1);
    for (size_t i = from; i < to; i += LANES) {
        uint32_t n = lanes_left(i, to);
        vf y = vf_mul(vf_load_as(x, DTYPE_F32, i, n), by);
        if (cap > 0) {
            vm positive = vm_gt(y, none);
            vf down = vf_pick(positive, vf_sub(none, y), y), e = exp_fixed(vf_add(down, down));
            vf size = vf_mul(vf_set(cap), vf_div(vf_sub(one, e), vf_add(one, e)));
            y = vf_pick(positive, size, vf_sub(none, size));
        }
        vf_store_as(x, DTYPE_F32, i, n, y);
    }
}

/* What lies behind the row is a column that is never best. */
SIMD vf columns(const float *x, size_t i, size_t to)
{
    uint32_t n = lanes_left(i, to);
    return n == LANES ? vf_load(x + i) : vf_load_n(x + i, n, -INFINITY);
}

static void maxima(const float *x, size_t from, size_t to, float *out)
{
    for (size_t chunk = from; chunk < to; chunk += SAMPLE_CHUNK) {
        size_t end = to - chunk < SAMPLE_CHUNK ? to : chunk + SAMPLE_CHUNK;
        vf top = vf_set(-INFINITY);
        for (size_t i = chunk; i < end; i += LANES)
            top = vf_max(columns(x, i, end), top);
        vf_store(out + chunk / SAMPLE_CHUNK * LANES, top);
    }
}

/* The best of each lane, and its column. */
struct bests { vf value; vi id; };

SIMD struct bests bests_none(void)
{
    return (struct bests){ vf_set(-INFINITY), vi_set(0) };
}

SIMD void bests_take(struct bests *b, vf value, vi id)
{
    vm better = vm_gt(value, b->value);
    b->value = vf_pick(better, value, b->value);
    b->id = vi_pick(better, id, b->id);
}

SIMD void best_take(struct best *best, struct bests b)
{
    float value[LANES];
    uint32_t id[LANES];
    vf_store(value, b.value);
    vi_store(id, b.id);
    for (int i = 0; i < LANES; i++)
        if (value[i] > best->value || (value[i] == best->value && id[i] < best->id))
            *best = (struct best){ value[i], id[i] };
}

/* Four at a time, so that a comparison need not wait for the one before. */
static struct best best(const float *x, size_t from, size_t to)
{
    struct bests b[4] = { bests_none(), bests_none(), bests_none(), bests_none() };
    vi id = vi_add(vi_lane(), vi_set((uint32_t)from));
    size_t i = from;
    for (; i + 4 * LANES <= to; i += 4 * LANES)
        UNROLL for (int c = 0; c < 4; c++, id = vi_add(id, vi_set(LANES)))
            bests_take(&b[c], vf_load(x + i + c * LANES), id);
    for (; i < to; i += LANES, id = vi_add(id, vi_set(LANES)))
        bests_take(&b[0], columns(x, i, to), id);
    struct best best = { -INFINITY, 0 };
    for (int c = 0; c < 4; c++)
        best_take(&best, b[c]);
    return best;
}

static uint64_t mass(const float *x, size_t from, size_t to, float scale, float top, float floor)
{
    vsum sum = vsum_zero();
    vf least = vf_set(floor), greatest = vf_set(top), by = vf_set(scale);
    for (size_t i = from; i < to; i += LANES) {
        vf v = vf_mul(columns(x, i, to), by);
        sum = vsum_add(sum, vm_ge(v, least), exp_fixed(vf_sub(v, greatest)));
    }
    return vsum_total(sum);
}

static void masses(const float *x, size_t n, float top, uint64_t *out)
{
    for (size_t i = 0; i < n; i += LANES) {
        float e[LANES];
        uint32_t n_left = lanes_left(i, n);
        vf_store(e, exp_fixed(vf_sub(columns(x, i, n), vf_set(top))));
        for (uint32_t k = 0; k < n_left; k++)
            out[i + k] = (uint64_t)llrint((double)e[k] * 0x1p44);
    }
}

static uint32_t collect(const float *x, size_t to, float scale, float floor, float *value, uint32_t *id)
{
    uint32_t n = 0;
    vf least = vf_set(floor), by = vf_set(scale);
    for (size_t i = 0; i < to; i += LANES) {
        vf v = vf_mul(columns(x, i, to), by);
        uint32_t found = vm_bits(vm_ge(v, least)) & vm_bits(vm_first(lanes_left(i, to)));
        for (; found; found &= found - 1, n++) {
            id[n] = (uint32_t)i + (uint32_t)__builtin_ctz(found);
            value[n] = x[id[n]] * scale;
        }
    }
    return n;
}

/* rng_block(key, a, the blocks b) */
SIMD void philox(uint64_t key, uint64_t a, vi b, vi out[4])
{
    vi c0 = vi_set((uint32_t)a), c1 = vi_set((uint32_t)(a >> 32)), c2 = b, c3 = vi_set(0);
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int i = 0; i < 10; i++, k0 += 0x9E3779B9, k1 += 0xBB67AE85) {
        vi high0, high1, low0 = vi_mul_wide(c0, 0xD2511F53, &high0), low1 = vi_mul_wide(c2, 0xCD9E8D57, &high1);
        c0 = vi_xor(vi_xor(high1, c1), vi_set(k0));
        c1 = low1;
        c2 = vi_xor(vi_xor(high0, c3), vi_set(k1));
        c3 = low0;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

SIMD vf uniform(vi word)
{
    vf t = vf_mul(vf_add(vf_of_int(vi_shr(word, 1)), vf_set(0.5f)), vf_set(0x1p-31f));
    return vf_min(t, vf_set(1 - 0x1p-24f));
}

/* No less than gumbel(t): e >= t, and -log(t) <= -ln 2 times t's exponent. */
SIMD vf gumbel_most(vf t)
{
    vf exponent = vf_of_int(vi_sub(vi_shr(vi_bits(t), 23), vi_set(127)));
    return vf_sub(vf_set(1e-4f), vf_mul(exponent, vf_set(0x1.62e43p-1f)));
}

SIMD vf gumbel(vf t)
{
    vf u = vf_sub(vf_set(1), t), rest = vf_sub(vf_sub(vf_set(1), u), t);
    vf e = vf_sub(vf_set(0), vf_add(log_fixed(u), rest));
    return vf_sub(vf_set(0), log_fixed(e));
}

enum { DRAW = 4 * LANES };     /* columns of a register of blocks */

static struct best draw(const float *x, size_t from, size_t to, float scale, float floor, uint64_t seed, uint64_t stream)
{
    struct bests b = bests_none();
    vf least = vf_set(floor), by = vf_set(scale);
    for (size_t at = from; at < to; at += DRAW) {
        vf v[4];
        uint32_t any = 0;
        for (size_t c = 0; c < 4; c++) {
            v[c] = at + c * LANES < to ? vf_mul(columns(x, at + c * LANES, to), by) : vf_set(-INFINITY);
            vm in = vm_ge(v[c], least);
            v[c] = vf_pick(in, v[c], vf_set(-INFINITY));
            any |= vm_bits(in);
        }
        if (!any)
            continue;
        vi word[4];
        philox(seed, stream, vi_add(vi_lane(), vi_set((uint32_t)(at / 4))), word);
        for (uint32_t c = 0; c < 4; c++) {
            vf t = uniform(word[c]);
            if (vm_bits(vm_gt(vf_add(v[c], gumbel_most(t)), b.value)))
                bests_take(&b, vf_add(v[c], gumbel(t)), vi_add(vi_lane(), vi_set((uint32_t)at + c * LANES)));
        }
    }
    struct best best = { -INFINITY, 0 };
    best_take(&best, b);
    return best;
}

VEC_TABLE(vec_sample) = { soften, maxima, best, mass, masses, collect, draw };

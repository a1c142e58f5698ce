/* simd.h - sixteen lanes at a time, for the files named vec_*.c, which are compiled once a tier (enum cpu_tier).
 *
 *   vf  16 floats        vi  16 words of 32 bits        vm  16 yes or no        vsum  a sum of whole numbers below 2^64
 *
 * Every tier has the same functions, in simd_avx512.h, simd_avx2.h and simd_base.h (plain C); what they have in common
 * is here.  Sums need -ffp-contract=off, which -std=c11 means to gcc: a product and a sum are rounded apart unless
 * vf_fma is asked for, so that what uses neither vf_fma nor vf_dot_* gives the same bits on every tier.
 *
 * _n: the first n lanes only, 0 < n <= 16; what is loaded besides is `fill`, nothing else is touched in memory. */
#ifndef KERNELS_CPU_SIMD_H
#define KERNELS_CPU_SIMD_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/num.h"

#define SIMD static inline __attribute__((always_inline))
#define LANES 16

/* Before a loop of at most 8 rounds over an array of vectors that must live in registers. */
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(enable)")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif

#if defined __AVX512BF16__
#include "kernels/cpu/simd_avx512.h"
#elif defined __AVX2__
#include "kernels/cpu/simd_avx2.h"
#else
#include "kernels/cpu/simd_base.h"
#endif

/* The name of this tier's table, as vec.h declares it. */
#define VEC_PASTE(kind, tier) kind##_##tier
#define VEC_EXPAND(kind, tier) VEC_PASTE(kind, tier)
#define VEC_TABLE(kind) const struct kind VEC_EXPAND(kind, TIER)

SIMD uint32_t lanes_left(size_t i, size_t n)
{
    return n - i < LANES ? (uint32_t)(n - i) : LANES;
}

/* Elements i .. i+n-1 of an array of f32 or bf16; n == LANES is the quick way. */
SIMD vf vf_load_as(const void *p, enum dtype type, size_t i, uint32_t n)
{
    if (type == DTYPE_F32)
        return n == LANES ? vf_load((const float *)p + i) : vf_load_n((const float *)p + i, n, 0);
    return n == LANES ? vf_load_bf16((const uint16_t *)p + i) : vf_load_bf16_n((const uint16_t *)p + i, n);
}

SIMD void vf_store_as(void *p, enum dtype type, size_t i, uint32_t n, vf x)
{
    if (type == DTYPE_F32) {
        if (n == LANES)
            vf_store((float *)p + i, x);
        else
            vf_store_n((float *)p + i, n, x);
    } else {
        if (n == LANES)
            vf_store_bf16((uint16_t *)p + i, x);
        else
            vf_store_bf16_n((uint16_t *)p + i, n, x);
    }
}

/* 2^x for x <= 128, relative error 2e-7; exactly 1 at 0 and exactly 0 below -150; a NaN stays one.
 * 2^r = 1 + r P(r) on [-1/2, 1/2]; P is minimax in the relative error, from our own Remez iteration. */
SIMD vf vf_exp2(vf x)
{
    x = vf_max(vf_set(-150), x);
    vf n = vf_round(x), r = vf_sub(x, n);
    vf p = vf_fma(vf_set(0x1.5bba2p-10f), r, vf_set(0x1.3cea86p-7f));
    p = vf_fma(p, r, vf_set(0x1.c6b752p-5f));
    p = vf_fma(p, r, vf_set(0x1.ebf9bcp-3f));
    p = vf_fma(p, r, vf_set(0x1.62e42ap-1f));
    return vf_scale2(vf_fma(p, r, vf_set(1)), n);
}

#define LOG2_E 0x1.715476p+0f

/* e^x, clamped so that it is finite. */
SIMD vf vf_exp(vf x)
{
    return vf_exp2(vf_min(vf_set(127), vf_mul(x, vf_set(LOG2_E))));
}

SIMD vf vf_tanh(vf x)
{
    vf e = vf_exp(vf_add(x, x));
    return vf_sub(vf_set(1), vf_div(vf_set(2), vf_add(e, vf_set(1))));
}

#endif

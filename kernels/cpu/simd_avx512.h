/* simd_avx512.h - see simd.h, which includes this. */
#ifndef KERNELS_CPU_SIMD_AVX512_H
#define KERNELS_CPU_SIMD_AVX512_H

#include <immintrin.h>

enum { ACCUMULATORS = 16 };      /* that a loop can hold in registers beside its operands */

typedef __m512 vf;
typedef __m512i vi;
typedef __mmask16 vm;
typedef __m512i vsum;

SIMD vf vf_set(float x)            { return _mm512_set1_ps(x); }
SIMD vf vf_load(const float *p)    { return _mm512_loadu_ps(p); }
SIMD void vf_store(float *p, vf x) { _mm512_storeu_ps(p, x); }
SIMD vf vf_add(vf a, vf b)         { return _mm512_add_ps(a, b); }
SIMD vf vf_sub(vf a, vf b)         { return _mm512_sub_ps(a, b); }
SIMD vf vf_mul(vf a, vf b)         { return _mm512_mul_ps(a, b); }
SIMD vf vf_div(vf a, vf b)         { return _mm512_div_ps(a, b); }
SIMD vf vf_max(vf a, vf b)         { return _mm512_max_ps(a, b); }     /* b if either is NaN */
SIMD vf vf_min(vf a, vf b)         { return _mm512_min_ps(a, b); }     /* b if either is NaN */
SIMD vf vf_fma(vf a, vf b, vf c)   { return _mm512_fmadd_ps(a, b, c); }
SIMD vf vf_round(vf x)             { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
SIMD vf vf_scale2(vf x, vf n)      { return _mm512_scalef_ps(x, n); }  /* x 2^n, n whole */
SIMD float vf_total(vf x)          { return _mm512_reduce_add_ps(x); }
SIMD float vf_top(vf x)            { return _mm512_reduce_max_ps(x); }

SIMD vm vm_first(uint32_t n)       { return (vm)((1u << n) - 1); }      /* lanes below n, n <= 16 */
SIMD vm vm_andnot(vm a, vm b)      { return (vm)(a & ~b); }
SIMD vm vm_gt(vf a, vf b)          { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
SIMD vm vm_ge(vf a, vf b)          { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
SIMD uint32_t vm_bits(vm m)        { return m; }
SIMD vf vf_pick(vm m, vf a, vf b)  { return _mm512_mask_blend_ps(m, b, a); }   /* a where m, else b */
SIMD vi vi_pick(vm m, vi a, vi b)  { return _mm512_mask_blend_epi32(m, b, a); }

SIMD vi vi_set(uint32_t x)         { return _mm512_set1_epi32((int)x); }
SIMD vi vi_lane(void)              { return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15); }
SIMD vi vi_load(const uint32_t *p) { return _mm512_loadu_si512(p); }
SIMD void vi_store(uint32_t *p, vi x) { _mm512_storeu_si512(p, x); }
SIMD vi vi_add(vi a, vi b)         { return _mm512_add_epi32(a, b); }
SIMD vi vi_sub(vi a, vi b)         { return _mm512_sub_epi32(a, b); }
SIMD vi vi_xor(vi a, vi b)         { return _mm512_xor_si512(a, b); }
SIMD vi vi_and(vi a, vi b)         { return _mm512_and_si512(a, b); }
SIMD vi vi_shl(vi x, int n)        { return _mm512_slli_epi32(x, (unsigned)n); }
SIMD vi vi_shr(vi x, int n)        { return _mm512_srli_epi32(x, (unsigned)n); }
SIMD vi vi_sar(vi x, int n)        { return _mm512_srai_epi32(x, (unsigned)n); }   /* signed */

SIMD vf vf_of_int(vi x)            { return _mm512_cvtepi32_ps(x); }   /* signed, to nearest even */
SIMD vi vi_of_float(vf x)          { return _mm512_cvtps_epi32(x); }   /* to nearest even */
SIMD vf vf_bits(vi x)              { return _mm512_castsi512_ps(x); }
SIMD vi vi_bits(vf x)              { return _mm512_castps_si512(x); }

/* The low halves of the 64-bit products; the high ones to *high. */
SIMD vi vi_mul_wide(vi a, uint32_t b, vi *high)
{
    vi by = vi_set(b);
    vi even = _mm512_mul_epu32(a, by), odd = _mm512_mul_epu32(_mm512_srli_epi64(a, 32), by);
    *high = _mm512_mask_shuffle_epi32(odd, 0x5555, even, _MM_PERM_DDBB);
    return _mm512_mask_shuffle_epi32(even, 0xaaaa, odd, _MM_PERM_CCAA);
}

SIMD vf vf_load_n(const float *p, uint32_t n, float fill)
{
    return _mm512_mask_loadu_ps(vf_set(fill), vm_first(n), p);
}

SIMD void vf_store_n(float *p, uint32_t n, vf x)
{
    _mm512_mask_storeu_ps(p, vm_first(n), x);
}

SIMD vf vf_of_bf16(__m256i h)
{
    return vf_bits(vi_shl(_mm512_cvtepu16_epi32(h), 16));
}

SIMD vf vf_load_bf16(const uint16_t *p)
{
    return vf_of_bf16(_mm256_loadu_si256((const __m256i *)p));
}

SIMD vf vf_load_bf16_n(const uint16_t *p, uint32_t n)
{
    return vf_of_bf16(_mm256_maskz_loadu_epi16(vm_first(n), p));
}

/* Stores x as bf16 and returns what it became. */
SIMD vf vf_store_bf16(uint16_t *p, vf x)
{
    __m256i h = (__m256i)_mm512_cvtneps_pbh(x);
    _mm256_storeu_si256((__m256i *)p, h);
    return vf_of_bf16(h);
}

SIMD void vf_store_bf16_n(uint16_t *p, uint32_t n, vf x)
{
    _mm256_mask_storeu_epi16(p, vm_first(n), (__m256i)_mm512_cvtneps_pbh(x));
}

/* Lane by lane, acc + a b: of the floats in the words, or of both bf16 in them. */
SIMD vf vf_dot_f32(vf acc, vi a, vi b)
{
    return _mm512_fmadd_ps(vf_bits(a), vf_bits(b), acc);
}

SIMD vf vf_dot_bf16(vf acc, vi a, vi b)
{
    return _mm512_dpbf16_ps(acc, (__m512bh)a, (__m512bh)b);
}

SIMD vsum vsum_zero(void)
{
    return _mm512_setzero_si512();
}

/* Adds the lanes where m of 2^44 e, rounded to whole numbers; 0 <= e <= 1. */
SIMD vsum vsum_add(vsum s, vm m, vf e)
{
    vf scaled = _mm512_maskz_mul_ps(m, e, vf_set(0x1p44f));
    __m512i low = _mm512_cvtps_epu64(_mm512_castps512_ps256(scaled));
    __m512i high = _mm512_cvtps_epu64(_mm512_extractf32x8_ps(scaled, 1));
    return _mm512_add_epi64(s, _mm512_add_epi64(low, high));
}

SIMD uint64_t vsum_total(vsum s)
{
    return (uint64_t)_mm512_reduce_add_epi64(s);
}

#endif

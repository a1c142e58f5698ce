/* simd_avx2.h - see simd.h, which includes this.  Sixteen lanes are two registers. */
#ifndef KERNELS_CPU_SIMD_AVX2_H
#define KERNELS_CPU_SIMD_AVX2_H

#include <immintrin.h>

enum { ACCUMULATORS = 4 };      /* that a loop can hold in registers beside its operands */

typedef struct { __m256 a, b; } vf;
typedef struct { __m256i a, b; } vi;
typedef struct { __m256 a, b; } vm;            /* all ones or all zeros */
typedef __m256i vsum;

SIMD vf vf_both(__m256 a, __m256 b)   { return (vf){ a, b }; }
SIMD vi vi_both(__m256i a, __m256i b) { return (vi){ a, b }; }
SIMD vm vm_both(__m256 a, __m256 b)   { return (vm){ a, b }; }

SIMD vf vf_set(float x)            { return vf_both(_mm256_set1_ps(x), _mm256_set1_ps(x)); }
SIMD vf vf_load(const float *p)    { return vf_both(_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)); }
SIMD void vf_store(float *p, vf x) { _mm256_storeu_ps(p, x.a), _mm256_storeu_ps(p + 8, x.b); }
SIMD vf vf_add(vf x, vf y)         { return vf_both(_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)); }
SIMD vf vf_sub(vf x, vf y)         { return vf_both(_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)); }
SIMD vf vf_mul(vf x, vf y)         { return vf_both(_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)); }
SIMD vf vf_div(vf x, vf y)         { return vf_both(_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)); }
SIMD vf vf_max(vf x, vf y)         { return vf_both(_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)); }
SIMD vf vf_min(vf x, vf y)         { return vf_both(_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)); }
SIMD vf vf_fma(vf x, vf y, vf z)   { return vf_both(_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)); }

SIMD vf vf_round(vf x)
{
    enum { NEAREST = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC };
    return vf_both(_mm256_round_ps(x.a, NEAREST), _mm256_round_ps(x.b, NEAREST));
}

SIMD float half_total(__m256 x)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

SIMD float half_top(__m256 x)
{
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

SIMD float vf_total(vf x)          { return half_total(_mm256_add_ps(x.a, x.b)); }
SIMD float vf_top(vf x)            { return half_top(_mm256_max_ps(x.a, x.b)); }

SIMD vi vi_set(uint32_t x)         { return vi_both(_mm256_set1_epi32((int)x), _mm256_set1_epi32((int)x)); }
SIMD vi vi_lane(void)              { __m256i l = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
                                     return vi_both(l, _mm256_add_epi32(l, _mm256_set1_epi32(8))); }
SIMD vi vi_load(const uint32_t *p) { const __m256i *q = (const __m256i *)p;
                                     return vi_both(_mm256_loadu_si256(q), _mm256_loadu_si256(q + 1)); }
SIMD void vi_store(uint32_t *p, vi x) { __m256i *q = (__m256i *)p;
                                     _mm256_storeu_si256(q, x.a), _mm256_storeu_si256(q + 1, x.b); }
SIMD vi vi_add(vi x, vi y)         { return vi_both(_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)); }
SIMD vi vi_sub(vi x, vi y)         { return vi_both(_mm256_sub_epi32(x.a, y.a), _mm256_sub_epi32(x.b, y.b)); }
SIMD vi vi_xor(vi x, vi y)         { return vi_both(_mm256_xor_si256(x.a, y.a), _mm256_xor_si256(x.b, y.b)); }
SIMD vi vi_and(vi x, vi y)         { return vi_both(_mm256_and_si256(x.a, y.a), _mm256_and_si256(x.b, y.b)); }
SIMD vi vi_shl(vi x, int n)        { return vi_both(_mm256_slli_epi32(x.a, n), _mm256_slli_epi32(x.b, n)); }
SIMD vi vi_shr(vi x, int n)        { return vi_both(_mm256_srli_epi32(x.a, n), _mm256_srli_epi32(x.b, n)); }
SIMD vi vi_sar(vi x, int n)        { return vi_both(_mm256_srai_epi32(x.a, n), _mm256_srai_epi32(x.b, n)); }

SIMD vf vf_of_int(vi x)            { return vf_both(_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)); }
SIMD vi vi_of_float(vf x)          { return vi_both(_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)); }
SIMD vf vf_bits(vi x)              { return vf_both(_mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b)); }
SIMD vi vi_bits(vf x)              { return vi_both(_mm256_castps_si256(x.a), _mm256_castps_si256(x.b)); }

/* Two steps: 2^n itself may not be a float where x 2^n is one. */
SIMD vf vf_scale2(vf x, vf n)
{
    vi whole = vi_of_float(n), half = vi_sar(whole, 1), bias = vi_set(127);
    vf first = vf_bits(vi_shl(vi_add(half, bias), 23)), second = vf_bits(vi_shl(vi_add(vi_sub(whole, half), bias), 23));
    return vf_mul(vf_mul(x, first), second);
}

SIMD vm vm_first(uint32_t n)
{
    vi lane = vi_lane();
    __m256i end = _mm256_set1_epi32((int)n);
    return vm_both(_mm256_castsi256_ps(_mm256_cmpgt_epi32(end, lane.a)),
                   _mm256_castsi256_ps(_mm256_cmpgt_epi32(end, lane.b)));
}

SIMD vm vm_andnot(vm x, vm y)      { return vm_both(_mm256_andnot_ps(y.a, x.a), _mm256_andnot_ps(y.b, x.b)); }
SIMD vm vm_gt(vf x, vf y)          { return vm_both(_mm256_cmp_ps(x.a, y.a, _CMP_GT_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_GT_OQ)); }
SIMD vm vm_ge(vf x, vf y)          { return vm_both(_mm256_cmp_ps(x.a, y.a, _CMP_GE_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_GE_OQ)); }
SIMD uint32_t vm_bits(vm m)        { return (uint32_t)_mm256_movemask_ps(m.a) | (uint32_t)_mm256_movemask_ps(m.b) << 8; }
SIMD vf vf_pick(vm m, vf x, vf y)  { return vf_both(_mm256_blendv_ps(y.a, x.a, m.a), _mm256_blendv_ps(y.b, x.b, m.b)); }
SIMD vi vi_pick(vm m, vi x, vi y)  { return vi_bits(vf_pick(m, vf_bits(x), vf_bits(y))); }

SIMD __m256i half_mul_wide(__m256i x, __m256i by, __m256i *high)
{
    __m256i even = _mm256_mul_epu32(x, by), odd = _mm256_mul_epu32(_mm256_srli_epi64(x, 32), by);
    *high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
    return _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
}

SIMD vi vi_mul_wide(vi x, uint32_t y, vi *high)
{
    __m256i by = _mm256_set1_epi32((int)y);
    return vi_both(half_mul_wide(x.a, by, &high->a), half_mul_wide(x.b, by, &high->b));
}

SIMD vf vf_load_n(const float *p, uint32_t n, float fill)
{
    float lane[LANES];
    for (int i = 0; i < LANES; i++)
        lane[i] = fill;
    memcpy(lane, p, n * sizeof *p);
    return vf_load(lane);
}

SIMD void vf_store_n(float *p, uint32_t n, vf x)
{
    float lane[LANES];
    vf_store(lane, x);
    memcpy(p, lane, n * sizeof *p);
}

SIMD vf vf_load_bf16(const uint16_t *p)
{
    const __m128i *q = (const __m128i *)p;
    return vf_bits(vi_shl(vi_both(_mm256_cvtepu16_epi32(_mm_loadu_si128(q)), _mm256_cvtepu16_epi32(_mm_loadu_si128(q + 1))), 16));
}

SIMD vf vf_load_bf16_n(const uint16_t *p, uint32_t n)
{
    uint16_t lane[LANES] = { 0 };
    memcpy(lane, p, n * sizeof *p);
    return vf_load_bf16(lane);
}

/* Stores x as bf16, to nearest even, and returns what it became; a NaN stays one. */
SIMD vf vf_store_bf16(uint16_t *p, vf x)
{
    vi u = vi_bits(x), odd = vi_and(vi_shr(u, 16), vi_set(1));
    vi near = vi_shr(vi_add(u, vi_add(odd, vi_set(0x7fff))), 16);
    vi quiet = vi_shr(vi_add(vi_and(u, vi_set(0xff800000)), vi_set(0x400000)), 16);
    vi h = vi_pick(vm_ge(x, vf_set(-__builtin_inff())), near, quiet);
    __m256i both = _mm256_permute4x64_epi64(_mm256_packus_epi32(h.a, h.b), 0xd8);
    _mm256_storeu_si256((__m256i *)p, both);
    return vf_bits(vi_shl(h, 16));
}

SIMD void vf_store_bf16_n(uint16_t *p, uint32_t n, vf x)
{
    uint16_t lane[LANES];
    vf_store_bf16(lane, x);
    memcpy(p, lane, n * sizeof *p);
}

SIMD vf vf_dot_f32(vf acc, vi x, vi y)
{
    return vf_fma(vf_bits(x), vf_bits(y), acc);
}

SIMD vf vf_dot_bf16(vf acc, vi x, vi y)
{
    vi odd = vi_set(0xffff0000);
    acc = vf_fma(vf_bits(vi_and(x, odd)), vf_bits(vi_and(y, odd)), acc);
    return vf_fma(vf_bits(vi_shl(x, 16)), vf_bits(vi_shl(y, 16)), acc);
}

SIMD vsum vsum_zero(void)
{
    return _mm256_setzero_si256();
}

/* Adding 2^52 leaves the number, rounded to nearest even, in the low bits of the double. */
SIMD vsum quarter_add(vsum s, __m128 e)
{
    __m256d base = _mm256_set1_pd(0x1p52), d = _mm256_mul_pd(_mm256_cvtps_pd(e), _mm256_set1_pd(0x1p44));
    __m256i whole = _mm256_castpd_si256(_mm256_add_pd(d, base));
    return _mm256_add_epi64(s, _mm256_sub_epi64(whole, _mm256_castpd_si256(base)));
}

SIMD vsum vsum_add(vsum s, vm m, vf e)
{
    e = vf_pick(m, e, vf_set(0));
    s = quarter_add(quarter_add(s, _mm256_castps256_ps128(e.a)), _mm256_extractf128_ps(e.a, 1));
    return quarter_add(quarter_add(s, _mm256_castps256_ps128(e.b)), _mm256_extractf128_ps(e.b, 1));
}

SIMD uint64_t vsum_total(vsum s)
{
    uint64_t lane[4];
    _mm256_storeu_si256((__m256i *)lane, s);
    return lane[0] + lane[1] + lane[2] + lane[3];
}

#endif

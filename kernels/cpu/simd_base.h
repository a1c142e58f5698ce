/* simd_base.h - see simd.h, which includes this.  Sixteen lanes are four registers of four, by the compiler's own
 * vectors: every x86-64 has them, and so has any other machine. */
#ifndef KERNELS_CPU_SIMD_BASE_H
#define KERNELS_CPU_SIMD_BASE_H

#include <math.h>

enum { ACCUMULATORS = 4 };      /* that a loop can hold in registers beside its operands */

typedef float    float4 __attribute__((vector_size(16)));
typedef int32_t  int4   __attribute__((vector_size(16)));
typedef uint32_t word4  __attribute__((vector_size(16)));

typedef struct { float4 p[4]; } vf;
typedef struct { word4 p[4]; } vi;
typedef struct { word4 p[4]; } vm;             /* all ones or all zeros */
typedef uint64_t vsum;

/* A loop by hand, for a compiler may leave one as it is and the vectors in memory. */
#define PART(n, ...) { enum { i = n }; r.p[i] = __VA_ARGS__; }
#define EACH(type, ...) type r; PART(0, __VA_ARGS__) PART(1, __VA_ARGS__) PART(2, __VA_ARGS__) PART(3, __VA_ARGS__) return r

SIMD vf vf_set(float x)            { EACH(vf, (float4){ x, x, x, x }); }
SIMD vf vf_load(const float *p)    { vf r; memcpy(&r, p, sizeof r); return r; }
SIMD void vf_store(float *p, vf x) { memcpy(p, &x, sizeof x); }
SIMD vf vf_add(vf x, vf y)         { EACH(vf, x.p[i] + y.p[i]); }
SIMD vf vf_sub(vf x, vf y)         { EACH(vf, x.p[i] - y.p[i]); }
SIMD vf vf_mul(vf x, vf y)         { EACH(vf, x.p[i] * y.p[i]); }
SIMD vf vf_div(vf x, vf y)         { EACH(vf, x.p[i] / y.p[i]); }
SIMD vf vf_fma(vf x, vf y, vf z)   { EACH(vf, x.p[i] * y.p[i] + z.p[i]); }

SIMD vi vi_set(uint32_t x)         { EACH(vi, (word4){ x, x, x, x }); }
SIMD vi vi_lane(void)              { EACH(vi, ((word4){ 0, 1, 2, 3 } + 4 * i)); }
SIMD vi vi_load(const uint32_t *p) { vi r; memcpy(&r, p, sizeof r); return r; }
SIMD void vi_store(uint32_t *p, vi x) { memcpy(p, &x, sizeof x); }
SIMD vi vi_add(vi x, vi y)         { EACH(vi, x.p[i] + y.p[i]); }
SIMD vi vi_sub(vi x, vi y)         { EACH(vi, x.p[i] - y.p[i]); }
SIMD vi vi_xor(vi x, vi y)         { EACH(vi, x.p[i] ^ y.p[i]); }
SIMD vi vi_and(vi x, vi y)         { EACH(vi, x.p[i] & y.p[i]); }
SIMD vi vi_shl(vi x, int n)        { EACH(vi, x.p[i] << n); }
SIMD vi vi_shr(vi x, int n)        { EACH(vi, x.p[i] >> n); }
SIMD vi vi_sar(vi x, int n)        { EACH(vi, (word4)((int4)x.p[i] >> n)); }
SIMD vf vf_bits(vi x)              { EACH(vf, (float4)x.p[i]); }
SIMD vi vi_bits(vf x)              { EACH(vi, (word4)x.p[i]); }
SIMD vf vf_of_int(vi x)            { EACH(vf, __builtin_convertvector((int4)x.p[i], float4)); }

/* Adding 3 2^22 leaves no room for a fraction, and the whole number in the low bits. */
SIMD vf vf_round(vf x)             { EACH(vf, (x.p[i] + 0x1.8p23f) - 0x1.8p23f); }
SIMD vi vi_of_float(vf x)          { EACH(vi, (word4)(x.p[i] + 0x1.8p23f) - 0x4b400000); }

SIMD vm vm_first(uint32_t n)       { EACH(vm, (word4)((word4){ 0, 1, 2, 3 } + 4 * i < n)); }
SIMD vm vm_andnot(vm x, vm y)      { EACH(vm, x.p[i] & ~y.p[i]); }
SIMD vm vm_gt(vf x, vf y)          { EACH(vm, (word4)(x.p[i] > y.p[i])); }
SIMD vm vm_ge(vf x, vf y)          { EACH(vm, (word4)(x.p[i] >= y.p[i])); }
SIMD vi vi_pick(vm m, vi x, vi y)  { EACH(vi, (m.p[i] & x.p[i]) | (~m.p[i] & y.p[i])); }
SIMD vf vf_pick(vm m, vf x, vf y)  { return vf_bits(vi_pick(m, vi_bits(x), vi_bits(y))); }
SIMD vf vf_max(vf x, vf y)         { return vf_pick(vm_gt(x, y), x, y); }
SIMD vf vf_min(vf x, vf y)         { return vf_pick(vm_gt(y, x), x, y); }

SIMD uint32_t vm_bits(vm m)
{
    uint32_t bits = 0;
    for (int i = 0; i < LANES; i++)
        bits |= (m.p[i / 4][i % 4] & 1) << i;
    return bits;
}

SIMD float vf_total(vf x)
{
    float4 s = (x.p[0] + x.p[2]) + (x.p[1] + x.p[3]);
    return (s[0] + s[2]) + (s[1] + s[3]);
}

SIMD float vf_top(vf x)
{
    float lane[LANES], top = x.p[0][0];
    vf_store(lane, x);
    for (int i = 1; i < LANES; i++)
        top = lane[i] > top ? lane[i] : top;
    return top;
}

SIMD vi vi_mul_wide(vi x, uint32_t y, vi *high)
{
    uint32_t lane[LANES], upper[LANES];
    vi_store(lane, x);
    for (int i = 0; i < LANES; i++) {
        uint64_t product = (uint64_t)lane[i] * y;
        lane[i] = (uint32_t)product;
        upper[i] = (uint32_t)(product >> 32);
    }
    *high = vi_load(upper);
    return vi_load(lane);
}

/* Two steps: 2^n itself may not be a float where x 2^n is one. */
SIMD vf vf_scale2(vf x, vf n)
{
    vi whole = vi_of_float(n), half = vi_sar(whole, 1), bias = vi_set(127);
    vf first = vf_bits(vi_shl(vi_add(half, bias), 23)), second = vf_bits(vi_shl(vi_add(vi_sub(whole, half), bias), 23));
    return vf_mul(vf_mul(x, first), second);
}

SIMD vf vf_load_n(const float *p, uint32_t n, float fill)
{
    vf r = vf_set(fill);
    memcpy(&r, p, n * sizeof *p);
    return r;
}

SIMD void vf_store_n(float *p, uint32_t n, vf x)
{
    memcpy(p, &x, n * sizeof *p);
}

SIMD vf vf_load_bf16_n(const uint16_t *p, uint32_t n)
{
    uint16_t h[LANES] = { 0 };
    uint32_t u[LANES];
    memcpy(h, p, n * sizeof *p);
    for (int i = 0; i < LANES; i++)
        u[i] = (uint32_t)h[i] << 16;
    return vf_bits(vi_load(u));
}

SIMD vf vf_load_bf16(const uint16_t *p)
{
    return vf_load_bf16_n(p, LANES);
}

SIMD void vf_store_bf16_n(uint16_t *p, uint32_t n, vf x)
{
    float lane[LANES];
    uint16_t h[LANES];
    vf_store(lane, x);
    for (int i = 0; i < LANES; i++)
        h[i] = bf16_from_f32(lane[i]);
    memcpy(p, h, n * sizeof *p);
}

/* Stores x as bf16 and returns what it became. */
SIMD vf vf_store_bf16(uint16_t *p, vf x)
{
    vf_store_bf16_n(p, LANES, x);
    return vf_load_bf16(p);
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
    return 0;
}

/* Adds the lanes where m of 2^44 e, rounded to whole numbers; 0 <= e <= 1. */
SIMD vsum vsum_add(vsum s, vm m, vf e)
{
    float lane[LANES];
    vf_store(lane, vf_pick(m, e, vf_set(0)));
    for (int i = 0; i < LANES; i++)
        s += (uint64_t)nearbyint((double)lane[i] * 0x1p44);
    return s;
}

SIMD uint64_t vsum_total(vsum s)
{
    return s;
}

#endif

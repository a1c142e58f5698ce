/* prim.h - everything special that a kernel may do, and the only file with intrinsics and inline PTX.
 *
 * The same .cu files are compiled twice: by nvcc for the GPU, where the functions below are one instruction or two, and
 * as plain C++ for the host in the tests, where cudaemu.h has functions of the same names that check their use.
 *
 * What holds for every kernel:
 *   - `static __global__ void NAME_kernel(...)`, no globals; blocks have one dimension, a multiple of 32 threads.
 *   - Warp functions are called by all 32 lanes together, block functions by all threads of the block together; no
 *     thread returns before the last such call of its block.  Shuffles, votes, ldmatrix and mma order no memory:
 *     what one lane wrote another reads after warp_sync or block_sync.
 *   - Vectors are made with braces: uint4{a, b, c, d}.
 *   - A launcher calls prim_launch, returns its error, and enqueues nothing on the default stream.
 *
 * Fragments of mma and ldmatrix: PTX ISA 9.0, sections "Matrix Fragments for mma.m16n8k16 with floating point type",
 * "... mma.m16n8k32" and "ldmatrix".  With g = lane / 4, t = lane % 4 and two bf16 a word (lower address below):
 *   a[0] row g   columns 2t, 2t+1      a[1] row g+8      a[2] row g, columns 2t+8, 2t+9      a[3] row g+8, likewise
 *   b[0] rows 2t, 2t+1 of column g     b[1] rows 2t+8, 2t+9
 *   c[0], c[1] row g, columns 2t, 2t+1     c[2], c[3] row g+8 */
#ifndef KERNELS_CUDA_PRIM_H
#define KERNELS_CUDA_PRIM_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#ifndef __CUDACC__
#include <cudaemu.h>           /* tests/cudaemu/ */
#else
#include <cuda_runtime.h>

#define DEVICE static __device__ __forceinline__
#define UNROLL _Pragma("unroll")

/* ---- shared memory ---- */

/* type name[n], aligned for 16-byte access; at the top of a kernel. */
#define SHARED(type, name, n) __shared__ __align__(16) type name[n]

/* type *name: the bytes that the launch asked for, aligned to 128. */
#define SHARED_DYNAMIC(type, name)                                     \
    extern __shared__ __align__(128) unsigned char prim_dynamic[];     \
    type *name = (type *)prim_dynamic

/* ---- threads, warps, blocks ---- */

DEVICE uint32_t lane_id(void) { return threadIdx.x % 32; }
DEVICE uint32_t warp_id(void) { return threadIdx.x / 32; }

DEVICE void block_sync(void) { __syncthreads(); }     /* orders shared and global memory in the block */
DEVICE void warp_sync(void)  { __syncwarp(); }        /* likewise in the warp */
DEVICE void fence(void)      { __threadfence(); }     /* what was written before is seen, by the whole device, before what is written after */

/* The value of another lane; T has 4 or 8 bytes.  down and up: a lane beyond the end keeps its own. */
template <class T> DEVICE T warp_shuffle(T v, uint32_t lane)      { return __shfl_sync(~0u, v, (int)lane); }
template <class T> DEVICE T warp_shuffle_xor(T v, uint32_t mask)  { return __shfl_xor_sync(~0u, v, (int)mask); }
template <class T> DEVICE T warp_shuffle_down(T v, uint32_t step) { return __shfl_down_sync(~0u, v, step); }
template <class T> DEVICE T warp_shuffle_up(T v, uint32_t step)   { return __shfl_up_sync(~0u, v, step); }
DEVICE uint32_t warp_ballot(bool yes) { return __ballot_sync(~0u, yes); }
DEVICE bool     warp_any(bool yes)    { return __any_sync(~0u, yes); }
DEVICE bool     warp_all(bool yes)    { return __all_sync(~0u, yes); }

/* In every lane.  The order of the sum is fixed: v[i] += v[i ^ 16], then 8, 4, 2, 1. */
template <class T> DEVICE T warp_sum(T v)
{
    UNROLL for (uint32_t step = 16; step; step /= 2)
        v += warp_shuffle_xor(v, step);
    return v;
}

template <class T> DEVICE T warp_max(T v)
{
    UNROLL for (uint32_t step = 16; step; step /= 2) {
        T other = warp_shuffle_xor(v, step);
        v = other > v ? other : v;
    }
    return v;
}

/* ---- atomics, on global or shared memory; they return the value before and order nothing ---- */

DEVICE uint32_t atomic_add(uint32_t *p, uint32_t v) { return atomicAdd(p, v); }
DEVICE uint64_t atomic_add(uint64_t *p, uint64_t v) { return atomicAdd((unsigned long long *)p, (unsigned long long)v); }
DEVICE float    atomic_add(float *p, float v)       { return atomicAdd(p, v); }
DEVICE uint32_t atomic_max(uint32_t *p, uint32_t v) { return atomicMax(p, v); }
DEVICE int32_t  atomic_max(int32_t *p, int32_t v)   { return atomicMax(p, v); }
DEVICE uint64_t atomic_max(uint64_t *p, uint64_t v) { return atomicMax((unsigned long long *)p, (unsigned long long)v); }
DEVICE uint32_t atomic_cas(uint32_t *p, uint32_t old, uint32_t v) { return atomicCAS(p, old, v); }
DEVICE uint64_t atomic_cas(uint64_t *p, uint64_t old, uint64_t v)
{
    return atomicCAS((unsigned long long *)p, (unsigned long long)old, (unsigned long long)v);
}

/* ---- 16 bytes at a time; addresses are multiples of 16 ---- */

DEVICE uint4 load16(const void *p)           { return *(const uint4 *)p; }        /* global or shared */
DEVICE void  store16(void *p, uint4 v)       { *(uint4 *)p = v; }
DEVICE uint4 load16_readonly(const void *p)  { return __ldg((const uint4 *)p); }  /* global that this kernel never writes */
DEVICE uint4 load16_once(const void *p)                                            /* and that nobody reads again soon */
{
    uint4 v;
    asm("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p));
    return v;
}

/* ---- cp.async: 16 bytes from global to shared memory, behind the thread's back ---- */

DEVICE uint32_t prim_shared_address(const void *p) { return (uint32_t)__cvta_generic_to_shared(p); }

/* The first src_bytes (0 to 16) are copied, the rest of the 16 is zero; with 0 nothing is read. */
DEVICE void cp_async16(void *shared, const void *global, uint32_t src_bytes)
{
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;"
                 :: "r"(prim_shared_address(shared)), "l"(global), "r"(src_bytes) : "memory");
}

/* The copies since the last commit are one group. */
DEVICE void cp_async_commit(void) { asm volatile("cp.async.commit_group;" ::: "memory"); }

/* Until at most the N latest groups are under way; seen by this thread, by others after a barrier. */
template <int N> DEVICE void cp_async_wait(void) { asm volatile("cp.async.wait_group %0;" :: "n"(N) : "memory"); }

/* ---- tensor cores ---- */

/* Four 8x8 matrices of 16-bit elements; lane i gives the address of row i % 8 of matrix i / 8 in shared memory (16
 * bytes).  r[j]: the two elements at row lane / 4, columns 2 (lane % 4) and the next, of matrix j. */
DEVICE void ldmatrix_x4(uint32_t r[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(prim_shared_address(row)) : "memory");
}

/* The same of the transposed matrices. */
DEVICE void ldmatrix_x4_trans(uint32_t r[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(prim_shared_address(row)) : "memory");
}

/* c [16, 8] += a [16, 16] b [16, 8] */
DEVICE void mma_bf16(float c[4], const uint32_t a[4], const uint32_t b[2])
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* c [16, 8] += a [16, 32] b [32, 8], from sm_89 on.  Four e4m3 a word: a[0] row g, columns 4t .. 4t+3, a[1] row g+8, a[2] and
 * a[3] the same 16 columns on; b[0] rows 4t .. 4t+3 of column g, b[1] 16 rows on.  The sum may be kept in fewer than 24 bits. */
DEVICE void mma_e4m3(float c[4], const uint32_t a[4], const uint32_t b[2])
{
#if __CUDA_ARCH__ >= 890
    asm("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    (void)c, (void)a, (void)b;
    __trap();
#endif
}

/* ---- numbers ---- */

/* Each rounded once and never fused with another: for formulas that every device must repeat bit by bit. */
DEVICE float mul_rn(float a, float b)          { return __fmul_rn(a, b); }
DEVICE float add_rn(float a, float b)          { return __fadd_rn(a, b); }
DEVICE float sub_rn(float a, float b)          { return __fsub_rn(a, b); }
DEVICE float div_rn(float a, float b)          { return __fdiv_rn(a, b); }
DEVICE float sqrt_rn(float a)                  { return __fsqrt_rn(a); }
DEVICE float fma_rn(float a, float b, float c) { return __fmaf_rn(a, b, c); }

/* Relative error about 2^-22 (log2_fast: absolute, near 1); subnormal results may be 0. */
DEVICE float exp2_fast(float x)  { float y; asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x)); return y; }
DEVICE float log2_fast(float x)  { float y; asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x)); return y; }
DEVICE float rsqrt_fast(float x) { float y; asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x)); return y; }
DEVICE float rcp_fast(float x)   { float y; asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x)); return y; }

DEVICE uint32_t bits_of_f32(float x)    { return __float_as_uint(x); }
DEVICE float    f32_of_bits(uint32_t u) { return __uint_as_float(u); }
DEVICE uint32_t mul_high(uint32_t a, uint32_t b) { return __umulhi(a, b); }
DEVICE uint64_t mul_high(uint64_t a, uint64_t b) { return __umul64hi(a, b); }
DEVICE uint32_t count_ones(uint32_t u)  { return (uint32_t)__popc(u); }
DEVICE uint32_t leading_zeros(uint32_t u) { return (uint32_t)__clz((int)u); }      /* 32 for 0 */

/* Two numbers in a word, x in the lower half; to nearest even. */
DEVICE uint32_t bf16x2_pack(float x, float y)
{
    uint32_t u;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(u) : "f"(y), "f"(x));
    return u;
}

DEVICE uint32_t f16x2_pack(float x, float y)
{
    uint32_t u;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(u) : "f"(y), "f"(x));
    return u;
}

DEVICE float2 f16x2_unpack(uint32_t u)
{
    float2 v;
    asm("{ .reg .b16 lo, hi; mov.b32 {lo, hi}, %2; cvt.f32.f16 %0, lo; cvt.f32.f16 %1, hi; }" : "=f"(v.x), "=f"(v.y) : "r"(u));
    return v;
}

/* ---- launch ---- */

/* Enqueues kernel(args...); the error is the launch's, not the run's. */
template <class... P, class... A>
static cudaError_t prim_launch(void (*kernel)(P...), dim3 grid, uint32_t block, size_t dynamic_shared, cudaStream_t stream, A... args)
{
    cudaLaunchConfig_t c = {};
    c.gridDim = grid;
    c.blockDim = dim3(block);
    c.dynamicSmemBytes = dynamic_shared;
    c.stream = stream;
    return cudaLaunchKernelEx(&c, kernel, (P)args...);
}
#endif

/* ---- both: built on the above ---- */

/* Before launches of the kernel with more than 48 KiB of dynamic shared memory. */
template <class... P>
static cudaError_t prim_allow_shared(void (*kernel)(P...), size_t dynamic_shared)
{
    return cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)dynamic_shared);
}

/* In every thread; scratch is shared, an element a warp, and free again at return. */
template <class T> DEVICE T block_sum(T v, T *scratch)
{
    v = warp_sum(v);
    if (lane_id() == 0)
        scratch[warp_id()] = v;
    block_sync();
    v = warp_sum(lane_id() < blockDim.x / 32 ? scratch[lane_id()] : (T)0);
    block_sync();
    return v;
}

template <class T> DEVICE T block_max(T v, T *scratch)
{
    v = warp_max(v);
    if (lane_id() == 0)
        scratch[warp_id()] = v;
    block_sync();
    v = warp_max(scratch[lane_id() < blockDim.x / 32 ? lane_id() : 0]);
    block_sync();
    return v;
}

DEVICE float    f32_of_bf16(uint16_t h)  { return f32_of_bits((uint32_t)h << 16); }
DEVICE uint16_t bf16_of_f32(float x)     { return (uint16_t)bf16x2_pack(x, 0); }
DEVICE float2   bf16x2_unpack(uint32_t u){ return float2{f32_of_bits(u << 16), f32_of_bits(u & 0xffff0000u)}; }
DEVICE float    f32_of_f16(uint16_t h)   { return f16x2_unpack(h).x; }
DEVICE uint16_t f16_of_f32(float x)      { return (uint16_t)f16x2_pack(x, 0); }

/* e4m3: sign, 4 bits of exponent (bias 7), 3 of mantissa; no infinities, 0x7f is the NaN, the largest is 448, and what is
 * larger becomes it.  (OCP 8-bit Floating Point Specification 1.0) */
DEVICE uint32_t prim_e4m3_of_f32(float x)
{
    uint32_t u = bits_of_f32(x), sign = u >> 24 & 0x80, a = u & 0x7fffffff;
    if (a > 0x7f800000)
        return 0x7f;
    if (a >= 0x43e00000)                                        /* 448 */
        return sign | 0x7e;
    if (a < 0x3c800000)                                         /* 2^-6: steps of 2^-9, which is an ulp of 2^14 */
        return sign | (bits_of_f32(add_rn(f32_of_bits(a), 16384.0f)) & 0xf);
    uint32_t r = ((a + 0x7ffff + (a >> 20 & 1)) >> 20) - (120 << 3);
    return sign | (r < 0x7e ? r : 0x7e);
}

DEVICE float prim_f32_of_e4m3(uint32_t v)
{
    uint32_t sign = (v & 0x80) << 24, e = v >> 3 & 15, m = v & 7;
    if ((v & 0x7f) == 0x7f)
        return f32_of_bits(0x7fffffff);
    if (e == 0)
        return f32_of_bits(bits_of_f32((float)m * 0x1p-9f) | sign);
    return f32_of_bits(sign | (e + 120) << 23 | m << 20);
}

/* Two in 16 bits, x in the lower byte. */
DEVICE uint16_t e4m3x2_pack(float x, float y)
{
#if defined __CUDA_ARCH__ && __CUDA_ARCH__ >= 890
    uint16_t u;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(u) : "f"(y), "f"(x));
    return u;
#else
    return (uint16_t)(prim_e4m3_of_f32(x) | prim_e4m3_of_f32(y) << 8);
#endif
}

DEVICE float2 e4m3x2_unpack(uint16_t u)
{
#if defined __CUDA_ARCH__ && __CUDA_ARCH__ >= 890
    uint32_t h;
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(h) : "h"(u));
    return f16x2_unpack(h);
#else
    return float2{prim_f32_of_e4m3(u & 0xff), prim_f32_of_e4m3(u >> 8)};
#endif
}

#endif

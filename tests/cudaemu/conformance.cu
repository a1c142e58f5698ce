/* conformance.cu - see conformance.h.  A block of 64 threads each; in: random words, each kernel takes what it needs of them. */
#include "conformance.h"

#include <stdio.h>
#include <stdlib.h>

#include "kernels/cuda/prim.h"

#define CASE(name) static __global__ void name##_kernel(uint32_t *out, const uint32_t *in)

/* A number of ordinary size with either sign, from random bits. */
DEVICE float ordinary(uint32_t u)
{
    return f32_of_bits((u & 0x807fffffu) | (112 + (u >> 23 & 31)) << 23);
}

/* The same between 1/4 and 4, so that sums do not cancel to much less than their terms. */
DEVICE float near_one(uint32_t u)
{
    return f32_of_bits((u & 0x807fffffu) | (125 + (u >> 23 & 3)) << 23);
}

DEVICE void put64(uint32_t *out, uint64_t v)
{
    out[0] = (uint32_t)v;
    out[1] = (uint32_t)(v >> 32);
}

CASE(index)
{
    uint32_t *o = out + 8 * threadIdx.x;
    o[0] = threadIdx.x, o[1] = lane_id(), o[2] = warp_id(), o[3] = blockDim.x;
    o[4] = blockIdx.x, o[5] = gridDim.x, o[6] = in[threadIdx.x] % 7, o[7] = threadIdx.y + blockDim.y + gridDim.z;
}

CASE(shuffle)
{
    uint32_t *o = out + 8 * threadIdx.x, v = in[threadIdx.x];
    o[0] = warp_shuffle(v, v % 32);
    o[1] = warp_shuffle_xor(v, 5);
    o[2] = warp_shuffle_down(v, 3);
    o[3] = warp_shuffle_up(v, 3);
    put64(o + 4, warp_shuffle_xor((uint64_t)v << 32 | ~v, 17));
    o[6] = bits_of_f32(warp_shuffle(ordinary(v), 31 - lane_id()));
    o[7] = (uint32_t)warp_shuffle_down((int)v, 16);
}

CASE(vote)
{
    uint32_t *o = out + 4 * threadIdx.x, v = in[threadIdx.x];
    o[0] = warp_ballot(v & 1);
    o[1] = (uint32_t)warp_any(v % 64 == 1) | (uint32_t)warp_any(warp_id() == 0) << 1;
    o[2] = (uint32_t)warp_all(v % 64 != 1) | (uint32_t)warp_all(warp_id() == 0) << 1;
    o[3] = warp_ballot(lane_id() > 20);
}

CASE(reduce)
{
    SHARED(float, scratch, 32);
    SHARED(uint32_t, words, 32);
    uint32_t *o = out + 8 * threadIdx.x, v = in[threadIdx.x];
    o[0] = bits_of_f32(warp_sum(ordinary(v)));
    o[1] = bits_of_f32(warp_max(ordinary(v)));
    o[2] = warp_sum(v);
    o[3] = warp_max(v);
    o[4] = bits_of_f32(block_sum(ordinary(v), scratch));
    o[5] = bits_of_f32(block_max(ordinary(v), scratch));
    o[6] = block_sum(v, words);
    o[7] = block_max(v, words);
}

CASE(move16)
{
    SHARED(uint32_t, tile, 4 * CONFORM_THREADS);
    uint32_t t = threadIdx.x;
    store16(tile + 4 * t, load16(in + 4 * t));
    block_sync();
    uint4 a = load16(tile + 4 * (t ^ 33)), b = load16_readonly(in + 4 * (t + 64)), c = load16_once(in + 4 * (t + 128));
    store16(out + 8 * t, uint4{a.x ^ b.y, a.y + c.z, a.z, a.w});
    store16(out + 8 * t + 4, b);
}

CASE(copy_async)
{
    SHARED(uint32_t, tile, 8 * CONFORM_THREADS);
    uint32_t t = threadIdx.x;
    cp_async16(tile + 4 * t, in + 4 * t, t % 17);
    cp_async_commit();
    cp_async16(tile + 4 * (t + 64), in + 4 * (t + 64), 16);
    cp_async_commit();
    cp_async_wait<1>();
    block_sync();
    store16(out + 8 * t, load16(tile + 4 * (t ^ 35)));
    cp_async_wait<0>();
    block_sync();
    store16(out + 8 * t + 4, load16(tile + 4 * ((t ^ 35) + 64)));
}

CASE(dynamic_shared)
{
    SHARED_DYNAMIC(uint32_t, tile);
    uint32_t t = threadIdx.x;
    tile[t] = in[t];
    block_sync();
    out[2 * t] = tile[63 - t];
    out[2 * t + 1] = (uint32_t)((uintptr_t)tile % 128);
}

/* Rows with a stride of 24 elements, so that no two matrices lie alike. */
CASE(matrix_load)
{
    SHARED(uint16_t, tile, 64 * 24);
    uint32_t t = threadIdx.x, r[4], s[4];
    for (uint32_t i = t; i < 64 * 24; i += CONFORM_THREADS)
        tile[i] = (uint16_t)in[i];
    block_sync();
    ldmatrix_x4(r, tile + (t ^ 3) * 24);
    ldmatrix_x4_trans(s, tile + (63 - t) * 24 + 8);
    for (int i = 0; i < 4; i++) {
        out[8 * t + i] = r[i];
        out[8 * t + 4 + i] = s[i];
    }
}

/* whole: whole numbers, whose sums are exact */
template <bool WHOLE> DEVICE uint32_t bf16_pair(uint32_t u)
{
    if (WHOLE)
        return bf16x2_pack((float)(int)(u % 33) - 16, (float)(int)(u >> 8) / 0x1p20f > 2 ? 3.0f : -5.0f);
    return bf16x2_pack(near_one(u), near_one(u * 2654435761u));
}

template <bool WHOLE> static __global__ void mma_bf16_kernel(uint32_t *out, const uint32_t *in)
{
    uint32_t t = threadIdx.x, a[4], b[2];
    float c[4];
    for (int i = 0; i < 4; i++) {
        a[i] = bf16_pair<WHOLE>(in[10 * t + i]);
        c[i] = WHOLE ? (float)(in[10 * t + 6 + i] % 100) : near_one(in[10 * t + 6 + i]);
    }
    for (int i = 0; i < 2; i++)
        b[i] = bf16_pair<WHOLE>(in[10 * t + 4 + i]);
    mma_bf16(c, a, b);
    for (int i = 0; i < 4; i++)
        out[4 * t + i] = bits_of_f32(c[i]);
}

/* whole: 0, 1, -1, 2 and so on by a table of four bits; else any e4m3 but NaN and the largest */
template <bool WHOLE> DEVICE uint32_t e4m3_four(uint32_t u)
{
    uint32_t v = 0;
    for (int i = 0; i < 4; i++) {
        uint32_t b = u >> 8 * i & 0xff;
        float whole = (float)(int)(b % 13) - 6;
        v |= (WHOLE ? (uint32_t)e4m3x2_pack(whole, 0) & 0xff : b & 0xbf) << 8 * i;
    }
    return v;
}

template <bool WHOLE> static __global__ void mma_e4m3_kernel(uint32_t *out, const uint32_t *in)
{
    uint32_t t = threadIdx.x, a[4], b[2];
    float c[4];
    for (int i = 0; i < 4; i++) {
        a[i] = e4m3_four<WHOLE>(in[10 * t + i]);
        c[i] = (float)(in[10 * t + 6 + i] % 100);
    }
    for (int i = 0; i < 2; i++)
        b[i] = e4m3_four<WHOLE>(in[10 * t + 4 + i]);
    mma_e4m3(c, a, b);
    for (int i = 0; i < 4; i++)
        out[4 * t + i] = bits_of_f32(c[i]);
}

CASE(rounded)
{
    uint32_t t = threadIdx.x, *o = out + 8 * t;
    float a = ordinary(in[3 * t]), b = ordinary(in[3 * t + 1]), c = ordinary(in[3 * t + 2]);
    o[0] = bits_of_f32(mul_rn(a, b));
    o[1] = bits_of_f32(add_rn(a, b));
    o[2] = bits_of_f32(sub_rn(a, b));
    o[3] = bits_of_f32(div_rn(a, b));
    o[4] = bits_of_f32(sqrt_rn(fabsf(a)));
    o[5] = bits_of_f32(fma_rn(a, b, c));
    o[6] = bits_of_f32(add_rn(mul_rn(a, b), c));
    o[7] = bits_of_f32(mul_rn(mul_rn(a, 0x1p-70f), mul_rn(b, 0x1p-66f)));       /* subnormal */
}

CASE(fast)
{
    uint32_t t = threadIdx.x, *o = out + 4 * t;
    float a = ordinary(in[t]);
    o[0] = bits_of_f32(exp2_fast(-fabsf(a) * 0x1p-10f));
    o[1] = bits_of_f32(log2_fast(fabsf(a)));
    o[2] = bits_of_f32(rsqrt_fast(fabsf(a)));
    o[3] = bits_of_f32(rcp_fast(a));
}

CASE(fast_edge)
{
    uint32_t t = threadIdx.x;
    float a = in[t] % 4 == 0 ? 0 : in[t] % 4 == 1 ? -INFINITY : in[t] % 4 == 2 ? INFINITY : 1;
    out[4 * t] = bits_of_f32(exp2_fast(a));
    out[4 * t + 1] = bits_of_f32(log2_fast(fabsf(a)));
    out[4 * t + 2] = bits_of_f32(rsqrt_fast(fabsf(a)));
    out[4 * t + 3] = bits_of_f32(rcp_fast(a));
}

CASE(whole)
{
    uint32_t t = threadIdx.x, a = in[2 * t], b = in[2 * t + 1], *o = out + 8 * t;
    o[0] = mul_high(a, b);
    put64(o + 2, mul_high((uint64_t)a << 32 | b, (uint64_t)b << 32 | a));
    o[4] = count_ones(a);
    o[5] = leading_zeros(a >> t % 32);
    o[6] = leading_zeros(t % 2);
    o[7] = bits_of_f32(f32_of_bits(a & 0xff7fffff));
    o[1] = min(a, b) ^ max(a, b);
}

/* Numbers of every kind: random bits, near the steps of e4m3 and f16, and the edges. */
CASE(narrow)
{
    uint32_t t = threadIdx.x, *o = out + 8 * t;
    const float edge[8] = {0, -0.0f, INFINITY, -INFINITY, NAN, 448, 464, 65520};
    float a = f32_of_bits(in[t]), b = t < 8 ? edge[t] : ordinary(in[t + 64]) * 0x1p-8f, c = (float)(int)(in[t] % 8192) * 0x1p-11f;
    o[0] = bf16x2_pack(a, b);
    o[1] = f16x2_pack(b, c);
    o[2] = e4m3x2_pack(b, c);
    o[3] = e4m3x2_pack(c * 0x1p-6f, a);
    o[4] = bits_of_f32(bf16x2_unpack(in[t] & 0xff7fff7f).x) ^ bits_of_f32(bf16x2_unpack(in[t] & 0xff7fff7f).y);
    o[5] = bf16_of_f32(c) | (uint32_t)f16_of_f32(c) << 16;
    o[6] = bits_of_f32(f32_of_bf16((uint16_t)(in[t] & 0xff7f)));
    o[7] = bits_of_f32(f32_of_f16((uint16_t)(in[t] & 0xfbff)));
}

/* All of e4m3 but its NaN, and f16 on the way. */
CASE(widen)
{
    uint32_t t = threadIdx.x;
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t v = 4 * t + 2 * i;
        float2 two = e4m3x2_unpack((uint16_t)(v | (v + 1) << 8));
        out[4 * t + 2 * i] = (v & 0x7f) == 0x7f ? 0 : bits_of_f32(two.x);
        out[4 * t + 2 * i + 1] = ((v + 1) & 0x7f) == 0x7f ? 0 : bits_of_f32(two.y);
    }
    float2 two = f16x2_unpack(in[t] & 0xfbfffbff);
    out[256 + 2 * t] = bits_of_f32(two.x);
    out[256 + 2 * t + 1] = bits_of_f32(two.y);
}

CASE(atomics)
{
    SHARED(uint32_t, near, 4);
    SHARED(uint64_t, wide, 2);
    uint32_t t = threadIdx.x, v = in[t];
    if (t < 4)
        near[t] = 0;
    if (t < 2)
        wide[t] = 0;
    if (t < 16)
        out[t] = 0;
    block_sync();
    atomic_add(near, v);
    atomic_max(near + 1, v);
    atomic_max((int32_t *)near + 2, (int32_t)v);
    atomic_add(wide, (uint64_t)v << 8);
    atomic_max(wide + 1, (uint64_t)v << 8 | t);
    atomic_add((float *)(out + 8), (float)(v % 1024));
    atomic_add(out + 9, v);
    atomic_cas(out + 10, 0u, 1u);
    uint64_t old = atomic_cas((uint64_t *)(out + 12), (uint64_t)t / 63 * 77, (uint64_t)77);
    if (t == 0)
        out[14] = (uint32_t)(old == 0 || old == 77);
    block_sync();
    if (t < 4)
        out[t] = near[t];
    if (t < 2)
        put64(out + 4 + 2 * t, wide[t]);
}

const struct conform conform_case[] = {
    { "index", index_kernel, 512, 0 },
    { "shuffle", shuffle_kernel, 512, 0 },
    { "vote", vote_kernel, 256, 0 },
    { "reduce", reduce_kernel, 512, 0 },
    { "move16", move16_kernel, 512, 0 },
    { "cp_async", copy_async_kernel, 512, 0 },
    { "dynamic_shared", dynamic_shared_kernel, 128, 0 },
    { "ldmatrix", matrix_load_kernel, 512, 0 },
    { "mma_bf16_whole", mma_bf16_kernel<true>, 256, 0 },
    { "mma_bf16", mma_bf16_kernel<false>, 256, 1e-4f },
    { "mma_e4m3_whole", mma_e4m3_kernel<true>, 256, 0 },
    { "mma_e4m3", mma_e4m3_kernel<false>, 256, 1e-3f },
    { "rounded", rounded_kernel, 512, 0 },
    { "fast", fast_kernel, 256, 1e-6f },
    { "fast_edge", fast_edge_kernel, 256, 1e-6f },
    { "whole", whole_kernel, 512, 0 },
    { "narrow", narrow_kernel, 512, 0 },
    { "widen", widen_kernel, 384, 0 },
    { "atomics", atomics_kernel, 15, 0 },
};
const int n_conform = sizeof conform_case / sizeof conform_case[0];

/* Weyl sequence through the finalizer of MurmurHash3 (Appleby, public domain). */
void conform_input(uint32_t in[CONFORM_IN])
{
    for (uint32_t i = 0; i < CONFORM_IN; i++) {
        uint32_t u = i * 0x9e3779b9u + 12345;
        u = (u ^ u >> 16) * 0x85ebca6bu;
        u = (u ^ u >> 13) * 0xc2b2ae35u;
        in[i] = u ^ u >> 16;
    }
}

static void check(cudaError_t e)
{
    if (e == cudaSuccess)
        return;
    fprintf(stderr, "conformance: %s\n", cudaGetErrorString(e));
    exit(2);
}

void conform_run(const struct conform *c, uint32_t out[CONFORM_OUT])
{
    uint32_t in[CONFORM_IN], *device_in, *device_out;
    cudaStream_t s;
    conform_input(in);
    check(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    check(cudaMalloc((void **)&device_in, sizeof in));
    check(cudaMalloc((void **)&device_out, CONFORM_OUT * sizeof *out));
    check(cudaMemcpyAsync(device_in, in, sizeof in, cudaMemcpyHostToDevice, s));
    check(cudaMemsetAsync(device_out, 0, CONFORM_OUT * sizeof *out, s));
    check(prim_launch(c->kernel, 1, CONFORM_THREADS, CONFORM_THREADS * sizeof(uint32_t), s, device_out, device_in));
    check(cudaMemcpyAsync(out, device_out, CONFORM_OUT * sizeof *out, cudaMemcpyDeviceToHost, s));
    check(cudaStreamSynchronize(s));
    check(cudaFree(device_in));
    check(cudaFree(device_out));
    check(cudaStreamDestroy(s));
}

#ifdef __CUDACC__
/* A line a case: its name, how many words, and the words. */
int main(void)
{
    for (int i = 0; i < n_conform; i++) {
        uint32_t out[CONFORM_OUT];
        conform_run(&conform_case[i], out);
        printf("%s %u", conform_case[i].name, conform_case[i].n_out);
        for (uint32_t j = 0; j < conform_case[i].n_out; j++)
            printf(" %x", out[j]);
        printf("\n");
    }
    return 0;
}
#endif

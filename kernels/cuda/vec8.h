/* vec8.h - eight neighbouring elements as f32 in registers; 16 bytes an access where n == 8 and the address allows it. */
#ifndef KERNELS_CUDA_VEC8_H
#define KERNELS_CUDA_VEC8_H

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/prim.h"

DEVICE const char *element(const void *data, enum dtype type, size_t i)
{
    return (const char *)data + i * (type == DTYPE_F32 ? 4 : type == DTYPE_BF16 ? 2 : 1);
}

DEVICE float load_one(const void *p, enum dtype type, uint32_t k)
{
    if (type == DTYPE_F32)
        return ((const float *)p)[k];
    return type == DTYPE_BF16 ? f32_of_bf16(((const uint16_t *)p)[k]) : e4m3x2_unpack(((const uint8_t *)p)[k]).x;
}

DEVICE void store_one(void *p, enum dtype type, uint32_t k, float x)
{
    if (type == DTYPE_F32)
        ((float *)p)[k] = x;
    else if (type == DTYPE_BF16)
        ((uint16_t *)p)[k] = bf16_of_f32(x);
    else
        ((uint8_t *)p)[k] = (uint8_t)e4m3x2_pack(x, 0);
}

DEVICE void load_bf16x8(float v[8], uint4 u)
{
    float2 a = bf16x2_unpack(u.x), b = bf16x2_unpack(u.y), c = bf16x2_unpack(u.z), d = bf16x2_unpack(u.w);
    v[0] = a.x, v[1] = a.y, v[2] = b.x, v[3] = b.y, v[4] = c.x, v[5] = c.y, v[6] = d.x, v[7] = d.y;
}

DEVICE void load_e4m3x8(float v[8], uint2 u)
{
    float2 a = e4m3x2_unpack((uint16_t)u.x), b = e4m3x2_unpack((uint16_t)(u.x >> 16));
    float2 c = e4m3x2_unpack((uint16_t)u.y), d = e4m3x2_unpack((uint16_t)(u.y >> 16));
    v[0] = a.x, v[1] = a.y, v[2] = b.x, v[3] = b.y, v[4] = c.x, v[5] = c.y, v[6] = d.x, v[7] = d.y;
}

/* The elements i .. i+n-1 of f32, bf16 or e4m3, n <= 8; the rest of v is 0. */
DEVICE void load8(float v[8], const void *data, enum dtype type, size_t i, uint32_t n)
{
    const char *p = element(data, type, i);
    bool whole = n == 8 && (uintptr_t)p % (type == DTYPE_E4M3 ? 8 : 16) == 0;
    if (whole && type == DTYPE_F32) {
        uint4 a = load16(p), b = load16(p + 16);
        v[0] = f32_of_bits(a.x), v[1] = f32_of_bits(a.y), v[2] = f32_of_bits(a.z), v[3] = f32_of_bits(a.w);
        v[4] = f32_of_bits(b.x), v[5] = f32_of_bits(b.y), v[6] = f32_of_bits(b.z), v[7] = f32_of_bits(b.w);
    } else if (whole && type == DTYPE_BF16) {
        load_bf16x8(v, load16(p));
    } else if (whole) {
        load_e4m3x8(v, *(const uint2 *)p);
    } else {
        UNROLL for (uint32_t k = 0; k < 8; k++)
            v[k] = k < n ? load_one(p, type, k) : 0;
    }
}

DEVICE void store8(void *data, enum dtype type, size_t i, uint32_t n, const float v[8])
{
    char *p = (char *)element(data, type, i);
    bool whole = n == 8 && (uintptr_t)p % (type == DTYPE_E4M3 ? 8 : 16) == 0;
    if (whole && type == DTYPE_F32) {
        store16(p, uint4{bits_of_f32(v[0]), bits_of_f32(v[1]), bits_of_f32(v[2]), bits_of_f32(v[3])});
        store16(p + 16, uint4{bits_of_f32(v[4]), bits_of_f32(v[5]), bits_of_f32(v[6]), bits_of_f32(v[7])});
    } else if (whole && type == DTYPE_BF16) {
        store16(p, uint4{bf16x2_pack(v[0], v[1]), bf16x2_pack(v[2], v[3]), bf16x2_pack(v[4], v[5]), bf16x2_pack(v[6], v[7])});
    } else if (whole) {
        *(uint2 *)p = uint2{e4m3x2_pack(v[0], v[1]) | (uint32_t)e4m3x2_pack(v[2], v[3]) << 16,
                            e4m3x2_pack(v[4], v[5]) | (uint32_t)e4m3x2_pack(v[6], v[7]) << 16};
    } else {
        UNROLL for (uint32_t k = 0; k < 8; k++)
            if (k < n)
                store_one(p, type, k, v[k]);
    }
}

/* How many of the eight from i on there are, of n elements. */
DEVICE uint32_t left8(uint32_t i, uint32_t n)
{
    return i >= n ? 0 : n - i < 8 ? n - i : 8;
}

DEVICE float square_sum8(const float v[8])
{
    float sum = 0;
    UNROLL for (int k = 0; k < 8; k++)
        sum = fma_rn(v[k], v[k], sum);
    return sum;
}

/* 1 / sqrt(mean + eps), from the sum of n squares */
DEVICE float inverse_root(float sum, uint32_t n, float eps)
{
    return div_rn(1, sqrt_rn(add_rn(div_rn(sum, (float)n), eps)));
}

static inline bool is_float(const struct tensor *t)
{
    return t->dtype == DTYPE_F32 || t->dtype == DTYPE_BF16;
}

#endif

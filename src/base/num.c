#include "base/num.h"

#include "base/err.h"

size_t dtype_size(enum dtype t)
{
    static const size_t size[] = { [DTYPE_F32] = 4, [DTYPE_BF16] = 2, [DTYPE_F16] = 2, [DTYPE_I8] = 1, [DTYPE_I32] = 4, [DTYPE_E4M3] = 1 };
    return size[t];
}

const char *dtype_name(enum dtype t)
{
    static const char *const name[] = {
        [DTYPE_F32] = "f32", [DTYPE_BF16] = "bf16", [DTYPE_F16] = "f16", [DTYPE_I8] = "int8", [DTYPE_I32] = "int32",
        [DTYPE_E4M3] = "fp8_e4m3",
    };
    return name[t];
}

float f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exp = h >> 10 & 31, frac = h & 0x3ff, u;
    if (exp == 31) {
        u = sign | 0x7f800000 | frac << 13;
    } else if (exp) {
        u = sign | (exp + 112) << 23 | frac << 13;
    } else {                                    /* zero or subnormal: frac * 2^-24 is exact */
        float f = (float)frac * 0x1p-24f;
        memcpy(&u, &f, 4);
        u |= sign;
    }
    float f;
    memcpy(&f, &u, 4);
    return f;
}

uint16_t f16_from_f32(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    uint16_t sign = (uint16_t)(u >> 16 & 0x8000);
    uint32_t mag = u & 0x7fffffff;
    if (mag > 0x7f800000)
        return sign | 0x7e00;
    if (mag >= 0x477ff000)                      /* rounds to 2^16 or more */
        return sign | 0x7c00;
    if (mag < 0x38800000) {                     /* subnormal: let the adder round at 2^-24 */
        float a, magic = 0.5f;
        memcpy(&a, &mag, 4);
        a += magic;
        uint32_t r;
        memcpy(&r, &a, 4);
        return (uint16_t)(sign | (r - 0x3f000000));
    }
    uint32_t r = mag + 0xfff + (mag >> 13 & 1) - 0x38000000;
    return (uint16_t)(sign | r >> 13);
}

void num_to_f32(float *dst, const void *src, enum dtype from, size_t n)
{
    const uint16_t *h = src;
    switch (from) {
    case DTYPE_F32:  memcpy(dst, src, n * 4); break;
    case DTYPE_BF16: for (size_t i = 0; i < n; i++) dst[i] = bf16_to_f32(h[i]); break;
    case DTYPE_F16:  for (size_t i = 0; i < n; i++) dst[i] = f16_to_f32(h[i]); break;
    case DTYPE_I8: case DTYPE_I32: case DTYPE_E4M3: CHECK(!"a float type");
    }
}

void num_from_f32(void *dst, enum dtype to, const float *src, size_t n)
{
    uint16_t *h = dst;
    switch (to) {
    case DTYPE_F32:  memcpy(dst, src, n * 4); break;
    case DTYPE_BF16: for (size_t i = 0; i < n; i++) h[i] = bf16_from_f32(src[i]); break;
    case DTYPE_F16:  for (size_t i = 0; i < n; i++) h[i] = f16_from_f32(src[i]); break;
    case DTYPE_I8: case DTYPE_I32: case DTYPE_E4M3: CHECK(!"a float type");
    }
}

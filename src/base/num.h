/* num.h - number formats of tensors and the conversions between them. */
#ifndef BASE_NUM_H
#define BASE_NUM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum dtype { DTYPE_F32, DTYPE_BF16, DTYPE_F16, DTYPE_I8, DTYPE_I32, DTYPE_E4M3 };

size_t      dtype_size(enum dtype t);      /* bytes of one element */
const char *dtype_name(enum dtype t);      /* "f32", "bf16", ... */

static inline float bf16_to_f32(uint16_t h)
{
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

/* Round to nearest even; a NaN stays a (quiet) NaN. */
static inline uint16_t bf16_from_f32(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    if ((u & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

float    f16_to_f32(uint16_t h);
uint16_t f16_from_f32(float f);

/* n elements of type `from` at src become floats at dst, and the other way about (f32, bf16, f16). */
void num_to_f32(float *dst, const void *src, enum dtype from, size_t n);
void num_from_f32(void *dst, enum dtype to, const float *src, size_t n);

#endif

/* tensor.cpp - tensor cores in software, a lane's part of the result, and f16.  Fragments: prim.h.  (__builtin_memcpy: core.h.) */
#include "core.h"

static float f32(uint32_t bits)
{
    float x;
    __builtin_memcpy(&x, &bits, 4);
    return x;
}

static float e4m3(uint32_t v)
{
    uint32_t sign = (v & 0x80) << 24, e = v >> 3 & 15, m = v & 7;
    if ((v & 0x7f) == 0x7f)
        return f32(0x7fffffff);
    float x = e ? f32((e + 120) << 23 | m << 20) : (float)m * 0x1p-9f;
    return sign ? -x : x;
}

/* Element i of row (of a) or column (of b) r: words of 4 bytes, half the columns each, by the lanes of a group of four. */
static float bf16_at(const emu_lane *all, uint32_t group, uint32_t word, uint32_t i)
{
    return f32(all[group * 4 + i % 8 / 2].word[word] >> i % 2 * 16 << 16);
}

static float e4m3_at(const emu_lane *all, uint32_t group, uint32_t word, uint32_t i)
{
    return e4m3(all[group * 4 + i % 16 / 4].word[word] >> i % 4 * 8 & 0xff);
}

/* Words 0 .. 3 are a's, 4 and 5 b's.  The sum is kept in f64 and rounded once; a GPU rounds as it likes. */
template <class At> static void multiply(float c[4], const emu_lane *all, uint32_t lane, uint32_t k, At at)
{
    uint32_t g = lane / 4, t = lane % 4;
    float a[2][32], b[2][32];
    for (uint32_t i = 0; i < k; i++) {
        uint32_t half = i >= k / 2;
        for (uint32_t r = 0; r < 2; r++) {
            a[r][i] = at(all, g, 2 * half + r, i);
            b[r][i] = at(all, 2 * t + r, 4 + half, i);
        }
    }
    for (uint32_t r = 0; r < 2; r++)
        for (uint32_t s = 0; s < 2; s++) {
            double sum = c[2 * r + s];
            for (uint32_t i = 0; i < k; i++)
                sum += (double)a[r][i] * (double)b[s][i];
            c[2 * r + s] = (float)sum;
        }
}

void emu_mma_bf16(float c[4], const emu_lane *all, uint32_t lane) { multiply(c, all, lane, 16, bf16_at); }
void emu_mma_e4m3(float c[4], const emu_lane *all, uint32_t lane) { multiply(c, all, lane, 32, e4m3_at); }

uint32_t emu_f16_of_f32(float x)
{
    uint32_t u;
    __builtin_memcpy(&u, &x, 4);
    uint32_t sign = u >> 16 & 0x8000, a = u & 0x7fffffff;
    if (a > 0x7f800000)
        return 0x7fff;
    if (a >= 0x477ff000)                           /* 65520: rounds to infinity */
        return sign | 0x7c00;
    if (a < 0x38800000) {                          /* 2^-14: steps of 2^-24, which is half an ulp of 1 */
        float y = f32(a) + 0.5f;
        __builtin_memcpy(&u, &y, 4);
        return sign | (u - 0x3f000000);
    }
    return sign | (((a + 0xfff + (a >> 13 & 1)) >> 13) - (112 << 10));
}

float emu_f32_of_f16(uint32_t h)
{
    uint32_t e = h >> 10 & 31, m = h & 0x3ff;
    float x = e == 31 ? f32(0x7f800000 | m << 13) : e ? f32((e + 112) << 23 | m << 13) : (float)m * 0x1p-24f;
    return h & 0x8000 ? -x : x;
}

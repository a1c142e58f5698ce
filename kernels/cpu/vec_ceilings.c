/* vec_ceilings.c - loops at a limit of the core.  For the dot products the registers are filled with independent
 * sums, enough to cover the latency of any multiplier; the empty asm in each step says that the sum is used and
 * changed, so that the compiler leaves the loop as it stands. */
#include "kernels/cpu/ceilings.h"
#include "kernels/cpu/simd.h"

#define SUMS 12
#if defined __AVX512BF16__
#define WIDTH 16
#define MULTIPLY_ADD(sum, a, b) _mm512_fmadd_ps(a, b, sum)
#elif defined __AVX2__
#define WIDTH 8
#define MULTIPLY_ADD(sum, a, b) _mm256_fmadd_ps(a, b, sum)
#else
#define WIDTH 4
#define MULTIPLY_ADD(sum, a, b) ((sum) + (a) * (b))
#endif

typedef float    f32v __attribute__((vector_size(4 * WIDTH)));
typedef uint32_t u32v __attribute__((vector_size(4 * WIDTH)));

/* One step for each sum; written out, for the sums must stay in registers. */
#define STEP(op, i) sum[i] = op(sum[i], a, b); __asm__ volatile("" : "+x"(sum[i]))
#define STEPS(op) STEP(op, 0); STEP(op, 1); STEP(op, 2); STEP(op, 3); STEP(op, 4); STEP(op, 5); \
                  STEP(op, 6); STEP(op, 7); STEP(op, 8); STEP(op, 9); STEP(op, 10); STEP(op, 11)

static double run_f32(size_t n)
{
    f32v sum[SUMS] = { { 0 } }, a = { 1 }, b = { 1 };
    for (size_t i = 0; i < n; i++) {
        STEPS(MULTIPLY_ADD);
    }
    return 2.0 * WIDTH * SUMS * (double)n;
}

#ifdef __AVX512BF16__
static double run_bf16(size_t n)
{
    __m512 sum[SUMS] = { { 0 } };
    __m512bh a = (__m512bh)_mm512_set1_epi16(0x3f80), b = a;
    for (size_t i = 0; i < n; i++) {
        STEPS(_mm512_dpbf16_ps);
    }
    return 4.0 * WIDTH * SUMS * (double)n;
}

static double run_i8(size_t n)
{
    __m512i sum[SUMS] = { { 0 } }, a = _mm512_set1_epi8(1), b = a;
    for (size_t i = 0; i < n; i++) {
        STEPS(_mm512_dpbusd_epi32);
    }
    return 8.0 * WIDTH * SUMS * (double)n;
}
#else
#define run_bf16 run_f32       /* without dot products of the type it is multiplied in f32 */
#define run_i8 run_f32
#endif

static uint32_t read_all(const void *data, size_t size)
{
    const u32v *at = data, *end = at + size / sizeof *at;
    u32v sum[4] = { { 0 } };
    for (; at < end; at += 4) {
        sum[0] ^= at[0];
        sum[1] ^= at[1];
        sum[2] ^= at[2];
        sum[3] ^= at[3];
    }
    u32v all = sum[0] ^ sum[1] ^ sum[2] ^ sum[3];
    uint32_t one = 0;
    for (int i = 0; i < WIDTH; i++)
        one ^= all[i];
    return one;
}

VEC_TABLE(vec_ceilings) = { .f32 = run_f32, .bf16 = run_bf16, .i8 = run_i8, .read = read_all };

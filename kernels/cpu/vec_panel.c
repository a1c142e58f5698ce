/* vec_panel.c - c = x w for the panels of weights of a tile.  Up to about 8 rows bound by the bytes of w, above by the dot products.
 *
 * Rows go in passes of up to 6: 6 x 4 sums, 4 vectors of w and one of x fill the registers, and 24 products hide the
 * loads.  Only the first pass over a panel takes it from memory, and would wait; so while the passes go over a panel
 * each fetches a part of the next one, and memory is never idle.  (A single pass is one stream that the CPU's own
 * prefetching follows.)  A sum goes through the inputs in their order, whatever pass it is in. */
#include <stdbool.h>

#include "kernels/cpu/linear.h"
#include "kernels/cpu/simd.h"

#ifdef __AVX512BF16__

#define PASS 6
#define ROW_BYTES 256          /* of a panel: 64 outputs of 4 bytes */

SIMD __m512i dots(__m512i sum, __m512i x, __m512i w, bool i8)
{
    return i8 ? _mm512_dpbusd_epi32(sum, x, w)
              : _mm512_castps_si512(_mm512_dpbf16_ps(_mm512_castsi512_ps(sum), (__m512bh)x, (__m512bh)w));
}

/* Rows first .. first + n-1, n a constant.  On the way memory is prefetched from `fetch`, fetch_step <= 128 bytes a step. */
SIMD void pass(const struct panel *p, const char *w, int32_t *c, size_t first, int n, const char *fetch, size_t fetch_step, bool i8)
{
    size_t x_row = (size_t)p->n_step * 4;
    const char *x = (const char *)p->x + first * x_row;
    c += first * p->c_cols;
    __m512i sum[PASS][4];
    UNROLL
    for (int r = 0; r < n; r++)
        UNROLL
        for (int v = 0; v < 4; v++)
            sum[r][v] = _mm512_setzero_si512();
    for (size_t k = 0; k < p->n_step; k++, w += ROW_BYTES, fetch += fetch_step) {
        _mm_prefetch(fetch, _MM_HINT_T1);
        if (fetch_step > 64)
            _mm_prefetch(fetch + 64, _MM_HINT_T1);
        __m512i w0 = _mm512_loadu_si512(w), w1 = _mm512_loadu_si512(w + 64);
        __m512i w2 = _mm512_loadu_si512(w + 128), w3 = _mm512_loadu_si512(w + 192);
        UNROLL
        for (int r = 0; r < n; r++) {
            int32_t inputs;
            memcpy(&inputs, x + (size_t)r * x_row + k * 4, 4);
            __m512i all = _mm512_set1_epi32(inputs);
            sum[r][0] = dots(sum[r][0], all, w0, i8);
            sum[r][1] = dots(sum[r][1], all, w1, i8);
            sum[r][2] = dots(sum[r][2], all, w2, i8);
            sum[r][3] = dots(sum[r][3], all, w3, i8);
        }
    }
    UNROLL
    for (int r = 0; r < n; r++)
        UNROLL
        for (int v = 0; v < 4; v++)
            _mm512_storeu_si512(c + (size_t)r * p->c_cols + v * LANES, sum[r][v]);
}

SIMD void one_panel(const struct panel *p, const char *w, int32_t *c, bool i8)
{
    size_t n_pass = (p->n_row + PASS - 1) / PASS, size = (size_t)p->n_step * ROW_BYTES;
    size_t fetch_step = n_pass == 1 ? 0 : ROW_BYTES / n_pass;
    for (size_t i = 0; i < n_pass; i++) {
        size_t first = p->n_row * i / n_pass, n = p->n_row * (i + 1) / n_pass - first;
        const char *fetch = w + (fetch_step ? size + size * i / n_pass : 0);
        switch (n) {
        case 1: pass(p, w, c, first, 1, fetch, fetch_step, i8); break;
        case 2: pass(p, w, c, first, 2, fetch, fetch_step, i8); break;
        case 3: pass(p, w, c, first, 3, fetch, fetch_step, i8); break;
        case 4: pass(p, w, c, first, 4, fetch, fetch_step, i8); break;
        case 5: pass(p, w, c, first, 5, fetch, fetch_step, i8); break;
        case 6: pass(p, w, c, first, 6, fetch, fetch_step, i8); break;
        }
    }
}

SIMD void product(const struct panel *p, bool i8)
{
    const char *w = p->w;
    for (uint32_t col = 0; col < p->c_cols; col += GEMM_TILE_UNIT, w += (size_t)p->n_step * ROW_BYTES)
        one_panel(p, w, (int32_t *)p->c + col, i8);
}

static void product_bf16(const struct panel *p)
{
    product(p, false);
}

static void product_i8(const struct panel *p)
{
    product(p, true);
}

VEC_TABLE(vec_panel) = { .bf16 = product_bf16, .i8 = product_i8 };

#else
VEC_TABLE(vec_panel) = { 0 };
#endif

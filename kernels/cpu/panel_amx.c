/* panel_amx.c - the products of vec_panel.c with AMX, whose registers are tiles: 16 rows of 64 bytes.
 *
 * A panel's layout is already that of w's tiles: 16 steps of 16 outputs, 256 bytes between their rows.  32 rows of x by
 * 32 outputs are made together, 4 tile products for 4 tile loads; what is left, up to 16 rows, by 64 outputs.  Bound: the
 * bytes of w in memory up to about 64 rows, above it the loads from the second cache.  As in vec_panel.c each pass over
 * a panel fetches a part of the next one.  A sum goes through the inputs in their order, whatever rows are beside it. */
#include <stdbool.h>
#include <string.h>

#include "kernels/cpu/amx.h"
#include "kernels/cpu/ceilings.h"
#include "kernels/cpu/linear.h"

enum {
    TILE_ROWS = 16, TILE_STEPS = 16, TILE_BYTES = 64,
    W_ROW = GEMM_TILE_UNIT * 4,            /* bytes between rows of w's tiles */
    LINE = 64,
};

/* Sums are in tiles 0 to 3, x in 4 (n_first rows) and 5 (n_second), w in 6 and 7. */
static void configure(uint32_t n_first, uint32_t n_second)
{
    uint8_t a = (uint8_t)n_first, b = (uint8_t)(n_second ? n_second : n_first);
    struct amx_config c = { .palette = 1, .rows = { a, a, b, b, a, b, TILE_STEPS, TILE_STEPS } };
    for (int i = 0; i < 8; i++)
        c.row_bytes[i] = TILE_BYTES;
    amx_configure(&c);
}

/* A macro, for the numbers of tiles are part of the instruction. */
#define ADD_PRODUCT(sum, x, w) \
    do { \
        if (i8) \
            _tile_dpbusd(sum, x, w); \
        else \
            _tile_dpbf16ps(sum, x, w); \
    } while (0)

/* 32 outputs of two tiles of rows. */
static inline void step_pair(const char *x, size_t x_row, const char *w, bool i8)
{
    _tile_loadd(6, w, W_ROW);
    _tile_loadd(4, x, x_row);
    ADD_PRODUCT(0, 4, 6);
    _tile_loadd(7, w + TILE_BYTES, W_ROW);
    ADD_PRODUCT(1, 4, 7);
    _tile_loadd(5, x + TILE_ROWS * x_row, x_row);
    ADD_PRODUCT(2, 5, 6);
    ADD_PRODUCT(3, 5, 7);
}

/* 64 outputs of one. */
static inline void step_one(const char *x, size_t x_row, const char *w, bool i8)
{
    _tile_loadd(4, x, x_row);
    _tile_loadd(6, w, W_ROW);
    ADD_PRODUCT(0, 4, 6);
    _tile_loadd(7, w + TILE_BYTES, W_ROW);
    ADD_PRODUCT(1, 4, 7);
    _tile_loadd(6, w + 2 * TILE_BYTES, W_ROW);
    ADD_PRODUCT(2, 4, 6);
    _tile_loadd(7, w + 3 * TILE_BYTES, W_ROW);
    ADD_PRODUCT(3, 4, 7);
}

/* The last step where the inputs do not fill one: behind a row of x, and behind a panel, comes what must not be added. */
struct tail { _Alignas(LINE) char x[2 * TILE_ROWS][TILE_BYTES], w[TILE_STEPS][W_ROW]; };

/* Lines of the next panel, some with each step. */
struct fetch { const char *at; size_t n_line; };

static inline void fetch_some(struct fetch *f)
{
    for (size_t i = 0; i < f->n_line; i++, f->at += LINE)
        _mm_prefetch(f->at, _MM_HINT_T1);
}

/* Tiles of rows from x, outputs from w; pair: two of rows and two of outputs, else one and four. */
static inline void pass(const struct panel *p, const char *x, const char *w, char *c, const struct tail *tail, size_t col, struct fetch *f,
                        bool pair, bool i8)
{
    size_t x_row = (size_t)p->n_step * 4, c_row = (size_t)p->c_cols * 4;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    w += col * 4;
    for (size_t k = 0; k < p->n_step / TILE_STEPS; k++, x += TILE_BYTES, w += TILE_STEPS * W_ROW) {
        if (pair)
            step_pair(x, x_row, w, i8);
        else
            step_one(x, x_row, w, i8);
        fetch_some(f);
    }
    if (p->n_step % TILE_STEPS && pair)
        step_pair(tail->x[0], TILE_BYTES, tail->w[0] + col * 4, i8);
    else if (p->n_step % TILE_STEPS)
        step_one(tail->x[0], TILE_BYTES, tail->w[0] + col * 4, i8);
    c += col * 4;
    _tile_stored(0, c, c_row);
    _tile_stored(1, c + TILE_BYTES, c_row);
    _tile_stored(2, pair ? c + TILE_ROWS * c_row : c + 2 * TILE_BYTES, c_row);
    _tile_stored(3, pair ? c + TILE_ROWS * c_row + TILE_BYTES : c + 3 * TILE_BYTES, c_row);
}

static void copy_tail(const struct panel *p, const char *x, uint32_t n_row, const char *w, struct tail *t)
{
    size_t whole = p->n_step / TILE_STEPS * TILE_STEPS, rest = p->n_step - whole;
    memset(t, 0, sizeof *t);
    for (uint32_t r = 0; r < n_row; r++)
        memcpy(t->x[r], x + (r * (size_t)p->n_step + whole) * 4, rest * 4);
    memcpy(t->w, w + whole * W_ROW, rest * W_ROW);
    amx_written(t);
}

static inline void one_panel(const struct panel *p, const char *w, char *c, bool i8)
{
    struct tail tail;
    size_t n_pass = (p->n_row + TILE_ROWS - 1) / TILE_ROWS;        /* a pair of tiles of rows goes over the panel twice */
    struct fetch fetch = { w + (size_t)p->n_step * W_ROW, (TILE_STEPS * W_ROW / LINE + n_pass - 1) / n_pass };
    const char *x = p->x;
    for (uint32_t row = 0, n; row < p->n_row; row += n) {
        n = p->n_row - row < 2 * TILE_ROWS ? p->n_row - row : 2 * TILE_ROWS;
        const char *x_at = x + (size_t)row * p->n_step * 4;
        char *c_at = c + (size_t)row * p->c_cols * 4;
        configure(n < TILE_ROWS ? n : TILE_ROWS, n < TILE_ROWS ? 0 : n - TILE_ROWS);
        if (p->n_step % TILE_STEPS)
            copy_tail(p, x_at, n, w, &tail);
        if (n > TILE_ROWS) {
            pass(p, x_at, w, c_at, &tail, 0, &fetch, true, i8);
            pass(p, x_at, w, c_at, &tail, GEMM_TILE_UNIT / 2, &fetch, true, i8);
        } else {
            pass(p, x_at, w, c_at, &tail, 0, &fetch, false, i8);
        }
    }
}

static inline void product(const struct panel *p, bool i8)
{
    const char *w = p->w;
    char *c = p->c;
    for (uint32_t col = 0; col < p->c_cols; col += GEMM_TILE_UNIT, w += (size_t)p->n_step * W_ROW, c += W_ROW)
        one_panel(p, w, c, i8);
}

static void product_bf16(const struct panel *p)
{
    product(p, false);
}

static void product_i8(const struct panel *p)
{
    product(p, true);
}

const struct vec_panel vec_panel_amx = { .bf16 = product_bf16, .i8 = product_i8 };

/* ---- the limit of it, for ceilings.c ---- */

static inline double run(size_t n, bool i8)
{
    configure(TILE_ROWS, TILE_ROWS);
    for (size_t i = 0; i < n / 64; i++) {
        ADD_PRODUCT(0, 4, 6);
        ADD_PRODUCT(1, 4, 7);
        ADD_PRODUCT(2, 5, 6);
        ADD_PRODUCT(3, 5, 7);
    }
    return 2.0 * TILE_ROWS * TILE_ROWS * TILE_STEPS * (i8 ? 4 : 2) * 4 * (double)(n / 64);
}

static double run_bf16(size_t n)
{
    return run(n, false);
}

static double run_i8(size_t n)
{
    return run(n, true);
}

const struct vec_ceilings vec_ceilings_amx = { .bf16 = run_bf16, .i8 = run_i8 };

/* linear.c - y = x w^T + bias + residual.
 *
 * Bound: up to about 8 rows the bytes of the weights, above it the dot products.  First the rows of x are staged in
 * the type that multiplies (nothing to do if they have it), then threads share out the tiles of the weight; a tile or
 * a panel of it stays in the second cache while all rows pass by, and its results are finished there too. */
#include "kernels/cpu/linear.h"

#include <string.h>

#include "base/err.h"

struct linear_run {
    struct cpu_device *cpu;
    const struct linear *op;
    const struct vec_linear *vec;
    char *x;                       /* [n_row, n_in] in the type that multiplies: op->x or staged */
    float *x_scale;                /* [n_row] int8 */
    size_t x_size;                 /* bytes of a row of x */
    uint32_t unit, n_unit;         /* the rows are multiplied in n_unit units; what is beyond x in the last is not used */
    uint32_t n_group;              /* parts that the rows are cut in, where there are few tiles for many threads */
};

static uint32_t min(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static char *row_of(const struct tensor *t, uint32_t i)
{
    return (char *)t->data + (size_t)i * t->cols * dtype_size(t->dtype);
}

/* One row of x in the type that multiplies; `wide` is room for a row of floats. */
static void stage_row(const struct linear_run *r, uint32_t i, float *wide)
{
    const struct tensor *x = &r->op->x;
    enum dtype to = r->op->w->multiplied;
    void *at = r->x + i * r->x_size;
    float *row = (float *)row_of(x, i);
    if (x->dtype == DTYPE_BF16) {
        row = to == DTYPE_F32 ? at : wide;
        r->vec->widen_bf16(row, (const uint16_t *)row_of(x, i), x->cols);
    }
    if (to == DTYPE_F32 && x->dtype == DTYPE_F32)
        memcpy(at, row, r->x_size);
    if (to == DTYPE_BF16)
        r->vec->narrow_bf16(at, row, x->cols);
    if (to == DTYPE_I8)
        r->x_scale[i] = r->vec->quantise(at, row, x->cols);
}

static void stage_job(void *arg, int thread, int n_thread)
{
    const struct linear_run *r = arg;
    float *wide = cpu_scratch(r->cpu, thread, r->op->x.cols * sizeof *wide);
    struct span s = span_of(r->op->x.rows, thread, n_thread);
    for (uint32_t i = s.from; i < s.to; i++)
        stage_row(r, i, wide);
}

static void stage(struct linear_run *r)
{
    const struct tensor *x = &r->op->x;
    enum dtype to = r->op->w->multiplied;
    r->x_size = x->cols * dtype_size(to);
    r->x = x->data;
    if (to == x->dtype && x->rows % r->unit == 0)
        return;
    size_t size = (r->n_unit * r->unit * r->x_size + 63) / 64 * 64;
    r->x = cpu_scratch_shared(r->cpu, size + x->rows * sizeof *r->x_scale);
    r->x_scale = (float *)(r->x + size);
    cpu_run(r->cpu, size, stage_job, r);
}

/* c [n_row, c_cols]: what rows first_row... and outputs first_col... have given; takes it to where it belongs. */
struct place { uint32_t first_row, n_row, first_col, n_col, c_cols; };

static void finish(const struct linear_run *r, const struct place *p, const void *c)
{
    const struct linear *op = r->op;
    const struct weight *w = op->w;
    size_t first = p->first_col;
    bool i8 = w->multiplied == DTYPE_I8;
    r->vec->finish(&(struct linear_block){
        .c = c, .n_row = p->n_row, .n_col = p->n_col, .c_cols = p->c_cols,
        .sum_w = i8 ? w->sum + first : NULL,
        .scale_w = w->scale ? w->scale + first : NULL,
        .scale_x = i8 ? r->x_scale + p->first_row : NULL,
        .bias = op->bias ? op->bias + first : NULL,
        .residual = op->residual.data ? (float *)row_of(&op->residual, p->first_row) + first : NULL,
        .y = row_of(&op->y, p->first_row) + first * dtype_size(op->y.dtype),
        .y_dtype = op->y.dtype, .y_cols = op->y.cols,
    });
}

/* The tile as the library multiplies it; `wide` is room for it in f32. */
static struct dnnl_memory *ready_tile(const struct linear_run *r, int thread, uint32_t tile, float *wide)
{
    const struct weight *w = r->op->w;
    const struct gemm_shape *s = tile_shape(w, tile);
    if (w->tiles)
        return w->tiles[tile];
    const void *narrow = w->data + tile * w->tile_size;
    if (w->stored == DTYPE_BF16)
        r->vec->widen_bf16(wide, narrow, s->size / sizeof *wide);
    else
        r->vec->widen_i8(wide, narrow, s->size / sizeof *wide);
    return gemm_tile_at(s, thread, wide);
}

#define C_SIZE ((size_t)GEMM_ROWS * GEMM_TILE * sizeof(float))

static void run_by_library(const struct linear_run *r, int thread, uint32_t tile, struct span rows)
{
    const struct weight *w = r->op->w;
    const struct gemm_shape *s = tile_shape(w, tile);
    char *c = cpu_scratch(r->cpu, thread, C_SIZE + (w->tiles ? 0 : w->whole->size));
    struct dnnl_memory *ready = ready_tile(r, thread, tile, (float *)(c + C_SIZE));
    struct place p = { .first_col = tile * GEMM_TILE, .n_col = tile_cols(w, tile), .c_cols = s->n_col };
    for (uint32_t row = rows.from, n; row < rows.to; row += n) {
        n = gemm_piece(s, rows.to - row);
        gemm_run(s, thread, n, r->x + row * r->x_size, ready, c);
        p.first_row = row;
        p.n_row = min(n, r->op->x.rows - row);
        finish(r, &p, c);
    }
}

static void run_by_panel(const struct linear_run *r, int thread, uint32_t tile, struct span rows)
{
    const struct weight *w = r->op->w;
    struct panel panel = {
        .w = w->data + tile * w->tile_size, .n_step = (uint32_t)(r->x_size / 4), .c_cols = tile_width(w, tile),
        .c = cpu_scratch(r->cpu, thread, C_SIZE),
    };
    struct place p = { .first_col = tile * GEMM_TILE, .n_col = tile_cols(w, tile), .c_cols = panel.c_cols };
    for (uint32_t row = rows.from; row < rows.to; row += GEMM_ROWS) {
        panel.x = r->x + row * r->x_size;
        panel.n_row = min(GEMM_ROWS, rows.to - row);
        w->panel(&panel);
        p.first_row = row;
        p.n_row = panel.n_row;
        finish(r, &p, panel.c);
    }
}

static void tile_job(void *arg, int thread, int n_thread)
{
    const struct linear_run *r = arg;
    struct span work = span_of(r->op->w->n_tile * r->n_group, thread, n_thread);
    for (uint32_t i = work.from; i < work.to; i++) {
        uint32_t tile = i / r->n_group;
        struct span units = span_of(r->n_unit, (int)(i % r->n_group), (int)r->n_group);
        struct span rows = { units.from * r->unit, units.to * r->unit };
        if (r->op->w->panel)
            run_by_panel(r, thread, tile, rows);
        else
            run_by_library(r, thread, tile, rows);
    }
}

/* Tiles are shared out evenly if they are a multiple of the threads or many; else the rows are cut too. */
static uint32_t groups(uint32_t n_tile, uint32_t n_row, uint32_t n_thread)
{
    if (n_tile % n_thread == 0 || n_tile >= 8 * n_thread)
        return 1;
    return min((8 * n_thread + n_tile - 1) / n_tile, (n_row + 7) / 8);
}

void cpu_linear(struct device *d, const struct linear *op)
{
    struct cpu_device *cpu = cpu_of(d);
    const struct weight *w = op->w;
    CHECK(op->x.cols == w->n_in && op->y.cols == w->n_out && op->y.rows == op->x.rows);
    CHECK(op->x.dtype <= DTYPE_BF16 && op->y.dtype <= DTYPE_BF16);
    CHECK(!op->residual.data || (op->residual.dtype == DTYPE_F32 && op->residual.cols == w->n_out));
    if (!op->x.rows)
        return;
    struct linear_run r = { .cpu = cpu, .op = op, .vec = vec_linear(cpu->tier) };
    r.unit = w->panel ? 1 : w->whole->row_unit;
    r.n_unit = (op->x.rows + r.unit - 1) / r.unit;
    r.n_group = groups(w->n_tile, op->x.rows, (uint32_t)pool_size(cpu->pool));
    stage(&r);
    pool_run(cpu->pool, tile_job, &r);
}

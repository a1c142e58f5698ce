/* weight.c - packing weights, and embed, which reads rows of a packed weight, so that tied embeddings are held once. */
#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "kernels/cpu/linear.h"

struct pack { struct cpu_device *cpu; struct weight *w; const struct tensor *parts; };

/* Row n of the parts, one below the other, as floats. */
static void read_row(const struct pack *p, uint32_t n, float *row)
{
    const struct tensor *part = p->parts;
    for (; n >= part->rows; part++)
        n -= part->rows;
    size_t bytes = part->cols * dtype_size(part->dtype);
    num_to_f32(row, (const char *)part->data + n * bytes, part->dtype, part->cols);
}

/* Weight (n, k) is element row_at(w, n) + in_at(w, n, k) of n's tile. */
static size_t row_at(const struct weight *w, uint32_t n)
{
    uint32_t col = n % GEMM_TILE, step = 4 / (uint32_t)dtype_size(w->stored);
    if (w->panel)
        return (size_t)(col / GEMM_TILE_UNIT) * GEMM_TILE_UNIT * w->n_in + col % GEMM_TILE_UNIT * step;
    return tile_shape(w, n / GEMM_TILE)->col_at[col];
}

static size_t in_at(const struct weight *w, uint32_t n, uint32_t k)
{
    int shift = w->stored == DTYPE_I8 ? 2 : 1;     /* a step has 1 << shift inputs */
    if (w->panel)
        return ((size_t)(k >> shift) * GEMM_TILE_UNIT << shift) + (k & ((1u << shift) - 1));
    return tile_shape(w, n / GEMM_TILE)->in_at[k];
}

/* int8: the row's absolute maximum becomes 127.  Behind the row is room for as many bytes. */
static void pack_i8(const struct pack *p, uint32_t n, int8_t *at, float *row)
{
    struct weight *w = p->w;
    uint8_t *steps = (uint8_t *)(row + w->n_in);
    w->scale[n] = vec_linear(p->cpu->tier)->quantise(steps, row, w->n_in);
    for (uint32_t k = 0; k < w->n_in; k++) {
        at[in_at(w, n, k)] = (int8_t)(steps[k] - 128);
        w->sum[n] += steps[k] - 128;
    }
}

static void pack_row(const struct pack *p, uint32_t n, float *row)
{
    struct weight *w = p->w;
    char *data = w->data + n / GEMM_TILE * w->tile_size;
    size_t at = row_at(w, n);
    switch (w->stored) {
    case DTYPE_I8:
        pack_i8(p, n, (int8_t *)data + at, row);
        return;
    case DTYPE_BF16:
        for (uint32_t k = 0; k < w->n_in; k++)
            ((uint16_t *)data)[at + in_at(w, n, k)] = bf16_from_f32(row[k]);
        return;
    default:
        for (uint32_t k = 0; k < w->n_in; k++)
            ((float *)data)[at + in_at(w, n, k)] = row[k];
    }
}

/* Whole tiles a thread, so that a tile's pages lie near the thread that will read it. */
static void pack_job(void *arg, int thread, int n_thread)
{
    const struct pack *p = arg;
    float *row = cpu_scratch(p->cpu, thread, p->w->n_in * (sizeof *row + 1));
    struct span s = span_of(p->w->n_tile, thread, n_thread);
    for (uint32_t tile = s.from; tile < s.to; tile++)
        for (uint32_t i = 0; i < tile_cols(p->w, tile); i++) {
            read_row(p, tile * GEMM_TILE + i, row);
            pack_row(p, tile * GEMM_TILE + i, row);
        }
}

static void open_tiles(struct cpu_device *cpu, struct weight *w)
{
    w->tiles = mem_array(w->n_tile, sizeof *w->tiles);
    for (uint32_t t = 0; t < w->n_tile; t++)
        w->tiles[t] = gemm_tile_open(cpu->gemm, tile_shape(w, t), w->data + t * w->tile_size);
}

/* Our own product, if the tier has one of the type and whole steps of it make a row. */
static panel_product *panel_of(enum cpu_tier tier, enum dtype dtype, uint32_t n_in)
{
    const struct vec_panel *vec = tier == CPU_AMX ? &vec_panel_amx : vec_panel(tier);
    if (dtype == DTYPE_F32 || n_in * dtype_size(dtype) % 4)
        return NULL;
    return dtype == DTYPE_BF16 ? vec->bf16 : vec->i8;
}

static size_t stored_size(const struct weight *w, const struct gemm_shape *s)
{
    return s->size / dtype_size(w->multiplied) * dtype_size(w->stored);
}

static void lay_out(struct cpu_device *cpu, struct weight *w)
{
    uint32_t last = tile_width(w, w->n_tile - 1);
    w->panel = panel_of(cpu->tier, w->stored, w->n_in);
    if (w->panel) {
        w->multiplied = w->stored;
        w->tile_size = (size_t)w->n_in * GEMM_TILE * dtype_size(w->stored);
        w->size = (w->n_tile - 1) * w->tile_size + (size_t)w->n_in * last * dtype_size(w->stored);
        return;
    }
    w->multiplied = gemm_has(w->stored) ? w->stored : DTYPE_F32;
    w->whole = gemm_shape(cpu->gemm, w->multiplied, w->n_in, GEMM_TILE);
    w->last = gemm_shape(cpu->gemm, w->multiplied, w->n_in, last);
    w->tile_size = stored_size(w, w->whole);
    w->size = (w->n_tile - 1) * w->tile_size + stored_size(w, w->last);
}

static struct weight *make_weight(struct cpu_device *cpu, uint32_t n_in, uint32_t n_out, enum dtype dtype)
{
    struct weight *w = mem_alloc(sizeof *w);
    w->stored = dtype;
    w->n_in = n_in;
    w->n_out = n_out;
    w->n_tile = (n_out + GEMM_TILE - 1) / GEMM_TILE;
    lay_out(cpu, w);
    w->data = cpu->base.ops->alloc(&cpu->base, w->size);
    if (dtype == DTYPE_I8) {
        w->scale = mem_array(n_out, sizeof *w->scale);
        w->sum = mem_array(n_out, sizeof *w->sum);
    }
    return w;
}

struct weight *cpu_weight_pack(struct device *d, const struct tensor *parts, int n_part, enum dtype dtype)
{
    struct cpu_device *cpu = cpu_of(d);
    uint32_t n_out = 0;
    CHECK(dtype == DTYPE_F32 || dtype == DTYPE_BF16 || dtype == DTYPE_I8);
    for (int i = 0; i < n_part; i++) {
        CHECK(parts[i].cols == parts[0].cols && parts[i].dtype <= DTYPE_F16);
        n_out += parts[i].rows;
    }
    CHECK(n_out && parts[0].cols);
    struct weight *w = make_weight(cpu, parts[0].cols, n_out, dtype);
    pool_run(cpu->pool, pack_job, &(struct pack){ .cpu = cpu, .w = w, .parts = parts });
    if (w->stored == w->multiplied && !w->panel)
        open_tiles(cpu, w);
    return w;
}

size_t cpu_weight_size(const struct weight *w)
{
    return w->size + (w->scale ? w->n_out * (sizeof *w->scale + sizeof *w->sum) : 0);
}

void cpu_weight_free(struct device *d, struct weight *w)
{
    if (!w)
        return;
    for (uint32_t t = 0; w->tiles && t < w->n_tile; t++)
        gemm_tile_close(w->tiles[t]);
    d->ops->free(d, w->data, w->size);
    free(w->tiles);
    free(w->scale);
    free(w->sum);
    free(w);
}

static void unpack_row(const struct weight *w, uint32_t n, float scale, float *y)
{
    const char *data = w->data + n / GEMM_TILE * w->tile_size;
    size_t at = row_at(w, n);
    switch (w->stored) {
    case DTYPE_I8:
        for (uint32_t k = 0; k < w->n_in; k++)
            y[k] = ((const int8_t *)data)[at + in_at(w, n, k)] * w->scale[n] * scale;
        return;
    case DTYPE_BF16:
        for (uint32_t k = 0; k < w->n_in; k++)
            y[k] = bf16_to_f32(((const uint16_t *)data)[at + in_at(w, n, k)]) * scale;
        return;
    default:
        for (uint32_t k = 0; k < w->n_in; k++)
            y[k] = ((const float *)data)[at + in_at(w, n, k)] * scale;
    }
}

static void embed_job(void *arg, int thread, int n_thread)
{
    const struct embed *op = arg;
    const struct weight *w = op->table;
    struct span s = span_of(op->y.rows, thread, n_thread);
    for (uint32_t i = s.from; i < s.to; i++) {
        int32_t id = op->ids[i] < 0 ? op->prev[~op->ids[i]] : op->ids[i];
        CHECK(id >= 0 && (uint32_t)id < w->n_out);
        unpack_row(w, (uint32_t)id, op->scale, (float *)op->y.data + (size_t)i * w->n_in);
    }
}

void cpu_embed(struct device *d, const struct embed *op)
{
    CHECK(op->y.dtype == DTYPE_F32 && op->y.cols == op->table->n_in);
    cpu_run(cpu_of(d), (size_t)op->y.rows * op->y.cols * sizeof(float), embed_job, (void *)op);
}


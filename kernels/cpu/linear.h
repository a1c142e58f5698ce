/* linear.h - what a linear layer is made of: the packed weight (weight.c), and once a tier the passes over rows around
 * the products (vec_linear.c) and our own products (vec_panel.c, panel_amx.c). */
#ifndef KERNELS_CPU_LINEAR_H
#define KERNELS_CPU_LINEAR_H

#include "kernels/cpu/gemm.h"
#include "kernels/cpu/vec.h"

/* What rows of x and outputs of w have become, and where it goes: y = c + bias + residual, c being scaled first if the
 * weights are int8.  Arrays of outputs begin at the block's first, arrays of rows at its first. */
struct linear_block {
    const void *c;             /* [n_row, c_cols] float; int32 if there is sum_w */
    uint32_t n_row, n_col, c_cols;
    const int32_t *sum_w;      /* of each output's int8 weights, or NULL: x's zero is 128, so c is 128 sum_w too large */
    const float *scale_w;      /* or NULL */
    const float *scale_x;      /* [n_row] or NULL */
    const float *bias;         /* or NULL */
    const float *residual;     /* rows y_cols apart, or NULL; may be y */
    void *y;                   /* rows y_cols apart */
    enum dtype y_dtype;        /* f32 or bf16 */
    uint32_t y_cols;
};

struct vec_linear {
    void (*widen_bf16)(float *y, const uint16_t *x, size_t n);
    void (*widen_i8)(float *y, const int8_t *x, size_t n);
    void (*narrow_bf16)(uint16_t *y, const float *x, size_t n);

    /* q = 128 + round(127 x / max|x|); returns what one step of q is worth. */
    float (*quantise)(uint8_t *q, const float *x, size_t n);
    void (*finish)(const struct linear_block *b);
};
VEC_TIERS(vec_linear)

/* A tile of bf16 or int8 weights that we multiply ourselves is made of panels of GEMM_TILE_UNIT outputs: [n_step, 64] of
 * 4 bytes, a step being the inputs that one dot-product instruction takes together, 2 bf16 or 4 int8. */
struct panel {
    const void *x;             /* [n_row, n_step] of 4 bytes: 2 bf16 or 4 u8 */
    const void *w;             /* [c_cols / 64][n_step, 64] of 4 bytes: 2 bf16 or 4 s8 */
    uint32_t n_step, n_row, c_cols;
    void *c;                   /* [n_row, c_cols] f32 or s32 */
};

typedef void panel_product(const struct panel *p);
struct vec_panel { panel_product *bf16, *i8; };        /* tiers below AVX-512 have none: NULL */
VEC_TIERS(vec_panel)
extern const struct vec_panel vec_panel_amx;           /* panel_amx.c */

/* A weight is cut in tiles of GEMM_TILE outputs, which threads share out.  They are multiplied by `panel` where there is
 * one, else by oneDNN.  Where the CPU has no dot products of the stored type, a tile is widened to f32 just before:
 * memory and its bandwidth are still those of the narrow type.  Stored and multiplied tiles have their elements in the
 * same places. */
struct weight {
    enum dtype stored, multiplied;
    uint32_t n_in, n_out, n_tile;
    panel_product *panel;                      /* or NULL */
    const struct gemm_shape *whole, *last;     /* of oneDNN's tiles; the last may have fewer outputs */
    size_t tile_size, size;                    /* bytes of a stored tile, of all */
    char *data;                                /* [n_tile] */
    struct dnnl_memory **tiles;                /* [n_tile] or NULL: by panel, or widened first */
    float *scale;                              /* [n_out] int8: what a step of the row is worth */
    int32_t *sum;                              /* [n_out] int8: the sum of the row */
};

static inline const struct gemm_shape *tile_shape(const struct weight *w, uint32_t tile)
{
    return tile + 1 == w->n_tile ? w->last : w->whole;
}

/* Outputs of the tile; and those it has room for. */
static inline uint32_t tile_cols(const struct weight *w, uint32_t tile)
{
    return tile + 1 == w->n_tile ? w->n_out - tile * GEMM_TILE : GEMM_TILE;
}

static inline uint32_t tile_width(const struct weight *w, uint32_t tile)
{
    return (tile_cols(w, tile) + GEMM_TILE_UNIT - 1) / GEMM_TILE_UNIT * GEMM_TILE_UNIT;
}

#endif

/* gemm.h - oneDNN enters here and nowhere else: c = x w on the calling thread, for a tile of w and few rows of x.
 *
 * A matrix of weights is cut in tiles of GEMM_TILE outputs; the library says how a tile lies in memory, so that it
 * need not be rearranged again.  The rows of x come in pieces of 1, 2, 4 ... 64 or 4, 16, 64.  Tiles and pieces are the
 * units that threads share out: a row's result does not depend on the piece it is in, nor on who computes it
 * (tests/test_linear.c shows it), and everything is made when the weights are packed, nothing when they are used. */
#ifndef KERNELS_CPU_GEMM_H
#define KERNELS_CPU_GEMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/num.h"

enum { GEMM_TILE = 256, GEMM_TILE_UNIT = 64, GEMM_PIECES = 7, GEMM_ROWS = 64 };

struct gemm;
struct dnnl_memory;            /* here: one tile of weights, as the library sees it; borrows the bytes */

/* The tiles of one size and type.  f32: x and c are f32.  int8: x is u8, w s8, c s32. */
struct gemm_shape {
    enum dtype dtype;
    uint32_t n_in, n_col;      /* a tile is [n_in, n_col]; n_col a multiple of GEMM_TILE_UNIT */
    size_t size;               /* bytes of a packed tile */
    uint32_t row_unit;         /* rows are multiplied in multiples of it: 1 or 4 */
    uint32_t *in_at;           /* [n_in], [n_col]: weight (i, j) is element in_at[i] + col_at[j] of the tile, */
    uint32_t *col_at;          /*   what no weight falls on is zero */
    struct product *products;  /* [GEMM_PIECES] gemm.c's own from here on */
    struct lane *lanes;        /* [n_thread] */
    struct gemm_shape *next;
};

struct gemm *gemm_open(int n_thread);
void         gemm_close(struct gemm *g);

bool gemm_has(enum dtype dtype);       /* f32; int8 if the CPU has dot products of it */

/* Found or made; lives as long as g.  Not to be called while products run. */
const struct gemm_shape *gemm_shape(struct gemm *g, enum dtype dtype, uint32_t n_in, uint32_t n_col);

struct dnnl_memory *gemm_tile_open(struct gemm *g, const struct gemm_shape *s, void *packed);
void                gemm_tile_close(struct dnnl_memory *tile);

/* The thread's own, for bytes that are a tile only now; valid until its next call. */
struct dnnl_memory *gemm_tile_at(const struct gemm_shape *s, int thread, void *packed);

/* The rows of the largest piece within n_row rows, a multiple of row_unit above 0. */
uint32_t gemm_piece(const struct gemm_shape *s, uint32_t n_row);

/* c [n_row, n_col] = x [n_row, n_in] times the tile; n_row is a piece; x and c are dense. */
void gemm_run(const struct gemm_shape *s, int thread, uint32_t n_row, const void *x, struct dnnl_memory *tile, void *c);

#endif

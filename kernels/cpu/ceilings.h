/* ceilings.h - loops that do nothing but reach a limit of the core, in vec_ceilings.c; once a tier. */
#ifndef KERNELS_CPU_CEILINGS_H
#define KERNELS_CPU_CEILINGS_H

#include "kernels/cpu/vec.h"

struct vec_ceilings {
    /* n rounds of dot products in registers; return the operations done, two for a multiply-add. */
    double (*f32)(size_t n);
    double (*bf16)(size_t n);
    double (*i8)(size_t n);

    /* Reads size bytes, a multiple of 1 KiB, and returns something that needs all of them. */
    uint32_t (*read)(const void *data, size_t size);
};

VEC_TIERS(vec_ceilings)
extern const struct vec_ceilings vec_ceilings_amx;     /* panel_amx.c: bf16 and i8 only */

#endif

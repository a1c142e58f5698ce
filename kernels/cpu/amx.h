/* amx.h - AMX's tile registers: eight of up to 16 rows of 64 bytes, for panel_amx.c and vec_attention.c. */
#ifndef KERNELS_CPU_AMX_H
#define KERNELS_CPU_AMX_H

#include <immintrin.h>
#include <stdint.h>

/* What LDTILECFG reads; palette 1. */
struct amx_config { uint8_t palette, start_row, reserved[14]; uint16_t row_bytes[16]; uint8_t rows[16]; };

/* gcc's tile intrinsics do not say that they read memory; this does, for all that was written before. */
static inline void amx_written(const void *p)
{
    __asm__ volatile("" : : "r"(p) : "memory");
}

static inline void amx_configure(const struct amx_config *c)
{
    amx_written(c);
    _tile_loadconfig(c);
}

#endif

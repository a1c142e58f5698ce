/* control.h - how the emulation of a GPU runs; for tests in C and C++.
 *
 * The same from the environment, read at first use: CUDAEMU=reverse,eager,seed=3,memory=268435456,devices=1,fail=100 */
#ifndef CUDAEMU_CONTROL_H
#define CUDAEMU_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Which of a block's warps runs while several could, which block is next, and which stream.  Random: warps have
 * priorities drawn anew for each block, with a few changes on the way. */
enum emu_schedule { EMU_IN_ORDER, EMU_REVERSE, EMU_RANDOM };

/* When cp.async copies: at the wait that covers it, at once, or either. */
enum emu_copies { EMU_LAZY, EMU_EAGER, EMU_MIXED };

/* What cuBLASLt has to choose from (blaslt.cpp): products with 16 sums side by side, with 8, and with split sums. */
enum emu_algorithm { EMU_WIDE, EMU_NARROW, EMU_SPLIT, EMU_N_ALGORITHM };

struct emu_options {
    enum emu_schedule schedule;
    enum emu_copies copies;
    uint64_t seed;
    size_t memory;             /* bytes of the device */
    int n_device;
    uint64_t fail_at;          /* n > 0: the n-th operation from now on fails, and with it all that follow */
};

struct emu_options emu_get(void);
void emu_set(const struct emu_options *o);         /* nothing may be enqueued */
void emu_describe(char *text, size_t size);        /* "reverse eager seed 3" */

uint64_t emu_operations(void);                     /* run so far: kernels, copies, products */
uint64_t emu_graphs(void);                         /* graphs launched so far */
uint64_t emu_asked(void);                          /* how often cuBLASLt was asked for algorithms */
enum emu_algorithm emu_algorithm(void);            /* of the product that ran last */
size_t   emu_allocated(void);                      /* bytes of device memory held */
bool     emu_idle(void);                           /* nothing is enqueued */

#ifdef __cplusplus
}
#endif
#endif

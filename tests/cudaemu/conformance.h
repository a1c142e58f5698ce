/* conformance.h - one tiny kernel for each function of prim.h, on random input: what the emulation gives and what a GPU
 * gives are compared.  On a machine with a GPU, `make emu_golden` writes tests/golden/cuda_conformance.txt. */
#ifndef CUDAEMU_CONFORMANCE_H
#define CUDAEMU_CONFORMANCE_H

#include <stdint.h>

enum { CONFORM_IN = 4096, CONFORM_OUT = 1024, CONFORM_THREADS = 64 };      /* words */

struct conform {
    const char *name;
    void (*kernel)(uint32_t *out, const uint32_t *in);
    uint32_t n_out;            /* words */
    float tolerance;           /* 0: the same bits; else of numbers in f32, relative to the larger of the number and 1 */
};

extern const struct conform conform_case[];
extern const int n_conform;

void conform_input(uint32_t in[CONFORM_IN]);
void conform_run(const struct conform *c, uint32_t out[CONFORM_OUT]);

#endif

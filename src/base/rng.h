/* rng.h - random numbers as functions of where they are used, so that an answer never depends on the batch.
 * Philox-4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011). */
#ifndef BASE_RNG_H
#define BASE_RNG_H

#include <stdint.h>

/* The four 32-bit words of block (a, b) under key. */
void rng_block(uint64_t key, uint64_t a, uint64_t b, uint32_t out[4]);

/* A sequential stream, for tests and random weights. */
struct rng { uint64_t key, at; uint32_t word[4]; };
void     rng_init(struct rng *r, uint64_t key);
uint32_t rng_u32(struct rng *r);
uint32_t rng_below(struct rng *r, uint32_t n);     /* 0 .. n-1 */
float    rng_uniform(struct rng *r);               /* [0, 1) */
float    rng_normal(struct rng *r);                /* mean 0, deviation 1 */

#endif

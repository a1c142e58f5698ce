/* plans.h - which algorithm of cuBLASLt does a product: a table, and a file for later processes.  linear.c chooses.
 *
 * The file, cublaslt-HASH.plans in the cache folder, belongs to a kind of GPU and a version of the library, as algorithms do
 * ("trivially serialized and later restored for use with the same version of cuBLAS", cuBLAS 13.1 documentation,
 * "cublasLtMatmulAlgo_t").  Whatever is amiss with it, it is as if it were not there. */
#ifndef KERNELS_CUDA_PLANS_H
#define KERNELS_CUDA_PLANS_H

#include <cublasLt.h>
#include <stdbool.h>
#include <stdint.h>

/* What of a product the choice of an algorithm depends on; n is rounded up, kind is linear.c's. */
struct plan_key { uint32_t n, n_in, n_out, kind; };

struct plan {
    struct plan_key key;           /* n 0: none */
    cublasLtMatmulAlgo_t algo;
    bool tuned;                    /* the fastest of several that were tried; else the library's guess */
    bool unchecked;                /* from the file, and not used yet */
};

enum { N_PLAN = 1024 };            /* a power of two */
struct plans { struct plan at[N_PLAN]; };

/* For what the plans of a file are; no padding. */
struct plans_origin { char gpu[64]; uint32_t n_sm, capability; uint64_t library; };

/* The plan of that key, or the place for it, which has another key; where all such places are taken, the first is used again. */
struct plan *plans_find(struct plans *p, const struct plan_key *key);

/* Adds the file's plans for keys that have none yet. */
void plans_read(struct plans *p, const struct plans_origin *o);

/* Writes those that are tuned.  Where there is no place for the file, nothing is kept. */
void plans_write(const struct plans *p, const struct plans_origin *o);

#endif

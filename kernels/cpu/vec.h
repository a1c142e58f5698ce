/* vec.h - what the files vec_*.c offer: one table of functions a file, one table a tier.
 * They do a part of an op on the calling thread; who does which part is for the files that call them to say. */
#ifndef KERNELS_CPU_VEC_H
#define KERNELS_CPU_VEC_H

#include "kernels/cpu/cpu.h"

/* vec_x(tier) is the table of that name for the tier. */
#define VEC_TIERS(kind)                                                                                     \
    extern const struct kind kind##_CPU_BASE, kind##_CPU_AVX2, kind##_CPU_AVX512;                           \
    static inline const struct kind *kind(enum cpu_tier tier)                                               \
    {                                                                                                       \
        return tier >= CPU_AVX512 ? &kind##_CPU_AVX512 : tier == CPU_AVX2 ? &kind##_CPU_AVX2 : &kind##_CPU_BASE; \
    }

/* Rows from .. to-1 of the op. */
struct vec_rows {
    void (*norm)(const struct norm *op, uint32_t from, uint32_t to);
    void (*act)(const struct act *op, uint32_t from, uint32_t to);
    void (*rope_store)(const struct rope_store *op, uint32_t from, uint32_t to);
};
VEC_TIERS(vec_rows)

/* One KV head and the tokens tok .. tok+n_tok-1 of a step, of one sequence, the first at position pos. */
struct attention_unit {
    uint32_t kv_head, tok, n_tok, pos;
    const uint32_t *blocks;        /* the sequence's row of the block table */
};

struct vec_attention {
    /* Bytes of scratch for a unit with n_row query rows (tokens times query heads of a KV head). */
    size_t (*scratch_size)(const struct attention *op, uint32_t n_row);
    /* `next` is the unit that this thread will do next, so that its first keys can be asked for early; or NULL. */
    void (*unit)(const struct attention *op, const struct attention_unit *u, const struct attention_unit *next, void *scratch);
};
VEC_TIERS(vec_attention)
extern const struct vec_attention vec_attention_CPU_AMX;

/* The best of some columns: the greatest value, the lowest column on ties; id 0 and -inf where there is none. */
struct best { float value; uint32_t id; };

/* Columns are cut for threads at multiples of this. */
enum { SAMPLE_CHUNK = 1024 };

/* On columns from .. to-1 of a row of logits l; from is a multiple of SAMPLE_CHUNK.  x = l scale, rounded.
 * All of it gives the same bits on every tier: vec_sample.c says how. */
struct vec_sample {
    void (*soften)(float *l, size_t from, size_t to, float scale, float cap);      /* l = cap tanh(l scale / cap); cap 0: l scale */
    /* The maxima of 16 disjoint sets of columns for each SAMPLE_CHUNK of them, at maxima[from / SAMPLE_CHUNK * 16]. */
    void (*maxima)(const float *l, size_t from, size_t to, float *maxima);
    struct best (*best)(const float *l, size_t from, size_t to);
    /* The sum of 2^44 e^(x - top), each a whole number, over the columns with x >= floor. */
    uint64_t (*mass)(const float *l, size_t from, size_t to, float scale, float top, float floor);
    void (*masses)(const float *x, size_t n, float top, uint64_t *mass);           /* the terms of that */
    /* The columns with x >= floor: their x, their numbers, how many. */
    uint32_t (*collect)(const float *l, size_t to, float scale, float floor, float *x, uint32_t *id);
    /* The best of x + gumbel(seed, stream, column) over the columns with x >= floor. */
    struct best (*draw)(const float *l, size_t from, size_t to, float scale, float floor, uint64_t seed, uint64_t stream);
};
VEC_TIERS(vec_sample)

/* Thread `thread`'s part of n things. */
struct span { uint32_t from, to; };

static inline struct span span_of(uint32_t n, int thread, int n_thread)
{
    return (struct span){ (uint32_t)((uint64_t)n * (uint32_t)thread / (uint32_t)n_thread),
                          (uint32_t)((uint64_t)n * ((uint32_t)thread + 1) / (uint32_t)n_thread) };
}

/* Runs the job on the pool, or on this thread alone when the bytes it touches are too few to wake others for. */
static inline void cpu_run(struct cpu_device *cpu, size_t bytes, void (*job)(void *, int, int), void *arg)
{
    if (bytes < ((size_t)32 << 10))
        job(arg, 0, 1);
    else
        pool_run(cpu->pool, job, arg);
}

#endif

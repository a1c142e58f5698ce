/* cpu.h - what the files of the CPU device share; seen by kernels/cpu/ and its tests only.
 * Every op of the door stands here as cpu_<op> and is reached through the table in device.c. */
#ifndef KERNELS_CPU_CPU_H
#define KERNELS_CPU_CPU_H

#include <stddef.h>

#include "base/pool.h"
#include "kernels/device.h"

/* What the vector code may use; found once, at device_open.  A file with vector code is compiled once a tier, but for
 * AMX, which has only the products of panel_amx.c. */
enum cpu_tier {
    CPU_BASE,                  /* what every x86-64 has */
    CPU_AVX2,                  /* avx2, fma, f16c */
    CPU_AVX512,                /* f, bw, dq, vl, vnni, bf16 */
    CPU_AMX,                   /* tile, bf16, int8 beside those */
};

struct gemm;
struct cpu_scratch { void *data; size_t size; };

struct cpu_device {
    struct device base;        /* first: a struct device * of this device is a struct cpu_device * */
    struct pool *pool;
    enum cpu_tier tier;
    struct cpu_scratch *scratch;       /* [pool_size + 1] one a thread, the last for all together */
    struct gemm *gemm;
    int64_t marks_ns[N_MARK];
};

static inline struct cpu_device *cpu_of(struct device *d)
{
    return (struct cpu_device *)d;
}

/* At least `size` bytes aligned to 64, owned by the device, for `thread` alone; content is not kept from one call to
 * the next.  Grows and stays grown: after the first step of the largest size it allocates nothing. */
void *cpu_scratch(struct cpu_device *cpu, int thread, size_t size);
void *cpu_scratch_shared(struct cpu_device *cpu, size_t size);     /* the same for all threads; asked for outside of a job */

struct device *cpu_open(enum dtype compute, int n_thread);         /* n_thread 0: all cores */

/* linear.c */
struct weight *cpu_weight_pack(struct device *d, const struct tensor *parts, int n_part, enum dtype dtype);
size_t         cpu_weight_size(const struct weight *w);
void           cpu_weight_free(struct device *d, struct weight *w);
void           cpu_embed(struct device *d, const struct embed *op);
void           cpu_linear(struct device *d, const struct linear *op);

/* ceilings.c */
double cpu_peak_flops(struct device *d, enum dtype dtype);
double cpu_peak_bandwidth(struct device *d);

/* KV memory, and the ops that read or write it */
struct kv *cpu_kv_open(struct device *d, const struct kv_shape *s);
size_t     cpu_kv_block_size(struct device *d, const struct kv_shape *s);
void       cpu_kv_close(struct device *d, struct kv *kv);
void       cpu_rope_store(struct device *d, const struct rope_store *op);
void       cpu_attention(struct device *d, const struct attention *op);

/* row by row */
void cpu_norm(struct device *d, const struct norm *op);
void cpu_act(struct device *d, const struct act *op);
void cpu_gather(struct device *d, const struct gather *op);
void cpu_scatter(struct device *d, const struct scatter *op);
void cpu_sample(struct device *d, const struct sample *op);

#endif

#define _DEFAULT_SOURCE     /* syscall */
#include <cpuid.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/host.h"

#define BIG ((size_t)1 << 20)      /* from here on a buffer gets pages of its own */

static void cpu_close(struct device *d)
{
    struct cpu_device *cpu = cpu_of(d);
    gemm_close(cpu->gemm);
    for (int t = 0; t <= pool_size(cpu->pool); t++)
        mem_pages_free(cpu->scratch[t].data, cpu->scratch[t].size);
    free(cpu->scratch);
    pool_close(cpu->pool);
    free(cpu);
}

static void *cpu_alloc(struct device *d, size_t size)
{
    (void)d;
    if (size >= BIG)
        return mem_pages(size);
    size_t whole = (size + 63) / 64 * 64;
    void *p = aligned_alloc(64, whole ? whole : 64);
    if (!p)
        die("out of memory: %zu bytes asked for", size);
    return memset(p, 0, size);
}

static void cpu_free(struct device *d, void *p, size_t size)
{
    (void)d;
    if (size >= BIG)
        mem_pages_free(p, size);
    else
        free(p);
}

static void cpu_upload(struct device *d, void *dst, const void *host, size_t size)
{
    (void)d;
    memcpy(dst, host, size);
}

static void cpu_download(struct device *d, void *host, const void *src, size_t size)
{
    (void)d;
    memcpy(host, src, size);
}

static void cpu_sync(struct device *d)
{
    (void)d;                /* every op returns when it is done */
}

static void cpu_mark(struct device *d, int i)
{
    cpu_of(d)->marks_ns[i] = clock_ns();
}

static void cpu_wait(struct device *d, int i)
{
    (void)d;
    (void)i;
}

static double cpu_elapsed(struct device *d, int from, int to)
{
    return (double)(cpu_of(d)->marks_ns[to] - cpu_of(d)->marks_ns[from]) * 1e-9;
}

static void cpu_tune(struct device *d, bool on)
{
    (void)d;                /* an op's shape decides how it is done */
    (void)on;
}

static void cpu_telemetry(struct device *d, struct telemetry *t)
{
    (void)d;
    *t = (struct telemetry){ NAN, NAN, NAN, NAN, NAN };
}

void *cpu_scratch(struct cpu_device *cpu, int thread, size_t size)
{
    struct cpu_scratch *s = &cpu->scratch[thread];
    if (size > s->size) {
        mem_pages_free(s->data, s->size);
        *s = (struct cpu_scratch){ .data = mem_pages(size), .size = size };
    }
    return s->data;
}

void *cpu_scratch_shared(struct cpu_device *cpu, size_t size)
{
    return cpu_scratch(cpu, pool_size(cpu->pool), size);
}

static const struct device_ops ops = {
    .close = cpu_close,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .host_alloc = cpu_alloc,
    .host_free = cpu_free,
    .upload = cpu_upload,
    .download = cpu_download,
    .sync = cpu_sync,
    .mark = cpu_mark,
    .wait = cpu_wait,
    .elapsed = cpu_elapsed,
    .weight_pack = cpu_weight_pack,
    .weight_size = cpu_weight_size,
    .weight_free = cpu_weight_free,
    .kv_open = cpu_kv_open,
    .kv_block_size = cpu_kv_block_size,
    .kv_close = cpu_kv_close,
    .embed = cpu_embed,
    .norm = cpu_norm,
    .linear = cpu_linear,
    .rope_store = cpu_rope_store,
    .attention = cpu_attention,
    .act = cpu_act,
    .gather = cpu_gather,
    .scatter = cpu_scatter,
    .sample = cpu_sample,
    .tune = cpu_tune,
    .peak_flops = cpu_peak_flops,
    .peak_bandwidth = cpu_peak_bandwidth,
    .telemetry = cpu_telemetry,
};

/* AMX's registers are large, so the kernel gives them to those who ask (Documentation/arch/x86/xstate.rst). */
static bool has_amx(void)
{
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    unsigned a, b, c, d, amx = 1u << 22 | 1u << 24 | 1u << 25;     /* bf16, tile, int8 */
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & amx) == amx
        && !syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA);
}

static enum cpu_tier find_tier(void)
{
    unsigned a, b, c, d;
    bool f16c = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);      /* clang 14 knows no "f16c" by name */
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && f16c;
    bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
               && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")
               && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16");
    return avx2 && avx512 ? has_amx() ? CPU_AMX : CPU_AVX512 : avx2 ? CPU_AVX2 : CPU_BASE;
}

static void describe(struct device *d, enum cpu_tier tier, int n_thread)
{
    static const char *const tier_text[] = { "SSE2", "AVX2", "AVX-512 bf16", "AMX" };
    char cpu_name[80];
    host_cpu_name(cpu_name, sizeof cpu_name);
    snprintf(d->name, sizeof d->name, "cpu");
    snprintf(d->text, sizeof d->text, "%s, %d thread%s, %s", cpu_name, n_thread, n_thread == 1 ? "" : "s",
             tier_text[tier]);
}

struct device *cpu_open(enum dtype compute, int n_thread)
{
    struct cpu_device *cpu = mem_alloc(sizeof *cpu);
    if (n_thread <= 0)
        n_thread = host_cpus();
    cpu->base = (struct device){ .ops = &ops, .memory = host_memory(), .compute = compute, .deterministic = true };
    cpu->tier = find_tier();
    cpu->pool = pool_open(n_thread);
    cpu->scratch = mem_array((size_t)n_thread + 1, sizeof *cpu->scratch);
    cpu->gemm = gemm_open(n_thread);
    describe(&cpu->base, cpu->tier, n_thread);
    return &cpu->base;
}

/* The limits of this machine as its cores reach them, all threads at once: what the speed of the other ops is
 * measured against. */
#include "kernels/cpu/ceilings.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "kernels/cpu/cpu.h"

#define SECONDS 0.7
#define READ_SIZE ((size_t)512 << 20)      /* by all threads together: beyond the caches */

struct measure {
    const struct vec_ceilings *vec;
    double (*dots)(size_t n);
    char *data;
    double *done;              /* [n_thread] operations or bytes of one round */
};

static void dots_job(void *arg, int thread, int n_thread)
{
    const struct measure *m = arg;
    (void)n_thread;
    m->done[thread] = m->dots(2000000);
}

static void read_job(void *arg, int thread, int n_thread)
{
    const struct measure *m = arg;
    size_t part = READ_SIZE / (size_t)n_thread / 4096 * 4096;
    volatile uint32_t seen = m->vec->read(m->data + part * (size_t)thread, part);
    (void)seen;
    m->done[thread] = (double)part;
}

static void touch_job(void *arg, int thread, int n_thread)
{
    const struct measure *m = arg;
    size_t part = READ_SIZE / (size_t)n_thread / 4096 * 4096;
    memset(m->data + part * (size_t)thread, 1, part);
}

/* The best of many short rounds: what the machine can do when nobody disturbs it. */
static double best_rate(struct cpu_device *cpu, struct measure *m, void (*job)(void *, int, int))
{
    int n_thread = pool_size(cpu->pool);
    double best = 0;
    int64_t begin = clock_ns(), start, end;
    m->done = mem_array((size_t)n_thread, sizeof *m->done);
    do {
        double done = 0;
        start = clock_ns();
        pool_run(cpu->pool, job, m);
        end = clock_ns();
        for (int t = 0; t < n_thread; t++)
            done += m->done[t];
        best = fmax(best, done * 1e9 / (double)(end - start));
    } while ((double)(end - begin) * 1e-9 < SECONDS);
    free(m->done);
    return best;
}

double cpu_peak_flops(struct device *d, enum dtype dtype)
{
    const struct vec_ceilings *vec = vec_ceilings(cpu_of(d)->tier);
    if (dtype != DTYPE_F32 && dtype != DTYPE_BF16 && dtype != DTYPE_I8)
        return (double)NAN;
    if (cpu_of(d)->tier == CPU_AMX && dtype != DTYPE_F32)
        vec = &vec_ceilings_amx;
    struct measure m = { .dots = dtype == DTYPE_I8 ? vec->i8 : dtype == DTYPE_BF16 ? vec->bf16 : vec->f32 };
    return best_rate(cpu_of(d), &m, dots_job);
}

double cpu_peak_bandwidth(struct device *d)
{
    struct cpu_device *cpu = cpu_of(d);
    struct measure m = { .vec = vec_ceilings(cpu->tier), .data = mem_pages(READ_SIZE) };
    pool_run(cpu->pool, touch_job, &m);
    double rate = best_rate(cpu, &m, read_job);
    mem_pages_free(m.data, READ_SIZE);
    return rate;
}

#include "kernels/cpu/kv.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "kernels/cpu/cpu.h"

#define PAGE ((size_t)4096)    /* the smallest there is */

static size_t head_size(const struct kv_shape *s)
{
    return (size_t)2 * s->block_size * s->d_head * dtype_size(s->dtype);
}

size_t cpu_kv_block_size(struct device *d, const struct kv_shape *s)
{
    (void)d;
    return (size_t)s->n_layer * s->n_kv_head * head_size(s);
}

/* Every page is had before the clock starts: a first touch in a step would be timed, and memory that is not there is
 * better missed now. */
static void touch_job(void *arg, int thread, int n_thread)
{
    const struct kv *kv = arg;
    size_t n_page = (kv->size + PAGE - 1) / PAGE;
    for (size_t i = n_page * (size_t)thread / (size_t)n_thread; i < n_page * ((size_t)thread + 1) / (size_t)n_thread; i++)
        *(volatile uint32_t *)((char *)kv->words + i * PAGE) = 0;
}

struct kv *cpu_kv_open(struct device *d, const struct kv_shape *s)
{
    CHECK(s->dtype == DTYPE_F32 || s->dtype == DTYPE_BF16);
    CHECK(s->block_size && s->block_size % KV_GROUP == 0);
    CHECK(s->d_head && s->d_head % 8 == 0 && s->d_head <= KV_MAX_HEAD);
    struct kv *kv = mem_alloc(sizeof *kv);
    *kv = (struct kv){ .shape = *s, .per = s->dtype == DTYPE_F32 ? 1 : 2, .head_words = head_size(s) / 4 };
    kv->size = s->n_block * cpu_kv_block_size(d, s) + 64;
    kv->words = mem_pages(kv->size);
    pool_run(cpu_of(d)->pool, touch_job, kv);
    return kv;
}

void cpu_kv_close(struct device *d, struct kv *kv)
{
    (void)d;
    if (!kv)
        return;
    mem_pages_free(kv->words, kv->size);
    free(kv);
}

#include "kernels/cpu/kv.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "kernels/cpu/cpu.h"

static size_t head_size(const struct kv_shape *s)
{
    return (size_t)2 * s->block_size * s->d_head * dtype_size(s->dtype);
}

size_t cpu_kv_block_size(struct device *d, const struct kv_shape *s)
{
    (void)d;
    return (size_t)s->n_layer * s->n_kv_head * head_size(s);
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

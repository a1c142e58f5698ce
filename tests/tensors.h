/* tensors.h - for the tests of ops: tensors of ours, their copies on a device, and how near is near enough. */
#ifndef TESTS_TENSORS_H
#define TESTS_TENSORS_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"
#include "kernels/device.h"

static inline size_t tensor_size(const struct tensor *t)
{
    return (size_t)t->rows * t->cols * dtype_size(t->dtype);
}

static inline struct tensor tensor_new(uint32_t rows, uint32_t cols, enum dtype dtype)
{
    struct tensor t = { .dtype = dtype, .rows = rows, .cols = cols };
    t.data = mem_alloc(tensor_size(&t));
    return t;
}

static inline void set(struct tensor *t, size_t i, float x)
{
    num_from_f32((char *)t->data + i * dtype_size(t->dtype), t->dtype, &x, 1);
}

static inline double get(const struct tensor *t, size_t i)
{
    float x;
    num_to_f32(&x, (const char *)t->data + i * dtype_size(t->dtype), t->dtype, 1);
    return (double)x;
}

static inline struct tensor tensor_random(struct rng *r, uint32_t rows, uint32_t cols, enum dtype dtype)
{
    struct tensor t = tensor_new(rows, cols, dtype);
    for (size_t i = 0; i < (size_t)rows * cols; i++)
        set(&t, i, rng_normal(r));
    return t;
}

static inline float *floats_random(struct rng *r, size_t n)
{
    float *x = mem_array(n, sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = rng_normal(r);
    return x;
}

/* ---- on a device: where it has memory of its own, `on` is the copy there of what is ours, and `back` brings all copies
 * home and forgets them.  The CPU device gets what is ours, whose end the sanitizers know. ---- */

static struct { const void *ours; void *copy; size_t size; } copies[32];
static int n_copy;

static inline void *on(struct device *d, const void *ours, size_t size)
{
    if (!ours || !strcmp(d->name, "cpu"))
        return (void *)ours;
    for (int i = 0; i < n_copy; i++)
        if (copies[i].ours == ours)
            return copies[i].copy;
    CHECK(n_copy < (int)(sizeof copies / sizeof *copies));
    void *copy = d->ops->alloc(d, size);
    d->ops->upload(d, copy, ours, size);
    copies[n_copy].ours = ours;
    copies[n_copy].size = size;
    return copies[n_copy++].copy = copy;
}

static inline struct tensor tensor_on(struct device *d, const struct tensor *t)
{
    return (struct tensor){ on(d, t->data, tensor_size(t)), t->dtype, t->rows, t->cols };
}

static inline void back(struct device *d)
{
    for (int i = 0; i < n_copy; i++)
        d->ops->download(d, (void *)copies[i].ours, copies[i].copy, copies[i].size);
    d->ops->sync(d);
    for (int i = 0; i < n_copy; i++)
        d->ops->free(d, copies[i].copy, copies[i].size);
    n_copy = 0;
}

/* Half a step of the type, relative, and a bit for the f32 sums on the way. */
static inline void close_to(double got, double want, enum dtype type, double scale)
{
    double most = (type == DTYPE_BF16 ? 0x1p-8 : 0) * fabs(want) + 2e-6 * scale;
    if (!(fabs(got - want) <= most))
        fail_msg("%.9g, but it should be %.9g (to within %.3g)", got, want, most);
}

#endif

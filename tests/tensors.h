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

/* To nearest even, and what is too large to the largest: 3 bits behind the point from 2^-6 to 448, steps of 2^-9 below
 * (OCP 8-bit Floating Point Specification 1.0). */
static inline double e4m3_round(double x)
{
    int e = x == 0 ? -6 : ilogb(x);
    double step = ldexp(1, (e < -6 ? -6 : e) - 3), y = rint(x / step) * step;
    return copysign(fmin(fabs(y), 448), x);
}

/* What a device holds of t in e4m3 with a scale a row, which is the row's largest / 448, but a normal number. */
static inline struct tensor e4m3_rows(const struct tensor *t)
{
    struct tensor held = tensor_new(t->rows, t->cols, DTYPE_F32);
    for (size_t row = 0; row < t->rows; row++) {
        size_t at = row * t->cols;
        float most = 0;
        for (size_t i = 0; i < t->cols; i++)
            most = fmaxf(most, (float)fabs(get(t, at + i)));
        float scale = fmaxf(most / 448, 0x1p-126f), inverse = 1 / scale;
        for (size_t i = 0; i < t->cols; i++) {
            double x = get(t, at + i), y = e4m3_round((double)((float)x * inverse)) * (double)scale;
            CHECK(fabs(y - x) <= fmax(0x1.001p-4 * fabs(x), 0x1.001p-10 * (double)scale));    /* half a step */
            set(&held, at + i, (float)y);
        }
    }
    return held;
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

/* ceilings.c - what the device reaches at its best: a product of squares through linear, and the reading of much memory.
 * Sizes grow with the number of multiprocessors, so that each has enough to do. */
#include <cuda_runtime_api.h>
#include <math.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "kernels/cuda/cuda.h"

#define SECONDS 0.7
#define EDGE_PER_SM 64u                        /* edge of the squares: 8448 on 132 multiprocessors */
#define READ_PER_SM ((size_t)4 << 20)          /* 528 MiB there, ten times the level-2 cache */

/* The shortest of many rounds, in seconds; the first does not count. */
static double best_time(struct cuda_device *d, cudaError_t (*round)(struct cuda_device *d, void *arg), void *arg)
{
    cudaEvent_t from, to;
    float ms, best = INFINITY;
    int64_t begin = clock_ns();
    cuda_need(d, "cudaEventCreate", cudaEventCreate(&from));
    cuda_need(d, "cudaEventCreate", cudaEventCreate(&to));
    for (int i = 0; i < 2 || (double)(clock_ns() - begin) * 1e-9 < SECONDS; i++) {
        cuda_need(d, "cudaEventRecord", cudaEventRecord(from, d->stream));
        cuda_need(d, "measuring", round(d, arg));
        cuda_need(d, "cudaEventRecord", cudaEventRecord(to, d->stream));
        cuda_need(d, "measuring", cudaEventSynchronize(to));
        cuda_need(d, "cudaEventElapsedTime", cudaEventElapsedTime(&ms, from, to));
        best = i && ms < best ? ms : best;
    }
    cudaEventDestroy(from);
    cudaEventDestroy(to);
    return (double)best * 1e-3;
}

/* A run whose KV takes all there is ends without its ceilings, not with an error. */
static bool has_room(size_t size)
{
    size_t left = 0, total = 0;
    return !cudaMemGetInfo(&left, &total) && left >= size + size / 8;
}

/* [edge, edge] of random numbers, the same rows again and again: with zeros the product would take less power and so be
 * faster than real ones. */
static struct weight *random_square(struct device *d, uint32_t edge, enum dtype dtype)
{
    enum { N_ROW = 64 };
    struct rng r;
    rng_init(&r, 1);
    float *rows = mem_array((size_t)N_ROW * edge, sizeof *rows);
    for (size_t i = 0; i < (size_t)N_ROW * edge; i++)
        rows[i] = rng_normal(&r);
    uint32_t n = edge / N_ROW;
    struct tensor *parts = mem_array(n, sizeof *parts);
    for (uint32_t i = 0; i < n; i++)
        parts[i] = (struct tensor){ rows, DTYPE_F32, N_ROW, edge };
    struct weight *w = cuda_weight_pack(d, parts, (int)n, dtype);
    free(parts);
    free(rows);
    return w;
}

static cudaError_t product_round(struct cuda_device *d, void *arg)
{
    return cuda_linear(d, arg);
}

/* Of bf16, and of fp8 where the device has it, with the quantising of x as in a run; the best even of a deterministic device. */
double cuda_peak_flops(struct device *base, enum dtype dtype)
{
    struct cuda_device *d = cuda_of(base);
    uint32_t edge = (uint32_t)d->n_sm * EDGE_PER_SM;
    bool deterministic = base->deterministic, known = dtype == DTYPE_BF16 || (dtype == DTYPE_E4M3 && d->capability == 90);
    if (!known || !has_room(4 * (size_t)edge * edge * sizeof(uint16_t)))
        return (double)NAN;
    struct weight *w = random_square(base, edge, dtype), *x = random_square(base, edge, DTYPE_BF16);
    void *y = cuda_alloc(base, x->size);
    struct linear op = { .x = { x->data, DTYPE_BF16, edge, edge }, .w = w, .y = { y, DTYPE_BF16, edge, edge } };
    cuda_grow(d, &d->scratch, cuda_linear_scratch(&op));
    base->deterministic = false;
    double s = best_time(d, product_round, &op);
    base->deterministic = deterministic;
    cuda_free(base, y, x->size);
    cuda_weight_free(base, w);
    cuda_weight_free(base, x);
    return 2.0 * edge * edge * edge / s;
}

struct reading { void *data; size_t size; uint32_t *sink; };

static cudaError_t read_round(struct cuda_device *d, void *arg)
{
    const struct reading *r = arg;
    return cuda_read(d, r->data, r->size, r->sink);
}

double cuda_peak_bandwidth(struct device *base)
{
    struct cuda_device *d = cuda_of(base);
    struct reading r = { .size = (size_t)d->n_sm * READ_PER_SM };
    if (!has_room(r.size))
        return (double)NAN;
    r.data = cuda_alloc(base, r.size);
    r.sink = cuda_alloc(base, sizeof *r.sink);
    double s = best_time(d, read_round, &r);
    cuda_free(base, r.data, r.size);
    cuda_free(base, r.sink, sizeof *r.sink);
    return (double)r.size / s;
}

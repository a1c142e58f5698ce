/* memory.c - device memory, the way into it and out of it, weights and KV. */
#include <cuda_runtime_api.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "kernels/cuda/cuda.h"

static void *reserve(struct cuda_device *d, size_t size, const char *what)
{
    void *p;
    size_t left = 0, total = 0;
    cudaError_t e = cudaMalloc(&p, size ? size : 1);
    if (e != cudaErrorMemoryAllocation) {
        cuda_need(d, "cudaMalloc", e);
        return p;
    }
    cudaMemGetInfo(&left, &total);
    die("device \"%s\": out of memory: %s takes %.1f MiB, and %.1f of its %.1f MiB are free; lower --kv-memory, --max-seqs or "
        "--max-step-tokens, or take a smaller model", d->base.name, what, (double)size / 0x1p20, (double)left / 0x1p20, (double)total / 0x1p20);
}

void *cuda_alloc(struct device *base, size_t size)
{
    struct cuda_device *d = cuda_of(base);
    void *p = reserve(d, size, "a buffer");
    cuda_need(d, "cudaMemsetAsync", cudaMemsetAsync(p, 0, size, d->stream));
    return p;
}

void cuda_free(struct device *d, void *p, size_t size)
{
    (void)size;
    cuda_need(cuda_of(d), "cudaFree", cudaFree(p));
}

void *cuda_grow(struct cuda_device *d, struct cuda_buffer *b, size_t size)
{
    if (size > b->size) {
        CHECK(!d->recording);          /* an op has run with the same sizes before it is recorded */
        cuda_need(d, "cudaFree", cudaFree(b->data));
        size = size > 2 * b->size ? size : 2 * b->size;
        *b = (struct cuda_buffer){ .data = reserve(d, size, "scratch memory"), .size = size };
    }
    return b->data;
}

void *cuda_host_alloc(struct device *d, size_t size)
{
    void *p;
    cuda_need(cuda_of(d), "cudaMallocHost", cudaMallocHost(&p, size));
    return p;
}

void cuda_host_free(struct device *d, void *p, size_t size)
{
    (void)size;
    cuda_need(cuda_of(d), "cudaFreeHost", cudaFreeHost(p));
}

/* ---- up and down ---- */

/* Pinned memory for one copy of at most a piece, to be enqueued before the next call. */
static void *stage(struct cuda_device *d, size_t size)
{
    struct cuda_staging *s = &d->staging;
    if (s->used + size > CUDA_PIECE) {
        cuda_need(d, "upload", cudaEventRecord(s->arrived[s->piece], d->stream));
        s->piece = (s->piece + 1) % CUDA_N_PIECE;
        cuda_need(d, "an op before upload", cudaEventSynchronize(s->arrived[s->piece]));
        s->used = 0;
    }
    char *p = s->data + (size_t)s->piece * CUDA_PIECE + s->used;
    s->used += (size + 63) & ~(size_t)63;
    return p;
}

static void copy_up(struct cuda_device *d, void *dst, const void *staged, size_t size)
{
    cuda_need(d, "upload", cudaMemcpyAsync(dst, staged, size, cudaMemcpyHostToDevice, d->stream));
}

void cuda_upload(struct device *base, void *dst, const void *host, size_t size)
{
    struct cuda_device *d = cuda_of(base);
    for (size_t at = 0, n; at < size; at += n) {
        n = size - at < CUDA_PIECE ? size - at : CUDA_PIECE;
        void *staged = memcpy(stage(d, n), (const char *)host + at, n);
        copy_up(d, (char *)dst + at, staged, n);
    }
}

void cuda_download(struct device *base, void *host, const void *src, size_t size)
{
    struct cuda_device *d = cuda_of(base);
    cuda_need(d, "download", cudaEventRecord(d->ready, d->stream));
    cuda_need(d, "download", cudaStreamWaitEvent(d->down, d->ready, 0));
    cuda_need(d, "download", cudaMemcpyAsync(host, src, size, cudaMemcpyDeviceToHost, d->down));
}

/* ---- weights ---- */

static void to_bf16(uint16_t *y, const char *x, enum dtype from, size_t n)
{
    float part[1024];
    if (from == DTYPE_BF16) {
        memcpy(y, x, n * sizeof *y);
        return;
    }
    for (size_t at = 0, m; at < n; at += m) {
        m = n - at < 1024 ? n - at : 1024;
        num_to_f32(part, x + at * dtype_size(from), from, m);
        num_from_f32(y + at, DTYPE_BF16, part, m);
    }
}

static void upload_bf16(struct cuda_device *d, uint16_t *dst, const struct tensor *t)
{
    size_t n = (size_t)t->rows * t->cols, most = CUDA_PIECE / sizeof *dst;
    for (size_t at = 0, m; at < n; at += m) {
        m = n - at < most ? n - at : most;
        uint16_t *staged = stage(d, m * sizeof *staged);
        to_bf16(staged, (const char *)t->data + at * dtype_size(t->dtype), t->dtype, m);
        copy_up(d, dst + at, staged, m * sizeof *staged);
    }
}

/* The rows of t from `row` of w on, by way of scratch memory: quantised where all of a row is at hand. */
static void upload_e4m3(struct cuda_device *d, struct weight *w, uint32_t row, const struct tensor *t)
{
    enum dtype type = t->dtype == DTYPE_BF16 ? DTYPE_BF16 : DTYPE_F32;
    size_t row_size = t->cols * dtype_size(type);
    uint32_t most = (uint32_t)(CUDA_PIECE / row_size);
    CHECK(most);
    void *there = cuda_grow(d, &d->scratch, CUDA_PIECE);
    for (uint32_t at = 0, m; at < t->rows; at += m) {
        m = t->rows - at < most ? t->rows - at : most;
        const char *from = (const char *)t->data + (size_t)at * t->cols * dtype_size(t->dtype);
        void *staged = stage(d, m * row_size);
        if (type == DTYPE_BF16)
            memcpy(staged, from, m * row_size);
        else
            num_to_f32(staged, from, t->dtype, (size_t)m * t->cols);
        copy_up(d, there, staged, m * row_size);
        struct tensor x = { there, type, m, t->cols };
        cuda_need(d, "quantising weights", cuda_quantise(d, &x, (uint8_t *)w->data + (size_t)(row + at) * t->cols, w->scale + row + at));
    }
}

/* What cuBLASLt multiplies in fp8 with a scale a row: its documentation, "Outer Vector Scaling for FP8 Data Types" and
 * "cublasLtMatmul". */
static int check_e4m3(const struct cuda_device *d, const struct weight *w)
{
    if (d->capability != 90)
        return err_set("device \"%s\": its compute capability is %d.%d, and fp8 weights need 9.0; give --weight-dtype bf16", d->base.name,
                       d->capability / 10, d->capability % 10);
    if (w->n_in % 16 || w->n_out % 16)
        return err_set("fp8 weights need rows and columns that are multiples of 16, not [%u, %u]; give --weight-dtype bf16", w->n_out, w->n_in);
    return 0;
}

static void pack(struct cuda_device *d, struct weight *w, const struct tensor *parts, int n_part)
{
    size_t n = (size_t)w->n_out * w->n_in;
    bool e4m3 = w->dtype == DTYPE_E4M3;
    w->size = n * dtype_size(w->dtype) + (e4m3 ? w->n_out * sizeof *w->scale : 0);
    w->data = reserve(d, w->size, "a matrix of weights");
    w->scale = e4m3 ? (float *)((char *)w->data + n) : NULL;
    for (uint32_t i = 0, row = 0; i < (uint32_t)n_part; row += parts[i++].rows)
        if (e4m3)
            upload_e4m3(d, w, row, &parts[i]);
        else
            upload_bf16(d, (uint16_t *)w->data + (size_t)row * w->n_in, &parts[i]);
}

struct weight *cuda_weight_pack(struct device *d, const struct tensor *parts, int n_part, enum dtype dtype)
{
    if (dtype != DTYPE_BF16 && dtype != DTYPE_E4M3) {
        err_set("device \"%s\" holds weights in bf16 or fp8, not in \"%s\"; give --weight-dtype bf16 or fp8", d->name, dtype_name(dtype));
        return NULL;
    }
    struct weight *w = mem_alloc(sizeof *w);
    *w = (struct weight){ .dtype = dtype, .n_in = parts[0].cols };
    for (int i = 0; i < n_part; i++) {
        CHECK(parts[i].cols == w->n_in && parts[i].dtype <= DTYPE_F16);
        w->n_out += parts[i].rows;
    }
    CHECK(w->n_out && w->n_in);
    if (dtype == DTYPE_E4M3 && check_e4m3(cuda_of(d), w)) {
        free(w);
        return NULL;
    }
    pack(cuda_of(d), w, parts, n_part);
    return w;
}

size_t cuda_weight_size(const struct weight *w)
{
    return w->size;
}

void cuda_weight_free(struct device *d, struct weight *w)
{
    if (!w)
        return;
    cuda_free(d, w->data, w->size);
    free(w);
}

/* ---- KV ---- */

size_t cuda_kv_block_size(struct device *d, const struct kv_shape *s)
{
    (void)d;
    return (size_t)s->n_layer * s->n_kv_head * 2 * s->block_size * s->d_head * dtype_size(s->dtype);
}

struct kv *cuda_kv_open(struct device *d, const struct kv_shape *s)
{
    CHECK(s->dtype == DTYPE_BF16 || s->dtype == DTYPE_E4M3);
    CHECK(s->block_size && s->block_size % 16 == 0 && s->d_head && s->d_head % (s->dtype == DTYPE_BF16 ? 8 : 16) == 0);
    struct kv *kv = mem_alloc(sizeof *kv);
    *kv = (struct kv){ .shape = *s, .head_size = (size_t)s->block_size * s->d_head * dtype_size(s->dtype) };
    kv->size = s->n_block * cuda_kv_block_size(d, s);
    kv->data = reserve(cuda_of(d), kv->size, "the KV memory");
    return kv;
}

void cuda_kv_close(struct device *d, struct kv *kv)
{
    if (!kv)
        return;
    cuda_free(d, kv->data, kv->size);
    free(kv);
}

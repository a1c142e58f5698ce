#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/open.h"

void cuda_need(const struct cuda_device *d, const char *what, cudaError_t e)
{
    if (e)
        die("device \"%s\": %s: %s (%s); run again, and if it stays so with --device cpu", d->base.name, what, cudaGetErrorString(e),
            cudaGetErrorName(e));
}

/* ---- the ops ---- */

#define OP(name)                                                        \
    static void name##_op(struct device *d, const struct name *op)      \
    {                                                                   \
        cuda_need(cuda_of(d), #name, cuda_##name(cuda_of(d), op));      \
    }
OP(embed)
OP(norm)
OP(rope_store)
OP(act)
OP(gather)
OP(scatter)

static void linear_op(struct device *base, const struct linear *op)
{
    struct cuda_device *d = cuda_of(base);
    cuda_grow(d, &d->scratch, cuda_linear_scratch(op));
    cuda_need(d, "linear", cuda_linear(d, op));
}

static void attention_op(struct device *base, const struct attention *op)
{
    struct cuda_device *d = cuda_of(base);
    cuda_grow(d, &d->scratch, cuda_attention_scratch(op));
    cuda_need(d, "attention", cuda_attention(d, op));
}

static uint32_t count_edits(const struct sample *op)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < op->logits.rows; i++) {
        const struct sample_row *r = &op->rows[i];
        if (r->n_edit && r->edit_start + r->n_edit > n)
            n = r->edit_start + r->n_edit;
    }
    return n;
}

static void sample_op(struct device *base, const struct sample *op)
{
    struct cuda_device *d = cuda_of(base);
    size_t rows_size = op->logits.rows * sizeof *op->rows, edits_size = count_edits(op) * sizeof *op->edits;
    void *rows = cuda_grow(d, &d->rows, rows_size), *edits = cuda_grow(d, &d->edits, edits_size);
    cuda_upload(base, rows, op->rows, rows_size);
    cuda_upload(base, edits, op->edits, edits_size);
    cuda_need(d, "sample", cuda_sample(d, op, rows, edits));
}

static void telemetry(struct device *d, struct telemetry *t)
{
    nvml_read(cuda_of(d)->nvml, t);
}

/* ---- opening and closing ---- */

static void destroy(cudaEvent_t e)
{
    if (e)
        cudaEventDestroy(e);
}

/* What was opened, be it half. */
static void close_device(struct device *base)
{
    struct cuda_device *d = cuda_of(base);
    if (d->stream)
        cudaStreamSynchronize(d->stream);
    if (d->down)
        cudaStreamSynchronize(d->down);
    cublaslt_close(d);
    nvml_close(d->nvml);
    cudaFree(d->scratch.data);
    cudaFree(d->rows.data);
    cudaFree(d->edits.data);
    cudaFreeHost(d->staging.data);
    for (int i = 0; i < CUDA_N_PIECE; i++)
        destroy(d->staging.arrived[i]);
    for (int i = 0; i < N_MARK; i++) {
        destroy(d->marks[i].passed);
        destroy(d->marks[i].fetched);
    }
    destroy(d->ready);
    if (d->down)
        cudaStreamDestroy(d->down);
    if (d->stream)
        cudaStreamDestroy(d->stream);
    free(d);
}

static const struct device_ops ops = {
    .close = close_device,
    .alloc = cuda_alloc,
    .free = cuda_free,
    .host_alloc = cuda_host_alloc,
    .host_free = cuda_host_free,
    .upload = cuda_upload,
    .download = cuda_download,
    .sync = cuda_sync,
    .mark = cuda_mark,
    .wait = cuda_wait,
    .elapsed = cuda_elapsed,
    .record = cuda_record,
    .record_end = cuda_record_end,
    .replay = cuda_replay,
    .graph_free = cuda_graph_free,
    .weight_pack = cuda_weight_pack,
    .weight_size = cuda_weight_size,
    .weight_free = cuda_weight_free,
    .kv_open = cuda_kv_open,
    .kv_block_size = cuda_kv_block_size,
    .kv_close = cuda_kv_close,
    .embed = embed_op,
    .norm = norm_op,
    .linear = linear_op,
    .rope_store = rope_store_op,
    .attention = attention_op,
    .act = act_op,
    .gather = gather_op,
    .scatter = scatter_op,
    .sample = sample_op,
    .tune = cuda_tune,
    .peak_flops = cuda_peak_flops,
    .peak_bandwidth = cuda_peak_bandwidth,
    .telemetry = telemetry,
};

/* "insufficient driver" is also the runtime's answer where there is none at all. */
static int no_driver(int ordinal, cudaError_t e)
{
    int driver = 0;
    if (e != cudaErrorInsufficientDriver)
        return err_set("device \"cuda:%d\": %s", ordinal, cudaGetErrorString(e));
    cudaDriverGetVersion(&driver);
    if (!driver)
        return err_set("device \"cuda:%d\": no NVIDIA driver is installed", ordinal);
    return err_set("device \"cuda:%d\": the NVIDIA driver is for CUDA %d.%d, this build needs %d.%d", ordinal, driver / 1000,
                   driver % 1000 / 10, CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
}

/* 0: there is such a device, which computes in this type. */
static int find(int ordinal, enum dtype compute)
{
    int n = 0;
    cudaError_t e = cudaGetDeviceCount(&n);
    if (e)
        return no_driver(ordinal, e);
    if (ordinal >= n)
        return err_set("device \"cuda:%d\": there %s %d GPU%s", ordinal, n == 1 ? "is" : "are", n, n == 1 ? "" : "s");
    if (compute != DTYPE_BF16)
        return err_set("device \"cuda:%d\": it computes in bf16, not in \"%s\"", ordinal, dtype_name(compute));
    return 0;
}

static int attribute(int ordinal, enum cudaDeviceAttr a)
{
    int value = 0;
    cudaDeviceGetAttribute(&value, a, ordinal);
    return value;
}

static int describe(struct cuda_device *d)
{
    struct cudaDeviceProp p;
    size_t total = 0;
    d->n_sm = attribute(d->ordinal, cudaDevAttrMultiProcessorCount);
    d->capability = 10 * attribute(d->ordinal, cudaDevAttrComputeCapabilityMajor) + attribute(d->ordinal, cudaDevAttrComputeCapabilityMinor);
    d->shared_most = (size_t)attribute(d->ordinal, cudaDevAttrMaxSharedMemoryPerBlockOptin);
    if (d->capability < 80)
        return err_set("device \"%s\": its compute capability is %d.%d, 8.0 is needed", d->base.name, d->capability / 10, d->capability % 10);
    cudaError_t e = cudaGetDeviceProperties(&p, d->ordinal);
    if (!e)
        e = cudaMemGetInfo(&d->base.memory, &total);
    if (e)
        return err_set("device \"%s\": %s", d->base.name, cudaGetErrorString(e));
    snprintf(d->gpu, sizeof d->gpu, "%.63s", p.name);
    snprintf(d->base.text, sizeof d->base.text, "%.64s, %d multiprocessors, %.1f GiB", p.name, d->n_sm, (double)total / 0x1p30);
    return 0;
}

static cudaError_t begin(struct cuda_device *d)
{
    cudaError_t e = cudaSetDevice(d->ordinal);
    if (!e)
        e = cudaStreamCreateWithFlags(&d->stream, cudaStreamNonBlocking);
    if (!e)
        e = cudaStreamCreateWithFlags(&d->down, cudaStreamNonBlocking);
    if (!e)
        e = cudaEventCreateWithFlags(&d->ready, cudaEventDisableTiming);
    if (!e)
        e = cudaMallocHost((void **)&d->staging.data, CUDA_N_PIECE * CUDA_PIECE);
    for (int i = 0; i < CUDA_N_PIECE && !e; i++)
        e = cudaEventCreateWithFlags(&d->staging.arrived[i], cudaEventDisableTiming);
    for (int i = 0; i < N_MARK && !e; i++) {
        e = cudaEventCreate(&d->marks[i].passed);
        if (!e)
            e = cudaEventCreateWithFlags(&d->marks[i].fetched, cudaEventDisableTiming);
    }
    return e;
}

static int open_parts(struct cuda_device *d)
{
    cudaError_t e = begin(d);
    if (e)
        return err_set("device \"%s\": %s", d->base.name, cudaGetErrorString(e));
    if (cublaslt_open(d))
        return err_wrap("device \"%s\"", d->base.name);
    d->nvml = nvml_open(d->ordinal);
    return describe(d);
}

struct device *cuda_open(int ordinal, enum dtype compute)
{
    if (find(ordinal, compute))
        return NULL;
    struct cuda_device *d = mem_alloc(sizeof *d);
    d->base = (struct device){ .ops = &ops, .compute = compute, .async = true };
    d->ordinal = ordinal;
    snprintf(d->base.name, sizeof d->base.name, "cuda:%d", ordinal);
    if (!open_parts(d))
        return &d->base;
    close_device(&d->base);
    return NULL;
}

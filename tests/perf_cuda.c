/* The speed of a CUDA device's heavy ops at the shapes of Qwen3-0.6B (1024 wide, 16 heads on 8) and Llama-3.1-8B (4096 wide, 32
 * on 8), each beside the ceiling that bounds it.  On the emulated device, which has few multiprocessors, sizes are tiny: there it
 * only shows that it runs. */
#include "kernels/cuda/cuda.h"
#include "tests/tensors.h"

enum { D = 128, BLOCK = 16, FEW_SM = 16, ROUNDS = 30 };

static double peak_bandwidth, peak_flops;

static void *up(struct device *d, const void *host, size_t size)
{
    void *p = d->ops->alloc(d, size);
    d->ops->upload(d, p, host, size);
    return p;
}

typedef void op_run(struct device *d, const void *op);

/* The shortest of ROUNDS, in seconds. */
static double best_s(struct device *base, op_run *run, const void *op)
{
    struct cuda_device *d = cuda_of(base);
    cudaEvent_t from, to;
    float ms, best = INFINITY;
    cuda_need(d, "cudaEventCreate", cudaEventCreate(&from));
    cuda_need(d, "cudaEventCreate", cudaEventCreate(&to));
    run(base, op);                     /* plans and scratch are made */
    for (int i = 0; i < (d->n_sm < FEW_SM ? 2 : ROUNDS); i++) {
        cuda_need(d, "cudaEventRecord", cudaEventRecord(from, d->stream));
        run(base, op);
        cuda_need(d, "cudaEventRecord", cudaEventRecord(to, d->stream));
        cuda_need(d, "measuring", cudaEventSynchronize(to));
        cuda_need(d, "cudaEventElapsedTime", cudaEventElapsedTime(&ms, from, to));
        best = ms < best ? ms : best;
    }
    cudaEventDestroy(from);
    cudaEventDestroy(to);
    return (double)best * 1e-3;
}

static void tell(const char *name, double s, double bytes, double flops)
{
    printf("%-48s %9.1f us %8.1f GB/s (%5.1f %%) %8.2f TFLOP/s (%5.1f %%)\n", name, s * 1e6, bytes / s * 1e-9, 100 * bytes / s / peak_bandwidth,
           flops / s * 1e-12, 100 * flops / s / peak_flops);
}

/* ---- attention: n_seq sequences whose last n tokens, of `context`, are in the step ---- */

struct shape { uint32_t n_seq, n, context, n_head, n_kv_head; };

static struct step step_new(struct device *d, const struct shape *s)
{
    uint32_t cols = (s->context + BLOCK - 1) / BLOCK;
    uint32_t *start = mem_array(s->n_seq + 1, 4), *len = mem_array(s->n_seq, 4), *row = mem_array(s->n_seq, 4), *table = mem_array((size_t)s->n_seq * cols, 4);
    for (uint32_t i = 0; i < s->n_seq; i++) {
        start[i + 1] = (i + 1) * s->n;
        len[i] = s->context;
        row[i] = i;
        for (uint32_t k = 0; k < cols; k++)
            table[i * cols + k] = k * s->n_seq + i;        /* a sequence's blocks lie apart */
    }
    struct step step = { .n_tok = s->n_seq * s->n, .n_seq = s->n_seq, .table_cols = cols, .seq_start = up(d, start, (s->n_seq + 1) * 4),
                         .kv_len = up(d, len, s->n_seq * 4), .table_row = up(d, row, s->n_seq * 4), .block_table = up(d, table, (size_t)s->n_seq * cols * 4) };
    free(start);
    free(len);
    free(row);
    free(table);
    return step;
}

static void step_free(struct device *d, const struct step *s)
{
    d->ops->free(d, (void *)s->seq_start, (s->n_seq + 1) * 4);
    d->ops->free(d, (void *)s->kv_len, s->n_seq * 4);
    d->ops->free(d, (void *)s->table_row, s->n_seq * 4);
    d->ops->free(d, (void *)s->block_table, (size_t)s->n_seq * s->table_cols * 4);
}

static void run_attention(struct device *d, const void *op)
{
    d->ops->attention(d, op);
}

static void time_attention(struct device *d, struct rng *r, const struct shape *s)
{
    struct step step = step_new(d, s);
    struct kv *kv = d->ops->kv_open(d, &(struct kv_shape){ 1, s->n_seq * step.table_cols, BLOCK, s->n_kv_head, D, DTYPE_BF16 });
    cuda_need(cuda_of(d), "cudaMemsetAsync", cudaMemsetAsync(kv->data, 0x3c, kv->size, cuda_of(d)->stream));
    struct tensor q = tensor_random(r, step.n_tok, s->n_head * D, DTYPE_BF16);
    struct tensor q_on = { up(d, q.data, tensor_size(&q)), DTYPE_BF16, q.rows, q.cols }, y_on = { d->ops->alloc(d, tensor_size(&q)), DTYPE_BF16, q.rows, q.cols };
    struct attention op = { .q = q_on, .kv = kv, .step = &step, .scale = 0.088f, .y = y_on };
    double seen = (double)step.n_tok * (s->context - (s->n - 1) / 2.0);
    char name[64];
    snprintf(name, sizeof name, "attention %u x %u of %u tokens, %u heads on %u", s->n_seq, s->n, s->context, s->n_head, s->n_kv_head);
    tell(name, best_s(d, run_attention, &op), (double)kv->size, 4 * seen * s->n_head * D);
    d->ops->free(d, q_on.data, tensor_size(&q));
    d->ops->free(d, y_on.data, tensor_size(&q));
    d->ops->kv_close(d, kv);
    step_free(d, &step);
    free(q.data);
}

/* ---- products ---- */

struct product { uint32_t n, n_in, n_out; };

static void run_linear(struct device *d, const void *op)
{
    d->ops->linear(d, op);
}

/* The same 64 rows again and again: random numbers take time. */
static void time_linear(struct device *d, struct rng *r, const struct product *p)
{
    enum { N_ROW = 64 };
    struct tensor rows = tensor_random(r, N_ROW, p->n_in, DTYPE_BF16), *parts = mem_array(p->n_out / N_ROW, sizeof *parts);
    for (uint32_t i = 0; i < p->n_out / N_ROW; i++)
        parts[i] = rows;
    struct weight *w = d->ops->weight_pack(d, parts, (int)(p->n_out / N_ROW), DTYPE_BF16), *x = d->ops->weight_pack(d, parts, (int)(p->n / N_ROW), DTYPE_BF16);
    size_t y_size = (size_t)p->n * p->n_out * 2;
    void *y = d->ops->alloc(d, y_size);
    struct linear op = { .x = { x->data, DTYPE_BF16, p->n, p->n_in }, .w = w, .y = { y, DTYPE_BF16, p->n, p->n_out } };
    char name[64];
    snprintf(name, sizeof name, "product %u x %u to %u", p->n, p->n_in, p->n_out);
    tell(name, best_s(d, run_linear, &op), (double)(w->size + x->size + y_size), 2.0 * p->n * p->n_in * p->n_out);
    d->ops->free(d, y, y_size);
    d->ops->weight_free(d, w);
    d->ops->weight_free(d, x);
    free(parts);
    free(rows.data);
}

/* ---- launches ---- */

enum { N_LAUNCH = 200 };

static void run_launches(struct device *d, const void *op)
{
    for (int i = 0; i < N_LAUNCH; i++)
        d->ops->norm(d, op);
}

struct replay { struct graph *graph; };

static void run_graph(struct device *d, const void *op)
{
    CHECK(d->ops->replay(d, ((const struct replay *)op)->graph));
}

static void time_launches(struct device *d)
{
    float *x = d->ops->alloc(d, 64 * sizeof *x), *w = d->ops->alloc(d, 64 * sizeof *w);
    struct norm op = { .x = { x, DTYPE_F32, 1, 64 }, .w = w, .eps = 1e-6f, .y = { x, DTYPE_F32, 1, 64 } };
    printf("%-48s %9.2f us\n", "a launch, of 200 small ones in a row", best_s(d, run_launches, &op) * 1e6 / N_LAUNCH);
    d->ops->record(d);
    run_launches(d, &op);
    struct replay again = { d->ops->record_end(d) };
    printf("%-48s %9.2f us\n", "the same as a graph", best_s(d, run_graph, &again) * 1e6 / N_LAUNCH);
    d->ops->graph_free(d, again.graph);
    d->ops->free(d, x, 64 * sizeof *x);
    d->ops->free(d, w, 64 * sizeof *w);
}

int main(void)
{
    static const struct shape shapes[] = {
        { 256, 1, 1024, 16, 8 }, { 1024, 1, 192, 16, 8 }, { 256, 1, 1024, 32, 8 },
        { 64, 128, 128, 16, 8 }, { 8, 1024, 1024, 16, 8 }, { 4, 2048, 2048, 32, 8 }, { 2, 4096, 4096, 32, 8 }, { 1, 8192, 8192, 32, 8 },
    };
    static const struct product products[] = {
        { 1024, 1024, 6144 }, { 8192, 1024, 6144 }, { 1024, 4096, 6144 }, { 1024, 4096, 28672 }, { 8192, 4096, 28672 }, { 8192, 14336, 4096 }, { 256, 4096, 28672 },
    };
    struct device *d = device_open("cuda:0", DTYPE_BF16, 0);
    struct rng r;
    if (!d)
        die("%s", err_text());
    bool few = cuda_of(d)->n_sm < FEW_SM;
    rng_init(&r, 1);
    peak_bandwidth = d->ops->peak_bandwidth(d);
    peak_flops = d->ops->peak_flops(d, DTYPE_BF16);
    printf("%s; shares of %.1f GB/s read and %.2f TFLOP/s bf16\n", d->text, peak_bandwidth * 1e-9, peak_flops * 1e-12);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct shape s = shapes[i];
        time_attention(d, &r, few ? &(struct shape){ 2, s.n > 1 ? 8 : 1, 24, s.n_head, s.n_kv_head } : &s);
    }
    for (size_t i = 0; i < sizeof products / sizeof *products; i++)
        time_linear(d, &r, few ? &(struct product){ 64, 64, 64 } : &products[i]);
    time_launches(d);
    d->ops->close(d);
    return 0;
}

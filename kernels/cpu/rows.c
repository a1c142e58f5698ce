/* rows.c - the ops that go row by row: their checks, and which thread does which rows. */
#include <string.h>

#include "base/err.h"
#include "kernels/cpu/kv.h"
#include "kernels/cpu/vec.h"

struct rows_job { struct cpu_device *cpu; const void *op; uint32_t n; };

static size_t tensor_size(const struct tensor *t)
{
    return (size_t)t->rows * t->cols * dtype_size(t->dtype);
}

static bool is_float(const struct tensor *t)
{
    return t->dtype == DTYPE_F32 || t->dtype == DTYPE_BF16;
}

static void norm_job(void *arg, int thread, int n_thread)
{
    struct rows_job *job = arg;
    struct span s = span_of(job->n, thread, n_thread);
    vec_rows(job->cpu->tier)->norm(job->op, s.from, s.to);
}

void cpu_norm(struct device *d, const struct norm *op)
{
    CHECK(op->x.dtype == DTYPE_F32 && is_float(&op->y));
    CHECK(op->y.rows == op->x.rows && op->y.cols == op->x.cols);
    struct rows_job job = { cpu_of(d), op, op->x.rows };
    cpu_run(job.cpu, tensor_size(&op->x) + tensor_size(&op->y), norm_job, &job);
}

static void act_job(void *arg, int thread, int n_thread)
{
    struct rows_job *job = arg;
    struct span s = span_of(job->n, thread, n_thread);
    vec_rows(job->cpu->tier)->act(job->op, s.from, s.to);
}

void cpu_act(struct device *d, const struct act *op)
{
    CHECK(is_float(&op->x) && is_float(&op->y));
    CHECK(op->y.rows == op->x.rows && 2 * (size_t)op->y.cols == op->x.cols);
    struct rows_job job = { cpu_of(d), op, op->x.rows };
    cpu_run(job.cpu, tensor_size(&op->x) + tensor_size(&op->y), act_job, &job);
}

static void rope_store_job(void *arg, int thread, int n_thread)
{
    struct rows_job *job = arg;
    struct span s = span_of(job->n, thread, n_thread);
    vec_rows(job->cpu->tier)->rope_store(job->op, s.from, s.to);
}

void cpu_rope_store(struct device *d, const struct rope_store *op)
{
    const struct kv_shape *s = &op->kv->shape;
    CHECK(is_float(&op->qkv) && is_float(&op->q));
    CHECK(op->qkv.rows == op->step->n_tok && op->q.rows == op->step->n_tok);
    CHECK(op->qkv.cols == (op->n_head + 2 * s->n_kv_head) * s->d_head && op->q.cols == op->n_head * s->d_head);
    CHECK(op->d_rot <= s->d_head && op->d_rot % 2 == 0 && op->layer < s->n_layer);
    struct rows_job job = { cpu_of(d), op, op->step->n_tok };
    cpu_run(job.cpu, 2 * tensor_size(&op->qkv), rope_store_job, &job);
}

static void gather_job(void *arg, int thread, int n_thread)
{
    struct rows_job *job = arg;
    const struct gather *op = job->op;
    struct span s = span_of(job->n, thread, n_thread);
    size_t row = op->x.cols * dtype_size(op->x.dtype);
    for (uint32_t i = s.from; i < s.to; i++)
        memcpy((char *)op->y.data + i * row, (const char *)op->x.data + op->rows[i] * row, row);
}

void cpu_gather(struct device *d, const struct gather *op)
{
    CHECK(op->x.dtype == op->y.dtype && op->x.cols == op->y.cols);
    struct rows_job job = { cpu_of(d), op, op->y.rows };
    cpu_run(job.cpu, 2 * tensor_size(&op->y), gather_job, &job);
}

void cpu_scatter(struct device *d, const struct scatter *op)
{
    (void)d;
    for (uint32_t i = 0; i < op->n; i++)
        op->y[op->patches[i].at] = op->patches[i].value;
}

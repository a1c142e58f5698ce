/* attention.cu - one op, two kernels: a sequence with one token in the step is decode.cu's, one with more prefill.cu's.  The
 * number of its tokens alone decides, so that nothing depends on the batch; only the device knows it, so both kernels go
 * over all sequences and leave those that are not theirs, and both are launched with what the sizes of the step tell.
 * On a deterministic device prefill.cu takes all, for decode.cu rounds otherwise. */
#include "base/err.h"
#include "kernels/cuda/attention.h"

static size_t n_part(const struct attention *op)
{
    return (size_t)op->step->n_seq * (op->q.cols / op->kv->shape.d_head) * decode_max_split(op);
}

size_t cuda_attention_scratch(const struct attention *op)
{
    return n_part(op) * (sizeof(struct attention_part) + op->kv->shape.d_head * sizeof(float));
}

static bool known_shape(const struct attention *op)
{
    const struct kv_shape *s = &op->kv->shape;
    bool bf16 = s->dtype == DTYPE_BF16;
    return (bf16 || s->dtype == DTYPE_E4M3) && s->d_head && s->d_head <= 256 && s->d_head % (bf16 ? 8 : 16) == 0 && s->block_size % KV_GROUP == 0;
}

cudaError_t cuda_attention(struct cuda_device *d, const struct attention *op)
{
    const struct kv_shape *s = &op->kv->shape;
    CHECK(known_shape(op) && op->layer < s->n_layer && op->q.dtype == DTYPE_BF16);
    CHECK(op->y.dtype == DTYPE_F32 || op->y.dtype == DTYPE_BF16);
    struct attention_job j = {};
    j.op = *op;
    j.kv = *op->kv;
    j.step = *op->step;
    j.n_head = op->q.cols / s->d_head;
    j.n_group_head = j.n_head / s->n_kv_head;
    CHECK(op->q.cols == j.n_head * s->d_head && j.n_head && j.n_head % s->n_kv_head == 0);
    CHECK(op->q.rows == j.step.n_tok && op->y.rows == op->q.rows && op->y.cols == op->q.cols);
    CHECK((uintptr_t)op->q.data % 16 == 0 && (uintptr_t)op->y.data % 8 == 0);
    CHECK(d->scratch.size >= cuda_attention_scratch(op));
    j.factor = op->softcap > 0 ? 2 * LOG2_E * op->scale / op->softcap : op->scale * LOG2_E;
    j.cap = op->softcap > 0 ? op->softcap * LOG2_E : 0;
    j.max_split = decode_max_split(op);
    j.acc = (float *)d->scratch.data;
    j.part = (struct attention_part *)(j.acc + n_part(op) * s->d_head);
    j.prefill_least = d->base.deterministic ? 1 : 2;
    if (!j.step.n_tok)
        return cudaSuccess;
    if (j.step.n_tok > j.step.n_seq || d->base.deterministic) {
        cudaError_t e = cuda_prefill(d, &j);
        if (e != cudaSuccess || d->base.deterministic)
            return e;
    }
    return cuda_decode(d, &j);
}

/* attention.c - which thread attends to what.  A unit is a KV head and a run of tokens of a sequence; all units of a
 * step stand in one order, and each thread takes the stretch of it that its share of the cost falls on. */
#include "base/err.h"
#include "kernels/cpu/kv.h"
#include "kernels/cpu/vec.h"

/* Rows (tokens times the query heads of a KV head) that go over the keys together: their running sums, 16 KiB at d_head
 * 128, stay in the first cache, and a tile that comes from memory is used 32 times. */
enum { UNIT_ROWS = 32 };

/* To read a key from memory costs about as much as to multiply this many rows with it. */
enum { READ_COST = 12 };

struct attention_job { struct cpu_device *cpu; const struct attention *op; uint32_t unit_tok, n_group_head; uint64_t cost; };

/* The units in their order.  A zeroed walk stands before the first. */
struct walk { uint32_t seq, tok, kv_head; uint64_t cost; };

/* The unit at which the walk stands and its cost; 0 at the end, where sequences without tokens may stand. */
static uint64_t unit_at(const struct attention_job *job, const struct walk *w, struct attention_unit *u)
{
    const struct step *step = job->op->step;
    if (w->seq == step->n_seq)
        return 0;
    uint32_t n = step->seq_start[w->seq + 1] - step->seq_start[w->seq], left = n - w->tok;
    *u = (struct attention_unit){
        .kv_head = w->kv_head, .tok = step->seq_start[w->seq] + w->tok, .n_tok = left < job->unit_tok ? left : job->unit_tok,
        .pos = step->kv_len[w->seq] - left,
        .blocks = step->block_table + (size_t)step->table_row[w->seq] * step->table_cols,
    };
    uint64_t keys = u->pos + u->n_tok, window = job->op->window;
    if (window && keys > window + u->n_tok)
        keys = window + u->n_tok;
    return keys * (READ_COST + u->n_tok * job->n_group_head);
}

/* Goes on by `heads` KV heads, each of the given cost; past the last of them to the next run of tokens. */
static void walk_on(const struct attention_job *job, struct walk *w, uint32_t heads, uint32_t n_tok, uint64_t cost)
{
    const struct step *step = job->op->step;
    w->cost += heads * cost;
    w->kv_head += heads;
    if (w->kv_head < job->op->kv->shape.n_kv_head)
        return;
    w->kv_head = 0;
    w->tok += n_tok;
    if (w->tok < step->seq_start[w->seq + 1] - step->seq_start[w->seq])
        return;
    w->tok = 0;
    w->seq++;
}

/* The next unit whose cost begins in [from, to). */
static bool next_unit(const struct attention_job *job, struct walk *w, uint64_t from, uint64_t to, struct attention_unit *u)
{
    for (;;) {
        uint64_t cost = unit_at(job, w, u);
        if (!cost || w->cost >= to)
            return false;
        bool mine = w->cost >= from;
        walk_on(job, w, 1, u->n_tok, cost);
        if (mine)
            return true;
    }
}

static uint64_t whole_cost(const struct attention_job *job)
{
    struct walk w = { 0 };
    struct attention_unit u;
    for (uint64_t cost; (cost = unit_at(job, &w, &u));)
        walk_on(job, &w, job->op->kv->shape.n_kv_head, u.n_tok, cost);
    return w.cost;
}

static void attention_job(void *arg, int thread, int n_thread)
{
    const struct attention_job *job = arg;
    const struct vec_attention *vec = job->cpu->tier == CPU_AMX ? &vec_attention_CPU_AMX : vec_attention(job->cpu->tier);
    void *scratch = cpu_scratch(job->cpu, thread, vec->scratch_size(job->op, job->unit_tok * job->n_group_head));
    uint64_t from = job->cost * (unsigned)thread / (unsigned)n_thread, to = job->cost * ((unsigned)thread + 1) / (unsigned)n_thread;
    struct walk w = { 0 };
    struct attention_unit u, next;
    bool more = next_unit(job, &w, from, to, &u);
    while (more) {
        more = next_unit(job, &w, from, to, &next);
        vec->unit(job->op, &u, more ? &next : NULL, scratch);
        u = next;
    }
}

void cpu_attention(struct device *d, const struct attention *op)
{
    const struct kv_shape *s = &op->kv->shape;
    uint32_t n_head = op->q.cols / s->d_head;
    CHECK(op->q.dtype == s->dtype && (op->y.dtype == DTYPE_F32 || op->y.dtype == DTYPE_BF16));
    CHECK(op->q.cols == n_head * s->d_head && n_head && n_head % s->n_kv_head == 0 && op->layer < s->n_layer);
    CHECK(op->q.rows == op->step->n_tok && op->y.rows == op->q.rows && op->y.cols == op->q.cols);
    struct attention_job job = { .cpu = cpu_of(d), .op = op, .n_group_head = n_head / s->n_kv_head };
    job.unit_tok = job.n_group_head < UNIT_ROWS ? UNIT_ROWS / job.n_group_head : 1;
    job.cost = whole_cost(&job);
    cpu_run(job.cpu, job.cost * s->d_head / 4, attention_job, &job);
}

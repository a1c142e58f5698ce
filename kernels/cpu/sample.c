/* sample.c - from logits to a token, without a sort and without a softmax.
 *
 * The filters become one number, the least x = l / temperature that stays, and the pick is one pass over what is not
 * below it.  That number comes from a short list: of top_k's k best none is below the k-th of the maxima of disjoint
 * sets of columns; and what is below (1 - top_p) of the mean mass cannot be in top_p's set, for all of it together is
 * less than 1 - top_p.  In the list an exact search by the digits of the values' bits finds the place; of equal values
 * at the edge the lower ids stay, and the rest leave the row.
 *
 * Rows are shared out over the threads; when there are fewer rows than threads, the columns of each.  Maxima and sums
 * of whole numbers do not depend on how they are cut. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "kernels/cpu/vec.h"

#define COLDEST 1e-5f          /* below that the arg-max, and no overflow */

enum { N_DIGIT = 1 << 11, SHARED_COLUMNS = 16 * SAMPLE_CHUNK };

/* What one thread found in its columns; a cache line, for the neighbour writes too. */
struct part { _Alignas(64) struct best best; uint64_t mass; };

/* One row in the making, and room for its lists. */
struct work {
    struct cpu_device *cpu;
    const struct vec_sample *vec;
    const struct sample *op;
    bool shared;                   /* its columns are shared out over the pool */
    float *l;                      /* [n] */
    uint32_t n, n_max;
    float scale, top, floor;       /* arguments of the passes */
    uint64_t seed, stream;
    double log_total;              /* of the raw logits: logprob = l - log_total */

    struct part *parts;            /* [n_thread] */
    uint64_t *sum;                 /* [N_DIGIT] */
    float *maxima;                 /* [n_max] */
    float *saved;                  /* [n_edit] what stood where the edits are */
    float *x;                      /* [n] the list: values, ids in rising order, masses */
    uint32_t *id;
    uint64_t *mass;
};

/* ---- passes over the columns ---- */

static void pass(struct work *w, void (*job)(void *, int, int))
{
    if (w->shared)
        pool_run(w->cpu->pool, job, w);
    else
        job(w, 0, 1);
}

static int n_part(const struct work *w)
{
    return w->shared ? pool_size(w->cpu->pool) : 1;
}

static struct span columns_of(const struct work *w, int thread, int n_thread)
{
    struct span s = span_of((w->n + SAMPLE_CHUNK - 1) / SAMPLE_CHUNK, thread, n_thread);
    uint32_t to = s.to * SAMPLE_CHUNK;
    return (struct span){ s.from * SAMPLE_CHUNK, to < w->n ? to : w->n };
}

static void soften_job(void *arg, int thread, int n_thread)
{
    struct work *w = arg;
    struct span s = columns_of(w, thread, n_thread);
    w->vec->soften(w->l, s.from, s.to, w->op->logit_scale, w->op->softcap);
}

static void maxima_job(void *arg, int thread, int n_thread)
{
    struct work *w = arg;
    struct span s = columns_of(w, thread, n_thread);
    w->vec->maxima(w->l, s.from, s.to, w->maxima);
}

static void best_job(void *arg, int thread, int n_thread)
{
    struct work *w = arg;
    struct span s = columns_of(w, thread, n_thread);
    w->parts[thread].best = w->vec->best(w->l, s.from, s.to);
}

static void mass_job(void *arg, int thread, int n_thread)
{
    struct work *w = arg;
    struct span s = columns_of(w, thread, n_thread);
    w->parts[thread].mass = w->vec->mass(w->l, s.from, s.to, w->scale, w->top, w->floor);
}

static void draw_job(void *arg, int thread, int n_thread)
{
    struct work *w = arg;
    struct span s = columns_of(w, thread, n_thread);
    w->parts[thread].best = w->vec->draw(w->l, s.from, s.to, w->scale, w->floor, w->seed, w->stream);
}

/* The parts stand in rising order of columns: on ties the first is the lowest id. */
static uint32_t best_id(struct work *w, void (*job)(void *, int, int))
{
    pass(w, job);
    struct best best = { -INFINITY, 0 };
    for (int i = 0; i < n_part(w); i++)
        if (w->parts[i].best.value > best.value)
            best = w->parts[i].best;
    return best.id;
}

static float find_maxima(struct work *w)
{
    float top = -INFINITY;
    pass(w, maxima_job);
    for (uint32_t i = 0; i < w->n_max; i++)
        top = w->maxima[i] > top ? w->maxima[i] : top;
    return top;
}

static uint64_t mass_above(struct work *w, float top, float floor)
{
    uint64_t sum = 0;
    w->top = top;
    w->floor = floor;
    pass(w, mass_job);
    for (int i = 0; i < n_part(w); i++)
        sum += w->parts[i].mass;
    return sum;
}

/* ---- the list and its edge ---- */

/* Numbers in the order of the floats; both zeros are one. */
static uint32_t order_of(float x)
{
    uint32_t u;
    x += 0.0f;
    memcpy(&u, &x, 4);
    return u & 0x80000000 ? ~u : u | 0x80000000;
}

static float of_order(uint32_t u)
{
    float x;
    u = u & 0x80000000 ? u & 0x7fffffff : ~u;
    memcpy(&x, &u, 4);
    return x;
}

/* What is greater than `at` stays, and the first `n_equal` of what is equal. */
struct edge { float at; uint64_t n_equal; };

/* The greatest value at which the sum of mass (NULL: 1 each) from there on upwards reaches `want`, 0 < want; digit by
 * digit from the top.  All stays if it is never reached. */
static struct edge find_edge(uint64_t *sum, const float *x, const uint64_t *mass, uint32_t n, uint64_t want)
{
    static const struct { uint32_t shift, bits; } digits[] = { { 21, 11 }, { 10, 11 }, { 0, 10 } };
    uint64_t prefix = 0;
    for (int k = 0; k < 3; k++) {
        uint32_t shift = digits[k].shift, bits = digits[k].bits, digit = (1u << bits) - 1;
        memset(sum, 0, N_DIGIT * sizeof *sum);
        for (uint32_t i = 0; i < n; i++) {
            uint64_t u = order_of(x[i]) >> shift;
            if (u >> bits == prefix)
                sum[u & digit] += mass ? mass[i] : 1;
        }
        uint32_t at = digit;
        for (; at && sum[at] < want; at--)
            want -= sum[at];
        if (sum[at] < want)
            return (struct edge){ -INFINITY, n };
        prefix = prefix << bits | at;
    }
    struct edge e = { of_order((uint32_t)prefix), want };
    for (uint32_t i = 0; mass; i++)
        if (x[i] == e.at)
            return (struct edge){ e.at, (want + mass[i] - 1) / mass[i] };
    return e;
}

/* The list without what is beyond the edge; returns its length. */
static uint32_t cut_list(struct work *w, uint32_t n, struct edge e)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i++) {
        bool equal = w->x[i] == e.at;
        if (w->x[i] < e.at || (equal && !e.n_equal))
            continue;
        w->x[kept] = w->x[i];
        w->id[kept++] = w->id[i];
        e.n_equal -= equal;
    }
    return kept;
}

/* Makes the edge the row's floor: equal values that are beyond it leave the row. */
static void cut_row(struct work *w, uint32_t n, struct edge e)
{
    if (e.at > w->floor)
        w->floor = e.at;
    for (uint32_t i = 0; i < n; i++) {
        if (w->x[i] != e.at)
            continue;
        if (e.n_equal)
            e.n_equal--;
        else
            w->l[w->id[i]] = -INFINITY;
    }
}

/* Lists the k best, or somewhat more, but nothing below floor; needs the maxima. */
static uint32_t list_best(struct work *w, uint32_t k, float floor)
{
    if (k < w->n_max) {
        float least = find_edge(w->sum, w->maxima, NULL, w->n_max, k).at * w->scale;
        floor = least > floor ? least : floor;
    }
    return w->vec->collect(w->l, w->n, w->scale, floor, w->x, w->id);
}

/* ---- a row ---- */

static void keep_top_k(struct work *w, uint32_t k, uint32_t *n)
{
    *n = list_best(w, k, w->floor);
    if (*n < k)                        /* the floor alone leaves fewer */
        return;
    struct edge e = find_edge(w->sum, w->x, NULL, *n, k);
    cut_row(w, *n, e);
    *n = cut_list(w, *n, e);
}

/* Lists what can be among the best that have top_p of the mass above the floor; returns that mass. */
static uint64_t list_top_p(struct work *w, float top, double top_p, uint32_t *n)
{
    uint64_t total = mass_above(w, top, w->floor);
    double mean = (1 - top_p) * (double)total * 0x1p-44 / w->n;
    float least = top + (float)(log(mean) - 0.01);     /* 0.01 is more than all rounding on the way */
    *n = w->vec->collect(w->l, w->n, w->scale, least > w->floor ? least : w->floor, w->x, w->id);
    return total;
}

/* The fewest best whose mass is at least top_p of the whole stay: of the list, or of all that was listed from. */
static void keep_top_p(struct work *w, float top, double top_p, bool listed, uint32_t n)
{
    uint64_t total = listed ? 0 : list_top_p(w, top, top_p, &n);
    w->vec->masses(w->x, n, top, w->mass);
    for (uint32_t i = 0; listed && i < n; i++)
        total += w->mass[i];
    double want = ceil(top_p * (double)total);
    struct edge e = find_edge(w->sum, w->x, w->mass, n, want < 1 ? 1 : (uint64_t)want);
    cut_row(w, n, e);
}

/* Sets the floor; of what is equal to it, the row keeps what may stay. */
static void filter(struct work *w, const struct sample_row *r)
{
    bool min_p = r->min_p > 0, top_k = r->top_k && r->top_k < w->n, top_p = r->top_p < 1;
    uint32_t n = 0;
    w->floor = -INFINITY;
    if (!min_p && !top_k && !top_p)
        return;
    float top = find_maxima(w) * w->scale;
    if (!isfinite(top))
        return;
    if (min_p)
        w->floor = r->min_p < 1 ? top + (float)log((double)r->min_p) : top;
    if (top_k)
        keep_top_k(w, r->top_k, &n);
    if (top_p)
        keep_top_p(w, top, (double)r->top_p, top_k, n);
}

static uint32_t pick(struct work *w, const struct sample_row *r)
{
    if (!(r->temperature > COLDEST))
        return best_id(w, best_job);
    w->scale = 1 / r->temperature;
    w->seed = r->seed;
    w->stream = r->stream;
    filter(w, r);
    return best_id(w, draw_job);
}

static int compare_best(const void *a, const void *b)
{
    const struct best *x = a, *y = b;
    if (x->value != y->value)
        return x->value > y->value ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* The row's n_top best, and what a logit is above its logprob. */
static void rank(struct work *w, uint32_t row, uint32_t n_top)
{
    w->scale = 1;
    float top = find_maxima(w);
    w->log_total = isfinite(top) ? top + log((double)mass_above(w, top, -INFINITY) * 0x1p-44) : 0;
    if (!n_top)
        return;
    uint32_t n = list_best(w, n_top, -INFINITY);
    if (n > n_top)
        n = cut_list(w, n, find_edge(w->sum, w->x, NULL, n, n_top));
    struct best *ranked = (struct best *)w->mass;      /* not in use now, and no smaller */
    for (uint32_t i = 0; i < n; i++)
        ranked[i] = (struct best){ w->x[i], w->id[i] };
    qsort(ranked, n, sizeof *ranked, compare_best);
    for (uint32_t i = 0; i < n; i++) {
        w->op->top_ids[(size_t)row * w->op->max_top + i] = (int32_t)ranked[i].id;
        w->op->top_logprobs[(size_t)row * w->op->max_top + i] = (float)(ranked[i].value - w->log_total);
    }
}

static void edit(struct work *w, const struct logit_edit *e, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        CHECK((uint32_t)e[i].id < w->n);
        float l = w->saved[i] = w->l[e[i].id];
        w->l[e[i].id] = (l > 0 ? l / e[i].repeat : l * e[i].repeat) + e[i].add;
    }
}

/* What stood in the row before its edits. */
static float raw_logit(const struct work *w, const struct sample_row *r, uint32_t id)
{
    for (uint32_t i = 0; i < r->n_edit; i++)
        if ((uint32_t)w->op->edits[r->edit_start + i].id == id)
            return w->saved[i];
    return w->l[id];
}

static void sample_one(struct work *w, uint32_t row)
{
    const struct sample_row *r = &w->op->rows[row];
    w->l = (float *)w->op->logits.data + (size_t)row * w->n;
    if (w->op->softcap > 0 || w->op->logit_scale != 1)
        pass(w, soften_job);
    if (r->n_top >= 0)
        rank(w, row, (uint32_t)r->n_top);
    if (r->n_edit)
        edit(w, w->op->edits + r->edit_start, r->n_edit);
    uint32_t id = pick(w, r);
    w->op->ids[row] = (int32_t)id;
    if (r->n_top >= 0)
        w->op->logprobs[row] = (float)(raw_logit(w, r, id) - w->log_total);
}

/* ---- all rows ---- */

struct sample_job { struct cpu_device *cpu; const struct sample *op; uint32_t n_edit; };

static void *carve(char **at, size_t size)
{
    void *p = *at;
    *at += (size + 63) / 64 * 64;
    return p;
}

static struct work open_work(const struct sample_job *job, int thread, bool shared)
{
    size_t n = job->op->logits.cols, n_max = (n + SAMPLE_CHUNK - 1) / SAMPLE_CHUNK * 16, n_thread = (size_t)pool_size(job->cpu->pool);
    size_t size = n_thread * sizeof(struct part) + N_DIGIT * 8 + (n_max + job->n_edit) * 4 + n * 16 + 7 * 64;
    char *at = cpu_scratch(job->cpu, thread, size);
    return (struct work){
        .cpu = job->cpu, .vec = vec_sample(job->cpu->tier), .op = job->op, .shared = shared,
        .n = (uint32_t)n, .n_max = (uint32_t)n_max,
        .parts = carve(&at, n_thread * sizeof(struct part)), .sum = carve(&at, N_DIGIT * 8), .maxima = carve(&at, n_max * 4),
        .saved = carve(&at, job->n_edit * 4), .x = carve(&at, n * 4), .id = carve(&at, n * 4), .mass = carve(&at, n * 8),
    };
}

static void sample_job(void *arg, int thread, int n_thread)
{
    const struct sample_job *job = arg;
    struct work w = open_work(job, thread, false);
    for (uint32_t row = (uint32_t)thread; row < job->op->logits.rows; row += (uint32_t)n_thread)
        sample_one(&w, row);
}

void cpu_sample(struct device *d, const struct sample *op)
{
    CHECK(op->logits.dtype == DTYPE_F32 && op->logits.cols && op->logits.cols <= 1u << 19);
    struct sample_job job = { .cpu = cpu_of(d), .op = op };
    for (uint32_t i = 0; i < op->logits.rows; i++) {
        CHECK(op->rows[i].n_top <= (int32_t)op->max_top);
        job.n_edit = op->rows[i].n_edit > job.n_edit ? op->rows[i].n_edit : job.n_edit;
    }
    if (op->logits.rows >= (uint32_t)pool_size(job.cpu->pool) || op->logits.cols < SHARED_COLUMNS) {
        cpu_run(job.cpu, (size_t)op->logits.rows * op->logits.cols * 4, sample_job, &job);
        return;
    }
    struct work w = open_work(&job, 0, true);
    for (uint32_t row = 0; row < op->logits.rows; row++)
        sample_one(&w, row);
}

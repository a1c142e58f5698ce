#include "engine/engine.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "engine/batch.h"
#include "engine/sampler.h"
#include "model/forward.h"

#define MIN_WINDOW 1024        /* requests that wait in the scheduler: enough to sort and to group by prefix */

/* What a running sequence makes, by slot. */
struct run { struct output *output; int64_t last_ns; };

/* Tokens of a step on the host, once they are there. */
struct sampled { const int32_t *ids; const float *logprobs; const int32_t *top_ids; const float *top_logprobs; uint32_t max_top; };

/* A step from its plan until its tokens are absorbed, and the time it took of the loop. */
struct flight {
    const struct plan *plan;
    uint32_t *host;                /* what the device sampled, as in its part of engine.sampled */
    struct sampled sampled;
    int64_t start_ns, plan_ns, forward_ns, sample_ns;
    double device_s;               /* the device took for it */
};

struct engine {
    struct model *model;
    struct device *device;
    struct meter *meter;           /* NULL: nothing is measured */
    struct sched_config config;
    struct kv_shape kv_shape;
    struct kv *kv;
    struct blocks blocks;
    struct sched *sched;
    struct batch batch;
    struct sampler *sampler;
    struct forward *forward;
    struct run *runs;              /* [max_seqs] */
    uint32_t *sampled;             /* device, [2] by flight: ids [n_out], logprobs [n_out], top_ids and top_logprobs [n_out, max_top] */
    size_t    sampled_size;        /* of one */
    bool      ahead;
    uint64_t *in_flight;           /* or NULL */
    struct flight flights[2];      /* in turn; a step's marks on the device are twice its place and the next */
    uint32_t  n_launched;
    struct flight *flying;         /* NULL: no step is in flight */
    uint64_t  n_step;
    int64_t   start_ns, lap_ns;    /* clock: the run's begin; up to where time has been accounted for */
};

/* ---- opening ---- */

static uint32_t blocks_of_use(const struct engine *e)
{
    uint64_t a_seq = seq_blocks_for(e->model->config.max_position, e->kv_shape.block_size);
    uint64_t most = 2 * e->config.max_seqs * a_seq;         /* all sequences at full length, and as much to find again */
    uint64_t addressable = INT32_MAX / e->kv_shape.block_size;
    return (uint32_t)(most < addressable ? most : addressable);
}

static int choose_blocks(struct engine *e, const struct engine_config *c)
{
    size_t size = e->device->ops->kv_block_size(e->device, &e->kv_shape);
    uint32_t most = blocks_of_use(e);
    size_t held = c->kv_memory / size;
    e->kv_shape.n_block = c->n_block ? c->n_block : held < most ? (uint32_t)held : most;
    if (!e->kv_shape.n_block)
        return err_set("KV memory of %zu bytes holds no block: one of %u tokens takes %zu bytes; give more KV memory", c->kv_memory,
                       c->block_size, size);
    if (e->kv_shape.n_block > INT32_MAX / c->block_size)
        return err_set("\"%u\" KV blocks of %u tokens are more than can be numbered; give fewer", c->n_block, c->block_size);
    return 0;
}

static int configure(struct engine *e, const struct engine_config *c)
{
    const struct model_config *m = &e->model->config;
    if (!c->max_seqs || !c->max_step_tokens)
        return err_set("a step needs at least one sequence and one token");
    if (!c->block_size || c->block_size % 16)
        return err_set("block size \"%u\" is not a multiple of 16", c->block_size);
    uint32_t max_seqs = c->max_seqs < c->max_step_tokens ? c->max_seqs : c->max_step_tokens;
    e->config = (struct sched_config){
        .max_seqs = max_seqs, .max_step_tokens = c->max_step_tokens, .max_context = m->max_position,
        .window = 4 * max_seqs > MIN_WINDOW ? 4 * max_seqs : MIN_WINDOW, .order = c->order,
    };
    e->kv_shape = (struct kv_shape){
        .n_layer = m->n_layer, .block_size = c->block_size, .n_kv_head = m->n_kv_head, .d_head = m->d_head,
        .dtype = c->kv_fp8 ? DTYPE_E4M3 : e->device->compute,
    };
    return choose_blocks(e, c);
}

struct engine *engine_open(struct model *m, const struct tokenizer *t, const struct engine_config *c, struct meter *meter)
{
    struct engine *e = mem_alloc(sizeof *e);
    e->model = m;
    e->device = m->device;
    e->meter = meter;
    if (configure(e, c)) {
        free(e);
        return NULL;
    }
    e->kv = e->device->ops->kv_open(e->device, &e->kv_shape);
    blocks_init(&e->blocks, e->kv_shape.n_block, e->kv_shape.block_size, c->prefix_cache);
    e->sched = sched_open(&e->config, &e->blocks);
    e->ahead = c->ahead || e->device->async;
    e->in_flight = c->in_flight;
    batch_open(&e->batch, e->device, &e->config, engine_max_len(e), e->kv_shape.block_size, e->ahead);
    e->sampler = sampler_open(&m->config, t, e->config.max_seqs);
    e->forward = forward_open(m, e->kv, e->config.max_step_tokens, e->config.max_seqs, engine_max_len(e));
    e->runs = mem_array(e->config.max_seqs, sizeof *e->runs);
    e->sampled_size = (size_t)e->config.max_seqs * (2 + 2 * SAMPLER_MAX_TOP) * sizeof *e->sampled;
    e->sampled = e->device->ops->alloc(e->device, 2 * e->sampled_size);
    for (int i = 0; i < 2; i++)
        e->flights[i].host = e->device->ops->host_alloc(e->device, e->sampled_size);
    return e;
}

void engine_close(struct engine *e)
{
    if (!e)
        return;
    e->device->ops->free(e->device, e->sampled, 2 * e->sampled_size);
    for (int i = 0; i < 2; i++)
        e->device->ops->host_free(e->device, e->flights[i].host, e->sampled_size);
    free(e->runs);
    forward_close(e->forward);
    sampler_close(e->sampler);
    batch_close(&e->batch);
    sched_close(e->sched);
    blocks_free(&e->blocks);
    e->device->ops->kv_close(e->device, e->kv);
    free(e);
}

uint32_t engine_max_len(const struct engine *e)
{
    return sched_max_len(e->sched);
}

void engine_forget(struct engine *e)
{
    CHECK(!sched_busy(e->sched));
    bool index = e->blocks.index;
    blocks_free(&e->blocks);
    blocks_init(&e->blocks, e->kv_shape.n_block, e->kv_shape.block_size, index);
}

uint64_t engine_kv_blocks(const struct engine *e)
{
    return e->kv_shape.n_block;
}

uint64_t engine_kv_bytes(const struct engine *e)
{
    return (uint64_t)e->kv_shape.n_block * e->device->ops->kv_block_size(e->device, &e->kv_shape);
}

/* ---- time ---- */

/* Nanoseconds since the last call: whoever calls accounts for them. */
static int64_t lap(struct engine *e)
{
    int64_t now = clock_ns(), since = now - e->lap_ns;
    e->lap_ns = now;
    return since;
}

static void account(struct engine *e, enum stage stage, int64_t ns, uint32_t items, uint32_t tokens)
{
    if (e->meter)
        stage_add(meter_engine_clock(e->meter), stage, ns, items, tokens);
}

/* What a step was, for its accounts. */
struct work { uint32_t n_seq, n_tok, n_out; uint64_t context; };

static void add_work(struct work *w, const struct plan_part *part)
{
    if (part->dropped)
        return;
    w->n_seq++;
    w->n_tok += part->n;
    w->n_out += part->out;
    w->context += (uint64_t)part->n * part->from + (uint64_t)part->n * (part->n + 1) / 2;
}

static struct forward_cost cost_of(const struct engine *e, const struct work *w)
{
    const struct model *m = e->model;
    struct forward_sizes sizes = { dtype_size(m->weight_dtype), dtype_size(m->head_dtype), dtype_size(e->kv_shape.dtype) };
    return forward_cost_tokens(&m->config, &sizes, w->n_tok, w->context, w->n_out);
}

/* A mixed step's time is shared between its prefill and its decode tokens by what each would cost alone: the mean of its
 * share of the FLOPs and its share of the bytes, because a step is bound by the one in some of its parts and by the
 * other in the rest. */
static void account_forward(struct engine *e, const struct plan *p, int64_t ns)
{
    struct work prefill = { 0 }, decode = { 0 }, all = { 0 };
    for (uint32_t i = 0; i < p->n_part; i++) {
        add_work(p->part[i].decode ? &decode : &prefill, &p->part[i]);
        add_work(&all, &p->part[i]);
    }
    struct forward_cost a = cost_of(e, &prefill), b = cost_of(e, &decode), c = cost_of(e, &all);
    double share = !prefill.n_seq ? 0 : !decode.n_seq ? 1 : (a.flops / (a.flops + b.flops) + a.bytes / (a.bytes + b.bytes)) / 2;
    int64_t prefill_ns = (int64_t)(share * (double)ns);
    if (prefill.n_seq)
        account(e, STAGE_PREFILL, prefill_ns, prefill.n_seq, prefill.n_tok - p->n_again);
    if (decode.n_seq || !prefill.n_seq)
        account(e, STAGE_DECODE, ns - prefill_ns, decode.n_seq, decode.n_tok);
    if (e->meter)
        meter_cost(e->meter, c.flops, c.bytes);
}

/* ---- answers ---- */

/* Waiting for room in the queue is not work of ours. */
static void give_answer(struct engine *e, struct queue *out, struct answer *a)
{
    int64_t start = clock_ns();
    if (!queue_put(out, a))
        answer_free(a);
    int64_t waited = clock_ns() - start;
    e->lap_ns += waited;
    account(e, STAGE_IDLE, waited, 0, 0);
}

static void begin_output(struct engine *e, const struct seq *q)
{
    struct answer *a = q->owner;
    struct output *o = &a->outputs[q->choice];
    const struct sampling *w = &a->request->sampling;
    size_t most = q->max_len - q->n_prompt;
    if (w->logprobs >= 0)
        o->logprobs = mem_array(most, sizeof *o->logprobs);
    if (w->logprobs > 0) {
        o->n_top = (uint32_t)w->logprobs;
        o->tops = mem_array(most * o->n_top, sizeof *o->tops);
    }
    e->runs[q->slot] = (struct run){ .output = o };
    if (e->in_flight)
        e->in_flight[q->slot] = a->request->index + 1;
    sampler_begin(e->sampler, q, a->request);
}

static void end_output(struct engine *e, struct seq *q, enum verdict verdict, struct queue *out)
{
    struct answer *a = q->owner;
    struct output *o = e->runs[q->slot].output;
    o->n_generated = q->n_token - q->n_prompt;
    o->n_id = o->n_generated - (verdict == VERDICT_STOP_TOKEN);
    o->finish = verdict == VERDICT_LENGTH ? FINISH_LENGTH : FINISH_STOP;
    o->at_text = verdict == VERDICT_STOP_TEXT;
    o->last_ns = e->runs[q->slot].last_ns;
    o->ids = mem_array(o->n_id, sizeof *o->ids);
    memcpy(o->ids, q->tokens + q->n_prompt, o->n_id * sizeof *o->ids);
    if (o->logprobs)
        o->logprobs = mem_resize(o->logprobs, o->n_id, sizeof *o->logprobs);
    if (o->tops)
        o->tops = mem_resize(o->tops, (size_t)o->n_id * o->n_top, sizeof *o->tops);
    if (q->choice == 0)
        a->cached_tokens = q->n_cached;     /* the prompt counts once, whatever its answers share */
    a->recomputed_tokens += q->n_recomputed;
    a->n_preempted += q->n_preempted;
    sampler_end(e->sampler, q);
    if (e->in_flight)
        e->in_flight[q->slot] = 0;
    sched_finish(e->sched, q);
    if (!--a->n_left)
        give_answer(e, out, a);
}

static void refuse_answer(struct engine *e, struct queue *out, struct answer *a)
{
    free(a->outputs);
    a->outputs = NULL;
    a->n_output = a->n_left = 0;
    give_answer(e, out, a);
}

/* ---- requests come in ---- */

/* A line's own max_tokens must fit; the run's default is cut to what does. */
static uint32_t most_tokens(const struct engine *e, const struct request *r)
{
    uint32_t most = (uint32_t)r->sampling.max_tokens, max_len = engine_max_len(e);
    uint32_t left = r->n_prompt < max_len ? max_len - r->n_prompt : most;
    return r->sampling.own_max_tokens || most < left ? most : left;
}

static void accept_request(struct engine *e, struct answer *a, struct queue *out)
{
    struct request *r = a->request;
    struct sched_request wish = {
        .prompt = r->prompt_ids, .n_prompt = r->n_prompt, .max_new = most_tokens(e, r), .n = a->n_output, .owner = a,
        .sees_tokens = sampler_sees_tokens(r),
    };
    a->arrival_ns = a->due ? a->arrival_ns : clock_ns();
    if (!r->error && (sampler_check(e->sampler, r) || sched_add(e->sched, &wish)))
        request_fail(r, "%s", err_text());
    if (r->error)
        refuse_answer(e, out, a);
}

static void drop_answer(void *owner)
{
    answer_free(owner);
}

/* Fills the scheduler's window from the queue; waits for it only when there is nothing to run.  False: all is done. */
static bool take_in(struct engine *e, struct queue *in, struct queue *out, const atomic_bool *stop)
{
    while (!*stop && !sched_full(e->sched)) {
        struct answer *a = queue_try_take(in);
        if (!a && !sched_busy(e->sched)) {
            account(e, STAGE_QUEUE, lap(e), 0, 0);
            a = queue_take(in);
            account(e, STAGE_IDLE, lap(e), 0, 0);
        }
        if (!a)
            break;
        accept_request(e, a, out);
    }
    if (*stop)
        sched_forget_waiting(e->sched, drop_answer);
    return sched_busy(e->sched);
}

/* ---- a step: plan, build, forward, sample; absorb ---- */

static const struct plan *plan_step(struct engine *e)
{
    const struct plan *p = sched_plan(e->sched);
    sampler_clear(e->sampler);
    for (uint32_t i = 0; i < p->n_part; i++) {
        struct seq *q = p->part[i].seq;
        struct answer *a = q->owner;
        if (p->part[i].first)
            begin_output(e, q);
        if (p->part[i].out)
            sampler_put(e->sampler, q, p->part[i].from + p->part[i].n);
        if (!a->scheduled_ns)
            a->scheduled_ns = clock_ns();
    }
    return p;
}

/* Where in engine.sampled the ids begin that flight i samples, in words. */
static uint32_t sampled_at(const struct engine *e, uint32_t i)
{
    return (uint32_t)(i * (e->sampled_size / sizeof *e->sampled));
}

/* The plan of flight i as a step, whose pending tokens are those of the other flight. */
static const struct step *build_step(struct engine *e, const struct plan *p, uint32_t i)
{
    return batch_build(&e->batch, p, (const int32_t *)e->sampled, sampled_at(e, 1 - i));
}

/* The logits' rows behind those of the plan pad the step. */
static void sample_step(struct engine *e, struct flight *f, struct tensor logits)
{
    struct sample_rows r = sampler_rows(e->sampler);
    size_t n = logits.rows = r.n_row, n_top = n * r.max_top;
    uint32_t *at = e->sampled + sampled_at(e, (uint32_t)(f - e->flights)), *host = f->host;
    f->sampled = (struct sampled){
        (const int32_t *)host, (const float *)(host + n), (const int32_t *)(host + 2 * n), (const float *)(host + 2 * n + n_top), r.max_top,
    };
    if (!n)
        return;
    e->device->ops->sample(e->device, &(struct sample){
        .logits = logits, .logit_scale = 1, .rows = r.rows, .edits = r.edits, .max_top = r.max_top, .ids = (int32_t *)at,
        .logprobs = (float *)(at + n), .top_ids = (int32_t *)(at + 2 * n), .top_logprobs = (float *)(at + 2 * n + n_top) });
    e->device->ops->download(e->device, host, at, (2 * n + 2 * n_top) * sizeof *at);
}

/* The next step, enqueued; NULL: there is none before the tokens in flight are known.  The step before may still run.  What
 * it reads and writes on the device may be written again all the same, being enqueued behind it; on the host its plan
 * and its tokens are the other flight's. */
static struct flight *launch_step(struct engine *e)
{
    uint32_t i = e->n_launched & 1;
    struct flight *f = &e->flights[i];
    f->start_ns = e->lap_ns;
    f->plan = plan_step(e);
    if (!f->plan->n_part) {
        account(e, STAGE_QUEUE, lap(e), 0, 0);
        return NULL;
    }
    e->device->ops->mark(e->device, (int)(2 * i));
    const struct step *step = build_step(e, f->plan, i);
    f->plan_ns = lap(e);
    struct tensor logits = forward_run(e->forward, step);
    if (!e->ahead)
        e->device->ops->sync(e->device);
    f->forward_ns = lap(e);
    sample_step(e, f, logits);
    e->device->ops->mark(e->device, (int)(2 * i + 1));
    e->n_launched++;
    return f;
}

static void keep_logprobs(struct output *o, uint32_t at, const struct sampled *s, uint32_t row)
{
    if (o->logprobs)
        o->logprobs[at] = s->logprobs[row];
    for (uint32_t k = 0; k < o->n_top; k++)
        o->tops[(size_t)at * o->n_top + k] = (struct token_top){
            .id = s->top_ids[(size_t)row * s->max_top + k], .logprob = s->top_logprobs[(size_t)row * s->max_top + k],
        };
}

static void keep_time(struct engine *e, struct run *run, int64_t now)
{
    if (!run->output->first_ns)
        run->output->first_ns = now;
    else if (e->meter)
        meter_gap(e->meter, now - run->last_ns, 1);
    run->last_ns = now;
}

static void absorb_step(struct engine *e, const struct flight *f, struct queue *out)
{
    const struct plan *p = f->plan;
    int64_t now = clock_ns();
    uint32_t row = 0;
    for (uint32_t i = 0; i < p->n_part; i++) {
        struct seq *q = p->part[i].seq;
        if (!p->part[i].out)
            continue;
        uint32_t at = row++;
        if (p->part[i].dropped)
            continue;
        struct run *run = &e->runs[q->slot];
        keep_logprobs(run->output, q->n_token - q->n_prompt, &f->sampled, at);
        keep_time(e, run, now);
        sched_append(e->sched, q, f->sampled.ids[at]);
        enum verdict verdict = sampler_judge(e->sampler, q);
        if (verdict != VERDICT_GO_ON)
            end_output(e, q, verdict, out);
    }
}

static void record_step(struct engine *e, const struct flight *f)
{
    const struct plan *p = f->plan;
    account(e, STAGE_QUEUE, f->plan_ns, p->n_part - p->n_dropped, p->n_tok);
    account_forward(e, p, f->forward_ns);
    if (p->n_out)
        account(e, STAGE_SAMPLE, f->sample_ns, p->n_out, p->n_out);
    if (!e->meter)
        return;
    int64_t whole = f->plan_ns + f->forward_ns + f->sample_ns;
    struct step_row row = {
        .step = e->n_step++, .start_s = (double)(f->start_ns - e->start_ns) * 1e-9, .time_ms = (double)whole * 1e-6,
        .plan_ms = (double)f->plan_ns * 1e-6, .forward_ms = (double)f->forward_ns * 1e-6, .sample_ms = (double)f->sample_ns * 1e-6,
        .n_seq = p->n_part - p->n_dropped, .n_prefill_tok = p->n_prefill, .n_decode_tok = p->n_decode, .n_out = p->n_out,
        .n_waiting = sched_n_waiting(e->sched), .n_preempted = p->n_preempted,
        .kv_used = e->blocks.n_block - e->blocks.n_idle, .kv_total = e->blocks.n_block, .device_ms = f->device_s * 1e3,
        .begin_ns = f->start_ns, .end_ns = e->lap_ns,
    };
    meter_step(e->meter, &row);
}

/* One step ahead, the time until the tokens are there is that of the forward pass and the sampling together. */
static void land_step(struct engine *e, struct flight *f, struct queue *out)
{
    int mark = (int)(2 * (f - e->flights));
    e->device->ops->wait(e->device, mark + 1);
    f->device_s = e->device->ops->elapsed(e->device, mark, mark + 1);
    if (e->ahead)
        f->forward_ns += lap(e);
    absorb_step(e, f, out);
    f->sample_ns = lap(e);
    record_step(e, f);
}

/* What is still in flight when nothing runs any more holds dropped parts alone. */
static void run_step(struct engine *e, struct queue *out)
{
    struct flight *before = e->flying;
    e->flying = launch_step(e);
    if (before)
        land_step(e, before, out);
    if (e->flying && (!e->ahead || !sched_busy(e->sched))) {
        land_step(e, e->flying, out);
        e->flying = NULL;
    }
}

void engine_run(struct engine *e, struct queue *in, struct queue *out, const atomic_bool *stop)
{
    e->start_ns = e->lap_ns = clock_ns();
    e->n_step = 0;
    while (take_in(e, in, out, stop))
        run_step(e, out);
    account(e, STAGE_QUEUE, lap(e), 0, 0);
}

struct visitor { void (*visit)(const struct request *r, void *arg); void *arg; };

static void visit_answer(void *owner, void *arg)
{
    const struct visitor *v = arg;
    v->visit(((const struct answer *)owner)->request, v->arg);
}

void engine_in_flight(const struct engine *e, void (*visit)(const struct request *r, void *arg), void *arg)
{
    sched_each_begun(e->sched, visit_answer, &(struct visitor){ visit, arg });
}

/* ---- warm-up ---- */

static void warm_run(struct engine *e, const struct plan *p, const struct sample_row *rows)
{
    struct tensor logits = forward_run(e->forward, build_step(e, p, 0));
    logits.rows = p->n_out;
    e->device->ops->sample(e->device, &(struct sample){ .logits = logits, .logit_scale = 1, .rows = rows, .ids = (int32_t *)e->sampled,
                                                        .logprobs = (float *)(e->sampled + p->n_out) });
    e->device->ops->sync(e->device);
}

/* Steps of n_seq sequences of n_tok tokens each, as far as there are blocks: as often as it takes until they are recorded. */
static void warm_step(struct engine *e, uint32_t n_seq, uint32_t n_tok)
{
    uint32_t n_col = e->batch.table_cols;
    int32_t *tokens = mem_array(n_tok, sizeof *tokens);
    struct seq *seqs = mem_array(n_seq, sizeof *seqs);
    uint32_t *table = mem_array((size_t)n_seq * n_col, sizeof *table);
    struct plan p = { .part = mem_array(n_seq, sizeof *p.part) };
    struct sample_row *rows = mem_array(n_seq, sizeof *rows);
    for (uint32_t i = 0; i < n_seq; i++) {
        seqs[i] = (struct seq){ .slot = i, .tokens = tokens, .block = table + (size_t)i * n_col };
        if (seq_grow(&seqs[i], &e->blocks, n_tok) < n_tok)
            break;
        p.part[p.n_part++] = (struct plan_part){ .seq = &seqs[i], .n = n_tok, .out = true };
        p.n_tok += n_tok;
        p.n_out++;
        rows[i] = (struct sample_row){ .temperature = 1, .top_p = 1, .n_top = -1 };
    }
    for (int k = 0; k < (e->device->async ? 2 : 1) && p.n_part; k++)
        warm_run(e, &p, rows);
    for (uint32_t i = 0; i < n_seq; i++)
        seq_drop_blocks(&seqs[i], &e->blocks);
    free(rows);
    free(p.part);
    free(table);
    free(seqs);
    free(tokens);
}

/* The largest first, so that memory which grows does so once. */
void engine_warm_up(struct engine *e)
{
    uint32_t n_tok = e->config.max_step_tokens, most = e->config.max_seqs;
    e->device->ops->tune(e->device, true);
    warm_step(e, 1, n_tok < engine_max_len(e) ? n_tok : engine_max_len(e));
    warm_step(e, most, 1);
    for (uint32_t n = 1; n < most; n = e->batch.padded ? n + 1 : 2 * n) {
        n = e->batch.padded ? device_bucket(n) : n;
        if (n < most)
            warm_step(e, n, 1);
    }
    e->device->ops->tune(e->device, false);
}

/* The scheduler against a model that is only a hash: each step writes its tokens into the blocks, then every running
 * sequence must find exactly its own tokens there.  Tiny pools on purpose, so that every edge is met within a few steps;
 * invariants after each. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/rng.h"
#include "engine/sched.h"

#define MAX_PROMPT 24
#define MAX_N 3
#define MAX_SEQS 32

struct job {
    int32_t prompt[MAX_PROMPT]; uint32_t n_prompt, max_new, n; bool to_the_end, sees_tokens, seen;
    uint32_t n_started, n_ended; bool ended[MAX_N];
    uint64_t answer[MAX_N];        /* hash of all tokens of each answer */
    uint32_t first_step, cached, recomputed, preempted, computed[MAX_N];
};

struct world {
    struct blocks blocks;
    struct sched *sched;
    int32_t *kv;                   /* [n_block, block_size] the token written there */
    uint32_t n_step, n_preempted, n_dropped, n_admitted, step_tokens;
    uint64_t n_again;
    bool ahead;                    /* the next step is planned before the tokens of the last one are known */
    struct flight { const struct plan *plan; int32_t ids[MAX_SEQS]; } flights[2], *flying;
};

static void open_world(struct world *w, const struct sched_config *c, uint32_t n_block, uint32_t block_size, bool index)
{
    *w = (struct world){ .step_tokens = c->max_step_tokens };
    assert_true(c->max_seqs <= MAX_SEQS);
    blocks_init(&w->blocks, n_block, block_size, index);
    w->sched = sched_open(c, &w->blocks);
    w->kv = mem_array((size_t)n_block * block_size, sizeof *w->kv);
}

/* Blocks of 4 tokens, first come first served. */
static void open_small(struct world *w, uint32_t max_seqs, uint32_t step_tokens, uint32_t n_block, bool index)
{
    struct sched_config c = { .max_seqs = max_seqs, .max_step_tokens = step_tokens, .max_context = 64, .window = 200 };
    open_world(w, &c, n_block, 4, index);
}

static void close_world(struct world *w)
{
    assert_int_equal(w->blocks.n_idle, w->blocks.n_block);
    assert_null(w->flying);
    sched_close(w->sched);
    blocks_free(&w->blocks);
    free(w->kv);
}

static int32_t *kv_at(const struct world *w, const struct seq *q, uint32_t pos)
{
    uint32_t size = w->blocks.block_size;
    assert_true(pos / size < q->n_block);
    return &w->kv[(size_t)q->block[pos / size] * size + pos % size];
}

static void end_answer(struct world *w, struct seq *q)
{
    struct job *j = q->owner;
    assert_false(j->ended[q->choice]);
    j->ended[q->choice] = true;
    j->answer[q->choice] = hash_bytes(q->tokens, q->n_token * sizeof *q->tokens, 1);
    j->n_ended++;
    assert_int_equal(j->computed[q->choice], q->n_high - q->n_cached + q->n_recomputed);
    j->cached += q->n_cached;
    j->recomputed += q->n_recomputed;
    j->preempted += q->n_preempted;
    sched_finish(w->sched, q);
}

static void check_plan(const struct world *w, const struct plan *p)
{
    uint32_t n_tok = 0, n_out = 0;
    for (uint32_t i = 0; i < p->n_part; i++) {
        const struct plan_part *part = &p->part[i];
        assert_true(part->n >= 1);
        assert_int_equal(part->seq->n_done, part->from + part->n);
        assert_int_equal(part->out, part->seq->n_done == part->seq->n_token + part->seq->n_pending - part->out);
        assert_int_equal(part->pending, part->from + part->n > part->seq->n_token);
        assert_true(!part->pending || (w->ahead && part->decode && !((struct job *)part->seq->owner)->sees_tokens));
        n_tok += part->n;
        n_out += part->out;
        for (uint32_t k = 0; k < i; k++)
            assert_ptr_not_equal(part->seq, p->part[k].seq);
    }
    assert_true(n_tok <= w->step_tokens);
    assert_int_equal(n_tok, p->n_tok);
    assert_int_equal(n_tok, p->n_prefill + p->n_decode);
    assert_int_equal(n_out, p->n_out);
}

/* What the device does: writes first, reads after.  The next token is a function of all tokens before it, as they lie in the
 * blocks, and of the choice. */
static void write_and_read(const struct world *w, const struct plan *p, const int32_t *prev, int32_t *ids)
{
    for (uint32_t i = 0; i < p->n_part; i++)
        for (uint32_t k = 0; k < p->part[i].n; k++) {
            const struct plan_part *part = &p->part[i];
            *kv_at(w, part->seq, part->from + k) = part->pending ? prev[part->prev_row] : part->seq->tokens[part->from + k];
        }
    for (uint32_t i = 0; i < p->n_part; i++) {
        const struct seq *q = p->part[i].seq;
        uint64_t hash = q->choice;
        for (uint32_t pos = 0; pos < p->part[i].from + p->part[i].n; pos++) {
            const int32_t *token = kv_at(w, q, pos);
            assert_true(pos >= q->n_token || *token == q->tokens[pos]);
            hash = hash_bytes(token, sizeof *token, hash);
        }
        if (p->part[i].out)
            *ids++ = (int32_t)(hash % 12);
    }
}

static struct flight *launch_step(struct world *w)
{
    struct flight *f = &w->flights[w->flying == &w->flights[0]];
    const struct plan *p = f->plan = sched_plan(w->sched);
    check_plan(w, p);
    assert_true(sched_sane(w->sched));
    w->n_step++;
    w->n_preempted += p->n_preempted;
    w->n_again += p->n_again;
    write_and_read(w, p, w->flying ? w->flying->ids : NULL, f->ids);
    for (uint32_t i = 0; i < p->n_part; i++) {
        const struct seq *q = p->part[i].seq;
        struct job *j = q->owner;
        if (p->part[i].first && !j->n_started++)
            j->first_step = w->n_admitted++;
        j->computed[q->choice] += p->part[i].n;
    }
    return p->n_part ? f : NULL;
}

/* Token 0 ends, unless the job goes on to its end. */
static void land_step(struct world *w, const struct flight *f)
{
    const int32_t *ids = f->ids;
    uint32_t n_out = 0;
    for (uint32_t i = 0; i < f->plan->n_part; i++) {
        const struct plan_part *part = &f->plan->part[i];
        if (!part->out)
            continue;
        int32_t id = *ids++;
        if (part->dropped)
            continue;
        struct seq *q = part->seq;
        n_out++;
        sched_append(w->sched, q, id);
        if ((id == 0 && !((struct job *)q->owner)->to_the_end) || q->n_token == q->max_len)
            end_answer(w, q);
    }
    w->n_dropped += f->plan->n_dropped;
    assert_int_equal(n_out, f->plan->n_out);
    assert_true(sched_sane(w->sched));
}

/* Returns the plan of the step that began. */
static const struct plan *run_step(struct world *w)
{
    struct flight *before = w->flying;
    w->flying = launch_step(w);
    const struct flight *begun = &w->flights[before == &w->flights[0]];
    if (before)
        land_step(w, before);
    if (w->flying && (!w->ahead || !sched_busy(w->sched))) {
        land_step(w, w->flying);
        w->flying = NULL;
    }
    return begun->plan;
}

static int add_job(struct world *w, struct job *j)
{
    struct sched_request r = {
        .prompt = j->prompt, .n_prompt = j->n_prompt, .max_new = j->max_new, .n = j->n, .owner = j, .sees_tokens = j->sees_tokens,
    };
    return sched_add(w->sched, &r);
}

/* Few different tokens and beginnings, so that prompts share blocks. */
static void make_job(struct job *j, struct rng *r, uint32_t max_prompt, uint32_t max_new)
{
    *j = (struct job){ .n_prompt = 1 + rng_below(r, max_prompt), .max_new = 1 + rng_below(r, max_new), .n = 1 };
    if (rng_below(r, 4) == 0)
        j->n = 1 + rng_below(r, MAX_N);
    j->sees_tokens = rng_below(r, 4) == 0;
    uint32_t kind = rng_below(r, 3);
    for (uint32_t i = 0; i < j->n_prompt; i++)
        j->prompt[i] = (int32_t)(kind && i + 2 < j->n_prompt ? kind + i : 1 + rng_below(r, 9));
}

/* ---- the same jobs through every configuration ---- */

#define N_JOB 120

struct walk { uint32_t max_seqs, step_tokens, n_block; bool index; enum sched_order order; };

static void run_jobs(struct job *jobs, const struct walk *k, bool ahead, uint32_t *n_preempted)
{
    struct world w;
    struct sched_config c = {
        .max_seqs = k->max_seqs, .max_step_tokens = k->step_tokens, .max_context = 1000, .window = 16, .order = k->order,
    };
    open_world(&w, &c, k->n_block, 4, k->index);
    w.ahead = ahead;
    uint32_t next = 0;
    while (next < N_JOB || sched_busy(w.sched)) {
        while (next < N_JOB && !sched_full(w.sched))
            assert_int_equal(add_job(&w, &jobs[next++]), 0);
        run_step(&w);
    }
    *n_preempted += w.n_preempted;
    close_world(&w);
}

static void answers_depend_on_the_request_alone(void **state)
{
    (void)state;
    static const struct walk walks[] = {
        { 1, 1, 8, false, ORDER_FCFS },   { 1, 64, 8, true, ORDER_FCFS },     { 3, 3, 8, true, ORDER_LONGEST },
        { 4, 4, 8, false, ORDER_PREFIX }, { 4, 7, 8, true, ORDER_PREFIX },    { 4, 64, 8, true, ORDER_LONGEST },
        { 4, 16, 9, false, ORDER_FCFS },  { 16, 64, 200, true, ORDER_PREFIX },
    };
    static struct job first[N_JOB], jobs[N_JOB];
    uint32_t n_preempted = 0;
    for (size_t k = 0; k < 2 * (sizeof walks / sizeof *walks); k++) {
        struct rng r;
        rng_init(&r, 7);
        for (uint32_t i = 0; i < N_JOB; i++)
            make_job(&jobs[i], &r, 20, 12);             /* the largest needs all 8 blocks of 4 */
        run_jobs(jobs, &walks[k / 2], k % 2, &n_preempted);
        for (uint32_t i = 0; i < N_JOB; i++) {
            assert_int_equal(jobs[i].n_started, jobs[i].n);
            assert_int_equal(jobs[i].n_ended, jobs[i].n);
            assert_true(walks[k / 2].index || !jobs[i].cached);
            for (uint32_t c = 0; k && c < jobs[i].n; c++)
                assert_true(jobs[i].answer[c] == first[i].answer[c]);
        }
        if (!k)
            memcpy(first, jobs, sizeof jobs);
    }
    assert_true(n_preempted > 20);
}

static void see(void *owner, void *arg)
{
    struct job *j = owner;
    (void)arg;
    assert_false(j->seen);
    j->seen = true;
}

/* Those that have begun are seen, once each. */
static void check_begun(const struct world *w, struct job *jobs, uint32_t n_job)
{
    sched_each_begun(w->sched, see, NULL);
    for (uint32_t i = 0; i < n_job; i++) {
        assert_int_equal(jobs[i].seen, jobs[i].n_started && jobs[i].n_ended < jobs[i].n);
        jobs[i].seen = false;
    }
}

/* ---- random walks: arrivals at random, pools of 2 to 8 blocks, 1 to 4 sequences ---- */

static void random_walk(uint64_t seed, uint32_t *n_preempted, uint32_t *n_refused, uint32_t *n_dropped)
{
    struct world w;
    struct rng r;
    static struct job jobs[60];
    rng_init(&r, seed);
    uint32_t n_block = 2 + rng_below(&r, 7), max_seqs = 1 + rng_below(&r, 4), n_added = 0;
    struct sched_config c = {
        .max_seqs = max_seqs, .max_step_tokens = max_seqs + rng_below(&r, 10), .max_context = 12 + rng_below(&r, 10),
        .window = 1 + rng_below(&r, 5), .order = (enum sched_order)rng_below(&r, 3),
    };
    open_world(&w, &c, n_block, 1 + rng_below(&r, 4), rng_below(&r, 2));
    w.ahead = seed % 2;
    while (n_added < 60 || sched_busy(w.sched)) {
        while (n_added < 60 && !sched_full(w.sched) && rng_below(&r, 3)) {
            struct job *j = &jobs[n_added++];
            make_job(j, &r, 10, 10);
            bool fits = j->n_prompt + j->max_new <= sched_max_len(w.sched);
            assert_int_equal(add_job(&w, j), fits ? 0 : -1);
            j->n = fits ? j->n : 0;
            *n_refused += !fits;
        }
        run_step(&w);
        check_begun(&w, jobs, n_added);
        assert_true(w.n_step < 20000);                  /* no deadlock */
    }
    for (uint32_t i = 0; i < n_added; i++)
        assert_int_equal(jobs[i].n_ended, jobs[i].n);
    assert_true(w.ahead || !w.n_dropped);
    *n_preempted += w.n_preempted;
    *n_dropped += w.n_dropped;
    close_world(&w);
}

static void random_walks(void **state)
{
    (void)state;
    uint32_t n_preempted = 0, n_refused = 0, n_dropped = 0;
    for (uint64_t seed = 0; seed < 400; seed++)
        random_walk(seed, &n_preempted, &n_refused, &n_dropped);
    assert_true(n_preempted > 500 && n_refused > 500 && n_dropped > 500);
}

/* ---- refusals ---- */

#define BLOCKS " (4 KV blocks of 4 tokens; give more KV memory)"
#define CONTEXT " (the model's context)"

static void refuses_what_never_fits(void **state)
{
    (void)state;
    static const struct { uint32_t n_block, context, n_prompt, max_new; const char *why; } cases[] = {
        { 4, 100, 0, 5, "the prompt has no tokens" },
        { 4, 100, 15, 1, NULL },
        { 4, 100, 10, 6, NULL },
        { 4, 100, 15, 0, NULL },
        { 4, 100, 16, 0, "the prompt has 16 tokens, and with one token of output a sequence may have 16" BLOCKS },
        { 4, 100, 10, 7, "the prompt's 10 tokens and max_tokens 7 make 17, and a sequence may have 16" BLOCKS },
        { 4, 12, 10, 3, "the prompt's 10 tokens and max_tokens 3 make 13, and a sequence may have 12" CONTEXT },
        { 4, 12, 13, UINT32_MAX, "the prompt has 13 tokens, and with one token of output a sequence may have 12" CONTEXT },
        { 4, 12, 3, UINT32_MAX, "the prompt's 3 tokens and max_tokens 4294967295 make 4294967298, and a sequence may have 12" CONTEXT },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct world w;
        struct job j = { .n_prompt = cases[i].n_prompt, .max_new = cases[i].max_new, .n = 1 };
        struct sched_config c = { .max_seqs = 2, .max_step_tokens = 8, .max_context = cases[i].context, .window = 4 };
        open_world(&w, &c, cases[i].n_block, 4, true);
        assert_int_equal(add_job(&w, &j), cases[i].why ? -1 : 0);
        if (cases[i].why)
            assert_string_equal(err_text(), cases[i].why);
        while (sched_busy(w.sched))
            run_step(&w);
        assert_int_equal(j.n_ended, cases[i].why ? 0 : 1);
        close_world(&w);
    }
}

/* ---- order and fairness ---- */

static void order_of_admission(void **state)
{
    (void)state;
    static const struct { enum sched_order order; uint32_t want[4]; } cases[] = {
        { ORDER_FCFS, { 0, 1, 2, 3 } },                 /* place of each job in the admissions */
        { ORDER_LONGEST, { 0, 1, 3, 2 } },
        { ORDER_PREFIX, { 2, 0, 3, 1 } },
    };
    static const struct { uint32_t n, max_new; int32_t prompt[4]; } prompts[] = {
        { 1, 9, { 5 } }, { 4, 2, { 1, 2, 3, 4 } }, { 2, 2, { 5, 1 } }, { 3, 2, { 1, 3, 3 } },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct world w;
        struct job jobs[4] = { 0 };
        struct sched_config c = { .max_seqs = 1, .max_step_tokens = 8, .max_context = 16, .window = 4, .order = cases[i].order };
        open_world(&w, &c, 4, 4, true);
        for (uint32_t k = 0; k < 4; k++) {
            jobs[k] = (struct job){ .n_prompt = prompts[k].n, .max_new = prompts[k].max_new, .n = 1 };
            memcpy(jobs[k].prompt, prompts[k].prompt, sizeof prompts[k].prompt);
            assert_int_equal(add_job(&w, &jobs[k]), 0);
        }
        while (sched_busy(w.sched))
            run_step(&w);
        for (uint32_t k = 0; k < 4; k++)
            assert_int_equal(jobs[k].first_step, cases[i].want[k]);
        close_world(&w);
    }
}

static void forget_job(void *owner)
{
    ((struct job *)owner)->n = 0;
}

/* What has begun is finished, answers that had not started included; the rest is handed back. */
static void stop(struct world *w)
{
    sched_forget_waiting(w->sched, forget_job);
    while (sched_busy(w->sched))
        run_step(w);
}

/* Long requests keep coming; a short one is overtaken by no more than a window of them. */
static void a_short_request_does_not_starve(void **state)
{
    (void)state;
    struct world w;
    static struct job jobs[200];
    struct sched_config c = { .max_seqs = 2, .max_step_tokens = 16, .max_context = 64, .window = 8, .order = ORDER_LONGEST };
    open_world(&w, &c, 16, 4, true);
    for (uint32_t i = 0; i < 200; i++)
        jobs[i] = (struct job){ .prompt = { 1 }, .n_prompt = i == 3 ? 1 : 9, .max_new = 3, .n = 1 };
    uint32_t next = 0;
    while (!jobs[3].n_ended) {
        while (next < 200 && !sched_full(w.sched))
            assert_int_equal(add_job(&w, &jobs[next++]), 0);
        run_step(&w);
    }
    assert_true(jobs[3].first_step < 8);
    assert_true(next < 40);
    stop(&w);
    for (uint32_t i = 0; i < next; i++)
        assert_int_equal(jobs[i].n_ended, jobs[i].n);
    close_world(&w);
}

static void stopping_finishes_what_has_begun(void **state)
{
    (void)state;
    struct world w;
    struct job jobs[3] = { 0 };
    open_small(&w, 2, 4, 16, true);
    for (uint32_t i = 0; i < 3; i++) {
        jobs[i] = (struct job){ .prompt = { 1, 2, 3, 4, 5, 6, 7, 8, 9 }, .n_prompt = 9, .max_new = 4, .n = 3 };
        assert_int_equal(add_job(&w, &jobs[i]), 0);
    }
    run_step(&w);                                       /* four tokens of the first request's prompt */
    assert_int_equal(sched_n_running(w.sched), 1);
    assert_int_equal(sched_n_waiting(w.sched), 3);      /* its own further answers, and two requests */
    stop(&w);
    assert_int_equal(jobs[0].n_ended, 3);
    assert_int_equal(jobs[1].n + jobs[2].n + jobs[1].n_ended + jobs[2].n_ended, 0);
    close_world(&w);
}

/* ---- sharing and budget, step by step ---- */

/* Sixteen equal prompts in one step: the first computes them, the others find its blocks at once. */
static void a_step_shares_what_it_computes(void **state)
{
    (void)state;
    struct world w;
    struct job jobs[16];
    open_small(&w, 16, 64, 100, true);
    for (uint32_t i = 0; i < 16; i++) {
        jobs[i] = (struct job){ .prompt = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }, .n_prompt = 10, .max_new = 8, .n = 1 };
        assert_int_equal(add_job(&w, &jobs[i]), 0);
    }
    const struct plan *p = run_step(&w);
    assert_int_equal(p->n_part, 16);
    assert_int_equal(p->n_tok, 10 + 15 * 2);
    assert_int_equal(p->n_out, 16);
    stop(&w);
    for (uint32_t i = 0; i < 16; i++)
        assert_int_equal(jobs[i].cached, i ? 8 : 0);
    close_world(&w);
}

static void answers_of_a_request_share_its_prompt(void **state)
{
    (void)state;
    for (int index = 0; index < 2; index++) {
        struct world w;
        struct job j = { .prompt = { 1, 2, 3, 4, 5, 6, 7, 8, 9 }, .n_prompt = 9, .max_new = 3, .n = 3 };
        open_small(&w, 4, 6, 40, index);
        assert_int_equal(add_job(&w, &j), 0);
        const struct plan *p = run_step(&w);
        assert_int_equal(p->n_tok, 6);                  /* a chunk of the first answer's prompt */
        p = run_step(&w);
        assert_int_equal(p->n_part, index ? 3 : 2);     /* its rest, then the others: one token each that is not shared */
        assert_int_equal(p->n_tok, index ? 3 + 1 + 1 : 3 + 3);
        stop(&w);
        assert_int_equal(j.n_ended, 3);
        assert_int_equal(j.cached, index ? 16 : 0);
        close_world(&w);
    }
}

static void decodes_go_before_prompts(void **state)
{
    (void)state;
    struct world w;
    struct job jobs[3] = {
        { .prompt = { 2, 3 }, .n_prompt = 2, .max_new = 20, .n = 1, .to_the_end = true },
        { .prompt = { 5, 7 }, .n_prompt = 2, .max_new = 20, .n = 1, .to_the_end = true },
        { .prompt = { 9 }, .n_prompt = 20, .max_new = 2, .n = 1 },
    };
    open_small(&w, 3, 8, 40, true);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(add_job(&w, &jobs[i]), 0);
    const struct plan *p = run_step(&w);
    assert_int_equal(p->n_tok, 8);
    assert_int_equal(p->part[2].n, 4);
    p = run_step(&w);
    assert_int_equal(p->n_decode, 2);
    assert_int_equal(p->part[2].n, 6);                  /* the rest of the budget */
    assert_true(p->part[0].decode && p->part[1].decode && !p->part[2].decode);
    stop(&w);
    close_world(&w);
}

/* A prompt whose blocks are there but whose rest has no room waits, and they are overwritten meanwhile. */
static void what_was_found_in_vain_does_not_count(void **state)
{
    (void)state;
    struct world w;
    struct job first = { .prompt = { 1, 2, 3, 4, 5, 6, 7, 8, 9 }, .n_prompt = 9, .max_new = 1, .n = 1 }, again = first;
    struct job other = { .prompt = { 2 }, .n_prompt = 9, .max_new = 15, .n = 1, .to_the_end = true };
    again.max_new = 3;
    open_small(&w, 2, 16, 6, true);
    assert_int_equal(add_job(&w, &first), 0);
    run_step(&w);
    assert_int_equal(add_job(&w, &other), 0);
    run_step(&w);
    assert_int_equal(add_job(&w, &again), 0);
    while (!other.n_ended) {
        run_step(&w);
        assert_int_equal(again.n_started, 0);
    }
    while (!again.n_ended)
        run_step(&w);
    assert_int_equal(again.cached, 0);
    assert_int_equal(again.recomputed, 0);
    close_world(&w);
}

/* Two sequences fill four blocks; the second gives way, waits, and goes on where it was. */
static void the_last_admitted_gives_way(void **state)
{
    (void)state;
    struct world w;
    struct job jobs[2] = {
        { .prompt = { 2 }, .n_prompt = 4, .max_new = 12, .n = 1, .to_the_end = true },
        { .prompt = { 3 }, .n_prompt = 4, .max_new = 12, .n = 1, .to_the_end = true },
    };
    open_small(&w, 2, 8, 4, false);
    for (uint32_t i = 0; i < 2; i++)
        assert_int_equal(add_job(&w, &jobs[i]), 0);
    while (!jobs[0].n_ended) {
        const struct plan *p = run_step(&w);
        assert_true(p->n_part && p->part[0].seq->owner == &jobs[0]);    /* the first goes on in every step */
    }
    assert_int_equal(jobs[1].n_ended, 0);
    assert_true(w.n_preempted);
    stop(&w);
    assert_int_equal(jobs[1].n_ended, 1);
    assert_true(jobs[1].recomputed >= 4);
    assert_int_equal(jobs[1].recomputed, w.n_again);
    assert_int_equal(jobs[1].preempted, w.n_preempted);
    close_world(&w);
}

/* What has begun goes on before longer requests that came later. */
static void answers_of_a_request_stay_together(void **state)
{
    (void)state;
    struct world w;
    struct job jobs[2] = {
        { .prompt = { 2 }, .n_prompt = 4, .max_new = 3, .n = 3 },
        { .prompt = { 3 }, .n_prompt = 9, .max_new = 3, .n = 1 },
    };
    struct sched_config c = { .max_seqs = 1, .max_step_tokens = 8, .max_context = 64, .window = 4, .order = ORDER_LONGEST };
    open_world(&w, &c, 9, 4, true);
    assert_int_equal(add_job(&w, &jobs[0]), 0);
    run_step(&w);
    assert_int_equal(add_job(&w, &jobs[1]), 0);
    while (!jobs[1].n_started)
        run_step(&w);
    assert_int_equal(jobs[0].n_ended, 3);
    stop(&w);
    close_world(&w);
}

/* Too many sequences for the pool at their full length: admission leaves them room to grow. */
static void admission_keeps_room_to_grow(void **state)
{
    (void)state;
    struct world w;
    static struct job jobs[200];
    struct rng r;
    rng_init(&r, 1);
    open_small(&w, 32, 64, 80, false);
    for (uint32_t i = 0; i < 200; i++) {
        jobs[i] = (struct job){ .prompt = { (int32_t)rng_u32(&r) }, .n_prompt = 12, .max_new = 40, .n = 1 };
        assert_int_equal(add_job(&w, &jobs[i]), 0);
    }
    while (sched_busy(w.sched))
        run_step(&w);
    assert_int_equal(w.n_preempted, 0);     /* without spare blocks: 27 */
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_depend_on_the_request_alone),
        cmocka_unit_test(random_walks),
        cmocka_unit_test(refuses_what_never_fits),
        cmocka_unit_test(order_of_admission),
        cmocka_unit_test(a_short_request_does_not_starve),
        cmocka_unit_test(stopping_finishes_what_has_begun),
        cmocka_unit_test(a_step_shares_what_it_computes),
        cmocka_unit_test(answers_of_a_request_share_its_prompt),
        cmocka_unit_test(answers_of_a_request_stay_together),
        cmocka_unit_test(admission_keeps_room_to_grow),
        cmocka_unit_test(decodes_go_before_prompts),
        cmocka_unit_test(what_was_found_in_vain_does_not_count),
        cmocka_unit_test(the_last_admitted_gives_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

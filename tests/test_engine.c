#define _DEFAULT_SOURCE     /* mkstemp */
/* The engine on a tiny model: the same answers, bit by bit, whatever runs beside them; every request answered once; how
 * sequences end; what the meter is told. */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"
#include "engine/engine.h"

#define MODEL "tests/golden/qwen3"      /* 2 layers, 96 ids, 256 positions, ids of 2 end */
#define N_VOCAB 96
#define EOS 2

struct world { struct device *device; struct model *model; struct tokenizer *tokenizer; };

/* compute: f32 or bf16; weights: that or int8 */
static void open_model(struct world *w, const char *path, enum dtype compute, enum dtype weights, int n_thread)
{
    *w = (struct world){ .device = device_open("cpu", compute, n_thread) };
    assert_non_null(w->device);
    w->model = model_open(w->device, path, weights, 1);
    if (!w->model)
        fail_msg("%s", err_text());
}

static void open_world(struct world *w)
{
    open_model(w, MODEL, DTYPE_F32, DTYPE_F32, 1);
}

/* Creates a file with this text and gives its path. */
static void write_temp(char path[64], const char *text)
{
    snprintf(path, 64, "/tmp/tokmill-test-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    FILE *f = fdopen(fd, "w");
    fputs(text, f);
    fclose(f);
}

static void close_world(struct world *w)
{
    tokenizer_close(w->tokenizer);
    model_close(w->model);
    w->device->ops->close(w->device);
}

/* ---- a corpus as JSON lines, its answers by index ---- */

#define MAX_JOB 64

struct jobs {
    char *line[MAX_JOB]; uint32_t n;
    int32_t max_tokens;                     /* of lines that set none */
    struct answer *answer[MAX_JOB];
};

static void add_line(struct jobs *j, const char *text)
{
    j->line[j->n++] = mem_dup(text, strlen(text));
}

static void add_job(struct jobs *j, const int32_t *prompt, uint32_t n, const char *keys)
{
    struct buf b = { 0 };
    buf_puts(&b, "{\"prompt_token_ids\":[");
    for (uint32_t i = 0; i < n; i++)
        buf_printf(&b, "%s%d", i ? "," : "", prompt[i]);
    buf_printf(&b, "]%s%s}", *keys ? "," : "", keys);
    add_line(j, b.data);
    buf_free(&b);
}

static void forget_answers(struct jobs *j)
{
    for (uint32_t i = 0; i < j->n; i++) {
        answer_free(j->answer[i]);
        j->answer[i] = NULL;
    }
}

static void free_jobs(struct jobs *j)
{
    forget_answers(j);
    for (uint32_t i = 0; i < j->n; i++)
        free(j->line[i]);
    j->n = 0;
}

static struct queue *queue_of(const struct jobs *j)
{
    struct queue *in = queue_open(MAX_JOB);
    struct request_reader rr = {
        .defaults = { .n = 1, .top_p = 1, .repetition_penalty = 1, .logprobs = -1, .max_tokens = j->max_tokens, .seed = 11 },
    };
    for (uint32_t i = 0; i < j->n; i++)
        queue_put(in, answer_new(request_parse(&rr, "test", i + 1, i, j->line[i], strlen(j->line[i]))));
    queue_close(in);
    request_reader_free(&rr);
    return in;
}

static void take_answers(struct jobs *j, struct queue *out)
{
    for (struct answer *a; (a = queue_try_take(out));) {
        assert_null(j->answer[a->request->index]);
        j->answer[a->request->index] = a;
    }
}

static const struct engine_config usual = { .max_seqs = 8, .max_step_tokens = 64, .block_size = 16, .n_block = 200, .prefix_cache = true };

static void run_jobs(struct jobs *j, const struct world *w, const struct engine_config *c, struct meter *m)
{
    static const atomic_bool stop = false;
    struct queue *in = queue_of(j), *out = queue_open(MAX_JOB);
    struct engine *e = engine_open(w->model, w->tokenizer, c, m);
    assert_non_null(e);
    engine_run(e, in, out, &stop);
    take_answers(j, out);
    for (uint32_t i = 0; i < j->n; i++)
        assert_non_null(j->answer[i]);
    engine_close(e);
    queue_free(in);
    queue_free(out);
}

/* A byte-level tokenizer of our 96 ids: letters, and two-letter tokens so that a stop string may begin within one. */
static void open_tokenizer(struct world *w)
{
    char path[64];
    struct buf b = { 0 };
    buf_puts(&b, "{\"version\":\"1.0\",\"added_tokens\":[],\"normalizer\":null,\"post_processor\":null,"
                 "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false},"
                 "\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"vocab\":{");
    for (int i = 0; i < N_VOCAB; i++) {
        const char letters[3] = { (char)('a' + i % 23), i < 23 ? 0 : (char)('a' + i / 23) };
        buf_printf(&b, "%s\"%s\":%d", i ? "," : "", letters, i);
    }
    buf_puts(&b, "},\"merges\":[]}}\n");
    write_temp(path, b.data);
    buf_free(&b);
    w->tokenizer = tokenizer_open(path);
    if (!w->tokenizer)
        fail_msg("%s", err_text());
    unlink(path);
}

/* ---- sameness ---- */

/* Prompts of all lengths, some with a common beginning, under every way to sample. */
static void make_corpus(struct jobs *j)
{
    static const char *const ways[] = {
        "", "\"temperature\":1", "\"temperature\":0.7,\"top_k\":12,\"seed\":5", "\"temperature\":1.3,\"top_p\":0.8,\"logprobs\":4",
        "\"temperature\":1,\"min_p\":0.1,\"n\":3", "\"logprobs\":2,\"n\":2", "\"repetition_penalty\":1.4,\"ignore_eos\":true",
        "\"presence_penalty\":0.6,\"frequency_penalty\":0.9,\"logprobs\":0", "\"logit_bias\":{\"7\":3,\"9\":-100},\"temperature\":0.5",
        "\"max_tokens\":70,\"ignore_eos\":true,\"temperature\":1", "\"max_tokens\":90,\"min_tokens\":80", "\"max_tokens\":1",
        "\"stop_token_ids\":[3,4,5,6,8,10,12],\"temperature\":1,\"logprobs\":20",
        "\"stop\":[\"ad\",\"bb\",\"nc\"],\"temperature\":1.5,\"logprobs\":1,\"n\":2",
        "\"stop\":\"a\",\"min_tokens\":5,\"temperature\":1.5,\"presence_penalty\":0.5",
    };
    const size_t n_way = sizeof ways / sizeof *ways;
    struct rng r;
    rng_init(&r, 3);
    int32_t prompt[150];
    for (uint32_t i = 0; i < 3 * n_way; i++) {
        uint32_t n = 1 + rng_below(&r, i % 4 ? 60 : 150), shared = i % 2 ? 40 : 0;
        for (uint32_t k = 0; k < n; k++)
            prompt[k] = k < shared ? (int32_t)(3 + k * 7 % 90) : (int32_t)(3 + rng_below(&r, 90));
        add_job(j, prompt, n, ways[i % n_way]);
    }
}

static void assert_same_output(const struct output *a, const struct output *b)
{
    assert_int_equal(a->n_id, b->n_id);
    assert_int_equal(a->n_generated, b->n_generated);
    assert_int_equal(a->finish, b->finish);
    assert_memory_equal(a->ids, b->ids, a->n_id * sizeof *a->ids);
    assert_true(!a->logprobs == !b->logprobs && !a->tops == !b->tops);
    if (a->logprobs)
        assert_memory_equal(a->logprobs, b->logprobs, a->n_id * sizeof *a->logprobs);
    if (a->tops)
        assert_memory_equal(a->tops, b->tops, (size_t)a->n_id * a->n_top * sizeof *a->tops);
}

struct way { struct engine_config config; int n_thread; bool preempts; };

static const struct way ways[] = {
    { { .max_seqs = 1, .max_step_tokens = 512, .block_size = 16, .n_block = 16 }, 1, false },
    { { .max_seqs = 1, .max_step_tokens = 16, .block_size = 16, .n_block = 40, .prefix_cache = true }, 1, false },
    { { .max_seqs = 3, .max_step_tokens = 16, .block_size = 16, .n_block = 200, .prefix_cache = true, .order = ORDER_LONGEST }, 1, false },
    { { .max_seqs = 3, .max_step_tokens = 512, .block_size = 32, .n_block = 200, .order = ORDER_PREFIX }, 1, false },
    { { .max_seqs = 64, .max_step_tokens = 512, .block_size = 16, .n_block = 400, .prefix_cache = true }, 2, false },
    { { .max_seqs = 64, .max_step_tokens = 512, .block_size = 16, .n_block = 400, .order = ORDER_LONGEST }, 1, false },
    { { .max_seqs = 64, .max_step_tokens = 16, .block_size = 16, .n_block = 400, .prefix_cache = true, .order = ORDER_PREFIX }, 1, false },
    { { .max_seqs = 64, .max_step_tokens = 512, .block_size = 16, .n_block = 16, .prefix_cache = true }, 1, true },
    { { .max_seqs = 64, .max_step_tokens = 67, .block_size = 16, .n_block = 16 }, 1, true },
};

/* Runs the corpus in this way; the answers must be the first ones'. */
static void check_way(struct jobs *j, const struct jobs *first, const struct world *w, const struct way *way, bool ahead)
{
    struct engine_config c = way->config;
    uint32_t n_preempted = 0;
    c.ahead = ahead;
    run_jobs(j, w, &c, NULL);
    for (uint32_t i = 0; i < j->n; i++) {
        assert_null(j->answer[i]->request->error);
        for (uint32_t k = 0; k < j->answer[i]->n_output; k++)
            assert_same_output(&j->answer[i]->outputs[k], &first->answer[i]->outputs[k]);
        n_preempted += j->answer[i]->n_preempted;
    }
    assert_true(!way->preempts || n_preempted > 5);
}

static void check_sameness(const char *path, enum dtype compute, enum dtype weights)
{
    static struct jobs first = { .max_tokens = 40 }, other = { .max_tokens = 40 };
    make_corpus(&first);
    make_corpus(&other);
    for (size_t k = 0; k < 2 * (sizeof ways / sizeof *ways); k++) {
        struct world w;
        open_model(&w, path, compute, weights, ways[k / 2].n_thread);
        open_tokenizer(&w);
        check_way(k ? &other : &first, &first, &w, &ways[k / 2], k % 2);
        close_world(&w);
        forget_answers(&other);
    }
    free_jobs(&first);
    free_jobs(&other);
}

static void same_answers_in_f32(void **state)
{
    (void)state;
    check_sameness(MODEL, DTYPE_F32, DTYPE_F32);
}

static void same_answers_in_bf16(void **state)
{
    (void)state;
    check_sameness(MODEL, DTYPE_BF16, DTYPE_BF16);
}

/* Sizes at which the device's matrix products take their usual ways. */
static void same_answers_of_a_larger_model(void **state)
{
    (void)state;
    char path[64], name[80];
    write_temp(path, "{\"model_type\":\"qwen3\",\"architectures\":[\"Qwen3ForCausalLM\"],\"hidden_size\":192,\"intermediate_size\":416,"
                     "\"num_hidden_layers\":2,\"num_attention_heads\":6,\"num_key_value_heads\":2,\"head_dim\":64,\"vocab_size\":1000,"
                     "\"max_position_embeddings\":256,\"rms_norm_eps\":1e-6,\"rope_theta\":10000,\"tie_word_embeddings\":true}");
    snprintf(name, sizeof name, "random:%s", path);
    check_sameness(name, DTYPE_BF16, DTYPE_BF16);
    check_sameness(name, DTYPE_BF16, DTYPE_I8);
    unlink(path);
}

/* Choices differ from each other, seeds and lines matter, and nothing else does. */
static void random_numbers_follow_seed_and_line(void **state)
{
    (void)state;
    static struct jobs j = { .max_tokens = 16 };
    struct world w;
    const int32_t prompt[] = { 3, 4, 5 };
    add_job(&j, prompt, 3, "\"temperature\":2,\"n\":2,\"ignore_eos\":true");
    add_job(&j, prompt, 3, "\"temperature\":2,\"ignore_eos\":true");
    add_job(&j, prompt, 3, "\"temperature\":2,\"ignore_eos\":true,\"seed\":12");
    open_world(&w);
    run_jobs(&j, &w, &usual, NULL);
    const struct output *o[] = {
        &j.answer[0]->outputs[0], &j.answer[0]->outputs[1], &j.answer[1]->outputs[0], &j.answer[2]->outputs[0],
    };
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < i; k++)
            assert_memory_not_equal(o[i]->ids, o[k]->ids, 16 * sizeof(int32_t));
    close_world(&w);
    free_jobs(&j);
}

/* ---- requests that are refused ---- */

static void bad_requests_get_answers_too(void **state)
{
    (void)state;
    static const struct { const char *line, *why; } cases[] = {
        { "{\"prompt_token_ids\":[5,96]}", "prompt token 1 is id 96, and the model's ids end at 95" },
        { "{\"prompt_token_ids\":[5],\"max_tokens\":300}",
          "the prompt's 1 tokens and max_tokens 300 make 301, and a sequence may have 256 (the model's context)" },
        { "{\"prompt_token_ids\":[5],\"logit_bias\":{\"96\":1}}", "logit_bias names id 96, and the model's ids end at 95" },
        { "{\"prompt_token_ids\":[5],\"stop\":\"x\"}", "stop strings need a tokenizer, and this model has none" },
        { "{\"prompt\":\"not tokenized\"}", "the prompt has no tokens" },
        { "{\"prompt_token_ids\":[5],\"max_tokens\":255}", NULL },
    };
    static struct jobs j = { .max_tokens = 16 };
    struct world w;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        add_line(&j, cases[i].line);
    add_line(&j, "{broken");
    open_world(&w);
    run_jobs(&j, &w, &usual, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct answer *a = j.answer[i];
        assert_int_equal(a->n_output, cases[i].why ? 0 : 1);
        if (cases[i].why)
            assert_string_equal(a->request->error, cases[i].why);
        else
            assert_null(a->request->error);
    }
    assert_non_null(j.answer[j.n - 1]->request->error);
    close_world(&w);
    free_jobs(&j);
}

static void bad_configurations_are_refused(void **state)
{
    (void)state;
    static const struct { struct engine_config config; const char *why; } cases[] = {
        { { .max_seqs = 1, .max_step_tokens = 1, .block_size = 24, .n_block = 1 }, "block size \"24\" is not a multiple of 16" },
        { { .max_seqs = 0, .max_step_tokens = 1, .block_size = 16, .n_block = 1 }, "a step needs at least one sequence and one token" },
        { { .max_seqs = 1, .max_step_tokens = 1, .block_size = 16, .kv_memory = 100 }, "KV memory of 100 bytes holds no block" },
        { { .max_seqs = 1, .max_step_tokens = 1, .block_size = 16, .n_block = UINT32_MAX }, "\"4294967295\" KV blocks of 16 tokens" },
    };
    struct world w;
    open_world(&w);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_null(engine_open(w.model, NULL, &cases[i].config, NULL));
        assert_memory_equal(err_text(), cases[i].why, strlen(cases[i].why));
    }
    close_world(&w);
}

/* ---- how sequences end ---- */

static void sequences_end_as_asked(void **state)
{
    (void)state;
    static struct jobs j = { .max_tokens = 16 };
    struct world w;
    const int32_t prompt[] = { 30, 31, 32 };
    add_job(&j, prompt, 3, "\"ignore_eos\":true");
    add_job(&j, prompt, 3, "\"logit_bias\":{\"2\":100},\"min_tokens\":3");
    add_job(&j, prompt, 3, "\"logit_bias\":{\"2\":100},\"ignore_eos\":true,\"max_tokens\":4");
    add_job(&j, prompt, 3, "\"logit_bias\":{\"44\":100},\"stop_token_ids\":[44],\"logprobs\":1");
    open_world(&w);
    run_jobs(&j, &w, &usual, NULL);
    const struct { uint32_t n_id, n_generated; enum finish finish; } want[] = {
        { 16, 16, FINISH_LENGTH }, { 3, 4, FINISH_STOP }, { 4, 4, FINISH_LENGTH }, { 0, 1, FINISH_STOP },
    };
    for (uint32_t i = 0; i < j.n; i++) {
        const struct output *o = &j.answer[i]->outputs[0];
        assert_int_equal(o->n_id, want[i].n_id);
        assert_int_equal(o->n_generated, want[i].n_generated);
        assert_int_equal(o->finish, want[i].finish);
    }
    for (uint32_t i = 0; i < 3; i++)
        assert_int_not_equal(j.answer[1]->outputs[0].ids[i], EOS);
    assert_int_equal(j.answer[2]->outputs[0].ids[3], EOS);
    close_world(&w);
    free_jobs(&j);
}

static void without_max_tokens_the_context_is_the_end(void **state)
{
    (void)state;
    static struct jobs j = { .max_tokens = 0 };
    struct world w;
    struct engine_config c = usual;
    const int32_t prompt[] = { 30, 31, 32 };
    add_job(&j, prompt, 3, "\"ignore_eos\":true");
    open_world(&w);
    run_jobs(&j, &w, &c, NULL);
    assert_int_equal(j.answer[0]->outputs[0].n_id, 256 - 3);
    forget_answers(&j);
    c.n_block = 3;                          /* or the KV memory is */
    run_jobs(&j, &w, &c, NULL);
    assert_int_equal(j.answer[0]->outputs[0].n_id, 3 * 16 - 3);
    close_world(&w);
    free_jobs(&j);
}

/* How many leading tokens it takes until their text holds the string. */
static uint32_t tokens_until(const struct world *w, const struct output *o, const char *stop)
{
    struct tok_state *tok = tok_state_open(w->tokenizer);
    struct buf text = { 0 };
    uint32_t n = 0;
    do {
        buf_clear(&text);
        tokenizer_decode(tok, o->ids, ++n, true, &text);
    } while (!strstr(text.data, stop));
    buf_free(&text);
    tok_state_close(tok);
    return n;
}

/* Each run of four letters of a long answer, as a stop string, ends the answer with the token that completes it. */
static void stop_strings_end_across_tokens(void **state)
{
    (void)state;
    static struct jobs whole = { .max_tokens = 40 }, cut = { .max_tokens = 40 };
    struct world w;
    const int32_t prompt[] = { 30, 31, 32 };
    open_world(&w);
    open_tokenizer(&w);
    add_job(&whole, prompt, 3, "\"temperature\":1.5,\"ignore_eos\":true");
    run_jobs(&whole, &w, &usual, NULL);
    const struct output *all = &whole.answer[0]->outputs[0];
    struct tok_state *tok = tok_state_open(w.tokenizer);
    struct buf text = { 0 };
    tokenizer_decode(tok, all->ids, all->n_id, true, &text);
    for (size_t at = 0; at + 4 <= text.len; at += 5) {
        char keys[120], stop[5] = { 0 };
        memcpy(stop, text.data + at, 4);
        snprintf(keys, sizeof keys, "\"temperature\":1.5,\"ignore_eos\":true,\"stop\":[\"ZZZ\",\"%s\"]", stop);
        add_job(&cut, prompt, 3, keys);
        run_jobs(&cut, &w, &usual, NULL);
        const struct output *o = &cut.answer[0]->outputs[0];
        assert_int_equal(o->finish, FINISH_STOP);
        assert_int_equal(o->n_id, tokens_until(&w, all, stop));
        assert_int_equal(o->n_generated, o->n_id);
        assert_memory_equal(o->ids, all->ids, o->n_id * sizeof *o->ids);
        free_jobs(&cut);
    }
    buf_free(&text);
    tok_state_close(tok);
    close_world(&w);
    free_jobs(&whole);
}

/* ---- stopping, warm-up, measuring ---- */

struct consumer { struct queue *in, *out; atomic_bool stop; uint32_t n_answer, n_token; };

static void *stop_after_the_first(void *arg)
{
    struct consumer *c = arg;
    for (struct answer *a; (a = queue_take(c->out)); answer_free(a)) {
        c->stop = true;
        c->n_answer++;
        c->n_token += answer_generated(a);
    }
    return NULL;
}

static void a_stop_finishes_what_runs(void **state)
{
    (void)state;
    static struct jobs j = { .max_tokens = 16 };
    struct world w;
    struct engine_config config = usual;
    const int32_t prompt[] = { 30, 31, 32 };
    for (uint32_t i = 0; i < 60; i++)
        add_job(&j, prompt, 3, "\"ignore_eos\":true");
    config.max_seqs = 4;
    open_world(&w);
    struct engine *e = engine_open(w.model, NULL, &config, NULL);
    struct consumer c = { .in = queue_of(&j), .out = queue_open(1) };
    pthread_t thread;
    pthread_create(&thread, NULL, stop_after_the_first, &c);
    engine_run(e, c.in, c.out, &c.stop);
    queue_close(c.out);
    pthread_join(thread, NULL);
    assert_in_range(c.n_answer, 1, 59);
    assert_int_equal(c.n_token, c.n_answer * 16);
    for (struct answer *a; (a = queue_try_take(c.in));)
        answer_free(a);
    engine_close(e);
    queue_free(c.in);
    queue_free(c.out);
    close_world(&w);
    free_jobs(&j);
}

static void warm_up_leaves_no_trace(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    for (uint32_t n_block = 1; n_block < 40; n_block += 12) {
        struct engine_config c = { .max_seqs = 20, .max_step_tokens = 300, .block_size = 16, .n_block = n_block, .prefix_cache = true };
        struct engine *e = engine_open(w.model, NULL, &c, NULL);
        engine_warm_up(e);
        assert_int_equal(engine_max_len(e), n_block < 16 ? 16 * n_block : 256);
        assert_int_equal(engine_kv_blocks(e), n_block);
        assert_true(engine_kv_bytes(e) > 0);
        engine_close(e);
    }
    close_world(&w);
}

static void check_meter(bool ahead)
{
    static struct jobs j = { .max_tokens = 16 };
    struct world w;
    struct meter m;
    struct engine_config c = usual;
    uint64_t n_prompt = 0, n_cached = 0, n_out = 0, n_output = 0;
    c.ahead = ahead;
    make_corpus(&j);
    open_world(&w);
    open_tokenizer(&w);
    assert_int_equal(meter_open(&m, NULL), 0);
    run_jobs(&j, &w, &c, &m);
    for (uint32_t i = 0; i < j.n; i++) {
        const struct answer *a = j.answer[i];
        n_prompt += (uint64_t)a->request->n_prompt * a->n_output;
        n_cached += a->cached_tokens;
        n_out += answer_generated(a);
        n_output += a->n_output;
        assert_true(a->arrival_ns <= a->scheduled_ns && a->scheduled_ns < a->outputs[0].first_ns);
        assert_true(a->outputs[0].first_ns <= a->outputs[0].last_ns);
        assert_int_equal(a->recomputed_tokens, 0);
    }
    const struct stage_count *stage = m.clock[THREAD_ENGINE]->stage;
    assert_int_equal(stage[STAGE_SAMPLE].tokens, n_out);
    assert_int_equal(stage[STAGE_DECODE].tokens, n_out - n_output);
    assert_int_equal(m.gaps->n, n_out - n_output);
    assert_true(n_cached > 100);
    assert_true(stage[STAGE_PREFILL].tokens <= n_prompt - n_cached);        /* less what the n answers of a request share */
    assert_true(stage[STAGE_PREFILL].busy_ns > 0 && stage[STAGE_DECODE].busy_ns > 0 && stage[STAGE_QUEUE].busy_ns > 0);
    assert_true(m.n_step > 16 && m.flops > 0);
    meter_close(&m);
    close_world(&w);
    free_jobs(&j);
}

static void the_meter_adds_up(void **state)
{
    (void)state;
    check_meter(false);
    check_meter(true);
}

/* Bytes that the same steps move. */
static double bytes_moved(enum dtype compute, enum dtype weights)
{
    static struct jobs j = { .max_tokens = 8 };
    const int32_t prompt[] = { 30, 31, 32 };
    struct world w;
    struct meter m;
    for (int i = 0; i < 5; i++)
        add_job(&j, prompt, 3, "\"ignore_eos\":true");
    open_model(&w, MODEL, compute, weights, 1);
    assert_int_equal(meter_open(&m, NULL), 0);
    run_jobs(&j, &w, &usual, &m);
    double bytes = m.bytes;
    meter_close(&m);
    close_world(&w);
    free_jobs(&j);
    return bytes;
}

/* Of w weights and k keys and values they are 4 w + 4 k, 2 w + 2 k, w + 2 k and w + 4 k. */
static void bytes_are_those_of_the_types(void **state)
{
    (void)state;
    double f32 = bytes_moved(DTYPE_F32, DTYPE_F32), bf16 = bytes_moved(DTYPE_BF16, DTYPE_BF16);
    double int8 = bytes_moved(DTYPE_BF16, DTYPE_I8), int8_f32 = bytes_moved(DTYPE_F32, DTYPE_I8);
    double w = bf16 - int8, k = (int8_f32 - int8) / 2;
    assert_true(w > 0 && k > 0);
    assert_true(2 * w + 2 * k == bf16 && 4 * w + 4 * k == f32);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_answers_in_f32),
        cmocka_unit_test(same_answers_in_bf16),
        cmocka_unit_test(same_answers_of_a_larger_model),
        cmocka_unit_test(random_numbers_follow_seed_and_line),
        cmocka_unit_test(bad_requests_get_answers_too),
        cmocka_unit_test(bad_configurations_are_refused),
        cmocka_unit_test(sequences_end_as_asked),
        cmocka_unit_test(without_max_tokens_the_context_is_the_end),
        cmocka_unit_test(stop_strings_end_across_tokens),
        cmocka_unit_test(a_stop_finishes_what_runs),
        cmocka_unit_test(warm_up_leaves_no_trace),
        cmocka_unit_test(the_meter_adds_up),
        cmocka_unit_test(bytes_are_those_of_the_types),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

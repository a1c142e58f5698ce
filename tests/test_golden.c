/* The golden models through the whole engine, in f32: the prompt and the prompt with a part of its answer run beside each other,
 * and each goes on as transformers does, in whatever steps and blocks it runs. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"
#include "engine/engine.h"
#include "tests/golden.h"

static const uint32_t known[] = { 0, 5, 11, 12, 20, 31 };      /* tokens of the answer that a request's prompt has already */

enum { N_JOB = sizeof known / sizeof *known };

static struct answer *ask(const struct golden *g, uint32_t job)
{
    struct request_reader rr = { .defaults = { .n = 1, .top_p = 1, .repetition_penalty = 1 } };
    struct buf line = {0};
    buf_puts(&line, "{\"prompt_token_ids\":[");
    for (uint32_t i = 0; i < g->n_prompt; i++)
        buf_printf(&line, "%s%d", i ? "," : "", g->prompt[i]);
    for (uint32_t i = 0; i < known[job]; i++)
        buf_printf(&line, ",%d", g->greedy[i]);
    buf_printf(&line, "],\"max_tokens\":%u,\"ignore_eos\":true,\"logprobs\":0}", g->n_greedy - known[job]);
    struct answer *a = answer_new(request_parse(&rr, "test", job + 1, job, line.data, line.len));
    request_reader_free(&rr);
    buf_free(&line);
    return a;
}

/* The log-probability of the answer's first token, from the logits of the prompt's last row. */
static double first_logprob(const struct golden *g)
{
    const float *row = g->logits + (size_t)(g->n_row - 1) * g->n_vocab;
    double sum = 0;
    for (uint32_t i = 0; i < g->n_vocab; i++)
        sum += exp((double)row[i]);
    return row[g->greedy[0]] - log(sum);
}

static void check_answer(const struct golden *g, const struct answer *a)
{
    uint32_t from = known[a->request->index];
    assert_null(a->request->error);
    assert_int_equal(a->outputs[0].n_id, g->n_greedy - from);
    assert_memory_equal(a->outputs[0].ids, g->greedy + from, (g->n_greedy - from) * sizeof *g->greedy);
    if (!from)
        assert_true(fabs((double)a->outputs[0].logprobs[0] - first_logprob(g)) < 1e-4);
}

struct seen { uint32_t cached, preempted; };

static struct seen run_golden(const struct golden *g, struct model *m, const struct engine_config *c)
{
    static const atomic_bool stop = false;
    struct queue *in = queue_open(N_JOB), *out = queue_open(N_JOB);
    struct engine *e = engine_open(m, NULL, c, NULL);
    struct seen seen = {0};
    uint32_t n = 0;
    assert_non_null(e);
    for (uint32_t i = 0; i < N_JOB; i++)
        queue_put(in, ask(g, i));
    queue_close(in);
    engine_run(e, in, out, &stop);
    for (struct answer *a; (a = queue_try_take(out)); n++) {
        check_answer(g, a);
        seen.cached += a->cached_tokens;
        seen.preempted += a->n_preempted;
        answer_free(a);
    }
    assert_int_equal(n, N_JOB);
    engine_close(e);
    queue_free(in);
    queue_free(out);
    return seen;
}

static const struct way { struct engine_config config; bool caches, preempts; } ways[] = {
    { { .max_seqs = 1, .max_step_tokens = 512, .block_size = 16, .n_block = 8 }, false, false },
    { { .max_seqs = N_JOB, .max_step_tokens = 512, .block_size = 16, .n_block = 100 }, false, false },
    { { .max_seqs = N_JOB, .max_step_tokens = 13, .block_size = 16, .n_block = 100, .prefix_cache = true }, true, false },
    { { .max_seqs = 2, .max_step_tokens = 50, .block_size = 32, .n_block = 100, .prefix_cache = true, .order = ORDER_LONGEST }, true, false },
    { { .max_seqs = N_JOB, .max_step_tokens = 512, .block_size = 16, .n_block = 11 }, false, true },
};

static void answers_are_those_of_transformers(void **state)
{
    (void)state;
    struct device *d = device_open("cpu", DTYPE_F32, 1);
    for (size_t i = 0; i < N_GOLDEN; i++) {
        char folder[160];
        struct golden g;
        snprintf(folder, sizeof folder, "tests/golden/%s", golden_names[i]);
        golden_read(&g, folder);
        struct model *m = model_open(d, folder, DTYPE_F32, 0);
        if (!m)
            fail_msg("%s", err_text());
        for (size_t k = 0; k < 2 * (sizeof ways / sizeof *ways); k++) {
            struct engine_config c = ways[k / 2].config;
            c.ahead = k % 2;
            struct seen seen = run_golden(&g, m, &c);
            assert_int_equal(seen.cached > 0, ways[k / 2].caches);
            assert_int_equal(seen.preempted > 0, ways[k / 2].preempts);
        }
        model_close(m);
        free(g.logits);
    }
    d->ops->close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(answers_are_those_of_transformers) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The rows and edits that sampling wishes become, as a table of cases; and what a sampled token means. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "engine/sampler.h"

#define MAX_EDIT 8

static const struct model_config config = { .n_vocab = 16, .eos = { 2, 3 }, .n_eos = 2 };
static int32_t tokens[] = { 5, 6, 5, 7, 6, 6, 8 };      /* prompt 5 6 5, output 7 6 6, and what comes next */

static struct seq make_seq(void)
{
    return (struct seq){ .tokens = tokens, .n_prompt = 3, .n_token = 6, .max_len = 7, .slot = 1 };
}

static struct sampling plain(void)
{
    return (struct sampling){ .n = 1, .top_p = 1, .repetition_penalty = 1, .logprobs = -1, .max_tokens = 10 };
}

struct edit_case { const char *name; struct sampling want; struct logit_edit edit[MAX_EDIT]; uint32_t n_edit; };

static void assert_edits(struct sampler *s, const struct edit_case *c)
{
    struct request r = { .sampling = c->want };
    struct seq q = make_seq();
    sampler_begin(s, &q, &r);
    sampler_clear(s);
    sampler_put(s, &q, q.n_token);
    sampler_put(s, &q, q.n_token);                     /* as if another sequence were like it: the rows do not touch */
    struct sample_rows rows = sampler_rows(s);
    assert_int_equal(rows.n_row, 2);
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(rows.rows[i].n_edit, c->n_edit);
        assert_int_equal(rows.rows[i].edit_start, i * c->n_edit);
        const struct logit_edit *e = rows.edits + rows.rows[i].edit_start;
        for (uint32_t k = 0; k < c->n_edit; k++) {
            assert_int_equal(e[k].id, c->edit[k].id);
            assert_true(e[k].repeat == c->edit[k].repeat);
            assert_true(e[k].add == c->edit[k].add);
        }
        sampler_end(s, &q);
        sampler_begin(s, &q, &r);
    }
    sampler_end(s, &q);
}

static void wishes_become_edits(void **state)
{
    (void)state;
    static int32_t stop_ids[] = { 9, 99, 2 };
    static struct logit_bias bias[] = { { 6, 2 }, { 11, -100 } };
    struct edit_case cases[] = {
        { "nothing", plain(), { { 0, 0, 0 } }, 0 },
        { "repetition: prompt and output", plain(), { { 5, 2, 0 }, { 6, 2, 0 }, { 7, 2, 0 } }, 3 },
        { "presence: output once", plain(), { { 7, 1, -0.5f }, { 6, 1, -0.5f } }, 2 },
        { "frequency: output each time", plain(), { { 7, 1, -0.25f }, { 6, 1, -0.5f } }, 2 },
        { "presence and frequency that cancel at first", plain(), { { 7, 1, 0 }, { 6, 1, -1 } }, 2 },
        { "all penalties and bias", plain(), { { 5, 2, 0 }, { 6, 2, 1 }, { 7, 2, -0.75f }, { 11, 1, -100 } }, 4 },
        { "min_tokens not reached", plain(), { { 2, 1, -INFINITY }, { 3, 1, -INFINITY }, { 9, 1, -INFINITY } }, 3 },
        { "min_tokens reached", plain(), { { 0, 0, 0 } }, 0 },
        { "min_tokens, eos ignored", plain(), { { 9, 1, -INFINITY }, { 2, 1, -INFINITY } }, 2 },
    };
    cases[1].want.repetition_penalty = 2;
    cases[2].want.presence_penalty = 0.5f;
    cases[3].want.frequency_penalty = 0.25f;
    cases[4].want.presence_penalty = -1, cases[4].want.frequency_penalty = 1;
    cases[5].want.repetition_penalty = 2, cases[5].want.presence_penalty = 0.5f, cases[5].want.frequency_penalty = 0.25f;
    cases[5].want.bias = bias, cases[5].want.n_bias = 2;
    for (int i = 6; i < 9; i++) {
        cases[i].want.stop_ids = stop_ids, cases[i].want.n_stop_id = 3;
        cases[i].want.min_tokens = i == 7 ? 3 : 4;
        cases[i].want.ignore_eos = i == 8;
    }
    struct sampler *s = sampler_open(&config, NULL, 2);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_edits(s, &cases[i]);
    sampler_close(s);
}

static struct sample_row row_of(uint64_t index, uint32_t choice, uint32_t n_token, uint64_t seed)
{
    struct request r = { .index = index, .sampling = plain() };
    r.sampling.seed = seed;
    r.sampling.temperature = 0.5f;
    r.sampling.top_k = -1;
    r.sampling.logprobs = 4;
    struct seq q = make_seq();
    q.choice = choice;
    q.n_token = n_token;
    struct sampler *s = sampler_open(&config, NULL, 2);
    sampler_begin(s, &q, &r);
    sampler_put(s, &q, q.n_token);
    struct sample_rows rows = sampler_rows(s);
    struct sample_row row = rows.rows[0];
    assert_int_equal(rows.max_top, 4);
    sampler_close(s);
    return row;
}

static void streams_differ_by_line_choice_and_position(void **state)
{
    (void)state;
    struct sample_row row = row_of(1, 0, 5, 42);
    assert_true(row.seed == 42 && row.temperature == 0.5f && row.top_p == 1 && row.top_k == 0 && row.n_top == 4);
    assert_true(row.stream == row_of(1, 0, 5, 42).stream);
    assert_true(row.stream != row_of(2, 0, 5, 42).stream);
    assert_true(row.stream != row_of(1, 1, 5, 42).stream);
    assert_true(row.stream != row_of(1, 0, 6, 42).stream);
}

static void a_token_ends_or_does_not(void **state)
{
    (void)state;
    static int32_t stop_ids[] = { 9 };
    static const struct { int32_t id; uint32_t max_len; bool ignore_eos; enum verdict want; } cases[] = {
        { 8, 8, false, VERDICT_GO_ON },      { 8, 7, false, VERDICT_LENGTH }, { 3, 8, false, VERDICT_STOP_TOKEN },
        { 3, 7, false, VERDICT_STOP_TOKEN }, { 3, 8, true, VERDICT_GO_ON },   { 9, 8, true, VERDICT_STOP_TOKEN },
    };
    struct sampler *s = sampler_open(&config, NULL, 2);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct request r = { .sampling = plain() };
        struct seq q = make_seq();
        r.sampling.stop_ids = stop_ids;
        r.sampling.n_stop_id = 1;
        r.sampling.ignore_eos = cases[i].ignore_eos;
        q.max_len = cases[i].max_len;
        sampler_begin(s, &q, &r);
        tokens[q.n_token++] = cases[i].id;
        assert_int_equal(sampler_judge(s, &q), cases[i].want);
        sampler_end(s, &q);
    }
    sampler_close(s);
}

static void too_many_logprobs_are_refused(void **state)
{
    (void)state;
    struct request r = { .sampling = plain() };
    struct sampler *s = sampler_open(&config, NULL, 1);
    r.sampling.logprobs = 16;
    assert_int_equal(sampler_check(s, &r), 0);
    r.sampling.logprobs = 17;
    assert_int_equal(sampler_check(s, &r), -1);
    assert_string_equal(err_text(), "logprobs is 17, more than 16");
    sampler_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wishes_become_edits),
        cmocka_unit_test(streams_differ_by_line_choice_and_position),
        cmocka_unit_test(a_token_ends_or_does_not),
        cmocka_unit_test(too_many_logprobs_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

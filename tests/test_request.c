/* Lines of a corpus as requests: what each key does, what each fault says, and that no line can do harm. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/rng.h"
#include "data/json.h"
#include "data/request.h"
#include "data/zfile.h"

#define PROMPTS "../shared/material/4-traces-prompts/prompts/"

static const struct sampling defaults = {
    .max_tokens = 16, .n = 1, .temperature = 1, .top_p = 1, .repetition_penalty = 1, .seed = 7, .logprobs = -1,
};

static struct request_reader rr;

static int fresh_reader(void **state)
{
    (void)state;
    rr = (struct request_reader){ .defaults = defaults };
    log_set_level(LOG_ERROR);
    return 0;
}

static int free_reader(void **state)
{
    (void)state;
    request_reader_free(&rr);
    return 0;
}

static struct request *parse(const char *text)
{
    static uint64_t line;
    line++;
    return request_parse(&rr, "corpus.jsonl", line, line - 1, text, strlen(text));
}

static struct request *parse_good(const char *text)
{
    struct request *r = parse(text);
    if (r->error)
        fail_msg("%s: %s", text, r->error);
    return r;
}

static void expect_error(const char *text, const char *want)
{
    struct request *r = parse(text);
    if (!r->error || strncmp(r->error, want, strlen(want)))
        fail_msg("%s\n gives: %s\n not:   %s", text, r->error ? r->error : "no error", want);
    request_free(r);
}

static void test_plain(void **state)
{
    (void)state;
    const char *text = "{\"prompt\": \"Hi\\u0000 you\", \"id\": \"x\", \"expected\": \"yes\", \"arrival_s\": 1.5}";
    struct request *r = request_parse(&rr, "a.jsonl", 3, 17, text, strlen(text));
    assert_null(r->error);
    assert_int_equal(r->kind, REQUEST_PLAIN);
    assert_int_equal(r->line, 3);
    assert_int_equal(r->index, 17);
    assert_string_equal(r->id, "x");
    assert_false(r->id_is_int);
    assert_int_equal(r->prompt_len, 7);
    assert_memory_equal(r->prompt, "Hi\0 you", 7);
    assert_string_equal(r->expected, "yes");
    assert_int_equal(r->expected_len, 3);
    assert_true(r->arrival_s == 1.5 && r->read_ns > 0);
    assert_memory_equal(&r->sampling, &defaults, sizeof defaults);
    request_free(r);

    r = parse_good("{\"prompt\": \"\", \"id\": -42}");
    assert_string_equal(r->id, "-42");
    assert_true(r->id_is_int && r->arrival_s < 0 && !r->expected && r->prompt && !r->prompt_len);
    request_free(r);
}

static void test_prompt_forms(void **state)
{
    (void)state;
    static const char *const ids[] = {
        "{\"prompt\": [5, 0, 2147483647]}", "{\"prompt_token_ids\": [5, 0, 2147483647]}", "{\"input_ids\": [5, 0, 2147483647]}",
        "{\"prompt\": [[5, 0, 2147483647]]}", "{\"prompt_token_ids\": [5, 0, 2147483647], \"prompt\": null}",
    };
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        struct request *r = parse_good(ids[i]);
        assert_int_equal(r->n_prompt, 3);
        assert_memory_equal(r->prompt_ids, ((int32_t[]){ 5, 0, INT32_MAX }), 12);
        assert_null(r->prompt);
        request_free(r);
    }
    struct request *r = parse_good("{\"prompt\": [\"one\"]}");
    assert_string_equal(r->prompt, "one");
    request_free(r);
    r = parse_good("{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}");
    assert_int_equal(json_len(r->messages), 1);
    request_free(r);
}

static void test_trtllm(void **state)
{
    (void)state;
    struct request *r = parse_good("{\"task_id\": 3, \"prompt\": \"abc\", \"output_tokens\": 128}");
    assert_int_equal(r->kind, REQUEST_TRTLLM);
    assert_string_equal(r->id, "3");
    assert_int_equal(r->sampling.max_tokens, 128);
    assert_true(r->sampling.ignore_eos);
    request_free(r);
    r = parse_good("{\"task_id\": \"t\", \"input_ids\": [1, 2], \"output_tokens\": 1, \"ignore_eos\": false}");
    assert_string_equal(r->id, "t");
    assert_int_equal(r->n_prompt, 2);
    assert_false(r->sampling.ignore_eos);
    request_free(r);
}

static void test_batch(void **state)
{
    (void)state;
    struct request *r = parse_good("{\"custom_id\": \"a\", \"method\": \"POST\", \"url\": \"/v1/completions\", "
                                   "\"body\": {\"model\": \"m\", \"prompt\": \"p\", \"max_tokens\": 5}}");
    assert_int_equal(r->kind, REQUEST_BATCH);
    assert_string_equal(r->id, "a");
    assert_string_equal(r->prompt, "p");
    assert_int_equal(r->sampling.max_tokens, 5);
    request_free(r);
    r = parse_good("{\"custom_id\": \"b\", \"method\": \"POST\", \"url\": \"/v1/chat/completions\", "
                   "\"body\": {\"messages\": [], \"max_completion_tokens\": 9}}");
    assert_non_null(r->messages);
    assert_int_equal(r->sampling.max_tokens, 9);
    request_free(r);
}

static void test_sampling_keys(void **state)
{
    (void)state;
    struct request *r = parse_good(
        "{\"prompt\": \"p\", \"max_tokens\": 100, \"min_tokens\": 3, \"n\": 4, \"temperature\": 0.5, \"top_p\": 0.9, \"min_p\": 0.1, \"top_k\": 40.0,"
        " \"presence_penalty\": -2, \"frequency_penalty\": 2, \"repetition_penalty\": 1.5, \"seed\": -9223372036854775808, \"ignore_eos\": true,"
        " \"echo\": true, \"logprobs\": 5, \"stop\": [\"\\n\", \"END\"], \"stop_token_ids\": [1, 2, 3], \"logit_bias\": {\"50256\": -100, \"7\": 0.5},"
        " \"response_format\": {\"type\": \"text\"}, \"stream\": false, \"best_of\": 2, \"suffix\": null}");
    const struct sampling *s = &r->sampling;
    assert_int_equal(s->max_tokens, 100);
    assert_int_equal(s->min_tokens, 3);
    assert_int_equal(s->n, 4);
    assert_true(s->temperature == 0.5f && s->top_p == 0.9f && s->min_p == 0.1f);
    assert_int_equal(s->top_k, 40);
    assert_true(s->presence_penalty == -2 && s->frequency_penalty == 2 && s->repetition_penalty == 1.5f);
    assert_true(s->seed == (uint64_t)1 << 63 && s->ignore_eos && s->echo);
    assert_int_equal(s->logprobs, 5);
    assert_int_equal(s->n_stop, 2);
    assert_string_equal(s->stop[1], "END");
    assert_int_equal(s->n_stop_id, 3);
    assert_int_equal(s->stop_ids[2], 3);
    assert_int_equal(s->n_bias, 2);
    assert_true(s->bias[0].id == 50256 && s->bias[0].bias == -100 && s->bias[1].id == 7 && s->bias[1].bias == 0.5f);
    assert_int_equal(rr.warned.n, 0);
    request_free(r);

    r = parse_good("{\"prompt\": \"p\", \"stop\": \"x\", \"temperature\": null, \"n\": null}");
    assert_int_equal(r->sampling.n_stop, 1);
    assert_string_equal(r->sampling.stop[0], "x");
    assert_true(r->sampling.temperature == 1 && r->sampling.n == 1);
    request_free(r);
    r = parse_good("{\"prompt\": \"p\", \"stop\": [], \"logit_bias\": {}, \"stop_token_ids\": []}");
    assert_int_equal(r->sampling.n_stop + r->sampling.n_bias + r->sampling.n_stop_id, 0);
    request_free(r);
}

static void test_logprobs(void **state)
{
    (void)state;
    static const struct { const char *keys; int want; } cases[] = {
        { "\"logprobs\": 0", 0 }, { "\"logprobs\": 20", 20 }, { "\"logprobs\": true", 0 }, { "\"logprobs\": false", -1 },
        { "\"logprobs\": true, \"top_logprobs\": 3", 3 }, { "\"top_logprobs\": 3, \"logprobs\": true", 3 },
        { "\"logprobs\": true, \"top_logprobs\": null", 0 }, { "\"top_logprobs\": 0, \"logprobs\": false", -1 }, { "\"logprobs\": null", -1 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[128];
        snprintf(text, sizeof text, "{\"prompt\": \"p\", %s}", cases[i].keys);
        struct request *r = parse_good(text);
        assert_int_equal(r->sampling.logprobs, cases[i].want);
        request_free(r);
    }
}

static void test_bad_lines(void **state)
{
    (void)state;
    static const struct { const char *text, *want; } cases[] = {
        { "", "the line is empty" },
        { " \t", "the line is empty" },
        { "{\"prompt\": \"a\"", "column 14: '}' expected near end of file" },
        { "{\"prompt\": \"a\"} {}", "column 17: end of file expected" },
        { "{\"prompt\": \"\xc3(\"}", "byte 13: not UTF-8" },
        { "[1]", "a line must be a JSON object, not an array" },
        { "\"x\"", "a line must be a JSON object, not a string" },
        { "{}", "no prompt: a line has one of prompt, prompt_token_ids and messages" },
        { "{\"prompt\": null}", "no prompt" },
        { "{\"prompt\": \"a\", \"messages\": []}", "messages is a second prompt: a line has one of" },
        { "{\"prompt\": \"a\", \"prompt_token_ids\": [1]}", "prompt_token_ids is a second prompt" },
        { "{\"prompt\": 5}", "prompt must be a string or a list of token ids, not an integer" },
        { "{\"prompt\": []}", "prompt is an empty list" },
        { "{\"prompt\": [\"a\", \"b\"]}", "prompt is a list of 2 prompts: write one line for each" },
        { "{\"prompt\": [1, \"b\"]}", "prompt[1] must be a token id, an integer from 0 to 2147483647" },
        { "{\"prompt\": [-1]}", "prompt[0] must be a token id" },
        { "{\"prompt\": [2147483648]}", "prompt[0] must be a token id" },
        { "{\"prompt_token_ids\": \"a\"}", "prompt_token_ids must be a list of token ids, not a string" },
        { "{\"messages\": \"a\"}", "messages must be a list, not a string" },
        { "{\"prompt\": \"a\", \"id\": 1.5}", "id must be a string, not a number" },
        { "{\"prompt\": \"a\", \"id\": \"\\u0000\"}", "id must not hold a NUL character" },
        { "{\"prompt\": \"a\", \"expected\": 4}", "expected must be a string, not an integer" },
        { "{\"prompt\": \"a\", \"arrival_s\": -1}", "arrival_s must be 0 or more, not -1" },
        { "{\"prompt\": \"a\", \"arrival_s\": \"1\"}", "arrival_s must be a number of seconds, not a string" },
        { "{\"prompt\": \"a\", \"temperature\": -1}", "temperature must be 0 or more, not -1" },
        { "{\"prompt\": \"a\", \"temperature\": 1e300}", "temperature must be 3.402823466e+38 or less, not 1e+300" },
        { "{\"prompt\": \"a\", \"temperature\": \"hot\"}", "temperature must be a number, not a string" },
        { "{\"prompt\": \"a\", \"top_p\": 1.01}", "top_p must be 1 or less, not 1.01" },
        { "{\"prompt\": \"a\", \"top_k\": -2}", "top_k must be -1 or more, not -2" },
        { "{\"prompt\": \"a\", \"top_k\": 1.5}", "top_k must be an integer, not 1.5" },
        { "{\"prompt\": \"a\", \"max_tokens\": 0}", "max_tokens must be 1 or more, not 0" },
        { "{\"prompt\": \"a\", \"max_tokens\": 2147483648}", "max_tokens must be 2147483647 or less, not 2147483648" },
        { "{\"prompt\": \"a\", \"max_tokens\": 9223372036854775807}", "max_tokens must be 2147483647 or less" },
        { "{\"prompt\": \"a\", \"max_tokens\": [1]}", "max_tokens must be an integer, not an array" },
        { "{\"prompt\": \"a\", \"min_tokens\": 17}", "min_tokens is 17, more than max_tokens, 16" },
        { "{\"prompt\": \"a\", \"n\": 0}", "n must be 1 or more, not 0" },
        { "{\"prompt\": \"a\", \"n\": 1025}", "n must be 1024 or less, not 1025" },
        { "{\"prompt\": \"a\", \"seed\": 1.5}", "seed must be an integer of 64 bits, not a number" },
        { "{\"prompt\": \"a\", \"repetition_penalty\": 0}", "repetition_penalty must be 0.01 or more, not 0" },
        { "{\"prompt\": \"a\", \"presence_penalty\": 3}", "presence_penalty must be 2 or less, not 3" },
        { "{\"prompt\": \"a\", \"ignore_eos\": 1}", "ignore_eos must be true or false, not an integer" },
        { "{\"prompt\": \"a\", \"stop\": 1}", "stop must be a string or a list of strings, not an integer" },
        { "{\"prompt\": \"a\", \"stop\": [\"x\", null]}", "stop must be a string or a list of strings, not null" },
        { "{\"prompt\": \"a\", \"stop\": \"\"}", "stop must not hold an empty string" },
        { "{\"prompt\": \"a\", \"stop\": \"a\\u0000\"}", "stop must not hold a NUL character" },
        { "{\"prompt\": \"a\", \"stop_token_ids\": [1, true]}", "stop_token_ids[1] must be a token id" },
        { "{\"prompt\": \"a\", \"logit_bias\": []}", "logit_bias must be an object {\"token id\": bias}, not an array" },
        { "{\"prompt\": \"a\", \"logit_bias\": {\"x\": 1}}", "logit_bias: \"x\" is not a token id" },
        { "{\"prompt\": \"a\", \"logit_bias\": {\"\": 1}}", "logit_bias: \"\" is not a token id" },
        { "{\"prompt\": \"a\", \"logit_bias\": {\"9999999999\": 1}}", "logit_bias: \"9999999999\" is not a token id" },
        { "{\"prompt\": \"a\", \"logit_bias\": {\"1\": 101}}", "logit_bias must be 100 or less, not 101" },
        { "{\"prompt\": \"a\", \"logit_bias\": {\"1\": \"x\"}}", "logit_bias: the bias of token 1 must be a number, not a string" },
        { "{\"prompt\": \"a\", \"logprobs\": 21}", "logprobs must be 20 or less, not 21" },
        { "{\"prompt\": \"a\", \"top_logprobs\": 2}", "top_logprobs needs \"logprobs\": true beside it" },
        { "{\"prompt\": \"a\", \"stream\": true}", "stream must be false" },
        { "{\"prompt\": \"a\", \"stream\": 0}", "stream must be true or false, not an integer" },
        { "{\"prompt\": \"a\", \"response_format\": {\"type\": \"json_object\"}}", "structured output (response_format) is not supported yet" },
        { "{\"prompt\": \"a\", \"response_format\": 1}", "response_format must be an object with a \"type\"" },
        { "{\"prompt\": \"a\", \"guided_regex\": \"a+\"}", "structured output (guided_regex) is not supported yet" },
        { "{\"prompt\": \"a\", \"best_of\": \"x\"}", "best_of must be an integer, not a string" },
        { "{\"task_id\": 1, \"prompt\": \"a\", \"output_tokens\": 0}", "output_tokens must be 1 or more, not 0" },
        { "{\"body\": {}}", "custom_id is missing" },
        { "{\"custom_id\": 1}", "custom_id must be a string, not an integer" },
        { "{\"custom_id\": null}", "custom_id must be a string, not null" },
        { "{\"custom_id\": \"1\"}", "method is missing" },
        { "{\"custom_id\": \"2\", \"method\": 1}", "method must be a string, not an integer" },
        { "{\"custom_id\": \"3\", \"method\": \"GET\", \"url\": \"\"}", "method must be POST, not \"GET\"" },
        { "{\"custom_id\": \"4\", \"method\": \"POST\", \"url\": \"/v1/embeddings\"}",
          "url must be /v1/completions or /v1/chat/completions, not \"/v1/embeddings\"" },
        { "{\"custom_id\": \"5\", \"method\": \"POST\", \"url\": \"/v1/completions\"}", "body must be an object, not nothing" },
        { "{\"custom_id\": \"6\", \"method\": \"POST\", \"url\": \"/v1/completions\", \"body\": []}", "body must be an object, not an array" },
        { "{\"custom_id\": \"7\", \"method\": \"POST\", \"url\": \"/v1/completions\", \"body\": {}}", "no prompt" },
        { "{\"custom_id\": \"8\", \"method\": \"POST\", \"url\": \"/v1/completions\", \"body\": {\"messages\": []}}",
          "url \"/v1/completions\" needs prompt in the body" },
        { "{\"custom_id\": \"9\", \"method\": \"POST\", \"url\": \"/v1/chat/completions\", \"body\": {\"prompt\": \"\"}}",
          "url \"/v1/chat/completions\" needs messages in the body" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_error(cases[i].text, cases[i].want);
}

static void test_overlong_line(void **state)
{
    (void)state;
    struct request *r = request_parse(&rr, "f", 1, 0, NULL, (size_t)300 << 20);
    assert_string_equal(r->error, "the line has 314572800 bytes; the longest that is read has 268435456");
    assert_null(r->id);
    request_free(r);
}

static void test_byte_order_mark(void **state)
{
    (void)state;
    const char *text = "\xef\xbb\xbf{\"prompt\": \"a\"}";
    struct request *r = request_parse(&rr, "f", 1, 0, text, strlen(text));
    assert_null(r->error);
    request_free(r);
    r = request_parse(&rr, "f", 2, 1, text, strlen(text));
    assert_non_null(r->error);
    request_free(r);
}

/* A bad line whose id is known keeps it, for its error row. */
static void test_bad_line_keeps_id(void **state)
{
    (void)state;
    struct request *r = parse("{\"custom_id\": \"k\", \"method\": \"POST\", \"url\": \"/v1/completions\", \"body\": {\"prompt\": \"p\", \"temperature\": -1}}");
    assert_string_equal(r->error, "temperature must be 0 or more, not -1");
    assert_string_equal(r->id, "k");
    request_fail(r, "another %s", "error");
    assert_string_equal(r->error, "temperature must be 0 or more, not -1");
    request_free(r);
    r = parse("{\"n\": 0, \"prompt\": \"p\", \"id\": 8}");
    assert_string_equal(r->id, "8");
    assert_true(r->error && r->id_is_int);
    request_free(r);
}

static struct request *batch_line(const char *id, const char *file, uint64_t line)
{
    char text[256];
    int n = snprintf(text, sizeof text, "{\"custom_id\": \"%s\", \"method\": \"POST\", \"url\": \"/v1/completions\", \"body\": {\"prompt\": \"p\"}}", id);
    return request_parse(&rr, file, line, 0, text, (size_t)n);
}

static void test_duplicate_ids(void **state)
{
    (void)state;
    char id[16];
    for (uint64_t line = 1; line <= 1000; line++) {
        snprintf(id, sizeof id, "r%u", (unsigned)line);
        struct request *r = batch_line(id, "a.jsonl", line);
        assert_null(r->error);
        request_free(r);
    }
    struct request *r = batch_line("r700", "a.jsonl", 1001);
    assert_string_equal(r->error, "custom_id \"r700\" was used before, on line 700");
    assert_string_equal(r->id, "r700");
    request_free(r);
    r = batch_line("r1", "b.jsonl", 1);
    assert_string_equal(r->error, "custom_id \"r1\" was used before, on line 1 of a.jsonl");
    request_free(r);
}

static void test_unknown_keys_warn_once(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++)
        request_free(parse_good("{\"prompt\": \"p\", \"user\": \"me\", \"suffix\": \"s\", \"best_of\": 3, \"void\": null}"));
    assert_int_equal(rr.warned.n, 3);
    const char *text = "{\"prompt\": \"p\", \"user\": \"me\"}";
    request_free(request_parse(&rr, "other.jsonl", 1, 0, text, strlen(text)));
    assert_int_equal(rr.warned.n, 4);
    for (int i = 0; i < 3000; i++) {
        char many[64];
        snprintf(many, sizeof many, "{\"prompt\": \"p\", \"key%d\": 1}", i);
        request_free(parse_good(many));
    }
    assert_int_equal(rr.warned.n, 1000);
}

/* Each prompt file of the public material, judged by what is known of it. */
static void test_real_prompts(void **state)
{
    (void)state;
    static const struct { const char *file; int n, n_bad; } cases[] = {
        { PROMPTS "HumanEval.jsonl.gz", 164, 0 }, { PROMPTS "openai_example_batch.jsonl", 2, 0 }, { PROMPTS "alpaca_seed_tasks.jsonl", 175, 175 },
        { "../shared/material/5-bad-input/ndjson/amazon_cellphones.ndjson", 793, 793 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct zreader *z = zreader_open(cases[i].file);
        char *text;
        size_t len;
        int n = 0, n_bad = 0;
        if (!z) {
            print_message("skipped: no %s\n", cases[i].file);
            continue;
        }
        while (zreader_line(z, &text, &len) == 1) {
            struct request *r = request_parse(&rr, cases[i].file, (uint64_t)++n, 0, text, len);
            n_bad += r->error != NULL;
            request_free(r);
        }
        zreader_close(z);
        assert_int_equal(n, cases[i].n);
        assert_int_equal(n_bad, cases[i].n_bad);
    }
}

/* What holds of every request, however it was made. */
static void check_request(const struct request *r)
{
    const struct sampling *s = &r->sampling;
    if (r->error) {
        assert_true(r->error[0]);
        return;
    }
    assert_int_equal(!!r->prompt + !!r->prompt_ids + !!r->messages, 1);
    assert_true(!r->prompt_ids || r->n_prompt);
    for (uint32_t i = 0; i < r->n_prompt; i++)
        assert_true(r->prompt_ids[i] >= 0);
    assert_true(s->n >= 1 && s->n <= 1024 && s->max_tokens >= 1 && s->min_tokens <= s->max_tokens);
    assert_true(s->temperature >= 0 && s->top_p >= 0 && s->top_p <= 1 && s->logprobs >= -1 && s->logprobs <= 20);
    for (uint32_t i = 0; i < s->n_stop; i++)
        assert_true(s->stop[i][0]);
    for (uint32_t i = 0; i < s->n_bias; i++)
        assert_true(s->bias[i].id >= 0 && s->bias[i].bias >= -100 && s->bias[i].bias <= 100);
    assert_true(r->kind != REQUEST_BATCH || r->id);
}

/* Copies, drops or overwrites a piece of the line; pieces of other lines come in too. */
static size_t mutate(struct rng *rng, char *line, size_t len, size_t room, const char *other)
{
    static const char *const words[] = { "null", "-1", "1e99", "{", "}", "[", "]", "\"", ",", ":", "\\u0000", "\\ud800", "\xff", "\xc3\xa9", "2147483648", "1.5", "true" };
    size_t at = rng_below(rng, (uint32_t)len + 1), n;
    const char *from = rng_below(rng, 2) ? words[rng_below(rng, sizeof words / sizeof *words)] : other + rng_below(rng, (uint32_t)strlen(other));
    switch (rng_below(rng, 3)) {
    case 0:
        n = rng_below(rng, 8) % (len - at + 1);
        memmove(line + at, line + at + n, len - at - n);
        return len - n;
    case 1:
        n = strlen(from) < 12 ? strlen(from) : 12;
        if (n > room - len)
            return len;
        memmove(line + at + n, line + at, len - at);
        memcpy(line + at, from, n);
        return len + n;
    default:
        if (at < len)
            line[at] = from[0];
        return len;
    }
}

static void test_mutated_lines(void **state)
{
    (void)state;
    static const char *const seeds[] = {
        "{\"prompt\": \"Hi\", \"id\": 5, \"n\": 2, \"temperature\": 0.7, \"top_k\": 5, \"stop\": [\"a\", \"b\"], \"logit_bias\": {\"5\": 2.5}, \"seed\": 3}",
        "{\"custom_id\": \"a\", \"method\": \"POST\", \"url\": \"/v1/completions\", \"body\": {\"prompt\": [1, 2], \"logprobs\": 3, \"echo\": true}}",
        "{\"custom_id\": \"b\", \"method\": \"POST\", \"url\": \"/v1/chat/completions\", \"body\": {\"messages\": [], \"logprobs\": true, \"top_logprobs\": 2}}",
        "{\"task_id\": 7, \"input_ids\": [3, 4, 5], \"output_tokens\": 12, \"stop_token_ids\": [1], \"min_tokens\": 1}",
        "{\"prompt_token_ids\": [1], \"expected\": \"x\", \"arrival_s\": 0.5, \"response_format\": {\"type\": \"text\"}, \"best_of\": 1, \"user\": 1}",
    };
    enum { N_SEED = sizeof seeds / sizeof *seeds };
    struct rng rng;
    int n_good = 0, n_bad = 0;
    rng_init(&rng, 3);
    for (int round = 0; round < 20000; round++) {
        char line[512];
        size_t len = strlen(strcpy(line, seeds[rng_below(&rng, N_SEED)]));
        for (uint32_t k = rng_below(&rng, 4); k + 1; k--)
            len = mutate(&rng, line, len, sizeof line, seeds[rng_below(&rng, N_SEED)]);
        char *exact = malloc(len + !len);       /* so that ASan sees a read past the end */
        assert_non_null(exact);
        memcpy(exact, line, len);
        struct request *r = request_parse(&rr, "f", 2, 0, exact, len);
        check_request(r);
        r->error ? n_bad++ : n_good++;
        request_free(r);
        request_reader_free(&rr);               /* else every Batch line after the first is a duplicate */
        free(exact);
    }
    assert_in_range(n_good, 200, 15000);
    assert_true(n_bad > 5000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_plain, fresh_reader, free_reader),
        cmocka_unit_test_setup_teardown(test_prompt_forms, fresh_reader, free_reader),
        cmocka_unit_test_setup_teardown(test_trtllm, fresh_reader, free_reader),
        cmocka_unit_test_setup_teardown(test_batch, fresh_reader, free_reader),
        cmocka_unit_test_setup_teardown(test_sampling_keys, fresh_reader, free_reader),
        cmocka_unit_test_setup_teardown(test_logprobs, fresh_reader, free_reader),
        cmocka_unit_test_setup_teardown(test_bad_lines, fresh_reader, free_reader),
        cmocka_unit_test_setup_teardown(test_overlong_line, fresh_reader, free_reader),
        cmocka_unit_test_setup_teardown(test_byte_order_mark, fresh_reader, free_reader),
        cmocka_unit_test_setup_teardown(test_bad_line_keeps_id, fresh_reader, free_reader),
        cmocka_unit_test_setup_teardown(test_duplicate_ids, fresh_reader, free_reader),
        cmocka_unit_test_setup_teardown(test_unknown_keys_warn_once, fresh_reader, free_reader),
        cmocka_unit_test_setup_teardown(test_real_prompts, fresh_reader, free_reader),
        cmocka_unit_test_setup_teardown(test_mutated_lines, fresh_reader, free_reader),
    };
    return cmocka_run_group_tests_name("request", tests, NULL, NULL);
}

/* Lines of a corpus: each is an error or a request within limits, and its row is one line of JSON. */
#include "tests/fuzz/fuzz.h"

#include <math.h>

#include "base/mem.h"
#include "data/answer.h"
#include "data/json.h"
#include "model/config.h"       /* byte_tokenizer_put_json */

static const char *stops[] = { "." };
static const struct sampling defaults[] = {
    { .max_tokens = 16, .n = 1, .top_p = 1, .repetition_penalty = 1, .logprobs = -1 },
    { .n = 3, .temperature = 1, .top_p = 0.5f, .repetition_penalty = 1, .logprobs = 2, .stop = stops, .n_stop = 1, .echo = true },
};

static struct tok_state *bytes(void)
{
    static struct tok_state *s;
    if (!s) {
        struct buf json = {0};
        byte_tokenizer_put_json(&json);
        s = tok_state_open(tokenizer_parse(json.data, json.len));
        buf_free(&json);
    }
    return s;
}

static void check_sampling(const struct sampling *s)
{
    CHECK(s->max_tokens >= 0 && s->min_tokens >= 0 && (!s->max_tokens || s->min_tokens <= s->max_tokens));
    CHECK(s->n >= 1 && s->n <= 1024 && s->top_k >= -1 && s->logprobs >= -1 && s->logprobs <= 20);
    CHECK(isfinite(s->temperature) && s->temperature >= 0 && s->top_p >= 0 && s->top_p <= 1 && s->min_p >= 0 && s->min_p <= 1);
    CHECK(fabsf(s->presence_penalty) <= 2 && fabsf(s->frequency_penalty) <= 2 && s->repetition_penalty > 0 && isfinite(s->repetition_penalty));
    for (uint32_t i = 0; i < s->n_stop; i++)
        CHECK(s->stop[i][0]);
    for (uint32_t i = 0; i < s->n_stop_id; i++)
        CHECK(s->stop_ids[i] >= 0);
    for (uint32_t i = 0; i < s->n_bias; i++)
        CHECK(s->bias[i].id >= 0 && fabsf(s->bias[i].bias) <= 100);
}

static void check_request(const struct request *r)
{
    size_t at;
    CHECK((r->prompt != NULL) + (r->prompt_ids != NULL) + (r->messages != NULL) == 1);
    CHECK(!r->prompt || utf8_valid(r->prompt, r->prompt_len, &at));
    CHECK(!r->prompt_ids || r->n_prompt);
    for (uint32_t i = 0; i < r->n_prompt; i++)
        CHECK(r->prompt_ids[i] >= 0);
    CHECK(r->arrival_s == -1 || (r->arrival_s >= 0 && isfinite(r->arrival_s)));
    CHECK(r->kind != REQUEST_BATCH || r->id);
    check_sampling(&r->sampling);
}

/* An answer that says what the line says. */
static void fill(struct answer *a, const char *text, size_t len)
{
    const struct sampling *s = &a->request->sampling;
    for (uint32_t i = 0; i < a->n_output; i++) {
        struct output *o = &a->outputs[i];
        o->n_id = o->n_generated = (uint32_t)(len < 20 ? len : 20);
        o->ids = mem_array(o->n_id, sizeof *o->ids);
        o->at_text = s->n_stop && o->n_id;
        o->n_top = s->logprobs > 0 ? (uint32_t)s->logprobs : 0;
        o->logprobs = s->logprobs >= 0 ? mem_array(o->n_id, sizeof *o->logprobs) : NULL;
        o->tops = o->n_top ? mem_array((size_t)o->n_id * o->n_top, sizeof *o->tops) : NULL;
        for (uint32_t k = 0; k < o->n_id; k++)
            o->ids[k] = (uint8_t)text[k];
        for (uint32_t k = 0; k < o->n_id * o->n_top; k++)
            o->tops[k].id = (int32_t)('a' + k % o->n_top);      /* no NUL: jansson does not read it in a key */
    }
}

/* Takes r. */
static void check_row(struct request *r, const char *text, size_t len)
{
    struct answer *a = answer_new(r);
    struct buf row = {0};
    int match;
    fill(a, text, len);
    answer_put_row(&row, a, bytes(), &(struct row_style){ "m", true, true }, &match);
    CHECK(row.len && memchr(row.data, '\n', row.len) == row.data + row.len - 1);
    struct json *j = json_parse_line(row.data, row.len - 1);
    CHECK(j && json_get(j, r->kind == REQUEST_BATCH ? "custom_id" : "id"));
    CHECK(r->error ? match == -1 : (match == -1) == !r->expected);
    json_free(j);
    buf_free(&row);
    answer_free(a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct request_reader rr = { .defaults = defaults[size % 2] };
    uint64_t index = 0;
    for (const char *at = (const char *)data, *end = at + size; at < end && index < 8; index++) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t len = (size_t)((newline ? newline : end) - at);
        char *line = mem_dup(at, len);          /* of its own: reading behind it is seen */
        struct request *r = request_parse(&rr, "corpus", index + 1, index, line, len);
        CHECK(r->index == index && (!r->error || r->error[0]));
        if (!r->error)
            check_request(r);
        if (r->sampling.n <= 4 && !r->messages)
            check_row(r, line, len);
        else
            request_free(r);
        free(line);
        at += len + 1;
    }
    request_reader_free(&rr);
    return 0;
}

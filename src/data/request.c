#include "data/request.h"

#include <float.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "data/json.h"
#include "data/zfile.h"     /* ZFILE_MAX_LINE */

#define MAX_N 1024              /* answers to one prompt */
#define MAX_TOP 20              /* logprobs a token, as in OpenAI's chat API */
#define MAX_WARNED 1000         /* keys; a corpus of random keys must not fill memory or the terminal */

struct line {
    struct request_reader *rr;
    struct request *r;
    const struct json *keys;    /* the object that holds prompt and sampling keys: the line, or its body */
};

/* A key that means something: how it is read, into which field of struct sampling, within which limits. */
struct key {
    const char *name;
    int (*read)(struct line *l, const struct key *k, const struct json *v);
    size_t at;
    double min, max;
};

static void *field(struct line *l, const struct key *k)
{
    return (char *)&l->r->sampling + k->at;
}

/* A key's value; NULL if it is not there or null, which is the same. */
static const struct json *given(const struct json *object, const char *name)
{
    const struct json *v = json_get(object, name);
    return v && json_kind(v) != JSON_KIND_NULL ? v : NULL;
}

static int bad_kind(const struct key *k, const char *want, const struct json *v)
{
    return err_set("%s must be %s, not %s", k->name, want, json_kind_name(v));
}

static int in_range(const struct key *k, double x)
{
    if (x < k->min)
        return err_set("%s must be %.10g or more, not %.10g", k->name, k->min, x);
    if (x > k->max)
        return err_set("%s must be %.10g or less, not %.10g", k->name, k->max, x);
    return 0;
}

static int read_int(struct line *l, const struct key *k, const struct json *v)
{
    int64_t i;
    double x;
    if (!json_number(v, &x))
        return bad_kind(k, "an integer", v);
    if (!json_int(v, &i))
        return err_set("%s must be an integer, not %.10g", k->name, x);
    if (in_range(k, x))
        return -1;
    *(int32_t *)field(l, k) = (int32_t)i;
    return 0;
}

static int read_real(struct line *l, const struct key *k, const struct json *v)
{
    double x;
    if (!json_number(v, &x))
        return bad_kind(k, "a number", v);
    if (in_range(k, x))
        return -1;
    *(float *)field(l, k) = (float)x;
    return 0;
}

static int read_bool(struct line *l, const struct key *k, const struct json *v)
{
    return json_bool(v, field(l, k)) ? 0 : bad_kind(k, "true or false", v);
}

static int read_seed(struct line *l, const struct key *k, const struct json *v)
{
    int64_t seed;
    if (!json_int(v, &seed))
        return bad_kind(k, "an integer of 64 bits", v);
    l->r->sampling.seed = (uint64_t)seed;
    l->r->sampling.own_seed = true;
    return 0;
}

/* trtllm-bench: so many tokens exactly. */
static int read_max_tokens(struct line *l, const struct key *k, const struct json *v)
{
    l->r->sampling.own_max_tokens = true;
    return read_int(l, k, v);
}

static int read_output_tokens(struct line *l, const struct key *k, const struct json *v)
{
    if (!given(l->keys, "ignore_eos"))
        l->r->sampling.ignore_eos = true;
    return read_max_tokens(l, k, v);
}

static int add_stop(struct sampling *s, const struct json *v)
{
    size_t len;
    const char *text = json_text(v, &len);
    if (!text)
        return err_set("stop must be a string or a list of strings, not %s", json_kind_name(v));
    if (!len)
        return err_set("stop must not hold an empty string");
    if (strlen(text) != len)
        return err_set("stop must not hold a NUL character");
    s->stop[s->n_stop++] = text;
    return 0;
}

static int read_stop(struct line *l, const struct key *k, const struct json *v)
{
    (void)k;
    struct sampling *s = &l->r->sampling;
    bool list = json_kind(v) == JSON_KIND_ARRAY;
    size_t n = list ? json_len(v) : 1;
    s->stop = arena_alloc(&l->r->arena, n * sizeof *s->stop);
    s->n_stop = 0;
    for (size_t i = 0; i < n; i++)
        if (add_stop(s, list ? json_at(v, i) : v))
            return -1;
    return 0;
}

/* A list of token ids; NULL: err_text().  Whether the vocabulary has them is for who knows the vocabulary. */
static int32_t *read_ids(struct line *l, const struct key *k, const struct json *v, uint32_t *n_id)
{
    size_t n = json_len(v);
    if (json_kind(v) != JSON_KIND_ARRAY) {
        bad_kind(k, "a list of token ids", v);
        return NULL;
    }
    int32_t *ids = arena_alloc(&l->r->arena, n * sizeof *ids);
    for (size_t i = 0; i < n; i++) {
        int64_t id;
        if (!json_int(json_at(v, i), &id) || id < 0 || id > INT32_MAX) {
            err_set("%s[%zu] must be a token id, an integer from 0 to %d", k->name, i, INT32_MAX);
            return NULL;
        }
        ids[i] = (int32_t)id;
    }
    *n_id = (uint32_t)n;
    return ids;
}

static int read_stop_ids(struct line *l, const struct key *k, const struct json *v)
{
    struct sampling *s = &l->r->sampling;
    uint32_t n = 0;
    int32_t *ids = read_ids(l, k, v, &n);
    if (!ids)
        return -1;
    s->stop_ids = ids;
    s->n_stop_id = n;
    return 0;
}

/* One pair of logit_bias: {"50256": -100}. */
static int read_bias(struct logit_bias *b, const struct key *k, const char *id, const struct json *v)
{
    size_t digits = strspn(id, "0123456789");
    long long value = strtoll(id, NULL, 10);    /* at most 10 digits are let through, so it cannot overflow */
    if (!digits || digits > 10 || id[digits] || value > INT32_MAX)
        return err_set("%s: \"%.40s\" is not a token id", k->name, id);
    double x;
    if (!json_number(v, &x))
        return err_set("%s: the bias of token %lld must be a number, not %s", k->name, value, json_kind_name(v));
    if (in_range(k, x))
        return -1;
    *b = (struct logit_bias){ (int32_t)value, (float)x };
    return 0;
}

static int read_logit_bias(struct line *l, const struct key *k, const struct json *v)
{
    struct sampling *s = &l->r->sampling;
    if (json_kind(v) != JSON_KIND_OBJECT)
        return bad_kind(k, "an object {\"token id\": bias}", v);
    s->bias = arena_alloc(&l->r->arena, json_len(v) * sizeof *s->bias);
    s->n_bias = 0;
    for (void *it = json_first(v); it; it = json_next(v, it))
        if (read_bias(&s->bias[s->n_bias++], k, json_key(it), json_value(it)))
            return -1;
    return 0;
}

/* A number as in the completions API, or true as in the chat API, where top_logprobs says how many. */
static int read_logprobs(struct line *l, const struct key *k, const struct json *v)
{
    bool on;
    if (!json_bool(v, &on))
        return read_int(l, k, v);
    if (!on || !given(l->keys, "top_logprobs"))
        l->r->sampling.logprobs = on ? 0 : -1;
    return 0;
}

static int read_top_logprobs(struct line *l, const struct key *k, const struct json *v)
{
    bool on = false;
    int64_t top;
    json_bool(json_get(l->keys, "logprobs"), &on);
    if (!on && json_int(v, &top) && top == 0)
        return 0;
    return on ? read_int(l, k, v) : err_set("%s needs \"logprobs\": true beside it", k->name);
}

static int read_stream(struct line *l, const struct key *k, const struct json *v)
{
    (void)l;
    bool on;
    if (!json_bool(v, &on))
        return bad_kind(k, "true or false", v);
    return on ? err_set("stream must be false: rows are written when they are complete") : 0;
}

static int read_structured(struct line *l, const struct key *k, const struct json *v)
{
    (void)l, (void)v;
    return err_set("structured output (%s) is not supported yet", k->name);
}

static int read_response_format(struct line *l, const struct key *k, const struct json *v)
{
    const char *type = json_text(json_get(v, "type"), NULL);
    if (!type)
        return err_set("%s must be an object with a \"type\"", k->name);
    return strcmp(type, "text") ? read_structured(l, k, v) : 0;
}

static int no_prompt_yet(const struct line *l, const struct key *k)
{
    if (l->r->prompt || l->r->prompt_ids || l->r->messages)
        return err_set("%s is a second prompt: a line has one of prompt, prompt_token_ids and messages", k->name);
    return 0;
}

static int read_prompt_ids(struct line *l, const struct key *k, const struct json *v)
{
    struct request *r = l->r;
    if (no_prompt_yet(l, k))
        return -1;
    r->prompt_ids = read_ids(l, k, v, &r->n_prompt);
    if (r->prompt_ids && !r->n_prompt)
        return err_set("%s is an empty list", k->name);
    return r->prompt_ids ? 0 : -1;
}

/* A string, a list of token ids, or a list that holds one such prompt. */
static int read_prompt(struct line *l, const struct key *k, const struct json *v)
{
    const struct json *first = json_at(v, 0);
    if (first && (json_kind(first) == JSON_KIND_STRING || json_kind(first) == JSON_KIND_ARRAY)) {
        if (json_len(v) > 1)
            return err_set("%s is a list of %zu prompts: write one line for each", k->name, json_len(v));
        v = first;
    }
    if (json_kind(v) == JSON_KIND_ARRAY)
        return read_prompt_ids(l, k, v);
    if (no_prompt_yet(l, k))
        return -1;
    l->r->prompt = json_text(v, &l->r->prompt_len);
    return l->r->prompt ? 0 : bad_kind(k, "a string or a list of token ids", v);
}

static int read_messages(struct line *l, const struct key *k, const struct json *v)
{
    if (no_prompt_yet(l, k))
        return -1;
    if (json_kind(v) != JSON_KIND_ARRAY)
        return bad_kind(k, "a list", v);
    l->r->messages = v;
    return 0;
}

static int read_expected(struct line *l, const struct key *k, const struct json *v)
{
    l->r->expected = json_text(v, &l->r->expected_len);
    return l->r->expected ? 0 : bad_kind(k, "a string", v);
}

static int read_arrival(struct line *l, const struct key *k, const struct json *v)
{
    double x;
    if (!json_number(v, &x))
        return bad_kind(k, "a number of seconds", v);
    l->r->arrival_s = x;
    return in_range(k, x);
}

/* Says once for each file that a key has no effect. */
static void warn_ignored(const struct line *l, const char *name)
{
    struct request_reader *rr = l->rr;
    const struct request *r = l->r;
    struct buf key = {0}, quoted = {0};
    buf_puts(&key, r->file);
    buf_put(&key, "", 1);
    buf_puts(&key, name);
    uint32_t unused;
    if (rr->warned.n < MAX_WARNED && !map_get(&rr->warned, key.data, key.len, &unused)) {
        map_put(&rr->warned, arena_dup(&rr->names, key.data, key.len), key.len, 0);
        json_put_string(&quoted, name, strlen(name));
        log_warn("%s: line %" PRIu64 ": key %.80s has no effect here%s", r->file, r->line, quoted.data,
                 rr->warned.n == MAX_WARNED ? "; no more such keys are named" : "");
    }
    buf_free(&key);
    buf_free(&quoted);
}

/* Candidates beyond the answers asked for would be thrown away. */
static int read_best_of(struct line *l, const struct key *k, const struct json *v)
{
    int64_t n = l->rr->defaults.n, best_of;
    json_int(json_get(l->keys, "n"), &n);
    if (!json_int(v, &best_of))
        return bad_kind(k, "an integer", v);
    if (best_of > n)
        warn_ignored(l, k->name);
    return 0;
}

/* Read elsewhere, or of no meaning here. */
static int read_nothing(struct line *l, const struct key *k, const struct json *v)
{
    (void)l, (void)k, (void)v;
    return 0;
}

#define AT(member) offsetof(struct sampling, member)

static const struct key body_keys[] = {
    { "model",                 read_nothing,         0, 0, 0 },
    { "prompt",                read_prompt,          0, 0, 0 },
    { "prompt_token_ids",      read_prompt_ids,      0, 0, 0 },
    { "messages",              read_messages,        0, 0, 0 },
    { "max_tokens",            read_max_tokens,      AT(max_tokens),         1, INT32_MAX },
    { "max_completion_tokens", read_max_tokens,      AT(max_tokens),         1, INT32_MAX },
    { "min_tokens",            read_int,             AT(min_tokens),         0, INT32_MAX },
    { "temperature",           read_real,            AT(temperature),        0, FLT_MAX },
    { "top_p",                 read_real,            AT(top_p),              0, 1 },
    { "top_k",                 read_int,             AT(top_k),             -1, INT32_MAX },
    { "min_p",                 read_real,            AT(min_p),              0, 1 },
    { "seed",                  read_seed,            0, 0, 0 },
    { "n",                     read_int,             AT(n),                  1, MAX_N },
    { "best_of",               read_best_of,         0, 0, 0 },
    { "stop",                  read_stop,            0, 0, 0 },
    { "stop_token_ids",        read_stop_ids,        0, 0, 0 },
    { "ignore_eos",            read_bool,            AT(ignore_eos),         0, 0 },
    { "presence_penalty",      read_real,            AT(presence_penalty),  -2, 2 },
    { "frequency_penalty",     read_real,            AT(frequency_penalty), -2, 2 },
    { "repetition_penalty",    read_real,            AT(repetition_penalty), 0.01, FLT_MAX },
    { "logit_bias",            read_logit_bias,      0, -100, 100 },
    { "logprobs",              read_logprobs,        AT(logprobs),           0, MAX_TOP },
    { "top_logprobs",          read_top_logprobs,    AT(logprobs),           0, MAX_TOP },
    { "echo",                  read_bool,            AT(echo),               0, 0 },
    { "stream",                read_stream,          0, 0, 0 },
    { "response_format",       read_response_format, 0, 0, 0 },
    { "structured_outputs",    read_structured,      0, 0, 0 },
    { "guided_json",           read_structured,      0, 0, 0 },
    { "guided_regex",          read_structured,      0, 0, 0 },
    { "guided_choice",         read_structured,      0, 0, 0 },
    { "guided_grammar",        read_structured,      0, 0, 0 },
    { NULL, NULL, 0, 0, 0 },
};

/* What only a line without a body has, beside the keys above. */
static const struct key plain_keys[] = {
    { "id",                    read_nothing,         0, 0, 0 },
    { "task_id",               read_nothing,         0, 0, 0 },
    { "input_ids",             read_prompt_ids,      0, 0, 0 },
    { "output_tokens",         read_output_tokens,   AT(max_tokens),         1, INT32_MAX },
    { "expected",              read_expected,        0, 0, 0 },
    { "arrival_s",             read_arrival,         0, 0, DBL_MAX },
    { NULL, NULL, 0, 0, 0 },
};

static const struct key batch_keys[] = {
    { "custom_id",             read_nothing,         0, 0, 0 },
    { "method",                read_nothing,         0, 0, 0 },
    { "url",                   read_nothing,         0, 0, 0 },
    { "body",                  read_nothing,         0, 0, 0 },
    { NULL, NULL, 0, 0, 0 },
};

static const struct key *find_key(const struct key *table, const char *name)
{
    while (table && table->name && strcmp(table->name, name))
        table++;
    return table && table->name ? table : NULL;
}

/* Reads every key of the object by the tables; null is the same as no key. */
static int read_keys(struct line *l, const struct json *object, const struct key *table, const struct key *more)
{
    for (void *it = json_first(object); it; it = json_next(object, it)) {
        const struct json *v = json_value(it);
        const struct key *k = find_key(table, json_key(it));
        if (!k)
            k = find_key(more, json_key(it));
        if (json_kind(v) == JSON_KIND_NULL)
            continue;
        if (!k)
            warn_ignored(l, json_key(it));
        else if (k->read(l, k, v))
            return -1;
    }
    return 0;
}

static int read_body(struct line *l, const struct key *more)
{
    const struct sampling *s = &l->r->sampling;
    if (read_keys(l, l->keys, body_keys, more))
        return -1;
    if (!l->r->prompt && !l->r->prompt_ids && !l->r->messages)
        return err_set("no prompt: a line has one of prompt, prompt_token_ids and messages");
    if (s->max_tokens && s->min_tokens > s->max_tokens)
        return err_set("min_tokens is %d, more than max_tokens, %d", s->min_tokens, s->max_tokens);
    return 0;
}

/* An id that must be text without NUL, so that a row can repeat it. */
static int read_text_id(struct request *r, const char *name, const struct json *v)
{
    size_t len;
    const char *id = json_text(v, &len);
    if (!id)
        return err_set("%s must be a string, not %s", name, json_kind_name(v));
    if (strlen(id) != len)
        return err_set("%s must not hold a NUL character", name);
    r->id = id;
    return 0;
}

static int read_plain_id(struct line *l)
{
    struct request *r = l->r;
    const char *name = given(l->keys, "id") ? "id" : "task_id";
    const struct json *v = given(l->keys, name);
    if (!v)
        return 0;
    int64_t number;
    if (json_kind(v) != JSON_KIND_INT || !json_int(v, &number))
        return read_text_id(r, name, v);
    char text[24];
    int n = snprintf(text, sizeof text, "%" PRId64, number);
    r->id = arena_dup(&r->arena, text, (size_t)n);
    r->id_is_int = true;
    return 0;
}

/* A custom_id names one line of the run. */
static int remember_id(struct request_reader *rr, const struct request *r)
{
    uint32_t at;
    size_t len = strlen(r->id);
    if (map_get(&rr->ids, r->id, len, &at)) {
        const struct request_place *first = &rr->seen[at];
        bool here = !strcmp(first->file, r->file);
        return err_set("custom_id \"%.100s\" was used before, on line %" PRIu64 "%s%s", r->id, first->line,
                       here ? "" : " of ", here ? "" : first->file);
    }
    if (rr->n_seen == UINT32_MAX)
        return err_set("more than %u custom_ids in one run: split the corpus", UINT32_MAX);
    if (rr->n_seen == rr->room) {
        rr->room = rr->room ? rr->room * 2 : 64;
        rr->seen = mem_resize(rr->seen, rr->room, sizeof *rr->seen);
    }
    rr->seen[rr->n_seen] = (struct request_place){ r->file, r->line };
    map_put(&rr->ids, arena_dup(&rr->names, r->id, len), len, (uint32_t)rr->n_seen++);
    return 0;
}

static int read_text_of(const struct json *doc, const char *name, const char **text)
{
    const struct json *v = json_get(doc, name);
    *text = json_text(v, NULL);
    if (!v)
        return err_set("%s is missing", name);
    return *text ? 0 : err_set("%s must be a string, not %s", name, json_kind_name(v));
}

static int read_batch(struct line *l)
{
    struct request *r = l->r;
    const struct json *doc = r->doc, *id = json_get(doc, "custom_id");
    const char *method, *url;
    if (!id)
        return err_set("custom_id is missing");
    if (read_text_id(r, "custom_id", id) || remember_id(l->rr, r)
            || read_text_of(doc, "method", &method) || read_text_of(doc, "url", &url))
        return -1;
    if (strcmp(method, "POST"))
        return err_set("method must be POST, not \"%.40s\"", method);
    bool chat = !strcmp(url, "/v1/chat/completions");
    if (!chat && strcmp(url, "/v1/completions"))
        return err_set("url must be /v1/completions or /v1/chat/completions, not \"%.100s\"", url);
    l->keys = json_get(doc, "body");
    if (!l->keys || json_kind(l->keys) != JSON_KIND_OBJECT)
        return err_set("body must be an object, not %s", json_kind_name(l->keys));
    if (read_keys(l, doc, batch_keys, NULL) || read_body(l, NULL))
        return -1;
    if (chat != (r->messages != NULL))
        return err_set("url \"%s\" needs %s in the body", url, chat ? "messages" : "prompt");
    return 0;
}

static enum request_kind kind_of(const struct json *doc)
{
    if (json_get(doc, "custom_id") || json_get(doc, "body"))
        return REQUEST_BATCH;
    if (json_get(doc, "task_id") || json_get(doc, "output_tokens"))
        return REQUEST_TRTLLM;
    return REQUEST_PLAIN;
}

static bool is_blank(const char *text, size_t len)
{
    size_t i = 0;
    while (i < len && (text[i] == ' ' || text[i] == '\t'))
        i++;
    return i == len;
}

static int read_document(struct request *r, const char *text, size_t len)
{
    size_t at;
    if (!text)
        return err_set("the line has %zu bytes; the longest that is read has %zu", len, ZFILE_MAX_LINE);
    if (r->line == 1 && len >= 3 && !memcmp(text, "\xef\xbb\xbf", 3)) {     /* a byte order mark, as Windows tools write it */
        text += 3;
        len -= 3;
    }
    if (is_blank(text, len))
        return err_set("the line is empty");
    if (!utf8_valid(text, len, &at))
        return err_set("byte %zu: not UTF-8", at + 1);
    r->doc = json_parse_line(text, len);
    if (!r->doc)
        return -1;
    if (json_kind(r->doc) != JSON_KIND_OBJECT)
        return err_set("a line must be a JSON object, not %s", json_kind_name(r->doc));
    return 0;
}

static int read_line(struct request_reader *rr, struct request *r, const char *text, size_t len)
{
    if (read_document(r, text, len))
        return -1;
    struct line l = { .rr = rr, .r = r, .keys = r->doc };
    r->kind = kind_of(r->doc);
    if (r->kind == REQUEST_BATCH)
        return read_batch(&l);
    return read_plain_id(&l) || read_body(&l, plain_keys) ? -1 : 0;
}

struct request *request_parse(struct request_reader *rr, const char *file, uint64_t line, uint64_t index, const char *text, size_t len)
{
    struct request *r = mem_alloc(sizeof *r);
    r->read_ns = clock_ns();
    r->file = file;
    r->line = line;
    r->index = index;
    r->arrival_s = -1;
    r->sampling = rr->defaults;
    if (read_line(rr, r, text, len))
        request_fail(r, "%s", err_text());
    return r;
}

struct request *request_of_ids(const struct request_reader *rr, uint64_t index, const int32_t *ids, uint32_t n, uint32_t n_output, double arrival_s)
{
    struct request *r = mem_alloc(sizeof *r);
    r->read_ns = clock_ns();
    r->file = "workload";
    r->line = index + 1;
    r->index = index;
    r->arrival_s = arrival_s;
    r->sampling = rr->defaults;
    r->sampling.max_tokens = (int32_t)n_output;
    r->sampling.own_max_tokens = r->sampling.ignore_eos = true;
    r->prompt_ids = arena_alloc(&r->arena, n * sizeof *ids);
    memcpy(r->prompt_ids, ids, n * sizeof *ids);
    r->n_prompt = n;
    return r;
}

void request_fail(struct request *r, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (!r->error)
        r->error = arena_dup(&r->arena, text, strlen(text));
}

void request_free(struct request *r)
{
    if (!r)
        return;
    json_free(r->doc);
    arena_free(&r->arena);
    free(r);
}

void request_reader_free(struct request_reader *rr)
{
    map_free(&rr->ids);
    map_free(&rr->warned);
    free(rr->seen);
    arena_free(&rr->names);
    *rr = (struct request_reader){ .defaults = rr->defaults };
}

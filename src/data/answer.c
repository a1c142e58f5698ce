#define _GNU_SOURCE     /* memmem */
#include "data/answer.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "data/json.h"

#define CONTEXT_TOKENS 6       /* of the prompt, decoded before the answer so that its first space is right */

struct answer *answer_new(struct request *r)
{
    struct answer *a = mem_alloc(sizeof *a);
    a->request = r;
    if (!r->error) {
        a->n_output = (uint32_t)r->sampling.n;
        a->n_left = a->n_output;
        a->outputs = mem_array(a->n_output, sizeof *a->outputs);
    }
    return a;
}

void answer_free(struct answer *a)
{
    if (!a)
        return;
    for (uint32_t i = 0; i < a->n_output; i++) {
        free(a->outputs[i].ids);
        free(a->outputs[i].logprobs);
        free(a->outputs[i].tops);
    }
    free(a->outputs);
    request_free(a->request);
    free(a);
}

/* Appends the text of an output's first n_id tokens: decoded behind the prompt's last tokens, whose text is then taken off. */
static void put_tokens(struct buf *text, const struct request *r, const struct output *o, uint32_t n_id, struct tok_state *tok)
{
    uint32_t n_before = r->n_prompt < CONTEXT_TOKENS ? r->n_prompt : CONTEXT_TOKENS;
    int32_t *ids = mem_array((size_t)n_before + n_id, sizeof *ids);
    if (n_before)
        memcpy(ids, r->prompt_ids + r->n_prompt - n_before, n_before * sizeof *ids);
    if (n_id)
        memcpy(ids + n_before, o->ids, n_id * sizeof *ids);
    struct buf before = {0}, whole = {0};
    tokenizer_decode(tok, ids, n_before, true, &before);
    tokenizer_decode(tok, ids, (size_t)n_before + n_id, true, &whole);
    if (whole.len >= before.len && (!before.len || memcmp(whole.data, before.data, before.len) == 0))
        buf_put(text, whole.len ? whole.data + before.len : "", whole.len - before.len);
    else
        tokenizer_decode(tok, o->ids, n_id, true, text);
    buf_free(&before);
    buf_free(&whole);
    free(ids);
}

static size_t common_start(const struct buf *a, const struct buf *b)
{
    size_t n = 0;
    while (n < a->len && n < b->len && a->data[n] == b->data[n])
        n++;
    return n;
}

/* Ends the text before the first stop string that the last token completed. */
static void cut_at_stop(struct buf *text, const struct request *r, const struct output *o, struct tok_state *tok)
{
    const struct sampling *s = &r->sampling;
    struct buf before = {0};
    put_tokens(&before, r, o, o->n_id - 1, tok);
    size_t known = common_start(text, &before), end = text->len;
    for (uint32_t i = 0; i < s->n_stop; i++) {
        size_t len = strlen(s->stop[i]), from = known >= len ? known - len + 1 : 0;
        const char *found = end > from ? memmem(text->data + from, end - from, s->stop[i], len) : NULL;
        if (found)
            end = (size_t)(found - text->data);
    }
    text->len = end;
    buf_free(&before);
}

/* Appends the output's text, which ends before a stop string. */
static void put_text(struct buf *text, const struct request *r, const struct output *o, struct tok_state *tok)
{
    struct buf own = {0};
    put_tokens(&own, r, o, o->n_id, tok);
    if (o->at_text)
        cut_at_stop(&own, r, o, tok);
    buf_put(text, own.len ? own.data : "", own.len);
    buf_free(&own);
}

/* The prompt's text, where the row is to begin with it. */
static void put_echo(struct buf *text, const struct request *r, struct tok_state *tok)
{
    if (r->sampling.echo && r->prompt)
        buf_put(text, r->prompt, r->prompt_len);
    else if (r->sampling.echo)
        tokenizer_decode(tok, r->prompt_ids, r->n_prompt, true, text);
}

/* A token that is no whole characters is written as "bytes:\xe6\x97", as OpenAI's API has it. */
static void put_token(struct buf *b, struct tok_state *tok, int32_t id)
{
    struct buf text = {0}, bytes = {0};
    bool whole = tokenizer_piece(tok, id, &text);
    buf_puts(&bytes, "bytes:");
    for (size_t i = 0; i < text.len && !whole; i++)
        buf_printf(&bytes, "\\x%02x", (unsigned char)text.data[i]);
    const struct buf *shown = whole ? &text : &bytes;
    json_put_string(b, shown->len ? shown->data : "", shown->len);
    buf_free(&text);
    buf_free(&bytes);
}

static void put_top(struct buf *b, struct tok_state *tok, int32_t id, float logprob)
{
    put_token(b, tok, id);
    buf_putc(b, ':');
    json_put_float(b, logprob);
}

/* The best tokens of a place, and the one that was taken if it is none of them. */
static void put_tops(struct buf *b, const struct output *o, uint32_t at, struct tok_state *tok)
{
    const struct token_top *tops = o->n_top ? &o->tops[(size_t)at * o->n_top] : NULL;
    bool seen = false;
    buf_putc(b, '{');
    for (uint32_t k = 0; k < o->n_top; k++) {
        buf_puts(b, k ? "," : "");
        put_top(b, tok, tops[k].id, tops[k].logprob);
        seen = seen || tops[k].id == o->ids[at];
    }
    if (!seen) {
        buf_puts(b, o->n_top ? "," : "");
        put_top(b, tok, o->ids[at], o->logprobs[at]);
    }
    buf_putc(b, '}');
}

static uint64_t n_char(const struct buf *text)
{
    uint64_t n = 0;
    for (size_t i = 0; i < text->len; i++)
        n += ((unsigned char)text->data[i] & 0xc0) != 0x80;
    return n;
}

/* Where in the row's text, in characters, each token begins. */
static void put_offsets(struct buf *b, const struct request *r, const struct output *o, struct tok_state *tok)
{
    struct tok_stream stream = {0};
    struct buf text = {0};
    for (uint32_t i = r->n_prompt < CONTEXT_TOKENS ? 0 : r->n_prompt - CONTEXT_TOKENS; i < r->n_prompt; i++)
        tok_stream_put(tok, &stream, r->prompt_ids[i], true, &text);
    buf_clear(&text);
    put_echo(&text, r, tok);
    uint64_t at = n_char(&text);
    for (uint32_t i = 0; i < o->n_id; i++) {
        buf_printf(b, "%s%llu", i ? "," : "", (unsigned long long)at);
        buf_clear(&text);
        tok_stream_put(tok, &stream, o->ids[i], true, &text);
        at += n_char(&text);
    }
    tok_stream_free(&stream);
    buf_free(&text);
}

/* OpenAI's completions form. */
static void put_logprobs(struct buf *b, const struct request *r, const struct output *o, struct tok_state *tok)
{
    buf_puts(b, "{\"tokens\":[");
    for (uint32_t i = 0; i < o->n_id; i++) {
        buf_puts(b, i ? "," : "");
        put_token(b, tok, o->ids[i]);
    }
    buf_puts(b, "],\"token_logprobs\":[");
    for (uint32_t i = 0; i < o->n_id; i++) {
        buf_puts(b, i ? "," : "");
        json_put_float(b, o->logprobs[i]);
    }
    buf_puts(b, "],\"top_logprobs\":[");
    for (uint32_t i = 0; i < o->n_id; i++) {
        buf_puts(b, i ? "," : "");
        put_tops(b, o, i, tok);
    }
    buf_puts(b, "],\"text_offset\":[");
    put_offsets(b, r, o, tok);
    buf_puts(b, "]}");
}

static void put_ids(struct buf *b, const int32_t *ids, uint32_t n)
{
    buf_putc(b, '[');
    for (uint32_t i = 0; i < n; i++)
        buf_printf(b, "%s%d", i ? "," : "", ids[i]);
    buf_putc(b, ']');
}

static const char *finish_name(enum finish f)
{
    static const char *const name[] = { [FINISH_STOP] = "stop", [FINISH_LENGTH] = "length", [FINISH_ERROR] = "error" };
    return name[f];
}

/* "text":...,"finish_reason":... and what else was asked for, of one output */
static void put_output(struct buf *b, const struct answer *a, const struct output *o, struct tok_state *tok, const struct row_style *style)
{
    struct buf text = {0};
    put_echo(&text, a->request, tok);
    put_text(&text, a->request, o, tok);
    buf_puts(b, "\"text\":");
    json_put_string(b, text.data ? text.data : "", text.len);
    buf_printf(b, ",\"finish_reason\":\"%s\"", finish_name(o->finish));
    if (o->logprobs) {
        buf_puts(b, ",\"logprobs\":");
        put_logprobs(b, a->request, o, tok);
    } else if (a->request->kind == REQUEST_BATCH) {
        buf_puts(b, ",\"logprobs\":null");
    }
    if (style->token_ids) {
        buf_puts(b, ",\"token_ids\":");
        put_ids(b, o->ids, o->n_id);
    }
    buf_free(&text);
}

static void put_choices(struct buf *b, const struct answer *a, struct tok_state *tok, const struct row_style *style)
{
    buf_puts(b, "\"choices\":[");
    for (uint32_t i = 0; i < a->n_output; i++) {
        buf_printf(b, "%s{\"index\":%u,", i ? "," : "", i);
        put_output(b, a, &a->outputs[i], tok, style);
        buf_putc(b, '}');
    }
    buf_putc(b, ']');
}

uint32_t answer_generated(const struct answer *a)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < a->n_output; i++)
        n += a->outputs[i].n_generated;
    return n;
}

static void put_id(struct buf *b, const struct request *r)
{
    if (!r->id)
        buf_puts(b, "null");
    else if (r->id_is_int)
        buf_puts(b, r->id);
    else
        json_put_string(b, r->id, strlen(r->id));
}

static void put_ms(struct buf *b, const char *name, int64_t from_ns, int64_t to_ns)
{
    buf_printf(b, "\"%s\":%.6f", name, (double)(to_ns - from_ns) * 1e-6);
}

static void put_metrics(struct buf *b, const struct answer *a)
{
    const struct output *o = &a->outputs[0];
    buf_puts(b, ",\"metrics\":{");
    put_ms(b, "queue_ms", a->arrival_ns, a->scheduled_ns);
    buf_putc(b, ',');
    put_ms(b, "ttft_ms", a->arrival_ns, o->first_ns);
    buf_putc(b, ',');
    put_ms(b, "e2el_ms", a->arrival_ns, answer_last_ns(a));
    buf_printf(b, ",\"preemptions\":%u}", a->n_preempted);
}

int64_t answer_last_ns(const struct answer *a)
{
    int64_t last = a->arrival_ns;
    for (uint32_t i = 0; i < a->n_output; i++)
        last = a->outputs[i].last_ns > last ? a->outputs[i].last_ns : last;
    return last;
}

static void put_plain_row(struct buf *b, const struct answer *a, struct tok_state *tok, const struct row_style *style, int match)
{
    const struct request *r = a->request;
    buf_puts(b, "{\"id\":");
    put_id(b, r);
    buf_printf(b, ",\"index\":%llu,", (unsigned long long)r->index);
    if (a->n_output == 1)
        put_output(b, a, &a->outputs[0], tok, style);
    else
        put_choices(b, a, tok, style);
    buf_printf(b, ",\"usage\":{\"prompt_tokens\":%u,\"cached_tokens\":%u,\"completion_tokens\":%u}", r->n_prompt, a->cached_tokens, answer_generated(a));
    if (match >= 0)
        buf_printf(b, ",\"match\":%s", match ? "true" : "false");
    if (style->metrics)
        put_metrics(b, a);
    buf_puts(b, "}\n");
}

static void put_batch_head(struct buf *b, const struct request *r, int status)
{
    buf_printf(b, "{\"id\":\"batch_req_%llu\",\"custom_id\":", (unsigned long long)r->index);
    put_id(b, r);
    buf_printf(b, ",\"response\":{\"status_code\":%d,\"request_id\":\"req_%llu\",\"body\":{", status, (unsigned long long)r->index);
}

static void put_batch_row(struct buf *b, const struct answer *a, struct tok_state *tok, const struct row_style *style)
{
    const struct request *r = a->request;
    uint32_t n_out = answer_generated(a);
    put_batch_head(b, r, 200);
    buf_printf(b, "\"id\":\"cmpl-%llu\",\"object\":\"text_completion\",\"created\":%lld,\"model\":", (unsigned long long)r->index, (long long)clock_unix_s());
    json_put_string(b, style->model, strlen(style->model));
    buf_putc(b, ',');
    put_choices(b, a, tok, style);
    buf_printf(b, ",\"usage\":{\"prompt_tokens\":%u,\"completion_tokens\":%u,\"total_tokens\":%u,\"prompt_tokens_details\":{\"cached_tokens\":%u}}",
               r->n_prompt, n_out, r->n_prompt + n_out, a->cached_tokens);
    if (style->metrics)
        put_metrics(b, a);
    buf_puts(b, "}},\"error\":null}\n");
}

static void put_place(struct buf *b, const struct request *r)
{
    buf_puts(b, ",\"file\":");
    json_put_string(b, r->file, strlen(r->file));
    buf_printf(b, ",\"line\":%llu", (unsigned long long)r->line);
}

static void put_error_row(struct buf *b, const struct request *r)
{
    if (r->kind == REQUEST_BATCH) {
        put_batch_head(b, r, 400);
        buf_puts(b, "\"error\":{\"message\":");
        json_put_string(b, r->error, strlen(r->error));
        buf_puts(b, ",\"type\":\"invalid_request_error\",\"param\":null,\"code\":null");
        put_place(b, r);
        buf_puts(b, "}}},\"error\":null}\n");
        return;
    }
    buf_puts(b, "{\"id\":");
    put_id(b, r);
    buf_printf(b, ",\"index\":%llu,\"finish_reason\":\"error\",\"error\":{\"code\":\"invalid_request\",\"message\":", (unsigned long long)r->index);
    json_put_string(b, r->error, strlen(r->error));
    put_place(b, r);
    buf_puts(b, "}}\n");
}

/* Exact match of the first output with `expected`, white space at both ends aside. */
static int score(const struct answer *a, struct tok_state *tok)
{
    const struct request *r = a->request;
    if (!r->expected)
        return -1;
    struct buf text = {0};
    put_text(&text, r, &a->outputs[0], tok);
    const char *s = text.data ? text.data : "", *e = r->expected;
    size_t n = text.len, m = r->expected_len;
    while (n && strchr(" \t\r\n", s[n - 1]))
        n--;
    while (n && strchr(" \t\r\n", s[0]))
        s++, n--;
    while (m && strchr(" \t\r\n", e[m - 1]))
        m--;
    while (m && strchr(" \t\r\n", e[0]))
        e++, m--;
    int same = n == m && memcmp(s, e, n) == 0;
    buf_free(&text);
    return same;
}

void answer_put_row(struct buf *b, const struct answer *a, struct tok_state *tok, const struct row_style *style, int *match)
{
    *match = -1;
    if (a->request->error) {
        put_error_row(b, a->request);
        return;
    }
    *match = score(a, tok);
    if (a->request->kind == REQUEST_BATCH)
        put_batch_row(b, a, tok, style);
    else
        put_plain_row(b, a, tok, style, *match);
}

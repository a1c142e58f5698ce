#define _GNU_SOURCE     /* memmem */
#include "data/tok_parts.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"

#define REPLACEMENT "\xef\xbf\xbd"      /* U+FFFD */

/* Decoding is a chain of decoders, and streaming is the only way it is done: a whole decode is a stream put and ended.
 * Between decoders goes a list of strings, in parts: hand(p, n, ends) adds n bytes to the current string and, where
 * `ends`, closes it.  The first decoder gets a string for each token.  A decoder that must see a whole string, or what
 * comes behind it, holds text back in its struct tok_stage. */

struct tok_stage {
    struct buf held;           /* the beginning of the current string */
    struct buf made;           /* BYTES, FALLBACK: bytes that are not text yet; REPLACE, SUFFIX: what is handed on */
    struct buf waits;          /* SUFFIX: the string before this one */
    size_t n_string;           /* strings seen so far */
    size_t n_char;             /* STRIP: characters that need no more looking at in front of this string */
};

/* One run through the chain. */
struct chain { struct tok_state *s; struct tok_stage *stages; struct buf *out; };

static void hand(struct chain *c, size_t k, const char *p, size_t n, bool ends);

/* ---- reading ---- */

/* `fixed` bytes become `with` bytes; 0: a regular expression's match does, which may stand between any two bytes. */
static int note_growth(struct tokenizer *t, size_t fixed, size_t with)
{
    size_t by = fixed ? (with + fixed - 1) / fixed : with + 1;
    t->growth = (t->growth ? t->growth : 1) * (by ? by : 1);
    return t->growth <= TOK_MAX_GROWTH ? 0 : err_set("all together make a text more than %d times as long", TOK_MAX_GROWTH);
}

static int load_replace(struct tokenizer *t, struct tok_decoder *d, const struct json *j)
{
    const char *with, *fixed;
    size_t len = 0, n_char;
    d->kind = TOK_DECODE_REPLACE;
    d->regex = tok_pattern_load(json_get(j, "pattern"));
    if (!d->regex || tok_json_text(j, "content", &with, &d->len) < 0)
        return -1;
    d->text = arena_dup(&t->arena, with, d->len);
    fixed = json_text(json_get(json_get(j, "pattern"), "String"), &len);
    uint32_t cp;
    n_char = fixed && len ? tok_utf8_get(fixed, len, &cp) : 0;
    d->local = n_char && n_char == len;
    return note_growth(t, len, d->len);
}

static int load_count(const struct json *j, const char *key, size_t *out)
{
    int64_t n;
    if (!json_int(json_get(j, key), &n) || n < 0 || n > 1000)
        return err_set("\"%s\" must be a whole number from 0 to 1000", key);
    *out = (size_t)n;
    return 0;
}

static int load_strip(struct tokenizer *t, struct tok_decoder *d, const struct json *j)
{
    const char *text;
    d->kind = TOK_DECODE_STRIP;
    if (tok_json_char(j, "content", &text, &d->len) < 0 || load_count(j, "start", &d->start) < 0)
        return -1;
    d->text = arena_dup(&t->arena, text, d->len);
    return load_count(j, "stop", &d->stop);
}

static int load_metaspace(struct tokenizer *t, struct tok_decoder *d, const struct json *j)
{
    const char *text, *scheme = json_text(json_get(j, "prepend_scheme"), NULL);
    bool prefix_space;
    d->kind = TOK_DECODE_META;
    if (tok_json_char(j, "replacement", &text, &d->len) < 0 || tok_json_bool(j, "add_prefix_space", true, &prefix_space) < 0)
        return -1;
    d->text = arena_dup(&t->arena, text, d->len);
    d->drop_first = scheme ? strcmp(scheme, "never") != 0 : prefix_space;
    return 0;
}

static int load_suffix(struct tokenizer *t, struct tok_decoder *d, const struct json *j)
{
    size_t len = 4;
    const char *suffix = json_text(json_get(j, "suffix"), &len);
    d->kind = TOK_DECODE_SUFFIX;
    d->regex = tok_regex_open(suffix ? suffix : "</w>", len, TOK_LITERAL);
    return d->regex ? note_growth(t, len, 1) : -1;
}

static int load_one(struct tokenizer *t, struct tok_decoder *d, const char *type, const struct json *j)
{
    if (strcmp(type, "Replace") == 0)
        return load_replace(t, d, j);
    if (strcmp(type, "Strip") == 0)
        return load_strip(t, d, j);
    if (strcmp(type, "Metaspace") == 0)
        return load_metaspace(t, d, j);
    if (strcmp(type, "BPEDecoder") == 0)
        return load_suffix(t, d, j);
    if (strcmp(type, "ByteLevel") == 0)
        d->kind = TOK_DECODE_BYTES;
    else if (strcmp(type, "ByteFallback") == 0)
        d->kind = TOK_DECODE_FALLBACK;
    else if (strcmp(type, "Fuse") == 0)
        d->kind = TOK_DECODE_FUSE;
    else
        return err_set("kind \"%s\" is not supported (supported: Sequence, ByteLevel, Replace, ByteFallback, Fuse, Strip, "
                       "Metaspace, BPEDecoder)", type);
    return 0;
}

int tok_decoder_load(struct tokenizer *t, const struct json *j)
{
    const char *type = tok_json_type(j);
    if (strcmp(type, "Sequence") == 0)
        return tok_json_each(t, j, "decoders", tok_decoder_load);
    if (t->n_decoder == TOK_MAX_STEP)
        return err_set("more than %d decoders in a row", TOK_MAX_STEP);
    t->decoders = mem_resize(t->decoders, t->n_decoder + 1, sizeof *t->decoders);
    struct tok_decoder *d = &t->decoders[t->n_decoder++];
    *d = (struct tok_decoder){0};
    return j ? load_one(t, d, type, j) : 0;     /* no decoder at all: tokens are joined with spaces */
}

/* ---- the decoders ---- */

/* Collects the current string until it ends; true: it is [*p, *p + *n), whole. */
static bool collect(struct tok_stage *g, const char **p, size_t *n, bool ends)
{
    if (ends && !g->held.len)
        return true;
    buf_put(&g->held, *p, *n);
    if (!ends)
        return false;
    *p = g->held.data;
    *n = g->held.len;
    g->held.len = 0;       /* the bytes stay where they are until the next string begins */
    return true;
}

static void join(struct chain *c, size_t k, const char *p, size_t n, bool ends)
{
    if (c->stages[k].n_string++)
        hand(c, k + 1, " ", 1, false);
    hand(c, k + 1, p, n, ends);
}

/* A pattern that fails on the text (it ran over its limits) leaves it as it is: half a text has no use to anybody. */
static void hand_replaced(struct chain *c, size_t k, const char *p, size_t n, const char *with, size_t with_len, bool ends)
{
    struct buf *out = &c->stages[k].made;
    buf_clear(out);
    buf_reserve(out, n);
    if (tok_replace(c->s->t->decoders[k].regex, c->s->matcher, p, n, with, with_len, out) == 0)
        hand(c, k + 1, out->data, out->len, ends);
    else
        hand(c, k + 1, p, n, ends);
}

static void replace(struct chain *c, size_t k, const char *p, size_t n, bool ends)
{
    const struct tok_decoder *d = &c->s->t->decoders[k];
    if (d->local || collect(&c->stages[k], &p, &n, ends))
        hand_replaced(c, k, p, n, d->text, d->len, ends);
}

/* The bytes that <0xXX> tokens gave, one behind the other: text if they are UTF-8, else a U+FFFD for each. */
static void end_run(struct chain *c, size_t k)
{
    struct buf *run = &c->stages[k].made;
    size_t at;
    if (!run->len)
        return;
    if (utf8_valid(run->data, run->len, &at)) {
        hand(c, k + 1, run->data, run->len, true);
    } else {
        for (size_t i = 0; i < run->len; i++)
            hand(c, k + 1, REPLACEMENT, 3, true);
    }
    run->len = 0;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte that a token <0xXX> is; -1: it is none. */
static int fallback_byte(const char *p, size_t n)
{
    bool is_one = n == 6 && memcmp(p, "<0x", 3) == 0 && p[5] == '>' && hex_digit(p[3]) >= 0 && hex_digit(p[4]) >= 0;
    return is_one ? hex_digit(p[3]) * 16 + hex_digit(p[4]) : -1;
}

static void fallback(struct chain *c, size_t k, const char *p, size_t n, bool ends)
{
    if (!collect(&c->stages[k], &p, &n, ends))
        return;
    int byte = fallback_byte(p, n);
    if (byte >= 0) {
        buf_putc(&c->stages[k].made, (char)byte);
        return;
    }
    end_run(c, k);
    hand(c, k + 1, p, n, true);
}

/* Takes off up to `start` characters in front and `stop` behind, as long as they are the one to strip. */
static void strip(struct chain *c, size_t k, const char *p, size_t n, bool ends)
{
    const struct tok_decoder *d = &c->s->t->decoders[k];
    struct tok_stage *g = &c->stages[k];
    if (d->stop && !collect(g, &p, &n, ends))
        return;
    for (; g->n_char < d->start && n >= d->len && memcmp(p, d->text, d->len) == 0; g->n_char++) {
        p += d->len;
        n -= d->len;
    }
    if (n)
        g->n_char = d->start;       /* the text has begun: nothing more is taken off in front */
    for (size_t i = 0; i < d->stop && n >= d->len && memcmp(p + n - d->len, d->text, d->len) == 0; i++)
        n -= d->len;
    if (ends)
        g->n_char = 0;
    hand(c, k + 1, p, n, ends);
}

/* Hands on what of the bytes is certain, with a U+FFFD for each maximal run that is no character. */
static void put_lossy(struct chain *c, size_t k, struct buf *b, bool last)
{
    size_t from = 0, i = 0;
    while (i < b->len) {
        uint32_t cp;
        enum utf8_kind kind;
        size_t n = tok_utf8_next(b->data + i, b->len - i, &cp, &kind);
        if (kind == UTF8_CUT && !last)
            break;
        if (kind != UTF8_GOOD) {
            hand(c, k + 1, b->data + from, i - from, false);
            hand(c, k + 1, REPLACEMENT, 3, false);
            from = i + n;
        }
        i += n;
    }
    hand(c, k + 1, b->data + from, i - from, false);
    if (i < b->len)
        memmove(b->data, b->data + i, b->len - i);
    b->len -= i;
}

/* A token of which all characters stand for bytes is those bytes; any other is itself. */
static void put_bytes(struct buf *out, const char *p, size_t n)
{
    size_t before = out->len;
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        i += tok_utf8_get(p + i, n - i, &cp);
        int byte = tok_char_to_byte(cp);
        if (byte < 0) {
            out->len = before;
            buf_put(out, p, n);
            return;
        }
        buf_putc(out, (char)byte);
    }
}

static void bytes(struct chain *c, size_t k, const char *p, size_t n, bool ends)
{
    struct tok_stage *g = &c->stages[k];
    if (!collect(g, &p, &n, ends))
        return;
    put_bytes(&g->made, p, n);
    if (g->made.len)
        put_lossy(c, k, &g->made, false);
}

static void metaspace(struct chain *c, size_t k, const char *p, size_t n, bool ends)
{
    const struct tok_decoder *d = &c->s->t->decoders[k];
    struct tok_stage *g = &c->stages[k];
    bool drop = d->drop_first && g->n_string == 0;
    for (const char *end = p + n; p < end;) {
        const char *mark = memmem(p, (size_t)(end - p), d->text, d->len);
        hand(c, k + 1, p, (size_t)((mark ? mark : end) - p), false);
        if (!mark)
            break;
        if (!drop)
            hand(c, k + 1, " ", 1, false);
        p = mark + d->len;
    }
    g->n_string += ends;
    hand(c, k + 1, "", 0, ends);
}

/* The suffix becomes a space, but in the last string nothing: so one string waits. */
static void suffix(struct chain *c, size_t k, const char *p, size_t n, bool ends)
{
    struct tok_stage *g = &c->stages[k];
    if (!collect(g, &p, &n, ends))
        return;
    if (g->n_string++)
        hand_replaced(c, k, g->waits.data, g->waits.len, " ", 1, true);
    buf_clear(&g->waits);
    buf_put(&g->waits, p, n);
}

/* Adds p[0..n) to the string that decoder k gets, and closes it if `ends`. */
static void hand(struct chain *c, size_t k, const char *p, size_t n, bool ends)
{
    static void (*const decode[])(struct chain *, size_t, const char *, size_t, bool) = {
        [TOK_DECODE_JOIN] = join, [TOK_DECODE_REPLACE] = replace, [TOK_DECODE_FALLBACK] = fallback,
        [TOK_DECODE_STRIP] = strip, [TOK_DECODE_BYTES] = bytes, [TOK_DECODE_META] = metaspace, [TOK_DECODE_SUFFIX] = suffix,
    };
    if (!n && !ends)
        return;
    if (k == c->s->t->n_decoder)
        buf_put(c->out, p, n);
    else if (c->s->t->decoders[k].kind == TOK_DECODE_FUSE)
        hand(c, k + 1, p, n, false);
    else
        decode[c->s->t->decoders[k].kind](c, k, p, n, ends);
}

/* No token comes any more: what decoder k still holds goes on. */
static void finish(struct chain *c, size_t k)
{
    struct tok_stage *g = &c->stages[k];
    switch (c->s->t->decoders[k].kind) {
    case TOK_DECODE_FALLBACK:
        end_run(c, k);
        break;
    case TOK_DECODE_SUFFIX:
        if (g->n_string)
            hand_replaced(c, k, g->waits.data, g->waits.len, "", 0, true);
        break;
    case TOK_DECODE_BYTES:
        if (g->made.len)
            put_lossy(c, k, &g->made, true);
        hand(c, k + 1, "", 0, true);
        break;
    case TOK_DECODE_FUSE:
        hand(c, k + 1, "", 0, true);
        break;
    default:
        break;
    }
}

/* ---- streams ---- */

static struct chain begin(struct tok_state *s, struct tok_stream *st, struct buf *out)
{
    if (!st->stages) {
        st->n_stage = s->t->n_decoder;
        st->stages = mem_array(st->n_stage, sizeof *st->stages);
    }
    return (struct chain){ .s = s, .stages = st->stages, .out = out };
}

void tok_stream_put(struct tok_state *s, struct tok_stream *st, int32_t id, bool skip_special, struct buf *out)
{
    const struct tok_model *m = &s->t->model;
    if (id < 0 || (uint32_t)id >= m->n_id || !m->tokens[id].text || (skip_special && m->tokens[id].special))
        return;
    struct chain c = begin(s, st, out);
    hand(&c, 0, m->tokens[id].text, m->tokens[id].len, true);
}

void tok_stream_end(struct tok_state *s, struct tok_stream *st, struct buf *out)
{
    struct chain c = begin(s, st, out);
    for (size_t k = 0; k < st->n_stage; k++)
        finish(&c, k);
    for (size_t k = 0; k < st->n_stage; k++) {
        struct tok_stage *g = &st->stages[k];
        g->held.len = g->made.len = g->waits.len = g->n_string = g->n_char = 0;
    }
}

void tok_stream_free(struct tok_stream *st)
{
    for (size_t k = 0; k < st->n_stage; k++) {
        buf_free(&st->stages[k].held);
        buf_free(&st->stages[k].made);
        buf_free(&st->stages[k].waits);
    }
    free(st->stages);
    *st = (struct tok_stream){0};
}

void tokenizer_decode(struct tok_state *s, const int32_t *ids, size_t n, bool skip_special, struct buf *out)
{
    buf_reserve(out, n * 4);
    for (size_t i = 0; i < n; i++)
        tok_stream_put(s, &s->stream, ids[i], skip_special, out);
    tok_stream_end(s, &s->stream, out);
}

static bool has_decoder(const struct tokenizer *t, enum tok_decoder_kind kind)
{
    size_t k = 0;
    while (k < t->n_decoder && t->decoders[k].kind != kind)
        k++;
    return k < t->n_decoder;
}

/* What the second of two equal tokens adds. */
static void put_second(struct tok_state *s, int32_t id, struct buf *out)
{
    struct buf one = {0}, two = {0};
    tokenizer_decode(s, &id, 1, false, &one);
    tokenizer_decode(s, (const int32_t[]){ id, id }, 2, false, &two);
    if (two.len > one.len)
        buf_put(out, two.data + one.len, two.len - one.len);
    buf_free(&one);
    buf_free(&two);
}

bool tokenizer_piece(struct tok_state *s, int32_t id, struct buf *out)
{
    const struct tok_model *m = &s->t->model;
    size_t before = out->len, at;
    if (id < 0 || (uint32_t)id >= m->n_id || !m->tokens[id].text)
        return true;
    const struct tok_token *k = &m->tokens[id];
    int byte = has_decoder(s->t, TOK_DECODE_FALLBACK) ? fallback_byte(k->text, k->len) : -1;
    if (byte >= 0)
        buf_putc(out, (char)byte);
    else if (has_decoder(s->t, TOK_DECODE_BYTES))
        put_bytes(out, k->text, k->len);
    else
        put_second(s, id, out);
    return out->len == before || utf8_valid(out->data + before, out->len - before, &at);
}

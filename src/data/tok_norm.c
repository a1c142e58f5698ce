#include "data/tok_parts.h"

#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "base/err.h"

static const struct { const char *name; int form; } forms[] = {
    { "NFC", UTF8PROC_STABLE | UTF8PROC_COMPOSE },
    { "NFD", UTF8PROC_STABLE | UTF8PROC_DECOMPOSE },
    { "NFKC", UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT },
    { "NFKD", UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT },
};

static int load_replace(struct tokenizer *t, struct tok_norm *n, const struct json *j)
{
    const char *with;
    n->kind = TOK_NORM_REPLACE;
    n->regex = tok_pattern_load(json_get(j, "pattern"));
    if (!n->regex || tok_json_text(j, "content", &with, &n->len) < 0)
        return -1;
    n->text = arena_dup(&t->arena, with, n->len);
    return 0;
}

static int load_prepend(struct tokenizer *t, struct tok_norm *n, const struct json *j)
{
    const char *text;
    n->kind = TOK_NORM_PREPEND;
    if (tok_json_text(j, "prepend", &text, &n->len) < 0)
        return -1;
    n->text = arena_dup(&t->arena, text, n->len);
    return 0;
}

static int load_strip(struct tok_norm *n, const struct json *j)
{
    n->kind = TOK_NORM_STRIP;
    if (tok_json_bool(j, "strip_left", true, &n->left) < 0)
        return -1;
    return tok_json_bool(j, "strip_right", true, &n->right);
}

static int load_one(struct tokenizer *t, struct tok_norm *n, const char *type, const struct json *j)
{
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        if (strcmp(type, forms[i].name) == 0) {
            *n = (struct tok_norm){ .kind = TOK_NORM_UNICODE, .form = forms[i].form };
            return 0;
        }
    if (strcmp(type, "Replace") == 0)
        return load_replace(t, n, j);
    if (strcmp(type, "Prepend") == 0)
        return load_prepend(t, n, j);
    if (strcmp(type, "Strip") == 0)
        return load_strip(n, j);
    if (strcmp(type, "Lowercase") == 0) {
        n->kind = TOK_NORM_LOWER;
        return 0;
    }
    return err_set("kind \"%s\" is not supported (supported: Sequence, NFC, NFD, NFKC, NFKD, Replace, Prepend, Strip, Lowercase)",
                   type);
}

int tok_norm_load(struct tokenizer *t, const struct json *j)
{
    const char *type = tok_json_type(j);
    if (strcmp(type, "Sequence") == 0)
        return tok_json_each(t, j, "normalizers", tok_norm_load);
    if (t->n_norm == TOK_MAX_STEP)
        return err_set("more than %d normalizers in a row", TOK_MAX_STEP);
    t->norms = mem_resize(t->norms, t->n_norm + 1, sizeof *t->norms);
    struct tok_norm *n = &t->norms[t->n_norm++];
    *n = (struct tok_norm){0};
    return load_one(t, n, type, j);
}

/* Appends the normal form of one stretch of text. */
static void put_form(struct tok_norm_scratch *s, int form, const char *p, size_t n, struct buf *out)
{
    utf8proc_option_t options = (utf8proc_option_t)form;
    utf8proc_ssize_t want = (utf8proc_ssize_t)n * 3 + 1;
    do {        /* what it asks for the first time is enough the second time */
        if ((size_t)want >= s->n_cp) {
            s->n_cp = (size_t)want + 64;
            s->cp = mem_resize(s->cp, s->n_cp, sizeof *s->cp);
        }
        want = utf8proc_decompose((const utf8proc_uint8_t *)p, (utf8proc_ssize_t)n, s->cp, (utf8proc_ssize_t)s->n_cp - 1, options);
    } while (want > 0 && (size_t)want >= s->n_cp);
    CHECK(want >= 0);       /* it refuses only what is not UTF-8, and that was checked */
    utf8proc_ssize_t len = utf8proc_reencode(s->cp, want, options);
    CHECK(len >= 0);
    buf_put(out, s->cp, (size_t)len);
}

static size_t ascii_run(const char *p, size_t n)
{
    size_t i = 0;
    uint64_t eight;
    while (n - i >= 8 && (memcpy(&eight, p + i, 8), !(eight & 0x8080808080808080)))
        i += 8;
    while (i < n && !(p[i] & 0x80))
        i++;
    return i;
}

/* ASCII is its own normal form, and no ASCII character composes with one before it: so only the stretches of other
 * characters are done, each with the ASCII character before it, onto which its first marks may compose. */
static void unicode_form(struct tok_norm_scratch *s, int form, const char *p, size_t n, struct buf *out)
{
    for (size_t i = 0; i < n;) {
        size_t plain = ascii_run(p + i, n - i), end = i + plain;
        if (end == n) {
            buf_put(out, p + i, plain);
            return;
        }
        size_t start = plain ? end - 1 : end;
        buf_put(out, p + i, start - i);
        while (end < n && (p[end] & 0x80))
            end++;
        put_form(s, form, p + start, end - start, out);
        i = end;
    }
}

/* Full lower case differs from the simple one in a single character (without context): U+0130. */
static void lower(const char *p, size_t n, struct buf *out)
{
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        i += tok_utf8_get(p + i, n - i, &cp);
        if (cp == 0x130)
            buf_puts(out, "i\xcc\x87");
        else
            tok_utf8_put(out, (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp));
    }
}

/* What stood first is gone when the text now begins with what stood behind it. */
static bool first_replaced_by_nothing(const struct tok_norm *n, struct tok_matcher *m, const char *p, size_t len)
{
    struct tok_find f = { .regex = n->regex, .matcher = m, .text = p, .len = len };
    return n->len == 0 && tok_find_next(&f) > 0 && f.start == 0 && f.end > 0;
}

static int replace(struct tok_state *s, const struct tok_norm *norm, const char *p, size_t n, struct buf *out, bool *at_start)
{
    if (*at_start && first_replaced_by_nothing(norm, s->matcher, p, n))
        *at_start = false;
    return tok_replace(norm->regex, s->matcher, p, n, norm->text, norm->len, out) < 0 ? -1 : 1;
}

static int strip(const struct tok_norm *norm, const char **p, size_t *n, bool *at_start)
{
    size_t start = norm->left ? tok_spaces_after(*p, *n, 0) : 0;
    size_t end = norm->right ? tok_spaces_before(*p, *n) : *n;
    *at_start = *at_start && start == 0;
    *p += start;
    *n = end > start ? end - start : 0;
    return 0;
}

/* 1: the new text is in out; 0: it is [*p, *p + *n); -1: err_text(). */
static int apply(struct tok_state *s, const struct tok_norm *norm, const char **p, size_t *n, struct buf *out, bool *at_start)
{
    switch (norm->kind) {
    case TOK_NORM_UNICODE:
        if (ascii_run(*p, *n) == *n)
            return 0;
        unicode_form(&s->norm, norm->form, *p, *n, out);
        return 1;
    case TOK_NORM_REPLACE:
        return replace(s, norm, *p, *n, out, at_start);
    case TOK_NORM_PREPEND:
        buf_put(out, norm->text, norm->len);
        buf_put(out, *p, *n);
        return 1;
    case TOK_NORM_STRIP:
        return strip(norm, p, n, at_start);
    case TOK_NORM_LOWER:
        lower(*p, *n, out);
        return 1;
    }
    return 0;
}

int tok_normalize(struct tok_state *s, const char **text, size_t *len, bool *at_start)
{
    size_t turn = 0;        /* which of the two buffers is free: the other may hold the text */
    for (size_t i = 0; i < s->t->n_norm && *len; i++) {
        struct buf *out = &s->norm.text[turn];
        buf_clear(out);
        int rc = apply(s, &s->t->norms[i], text, len, out, at_start);
        if (rc < 0)
            return -1;
        if (out->len > TOK_MAX_TEXT)
            return err_set("the text grows over %zu bytes when the tokenizer normalizes it", TOK_MAX_TEXT);
        if (rc == 0)
            continue;
        *text = out->data ? out->data : "";
        *len = out->len;
        turn = !turn;
    }
    return 0;
}

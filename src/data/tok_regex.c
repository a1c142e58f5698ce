#include "data/tok_parts.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/err.h"
#include "data/tok_onig.h"

/* A pattern that runs wild ends with an error of the text at hand: the first bounds the steps of one match (some
 * tenths of a second), the second the memory they may take, which is asked for as it is needed. */
#define MATCH_LIMIT 10000000
#define MATCH_STACK ((size_t)64 << 20)

struct tok_regex { pcre2_code *code; };
struct tok_matcher { pcre2_match_data *data; pcre2_match_context *context; pcre2_jit_stack *stack; };

/* PCRE2's memory is ours: there or the program ends, so that no text and no pattern is blamed for its lack. */
static pcre2_general_context *memory;

static void *allocate(PCRE2_SIZE size, void *none)
{
    (void)none;
    return mem_resize(NULL, size, 1);
}

static void release(void *p, void *none)
{
    (void)none;
    free(p);
}

static void make_memory(void)
{
    memory = pcre2_general_context_create(allocate, release, NULL);
}

static pcre2_code *compile(const char *pattern, size_t len, uint32_t options)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_memory);
    pcre2_compile_context *context = pcre2_compile_context_create(memory);
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    int code;
    PCRE2_SIZE at;
    pcre2_code *c = pcre2_compile((PCRE2_SPTR)pattern, len, options, &code, &at, context);
    pcre2_compile_context_free(context);
    if (!c) {
        char why[128];
        pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
        err_set("the regular expression \"%.200s\" is not valid at byte %zu: %s", pattern, at, why);
        return NULL;
    }
    pcre2_jit_compile(c, PCRE2_JIT_COMPLETE);       /* where there is no JIT, pcre2_match interprets */
    return c;
}

struct tok_regex *tok_regex_open(const char *pattern, size_t len, enum tok_flavor flavor)
{
    struct buf b = {0};
    uint32_t options = PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C;
    if (flavor == TOK_LITERAL)
        options = PCRE2_UTF | PCRE2_LITERAL;
    else
        options |= PCRE2_UCP | PCRE2_MULTILINE;     /* Oniguruma's ^ and $ stand at every line */
    if (flavor == TOK_ONIGURUMA) {
        if (tok_onig_to_pcre(pattern, len, &b) < 0) {
            buf_free(&b);
            return NULL;
        }
        pattern = b.data;
        len = b.len;
    }
    pcre2_code *code = compile(pattern, len, options);
    buf_free(&b);
    if (!code)
        return NULL;
    struct tok_regex *r = mem_alloc(sizeof *r);
    r->code = code;
    return r;
}

void tok_regex_close(struct tok_regex *r)
{
    if (r)
        pcre2_code_free(r->code);
    free(r);
}

struct tok_matcher *tok_matcher_open(void)
{
    struct tok_matcher *m = mem_alloc(sizeof *m);
    m->data = pcre2_match_data_create(1, memory);      /* a tokenizer is there, and with it some regular expression */
    m->context = pcre2_match_context_create(memory);
    m->stack = pcre2_jit_stack_create((size_t)32 << 10, MATCH_STACK, memory);
    uint32_t jit = 0;
    pcre2_config(PCRE2_CONFIG_JIT, &jit);
    if (jit && !m->stack)
        die("out of memory: no room for matching regular expressions");
    pcre2_set_match_limit(m->context, MATCH_LIMIT);
    pcre2_set_heap_limit(m->context, MATCH_STACK >> 10);
    pcre2_jit_stack_assign(m->context, NULL, m->stack);
    return m;
}

void tok_matcher_close(struct tok_matcher *m)
{
    if (!m)
        return;
    pcre2_match_data_free(m->data);
    pcre2_match_context_free(m->context);
    pcre2_jit_stack_free(m->stack);
    free(m);
}

/* 1: *start and *end are set; 0: no match at or behind `from`. */
static int match(const struct tok_find *f, size_t from, size_t *start, size_t *end)
{
    int rc = pcre2_match(f->regex->code, (PCRE2_SPTR)f->text, f->len, from, PCRE2_NO_UTF_CHECK, f->matcher->data,
                         f->matcher->context);
    if (rc == PCRE2_ERROR_NOMATCH)
        return 0;
    if (rc < 0) {
        char why[128];
        pcre2_get_error_message(rc, (PCRE2_UCHAR *)why, sizeof why);
        return err_set("a regular expression of the tokenizer fails on this text at byte %zu: %s", from, why);
    }
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer(f->matcher->data);
    *start = at[0];
    *end = at[1];
    if (*start < from || *end < *start)     /* \K within a lookaround does that */
        return err_set("a regular expression of the tokenizer matches backwards at byte %zu", from);
    return 1;
}

int tok_find_next(struct tok_find *f)
{
    while (f->from <= f->len) {
        int rc = match(f, f->from, &f->start, &f->end);
        if (rc <= 0)
            return rc;
        if (f->end > f->start || !f->found || f->end != f->last) {
            f->from = f->last = f->end;
            f->found = true;
            return 1;
        }
        uint32_t cp;        /* empty, and directly behind the last match: look one character on */
        f->from += f->from < f->len ? tok_utf8_get(f->text + f->from, f->len - f->from, &cp) : 1;
    }
    return 0;
}

int tok_replace(const struct tok_regex *r, struct tok_matcher *m, const char *text, size_t len,
                const char *with, size_t with_len, struct buf *out)
{
    struct tok_find f = { .regex = r, .matcher = m, .text = text, .len = len };
    size_t done = 0;
    int rc;
    while ((rc = tok_find_next(&f)) > 0) {
        buf_put(out, text + done, f.start - done);
        buf_put(out, with, with_len);
        done = f.end;
        if (out->len > TOK_MAX_TEXT)
            return err_set("the text grows over %zu bytes when the tokenizer replaces parts of it", TOK_MAX_TEXT);
    }
    buf_put(out, text + done, len - done);
    return rc;
}

struct tok_regex *tok_pattern_load(const struct json *pattern)
{
    size_t len;
    const char *s = json_text(json_get(pattern, "String"), &len);
    if (s)
        return tok_regex_open(s, len, TOK_LITERAL);
    s = json_text(json_get(pattern, "Regex"), &len);
    if (s)
        return tok_regex_open(s, len, TOK_ONIGURUMA);
    err_set("\"pattern\" must be {\"String\": ...} or {\"Regex\": ...}");
    return NULL;
}

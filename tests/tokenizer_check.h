/* tokenizer_check.h - what the tests of the tokenizer share: a folder for files, tokenizers made of text, comparisons. */
#ifndef TESTS_TOKENIZER_CHECK_H
#define TESTS_TOKENIZER_CHECK_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "data/json.h"
#include "data/tokenizer.h"
#include "data/zfile.h"

static char folder[] = "/tmp/tokmill-test-XXXXXX";

static inline void write_file(const char *name, const char *text, size_t len)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

/* A tokenizer and a state of it. */
struct pair { struct tokenizer *t; struct tok_state *s; };

static inline struct pair open_path(const char *path)
{
    struct pair p = { .t = tokenizer_open(path) };
    if (!p.t)
        fail_msg("%s", err_text());
    p.s = tok_state_open(p.t);
    return p;
}

static inline struct pair open_text(const char *json, size_t len)
{
    char path[128];
    write_file("one.json", json, len);
    snprintf(path, sizeof path, "%s/one.json", folder);
    return open_path(path);
}

static inline void close_pair(struct pair *p)
{
    tok_state_close(p->s);
    tokenizer_close(p->t);
}

static inline void put_ids(struct buf *b, const int32_t *ids, size_t n)
{
    for (size_t i = 0; i < n; i++)
        buf_printf(b, "%s%d", i ? "," : "", ids[i]);
}

/* Reads ids from JSON; the caller frees. */
static inline int32_t *read_ids(const struct json *list, size_t *n)
{
    int32_t *ids = mem_array(json_len(list), sizeof *ids);
    *n = json_len(list);
    for (size_t i = 0; i < *n; i++) {
        int64_t id = -1;
        assert_true(json_int(json_at(list, i), &id));
        ids[i] = (int32_t)id;
    }
    return ids;
}

static inline bool encodes_to(struct tok_state *s, const char *text, size_t len, bool special, const int32_t *want, size_t n)
{
    struct tok_ids got = {0};
    bool same = tokenizer_encode(s, text, len, special, &got) == 0 && got.n == n && (n == 0 || memcmp(got.ids, want, n * sizeof *want) == 0);
    if (!same) {
        struct buf b = {0};
        put_ids(&b, got.ids, got.n);
        buf_puts(&b, " instead of ");
        put_ids(&b, want, n);
        print_message("\"%.*s\": %s\n", (int)(len < 300 ? len : 300), text, b.data);
        buf_free(&b);
    }
    free(got.ids);
    return same;
}

/* Streams the ids; what is shown is always a beginning of want, and at the end all of it. */
static inline bool streams_to(struct tok_state *s, const int32_t *ids, size_t n, bool skip, const char *want, size_t len)
{
    struct tok_stream st = {0};
    struct buf got = {0};
    bool same = true;
    for (size_t i = 0, shown = 0; i <= n; i++, shown = got.len) {
        if (i < n)
            tok_stream_put(s, &st, ids[i], skip, &got);
        else
            tok_stream_end(s, &st, &got);
        same = same && got.len <= len && (got.len == shown || memcmp(got.data + shown, want + shown, got.len - shown) == 0);
    }
    same = same && got.len == len;
    buf_free(&got);
    tok_stream_free(&st);
    return same;
}

static inline bool decodes_to(struct tok_state *s, const int32_t *ids, size_t n, bool skip, const char *want, size_t len)
{
    struct buf got = {0};
    tokenizer_decode(s, ids, n, skip, &got);
    bool same = got.len == len && (len == 0 || memcmp(got.data, want, len) == 0);
    if (!same)
        print_message("decoded \"%s\" instead of \"%.*s\"\n", got.data ? got.data : "", (int)len, want);
    same = same && streams_to(s, ids, n, skip, want, len);
    buf_free(&got);
    return same;
}

static inline int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static inline int drop_folder(void **state)
{
    (void)state;
    static const char *const names[] = { "one.json", "tokenizer.json", "tokenizer_config.json" };
    char path[128];
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    return rmdir(folder);
}

#endif

#include "data/tok_parts.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/hash.h"

/* Up to here the best pair is found by looking at all; beyond, by a heap. */
#define SHORT_WORD 96

void tok_put_id(struct tok_ids *out, uint32_t id)
{
    if (out->n == out->cap) {
        out->cap = out->cap ? out->cap * 2 : 64;
        out->ids = mem_resize(out->ids, out->cap, sizeof *out->ids);
    }
    out->ids[out->n++] = (int32_t)id;
}

static void reserve_symbols(struct tok_bpe_scratch *b, size_t n)
{
    if (n <= b->cap)
        return;
    b->cap = n > b->cap * 2 ? n : b->cap * 2;
    b->id = mem_resize(b->id, b->cap, sizeof *b->id);
    b->rank = mem_resize(b->rank, b->cap, sizeof *b->rank);
    b->prev = mem_resize(b->prev, b->cap, sizeof *b->prev);
    b->next = mem_resize(b->next, b->cap, sizeof *b->next);
}

/* ---- characters to symbols ---- */

struct symbols {
    struct tok_bpe_scratch *b;
    const struct tok_model *m;
    size_t n;
    bool unknown;              /* an unknown character waits: more of them may join it */
};

static void put_unknown(struct symbols *y)
{
    if (y->unknown)
        y->b->id[y->n++] = y->m->unk;
    y->unknown = false;
}

/* A character that is no token: its bytes as tokens, or the unknown token, or nothing. */
static int fall_back(struct symbols *y, const char *c, size_t len)
{
    const struct tok_model *m = y->m;
    bool all = m->byte_fallback;
    for (size_t i = 0; i < len; i++)
        all = all && m->fallback[(uint8_t)c[i]] != TOK_NONE;
    if (all) {          /* an unknown that waits stays behind these: the reference implementation does so */
        for (size_t i = 0; i < len; i++)
            y->b->id[y->n++] = m->fallback[(uint8_t)c[i]];
        return 0;
    }
    if (!m->unk_text)
        return 0;
    if (m->unk == TOK_NONE)
        return err_set("the text needs the unknown token \"%.100s\", which is not in the vocabulary", m->unk_text);
    if (!m->fuse_unk)
        put_unknown(y);
    y->unknown = true;
    return 0;
}

static int put_char(struct symbols *y, const char *c, size_t len, uint32_t id)
{
    if (id == TOK_NONE)
        return fall_back(y, c, len);
    put_unknown(y);
    y->b->id[y->n++] = id;
    return 0;
}

static int put_byte(struct symbols *y, char byte, struct buf *scratch)
{
    uint32_t id = y->m->first[(uint8_t)byte];
    if (id != TOK_NONE)
        return put_char(y, NULL, 0, id);
    buf_clear(scratch);
    tok_bytes_to_chars(scratch, &byte, 1);
    return put_char(y, scratch->data, scratch->len, TOK_NONE);
}

/* The symbols that a word begins with; -1: err_text(). */
static int begin(struct tok_state *s, struct symbols *y, const char *p, size_t n)
{
    const struct tok_model *m = y->m;
    reserve_symbols(y->b, n * 2 + 1);       /* a byte may become the two bytes of its character, an unknown one more */
    for (size_t i = 0; i < n;) {
        if (m->byte_level) {
            if (put_byte(y, p[i++], &s->chars) < 0)
                return -1;
            continue;
        }
        uint32_t cp;
        size_t len = tok_utf8_get(p + i, n - i, &cp);
        if (put_char(y, p + i, len, cp < 0x80 ? m->first[cp] : tok_model_find(m, p + i, len)) < 0)
            return -1;
        i += len;
    }
    put_unknown(y);
    return 0;
}

/* ---- merging ---- */

static uint32_t rank_of(const struct tok_model *m, uint32_t left, uint32_t right)
{
    const struct tok_merge *e = tok_model_merge(m, left, right);
    return e ? e->rank : TOK_NONE;
}

/* rank[i] is that of symbols i and i + 1.  The lowest goes first, of equal ones the leftmost. */
static size_t merge_short(const struct tok_model *m, struct tok_bpe_scratch *b, size_t n)
{
    uint32_t *id = b->id, *rank = b->rank;
    for (size_t i = 0; i + 1 < n; i++)
        rank[i] = rank_of(m, id[i], id[i + 1]);
    while (n > 1) {
        size_t at = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (rank[i] < rank[at])
                at = i;
        if (rank[at] == TOK_NONE)
            break;
        id[at] = tok_model_merge(m, id[at], id[at + 1])->id;
        n--;
        memmove(id + at + 1, id + at + 2, (n - at - 1) * sizeof *id);
        memmove(rank + at, rank + at + 1, (n - at - 1) * sizeof *rank);
        if (at + 1 < n)
            rank[at] = rank_of(m, id[at], id[at + 1]);
        if (at > 0)
            rank[at - 1] = rank_of(m, id[at - 1], id[at]);
    }
    return n;
}

/* ---- the same for long words: a heap of (rank, position); an entry whose rank is no longer that position's is stale ---- */

static void heap_put(struct tok_bpe_scratch *b, uint32_t rank, size_t at)
{
    if (rank == TOK_NONE)
        return;
    if (b->n_heap == b->heap_cap) {
        b->heap_cap = b->heap_cap ? b->heap_cap * 2 : 1024;
        b->heap = mem_resize(b->heap, b->heap_cap, sizeof *b->heap);
    }
    uint64_t key = (uint64_t)rank << 32 | at;
    size_t i = b->n_heap++;
    for (; i && b->heap[(i - 1) / 2] > key; i = (i - 1) / 2)
        b->heap[i] = b->heap[(i - 1) / 2];
    b->heap[i] = key;
}

static uint64_t heap_take(struct tok_bpe_scratch *b)
{
    uint64_t top = b->heap[0], last = b->heap[--b->n_heap];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < b->n_heap; i = child) {
        if (child + 1 < b->n_heap && b->heap[child + 1] < b->heap[child])
            child++;
        if (b->heap[child] >= last)
            break;
        b->heap[i] = b->heap[child];
    }
    b->heap[i] = last;
    return top;
}

static void rank_pair(const struct tok_model *m, struct tok_bpe_scratch *b, uint32_t at)
{
    uint32_t next = b->next[at];
    b->rank[at] = next == TOK_NONE ? TOK_NONE : rank_of(m, b->id[at], b->id[next]);
    heap_put(b, b->rank[at], at);
}

static void merge_at(const struct tok_model *m, struct tok_bpe_scratch *b, uint32_t at)
{
    uint32_t gone = b->next[at], after = b->next[gone];
    b->id[at] = tok_model_merge(m, b->id[at], b->id[gone])->id;
    b->rank[gone] = TOK_NONE;
    b->next[at] = after;
    if (after != TOK_NONE)
        b->prev[after] = at;
    rank_pair(m, b, at);
    if (b->prev[at] != TOK_NONE)
        rank_pair(m, b, b->prev[at]);
}

static size_t merge_long(const struct tok_model *m, struct tok_bpe_scratch *b, size_t n)
{
    b->n_heap = 0;
    for (uint32_t i = 0; i < n; i++) {
        b->prev[i] = i ? i - 1 : TOK_NONE;
        b->next[i] = i + 1 < n ? i + 1 : TOK_NONE;
        rank_pair(m, b, i);
    }
    while (b->n_heap) {
        uint64_t top = heap_take(b);
        if (b->rank[(uint32_t)top] == top >> 32)
            merge_at(m, b, (uint32_t)top);
    }
    size_t kept = 0;
    for (uint32_t i = 0; i != TOK_NONE; i = b->next[i])
        b->id[kept++] = b->id[i];
    return kept;
}

/* ---- words ---- */

static bool put_whole(struct tok_state *s, const char *p, size_t n)
{
    const struct tok_model *m = &s->t->model;
    if (m->byte_level) {
        buf_clear(&s->chars);
        tok_bytes_to_chars(&s->chars, p, n);
        p = s->chars.data;
        n = s->chars.len;
    }
    uint32_t id = tok_model_find(m, p, n);
    if (id != TOK_NONE)
        tok_put_id(s->out, id);
    return id != TOK_NONE;
}

static int merge_word(struct tok_state *s, const char *p, size_t n)
{
    const struct tok_model *m = &s->t->model;
    struct symbols y = { .b = &s->bpe, .m = m };
    if (m->ignore_merges && put_whole(s, p, n))
        return 0;
    if (begin(s, &y, p, n) < 0)
        return -1;
    size_t n_id = y.n <= SHORT_WORD ? merge_short(m, y.b, y.n) : merge_long(m, y.b, y.n);
    for (size_t i = 0; i < n_id; i++)
        tok_put_id(s->out, y.b->id[i]);
    return 0;
}

/* Words come again: each place of the cache keeps the last word that fell on it, with its ids. */
static int cached_word(struct tok_state *s, const char *p, size_t n)
{
    if (n > sizeof s->cache->text)
        return merge_word(s, p, n);
    struct tok_cached *c = &s->cache[hash_bytes(p, n, 0) % TOK_CACHE];
    struct tok_ids *out = s->out;
    if (c->len == n && memcmp(c->text, p, n) == 0) {
        for (size_t i = 0; i < c->n; i++)
            tok_put_id(out, (uint32_t)c->ids[i]);
        return 0;
    }
    size_t before = out->n;
    if (merge_word(s, p, n) < 0)
        return -1;
    if (out->n - before > sizeof c->ids / sizeof *c->ids)
        return 0;
    c->len = (uint8_t)n;
    c->n = (uint8_t)(out->n - before);
    memcpy(c->text, p, n);
    if (c->n)
        memcpy(c->ids, out->ids + before, c->n * sizeof *c->ids);
    return 0;
}

int tok_bpe(struct tok_state *s, const char *piece, size_t len)
{
    const struct tok_model *m = &s->t->model;
    if (!m->joins)
        return cached_word(s, piece, len);
    size_t start = 0;
    uint32_t a, b;
    for (size_t i = tok_utf8_get(piece, len, &a); i < len; a = b) {
        size_t n = tok_utf8_get(piece + i, len - i, &b);
        if (!tok_model_joins(m, a, b)) {
            if (cached_word(s, piece + start, i - start) < 0)
                return -1;
            start = i;
        }
        i += n;
    }
    return cached_word(s, piece + start, len - start);
}

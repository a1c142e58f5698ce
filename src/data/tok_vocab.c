#include "data/tok_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/hash.h"

/* A power of two with room for n at a load of at most 5/8. */
static uint32_t table_size(size_t n)
{
    uint32_t size = 16;
    while ((size_t)size * 5 / 8 < n)
        size *= 2;
    return size;
}

/* ---- tokens by their text: only ids are in the table, the texts are looked at where they stand ---- */

static uint32_t *find_slot(const struct tok_model *m, const char *text, size_t len)
{
    for (uint32_t i = (uint32_t)hash_bytes(text, len, 0) & m->slot_mask;; i = (i + 1) & m->slot_mask) {
        uint32_t id = m->slots[i];
        if (id == TOK_NONE || (m->tokens[id].len == len && memcmp(m->tokens[id].text, text, len) == 0))
            return &m->slots[i];
    }
}

uint32_t tok_model_find(const struct tok_model *m, const char *text, size_t len)
{
    return *find_slot(m, text, len);
}

static int add_token(struct tok_model *m, const char *text, size_t len, const struct json *value)
{
    int64_t id;
    if (!json_int(value, &id) || id < 0 || id >= TOK_MAX_ID)
        return err_set("the id of token \"%.100s\" must be a whole number from 0 to %d", text, TOK_MAX_ID - 1);
    struct tok_token *t = &m->tokens[id];
    if (t->text)
        return err_set("tokens \"%.100s\" and \"%.100s\" have the same id %d", t->text, text, (int)id);
    *t = (struct tok_token){ .text = text, .len = (uint32_t)len };
    *find_slot(m, text, len) = (uint32_t)id;
    return 0;
}

/* How many ids the vocabulary spans; a value that is no id is add_token's to complain of. */
static uint32_t span(const struct json *vocab, size_t *text_size)
{
    int64_t highest = -1, id;
    *text_size = 0;
    for (void *it = json_first(vocab); it; it = json_next(vocab, it)) {
        *text_size += strlen(json_key(it)) + 1;
        if (json_int(json_value(it), &id) && id > highest && id < TOK_MAX_ID)
            highest = id;
    }
    return (uint32_t)(highest + 1);
}

static int load_vocab(struct tok_model *m, const struct json *vocab)
{
    if (!vocab || json_kind(vocab) != JSON_KIND_OBJECT)
        return err_set("\"vocab\" must be an object of token texts and their ids");
    size_t text_size;
    m->n_vocab = (uint32_t)json_len(vocab);
    m->n_id = span(vocab, &text_size);
    m->tokens = mem_array(m->n_id, sizeof *m->tokens);
    m->slot_mask = table_size(m->n_vocab) - 1;
    m->slots = mem_resize(NULL, (size_t)m->slot_mask + 1, sizeof *m->slots);
    memset(m->slots, 0xff, ((size_t)m->slot_mask + 1) * sizeof *m->slots);
    char *text = m->text = mem_alloc(text_size);
    for (void *it = json_first(vocab); it; it = json_next(vocab, it)) {
        size_t len = strlen(json_key(it));
        memcpy(text, json_key(it), len);
        if (add_token(m, text, len, json_value(it)) < 0)
            return -1;
        text += len + 1;
    }
    return 0;
}

/* ---- merges by their two sides ---- */

static struct tok_merge *merge_slot(const struct tok_model *m, uint32_t left, uint32_t right)
{
    uint64_t h = ((uint64_t)left << 32 | right) * 0x9e3779b97f4a7c15;
    for (uint32_t i = (uint32_t)(h >> 32) & m->merge_mask;; i = (i + 1) & m->merge_mask) {
        struct tok_merge *e = &m->merges[i];
        if (e->rank == TOK_NONE || (e->left == left && e->right == right))
            return e;
    }
}

const struct tok_merge *tok_model_merge(const struct tok_model *m, uint32_t left, uint32_t right)
{
    const struct tok_merge *e = merge_slot(m, left, right);
    return e->rank == TOK_NONE ? NULL : e;
}

struct side { const char *text; size_t len; };

/* The two sides of a merge: ["a", "b"], or "a b" in older files. */
static int sides(const struct json *j, struct side side[2])
{
    size_t len;
    const char *line = json_text(j, &len);
    if (!line) {
        for (size_t i = 0; i < 2; i++)
            side[i].text = json_text(json_at(j, i), &side[i].len);
        return side[0].text && side[1].text && json_len(j) == 2 ? 0 : err_set("it must be \"a b\" or [\"a\", \"b\"]");
    }
    const char *space = memchr(line, ' ', len);
    if (!space || memchr(space + 1, ' ', len - (size_t)(space + 1 - line)))
        return err_set("\"%.100s\" is not two tokens with a space between", line);
    side[0] = (struct side){ line, (size_t)(space - line) };
    side[1] = (struct side){ space + 1, len - side[0].len - 1 };
    return 0;
}

static int add_merge(struct tok_model *m, const struct json *j, uint32_t rank, struct buf *joined)
{
    struct side side[2] = {0};
    if (sides(j, side) < 0)
        return -1;
    buf_clear(joined);
    buf_put(joined, side[0].text, side[0].len);
    buf_put(joined, side[1].text, side[1].len);
    uint32_t left = tok_model_find(m, side[0].text, side[0].len), right = tok_model_find(m, side[1].text, side[1].len);
    uint32_t id = tok_model_find(m, joined->data, joined->len);
    if (left == TOK_NONE || right == TOK_NONE || id == TOK_NONE)
        return err_set("\"%.100s\" is not in the vocabulary",
                       left == TOK_NONE ? side[0].text : right == TOK_NONE ? side[1].text : joined->data);
    *merge_slot(m, left, right) = (struct tok_merge){ .left = left, .right = right, .rank = rank, .id = id };
    return 0;
}

static bool is_version(const struct json *j)
{
    const char *line = json_text(j, NULL);
    return line && strncmp(line, "#version", 8) == 0;
}

static int load_merges(struct tok_model *m, const struct json *merges)
{
    size_t n = json_len(merges);
    if (!merges || (json_kind(merges) != JSON_KIND_ARRAY && !(json_kind(merges) == JSON_KIND_OBJECT && n == 0)))
        return err_set("\"merges\" must be an array of pairs of tokens");     /* {} is how some writers leave it empty */
    if (n > (size_t)TOK_MAX_ID * 4)
        return err_set("%zu merges are more than %d", n, TOK_MAX_ID * 4);
    m->merge_mask = table_size(n) - 1;
    m->merges = mem_resize(NULL, (size_t)m->merge_mask + 1, sizeof *m->merges);
    memset(m->merges, 0xff, ((size_t)m->merge_mask + 1) * sizeof *m->merges);
    struct buf joined = {0};
    int rc = 0;
    uint32_t rank = 0;
    for (size_t i = 0; i < n && rc == 0; i++)
        if (!is_version(json_at(merges, i)) && add_merge(m, json_at(merges, i), rank++, &joined) < 0)
            rc = err_wrap("merge %zu", i);
    buf_free(&joined);
    return rc;
}

/* ---- neighbours that no merge joins ----
 * Where BPE works on characters, a text without a pre-tokenizer is one piece.  But a merge across the boundary of the
 * characters a and b makes a token that holds a and b side by side.  So where no merge makes such a token, the text can
 * be cut there and its parts merged (and remembered) one by one, with the same result.  For the tokenizers made by
 * SentencePiece that is before most words.  Both characters must be tokens, else they are not what stands there. */

#define JOIN_BITS 20

static uint32_t join_bit(uint32_t a, uint32_t b)
{
    return (a * 0x9e3779b1u ^ b * 0x85ebca6bu) >> (32 - JOIN_BITS);
}

static bool has_bit(const uint64_t *set, uint32_t i)
{
    return set[i / 64] >> (i % 64) & 1;
}

static void set_bit(uint64_t *set, uint32_t i)
{
    set[i / 64] |= (uint64_t)1 << (i % 64);
}

static void note_neighbours(struct tok_model *m, const struct tok_token *t)
{
    uint32_t a, b;
    for (size_t i = tok_utf8_get(t->text, t->len, &a); i < t->len; a = b) {
        i += tok_utf8_get(t->text + i, t->len - i, &b);
        set_bit(m->joins, join_bit(a, b));
    }
}

static void build_joins(struct tok_model *m)
{
    m->joins = mem_alloc(((size_t)1 << JOIN_BITS) / 8);
    m->whole = mem_alloc(0x110000 / 8);
    for (size_t i = 0; i <= m->merge_mask; i++)
        if (m->merges[i].rank != TOK_NONE && m->tokens[m->merges[i].id].len)
            note_neighbours(m, &m->tokens[m->merges[i].id]);
    for (uint32_t id = 0; id < m->n_id; id++) {
        const struct tok_token *t = &m->tokens[id];
        uint32_t cp;
        if (t->len && tok_utf8_get(t->text, t->len, &cp) == t->len)
            set_bit(m->whole, cp);
    }
}

bool tok_model_joins(const struct tok_model *m, uint32_t a, uint32_t b)
{
    return has_bit(m->joins, join_bit(a, b)) || !has_bit(m->whole, a) || !has_bit(m->whole, b);
}

/* ---- the whole model ---- */

static void build_first(struct tok_model *m)
{
    struct buf b = {0};
    for (unsigned i = 0; i < 256; i++) {
        buf_clear(&b);
        tok_utf8_put(&b, m->byte_level ? tok_byte_to_char((uint8_t)i) : i);
        m->first[i] = tok_model_find(m, b.data, b.len);
        char code[8];
        snprintf(code, sizeof code, "<0x%02X>", i);
        m->fallback[i] = tok_model_find(m, code, 6);
    }
    buf_free(&b);
}

static int load_options(struct tokenizer *t, const struct json *j)
{
    struct tok_model *m = &t->model;
    double dropout = 0;
    size_t len;
    if (json_number(json_get(j, "dropout"), &dropout) && dropout > 0)
        return err_set("\"dropout\" over 0 is not supported: it makes the ids of a text random");
    static const char *const affix[] = { "continuing_subword_prefix", "end_of_word_suffix" };
    for (size_t i = 0; i < 2; i++)
        if (json_text(json_get(j, affix[i]), &len) && len)
            return err_set("\"%s\" is not supported (supported: null and \"\")", affix[i]);
    const char *unk = json_text(json_get(j, "unk_token"), &len);
    m->unk = TOK_NONE;
    if (unk) {
        m->unk_text = arena_dup(&t->arena, unk, len);
        m->unk = tok_model_find(m, unk, len);
    }
    if (tok_json_bool(j, "fuse_unk", false, &m->fuse_unk) < 0 || tok_json_bool(j, "byte_fallback", false, &m->byte_fallback) < 0)
        return -1;
    return tok_json_bool(j, "ignore_merges", false, &m->ignore_merges);
}

int tok_model_load(struct tokenizer *t, const struct json *j)
{
    const char *type = tok_json_type(j);
    if (*type && strcmp(type, "BPE") != 0)
        return err_set("type \"%s\" is not supported (supported: BPE)", type);
    if (load_vocab(&t->model, json_get(j, "vocab")) < 0 || load_merges(&t->model, json_get(j, "merges")) < 0
        || load_options(t, j) < 0)
        return -1;
    build_first(&t->model);
    if (!t->model.byte_level && !t->model.ignore_merges)
        build_joins(&t->model);
    return 0;
}

void tok_model_free(struct tok_model *m)
{
    free(m->tokens);
    free(m->text);
    free(m->slots);
    free(m->merges);
    free(m->joins);
    free(m->whole);
    *m = (struct tok_model){0};
}

#include "data/tok_parts.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"

static int by_text(const void *x, const void *y)
{
    const struct tok_added *a = x, *b = y;
    size_t n = a->len < b->len ? a->len : b->len;
    int c = memcmp(a->text, b->text, n);
    return c ? c : (a->len > b->len) - (a->len < b->len);
}

/* While the list is read. */
struct loading {
    struct tokenizer *t;
    uint32_t next;             /* the id of the next token that the model does not have */
    size_t n_other;            /* tokens whose "id" says something else */
    int64_t said, given;       /* of the first of them */
};

static int new_id(struct loading *l, const char *text, uint32_t *id)
{
    const struct tok_model *m = &l->t->model;
    *id = l->next++;
    if (*id >= TOK_MAX_ID)
        return err_set("\"%.100s\": there are more than %d tokens", text, TOK_MAX_ID);
    if (*id < m->n_id && m->tokens[*id].text)
        return err_set("\"%.100s\" would get the id %u, which is \"%.100s\" in the vocabulary", text, *id, m->tokens[*id].text);
    return 0;
}

/* The id is the model's own for that text, else the next one behind the model's; what the file says is not asked. */
static int give_id(struct loading *l, const char *text, size_t len, const struct json *j, uint32_t *id)
{
    *id = tok_model_find(&l->t->model, text, len);
    if (*id == TOK_NONE && new_id(l, text, id) < 0)
        return -1;
    int64_t said;
    if (json_int(json_get(j, "id"), &said) && said != *id && l->n_other++ == 0) {
        l->said = said;
        l->given = *id;
    }
    map_put(&l->t->added_ids, text, len, *id);
    return 0;
}

/* The table of ids grows at once by all that may come. */
static void reserve_ids(struct tok_model *m, size_t more)
{
    size_t room = (m->n_id > m->n_vocab ? m->n_id : m->n_vocab) + more;
    m->tokens = mem_resize(m->tokens, room, sizeof *m->tokens);
    memset(m->tokens + m->n_id, 0, (room - m->n_id) * sizeof *m->tokens);
}

static void name_id(struct tok_model *m, uint32_t id, const char *text, size_t len, bool special)
{
    m->tokens[id] = (struct tok_token){ .text = text, .len = (uint32_t)len, .special = special };
    if (id >= m->n_id)
        m->n_id = id + 1;
}

static int flags(const struct json *j, struct tok_added *a, bool *special, bool *normalized)
{
    if (tok_json_bool(j, "single_word", false, &a->single_word) < 0 || tok_json_bool(j, "lstrip", false, &a->lstrip) < 0
        || tok_json_bool(j, "rstrip", false, &a->rstrip) < 0 || tok_json_bool(j, "special", false, special) < 0)
        return -1;
    return tok_json_bool(j, "normalized", !*special, normalized);
}

static void forget(struct tok_added_set *sets, uint32_t id)
{
    for (size_t i = 0; i < 2; i++)
        for (size_t k = 0; k < sets[i].n; k++)
            if (sets[i].tokens[k].id == id)
                sets[i].tokens[k] = sets[i].tokens[--sets[i].n];
}

static int load_token(struct loading *l, const struct json *j)
{
    struct tokenizer *t = l->t;
    const char *text;
    size_t len;
    bool special, normalized;
    struct tok_added a = {0};
    if (tok_json_text(j, "content", &text, &len) < 0 || flags(j, &a, &special, &normalized) < 0)
        return -1;
    if (!len)
        return 0;
    a.text = text = arena_dup(&t->arena, text, len);
    a.len = (uint32_t)len;
    if (map_get(&t->added_ids, text, len, &a.id))
        forget(t->added, a.id);         /* given twice: it counts as it is given last */
    else if (give_id(l, text, len, j, &a.id) < 0)
        return -1;
    name_id(&t->model, a.id, text, len, special);
    struct tok_added_set *set = &t->added[normalized];
    set->tokens = mem_resize(set->tokens, set->n + 1, sizeof *set->tokens);
    set->tokens[set->n++] = a;
    return 0;
}

/* The tokens of the second set are looked for as the normalizer leaves them. */
static int normalize_all(struct tokenizer *t)
{
    struct tok_state *s = tok_state_open(t);
    int rc = 0;
    for (size_t k = 0; k < t->added[1].n && rc == 0; k++) {
        struct tok_added *a = &t->added[1].tokens[k];
        const char *text = a->text;
        size_t len = a->len;
        bool at_start = true;
        rc = tok_normalize(s, &text, &len, &at_start);
        if (rc == 0 && text != a->text)
            *a = (struct tok_added){ .text = arena_dup(&t->arena, text, len), .len = (uint32_t)len, .id = a->id,
                .single_word = a->single_word, .lstrip = a->lstrip, .rstrip = a->rstrip };
    }
    tok_state_close(s);
    return rc;
}

static void sort_set(struct tok_added_set *set)
{
    if (set->n)
        qsort(set->tokens, set->n, sizeof *set->tokens, by_text);
    for (size_t k = 0; k < set->n; k++)
        if (set->tokens[k].len)
            set->begins[(uint8_t)set->tokens[k].text[0]] = true;
}

int tok_added_load(struct tokenizer *t, const struct json *list)
{
    struct loading l = { .t = t, .next = t->model.n_vocab };
    reserve_ids(&t->model, json_len(list));
    for (size_t i = 0; i < json_len(list); i++)
        if (load_token(&l, json_at(list, i)) < 0)
            return err_wrap("added token %zu", i);
    if (l.n_other)
        log_warn("tokenizer: %zu added tokens have other ids than the file says, as its vocabulary orders them (the first: %lld, not %lld)",
                 l.n_other, (long long)l.given, (long long)l.said);
    if (normalize_all(t) < 0)
        return -1;
    sort_set(&t->added[0]);
    sort_set(&t->added[1]);
    return 0;
}

/* The first of tokens[low..high) whose byte `at` is not below c; all of them agree in the bytes before. */
static size_t lower_bound(const struct tok_added *tokens, size_t low, size_t high, size_t at, unsigned c)
{
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (tokens[middle].len > at && (uint8_t)tokens[middle].text[at] >= c)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* The longest token that text begins with; NULL: none.  The sorted list serves as a trie: each byte narrows the range. */
static const struct tok_added *longest(const struct tok_added_set *set, const char *text, size_t len)
{
    const struct tok_added *best = NULL;
    size_t low = 0, high = set->n;
    for (size_t at = 0; at < len && low < high; at++) {
        unsigned c = (uint8_t)text[at];
        low = lower_bound(set->tokens, low, high, at, c);
        high = lower_bound(set->tokens, low, high, at, c + 1);
        if (low < high && set->tokens[low].len == at + 1)
            best = &set->tokens[low];
    }
    return best;
}

static const struct tok_added *next_match(const struct tok_added_set *set, const char *text, size_t len, size_t *at)
{
    for (; *at < len; ++*at)
        if (set->begins[(uint8_t)text[*at]]) {
            const struct tok_added *a = longest(set, text + *at, len - *at);
            if (a)
                return a;
        }
    return NULL;
}

static bool is_word(struct tok_state *s, const char *p, size_t n)
{
    struct tok_find f = { .regex = s->t->word, .matcher = s->matcher, .text = p, .len = n };
    return tok_find_next(&f) > 0;
}

/* True if a word character stands directly before `start` or behind `end`. */
static bool within_word(struct tok_state *s, const char *text, size_t len, size_t start, size_t end)
{
    uint32_t cp;
    size_t before = start;
    while (before && (text[--before] & 0xc0) == 0x80)
        ;
    return (start && is_word(s, text + before, start - before))
        || (end < len && is_word(s, text + end, tok_utf8_get(text + end, len - end, &cp)));
}

int tok_added_split(struct tok_state *s, const struct tok_added_set *set, const char *text, size_t len,
                    bool at_start, tok_rest *rest)
{
    size_t done = 0, at = 0;
    const struct tok_added *a;
    while (set->n && (a = next_match(set, text, len, &at))) {
        size_t start = at, end = at + a->len;
        at = end;
        if (a->single_word && within_word(s, text, len, start, end))
            continue;
        if (a->lstrip) {        /* as far as the token before left any */
            start = tok_spaces_before(text, start);
            start = start > done ? start : done;
        }
        if (a->rstrip)
            end = tok_spaces_after(text, len, end);
        if (start > done && rest(s, text + done, start - done, at_start && done == 0) < 0)
            return -1;
        if (end > start)        /* else the token before took all of it as its white space */
            tok_put_id(s->out, a->id);
        done = end;
    }
    return done < len ? rest(s, text + done, len - done, at_start && done == 0) : 0;
}

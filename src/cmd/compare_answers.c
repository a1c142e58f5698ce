/* Rows of answers: BASE's are kept, NEW's are read line by line and joined to them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/map.h"
#include "cmd/compare.h"
#include "data/json.h"
#include "data/zfile.h"

/* One answer.  Its tokens are told by their ids, else by the names that logprobs give them. */
struct said {
    const char *text; size_t len;      /* NULL: the line failed */
    uint64_t *tokens; size_t n_token;
    bool has_tokens, by_name;
    double *logprobs; size_t n_logprob;
    int match;                         /* 1, 0; -1: not scored */
    bool joined;
};

struct answer_set { struct arena arena; struct map index; struct said *said; size_t n, room; };

/* What reads a file: takes each answer under its key.  0, or -1: err_text(). */
typedef int take_fn(void *to, const struct buf *key, const struct said *s);

struct reader { take_fn *take; void *to; struct buf key; uint64_t *tokens; double *logprobs; size_t token_room, logprob_room; };

/* ---- a row ---- */

static uint64_t token_hash(const struct json *token)
{
    int64_t id = 0;
    size_t len;
    const char *name = json_text(token, &len);
    return name ? hash_bytes(name, len, 0) : json_int(token, &id) ? (uint64_t)id : 0;
}

static void read_tokens(struct reader *r, struct said *s, const struct json *list)
{
    s->n_token = json_len(list);
    if (s->n_token > r->token_room)
        r->tokens = mem_resize(r->tokens, r->token_room = s->n_token, sizeof *r->tokens);
    for (size_t i = 0; i < s->n_token; i++)
        r->tokens[i] = token_hash(json_at(list, i));
    s->tokens = r->tokens;
    s->has_tokens = true;
}

static void read_logprobs(struct reader *r, struct said *s, const struct json *list)
{
    s->n_logprob = json_len(list);
    if (s->n_logprob > r->logprob_room)
        r->logprobs = mem_resize(r->logprobs, r->logprob_room = s->n_logprob, sizeof *r->logprobs);
    for (size_t i = 0; i < s->n_logprob; i++) {
        r->logprobs[i] = (double)NAN;
        json_number(json_at(list, i), &r->logprobs[i]);
    }
    s->logprobs = r->logprobs;
}

static bool is_array(const struct json *j)
{
    return j && json_kind(j) == JSON_KIND_ARRAY;
}

/* A row of one answer, or one of `choices`; `message` is that of a chat completion. */
static struct said read_said(struct reader *r, const struct json *j)
{
    struct said s = { .match = -1 };
    const struct json *ids = json_get(j, "token_ids"), *logprobs = json_get(j, "logprobs"), *names = json_get(logprobs, "tokens");
    s.text = json_text(json_get(j, "text"), &s.len);
    if (!s.text)
        s.text = json_text(json_get(json_get(j, "message"), "content"), &s.len);
    s.by_name = !is_array(ids);
    if (is_array(ids) || is_array(names))
        read_tokens(r, &s, is_array(ids) ? ids : names);
    if (is_array(json_get(logprobs, "token_logprobs")))
        read_logprobs(r, &s, json_get(logprobs, "token_logprobs"));
    return s;
}

/* custom_id, id, else index: "" and a number keep apart what is a text, a number or a place. */
static int put_key(struct buf *key, const struct json *row)
{
    const struct json *id = json_get(row, "custom_id") ? json_get(row, "custom_id") : json_get(row, "id");
    const char *text;
    size_t len;
    int64_t number;
    buf_clear(key);
    if ((text = json_text(id, &len))) {
        buf_putc(key, '"');
        buf_put(key, text, len);
        buf_putc(key, '"');
    } else if (json_int(id, &number)) {
        buf_printf(key, "%lld", (long long)number);
    } else if (json_int(json_get(row, "index"), &number)) {
        buf_printf(key, "line %lld", (long long)number);
    } else {
        return err_set("neither \"custom_id\", \"id\" nor \"index\": not a row of answers");
    }
    return 0;
}

/* All answers of a row; a failed one is one answer without text. */
static int take_row(struct reader *r, const struct json *row)
{
    const struct json *choices = json_get(row, "choices") ? json_get(row, "choices") : json_get(json_get(json_get(row, "response"), "body"), "choices");
    bool matched;
    if (put_key(&r->key, row))
        return -1;
    size_t n = is_array(choices) ? json_len(choices) : 0, key_len = r->key.len;
    for (size_t i = 0; i < (n ? n : 1); i++) {
        struct said s = read_said(r, n ? json_at(choices, i) : row);
        if (i == 0 && json_bool(json_get(row, "match"), &matched))
            s.match = matched;
        r->key.len = key_len;
        if (i)
            buf_printf(&r->key, ", choice %zu", i);
        if (r->take(r->to, &r->key, &s))
            return -1;
    }
    return 0;
}

static int take_line(struct reader *r, const char *line, size_t len)
{
    if (!line)
        return err_set("the line has %zu bytes, more than %zu", len, ZFILE_MAX_LINE);
    struct json *row = json_parse_line(line, len);
    if (!row)
        return -1;
    int rc = json_kind(row) == JSON_KIND_OBJECT ? take_row(r, row) : err_set("%s, not an object", json_kind_name(row));
    json_free(row);
    return rc;
}

static int read_file(struct reader *r, const char *path)
{
    struct zreader *z = zreader_open(path);
    if (!z)
        return -1;
    char *line;
    size_t len, number = 0;
    int rc, bad = 0;
    while (!bad && (rc = zreader_line(z, &line, &len)) > 0) {
        number++;
        bad = line && !len ? 0 : take_line(r, line, len);
    }
    zreader_close(z);
    if (bad)
        return err_wrap("%s:%zu", path, number);
    return rc < 0 ? -1 : 0;
}

static int read_files(take_fn *take, void *to, char **paths, size_t n)
{
    struct reader r = { .take = take, .to = to };
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = read_file(&r, paths[i]);
    buf_free(&r.key);
    free(r.tokens);
    free(r.logprobs);
    return rc;
}

/* ---- BASE ---- */

static void *arena_copy(struct arena *a, const void *from, size_t size)
{
    void *to = arena_alloc(a, size);
    if (size)
        memcpy(to, from, size);
    return to;
}

static int keep(void *to, const struct buf *key, const struct said *s)
{
    struct answer_set *set = to;
    char *name = arena_dup(&set->arena, key->data, key->len);
    if (!map_put(&set->index, name, key->len, (uint32_t)set->n))
        return err_set("id %s is there twice", name);
    if (set->n == set->room)
        set->said = mem_resize(set->said, set->room = set->room ? 2 * set->room : 1024, sizeof *set->said);
    struct said *kept = &set->said[set->n++];
    *kept = *s;
    kept->text = s->text ? arena_dup(&set->arena, s->text, s->len) : NULL;
    kept->tokens = arena_copy(&set->arena, s->tokens, s->n_token * sizeof *s->tokens);
    kept->logprobs = arena_copy(&set->arena, s->logprobs, s->n_logprob * sizeof *s->logprobs);
    return 0;
}

struct answer_set *answer_set_open(char **paths, size_t n)
{
    struct answer_set *set = mem_alloc(sizeof *set);
    if (read_files(keep, set, paths, n) == 0)
        return set;
    answer_set_close(set);
    return NULL;
}

void answer_set_close(struct answer_set *s)
{
    if (!s)
        return;
    arena_free(&s->arena);
    map_free(&s->index);
    free(s->said);
    free(s);
}

/* ---- NEW ---- */

struct join { struct answer_set *base; struct sameness *to; };

/* Characters (not bytes) before the first that differs. */
static size_t common_characters(const struct said *a, const struct said *b)
{
    size_t n = 0, least = a->len < b->len ? a->len : b->len, characters = 0;
    while (n < least && a->text[n] == b->text[n])
        n++;
    while (n > 0 && ((n < a->len && (a->text[n] & 0xc0) == 0x80) || (n < b->len && (b->text[n] & 0xc0) == 0x80)))
        n--;
    for (size_t i = 0; i < n; i++)
        characters += (a->text[i] & 0xc0) != 0x80;
    return characters;
}

static size_t common_tokens(const struct said *a, const struct said *b)
{
    size_t n = 0;
    while (n < a->n_token && n < b->n_token && a->tokens[n] == b->tokens[n])
        n++;
    return n;
}

static void count_bin(uint64_t bins[N_DIVERGED], size_t at)
{
    size_t bin = 0;
    for (; at && bin < N_DIVERGED - 1; at >>= 1)
        bin++;
    bins[bin]++;
}

static void add_logprobs(struct sameness *to, const struct said *a, const struct said *b, size_t n)
{
    for (size_t i = 0; i < n && i < a->n_logprob && i < b->n_logprob; i++) {
        double difference = fabs(a->logprobs[i] - b->logprobs[i]);
        if (!isfinite(difference))
            continue;
        to->logprob_sum += difference;
        to->logprob_max = fmax(to->logprob_max, difference);
        to->n_logprob++;
    }
}

static void compare_said(struct sameness *to, const struct said *a, const struct said *b)
{
    bool by_token = a->has_tokens && b->has_tokens && a->by_name == b->by_name;
    size_t n = by_token ? common_tokens(a, b) : 0;
    bool same = by_token ? n == a->n_token && n == b->n_token : a->len == b->len && memcmp(a->text, b->text, a->len) == 0;
    if (same)
        to->same++;
    else if (by_token)
        count_bin(to->by_token, n);
    else
        count_bin(to->by_character, common_characters(a, b));
    to->differ += !same;
    add_logprobs(to, a, b, n);
}

static int join(void *ctx, const struct buf *key, const struct said *s)
{
    struct join *j = ctx;
    uint32_t at;
    j->to->n_new++;
    j->to->failed_new += !s->text;
    j->to->scored_new += s->match >= 0;
    j->to->matched_new += s->match == 1;
    if (!map_get(&j->base->index, key->data, key->len, &at)) {
        j->to->only_new++;
        return 0;
    }
    struct said *base = &j->base->said[at];
    if (base->joined)
        return err_set("id %.*s is there twice", (int)key->len, key->data);
    base->joined = true;
    if (base->text && s->text)
        compare_said(j->to, base, s);
    return 0;
}

static void count_base(struct sameness *to, const struct answer_set *base)
{
    to->n_base = base->n;
    for (size_t i = 0; i < base->n; i++) {
        const struct said *s = &base->said[i];
        to->failed_base += !s->text;
        to->only_base += !s->joined;
        to->scored_base += s->match >= 0;
        to->matched_base += s->match == 1;
    }
}

static double part(uint64_t some, uint64_t all)
{
    return all ? (double)some / (double)all : (double)NAN;
}

/* What NEW lost or failed to answer is not the same. */
static void add_metrics(struct compare_pair *p, const struct compare_plan *plan)
{
    const struct sameness *s = &p->same;
    uint64_t answered = s->n_base - s->failed_base;
    for (size_t i = 0; i < N_METRIC; i++) {
        bool score = strcmp(metrics[i].name, "score") == 0;
        if (!(metrics[i].sources & OF_ANSWERS) || !plan->shown[i] || (score && !s->scored_base && !plan->named[i]))
            continue;
        struct compare_row *row = compare_add(p, plan, "answers", &metrics[i]);
        struct rule rule = { metrics[i].higher_is_better, row->limit };
        row->c = score ? verdict_of_counts(&rule, part(s->matched_base, s->scored_base), s->scored_base, part(s->matched_new, s->scored_new), s->scored_new)
                       : verdict_of_counts(&rule, 1, answered, part(s->same, answered), answered);
    }
}

int compare_answers(struct compare_pair *p, struct answer_set *base, char **paths, size_t n, const struct compare_plan *plan)
{
    struct join j = { base, &p->same };
    p->has_answers = true;
    for (size_t i = 0; i < base->n; i++)
        base->said[i].joined = false;
    if (read_files(join, &j, paths, n))
        return -1;
    count_base(&p->same, base);
    if (p->same.only_base == base->n)
        return err_set("\"%s\" and \"%s\" have no answer's id in common: are they of one corpus?", p->base, p->new);
    add_metrics(p, plan);
    return 0;
}

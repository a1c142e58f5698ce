#define _DEFAULT_SOURCE     /* S_ISDIR */
#include "data/tokenizer.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "data/tok_parts.h"

/* ---- loading ---- */

static int load_folder(struct tokenizer *t, const char *folder)
{
    struct buf json = {0}, config = {0};
    buf_printf(&json, "%s/tokenizer.json", folder);
    buf_printf(&config, "%s/tokenizer_config.json", folder);
    int rc;
    if (access(json.data, F_OK) != 0)
        rc = err_set("the folder \"%s\" has no tokenizer.json, the only form of a tokenizer that is supported", folder);
    else
        rc = tok_load(t, json.data, access(config.data, F_OK) == 0 ? config.data : NULL);
    buf_free(&json);
    buf_free(&config);
    return rc;
}

struct tokenizer *tokenizer_open(const char *path)
{
    struct tokenizer *t = mem_alloc(sizeof *t);
    struct stat st;
    bool folder = stat(path, &st) == 0 && S_ISDIR(st.st_mode);
    if ((folder ? load_folder(t, path) : tok_load(t, path, NULL)) == 0)
        return t;
    tokenizer_close(t);
    return NULL;
}

struct tokenizer *tokenizer_parse(const char *json, size_t len)
{
    struct tokenizer *t = mem_alloc(sizeof *t);
    if (tok_load_text(t, json, len) == 0)
        return t;
    tokenizer_close(t);
    return NULL;
}

void tokenizer_close(struct tokenizer *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < t->n_norm; i++)
        tok_regex_close(t->norms[i].regex);
    for (size_t i = 0; i < t->n_step; i++)
        tok_regex_close(t->steps[i].regex);
    for (size_t i = 0; i < t->n_decoder; i++)
        tok_regex_close(t->decoders[i].regex);
    tok_regex_close(t->word);
    tok_model_free(&t->model);
    free(t->added[0].tokens);
    free(t->added[1].tokens);
    map_free(&t->added_ids);
    free(t->norms);
    free(t->steps);
    free(t->decoders);
    free(t->before.ids);
    free(t->after.ids);
    arena_free(&t->arena);
    free(t);
}

uint32_t tokenizer_n_vocab(const struct tokenizer *t)
{
    return t->model.n_id;
}

bool tokenizer_find(const struct tokenizer *t, const char *content, int32_t *id)
{
    uint32_t found;
    if (!map_get(&t->added_ids, content, strlen(content), &found))
        found = tok_model_find(&t->model, content, strlen(content));
    if (found != TOK_NONE)
        *id = (int32_t)found;
    return found != TOK_NONE;
}

/* ---- a thread's state ---- */

struct tok_state *tok_state_open(const struct tokenizer *t)
{
    struct tok_state *s = mem_alloc(sizeof *s);
    s->t = t;
    s->matcher = tok_matcher_open();
    s->step_text = mem_array(t->n_step, sizeof *s->step_text);
    s->cache = mem_array(TOK_CACHE, sizeof *s->cache);
    return s;
}

void tok_state_close(struct tok_state *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->t->n_step; i++)
        buf_free(&s->step_text[i]);
    free(s->step_text);
    tok_matcher_close(s->matcher);
    buf_free(&s->norm.text[0]);
    buf_free(&s->norm.text[1]);
    free(s->norm.cp);
    buf_free(&s->chars);
    free(s->cache);
    free(s->bpe.id);
    free(s->bpe.rank);
    free(s->bpe.prev);
    free(s->bpe.next);
    free(s->bpe.heap);
    tok_stream_free(&s->stream);
    free(s);
}

/* ---- encoding ---- */

static void put_ids(struct tok_ids *out, const struct tok_ids *ids)
{
    for (size_t i = 0; i < ids->n; i++)
        tok_put_id(out, (uint32_t)ids->ids[i]);
}

/* A stretch of raw text between added tokens. */
static int encode_stretch(struct tok_state *s, const char *text, size_t len, bool at_start)
{
    if (tok_normalize(s, &text, &len, &at_start) < 0)
        return -1;
    return tok_added_split(s, &s->t->added[1], text, len, at_start, tok_split);
}

int tokenizer_encode(struct tok_state *s, const char *text, size_t len, bool special, struct tok_ids *out)
{
    size_t before = out->n, at;
    if (len > TOK_MAX_TEXT)
        return err_set("a text of %zu bytes is over %zu", len, TOK_MAX_TEXT);
    if (!utf8_valid(text, len, &at))
        return err_set("the text is not UTF-8 at byte %zu", at);
    s->out = out;
    if (special)
        put_ids(out, &s->t->before);
    if (tok_added_split(s, &s->t->added[0], text, len, true, encode_stretch) < 0) {
        out->n = before;
        return -1;
    }
    if (special)
        put_ids(out, &s->t->after);
    return 0;
}

void tokenizer_trim(const struct tokenizer *t, const int32_t **ids, size_t *n)
{
    const struct tok_ids *b = &t->before, *a = &t->after;
    if (b->n && *n >= b->n && memcmp(*ids, b->ids, b->n * sizeof **ids) == 0) {
        *ids += b->n;
        *n -= b->n;
    }
    if (a->n && *n >= a->n && memcmp(*ids + *n - a->n, a->ids, a->n * sizeof **ids) == 0)
        *n -= a->n;
}

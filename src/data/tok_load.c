#include "data/tok_parts.h"

#include <malloc.h>     /* malloc_trim: a big vocabulary's JSON is ten times the size of what is kept of it */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

/* ---- reading of JSON ---- */

int tok_json_bool(const struct json *object, const char *key, bool missing, bool *out)
{
    const struct json *j = json_get(object, key);
    *out = missing;
    if (!j || json_kind(j) == JSON_KIND_NULL || json_bool(j, out))
        return 0;
    return err_set("\"%s\" must be true or false, not %s", key, json_kind_name(j));
}

int tok_json_text(const struct json *object, const char *key, const char **text, size_t *len)
{
    *text = json_text(json_get(object, key), len);
    return *text ? 0 : err_set("\"%s\" must be a string, not %s", key, json_kind_name(json_get(object, key)));
}

int tok_json_char(const struct json *object, const char *key, const char **text, size_t *len)
{
    uint32_t cp;
    if (tok_json_text(object, key, text, len) < 0)
        return -1;
    if (*len == 0 || tok_utf8_get(*text, *len, &cp) != *len)
        return err_set("\"%s\" must be one character, not \"%.100s\"", key, *text);
    return 0;
}

const char *tok_json_type(const struct json *part)
{
    const char *type = json_text(json_get(part, "type"), NULL);
    return type ? type : "";
}

int tok_json_each(struct tokenizer *t, const struct json *object, const char *key,
                  int (*load)(struct tokenizer *t, const struct json *j))
{
    const struct json *list = json_get(object, key);
    if (!list || json_kind(list) != JSON_KIND_ARRAY)
        return err_set("\"%s\" must be an array, not %s", key, json_kind_name(list));
    for (size_t i = 0; i < json_len(list); i++)
        if (load(t, json_at(list, i)) < 0)
            return -1;
    return 0;
}

/* The value of a key; NULL where it is missing or null. */
static const struct json *part(const struct json *object, const char *key)
{
    const struct json *j = json_get(object, key);
    return j && json_kind(j) != JSON_KIND_NULL ? j : NULL;
}

/* ---- post-processor: what stands before and behind a text ---- */

/* Puts n ids in front of what is there. */
static void put_before(struct tok_ids *list, const struct tok_ids *more)
{
    size_t old = list->n;
    for (size_t i = 0; i < more->n; i++)
        tok_put_id(list, 0);
    if (!more->n)
        return;
    memmove(list->ids + more->n, list->ids, old * sizeof *list->ids);
    memcpy(list->ids, more->ids, more->n * sizeof *list->ids);
}

static int put_checked(const struct tokenizer *t, struct tok_ids *out, const struct json *id, const char *name)
{
    int64_t n;
    if (!json_int(id, &n) || n < 0 || n >= t->model.n_id)
        return err_set("the id of \"%.100s\" is not one of the vocabulary", name);
    tok_put_id(out, (uint32_t)n);
    return 0;
}

/* The ids that the template's table names for one of its special tokens. */
static int put_special(const struct tokenizer *t, struct tok_ids *out, const struct json *table, const char *name)
{
    const struct json *ids = json_get(json_get(table, name), "ids");
    if (!ids || json_kind(ids) != JSON_KIND_ARRAY)
        return err_set("\"special_tokens\" does not have \"%.100s\"", name);
    for (size_t i = 0; i < json_len(ids); i++)
        if (put_checked(t, out, json_at(ids, i), name) < 0)
            return -1;
    return 0;
}

static int read_template(const struct tokenizer *t, const struct json *j, struct tok_ids *before, struct tok_ids *after)
{
    const struct json *single = json_get(j, "single");
    size_t n_text = 0;
    for (size_t i = 0; i < json_len(single); i++) {
        const struct json *piece = json_at(single, i);
        const char *name = json_text(json_get(json_get(piece, "SpecialToken"), "id"), NULL);
        if (json_get(piece, "Sequence"))
            n_text++;
        else if (!name)
            return err_set("piece %zu of \"single\" is neither a SpecialToken nor a Sequence", i);
        else if (put_special(t, n_text ? after : before, json_get(j, "special_tokens"), name) < 0)
            return -1;
    }
    return n_text == 1 ? 0 : err_set("\"single\" must hold the text once, not %zu times", n_text);
}

/* BERT's and RoBERTa's: ["[CLS]", id] before, ["[SEP]", id] behind. */
static int read_pair(const struct tokenizer *t, const struct json *j, struct tok_ids *before, struct tok_ids *after)
{
    if (put_checked(t, before, json_at(json_get(j, "cls"), 1), "cls") < 0)
        return -1;
    return put_checked(t, after, json_at(json_get(j, "sep"), 1), "sep");
}

static int load_post(struct tokenizer *t, const struct json *j)
{
    const char *type = tok_json_type(j);
    struct tok_ids before = {0}, after = {0};
    int rc = 0;
    if (strcmp(type, "Sequence") == 0)
        return tok_json_each(t, j, "processors", load_post);
    if (strcmp(type, "TemplateProcessing") == 0)
        rc = read_template(t, j, &before, &after);
    else if (strcmp(type, "BertProcessing") == 0 || strcmp(type, "RobertaProcessing") == 0)
        rc = read_pair(t, j, &before, &after);
    else if (strcmp(type, "ByteLevel") != 0)       /* that one only moves offsets, which are not asked for */
        rc = err_set("kind \"%s\" is not supported (supported: Sequence, TemplateProcessing, ByteLevel, BertProcessing, "
                     "RobertaProcessing)", type);
    if (rc == 0) {
        put_before(&t->before, &before);
        for (size_t i = 0; i < after.n; i++)
            tok_put_id(&t->after, (uint32_t)after.ids[i]);
    }
    free(before.ids);
    free(after.ids);
    return rc;
}

/* ---- tokenizer.json ---- */

static int load_added(struct tokenizer *t, const struct json *list)
{
    static const char word[] = "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200c}\\x{200d}]";
    t->word = tok_regex_open(word, sizeof word - 1, TOK_PCRE);
    CHECK(t->word);
    return tok_added_load(t, list);
}

static int load_splits(struct tokenizer *t, const struct json *j)
{
    if (tok_split_load(t, j) < 0)
        return -1;
    /* Last in the row, writing bytes as characters is left out, and the model works on bytes. */
    t->model.byte_level = t->n_step && t->steps[t->n_step - 1].kind == TOK_STEP_BYTES;
    t->n_step -= t->model.byte_level;
    return 0;
}

static int load_parts(struct tokenizer *t, const struct json *root)
{
    static const struct {
        const char *key;
        int (*load)(struct tokenizer *t, const struct json *j);
        bool always;
    } parts[] = {       /* in the order in which they need each other */
        { "normalizer", tok_norm_load, false }, { "pre_tokenizer", load_splits, false }, { "model", tok_model_load, true },
        { "added_tokens", load_added, true }, { "post_processor", load_post, false }, { "decoder", tok_decoder_load, true },
    };
    const char *version = json_text(json_get(root, "version"), NULL);
    if (json_kind(root) != JSON_KIND_OBJECT || (version && strcmp(version, "1.0") != 0))
        return err_set("this is no tokenizer of version 1.0");
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        const struct json *j = part(root, parts[i].key);
        if ((j || parts[i].always) && parts[i].load(t, j) < 0)
            return err_wrap("%s", parts[i].key);
    }
    return 0;
}

/* ---- tokenizer_config.json: add_bos_token and add_eos_token take the place of the post-processor ---- */

static int put_named(struct tokenizer *t, const struct json *config, const char *flag, const char *name, struct tok_ids *out)
{
    bool add;
    if (tok_json_bool(config, flag, false, &add) < 0)
        return -1;
    const struct json *token = part(config, name);
    const char *text = json_text(token, NULL);
    if (!text)
        text = json_text(json_get(token, "content"), NULL);
    int32_t id;
    if (!add || !text)
        return 0;
    if (!tokenizer_find(t, text, &id))
        return err_set("%s is \"%.100s\", which is not in the vocabulary", name, text);
    tok_put_id(out, (uint32_t)id);
    return 0;
}

static int load_config(struct tokenizer *t, const struct json *config)
{
    if (!part(config, "add_bos_token") && !part(config, "add_eos_token"))
        return 0;
    t->before.n = t->after.n = 0;
    if (put_named(t, config, "add_bos_token", "bos_token", &t->before) < 0)
        return -1;
    return put_named(t, config, "add_eos_token", "eos_token", &t->after);
}

static int load_file(struct tokenizer *t, const char *path, int (*load)(struct tokenizer *t, const struct json *root))
{
    struct json *root = json_parse_file(path);
    if (!root)
        return -1;
    int rc = load(t, root);
    json_free(root);
    return rc < 0 ? err_wrap("\"%s\"", path) : 0;
}

int tok_load_text(struct tokenizer *t, const char *json, size_t len)
{
    struct json *root = json_parse(json, len);
    int rc = root ? load_parts(t, root) : -1;
    json_free(root);
    return rc;
}

int tok_load(struct tokenizer *t, const char *json_path, const char *config_path)
{
    int rc = load_file(t, json_path, load_parts);
    malloc_trim(0);
    if (rc == 0 && config_path)
        rc = load_file(t, config_path, load_config);
    return rc;
}

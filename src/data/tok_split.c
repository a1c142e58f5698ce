#include "data/tok_parts.h"

#include <string.h>

#include "base/err.h"

#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

/* Rust's \w, of which Whitespace makes use: Oniguruma's and the two joiners. */
#define RUST_WORD "\\w\\x{200c}\\x{200d}"

static struct tok_step *add_step(struct tokenizer *t, enum tok_step_kind kind)
{
    t->steps = mem_resize(t->steps, t->n_step + 1, sizeof *t->steps);
    t->steps[t->n_step] = (struct tok_step){ .kind = kind };
    return &t->steps[t->n_step++];
}

static int add_split(struct tokenizer *t, const char *pattern, enum tok_flavor flavor, enum tok_behavior behavior, bool invert)
{
    struct tok_step *s = add_step(t, TOK_STEP_SPLIT);
    s->behavior = behavior;
    s->invert = invert;
    s->regex = tok_regex_open(pattern, strlen(pattern), flavor);
    return s->regex ? 0 : -1;
}

static int load_behavior(const struct json *j, enum tok_behavior missing, enum tok_behavior *out)
{
    static const char *const names[] = {
        [TOK_REMOVED] = "Removed", [TOK_ISOLATED] = "Isolated", [TOK_MERGED_PREVIOUS] = "MergedWithPrevious",
        [TOK_MERGED_NEXT] = "MergedWithNext", [TOK_CONTIGUOUS] = "Contiguous",
    };
    const char *text = json_text(json_get(j, "behavior"), NULL);
    *out = missing;
    if (!json_get(j, "behavior"))
        return 0;
    for (size_t i = 0; text && i < sizeof names / sizeof *names; i++)
        if (strcmp(text, names[i]) == 0) {
            *out = (enum tok_behavior)i;
            return 0;
        }
    return err_set("\"behavior\" must be Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous");
}

static int load_split(struct tokenizer *t, const struct json *j)
{
    struct tok_step *s = add_step(t, TOK_STEP_SPLIT);
    s->regex = tok_pattern_load(json_get(j, "pattern"));
    if (!s->regex || load_behavior(j, TOK_ISOLATED, &s->behavior) < 0)
        return -1;
    return tok_json_bool(j, "invert", false, &s->invert);
}

static int load_byte_level(struct tokenizer *t, const struct json *j)
{
    bool prefix_space, use_regex;
    if (tok_json_bool(j, "add_prefix_space", true, &prefix_space) < 0 || tok_json_bool(j, "use_regex", true, &use_regex) < 0)
        return -1;
    if (prefix_space)
        add_step(t, TOK_STEP_SPACE);
    if (use_regex && add_split(t, GPT2, TOK_ONIGURUMA, TOK_ISOLATED, false) < 0)
        return -1;
    add_step(t, TOK_STEP_BYTES);
    return 0;
}

static int load_prepend(const struct json *j, enum tok_prepend *out)
{
    const char *scheme = json_text(json_get(j, "prepend_scheme"), NULL);
    bool prefix_space;
    if (tok_json_bool(j, "add_prefix_space", true, &prefix_space) < 0)
        return -1;
    *out = prefix_space ? TOK_PREPEND_ALWAYS : TOK_PREPEND_NEVER;
    if (!json_get(j, "prepend_scheme"))
        return 0;
    if (scheme && strcmp(scheme, "never") == 0)
        *out = TOK_PREPEND_NEVER;
    else if (scheme && strcmp(scheme, "first") == 0)
        *out = TOK_PREPEND_FIRST;
    else if (scheme && strcmp(scheme, "always") == 0)
        *out = TOK_PREPEND_ALWAYS;
    else
        return err_set("\"prepend_scheme\" must be always, first or never");
    return 0;
}

static int load_metaspace(struct tokenizer *t, const struct json *j)
{
    struct tok_step *s = add_step(t, TOK_STEP_META);
    const char *mark;
    bool split;
    if (tok_json_char(j, "replacement", &mark, &s->mark_len) < 0 || load_prepend(j, &s->prepend) < 0
        || tok_json_bool(j, "split", true, &split) < 0)
        return -1;
    s->mark = mark = arena_dup(&t->arena, mark, s->mark_len);
    return split ? add_split(t, mark, TOK_LITERAL, TOK_MERGED_NEXT, false) : 0;
}

static int load_digits(struct tokenizer *t, const struct json *j)
{
    bool individual;
    if (tok_json_bool(j, "individual_digits", false, &individual) < 0)
        return -1;
    return add_split(t, individual ? "\\p{N}" : "\\p{N}+", TOK_PCRE, TOK_ISOLATED, false);
}

static int load_punctuation(struct tokenizer *t, const struct json *j)
{
    enum tok_behavior behavior;
    if (load_behavior(j, TOK_ISOLATED, &behavior) < 0)
        return -1;
    return add_split(t, "[!-/:-@\\[-`{-~\\p{P}]", TOK_PCRE, behavior, false);
}

int tok_split_load(struct tokenizer *t, const struct json *j)
{
    const char *type = tok_json_type(j);
    if (t->n_step >= TOK_MAX_STEP)
        return err_set("more than %d steps in a row", TOK_MAX_STEP);
    if (strcmp(type, "Sequence") == 0)
        return tok_json_each(t, j, "pretokenizers", tok_split_load);
    if (strcmp(type, "Split") == 0)
        return load_split(t, j);
    if (strcmp(type, "ByteLevel") == 0)
        return load_byte_level(t, j);
    if (strcmp(type, "Metaspace") == 0)
        return load_metaspace(t, j);
    if (strcmp(type, "Digits") == 0)
        return load_digits(t, j);
    if (strcmp(type, "Punctuation") == 0)
        return load_punctuation(t, j);
    if (strcmp(type, "Whitespace") == 0)
        return add_split(t, "[" RUST_WORD "]+|[^" RUST_WORD "\\s]+", TOK_ONIGURUMA, TOK_REMOVED, true);
    if (strcmp(type, "WhitespaceSplit") == 0)
        return add_split(t, "\\s+", TOK_ONIGURUMA, TOK_REMOVED, false);
    return err_set("kind \"%s\" is not supported (supported: Sequence, Split, ByteLevel, Metaspace, Digits, Punctuation, "
                   "Whitespace, WhitespaceSplit)", type);
}

static int run_step(struct tok_state *s, size_t k, const char *text, size_t len, bool at_start);

/* Matches and the gaps between them arrive in order; what they become depends on their neighbours, so one waits. */
struct splitting {
    struct tok_state *s;
    size_t k;                  /* the step */
    const char *text;
    bool at_start;
    bool waits, match;         /* one waits; it (or the one before it, where it took that in) is a match */
    size_t start, end;
};

static int emit(const struct splitting *p, size_t start, size_t end)
{
    return end > start ? run_step(p->s, p->k + 1, p->text + start, end - start, p->at_start && start == 0) : 0;
}

static bool joins_waiting(const struct splitting *p, enum tok_behavior behavior, bool match)
{
    if (!p->waits)
        return false;
    if (behavior == TOK_CONTIGUOUS)
        return match == p->match;
    return behavior == TOK_MERGED_PREVIOUS ? match && !p->match : !match && p->match;
}

static int take(struct splitting *p, enum tok_behavior behavior, size_t start, size_t end, bool match)
{
    if (behavior == TOK_REMOVED || behavior == TOK_ISOLATED)
        return match && behavior == TOK_REMOVED ? 0 : emit(p, start, end);
    if (joins_waiting(p, behavior, match)) {
        p->end = end;
        p->match = match;
        return 0;
    }
    if (p->waits && emit(p, p->start, p->end) < 0)
        return -1;
    p->waits = true;
    p->match = match;
    p->start = start;
    p->end = end;
    return 0;
}

static int split(struct tok_state *s, size_t k, const char *text, size_t len, bool at_start)
{
    const struct tok_step *step = &s->t->steps[k];
    struct splitting p = { .s = s, .k = k, .text = text, .at_start = at_start };
    struct tok_find f = { .regex = step->regex, .matcher = s->matcher, .text = text, .len = len };
    size_t done = 0;
    int rc;
    while ((rc = tok_find_next(&f)) > 0) {
        if (f.start > done && take(&p, step->behavior, done, f.start, step->invert) < 0)
            return -1;
        if (take(&p, step->behavior, f.start, f.end, !step->invert) < 0)
            return -1;
        done = f.end;
    }
    if (rc < 0 || (done < len && take(&p, step->behavior, done, len, step->invert) < 0))
        return -1;
    return p.waits ? emit(&p, p.start, p.end) : 0;
}

static void put_spaces_as(struct buf *out, const char *text, size_t len, const char *mark, size_t mark_len)
{
    for (const char *end = text + len; text < end;) {
        const char *space = memchr(text, ' ', (size_t)(end - text));
        buf_put(out, text, (size_t)((space ? space : end) - text));
        if (!space)
            return;
        buf_put(out, mark, mark_len);
        text = space + 1;
    }
}

static void metaspace(const struct tok_step *step, const char *text, size_t len, bool at_start, struct buf *out)
{
    bool has = *text == ' ' || (len >= step->mark_len && memcmp(text, step->mark, step->mark_len) == 0);
    if (!has && (step->prepend == TOK_PREPEND_ALWAYS || (step->prepend == TOK_PREPEND_FIRST && at_start)))
        buf_put(out, step->mark, step->mark_len);
    put_spaces_as(out, text, len, step->mark, step->mark_len);
}

/* Steps that rewrite a piece do it in a buffer of their own, so that it stands while the later steps work on it. */
static int rewrite(struct tok_state *s, size_t k, const char *text, size_t len, bool at_start)
{
    const struct tok_step *step = &s->t->steps[k];
    struct buf *out = &s->step_text[k];
    buf_clear(out);
    if (step->kind == TOK_STEP_META)
        metaspace(step, text, len, at_start, out);
    else if (step->kind == TOK_STEP_BYTES)
        tok_bytes_to_chars(out, text, len);
    else if (*text == ' ')
        return run_step(s, k + 1, text, len, at_start);
    else {
        buf_putc(out, ' ');
        buf_put(out, text, len);
    }
    return run_step(s, k + 1, out->data, out->len, at_start);
}

static int run_step(struct tok_state *s, size_t k, const char *text, size_t len, bool at_start)
{
    if (k == s->t->n_step)
        return tok_bpe(s, text, len);
    if (s->t->steps[k].kind == TOK_STEP_SPLIT)
        return split(s, k, text, len, at_start);
    return rewrite(s, k, text, len, at_start);
}

int tok_split(struct tok_state *s, const char *text, size_t len, bool at_start)
{
    return run_step(s, 0, text, len, at_start);
}

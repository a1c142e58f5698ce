#define _DEFAULT_SOURCE     /* M_PI */
#include "plan/workload.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"
#include "data/trace.h"

/* What random numbers are for: the high bits of a block's number (plan/arrivals.c has others). */
enum stream { OWN_IDS = 1, PREFIX_IDS, HASH_IDS, INPUT_LENGTH, OUTPUT_LENGTH, WHICH_PREFIX };

struct workload {
    struct workload_config config;
    struct trace *trace;                       /* NULL: none */
    int32_t *allowed; uint32_t n_allowed;      /* the ids that are not special */
    uint64_t n;                                /* requests so far */
    uint64_t n_no_tokens;                      /* texts without a token, passed over */
    struct tok_ids prompt, answer;             /* of a text */
};

static void random_block(const struct workload *w, enum stream s, uint64_t which, uint32_t at, uint32_t word[4])
{
    rng_block(w->config.seed, which, (uint64_t)s << 56 | at, word);
}

/* ---- lengths ---- */

/* The whole number that *at begins with; 0 if there is none or it is too large. */
static uint32_t take_length(const char **at)
{
    size_t digits = strspn(*at, "0123456789");
    unsigned long n = digits && digits < 10 ? strtoul(*at, NULL, 10) : 0;
    *at += digits;
    return n <= TRACE_MAX_TOKENS ? (uint32_t)n : 0;
}

static bool parse_normal(struct lengths *l, const char *text)
{
    char *end;
    l->normal = true;
    l->mean = strtod(text, &end);
    if (end == text || *end != ',')
        return false;
    text = end + 1;
    l->deviation = strtod(text, &end);
    return end > text && !strcmp(end, ")") && l->mean >= 1 && l->mean <= TRACE_MAX_TOKENS && l->deviation >= 0 && l->deviation <= TRACE_MAX_TOKENS;
}

static bool parse_range(struct lengths *l, const char *text)
{
    l->low = l->high = take_length(&text);
    if (!strncmp(text, "..", 2)) {
        text += 2;
        l->high = take_length(&text);
    }
    return l->low && l->low <= l->high && !*text;
}

int lengths_parse(struct lengths *l, const char *text)
{
    *l = (struct lengths){0};
    if (strncmp(text, "normal(", 7) ? parse_range(l, text) : parse_normal(l, text + 7))
        return 0;
    return err_set("\"%s\" is no length: write tokens (128), a range (64..256) or normal(MEAN,DEVIATION) (normal(128,32)), from 1 to %u",
                   text, TRACE_MAX_TOKENS);
}

static uint32_t draw_length(const struct workload *w, const struct lengths *l, enum stream s)
{
    uint32_t word[4];
    random_block(w, s, w->n, 0, word);
    if (!l->normal)
        return l->low + (uint32_t)((double)(((uint64_t)word[0] << 32 | word[1]) >> 11) * 0x1p-53 * (l->high - l->low + 1));
    double z = sqrt(-2 * log((word[0] + 1.0) * 0x1p-32)) * cos(2 * M_PI * 0x1p-32 * word[1]);   /* Box and Muller 1958 */
    return (uint32_t)fmin(fmax(floor(l->mean + l->deviation * z + 0.5), 1), TRACE_MAX_TOKENS);
}

/* ---- token ids ---- */

/* The first n ids of one of a stream's endless rows. */
static void put_ids(const struct workload *w, enum stream s, uint64_t which, int32_t *ids, uint32_t n)
{
    uint32_t word[4];
    for (uint32_t i = 0; i < n; i++) {
        if (i % 4 == 0)
            random_block(w, s, which, i / 4, word);
        ids[i] = w->allowed[(uint64_t)word[i % 4] * w->n_allowed >> 32];
    }
}

static void make_room(struct workload_request *r, uint32_t n)
{
    r->n_prompt = n;
    if (n > r->room)
        r->prompt_ids = mem_resize(r->prompt_ids, r->room = n, sizeof *r->prompt_ids);
}

/* ---- requests ---- */

static void make_synthetic(const struct workload *w, struct workload_request *r)
{
    const struct workload_config *c = &w->config;
    uint32_t word[4], n_own = draw_length(w, &c->input, INPUT_LENGTH);
    random_block(w, WHICH_PREFIX, w->n, 0, word);
    make_room(r, c->prefix_len + n_own);
    put_ids(w, PREFIX_IDS, (uint64_t)word[0] * c->prefix_count >> 32, r->prompt_ids, c->prefix_len);
    put_ids(w, OWN_IDS, w->n, r->prompt_ids + c->prefix_len, n_own);
    r->n_output = draw_length(w, &c->output, OUTPUT_LENGTH);
    r->arrival_s = NAN;
}

/* Blocks by their hash ids, the rest the request's own. */
static void make_recorded(const struct workload *w, struct workload_request *r, const struct trace_row *row)
{
    uint32_t at = 0;
    make_room(r, row->n_input);
    for (uint32_t b = 0; b < row->n_hash; b++) {
        uint32_t left = row->n_input - at, n = left < TRACE_BLOCK ? left : TRACE_BLOCK;
        put_ids(w, HASH_IDS, row->hash_ids[b], r->prompt_ids + at, n);
        at += n;
    }
    put_ids(w, OWN_IDS, w->n, r->prompt_ids + at, row->n_input - at);
    r->n_output = row->n_output;
}

/* 1; 0: there is no token in one of the texts; -1. */
static int make_text(struct workload *w, struct workload_request *r, const struct trace_row *row)
{
    struct tok_state *tok = w->config.tok;
    w->prompt.n = w->answer.n = 0;
    if (tokenizer_encode(tok, row->prompt, row->prompt_len, true, &w->prompt) ||
        tokenizer_encode(tok, row->answer, row->answer_len, false, &w->answer))
        return -1;
    if (!w->prompt.n || !w->answer.n)
        return 0;
    make_room(r, (uint32_t)w->prompt.n);
    memcpy(r->prompt_ids, w->prompt.ids, w->prompt.n * sizeof *r->prompt_ids);
    r->n_output = (uint32_t)w->answer.n;
    return 1;
}

static int next_recorded(struct workload *w, struct workload_request *r)
{
    struct trace_row row;
    int rc;
    do {
        rc = trace_next(w->trace, &row);
        if (rc <= 0)
            return rc;
        if (row.prompt)
            rc = make_text(w, r, &row);
        else
            make_recorded(w, r, &row);
        w->n_no_tokens += rc == 0;
    } while (rc == 0);
    r->arrival_s = row.arrival_s;
    return rc;
}

int workload_next(struct workload *w, struct workload_request *r)
{
    int rc = 1;
    if (w->trace)
        rc = next_recorded(w, r);
    else
        make_synthetic(w, r);
    w->n += rc > 0;
    return rc;
}

/* ---- opening ---- */

static int list_allowed(struct workload *w)
{
    const struct workload_config *c = &w->config;
    bool *special = mem_array(c->n_vocab, sizeof *special);
    for (uint32_t i = 0; i < c->n_special; i++)
        if (c->special_ids[i] >= 0 && (uint32_t)c->special_ids[i] < c->n_vocab)
            special[c->special_ids[i]] = true;
    w->allowed = mem_array(c->n_vocab, sizeof *w->allowed);
    for (uint32_t id = 0; id < c->n_vocab; id++)
        if (!special[id])
            w->allowed[w->n_allowed++] = (int32_t)id;
    free(special);
    return w->n_allowed ? 0 : err_set("no id is left to make prompts of: all %u of the vocabulary are special", c->n_vocab);
}

static int open_trace(struct workload *w)
{
    const struct workload_config *c = &w->config;
    if (c->prefix_len)
        return err_set("%s: shared prefixes are for synthetic requests; a trace has its own", c->trace);
    w->trace = trace_open(c->trace);
    if (!w->trace)
        return -1;
    return trace_has_text(w->trace) && !c->tok ? err_set("%s has texts, and there is no tokenizer to count them with", c->trace) : 0;
}

static int check_synthetic(const struct workload_config *c)
{
    if ((!c->input.normal && !c->input.low) || (!c->output.normal && !c->output.low))
        return err_set("synthetic requests need a length of the input and one of the output");
    if (c->prefix_len && !c->prefix_count)
        return err_set("a shared prefix of %u tokens needs a count of such prefixes, from 1 on", c->prefix_len);
    return c->prefix_len > TRACE_MAX_TOKENS ? err_set("a shared prefix of %u tokens is too long (%u)", c->prefix_len, TRACE_MAX_TOKENS) : 0;
}

struct workload *workload_open(const struct workload_config *c)
{
    struct workload *w = mem_alloc(sizeof *w);
    w->config = *c;
    if ((c->trace ? open_trace(w) : check_synthetic(c)) || list_allowed(w)) {
        workload_close(w);
        return NULL;
    }
    return w;
}

void workload_close(struct workload *w)
{
    if (!w)
        return;
    trace_close(w->trace);
    free(w->allowed);
    free(w->prompt.ids);
    free(w->answer.ids);
    free(w);
}

bool workload_has_arrivals(const struct workload *w)
{
    return w->trace && trace_has_arrivals(w->trace);
}

struct workload_counts workload_counts(const struct workload *w)
{
    struct trace_counts t = w->trace ? trace_counts(w->trace) : (struct trace_counts){0};
    return (struct workload_counts){ t.n_dropped + w->n_no_tokens, t.n_late };
}

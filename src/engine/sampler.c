#define _GNU_SOURCE     /* memmem */
#include "engine/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"

#define CONTEXT_TOKENS 6       /* of the prompt, decoded before the answer so that its first space is right */

struct slot {
    const struct request *request;
    uint64_t stream;
    size_t n_edit;                 /* most that a row of it can need */
    struct tok_stream text;
    struct buf tail;               /* newest text, in which a stop string may yet end */
    size_t longest_stop;
};

struct sampler {
    const struct model_config *config;
    struct tok_state *tok;         /* NULL: no tokenizer */
    struct slot *slots;            /* [max_seqs] */
    struct sample_row *rows; uint32_t n_row;       /* [max_seqs] */
    struct logit_edit *edits; size_t n_edit, room, needed;     /* needed: by all slots together */
    uint32_t *place;               /* [n_vocab] of the id's edit in the row being made, from 1; 0: none */
    uint32_t max_seqs, max_top;
};

struct sampler *sampler_open(const struct model_config *c, const struct tokenizer *t, uint32_t max_seqs)
{
    struct sampler *s = mem_alloc(sizeof *s);
    s->config = c;
    s->tok = t ? tok_state_open(t) : NULL;
    s->max_seqs = max_seqs;
    s->slots = mem_array(max_seqs, sizeof *s->slots);
    s->rows = mem_array(max_seqs, sizeof *s->rows);
    s->place = mem_array(c->n_vocab, sizeof *s->place);
    return s;
}

void sampler_close(struct sampler *s)
{
    if (!s)
        return;
    for (uint32_t i = 0; i < s->max_seqs; i++) {
        tok_stream_free(&s->slots[i].text);
        buf_free(&s->slots[i].tail);
    }
    if (s->tok)
        tok_state_close(s->tok);
    free(s->slots);
    free(s->rows);
    free(s->edits);
    free(s->place);
    free(s);
}

static bool in_vocab(const struct sampler *s, int32_t id)
{
    return id >= 0 && (uint32_t)id < s->config->n_vocab;
}

int sampler_check(const struct sampler *s, const struct request *r)
{
    const struct sampling *w = &r->sampling;
    for (uint32_t i = 0; i < r->n_prompt; i++)
        if (!in_vocab(s, r->prompt_ids[i]))
            return err_set("prompt token %u is id %d, and the model's ids end at %u", i, r->prompt_ids[i], s->config->n_vocab - 1);
    for (uint32_t i = 0; i < w->n_bias; i++)
        if (!in_vocab(s, w->bias[i].id))
            return err_set("logit_bias names id %d, and the model's ids end at %u", w->bias[i].id, s->config->n_vocab - 1);
    uint32_t max_top = s->config->n_vocab < SAMPLER_MAX_TOP ? s->config->n_vocab : SAMPLER_MAX_TOP;
    if (w->logprobs > (int32_t)max_top)
        return err_set("logprobs is %d, more than %u", w->logprobs, max_top);
    if (w->n_stop && !s->tok)
        return err_set("stop strings need a tokenizer, and this model has none");
    return 0;
}

/* ---- a sequence's life in its slot ---- */

static bool has_penalties(const struct sampling *w)
{
    return w->presence_penalty != 0 || w->frequency_penalty != 0 || w->repetition_penalty != 1;
}

bool sampler_sees_tokens(const struct request *r)
{
    return has_penalties(&r->sampling);
}

static size_t edits_needed(const struct sampler *s, const struct seq *q, const struct sampling *w)
{
    size_t n = (size_t)w->n_bias + w->n_stop_id + s->config->n_eos + (has_penalties(w) ? q->max_len : 0);
    return n < s->config->n_vocab ? n : s->config->n_vocab;
}

static void begin_text(struct sampler *s, struct slot *slot, const struct seq *q)
{
    const struct sampling *w = &slot->request->sampling;
    for (uint32_t i = 0; i < w->n_stop; i++) {
        size_t len = strlen(w->stop[i]);
        slot->longest_stop = len > slot->longest_stop ? len : slot->longest_stop;
    }
    if (!slot->longest_stop)
        return;
    uint32_t from = q->n_prompt > CONTEXT_TOKENS ? q->n_prompt - CONTEXT_TOKENS : 0;
    for (uint32_t i = from; i < q->n_prompt; i++)
        tok_stream_put(s->tok, &slot->text, q->tokens[i], true, &slot->tail);
    buf_clear(&slot->tail);
}

void sampler_begin(struct sampler *s, const struct seq *q, const struct request *r)
{
    struct slot *slot = &s->slots[q->slot];
    uint64_t who[2] = { r->sampling.own_seed ? 0 : r->index, q->choice };
    slot->request = r;
    slot->stream = hash_bytes(who, sizeof who, 0);
    slot->n_edit = edits_needed(s, q, &r->sampling);
    s->needed += slot->n_edit;
    if (s->needed > s->room) {
        s->room = s->needed * 2;
        s->edits = mem_resize(s->edits, s->room, sizeof *s->edits);
    }
    begin_text(s, slot, q);
}

void sampler_end(struct sampler *s, const struct seq *q)
{
    struct slot *slot = &s->slots[q->slot];
    s->needed -= slot->n_edit;
    tok_stream_free(&slot->text);
    buf_free(&slot->tail);
    *slot = (struct slot){ 0 };
}

/* ---- rows and edits ---- */

static struct logit_edit *edit_of(struct sampler *s, int32_t id)
{
    if (!s->place[id]) {
        CHECK(s->n_edit < s->room);
        s->edits[s->n_edit++] = (struct logit_edit){ .id = id, .repeat = 1, .add = 0 };
        s->place[id] = (uint32_t)s->n_edit;
    }
    return &s->edits[s->place[id] - 1];
}

/* Repetition counts prompt and output, presence and frequency the output alone (as vLLM has it). */
static void edit_penalties(struct sampler *s, const struct seq *q, const struct sampling *w)
{
    size_t start = s->n_edit;
    if (w->repetition_penalty != 1)
        for (uint32_t i = 0; i < q->n_token; i++)
            edit_of(s, q->tokens[i])->repeat = w->repetition_penalty;
    if (w->presence_penalty == 0 && w->frequency_penalty == 0)
        return;
    for (uint32_t i = q->n_prompt; i < q->n_token; i++)
        edit_of(s, q->tokens[i])->add += 1;
    for (size_t i = start; i < s->n_edit; i++)
        if (s->edits[i].add > 0)
            s->edits[i].add = -(w->presence_penalty + w->frequency_penalty * s->edits[i].add);
}

static void ban(struct sampler *s, int32_t id)
{
    if (in_vocab(s, id))
        edit_of(s, id)->add = -INFINITY;
}

static void edit_bans(struct sampler *s, const struct sampling *w)
{
    for (uint32_t i = 0; i < s->config->n_eos && !w->ignore_eos; i++)
        ban(s, s->config->eos[i]);
    for (uint32_t i = 0; i < w->n_stop_id; i++)
        ban(s, w->stop_ids[i]);
}

static uint32_t put_edits(struct sampler *s, const struct seq *q, uint32_t at, const struct sampling *w)
{
    size_t start = s->n_edit;
    CHECK(at == q->n_token || !has_penalties(w));
    edit_penalties(s, q, w);
    for (uint32_t i = 0; i < w->n_bias; i++)
        edit_of(s, w->bias[i].id)->add += w->bias[i].bias;
    if (at - q->n_prompt < (uint32_t)w->min_tokens)
        edit_bans(s, w);
    for (size_t i = start; i < s->n_edit; i++)
        s->place[s->edits[i].id] = 0;
    return (uint32_t)(s->n_edit - start);
}

void sampler_clear(struct sampler *s)
{
    s->n_row = 0;
    s->n_edit = 0;
    s->max_top = 0;
}

void sampler_put(struct sampler *s, const struct seq *q, uint32_t at)
{
    const struct slot *slot = &s->slots[q->slot];
    const struct sampling *w = &slot->request->sampling;
    struct sample_row *row = &s->rows[s->n_row++];
    *row = (struct sample_row){
        .temperature = w->temperature, .top_p = w->top_p, .min_p = w->min_p, .top_k = w->top_k > 0 ? (uint32_t)w->top_k : 0,
        .seed = w->seed, .stream = slot->stream + at, .edit_start = (uint32_t)s->n_edit, .n_top = w->logprobs,
    };
    row->n_edit = put_edits(s, q, at, w);
    if (w->logprobs > 0 && (uint32_t)w->logprobs > s->max_top)
        s->max_top = (uint32_t)w->logprobs;
}

struct sample_rows sampler_rows(const struct sampler *s)
{
    return (struct sample_rows){ .rows = s->rows, .edits = s->edits, .n_row = s->n_row, .max_top = s->max_top };
}

/* ---- the end of a sequence ---- */

static bool stops(const struct sampler *s, const struct sampling *w, int32_t id)
{
    for (uint32_t i = 0; i < s->config->n_eos && !w->ignore_eos; i++)
        if (id == s->config->eos[i])
            return true;
    for (uint32_t i = 0; i < w->n_stop_id; i++)
        if (id == w->stop_ids[i])
            return true;
    return false;
}

/* Adds the newest token's text.  True: a stop string ends in it.  One that ended before min_tokens does not count. */
static bool stop_text_ends(struct sampler *s, struct slot *slot, const struct seq *q)
{
    const struct sampling *w = &slot->request->sampling;
    struct buf *tail = &slot->tail;
    size_t before = tail->len;
    tok_stream_put(s->tok, &slot->text, q->tokens[q->n_token - 1], true, tail);
    bool may_end = q->n_token - q->n_prompt > (uint32_t)w->min_tokens;
    for (uint32_t i = 0; i < w->n_stop && may_end; i++) {
        size_t len = strlen(w->stop[i]), from = before >= len ? before - len + 1 : 0;
        if (tail->len > from && memmem(tail->data + from, tail->len - from, w->stop[i], len))
            return true;
    }
    if (tail->len >= slot->longest_stop) {
        size_t keep = slot->longest_stop - 1;
        memmove(tail->data, tail->data + tail->len - keep, keep);
        tail->len = keep;
    }
    return false;
}

enum verdict sampler_judge(struct sampler *s, const struct seq *q)
{
    struct slot *slot = &s->slots[q->slot];
    if (stops(s, &slot->request->sampling, q->tokens[q->n_token - 1]))
        return VERDICT_STOP_TOKEN;
    if (slot->longest_stop && stop_text_ends(s, slot, q))
        return VERDICT_STOP_TEXT;
    return q->n_token == q->max_len ? VERDICT_LENGTH : VERDICT_GO_ON;
}

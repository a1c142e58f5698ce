#include "engine/sched.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"

#define WAITING_TOKENS (4u << 20)       /* prompt tokens that may wait: about 64 MiB with text and parsed line */

struct waiting { struct sched_request request; uint64_t epoch, arrival; uint32_t max_len, n_started; };

struct sched {
    struct sched_config config;
    struct blocks *blocks;
    uint32_t max_len;
    struct waiting *heap; uint32_t n_heap;         /* [window] */
    uint64_t n_arrived, waiting_tokens;
    struct seq *seqs;                              /* [max_seqs] by slot */
    uint32_t *free_slots, n_free;
    struct seq **running; uint32_t n_running;      /* [max_seqs] by admission */
    uint32_t n_active;                             /* the first of them have blocks, the others were preempted */
    int32_t  *tokens;                              /* [max_seqs, max_len] */
    uint32_t *tables;                              /* [max_seqs, blocks of max_len] */
    struct plan plans[2], *plan;                   /* the newest of the two */
    uint32_t n_pending;                            /* tokens, over all sequences */
};

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* ---- opening ---- */

static void open_slots(struct sched *s)
{
    uint32_t n = s->config.max_seqs;
    uint32_t n_col = seq_blocks_for(s->max_len, s->blocks->block_size);
    s->seqs = mem_array(n, sizeof *s->seqs);
    s->free_slots = mem_array(n, sizeof *s->free_slots);
    s->running = mem_array(n, sizeof(struct seq *));
    for (int i = 0; i < 2; i++)
        s->plans[i].part = mem_array(n, sizeof *s->plans[i].part);
    s->plan = &s->plans[0];
    s->tokens = mem_array((size_t)n * s->max_len, sizeof *s->tokens);      /* pages come when they are touched */
    s->tables = mem_array((size_t)n * n_col, sizeof *s->tables);
    for (uint32_t i = 0; i < n; i++) {
        s->seqs[i].slot = i;
        s->seqs[i].tokens = s->tokens + (size_t)i * s->max_len;
        s->seqs[i].block = s->tables + (size_t)i * n_col;
        s->free_slots[s->n_free++] = n - 1 - i;
    }
}

struct sched *sched_open(const struct sched_config *c, struct blocks *b)
{
    CHECK(c->max_seqs && c->max_seqs <= c->max_step_tokens && c->window && b->n_block);
    struct sched *s = mem_alloc(sizeof *s);
    s->config = *c;
    s->blocks = b;
    uint64_t room = (uint64_t)b->n_block * b->block_size;
    s->max_len = room < c->max_context ? (uint32_t)room : c->max_context;
    s->heap = mem_array(c->window, sizeof *s->heap);
    open_slots(s);
    return s;
}

void sched_close(struct sched *s)
{
    if (!s)
        return;
    free(s->heap);
    free(s->seqs);
    free(s->free_slots);
    free(s->running);
    free(s->plans[0].part);
    free(s->plans[1].part);
    free(s->tokens);
    free(s->tables);
    free(s);
}

uint32_t sched_max_len(const struct sched *s)
{
    return s->max_len;
}

/* ---- the heap of waiting requests ---- */

static int compare_prompts(const struct sched_request *a, const struct sched_request *b)
{
    int order = memcmp(a->prompt, b->prompt, smaller(a->n_prompt, b->n_prompt) * sizeof *a->prompt);
    return order ? order : (a->n_prompt > b->n_prompt) - (a->n_prompt < b->n_prompt);
}

/* By what they may come to, then by what they surely are. */
static int compare_lengths(const struct waiting *a, const struct waiting *b)
{
    if (a->max_len != b->max_len)
        return a->max_len > b->max_len ? -1 : 1;
    return (a->request.n_prompt < b->request.n_prompt) - (a->request.n_prompt > b->request.n_prompt);
}

/* A request of which some answers have started comes before all others: its blocks are there, its row waits. */
static bool before(const struct sched *s, const struct waiting *a, const struct waiting *b)
{
    int order = 0;
    if (!a->n_started != !b->n_started)
        return a->n_started;
    if (a->epoch != b->epoch)
        return a->epoch < b->epoch;
    if (s->config.order == ORDER_LONGEST)
        order = compare_lengths(a, b);
    else if (s->config.order == ORDER_PREFIX)
        order = compare_prompts(&a->request, &b->request);
    return order ? order < 0 : a->arrival < b->arrival;
}

static void heap_rise(struct sched *s, uint32_t at, struct waiting w)
{
    while (at && before(s, &w, &s->heap[(at - 1) / 2])) {
        s->heap[at] = s->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    s->heap[at] = w;
}

static void heap_push(struct sched *s, const struct waiting *w)
{
    CHECK(s->n_heap < s->config.window);
    s->waiting_tokens += w->request.n_prompt;
    heap_rise(s, s->n_heap++, *w);
}

static void heap_pop(struct sched *s)
{
    s->waiting_tokens -= s->heap[0].request.n_prompt;
    struct waiting w = s->heap[--s->n_heap];
    uint32_t at = 0;
    for (uint32_t child; (child = 2 * at + 1) < s->n_heap; at = child) {
        if (child + 1 < s->n_heap && before(s, &s->heap[child + 1], &s->heap[child]))
            child++;
        if (!before(s, &s->heap[child], &w))
            break;
        s->heap[at] = s->heap[child];
    }
    s->heap[at] = w;
}

bool sched_full(const struct sched *s)
{
    return s->n_heap >= s->config.window || s->waiting_tokens >= WAITING_TOKENS;
}

bool sched_busy(const struct sched *s)
{
    return s->n_running || s->n_heap;
}

uint32_t sched_n_waiting(const struct sched *s)
{
    return s->n_heap;
}

uint32_t sched_n_running(const struct sched *s)
{
    return s->n_running;
}

static int refuse(const struct sched *s, const struct sched_request *r)
{
    char limit[128];
    if (s->max_len == s->config.max_context)
        snprintf(limit, sizeof limit, "the model's context");
    else
        snprintf(limit, sizeof limit, "%u KV blocks of %u tokens; give more KV memory", s->blocks->n_block, s->blocks->block_size);
    if (r->n_prompt >= s->max_len)
        return err_set("the prompt has %u tokens, and with one token of output a sequence may have %u (%s)", r->n_prompt,
                       s->max_len, limit);
    return err_set("the prompt's %u tokens and max_tokens %u make %llu, and a sequence may have %u (%s)", r->n_prompt, r->max_new,
                   (unsigned long long)r->n_prompt + r->max_new, s->max_len, limit);
}

int sched_add(struct sched *s, const struct sched_request *r)
{
    CHECK(!sched_full(s) && r->n);
    if (!r->n_prompt)
        return err_set("the prompt has no tokens");
    if (r->n_prompt >= s->max_len || r->max_new > s->max_len - r->n_prompt)
        return refuse(s, r);
    struct waiting w = {
        .request = *r, .arrival = s->n_arrived, .epoch = s->n_arrived / s->config.window,
        .max_len = r->max_new ? r->n_prompt + r->max_new : s->max_len,
    };
    s->n_arrived++;
    heap_push(s, &w);
    return 0;
}

void sched_forget_waiting(struct sched *s, void (*drop)(void *owner))
{
    uint32_t n = s->n_heap;
    s->n_heap = 0;
    s->waiting_tokens = 0;
    for (uint32_t i = 0; i < n; i++) {          /* the heap grows behind the reader */
        struct waiting w = s->heap[i];
        if (w.n_started)
            heap_push(s, &w);
        else
            drop(w.request.owner);
    }
}

/* The answers of a request are admitted one after the other, so they stand together. */
void sched_each_begun(const struct sched *s, void (*visit)(void *owner, void *arg), void *arg)
{
    void *last = NULL;
    for (uint32_t i = 0; i < s->n_running; i++) {
        if (s->running[i]->owner != last)
            visit(s->running[i]->owner, arg);
        last = s->running[i]->owner;
    }
    if (s->n_heap && s->heap[0].n_started && s->heap[0].request.owner != last)
        visit(s->heap[0].request.owner, arg);
}

/* ---- who runs ---- */

static uint32_t budget_left(const struct sched *s)
{
    return s->config.max_step_tokens - s->plan->n_tok;
}

/* Puts q's next tokens into the step, as many as there is room for: up to `room` tokens from its beginning. */
static void put_part(struct sched *s, struct seq *q, uint32_t room, bool first)
{
    struct plan *p = s->plan;
    uint32_t n = room - q->n_done;
    if (!n)
        return;
    struct plan_part part = {
        .seq = q, .from = q->n_done, .n = n, .prev_row = q->out_row, .first = first, .decode = seq_decodes(q), .pending = q->n_pending,
    };
    p->n_again += seq_advance(q, s->blocks, n);
    part.out = q->n_done == q->n_token + q->n_pending;
    if (part.out) {
        q->part = p->n_part;
        q->out_row = p->n_out;
        q->n_pending++;
        s->n_pending++;
    }
    *(part.decode ? &p->n_decode : &p->n_prefill) += n;
    p->n_tok += n;
    p->n_out += part.out;
    p->part[p->n_part++] = part;
}

/* Blocks for q up to n_token tokens, or as far as they last.  To find one at all, the sequences admitted last are
 * preempted, but never q itself: it sits the step out.  Returns the tokens there is room for. */
static uint32_t find_room(struct sched *s, struct seq *q, uint32_t n_token)
{
    uint32_t room = seq_grow(q, s->blocks, n_token);
    while (room == q->n_done && s->running[s->n_active - 1] != q) {
        struct seq *last = s->running[--s->n_active];
        seq_drop_blocks(last, s->blocks);
        last->n_preempted++;
        s->plan->n_preempted++;
        room = seq_grow(q, s->blocks, n_token);
    }
    return room;
}

static void run_active(struct sched *s)
{
    for (uint32_t i = 0; i < s->n_active; i++) {
        struct seq *q = s->running[i];
        uint32_t n = smaller(seq_todo(q), budget_left(s));
        put_part(s, q, n ? find_room(s, q, q->n_done + n) : q->n_done, false);
    }
}

/* Makes running[n_active] active, with what others have computed of its tokens, and gives it its first part.  False:
 * it would not leave a spare block for each active one, and so be preempted soon; or it may have ended, which the step in
 * flight will tell. */
static bool activate(struct sched *s, bool first)
{
    struct seq *q = s->running[s->n_active];
    if (q->n_pending || s->blocks->n_idle <= s->n_active)       /* it takes one at least */
        return false;
    seq_reuse(q, s->blocks);
    uint32_t wants = seq_blocks_for(q->n_token, s->blocks->block_size) - q->n_block;
    if (s->blocks->n_idle < (uint64_t)s->n_active + wants) {
        seq_drop_blocks(q, s->blocks);
        return false;
    }
    s->n_active++;
    uint32_t n = smaller(q->n_token - q->n_done, budget_left(s));
    put_part(s, q, seq_grow(q, s->blocks, q->n_done + n), first);
    return true;
}

static void begin_seq(struct seq *q, const struct waiting *w)
{
    *q = (struct seq){
        .owner = w->request.owner, .choice = w->n_started, .slot = q->slot, .tokens = q->tokens, .block = q->block,
        .n_prompt = w->request.n_prompt, .n_token = w->request.n_prompt, .max_len = w->max_len,
        .sees_tokens = w->request.sees_tokens,
    };
    memcpy(q->tokens, w->request.prompt, q->n_prompt * sizeof *q->tokens);
}

/* The next answer of the heap's first request becomes a running sequence. */
static bool admit(struct sched *s)
{
    struct waiting *w = &s->heap[0];
    struct seq *q = &s->seqs[s->free_slots[s->n_free - 1]];
    begin_seq(q, w);
    s->running[s->n_running] = q;
    if (!activate(s, true))
        return false;
    s->n_running++;
    s->n_free--;
    if (++w->n_started == w->request.n)
        heap_pop(s);
    return true;
}

const struct plan *sched_plan(struct sched *s)
{
    s->plan = &s->plans[s->plan == &s->plans[0]];
    *s->plan = (struct plan){ .part = s->plan->part };
    run_active(s);
    while (s->n_active < s->n_running && budget_left(s) && activate(s, false))
        continue;
    while (s->n_active == s->n_running && s->n_heap && s->n_free && budget_left(s) && admit(s))
        continue;
    CHECK(s->plan->n_part || !sched_busy(s) || s->n_pending);
    return s->plan;
}

void sched_append(struct sched *s, struct seq *q, int32_t id)
{
    CHECK(q->n_pending && q->n_token < q->max_len);
    q->tokens[q->n_token++] = id;
    q->n_pending--;
    s->n_pending--;
}

/* What q's part of the newest plan samples comes after its end. */
static void drop_part(struct sched *s, const struct seq *q)
{
    struct plan *p = s->plan;
    struct plan_part *part = &p->part[q->part];
    CHECK(q->n_pending == 1 && part->seq == q && part->decode && part->out);
    part->dropped = true;
    p->n_dropped++;
    p->n_tok--;
    p->n_decode--;
    p->n_out--;
    s->n_pending--;
}

void sched_finish(struct sched *s, struct seq *q)
{
    uint32_t at = 0;
    while (at < s->n_running && s->running[at] != q)
        at++;
    CHECK(at < s->n_running);
    if (q->n_pending)
        drop_part(s, q);
    seq_drop_blocks(q, s->blocks);
    s->n_active -= at < s->n_active;
    s->n_running--;
    memmove(&s->running[at], &s->running[at + 1], (s->n_running - at) * sizeof(struct seq *));
    s->free_slots[s->n_free++] = q->slot;
}

/* ---- invariants ---- */

/* A pending token's turn comes when all tokens before it have been computed, and never after a preemption. */
static bool pending_sane(const struct seq *q, bool active)
{
    uint32_t n = q->n_token + q->n_pending;
    return q->n_done <= n && n <= q->max_len && (!active || !q->n_pending || q->n_done + 1 >= n);
}

static bool seq_sane(const struct sched *s, const struct seq *q, bool active, uint32_t *refs)
{
    for (uint32_t i = 0; i < q->n_block; i++)
        refs[q->block[i]]++;
    return pending_sane(q, active) && q->n_prompt <= q->n_token && q->max_len <= s->max_len && q->n_indexed <= q->n_block
        && q->n_done <= (uint64_t)q->n_block * s->blocks->block_size && (active || !q->n_block);
}

/* Between steps every active sequence waits for its newest token's turn, but for the last, which may be within its prompt. */
static bool order_sane(const struct sched *s)
{
    for (uint32_t i = 0; i + 1 < s->n_active; i++)
        if (s->running[i]->n_done + 1 < s->running[i]->n_token + s->running[i]->n_pending)
            return false;
    return s->n_active <= s->n_running && s->n_running + s->n_free == s->config.max_seqs;
}

static bool heap_sane(const struct sched *s)
{
    uint64_t n_token = 0;
    for (uint32_t i = 0; i < s->n_heap; i++) {
        if (i && before(s, &s->heap[i], &s->heap[(i - 1) / 2]))
            return false;
        n_token += s->heap[i].request.n_prompt;
    }
    return n_token == s->waiting_tokens;
}

bool sched_sane(const struct sched *s)
{
    uint32_t *refs = mem_array(s->blocks->n_block, sizeof *refs);
    uint32_t n_pending = 0;
    bool sane = order_sane(s) && heap_sane(s);
    for (uint32_t i = 0; sane && i < s->n_running; i++) {
        sane = seq_sane(s, s->running[i], i < s->n_active, refs);
        n_pending += s->running[i]->n_pending;
    }
    for (uint32_t id = 0; sane && id < s->blocks->n_block; id++)
        sane = refs[id] == s->blocks->block[id].refs;
    free(refs);
    return sane && n_pending == s->n_pending && blocks_sane(s->blocks);
}

#include "cmd/pipeline.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "cmd/supervise.h"

#define QUEUE_LENGTH 64         /* a line may be long: what waits is mostly in the scheduler, which counts tokens */
#define ORDER_WINDOW 65536     /* rows that may be ahead of the one to write next */
#define MOST_IDS ((size_t)1 << 20)     /* room for ids that is kept from one prompt to the next */
#define FLUSH_NS 1000000000    /* rows are on disk after this time at the latest */

int pipeline_probe(const char *corpus)
{
    struct stat st;
    if (strcmp(corpus, "-") == 0 || (stat(corpus, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)))
        return 0;                       /* what a pipe gives is gone once it is read */
    struct zreader *r = zreader_open(corpus);
    if (!r)
        return -1;
    zreader_close(r);
    return 0;
}

static void fail(struct pipeline *p)
{
    if (!p->failed)
        snprintf(p->error, sizeof p->error, "%s", err_text());
    p->failed = true;
    *p->stop = true;
}

static void fail_for_good(struct pipeline *p)
{
    p->lasting = !p->failed;
    fail(p);
}

/* ---- the reader ---- */

struct reading { struct pipeline *p; struct stage_clock *clock; struct tok_state *tok; struct tok_ids ids; uint64_t index, n_line, serial; };       /* n_line: not blank */

/* A prompt that can never run is refused before its ids are copied, and the room that it took is given back. */
static int encode_prompt(struct reading *rd, struct request *r)
{
    struct tok_ids *ids = &rd->ids;
    ids->n = 0;
    if (tokenizer_encode(rd->tok, r->prompt, r->prompt_len, true, ids))
        return err_wrap("prompt");
    size_t n = ids->n;
    if (n < rd->p->max_len) {
        r->n_prompt = (uint32_t)n;
        r->prompt_ids = arena_alloc(&r->arena, n * sizeof *r->prompt_ids);
        if (n)
            memcpy(r->prompt_ids, ids->ids, n * sizeof *r->prompt_ids);
    }
    if (ids->cap > MOST_IDS) {
        free(ids->ids);
        *ids = (struct tok_ids){0};
    }
    return n < rd->p->max_len ? 0
         : err_set("the prompt has %zu tokens, and with one token of output a sequence may have %u", n, rd->p->max_len);
}

/* Fills prompt_ids; a prompt that cannot be used fails the request. */
static void tokenize(struct reading *rd, struct request *r)
{
    if (r->messages) {
        request_fail(r, "messages: chat templates are not supported yet; give \"prompt\" or \"prompt_token_ids\"");
        return;
    }
    if (r->prompt && encode_prompt(rd, r)) {
        request_fail(r, "%s", err_text());
        return;
    }
    if (!r->n_prompt)
        request_fail(r, "the prompt is empty: it has no tokens");
    for (uint32_t i = 0; i < r->n_prompt && !r->error; i++)
        if (r->prompt_ids[i] < 0 || (uint32_t)r->prompt_ids[i] >= rd->p->n_vocab)
            request_fail(r, "prompt token %u is %d, the model's vocabulary ends at %u", i, r->prompt_ids[i], rd->p->n_vocab - 1);
}

/* With --ordered the reader stays within a window of the row to write next, so that held rows stay bounded. */
static void wait_for_window(struct reading *rd)
{
    struct pipeline *p = rd->p;
    if (!p->ordered)
        return;
    pthread_mutex_lock(&p->lock);
    while (rd->serial >= p->next_row + ORDER_WINDOW)
        pthread_cond_wait(&p->moved, &p->lock);
    pthread_mutex_unlock(&p->lock);
}

/* false: the run is over */
static bool hand_over(struct reading *rd, struct request *r)
{
    wait_for_window(rd);
    struct answer *a = answer_new(r);
    a->serial = rd->serial++;
    a->arrival_ns = clock_ns();
    struct pace *pace = rd->p->pace;
    if ((!pace || pace_wait(pace, r->arrival_s, a)) && queue_put(r->error ? rd->p->out : rd->p->in, a)) {
        if (pace)
            pace_let_in(pace);
        return true;
    }
    answer_free(a);
    return false;
}

static bool is_blank(const char *line, size_t len)
{
    return line && strspn(line, " \t\r") >= len;
}

/* A line that has its row already, from a run that was broken off, or that cannot be gone on with.  It has been parsed all the
 * same, because it may be what a later one repeats.  Frees the request then. */
static bool is_over(struct reading *rd, struct request *r, const char *line, size_t len, bool *open)
{
    struct pipeline *p = rd->p;
    p->n_line++;
    if (!p->journal)
        return false;
    r->line_hash = line ? hash_bytes(line, len, 0) : len;
    enum journal_line state = journal_line(p->journal, r->index, r->line_hash);
    if (state == JOURNAL_TODO)
        return false;
    *open = state == JOURNAL_DONE;
    p->n_resumed += *open;
    if (!*open) {
        err_set("%s:%llu: the line is not what it was when its row was made; give the corpus as it was, or delete the journal to begin anew", r->file,
                (unsigned long long)r->line);
        fail_for_good(p);
    }
    request_free(r);
    return true;
}

/* Another shard's line, or not one to be taken alone.  It has been parsed all the same, like one that has its row. */
static bool is_others(const struct pipeline *p, uint64_t nth, uint64_t index)
{
    return (p->shard.n && nth % p->shard.n != p->shard.k) || (p->only && !line_set_has(p->only, index));
}

static bool take_line(struct reading *rd, const char *file, uint64_t line_number, const char *line, size_t len)
{
    uint64_t index = rd->index++;
    bool open;
    if (is_blank(line, len))
        return true;
    int64_t start = clock_ns();
    struct request *r = request_parse(&rd->p->requests, file, line_number, index, line, len);
    if (is_others(rd->p, rd->n_line++, index)) {
        request_free(r);
        return true;
    }
    if (is_over(rd, r, line, len, &open))
        return open;
    if (rd->p->poison && line_set_has(rd->p->poison, index))
        request_fail(r, "the engine breaks down on this line, also when it runs alone");
    int64_t parsed = clock_ns();
    stage_add(rd->clock, STAGE_PARSE, parsed - start, 1, 0);
    if (!r->error) {
        tokenize(rd, r);
        stage_add(rd->clock, STAGE_TOKENIZE, clock_ns() - parsed, 1, r->n_prompt);
    }
    return hand_over(rd, r);
}

/* The rest of a broken file is one failed row: it says from where on. */
static void take_broken(struct reading *rd, const char *file, uint64_t line_number)
{
    char why[512];
    snprintf(why, sizeof why, "%s", err_text());
    struct request *r = request_parse(&rd->p->requests, file, line_number, rd->index++, "{}", 2);
    r->error = NULL;                   /* that the line has no prompt */
    request_fail(r, "%s; the rest of the file was not read", why);
    bool open;
    log_error("%s", r->error);
    if (is_others(rd->p, rd->n_line++, r->index))
        request_free(r);
    else if (!is_over(rd, r, "", 0, &open))
        hand_over(rd, r);
}

/* An error of opening (z NULL; it could be opened when the run began) or of reading may pass: where the same command goes on,
 * it is no row, but the end of this run. */
static bool take_end(struct reading *rd, const struct zreader *z, const char *file, uint64_t line_number)
{
    if (rd->p->journal && (!z || zreader_may_pass(z)))
        fail(rd->p);
    else
        take_broken(rd, file, line_number);
    return false;
}

static bool read_corpus(struct reading *rd, const char *file)
{
    struct zreader *z = zreader_open(file);
    if (!z)
        return take_end(rd, NULL, file, 1);
    uint64_t line_number = 0;
    bool open = true;
    while (open && (!rd->p->limit || rd->index < (uint64_t)rd->p->limit)) {
        char *line;
        size_t len;
        int64_t start = clock_ns();
        int rc = zreader_line(z, &line, &len);
        stage_add(rd->clock, STAGE_READ, clock_ns() - start, rc > 0, 0);
        if (rc == 0)
            break;
        line_number++;
        open = rc > 0 ? take_line(rd, file, line_number, line, len) : take_end(rd, z, file, line_number);
    }
    zreader_close(z);
    return open;
}

static void read_workload(struct reading *rd)
{
    struct pipeline *p = rd->p;
    struct workload_request w = {0};
    int rc = 1;
    for (bool open = true; open && rc > 0 && (!p->limit || rd->index < (uint64_t)p->limit);) {
        int64_t start = clock_ns();
        rc = workload_next(p->workload, &w);
        stage_add(rd->clock, STAGE_READ, clock_ns() - start, rc > 0, 0);
        if (rc > 0)
            open = hand_over(rd, request_of_ids(&p->requests, rd->index++, w.prompt_ids, w.n_prompt, w.n_output, w.arrival_s));
    }
    if (rc < 0)
        fail_for_good(p);
    free(w.prompt_ids);
}

static void *read_thread(void *arg)
{
    struct pipeline *p = arg;
    struct reading rd = { .p = p, .clock = p->meter->clock[THREAD_READER], .tok = tok_state_open(p->tokenizer) };
    if (p->workload)
        read_workload(&rd);
    for (int i = 0; i < p->n_corpus && !p->workload && !p->failed; i++)
        if (!read_corpus(&rd, p->corpora[i]) && queue_done(p->in))
            break;
    queue_close(p->in);
    tok_state_close(rd.tok);
    free(rd.ids.ids);
    return NULL;
}

/* ---- the writer ---- */

/* A row on its way out, and of which line. */
struct row { struct buf text; uint64_t index, hash; bool failed; };

static void put_row(struct pipeline *p, const struct row *row)
{
    if (p->rows && !p->failed && zwriter_put(p->rows, row->text.data, row->text.len))
        fail(p);
    if (row->failed && p->errors && !p->failed && zwriter_put(p->errors, row->text.data, row->text.len))
        fail(p);
    if (p->journal && !p->failed)
        journal_add(p->journal, row->index, row->hash, row->failed);
    p->n_put++;
}

/* Ordered: the row waits in its place of the window; then all that are next leave. */
static void put_ordered(struct pipeline *p, uint64_t serial, const struct row *row)
{
    struct row *place = &p->held[serial % ORDER_WINDOW];
    CHECK(!place->text.len);
    *place = (struct row){ .index = row->index, .hash = row->hash, .failed = row->failed };
    buf_put(&place->text, row->text.data, row->text.len);
    for (struct row *next; (next = &p->held[p->next_row % ORDER_WINDOW])->text.len;) {
        put_row(p, next);
        buf_free(&next->text);
        pthread_mutex_lock(&p->lock);
        p->next_row++;
        pthread_cond_signal(&p->moved);
        pthread_mutex_unlock(&p->lock);
    }
}

/* After an interruption: what waits for rows that will not come.  With a journal it is made again, in its turn. */
static void put_held(struct pipeline *p)
{
    for (uint64_t i = 0; i < ORDER_WINDOW; i++) {
        struct row *row = &p->held[(p->next_row + i) % ORDER_WINDOW];
        if (row->text.len && !p->journal)
            put_row(p, row);
        buf_free(&row->text);
    }
}

static void write_answer(struct pipeline *p, struct answer *a, struct tok_state *tok, struct row *row)
{
    struct stage_clock *clock = p->meter->clock[THREAD_WRITER];
    int match;
    int64_t start = clock_ns();
    buf_clear(&row->text);
    answer_put_row(&row->text, a, tok, &p->style, &match);
    row->index = a->request->index;
    row->hash = a->request->line_hash;
    row->failed = a->request->error != NULL;
    int64_t made = clock_ns();
    if (p->ordered)
        put_ordered(p, a->serial, row);
    else
        put_row(p, row);
    meter_answer(p->meter, a, match);
    if (p->pace)
        pace_left(p->pace);
    stage_add(clock, STAGE_DETOKENIZE, made - start, 1, a->request->error ? 0 : answer_generated(a));
    stage_add(clock, STAGE_WRITE, clock_ns() - made, 1, 0);
    answer_free(a);
}

/* With a journal the rows are on disk before it says so. */
static int flush_files(struct pipeline *p)
{
    uint64_t ends[JOURNAL_N_FILE] = { 0 };
    if (!p->journal)
        return (p->rows && zwriter_flush(p->rows)) || (p->errors && zwriter_flush(p->errors)) ? -1 : 0;
    if (zwriter_sync(p->rows, &ends[0]) || (p->errors && zwriter_sync(p->errors, &ends[1])))
        return -1;
    ends[1] = p->keeps_errors ? ends[1] : 0;
    return journal_commit(p->journal, ends);
}

static void flush_rows(struct pipeline *p)
{
    int64_t start = clock_ns();
    if (!p->failed && flush_files(p))
        fail(p);
    stage_add(p->meter->clock[THREAD_WRITER], STAGE_WRITE, clock_ns() - start, 0, 0);
}

static void *write_thread(void *arg)
{
    struct pipeline *p = arg;
    struct tok_state *tok = tok_state_open(p->tokenizer);
    struct row row = {0};
    int64_t due = INT64_MAX;            /* when the rows since the last flush must be on disk */
    if (p->journal)
        flush_rows(p);                  /* what was cut off is told before anything is added */
    while (!queue_done(p->out)) {
        struct answer *a = queue_take_until(p->out, due);
        if (a) {
            write_answer(p, a, tok, &row);
            due = due < INT64_MAX ? due : clock_ns() + FLUSH_NS;
        }
        if (clock_ns() >= due) {
            flush_rows(p);
            due = INT64_MAX;
        }
    }
    if (p->ordered)
        put_held(p);
    flush_rows(p);
    buf_free(&row.text);
    tok_state_close(tok);
    return NULL;
}

/* ---- both ---- */

void pipeline_start(struct pipeline *p)
{
    p->in = queue_open(QUEUE_LENGTH);
    p->out = queue_open(QUEUE_LENGTH);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->moved, NULL);
    if (p->ordered)
        p->held = mem_array(ORDER_WINDOW, sizeof *p->held);
    if (pthread_create(&p->writer, NULL, write_thread, p) || pthread_create(&p->reader, NULL, read_thread, p))
        die("cannot start a thread");
}

void pipeline_finish(struct pipeline *p, bool interrupted)
{
    queue_close(p->in);
    if (interrupted)
        pthread_detach(p->reader);      /* it may wait for a line that never comes */
    else
        pthread_join(p->reader, NULL);
    queue_close(p->out);
    pthread_join(p->writer, NULL);
    if (interrupted)
        return;                         /* the reader may still use what is here */
    queue_free(p->in);
    queue_free(p->out);
    free(p->held);
    request_reader_free(&p->requests);
    pthread_cond_destroy(&p->moved);
    pthread_mutex_destroy(&p->lock);
}

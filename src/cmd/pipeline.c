#include "cmd/pipeline.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"

#define QUEUE_LENGTH 64         /* a line may be long: what waits is mostly in the scheduler, which counts tokens */
#define ORDER_WINDOW 65536     /* rows that may be ahead of the one to write next */
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

/* ---- the reader ---- */

struct reading { struct pipeline *p; struct stage_clock *clock; struct tok_state *tok; struct tok_ids ids; uint64_t index, serial; };

/* Fills prompt_ids; a prompt that cannot be used fails the request. */
static void tokenize(struct reading *rd, struct request *r)
{
    if (r->messages) {
        request_fail(r, "messages: chat templates are not supported yet; give \"prompt\" or \"prompt_token_ids\"");
        return;
    }
    if (r->prompt) {
        rd->ids.n = 0;
        if (tokenizer_encode(rd->tok, r->prompt, r->prompt_len, true, &rd->ids)) {
            request_fail(r, "prompt: %s", err_text());
            return;
        }
        r->n_prompt = (uint32_t)rd->ids.n;
        r->prompt_ids = arena_alloc(&r->arena, rd->ids.n * sizeof *r->prompt_ids);
        if (rd->ids.n)
            memcpy(r->prompt_ids, rd->ids.ids, rd->ids.n * sizeof *r->prompt_ids);
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

static bool take_line(struct reading *rd, const char *file, uint64_t line_number, const char *line, size_t len)
{
    uint64_t index = rd->index++;
    if (is_blank(line, len))
        return true;
    int64_t start = clock_ns();
    struct request *r = request_parse(&rd->p->requests, file, line_number, index, line, len);
    int64_t parsed = clock_ns();
    stage_add(rd->clock, STAGE_PARSE, parsed - start, 1, 0);
    if (!r->error) {
        tokenize(rd, r);
        stage_add(rd->clock, STAGE_TOKENIZE, clock_ns() - parsed, 1, r->n_prompt);
    }
    return hand_over(rd, r);
}

/* The rest of a broken file is one failed row: it says from where on. */
static bool take_broken(struct reading *rd, const char *file, uint64_t line_number)
{
    char why[512];
    snprintf(why, sizeof why, "%s", err_text());
    struct request *r = request_parse(&rd->p->requests, file, line_number, rd->index++, "{}", 2);
    r->error = NULL;                   /* that the line has no prompt */
    request_fail(r, "%s; the rest of the file was not read", why);
    log_error("%s", r->error);
    return hand_over(rd, r);
}

static bool read_corpus(struct reading *rd, const char *file)
{
    struct zreader *z = zreader_open(file);
    if (!z)
        return take_broken(rd, file, 1);
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
        open = rc > 0 ? take_line(rd, file, line_number, line, len) : take_broken(rd, file, line_number) && false;
        if (rc < 0)
            break;
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
        fail(p);
    free(w.prompt_ids);
}

static void *read_thread(void *arg)
{
    struct pipeline *p = arg;
    struct reading rd = { .p = p, .clock = p->meter->clock[THREAD_READER], .tok = tok_state_open(p->tokenizer) };
    if (p->workload)
        read_workload(&rd);
    for (int i = 0; i < p->n_corpus && !p->workload; i++)
        if (!read_corpus(&rd, p->corpora[i]) && queue_done(p->in))
            break;
    queue_close(p->in);
    tok_state_close(rd.tok);
    free(rd.ids.ids);
    return NULL;
}

/* ---- the writer ---- */

static void put_row(struct pipeline *p, const struct buf *row)
{
    if (p->rows && !p->failed && zwriter_put(p->rows, row->data, row->len))
        fail(p);
}

/* Ordered: the row waits in its place of the window; then all that are next leave. */
static void put_ordered(struct pipeline *p, uint64_t serial, const struct buf *row)
{
    struct buf *place = &p->held[serial % ORDER_WINDOW];
    CHECK(!place->len);
    buf_put(place, row->data, row->len);
    for (struct buf *next; (next = &p->held[p->next_row % ORDER_WINDOW])->len;) {
        put_row(p, next);
        buf_free(next);
        pthread_mutex_lock(&p->lock);
        p->next_row++;
        pthread_cond_signal(&p->moved);
        pthread_mutex_unlock(&p->lock);
    }
}

/* After an interruption: what waits for rows that will not come. */
static void put_held(struct pipeline *p)
{
    for (uint64_t i = 0; i < ORDER_WINDOW; i++) {
        struct buf *row = &p->held[(p->next_row + i) % ORDER_WINDOW];
        if (row->len)
            put_row(p, row);
        buf_free(row);
    }
}

static void write_answer(struct pipeline *p, struct answer *a, struct tok_state *tok, struct buf *row)
{
    struct stage_clock *clock = p->meter->clock[THREAD_WRITER];
    int match;
    int64_t start = clock_ns();
    buf_clear(row);
    answer_put_row(row, a, tok, &p->style, &match);
    int64_t made = clock_ns();
    if (p->ordered)
        put_ordered(p, a->serial, row);
    else
        put_row(p, row);
    if (a->request->error && p->errors && zwriter_put(p->errors, row->data, row->len))
        fail(p);
    meter_answer(p->meter, a, match);
    if (p->pace)
        pace_left(p->pace);
    stage_add(clock, STAGE_DETOKENIZE, made - start, 1, a->request->error ? 0 : answer_generated(a));
    stage_add(clock, STAGE_WRITE, clock_ns() - made, 1, 0);
    answer_free(a);
}

static void flush_rows(struct pipeline *p)
{
    int64_t start = clock_ns();
    if (!p->failed && ((p->rows && zwriter_flush(p->rows)) || (p->errors && zwriter_flush(p->errors))))
        fail(p);
    stage_add(p->meter->clock[THREAD_WRITER], STAGE_WRITE, clock_ns() - start, 0, 0);
}

static void *write_thread(void *arg)
{
    struct pipeline *p = arg;
    struct tok_state *tok = tok_state_open(p->tokenizer);
    struct buf row = {0};
    int64_t due = INT64_MAX;            /* when the rows since the last flush must be on disk */
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
    buf_free(&row);
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

#include "engine/timeline.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "engine/meter.h"

struct timeline { FILE *file; int64_t start_ns; char path[512]; };

static double us(const struct timeline *t, int64_t ns)
{
    return (double)(ns - t->start_ns) * 1e-3;
}

static void name_track(struct timeline *t, enum timeline_track track, const char *name)
{
    fprintf(t->file, ",\n{\"ph\":\"M\",\"pid\":1,\"tid\":%d,\"name\":\"thread_name\",\"args\":{\"name\":\"%s\"}}", (int)track, name);
}

struct timeline *timeline_open(const char *path, int64_t start_ns)
{
    struct timeline *t = mem_alloc(sizeof *t);
    t->start_ns = start_ns;
    snprintf(t->path, sizeof t->path, "%s", path);
    t->file = fopen(path, "w");
    if (!t->file) {
        err_set("%s: %s", path, strerror(errno));
        free(t);
        return NULL;
    }
    fputs("{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n{\"ph\":\"M\",\"pid\":1,\"name\":\"process_name\",\"args\":{\"name\":\"tokmill\"}}", t->file);
    name_track(t, TRACK_STEP, "steps, even");
    name_track(t, TRACK_STEP_TOO, "steps, odd");
    name_track(t, TRACK_READER, "reader");
    name_track(t, TRACK_WRITER, "writer");
    return t;
}

int timeline_close(struct timeline *t)
{
    if (!t)
        return 0;
    fputs("\n]}\n", t->file);
    bool bad = ferror(t->file);
    if (fclose(t->file) || bad)
        bad = err_set("%s: %s", t->path, strerror(errno));
    free(t);
    return bad ? -1 : 0;
}

void timeline_slice(struct timeline *t, enum timeline_track track, const char *name, int64_t from_ns, int64_t ns)
{
    fprintf(t->file, ",\n{\"ph\":\"X\",\"pid\":1,\"tid\":%d,\"ts\":%.3f,\"dur\":%.3f,\"name\":\"%s\"}", (int)track, us(t, from_ns), (double)ns * 1e-3, name);
}

static const char *kind_of(const struct step_row *row)
{
    return !row->n_prefill_tok ? "decode" : !row->n_decode_tok ? "prefill" : "mixed";
}

/* The forward pass is what lies between planning and taking in the tokens. */
void timeline_step(struct timeline *t, const struct step_row *row)
{
    enum timeline_track track = row->step % 2 ? TRACK_STEP_TOO : TRACK_STEP;
    int64_t plan_ns = (int64_t)(row->plan_ms * 1e6), sample_ns = (int64_t)(row->sample_ms * 1e6), whole = row->end_ns - row->begin_ns;
    fprintf(t->file, ",\n{\"ph\":\"X\",\"pid\":1,\"tid\":%d,\"ts\":%.3f,\"dur\":%.3f,\"name\":\"step\",\"cat\":\"%s\","
            "\"args\":{\"step\":%llu,\"sequences\":%u,\"prefill_tokens\":%u,\"decode_tokens\":%u,\"device_ms\":%.6g}}", (int)track, us(t, row->begin_ns),
            (double)whole * 1e-3, kind_of(row), (unsigned long long)row->step, row->n_seq, row->n_prefill_tok, row->n_decode_tok, row->device_ms);
    timeline_slice(t, track, "plan", row->begin_ns, plan_ns);
    timeline_slice(t, track, "forward", row->begin_ns + plan_ns, whole - plan_ns - sample_ns);
    timeline_slice(t, track, "sample", row->end_ns - sample_ns, sample_ns);
    fprintf(t->file, ",\n{\"ph\":\"C\",\"pid\":1,\"ts\":%.3f,\"name\":\"kv_blocks\",\"args\":{\"used\":%u}}", us(t, row->begin_ns), row->kv_used);
    fprintf(t->file, ",\n{\"ph\":\"C\",\"pid\":1,\"ts\":%.3f,\"name\":\"requests\",\"args\":{\"running\":%u,\"waiting\":%u}}", us(t, row->begin_ns), row->n_seq,
            row->n_waiting);
}

/* A span of the request's own track; spans of one id nest. */
static void put_span(struct timeline *t, uint64_t id, const char *name, int64_t from_ns, int64_t to_ns)
{
    const char *form = ",\n{\"ph\":\"%c\",\"cat\":\"request\",\"pid\":1,\"tid\":%d,\"id\":%llu,\"ts\":%.3f,\"name\":\"%s\"}";
    fprintf(t->file, form, 'b', TRACK_WRITER, (unsigned long long)id, us(t, from_ns), name);
    fprintf(t->file, form, 'e', TRACK_WRITER, (unsigned long long)id, us(t, to_ns), name);
}

void timeline_answer(struct timeline *t, const struct answer *a)
{
    uint64_t id = a->request->index;
    char name[64];
    snprintf(name, sizeof name, "request %llu: %u + %u", (unsigned long long)id, a->request->n_prompt, answer_generated(a));
    put_span(t, id, name, a->arrival_ns, answer_last_ns(a));
    put_span(t, id, "queue", a->arrival_ns, a->scheduled_ns);
    put_span(t, id, "prefill", a->scheduled_ns, a->outputs[0].first_ns);
    put_span(t, id, "decode", a->outputs[0].first_ns, answer_last_ns(a));
}

/* tokmill merge: the rows of all shards of a run as one file, after the proof that every line has its row once.
 *
 * The shards are read twice: for the lines that their rows answer (sorted, 16 bytes a row), and to write them.  A shard in input
 * order is then copied as it is read; of one in order of completion the rows that come before their turn are held. */
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "cmd/cmd.h"
#include "cmd/merge.h"
#include "cmd/shard.h"
#include "data/json.h"
#include "data/zfile.h"

#define MOST_TOLD 10           /* of what is wrong */

struct merge_opts { struct opt_list corpora; const char *results; int64_t memory; bool unordered; };

#define AT(field) offsetof(struct merge_opts, field)

const struct opt merge_options[] = {
    {"corpus", 0, OPT_LIST, "FILE", AT(corpora), NULL,
     "prove it by the lines of the corpus; given for each in the order of the run (default: by the shards' taking turns, which cannot see that the last lines are missing)", NULL, 0, 0},
    {"unordered", 0, OPT_FLAG, NULL, AT(unordered), NULL, "rows as they are, one shard after the other (default: in input order)", NULL, 0, 0},
    {"memory", 0, OPT_SIZE, "SIZE", AT(memory), "1GiB", "for rows that wait for their turn; none do in shards of run --ordered", NULL, 1, 1e18},
    {"results", 0, OPT_TEXT, "DIR", AT(results), NULL, "what the shards' runs were given as --results: adds up their summaries there", NULL, 0, 0},
    {0},
};

struct row { uint64_t index; uint32_t shard, at; };            /* index: the line it answers; at: place in its shard */

struct part {
    const char *path;
    uint32_t n_row;
    struct zreader *z; uint32_t next;  /* the row to be read next */
    char **held;                       /* [n_row]: read before their turn; NULL: none were */
};

struct merge {
    struct merge_opts opts;
    uint32_t n_shard; struct part *parts;      /* by K */
    struct row *rows; size_t n, room;
    uint64_t n_failed, n_wrong;
    size_t n_held;                             /* bytes */
};

static void complain(struct merge *m, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void complain(struct merge *m, const char *fmt, ...)
{
    char text[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (m->n_wrong++ < MOST_TOLD)
        log_error("%s", text);
    if (m->n_wrong == MOST_TOLD)
        log_error("and so on");
}

/* ---- the shards ---- */

static void take_part(struct merge *m, const char *path)
{
    struct shard s;
    if (!shard_of_path(&s, path))
        die("merge: \"%s\" is not the name of a shard, such as out.00003-of-00008.jsonl", path);
    if (!m->n_shard) {
        m->n_shard = s.n;
        m->parts = mem_array(s.n, sizeof *m->parts);
    }
    if (s.n != m->n_shard)
        die("merge: \"%s\" is one of %u shards, and others are of %u", path, s.n, m->n_shard);
    if (m->parts[s.k].path)
        die("merge: shard %u is given twice: \"%s\" and \"%s\"", s.k, m->parts[s.k].path, path);
    m->parts[s.k].path = path;
}

static void take_parts(struct merge *m, char **paths, int n)
{
    for (int i = 0; i < n; i++)
        take_part(m, paths[i]);
    for (uint32_t k = 0; k < m->n_shard; k++)
        if (!m->parts[k].path)
            complain(m, "shard %u of %u is missing", k, m->n_shard);
    if (m->n_wrong)
        die("merge: %llu of %u shards are missing: nothing is written", (unsigned long long)m->n_wrong, m->n_shard);
}

/* The line that the row answers: its "index", or what stands in the "id" of an OpenAI Batch's. */
static int line_of(const struct json *row, uint64_t *index, bool *failed)
{
    static const char batch[] = "batch_req_";
    const struct json *response = json_get(row, "response");
    const char *id = json_text(json_get(row, "id"), NULL);
    int64_t n = -1, status = 0;
    if (response && id && strncmp(id, batch, strlen(batch)) == 0)
        n = strtoll(id + strlen(batch), NULL, 10);
    else
        json_int(json_get(row, "index"), &n);
    json_int(json_get(response, "status_code"), &status);
    *failed = response ? status != 200 : json_get(row, "error") != NULL;
    *index = (uint64_t)n;
    return n < 0 ? err_set("it has no \"index\": not a row of answers") : 0;
}

static int scan_row(struct merge *m, uint32_t k, const char *line, size_t len)
{
    struct json *row = line ? json_parse_line(line, len) : NULL;
    bool failed = false;
    if (m->n == m->room) {
        m->room = m->room ? 2 * m->room : 1024;
        m->rows = mem_resize(m->rows, m->room, sizeof *m->rows);
    }
    struct row *r = &m->rows[m->n++];
    *r = (struct row){ .shard = k, .at = m->parts[k].n_row++ };
    int rc = row ? line_of(row, &r->index, &failed) : line ? -1 : err_set("it has %zu bytes, more than %zu", len, ZFILE_MAX_LINE);
    m->n_failed += failed;
    json_free(row);
    return rc;
}

static void scan_part(struct merge *m, uint32_t k)
{
    struct part *p = &m->parts[k];
    struct zreader *z = zreader_open(p->path);
    char *line;
    size_t len;
    int rc;
    if (!z)
        die("merge: %s", err_text());
    while ((rc = zreader_line(z, &line, &len)) > 0)
        if (scan_row(m, k, line, len))
            die("merge: \"%s\": row %u: %s", p->path, p->n_row, err_text());
    if (rc < 0)
        die("merge: shard %u is torn: %s", k, err_text());
    zreader_close(z);
}

static int compare_rows(const void *a, const void *b)
{
    const struct row *x = a, *y = b;
    if (x->index != y->index)
        return x->index < y->index ? -1 : 1;
    return x->shard != y->shard ? (x->shard < y->shard ? -1 : 1) : (x->at > y->at) - (x->at < y->at);
}

/* ---- the proof ---- */

static void prove_once(struct merge *m)
{
    for (size_t i = 1; i < m->n; i++)
        if (m->rows[i].index == m->rows[i - 1].index)
            complain(m, "line %llu (counted from 0) is there twice, in \"%s\" and in \"%s\"", (unsigned long long)m->rows[i].index,
                     m->parts[m->rows[i - 1].shard].path, m->parts[m->rows[i].shard].path);
}

/* In input order the shards take turns; where one does not, it lacks a row.  So nothing need be known of the corpus, but that rows
 * are missing at the very end is not seen. */
static void prove_turns(struct merge *m)
{
    uint32_t turn = 0;
    for (size_t i = 0; i < m->n; i++) {
        const struct row *r = &m->rows[i];
        if (i && r->index == r[-1].index)
            continue;
        for (; turn != r->shard; turn = (turn + 1) % m->n_shard)
            complain(m, "shard %u (\"%s\") lacks the row of a line before line %llu (counted from 0)", turn, m->parts[turn].path, (unsigned long long)r->index);
        turn = (turn + 1) % m->n_shard;
    }
}

struct proof { struct merge *m; uint64_t index, n_line; size_t at; };  /* line and, of those that have a row, its number; the row at hand */

/* A line that should have a row. */
static void prove_line(struct proof *p, const char *file, uint64_t line)
{
    struct merge *m = p->m;
    uint32_t k = (uint32_t)(p->n_line++ % m->n_shard);
    for (; p->at < m->n && m->rows[p->at].index < p->index; p->at++)
        if (!p->at || m->rows[p->at].index != m->rows[p->at - 1].index)
            complain(m, "\"%s\" has a row of line %llu (counted from 0), which is blank", m->parts[m->rows[p->at].shard].path, (unsigned long long)m->rows[p->at].index);
    if (p->at == m->n || m->rows[p->at].index != p->index)
        complain(m, "%s:%llu (line %llu counted from 0) has no row in \"%s\"", file, (unsigned long long)line, (unsigned long long)p->index, m->parts[k].path);
    else if (m->rows[p->at].shard != k)
        complain(m, "%s:%llu has its row in \"%s\" instead of \"%s\"", file, (unsigned long long)line, m->parts[m->rows[p->at].shard].path, m->parts[k].path);
    while (p->at < m->n && m->rows[p->at].index == p->index)
        p->at++;
}

/* What cannot be read from some place on has one row, as in the run. */
static void prove_file(struct proof *p, const char *file)
{
    struct zreader *z = zreader_open(file);
    uint64_t n = 0;
    char *line;
    size_t len;
    int rc = z ? 1 : -1;
    while (rc > 0 && (rc = zreader_line(z, &line, &len)) != 0) {
        n++;
        if (rc < 0 || !line || strspn(line, " \t\r") < len)
            prove_line(p, file, n);
        p->index++;
    }
    if (!z)
        die("merge: --corpus: %s", err_text());
    zreader_close(z);
}

static void prove(struct merge *m)
{
    struct proof p = { .m = m };
    prove_once(m);
    for (size_t i = 0; i < m->opts.corpora.n; i++)
        prove_file(&p, m->opts.corpora.texts[i]);
    if (!m->opts.corpora.n)
        prove_turns(m);
    else if (p.at < m->n)
        complain(m, "line %llu (counted from 0) has a row, and the corpus ends before it", (unsigned long long)m->rows[p.at].index);
    if (m->n_wrong)
        die("merge: the shards are not the whole, each line once: nothing is written");
}

/* ---- the whole ---- */

static int put_line(struct zwriter *w, const char *line, size_t len)
{
    return zwriter_put(w, line, len) || zwriter_put(w, "\n", 1) ? -1 : 0;
}

static int next_line(struct part *p, char **line, size_t *len)
{
    int rc = zreader_line(p->z, line, len);
    p->next++;
    return rc < 0 ? -1 : rc == 0 || !*line ? err_set("\"%s\" has changed", p->path) : 0;
}

static int hold(struct merge *m, struct part *p, const char *line, size_t len)
{
    if (!p->held)
        p->held = mem_array(p->n_row, sizeof *p->held);
    p->held[p->next - 1] = mem_dup(line, len);
    m->n_held += len + 1;
    if (m->n_held <= (size_t)m->opts.memory)
        return 0;
    return err_set("the rows that wait for their turn have more than --memory %lld bytes; give more, or take --unordered, or run the shards with --ordered",
                   (long long)m->opts.memory);
}

/* Reads on in the row's shard up to it, unless that has been done. */
static int put_in_turn(struct merge *m, struct zwriter *w, const struct row *r)
{
    struct part *p = &m->parts[r->shard];
    char *line;
    size_t len;
    if (r->at < p->next) {
        line = p->held[r->at];
        len = strlen(line);
        int rc = put_line(w, line, len);
        m->n_held -= len + 1;
        free(line);
        p->held[r->at] = NULL;
        return rc;
    }
    while (p->next < r->at)
        if (next_line(p, &line, &len) || hold(m, p, line, len))
            return -1;
    return next_line(p, &line, &len) || put_line(w, line, len) ? -1 : 0;
}

static int put_ordered(struct merge *m, struct zwriter *w)
{
    for (uint32_t k = 0; k < m->n_shard; k++)
        if (!(m->parts[k].z = zreader_open(m->parts[k].path)))
            return -1;
    for (size_t i = 0; i < m->n; i++)
        if (put_in_turn(m, w, &m->rows[i]))
            return -1;
    return 0;
}

static int put_unordered(struct merge *m, struct zwriter *w)
{
    char *line;
    size_t len;
    for (uint32_t k = 0; k < m->n_shard; k++) {
        struct part *p = &m->parts[k];
        if (!(p->z = zreader_open(p->path)))
            return -1;
        for (uint32_t i = 0; i < p->n_row; i++)
            if (next_line(p, &line, &len) || put_line(w, line, len))
                return -1;
        zreader_close(p->z);
        p->z = NULL;
    }
    return 0;
}

/* A file is there whole or not at all. */
static void put_all(struct merge *m, const char *out)
{
    struct stat st;
    bool file = strcmp(out, "-") != 0 && (stat(out, &st) || S_ISREG(st.st_mode));
    char *hidden = file ? shard_hidden_path(out) : NULL;
    struct zwriter *w = zwriter_open(file ? hidden : out);
    int rc = !w || (m->opts.unordered ? put_unordered(m, w) : put_ordered(m, w)) ? -1 : 0;
    char why[1024];
    snprintf(why, sizeof why, "%s", err_text());
    if (w && zwriter_close(w) && !rc) {
        rc = -1;
        snprintf(why, sizeof why, "%s", err_text());
    }
    if (!rc && file && rename(hidden, out)) {
        rc = -1;
        snprintf(why, sizeof why, "cannot write \"%s\": %s", out, strerror(errno));
    }
    if (rc && file && w)
        unlink(hidden);
    if (rc)
        die("merge: %s", why);
    free(hidden);
}

static void merge_free(struct merge *m)
{
    for (uint32_t k = 0; k < m->n_shard; k++) {
        if (m->parts[k].z)
            zreader_close(m->parts[k].z);
        free(m->parts[k].held);
    }
    free(m->parts);
    free(m->rows);
}

int cmd_merge(int argc, char **argv)
{
    static struct merge m;
    int first = cmd_options(&m.opts, argc, argv);
    if (argc - first < 2)
        die("merge: name the output and the shards: tokmill merge out.jsonl.zst out.*-of-*.jsonl.zst");
    const char *out = argv[first];
    for (int i = first + 1; i < argc; i++)
        if (zfile_same(out, argv[i]))
            die("merge: \"%s\" is a shard and would be overwritten: the output comes first", out);
    take_parts(&m, argv + first + 1, argc - first - 1);
    for (uint32_t k = 0; k < m.n_shard; k++)
        scan_part(&m, k);
    if (m.n)
        qsort(m.rows, m.n, sizeof *m.rows, compare_rows);
    prove(&m);
    put_all(&m, out);
    log_info("lines %zu of %u shards: each has its row once%s, %llu of them failed", m.n, m.n_shard, m.opts.corpora.n ? "" : " (as far as the shards tell)",
             (unsigned long long)m.n_failed);
    if (m.opts.results)
        merge_results(m.opts.results, m.n_shard);
    int status = m.n_failed ? EXIT_SOME_FAILED : EXIT_GOOD;
    merge_free(&m);
    return status;
}

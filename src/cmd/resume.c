#define _DEFAULT_SOURCE         /* scandir */
#include "cmd/resume.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "cmd/cmd.h"
#include "cmd/shard.h"
#include "data/journal.h"
#include "data/zfile.h"

/* Options that say where and how fast, not what: the others are facts. */
static const char *const passing[] = {
    "output", "results", "resume", "supervise", "in-flight", "poison", "threads", "kv-memory", "kv-blocks", "block-size", "max-seqs", "max-step-tokens",
    "no-prefix-cache", "order",
    "price", "csv-dialect", "quiet", "log-level", "device", "model",
};

static bool is_passing(const char *name)
{
    for (size_t i = 0; i < sizeof passing / sizeof *passing; i++)
        if (strcmp(name, passing[i]) == 0)
            return true;
    return false;
}

static void journal_path(char *path, size_t size, const char *output)
{
    if ((size_t)snprintf(path, size, "%s.journal", output) >= size)
        die("run: the name of the output is too long: \"%s\"", output);
}

/* ---- facts ---- */

static void put_fact(struct journal_fact *f, const char *name, const struct buf *value)
{
    f->name = name;
    snprintf(f->value, sizeof f->value, "%s", value->len ? value->data : "");
    if (value->len >= sizeof f->value)         /* too long to be told whole */
        snprintf(f->value, sizeof f->value, "%.200s... %016llx", value->data, (unsigned long long)hash_bytes(value->data, value->len, 0));
}

/* Names, sizes and, of small files, contents. */
static void put_file(struct buf *b, const char *folder, const char *name)
{
    enum { SMALL = 64 << 20 };
    struct buf path = {0};
    struct stat st;
    size_t len;
    buf_printf(&path, "%s/%s", folder, name);
    if (stat(path.data, &st) == 0 && S_ISREG(st.st_mode)) {
        bool small = st.st_size <= SMALL && strlen(name) > 5 && strcmp(name + strlen(name) - 5, ".json") == 0;
        char *text = small ? zfile_read_all(path.data, &len) : NULL;
        if (small && !text)
            die("%s", err_text());
        buf_printf(b, "%s %lld %016llx\n", name, (long long)st.st_size, text ? (unsigned long long)hash_bytes(text, len, 0) : 0);
        free(text);
    }
    buf_free(&path);
}

static void put_model(struct buf *b, const char *model)
{
    struct dirent **files;
    struct buf all = {0};
    int n = scandir(model, &files, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        put_file(&all, model, files[i]->d_name);
        free(files[i]);
    }
    if (n >= 0)
        free(files);
    buf_puts(b, model);
    if (all.len)
        buf_printf(b, " (files %016llx)", (unsigned long long)hash_bytes(all.data, all.len, 0));
    buf_free(&all);
}

static void put_corpora(struct buf *b, const struct resume_facts *f)
{
    for (int i = 0; i < f->n_corpus; i++)
        buf_printf(b, "%s%s", i ? " " : "", f->corpora[i]);
}

enum { MOST_FACTS = 64 };

static size_t make_facts(struct journal_fact facts[MOST_FACTS], const struct resume_facts *f)
{
    static char names[MOST_FACTS][48];
    struct buf value = {0};
    size_t n = 0;
    buf_puts(&value, TOKMILL_VERSION);
    put_fact(&facts[n++], "version", &value);
    buf_clear(&value);
    put_model(&value, f->model);
    put_fact(&facts[n++], "model", &value);
    buf_clear(&value);
    buf_printf(&value, "%.*s", (int)strcspn(f->device, ":"), f->device);
    put_fact(&facts[n++], "device", &value);
    buf_clear(&value);
    put_corpora(&value, f);
    put_fact(&facts[n++], "corpora", &value);
    for (const struct opt *o = f->options; o->name || o->help; o++) {
        if (!o->name || is_passing(o->name))
            continue;
        CHECK(n < MOST_FACTS);
        buf_clear(&value);
        opt_put_value(&value, o, f->values);
        snprintf(names[n], sizeof *names, "--%s", o->name);
        put_fact(&facts[n], names[n], &value);
        n++;
    }
    buf_free(&value);
    return n;
}

/* ---- opening ---- */

/* Its size; 0: there is no such file.  *file: there is none, or it is a regular one. */
static uint64_t size_of(const char *path, bool *file)
{
    struct stat st;
    *file = strcmp(path, "-") != 0;
    if (!*file || stat(path, &st))
        return 0;
    *file = S_ISREG(st.st_mode);
    return (uint64_t)st.st_size;
}

bool resume_is_whole(const char *output)
{
    char path[4096];
    struct stat st;
    bool file;
    journal_path(path, sizeof path, output);
    return size_of(output, &file) && file && stat(path, &st);
}

/* Rows in the file, those of a torn frame at its end aside; 0, or -1: err_text(). */
static int count_rows(const char *path, uint64_t *n)
{
    struct zreader *r = zreader_open(path);
    char *line;
    size_t len;
    if (!r)
        return -1;
    for (*n = 0; zreader_line(r, &line, &len) > 0;)
        ++*n;
    bool unread = zreader_may_pass(r);
    zreader_close(r);
    return unread ? -1 : 0;
}

static struct zwriter *open_at(const char *path, uint64_t size)
{
    struct zwriter *w = zwriter_open_at(path, size);
    if (!w)
        die("%s", err_text());
    return w;
}

/* What stands behind the promised part was not synced for sure: it is cut off, and made again. */
static void cut_tail(struct pipeline *p, const char *output)
{
    struct journal_count c;
    uint64_t there = 0;
    if (journal_counts(p->journal, &c) || (access(output, F_OK) == 0 && count_rows(output, &there)))
        die("%s", err_text());
    if (there > c.n_row)
        journal_cut(p->journal, there - c.n_row);
    log_info("going on with \"%s\": %llu rows are there%s", output, (unsigned long long)c.n_row,
             there > c.n_row ? ", and what was not yet safe on disk is made again" : "");
}

static struct journal *open_journal(const struct resume_facts *f, const char *output, const uint64_t sizes[JOURNAL_N_FILE])
{
    struct journal_fact facts[MOST_FACTS];
    char path[4096];
    bool busy;
    journal_path(path, sizeof path, output);
    struct journal *j = journal_open(path, facts, make_facts(facts, f), sizes, &busy);
    if (!j && !busy)
        die("run: %s", err_text());
    if (!j) {
        log_error("run: %s; try again when it has ended", err_text());
        exit(EXIT_AGAIN);
    }
    return j;
}

/* Now that the journal is ours: another run may have published since we looked, and then removed its own. */
static bool is_late(struct pipeline *p, const struct resume_names *n)
{
    if (!n->published || access(n->published, F_OK))
        return false;
    unlink(n->output);
    if (journal_end_run(p->journal))
        die("run: %s", err_text());
    p->journal = NULL;
    return true;
}

bool resume_open(struct pipeline *p, const struct resume_facts *f, const struct resume_names *n, const char *errors)
{
    bool file, errors_file = false;
    uint64_t sizes[JOURNAL_N_FILE] = { size_of(n->output, &file), p->keeps_errors ? size_of(errors, &errors_file) : 0 };
    p->keeps_errors = errors_file;
    if (file) {
        p->journal = open_journal(f, n->output, sizes);
        if (is_late(p, n))
            return false;
        if (!journal_is_new(p->journal))
            cut_tail(p, n->output);
    }
    p->rows = open_at(n->output, p->journal ? journal_end(p->journal, 0) : 0);
    p->errors = errors ? open_at(errors, p->journal && p->keeps_errors ? journal_end(p->journal, 1) : 0) : NULL;
    return true;
}

/* ---- the accounts ---- */

static int account(struct pipeline *p, const char *output)
{
    struct journal_count c;
    uint64_t rows;
    if (journal_counts(p->journal, &c) || count_rows(output, &rows))
        return -1;
    p->n_failed = c.n_failed;
    uint64_t lost = p->n_line > c.n_line ? p->n_line - c.n_line : 0, again = c.n_row - c.n_line;
    log_info("lines %llu = done %llu + failed %llu, redone %llu, lost %llu, duplicated %llu", (unsigned long long)p->n_line,
             (unsigned long long)(c.n_row - c.n_failed), (unsigned long long)c.n_failed, (unsigned long long)c.n_again, (unsigned long long)lost,
             (unsigned long long)again);
    p->lasting = rows != c.n_row || lost || again;
    if (rows != c.n_row)
        return err_set("\"%s\" has %llu rows, and its journal %llu", output, (unsigned long long)rows, (unsigned long long)c.n_row);
    return lost || again ? err_set("\"%s\": the accounts do not close", output) : 0;
}

int resume_close(struct pipeline *p, const struct resume_names *n, bool interrupted)
{
    if (!p->journal || interrupted)            /* interrupted: the reader may still look into it */
        return 0;
    int rc = account(p, n->output);
    if (!rc && n->published)
        rc = shard_publish(n->output, n->published);
    if (rc)
        journal_close(p->journal);
    else
        rc = journal_end_run(p->journal);
    p->journal = NULL;
    return rc;
}

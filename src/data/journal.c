#define _DEFAULT_SOURCE         /* fdatasync, ftruncate */
#include "data/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"
#include "data/zfile.h"

/* The file: MAGIC, a line for each fact, an empty line, the hash of all that, then records. */
static const char MAGIC[] = "tokmill journal 1\n";

/* A record: this, n entries, and the hash of both, seeded with that of the record before: one is good only behind the same ones. */
struct record { uint32_t n, zero; uint64_t again, ends[JOURNAL_N_FILE]; };     /* again: rows cut off before it */
struct entry { uint64_t line, hash; };                     /* line: twice the index, and 1 if it failed */

enum { MOST_HEADER = 1 << 20, MOST_ENTRIES = 1 << 24 };

struct journal {
    int fd;
    char *path;
    bool fresh;
    uint64_t header_size, size, chain;         /* chain: hash of the last record */
    struct record last;
    uint64_t *done; size_t n_done;             /* by index: hash of a line that has its row, or 0 */
    struct entry *entries; uint32_t n_entry, room;     /* put, not committed */
    uint64_t again;
};

static uint64_t nonzero(uint64_t hash)
{
    return hash ? hash : 1;
}

static int fail(const struct journal *j, const char *what)
{
    return err_set("journal \"%s\": %s: %s", j->path, what, strerror(errno));
}

/* ---- facts ---- */

/* A value in one line, and no two values the same. */
static void put_value(struct buf *b, const char *value)
{
    buf_puts(b, "");
    for (; *value; value++)
        if (*value == '\n' || *value == '\\')
            buf_puts(b, *value == '\n' ? "\\n" : "\\\\");
        else
            buf_putc(b, *value);
}

static void put_header(struct buf *b, const struct journal_fact *facts, size_t n)
{
    buf_puts(b, MAGIC);
    for (size_t i = 0; i < n; i++) {
        buf_printf(b, "%s=", facts[i].name);
        put_value(b, facts[i].value);
        buf_putc(b, '\n');
    }
    buf_putc(b, '\n');
    uint64_t hash = hash_bytes(b->data, b->len, 0);
    buf_put(b, &hash, sizeof hash);
}

/* The value that the old header gives to the fact; NULL: it has none. */
static char *old_value(const char *header, const char *name)
{
    size_t n = strlen(name);
    for (const char *line = header; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        if (strncmp(line, name, n) == 0 && line[n] == '=')
            return mem_dup(line + n + 1, strcspn(line + n + 1, "\n"));
    return NULL;
}

static int refuse(const struct journal *j, const char *header, const struct journal_fact *facts, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct buf now = {0};
        put_value(&now, facts[i].value);
        char *old = old_value(header, facts[i].name);
        bool same = old && strcmp(old, now.data) == 0;
        if (!same)
            err_set("\"%s\": the output was begun with %s \"%s\", and now it is \"%s\"; go on as it was begun, name another output, or delete the journal to begin anew",
                    j->path, facts[i].name, old ? old : "", now.data);
        free(old);
        buf_free(&now);
        if (!same)
            return -1;
    }
    return err_set("\"%s\" is the journal of another version of tokmill; go on with that, or delete it to begin anew", j->path);
}

/* ---- reading ---- */

static int read_at(const struct journal *j, void *p, size_t n, uint64_t at)
{
    for (size_t have = 0; have < n;) {
        ssize_t got = pread(j->fd, (char *)p + have, n - have, (off_t)(at + have));
        if (got < 0 && errno != EINTR)
            return fail(j, "cannot read");
        if (got == 0)
            return 1;                  /* it ends before */
        have += got > 0 ? (size_t)got : 0;
    }
    return 0;
}

/* The record at the place, with its entries in *e (to be freed): 1; 0: there is none that is whole; -1: err_text(). */
static int read_record(const struct journal *j, uint64_t at, uint64_t chain, struct record *r, struct entry **e, uint64_t *next_chain)
{
    int rc = read_at(j, r, sizeof *r, at);
    if (rc || r->n > MOST_ENTRIES || r->zero)
        return rc < 0 ? -1 : 0;
    size_t n = r->n * sizeof **e;
    uint64_t hash;
    *e = mem_alloc(n);
    rc = read_at(j, *e, n, at + sizeof *r);
    if (!rc)
        rc = read_at(j, &hash, sizeof hash, at + sizeof *r + n);
    if (!rc)
        *next_chain = hash_bytes(*e, n, hash_bytes(r, sizeof *r, chain));
    if (!rc && hash == *next_chain)
        return 1;
    free(*e);
    return rc < 0 ? -1 : 0;
}

static uint64_t size_of(const struct record *r)
{
    return sizeof *r + r->n * sizeof(struct entry) + sizeof(uint64_t);
}

static void mark(struct journal *j, uint64_t index, uint64_t hash)
{
    if (index >= j->n_done) {
        size_t n = index < 1024 ? 1024 : (size_t)index * 2;
        j->done = mem_resize(j->done, n, sizeof *j->done);
        memset(j->done + j->n_done, 0, (n - j->n_done) * sizeof *j->done);
        j->n_done = n;
    }
    j->done[index] = nonzero(hash);
}

/* Records as far as they are whole and the files hold what they promise. */
static int read_records(struct journal *j, const uint64_t sizes[JOURNAL_N_FILE])
{
    struct record r;
    struct entry *e;
    uint64_t chain;
    int rc;
    while ((rc = read_record(j, j->size, j->chain, &r, &e, &chain)) > 0) {
        bool there = r.ends[0] <= sizes[0] && r.ends[1] <= sizes[1];
        for (uint32_t i = 0; i < r.n && there; i++)
            mark(j, e[i].line / 2, e[i].hash);
        free(e);
        if (!there)
            break;
        j->size += size_of(&r);
        j->chain = chain;
        j->last = r;
    }
    return rc < 0 ? -1 : 0;
}

/* What stands there may be the torn beginning of a header, zeros included, as some file systems leave them after a power cut. */
static bool may_be_header(const char *text, size_t size)
{
    size_t n = strnlen(text, size);
    for (size_t i = n; i < size && n < strlen(MAGIC); i++)
        if (text[i])
            return false;
    return strncmp(text, MAGIC, n < strlen(MAGIC) ? n : strlen(MAGIC)) == 0;
}

/* 1: it is ours; 0: it has no whole header, so nothing was ever promised; -1: err_text(). */
static int read_header(struct journal *j, const struct buf *ours, const struct journal_fact *facts, size_t n)
{
    struct stat st;
    if (fstat(j->fd, &st))
        return fail(j, "cannot read");
    size_t size = st.st_size < MOST_HEADER ? (size_t)st.st_size : (size_t)MOST_HEADER;
    char *text = mem_alloc(size + 1);
    int rc = read_at(j, text, size, 0);
    char *end = rc ? NULL : strstr(text, "\n\n");
    if (rc < 0 || !may_be_header(text, size)) {
        rc = rc < 0 ? -1 : err_set("\"%s\" is not a journal of tokmill; move it away", j->path);
    } else if (size >= ours->len && memcmp(text, ours->data, ours->len) == 0) {
        rc = 1;
    } else {
        size_t whole = end ? (size_t)(end - text) + 2 + sizeof(uint64_t) : size + 1;
        if (end)
            end[1] = 0;
        rc = whole <= size ? refuse(j, text, facts, n) : 0;
    }
    free(text);
    return rc;
}

/* ---- writing ---- */

static int write_all(struct journal *j, const void *p, size_t n)
{
    for (size_t at = 0; at < n;) {
        ssize_t put = pwrite(j->fd, (const char *)p + at, n - at, (off_t)(j->size + at));
        if (put < 0 && errno != EINTR)
            return fail(j, "cannot write");
        at += put > 0 ? (size_t)put : 0;
    }
    j->size += n;
    return fdatasync(j->fd) ? fail(j, "cannot sync") : 0;
}

static int begin(struct journal *j, const struct buf *header)
{
    j->fresh = true;
    if (ftruncate(j->fd, 0))
        return fail(j, "cannot write");
    int rc = write_all(j, header->data, header->len);
    j->header_size = j->size;
    return rc ? rc : zfile_sync_folder(j->path);
}

static int go_on(struct journal *j, const struct buf *header, const uint64_t sizes[JOURNAL_N_FILE])
{
    j->header_size = j->size = header->len;
    if (read_records(j, sizes))
        return -1;
    j->again = j->last.again;
    return ftruncate(j->fd, (off_t)j->size) ? fail(j, "cannot write") : 0;
}

/* It was opened just before the run that it belongs to had finished. */
static bool is_removed(const struct journal *j)
{
    struct stat st;
    return fstat(j->fd, &st) == 0 && st.st_nlink == 0;
}

struct journal *journal_open(const char *path, const struct journal_fact *facts, size_t n_fact, const uint64_t sizes[JOURNAL_N_FILE], bool *busy)
{
    struct journal *j = mem_alloc(sizeof *j);
    struct buf header = {0};
    *busy = false;
    j->path = mem_dup(path, strlen(path));
    j->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    put_header(&header, facts, n_fact);
    int rc = j->fd < 0 ? fail(j, "cannot open") : 0;
    if (!rc && (flock(j->fd, LOCK_EX | LOCK_NB) || is_removed(j))) {
        *busy = errno == EWOULDBLOCK || is_removed(j);
        rc = *busy ? err_set("\"%s\": another run writes this output now", path) : fail(j, "cannot lock");
    }
    if (!rc)
        rc = read_header(j, &header, facts, n_fact);
    if (rc >= 0)
        rc = rc ? go_on(j, &header, sizes) : begin(j, &header);
    buf_free(&header);
    if (!rc)
        return j;
    journal_close(j);
    return NULL;
}

uint64_t journal_end(const struct journal *j, int file)
{
    return j->last.ends[file];
}

bool journal_is_new(const struct journal *j)
{
    return j->fresh;
}

enum journal_line journal_line(const struct journal *j, uint64_t index, uint64_t hash)
{
    uint64_t was = index < j->n_done ? j->done[index] : 0;
    return !was ? JOURNAL_TODO : was == nonzero(hash) ? JOURNAL_DONE : JOURNAL_CHANGED;
}

void journal_cut(struct journal *j, uint64_t n_row)
{
    j->again += n_row;
}

void journal_add(struct journal *j, uint64_t index, uint64_t hash, bool failed)
{
    if (j->n_entry == j->room) {
        j->room = j->room ? 2 * j->room : 256;
        j->entries = mem_resize(j->entries, j->room, sizeof *j->entries);
    }
    CHECK(j->n_entry < MOST_ENTRIES);
    j->entries[j->n_entry++] = (struct entry){ 2 * index + failed, hash };
}

int journal_commit(struct journal *j, const uint64_t ends[JOURNAL_N_FILE])
{
    struct record r = { .n = j->n_entry, .again = j->again, .ends = { ends[0], ends[1] } };
    struct buf b = {0};
    if (!j->n_entry && j->again == j->last.again)
        return 0;
    uint64_t chain = hash_bytes(j->entries, j->n_entry * sizeof *j->entries, hash_bytes(&r, sizeof r, j->chain));
    buf_put(&b, &r, sizeof r);
    buf_put(&b, j->entries, j->n_entry * sizeof *j->entries);
    buf_put(&b, &chain, sizeof chain);
    int rc = write_all(j, b.data, b.len);
    buf_free(&b);
    j->chain = chain;
    j->last = r;
    j->n_entry = 0;
    return rc;
}

/* A second table of lines, so that one that is there twice is counted once. */
int journal_counts(const struct journal *j, struct journal_count *c)
{
    struct journal again = { .fd = j->fd, .path = j->path };
    struct record r;
    struct entry *e;
    uint64_t at = j->header_size, chain = 0;
    int rc;
    *c = (struct journal_count){0};
    for (; (rc = read_record(j, at, chain, &r, &e, &chain)) > 0; at += size_of(&r)) {
        for (uint32_t i = 0; i < r.n; i++) {
            uint64_t index = e[i].line / 2;
            c->n_row++;
            c->n_failed += e[i].line % 2;
            c->n_line += journal_line(&again, index, 0) == JOURNAL_TODO;
            mark(&again, index, 1);
        }
        c->n_again = r.again;
        free(e);
    }
    free(again.done);
    return rc < 0 ? -1 : at == j->size ? 0 : err_set("journal \"%s\": byte %llu is not what was written there", j->path, (unsigned long long)at);
}

void journal_close(struct journal *j)
{
    if (!j)
        return;
    if (j->fd >= 0)
        close(j->fd);
    free(j->path);
    free(j->done);
    free(j->entries);
    free(j);
}

int journal_end_run(struct journal *j)
{
    int rc = zfile_sync_folder(j->path);           /* the output is beside it: its name must be safe first */
    if (!rc && unlink(j->path))
        rc = fail(j, "cannot remove");
    journal_close(j);
    return rc;
}

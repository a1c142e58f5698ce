#define _POSIX_C_SOURCE 200809L     /* fsync, fstat, O_DIRECTORY */
#include "data/zfile.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "base/err.h"
#include "base/mem.h"

#define IN_SIZE   ((size_t)128 << 10)
#define OUT_SIZE  ((size_t)256 << 10)
#define MIN_ROOM  ((size_t)128 << 10)   /* a zstd block goes straight into the lines */
#define MAX_WHOLE ((size_t)1 << 30)
#define GZIP_BITS (15 + 16)             /* zlib's largest window, gzip headers */

struct zreader {
    int fd;
    char *path;
    int64_t size;
    int (*fill)(struct zreader *r);     /* adds to out: 1; 0 at the end of the file; -1 where it is broken */
    char *in; size_t in_at, in_len;     /* bytes of the file not used yet: [in_at, in_len) */
    uint64_t n_read;
    bool in_end;                        /* the file has no more bytes than those */
    char *out; size_t start, scan, end, cap;   /* text: [start, end), no newline before scan; cap leaves room for a NUL */
    uint64_t skipped;                   /* bytes of an over-long line that were dropped */
    bool ended;
    char *error;                        /* not NULL: broken, and why */
    bool unread;                        /* it is that read(2) failed */
    ZSTD_DCtx *zstd; size_t first_hint, hint;
    z_stream gzip;
    bool in_frame;                      /* inside a zstd frame or a gzip member */
};

uint64_t zreader_bytes_in(const struct zreader *r)
{
    return r->n_read - (r->in_len - r->in_at);
}

bool zreader_may_pass(const struct zreader *r)
{
    return r->unread;
}

int64_t zreader_size(const struct zreader *r)
{
    return r->size;
}

/* Keeps the message just set: every later call gives it again. */
static int keep_error(struct zreader *r)
{
    r->error = mem_dup(err_text(), strlen(err_text()));
    return -1;
}

static int broken(struct zreader *r, const char *what)
{
    err_set("%s is broken at byte %llu: %s", r->path, (unsigned long long)zreader_bytes_in(r), what);
    return keep_error(r);
}

static void no_room(const struct zreader *r)
{
    die("out of memory: no room to decompress %s", r->path);
}

/* read(2) into p; returns its bytes (0: end of file) or -1. */
static ssize_t read_some(struct zreader *r, char *p, size_t n)
{
    ssize_t got;
    do
        got = read(r->fd, p, n);
    while (got < 0 && errno == EINTR);
    if (got < 0) {
        err_set("cannot read %s at byte %llu: %s", r->path, (unsigned long long)r->n_read, strerror(errno));
        r->unread = true;
        return keep_error(r);
    }
    r->in_end = got == 0;
    r->n_read += (uint64_t)got;
    return got;
}

/* 1: `in` holds bytes; 0: end of file; -1: broken. */
static int more_input(struct zreader *r)
{
    if (r->in_at < r->in_len)
        return 1;
    if (r->in_end)
        return 0;
    ssize_t got = read_some(r, r->in, IN_SIZE);
    if (got < 0)
        return -1;
    r->in_at = 0;
    r->in_len = (size_t)got;
    return got > 0;
}

static int fill_plain(struct zreader *r)
{
    size_t n = r->in_len - r->in_at;        /* what open looked at */
    if (n) {
        memcpy(r->out + r->end, r->in + r->in_at, n);
        r->in_at = r->in_len;
    } else {
        ssize_t got = r->in_end ? 0 : read_some(r, r->out + r->end, r->cap - r->end);
        if (got <= 0)
            return (int)got;
        n = (size_t)got;
    }
    r->end += n;
    return 1;
}

/* The decoder gets no more than it asks for, one block: if that is bad, the text of those before is not lost. */
static int fill_zstd(struct zreader *r)
{
    for (;;) {
        int more = more_input(r);
        if (more < 0 || (!more && !r->in_frame))
            return more;
        size_t have = r->in_len - r->in_at;
        ZSTD_inBuffer in = { r->in + r->in_at, have < r->hint ? have : r->hint, 0 };
        ZSTD_outBuffer out = { r->out + r->end, r->cap - r->end, 0 };
        size_t hint = ZSTD_decompressStream(r->zstd, &out, &in);
        if (ZSTD_getErrorCode(hint) == ZSTD_error_memory_allocation)
            no_room(r);
        if (ZSTD_isError(hint))
            return broken(r, ZSTD_getErrorName(hint));
        r->in_at += in.pos;
        r->end += out.pos;
        r->in_frame = hint != 0;
        r->hint = hint ? hint : r->first_hint;
        if (out.pos)
            return 1;
        if (!more && hint)
            return broken(r, "the file ends inside a zstd frame");
    }
}

/* Zeros between and after members are padding, as gzip(1) sees it. */
static void skip_padding(struct zreader *r)
{
    while (!r->in_frame && r->in_at < r->in_len && !r->in[r->in_at])
        r->in_at++;
}

static int inflate_some(struct zreader *r)
{
    z_stream *z = &r->gzip;
    z->next_in = (unsigned char *)r->in + r->in_at;
    z->avail_in = (uInt)(r->in_len - r->in_at);
    z->next_out = (unsigned char *)r->out + r->end;
    z->avail_out = (uInt)(r->cap - r->end < UINT32_MAX ? r->cap - r->end : UINT32_MAX);
    int rc = inflate(z, Z_NO_FLUSH);
    if (rc == Z_MEM_ERROR)
        no_room(r);
    r->in_at = r->in_len - z->avail_in;
    r->end = (size_t)((char *)z->next_out - r->out);
    r->in_frame = rc != Z_STREAM_END;
    if (rc == Z_STREAM_END)
        return inflateReset(z) == Z_OK ? 0 : broken(r, "zlib cannot start again");
    return rc == Z_OK || rc == Z_BUF_ERROR ? 0 : broken(r, z->msg ? z->msg : zError(rc));
}

static int fill_gzip(struct zreader *r)
{
    for (;;) {
        int more = more_input(r);
        skip_padding(r);
        if (more > 0 && r->in_at == r->in_len)
            continue;
        if (more < 0 || (!more && !r->in_frame))
            return more;
        size_t before = r->end;
        if (inflate_some(r))
            return -1;
        if (r->end > before)
            return 1;
        if (!more && r->in_frame)
            return broken(r, "the file ends inside a gzip member");
    }
}

static bool has_magic(const struct zreader *r, const unsigned char *magic, size_t n)
{
    return r->in_len >= n && !memcmp(r->in, magic, n);
}

static bool is_zstd(const struct zreader *r)
{
    bool skippable = r->in_len >= 4 && ((unsigned char)r->in[0] & 0xf0) == 0x50 && !memcmp(r->in + 1, "\x2a\x4d\x18", 3);
    return skippable || has_magic(r, (const unsigned char[]){ 0x28, 0xb5, 0x2f, 0xfd }, 4);
}

/* Reads enough to know the format: a pipe may give a byte at a time. */
static int tell_format(struct zreader *r)
{
    while (r->in_len < 4 && !r->in_end) {
        ssize_t got = read_some(r, r->in + r->in_len, IN_SIZE - r->in_len);
        if (got < 0)
            return -1;
        r->in_len += (size_t)got;
    }
    r->fill = fill_plain;
    if (is_zstd(r)) {
        r->fill = fill_zstd;
        r->zstd = ZSTD_createDCtx();
        if (!r->zstd)
            no_room(r);
        r->hint = r->first_hint = ZSTD_initDStream(r->zstd);
    } else if (has_magic(r, (const unsigned char[]){ 0x1f, 0x8b }, 2)) {
        r->fill = fill_gzip;
        if (inflateInit2(&r->gzip, GZIP_BITS) != Z_OK)
            no_room(r);
    }
    return 0;
}

/* A path for messages. */
static char *shown_path(const char *path, const char *standard)
{
    if (!strcmp(path, "-"))
        return mem_dup(standard, strlen(standard));
    size_t n = strlen(path);
    char *quoted = mem_alloc(n + 3);
    quoted[0] = quoted[n + 1] = '"';
    memcpy(quoted + 1, path, n);
    return quoted;
}

struct zreader *zreader_open(const char *path)
{
    int fd = strcmp(path, "-") ? open(path, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
    if (fd < 0) {
        err_set("cannot open \"%s\": %s", path, strerror(errno));
        return NULL;
    }
    struct zreader *r = mem_alloc(sizeof *r);
    struct stat st;
    r->fd = fd;
    r->path = shown_path(path, "standard input");
    r->size = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? st.st_size : -1;
    r->in = mem_alloc(IN_SIZE);
    r->cap = OUT_SIZE;
    r->out = mem_alloc(r->cap + 1);
    if (tell_format(r)) {
        zreader_close(r);
        return NULL;
    }
    return r;
}

void zreader_close(struct zreader *r)
{
    if (!r)
        return;
    if (r->fd != STDIN_FILENO)
        close(r->fd);
    ZSTD_freeDCtx(r->zstd);
    if (r->fill == fill_gzip)
        inflateEnd(&r->gzip);
    free(r->path);
    free(r->error);
    free(r->in);
    free(r->out);
    free(r);
}

/* Drops what is kept of an over-long line, but for its last byte, which may be a "\r". */
static void drop_overlong(struct zreader *r)
{
    size_t n = r->end - r->start;
    if (n <= ZFILE_MAX_LINE + 1)
        return;
    r->skipped += n - 1;
    r->out[0] = r->out[r->end - 1];
    r->start = 0;
    r->scan = r->end = 1;
}

static void make_room(struct zreader *r)
{
    if (r->start) {
        memmove(r->out, r->out + r->start, r->end - r->start);
        r->scan -= r->start;
        r->end -= r->start;
        r->start = 0;
    }
    if (r->cap - r->end < MIN_ROOM) {
        r->cap *= 2;
        r->out = mem_resize(r->out, r->cap + 1, 1);
    }
}

/* More text into out: 1; 0: there is no more; -1: broken. */
static int fill_more(struct zreader *r)
{
    if (r->error)
        return err_set("%s", r->error);
    if (r->ended)
        return 0;
    make_room(r);
    r->ended = r->fill(r) == 0;
    return 1;       /* a break is reported when the text before it is used up */
}

/* Gives the text [start, stop) as a line; the next one begins at `next`. */
static int give_line(struct zreader *r, size_t stop, size_t next, char **line, size_t *len)
{
    if (next > stop && stop > r->start && r->out[stop - 1] == '\r')
        stop--;
    *len = stop - r->start + r->skipped;
    *line = *len > ZFILE_MAX_LINE ? NULL : r->out + r->start;
    r->out[stop] = 0;
    r->start = r->scan = next;
    r->skipped = 0;
    return 1;
}

int zreader_line(struct zreader *r, char **line, size_t *len)
{
    for (;;) {
        char *newline = memchr(r->out + r->scan, '\n', r->end - r->scan);
        if (newline) {
            size_t stop = (size_t)(newline - r->out);
            return give_line(r, stop, stop + 1, line, len);
        }
        r->scan = r->end;
        drop_overlong(r);
        int more = fill_more(r);
        if (more < 0 || (!more && r->start == r->end))
            return more;
        if (!more)
            return give_line(r, r->end, r->end, line, len);
    }
}

char *zfile_read_all(const char *path, size_t *len)
{
    struct zreader *r = zreader_open(path);
    char *data = NULL;
    int more = 1;
    if (!r)
        return NULL;
    while (more > 0 && r->end <= MAX_WHOLE)
        more = fill_more(r);
    if (more > 0)
        err_set("%s has more than %zu bytes of text", r->path, MAX_WHOLE);
    if (more == 0) {
        data = r->out;
        data[r->end] = 0;
        *len = r->end;
        r->out = NULL;
    }
    zreader_close(r);
    return data;
}

struct zwriter {
    int fd;
    char *path;
    int (*squeeze)(struct zwriter *w, const void *p, size_t n, bool end);  /* compresses p to out; end: closes the frame */
    char *out; size_t len;              /* OUT_SIZE */
    ZSTD_CCtx *zstd;
    z_stream gzip;
    uint64_t size;                      /* written so far, with what was there */
    bool any, in_frame;                 /* something was put; something is in a frame that is not closed */
    int failed;                         /* errno of the write that failed: nothing more is written */
};

static int write_failed(struct zwriter *w, int why)
{
    w->failed = why;
    return err_set("cannot write %s: %s", w->path, strerror(why));
}

static int write_out(struct zwriter *w)
{
    for (size_t at = 0; at < w->len;) {
        ssize_t n = write(w->fd, w->out + at, w->len - at);
        if (n < 0 && errno != EINTR)
            return write_failed(w, errno);
        at += n > 0 ? (size_t)n : 0;
    }
    w->size += w->len;
    w->len = 0;
    return 0;
}

static int squeeze_plain(struct zwriter *w, const void *p, size_t n, bool end)
{
    (void)end;
    for (const char *from = p; n;) {
        size_t part = n < OUT_SIZE - w->len ? n : OUT_SIZE - w->len;
        memcpy(w->out + w->len, from, part);
        w->len += part;
        from += part;
        n -= part;
        if (w->len == OUT_SIZE && write_out(w))
            return -1;
    }
    return 0;
}

static int squeeze_zstd(struct zwriter *w, const void *p, size_t n, bool end)
{
    ZSTD_inBuffer in = { p, n, 0 };
    size_t left;
    do {
        ZSTD_outBuffer out = { w->out, OUT_SIZE, w->len };
        left = ZSTD_compressStream2(w->zstd, &out, &in, end ? ZSTD_e_end : ZSTD_e_continue);
        if (ZSTD_isError(left))
            die("cannot compress %s: %s", w->path, ZSTD_getErrorName(left));    /* no memory */
        w->len = out.pos;
        if (w->len == OUT_SIZE && write_out(w))
            return -1;
    } while (end ? left > 0 : in.pos < in.size);
    return 0;
}

static int squeeze_gzip(struct zwriter *w, const void *p, size_t n, bool end)
{
    z_stream *z = &w->gzip;
    const unsigned char *from = p;
    int rc = Z_OK;
    do {
        size_t part = n < OUT_SIZE ? n : OUT_SIZE;
        z->next_in = (unsigned char *)from;
        z->avail_in = (uInt)part;
        z->next_out = (unsigned char *)w->out + w->len;
        z->avail_out = (uInt)(OUT_SIZE - w->len);
        rc = deflate(z, end ? Z_FINISH : Z_NO_FLUSH);
        w->len = OUT_SIZE - z->avail_out;
        from += part - z->avail_in;
        n -= part - z->avail_in;
        if (w->len == OUT_SIZE && write_out(w))
            return -1;
    } while (end ? rc != Z_STREAM_END : n > 0);
    if (end)
        CHECK(deflateReset(z) == Z_OK);
    return 0;
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && !strcmp(s + n - m, end);
}

static void choose_format(struct zwriter *w, const char *path)
{
    w->squeeze = squeeze_plain;
    if (ends_with(path, ".zst")) {
        w->squeeze = squeeze_zstd;
        w->zstd = ZSTD_createCCtx();
        if (!w->zstd)
            die("out of memory: no room to compress %s", w->path);
        ZSTD_CCtx_setParameter(w->zstd, ZSTD_c_compressionLevel, 3);
        ZSTD_CCtx_setParameter(w->zstd, ZSTD_c_checksumFlag, 1);
    } else if (ends_with(path, ".gz")) {
        w->squeeze = squeeze_gzip;
        if (deflateInit2(&w->gzip, Z_DEFAULT_COMPRESSION, Z_DEFLATED, GZIP_BITS, 8, Z_DEFAULT_STRATEGY) != Z_OK)
            die("out of memory: no room to compress %s", w->path);
    }
}

struct zwriter *zwriter_open(const char *path)
{
    return zwriter_open_at(path, 0);
}

/* Only a regular file is cut: a pipe has no end, and a device need not have one. */
static int cut(int fd, uint64_t size)
{
    struct stat st;
    if (fstat(fd, &st) || !S_ISREG(st.st_mode))
        return 0;
    return ftruncate(fd, (off_t)size) || lseek(fd, (off_t)size, SEEK_SET) < 0 ? -1 : 0;
}

struct zwriter *zwriter_open_at(const char *path, uint64_t size)
{
    bool is_file = strcmp(path, "-");
    int fd = is_file ? open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666) : STDOUT_FILENO;
    if (fd < 0 || (is_file && cut(fd, size))) {
        err_set("cannot create \"%s\": %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    struct zwriter *w = mem_alloc(sizeof *w);
    w->fd = fd;
    w->size = size;
    w->any = size > 0;
    w->path = shown_path(path, "standard output");
    w->out = mem_alloc(OUT_SIZE);
    choose_format(w, path);
    return w;
}

int zwriter_put(struct zwriter *w, const void *p, size_t n)
{
    if (w->failed)
        return write_failed(w, w->failed);
    if (!n)
        return 0;
    w->any = w->in_frame = true;
    return w->squeeze(w, p, n, false);
}

int zwriter_flush(struct zwriter *w)
{
    if (w->failed)
        return write_failed(w, w->failed);
    if (w->in_frame && w->squeeze(w, "", 0, true))
        return -1;
    w->in_frame = false;
    return write_out(w);
}

/* A pipe cannot be synced, a file must be. */
static int sync_file(struct zwriter *w)
{
    struct stat st;
    bool regular = fstat(w->fd, &st) == 0 && S_ISREG(st.st_mode);
    return regular && fsync(w->fd) ? write_failed(w, errno) : 0;
}

int zwriter_sync(struct zwriter *w, uint64_t *size)
{
    int rc = zwriter_flush(w) || sync_file(w) ? -1 : 0;
    *size = w->size;
    return rc;
}

int zwriter_close(struct zwriter *w)
{
    w->in_frame = w->in_frame || !w->any;       /* no text at all is an empty frame, not a file that zstd refuses */
    int rc = zwriter_flush(w) || sync_file(w) ? -1 : 0;
    if (w->fd != STDOUT_FILENO && close(w->fd) && !rc)
        rc = write_failed(w, errno);
    ZSTD_freeCCtx(w->zstd);
    if (w->squeeze == squeeze_gzip)
        deflateEnd(&w->gzip);
    free(w->path);
    free(w->out);
    free(w);
    return rc;
}

bool zfile_same(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && S_ISREG(x.st_mode) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

int zfile_sync_folder(const char *path)
{
    char *copy = mem_dup(path, strlen(path));
    const char *folder = dirname(copy);
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = fd < 0 || fsync(fd) ? err_set("cannot sync the folder \"%s\": %s", folder, strerror(errno)) : 0;
    if (fd >= 0)
        close(fd);
    free(copy);
    return rc;
}

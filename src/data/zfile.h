/* zfile.h - files of lines, plain or compressed.  zstd and zlib enter here and nowhere else.
 * Reading tells the format by the first bytes (zstd frames, skippable ones included; gzip members; plain), in
 * bounded memory.  "-" is standard input or output. */
#ifndef DATA_ZFILE_H
#define DATA_ZFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ZFILE_MAX_LINE ((size_t)256 << 20)

struct zreader;

struct zreader *zreader_open(const char *path);    /* NULL: err_text() */
void            zreader_close(struct zreader *r);

/* The next line without its end ("\n" or "\r\n"), NUL-closed, valid until the next call.  1: a line; 0: end of file;
 * -1: the file is broken from here on (err_text() says what and at which byte); whole lines before that were given.
 * A line over ZFILE_MAX_LINE is skipped whole: *line = NULL, *len = its length, 1 is returned. */
int      zreader_line(struct zreader *r, char **line, size_t *len);
uint64_t zreader_bytes_in(const struct zreader *r);        /* bytes of the file used so far, compressed as they are */
bool     zreader_may_pass(const struct zreader *r);        /* the -1 was an error of reading: the file itself need not be broken */
int64_t  zreader_size(const struct zreader *r);            /* of the file; -1 where it has none (a pipe) */

struct zwriter;

/* The format is told by the name: .zst, .gz, else plain.  Parent folders must exist.  NULL: err_text(). */
struct zwriter *zwriter_open(const char *path);
struct zwriter *zwriter_open_at(const char *path, uint64_t size);          /* behind the first `size` bytes of the file, which end a frame; the rest is cut off */
int             zwriter_put(struct zwriter *w, const void *p, size_t n);   /* 0, or -1: err_text() */
int             zwriter_flush(struct zwriter *w);  /* ends the frame (member): all put so far is in the file and readable */
int             zwriter_sync(struct zwriter *w, uint64_t *size);   /* flushes, and it is on the disk; size: of the file now */
int             zwriter_close(struct zwriter *w);  /* flushes and syncs; 0, or -1: err_text(); frees in every case */

bool zfile_same(const char *a, const char *b);     /* both are there, and one and the same regular file */

/* The names in the folder of the file are on the disk, too.  0, or -1: err_text(). */
int zfile_sync_folder(const char *path);

/* A whole (plain or compressed) file of at most 1 GiB, NUL-closed; free() it.  NULL: err_text(). */
char *zfile_read_all(const char *path, size_t *len);

#endif

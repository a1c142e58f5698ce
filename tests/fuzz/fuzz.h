/* fuzz.h - what the fuzzers share.  Each is one file, fuzz_NAME.c: it reads bytes as its reader does, and besides not crashing
 * the reader must keep what its header promises (CHECK).  tests/test_fuzz.sh runs them; seeds/NAME/ are theirs. */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#define _GNU_SOURCE     /* memfd_create, memmem */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Warnings are part of what is tested, but not to be read. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    log_set_level(LOG_ERROR);
    return 0;
}

/* The bytes as a file that can be opened by its path: one in memory, the same at each call. */
static inline const char *fuzz_file(const void *data, size_t size)
{
    static char path[64];
    static int fd = -1;
    if (fd < 0) {
        fd = memfd_create("fuzz", 0);
        CHECK(fd >= 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    CHECK(ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == (ssize_t)size);
    return path;
}

/* The path of a file in a folder of our own within $TMPDIR, or in memory; the last four stay. */
static inline const char *fuzz_path(const char *name)
{
    static char folder[128], paths[4][192];
    static int next;
    if (!folder[0]) {
        const char *tmp = getenv("TMPDIR");
        snprintf(folder, sizeof folder, "%s/fuzz-XXXXXX", tmp ? tmp : "/dev/shm");
        CHECK(mkdtemp(folder));
    }
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s%s%s", folder, *name ? "/" : "", name);
    return path;
}

static inline void fuzz_write(const char *name, const void *data, size_t size)
{
    FILE *f = fopen(fuzz_path(name), "wb");
    CHECK(f && fwrite(data, 1, size, f) == size && fclose(f) == 0);
}

/* Takes the part before the next NUL byte, all if there is none, off the front of data. */
struct part { const char *at; size_t len; };
static inline struct part fuzz_part(const uint8_t **data, size_t *size)
{
    const uint8_t *nul = *size ? memchr(*data, 0, *size) : NULL;
    struct part p = { (const char *)*data, nul ? (size_t)(nul - *data) : *size };
    size_t used = p.len + (nul != NULL);
    *data += used;
    *size -= used;
    return p;
}

/* A safetensors file. */
static inline void fuzz_write_framed(const char *name, struct part header, const void *data, size_t size)
{
    struct buf b = {0};
    for (int i = 0; i < 8; i++)
        buf_putc(&b, (char)((uint64_t)header.len >> 8 * i));
    buf_put(&b, header.at, header.len);
    buf_put(&b, data, size);
    fuzz_write(name, b.data, b.len);
    buf_free(&b);
}

/* Reads all n bytes, so that it shows if they are not there. */
static inline void fuzz_touch(const void *p, size_t n)
{
    const volatile unsigned char *bytes = p;
    for (size_t i = 0; i < n; i++)
        (void)bytes[i];
}

/* What has failed must say why. */
static inline void fuzz_said_why(void)
{
    CHECK(err_text()[0]);
    err_set("%s", "");
}

#endif

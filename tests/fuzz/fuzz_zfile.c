/* Files of lines: however they are cut and compressed, the lines given add up to the text; what is written comes back. */
#include "tests/fuzz/fuzz.h"

#include <stdbool.h>

#include "data/zfile.h"

/* Reads all lines, which must be those of the text as far as it goes.  0, or -1: the file is broken. */
static int check_lines(const char *path, const char *text, size_t len)
{
    struct zreader *r = zreader_open(path);
    size_t at = 0, n;
    char *line;
    int rc;
    CHECK(r);
    while ((rc = zreader_line(r, &line, &n)) > 0) {
        if (!text)
            continue;
        const char *newline = memchr(text + at, '\n', len - at);
        size_t whole = newline ? (size_t)(newline - (text + at)) : len - at;
        bool cr = newline && whole && text[at + whole - 1] == '\r';
        CHECK(at < len && n == whole - cr && memcmp(line, text + at, n) == 0 && line[n] == 0);
        at += whole + (newline != NULL);
    }
    if (rc < 0)
        fuzz_said_why();
    CHECK(rc < 0 || !text || at == len);
    CHECK(zreader_bytes_in(r) <= (uint64_t)zreader_size(r));
    zreader_close(r);
    return rc;
}

static void read_as_it_is(const uint8_t *data, size_t size)
{
    const char *path = fuzz_file(data, size);
    size_t len;
    char *text = zfile_read_all(path, &len);
    if (!text)
        fuzz_said_why();
    CHECK(check_lines(path, text, len) == (text ? 0 : -1));
    free(text);
}

/* In pieces, each a frame of its own. */
static void write_and_read(const uint8_t *data, size_t size)
{
    static const char *const names[] = { "a.zst", "a.gz" };
    const char *path = fuzz_path(names[size % 2]);
    struct zwriter *w = zwriter_open(path);
    size_t half = size / 2;
    CHECK(w && zwriter_put(w, data, half) == 0 && zwriter_flush(w) == 0);
    CHECK(zwriter_put(w, data + half, size - half) == 0 && zwriter_close(w) == 0);
    CHECK(check_lines(path, (const char *)data, size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    read_as_it_is(data, size);
    write_and_read(data, size);
    return 0;
}

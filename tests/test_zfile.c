/* Files of lines: every format both ways, every way a file can end, and what must not crash. */
#define _GNU_SOURCE         /* mkdtemp */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"
#include "data/zfile.h"
#include "tests/folder.h"

#define MATERIAL "../shared/material/5-bad-input/zstd/"

static const char *const names[] = { "t.jsonl", "t.jsonl.zst", "t.jsonl.gz" };
enum { N_NAME = sizeof names / sizeof *names };

static void put_file(const char *path, const void *p, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* The bytes of a file as they are. */
static struct buf raw_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    struct buf b = {0};
    char chunk[4096];
    assert_non_null(f);
    for (size_t n; (n = fread(chunk, 1, sizeof chunk, f)) > 0;)
        buf_put(&b, chunk, n);
    fclose(f);
    return b;
}

/* Writes text; a flush after every `every` bytes (0: none). */
static void write_text(const char *path, const char *text, size_t len, size_t every)
{
    struct zwriter *w = zwriter_open(path);
    assert_non_null(w);
    for (size_t at = 0, n; at < len; at += n) {
        n = every && every < len - at ? every : len - at;
        assert_int_equal(zwriter_put(w, text + at, n), 0);
        if (every)
            assert_int_equal(zwriter_flush(w), 0);
    }
    assert_int_equal(zwriter_close(w), 0);
}

/* All lines, each closed by "|"; the last result of zreader_line comes back. */
static int read_lines(const char *path, struct buf *all)
{
    struct zreader *r = zreader_open(path);
    char *line;
    size_t len;
    int rc;
    if (!r)
        return -1;
    while ((rc = zreader_line(r, &line, &len)) == 1) {
        assert_int_equal(line[len], 0);
        buf_put(all, line, len);
        buf_putc(all, '|');
    }
    assert_int_equal(zreader_line(r, &line, &len), rc);     /* and it stays so */
    zreader_close(r);
    return rc;
}

static void test_line_ends(void **state)
{
    (void)state;
    static const struct { const char *text, *want; } cases[] = {
        { "", "" }, { "\n", "|" }, { "a", "a|" }, { "a\n", "a|" }, { "a\nb", "a|b|" }, { "a\r\nb\r\n", "a|b|" }, { "\r\n\r\n", "||" },
        { "a\r", "a\r|" }, { "a\rb\n", "a\rb|" }, { "\n\na\n\n", "||a||" }, { "a\r\r\n", "a\r|" }, { "(\xb5/\xfc\n", "(\xb5/\xfc|" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (size_t k = 0; k < N_NAME; k++)
            for (size_t every = 0; every < 3; every++) {
                struct buf all = {0};
                const char *path = in_folder(names[k]);
                write_text(path, cases[i].text, strlen(cases[i].text), every);
                assert_int_equal(read_lines(path, &all), 0);
                assert_string_equal(all.data ? all.data : "", cases[i].want);
                buf_free(&all);
            }
}

/* The first n bytes of the text came out as lines. */
static void check_same(const struct buf *text, const struct buf *all, size_t n)
{
    struct buf want = {0};
    assert_true(text->len >= n && all->len >= n);
    buf_put(&want, text->data, n);
    for (char *p = want.data; (p = memchr(p, '\n', n - (size_t)(p - want.data)));)
        *p = '|';
    assert_int_equal(memcmp(want.data, all->data, n), 0);
    buf_free(&want);
}

/* Lines of random lengths, some longer than every buffer, with NUL and other bytes in them. */
static struct buf random_text(uint64_t key, size_t size)
{
    struct rng rng;
    struct buf b = {0};
    rng_init(&rng, key);
    while (b.len < size) {
        size_t n = rng_below(&rng, rng_below(&rng, 20) ? 200 : 700000);
        buf_reserve(&b, n + 1);
        for (size_t i = 0; i < n; i++) {
            char c = (char)(rng_below(&rng, 3) ? 'a' + rng_below(&rng, 26) : rng_below(&rng, 256));
            b.data[b.len++] = c == '\n' || c == '\r' ? 0 : c;
        }
        buf_putc(&b, '\n');
    }
    return b;
}

static void test_long_lines(void **state)
{
    (void)state;
    struct buf text = random_text(4, 3 << 20);
    for (size_t k = 0; k < N_NAME; k++) {
        struct buf all = {0};
        const char *path = in_folder(names[k]);
        size_t len = 0;
        write_text(path, text.data, text.len, k == 1 ? 100001 : 0);
        char *whole = zfile_read_all(path, &len);
        assert_non_null(whole);
        assert_int_equal(len, text.len);
        assert_memory_equal(whole, text.data, len);
        assert_int_equal(whole[len], 0);
        free(whole);
        assert_int_equal(read_lines(path, &all), 0);
        assert_int_equal(all.len, text.len);
        check_same(&text, &all, text.len);
        buf_free(&all);
    }
    buf_free(&text);
}

static void test_flushed_is_readable(void **state)
{
    (void)state;
    for (size_t k = 0; k < N_NAME; k++) {
        struct zwriter *w = zwriter_open(in_folder(names[k]));
        for (int i = 0; i < 3; i++) {
            struct buf all = {0};
            assert_int_equal(zwriter_put(w, "one\n", 4), 0);
            assert_int_equal(zwriter_flush(w), 0);
            assert_int_equal(zwriter_flush(w), 0);      /* nothing to do the second time */
            assert_int_equal(read_lines(in_folder(names[k]), &all), 0);
            assert_int_equal(all.len, 4 * (i + 1));
            buf_free(&all);
        }
        assert_int_equal(zwriter_close(w), 0);
    }
}

/* Begun again behind each frame, with less text than was there, more, or none. */
static void test_goes_on(void **state)
{
    (void)state;
    static const char *const texts[] = { "", "x\n", "a longer line than all that was there before\n" };
    for (size_t k = 0; k < N_NAME; k++)
        for (size_t i = 0; i < 4 * 3; i++) {
            const char *path = in_folder(names[k]), *text = texts[i % 3];
            uint64_t ends[4] = { 0 }, size;
            struct buf all = {0}, want = {0};
            struct stat st;
            struct zwriter *w = zwriter_open(path);
            for (size_t frame = 1; frame < 4; frame++) {
                assert_int_equal(zwriter_put(w, "one\n", 4), 0);
                assert_int_equal(zwriter_sync(w, &ends[frame]), 0);
            }
            assert_int_equal(zwriter_put(w, "torn", 4), 0);
            assert_int_equal(zwriter_close(w), 0);
            w = zwriter_open_at(path, ends[i / 3]);
            assert_int_equal(zwriter_put(w, text, strlen(text)), 0);
            assert_int_equal(zwriter_sync(w, &size), 0);
            assert_int_equal(zwriter_close(w), 0);
            assert_int_equal(read_lines(path, &all), 0);
            for (size_t frame = 0; frame < i / 3; frame++)
                buf_puts(&want, "one|");
            buf_put(&want, text, text[0] ? strlen(text) - 1 : 0);
            buf_puts(&want, text[0] ? "|" : "");
            assert_int_equal(all.len, want.len);
            assert_memory_equal(all.data ? all.data : "", want.data, want.len);
            assert_int_equal(stat(path, &st), 0);
            assert_true(size == (uint64_t)st.st_size || (i / 3 == 0 && !text[0]));      /* closed, no text at all is an empty frame */
            buf_free(&all);
            buf_free(&want);
        }
}

static void test_skippable_frames(void **state)
{
    (void)state;
    static const char skip_a[] = "\x50\x2a\x4d\x18\x03\0\0\0abc", skip_b[] = "\x5f\x2a\x4d\x18\0\0\0\0";
    struct buf file = {0}, all = {0};
    for (int i = 0; i < 3; i++) {
        write_text(in_folder("part.zst"), "x\ny", 3, 0);
        struct buf part = raw_file(in_folder("part.zst"));
        buf_put(&file, skip_a, sizeof skip_a - 1);
        buf_put(&file, part.data, part.len);
        buf_put(&file, skip_b, sizeof skip_b - 1);
        buf_free(&part);
    }
    put_file(in_folder("skip"), file.data, file.len);
    assert_int_equal(read_lines(in_folder("skip"), &all), 0);
    assert_string_equal(all.data, "x|yx|yx|y|");
    buf_free(&all);
    buf_free(&file);

    put_file(in_folder("skip"), skip_a, sizeof skip_a - 1);
    assert_int_equal(read_lines(in_folder("skip"), &all), 0);
    put_file(in_folder("skip"), skip_a, sizeof skip_a - 2);
    assert_int_equal(read_lines(in_folder("skip"), &all), -1);
    assert_int_equal(all.len, 0);
}

static void test_gzip_padding(void **state)
{
    (void)state;
    static const struct { const char *tail; size_t n; int rc; } cases[] = { { "\0\0\0", 3, 0 }, { "junk", 4, -1 }, { "\0\x1f", 2, -1 } };
    write_text(in_folder("pad.gz"), "a\nb\n", 4, 2);
    struct buf file = raw_file(in_folder("pad.gz"));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf padded = {0}, all = {0};
        buf_put(&padded, file.data, file.len);
        buf_put(&padded, cases[i].tail, cases[i].n);
        put_file(in_folder("pad"), padded.data, padded.len);
        assert_int_equal(read_lines(in_folder("pad"), &all), cases[i].rc);
        assert_string_equal(all.data, "a|b|");
        buf_free(&padded);
        buf_free(&all);
    }
    buf_free(&file);
}

/* Cut anywhere: the lines before the cut, then -1, unless the cut is between two frames. */
static void test_cut_files(void **state)
{
    (void)state;
    const char *text = "first line\nsecond\nthird one\n", *want = "first line|second|third one|";
    for (size_t k = 1; k < N_NAME; k++) {
        int n_whole = 0;
        write_text(in_folder(names[k]), text, strlen(text), 7);
        struct buf file = raw_file(in_folder(names[k]));
        for (size_t cut = 4; cut < file.len; cut++) {
            struct buf all = {0};
            put_file(in_folder("cut"), file.data, cut);
            int rc = read_lines(in_folder("cut"), &all);
            n_whole += rc == 0;
            if (rc) {
                assert_non_null(strstr(err_text(), k == 1 ? "inside a zstd frame" : "inside a gzip member"));
                assert_memory_equal(all.data ? all.data : "", want, all.len);
            }
            buf_free(&all);
        }
        assert_int_equal(n_whole, (strlen(text) + 6) / 7 - 1);
        buf_free(&file);
    }
}

/* One byte changed anywhere: no crash, and the lines of the frames before it come out right. */
static void test_changed_bytes(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 5);
    for (size_t k = 1; k < N_NAME; k++) {
        write_text(in_folder(names[k]), "a\nbb\nccc\ndddd\n", 14, 2);
        struct buf file = raw_file(in_folder(names[k]));
        for (size_t at = 0; at < file.len; at++) {
            struct buf all = {0};
            char old = file.data[at];
            file.data[at] = (char)rng_u32(&rng);
            put_file(in_folder("bad"), file.data, file.len);
            read_lines(in_folder("bad"), &all);
            if (at > file.len / 2)
                assert_memory_equal(all.data, "a|", 2);
            file.data[at] = old;
            buf_free(&all);
        }
        buf_free(&file);
    }
}

/* A frame of many blocks that goes bad near its end: what stands before is not lost, and the message has the place. */
static void test_broken_late(void **state)
{
    (void)state;
    struct buf text = random_text(6, 4 << 20);
    for (size_t k = 1; k < N_NAME; k++) {
        struct buf all = {0};
        unsigned long long at = 0;
        write_text(in_folder(names[k]), text.data, text.len, 0);
        struct buf file = raw_file(in_folder(names[k]));
        size_t bad = file.len / 10 * 8;
        memset(file.data + bad, 0xff, 150 << 10);       /* over the head of a block, which cannot be 0xff */
        put_file(in_folder("late"), file.data, file.len);
        assert_int_equal(read_lines(in_folder("late"), &all), -1);
        const char *place = strstr(err_text(), "is broken at byte ");
        assert_non_null(place);
        assert_int_equal(sscanf(place, "is broken at byte %llu:", &at), 1);
        assert_in_range(at, bad - (300 << 10), bad + (300 << 10));
        check_same(&text, &all, text.len / 2);
        assert_null(zfile_read_all(in_folder("late"), &(size_t){ 0 }));
        buf_free(&all);
        buf_free(&file);
    }
    buf_free(&text);
}

/* A few kilobytes that unfold to a line over the limit: skipped whole, its length told, the next line is there. */
static void test_overlong_line(void **state)
{
    (void)state;
    static char block[1 << 20];
    memset(block, 'x', sizeof block);
    struct zwriter *w = zwriter_open(in_folder("bomb.zst"));
    zwriter_put(w, "before\n", 7);
    for (int i = 0; i < 280; i++)
        zwriter_put(w, block, sizeof block);
    zwriter_put(w, "\r\nafter\n", 8);
    assert_int_equal(zwriter_close(w), 0);
    struct zreader *r = zreader_open(in_folder("bomb.zst"));
    char *line;
    size_t len;
    assert_true(zreader_size(r) < 100000);
    assert_int_equal(zreader_line(r, &line, &len), 1);
    assert_string_equal(line, "before");
    assert_int_equal(zreader_line(r, &line, &len), 1);
    assert_null(line);
    assert_int_equal(len, (size_t)280 << 20);
    assert_int_equal(zreader_line(r, &line, &len), 1);
    assert_string_equal(line, "after");
    assert_int_equal(len, 5);
    assert_int_equal(zreader_line(r, &line, &len), 0);
    assert_int_equal(zreader_bytes_in(r), zreader_size(r));
    zreader_close(r);
}

/* Standard input as a pipe that gives one byte at a time. */
static void test_pipe(void **state)
{
    (void)state;
    write_text(in_folder("p.zst"), "ab\ncd\n", 6, 3);
    struct buf file = raw_file(in_folder("p.zst")), all = {0};
    int ends[2], saved = dup(STDIN_FILENO), status;
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (!child) {
        for (size_t i = 0; i < file.len; i++)
            if (write(ends[1], file.data + i, 1) != 1)
                _exit(1);
        _exit(0);
    }
    close(ends[1]);
    dup2(ends[0], STDIN_FILENO);
    close(ends[0]);
    assert_int_equal(read_lines("-", &all), 0);
    assert_string_equal(all.data, "ab|cd|");
    assert_true(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    dup2(saved, STDIN_FILENO);
    close(saved);
    buf_free(&file);
    buf_free(&all);
}

static void test_messages(void **state)
{
    (void)state;
    assert_null(zreader_open(in_folder("none")));
    assert_non_null(strstr(err_text(), "/none\": No such file or directory"));
    assert_null(zreader_open("/tmp"));
    assert_string_equal(err_text(), "cannot read \"/tmp\" at byte 0: Is a directory");
    assert_null(zwriter_open(in_folder("no/such")));
    assert_non_null(strstr(err_text(), "cannot create \"/tmp/"));
    assert_null(zfile_read_all(in_folder("none"), &(size_t){ 0 }));
    put_file(in_folder("m"), "\x28\xb5\x2f\xfd\xff\xff\xff\xff", 8);
    assert_int_equal(read_lines(in_folder("m"), &(struct buf){0}), -1);
    assert_non_null(strstr(err_text(), "is broken at byte "));
}

static void test_full_disk(void **state)
{
    (void)state;
    static char block[1 << 20];
    for (size_t k = 0; k < N_NAME; k++) {
        char path[64];
        snprintf(path, sizeof path, "%s/full%s", folder, strchr(names[k], '.'));
        assert_int_equal(symlink("/dev/full", path), 0);
        struct zwriter *w = zwriter_open(path);
        assert_int_equal(zwriter_put(w, "x\n", 2), 0);
        assert_int_equal(zwriter_flush(w), -1);
        assert_non_null(strstr(err_text(), "No space left on device"));
        assert_int_equal(zwriter_put(w, block, sizeof block), -1);
        assert_int_equal(zwriter_close(w), -1);
        assert_non_null(strstr(err_text(), "No space left on device"));
    }
}

/* What zstd itself tests with: no crash, however it is judged. */
static void test_golden_files(void **state)
{
    (void)state;
    static const char *const folders[] = { "golden-decompression", "golden-decompression-errors", "golden-compression", "golden-dictionaries", "dict-files" };
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        char path[512];
        snprintf(path, sizeof path, MATERIAL "%s", folders[i]);
        DIR *dir = opendir(path);
        if (!dir) {
            print_message("skipped: no %s\n", path);
            continue;
        }
        for (struct dirent *d; (d = readdir(dir));) {
            struct buf all = {0};
            snprintf(path, sizeof path, MATERIAL "%s/%s", folders[i], d->d_name);
            if (d->d_name[0] == '.')
                continue;
            int rc = read_lines(path, &all);
            if (!strcmp(d->d_name, "block-128k.zst"))
                assert_true(rc == 0 && all.len >= 131068);
            buf_free(&all);
        }
        closedir(dir);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_line_ends), cmocka_unit_test(test_long_lines), cmocka_unit_test(test_flushed_is_readable), cmocka_unit_test(test_goes_on),
        cmocka_unit_test(test_skippable_frames), cmocka_unit_test(test_gzip_padding), cmocka_unit_test(test_cut_files),
        cmocka_unit_test(test_changed_bytes), cmocka_unit_test(test_broken_late), cmocka_unit_test(test_overlong_line),
        cmocka_unit_test(test_pipe), cmocka_unit_test(test_messages), cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_golden_files),
    };
    return cmocka_run_group_tests_name("zfile", tests, make_folder, drop_folder);
}

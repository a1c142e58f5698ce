/* JSON in and out: our own cases, random round trips, and the public suites where they are at hand. */
#define _GNU_SOURCE         /* memmem, mkstemp */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"
#include "data/json.h"

#define MATERIAL "../shared/material/5-bad-input/"

static struct json *parse(const char *text)
{
    struct json *j = json_parse(text, strlen(text));
    if (!j)
        fail_msg("%s: %s", text, err_text());
    return j;
}

static char *slurp(const char *path, size_t *len)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return NULL;
    struct buf b = {0};
    char chunk[4096];
    for (size_t n; (n = fread(chunk, 1, sizeof chunk, f)) > 0;)
        buf_put(&b, chunk, n);
    fclose(f);
    buf_puts(&b, "");
    *len = b.len;
    return b.data;
}

static void test_values(void **state)
{
    (void)state;
    struct json *j = parse("{\"n\":null,\"b\":true,\"i\":-7,\"w\":2.0,\"r\":2.5,\"s\":\"a\\u0000b\",\"a\":[1,2,3],\"o\":{\"k\":false},\"h\":1e19}");
    int64_t i = 99;
    double x = 99;
    bool b = false;
    size_t len;
    assert_int_equal(json_kind(json_get(j, "n")), JSON_KIND_NULL);
    assert_true(json_bool(json_get(j, "b"), &b) && b);
    assert_false(json_bool(json_get(j, "i"), &b));
    assert_true(json_int(json_get(j, "i"), &i) && i == -7);
    assert_true(json_int(json_get(j, "w"), &i) && i == 2);
    assert_false(json_int(json_get(j, "r"), &i) || json_int(json_get(j, "h"), &i) || json_int(NULL, &i));
    assert_int_equal(i, 2);
    assert_true(json_number(json_get(j, "r"), &x) && x == 2.5);
    assert_true(json_number(json_get(j, "i"), &x) && x == -7);
    assert_false(json_number(json_get(j, "s"), &x));
    assert_memory_equal(json_text(json_get(j, "s"), &len), "a\0b", 4);
    assert_int_equal(len, 3);
    assert_null(json_text(json_get(j, "i"), NULL));
    assert_null(json_text(NULL, NULL));
    assert_int_equal(json_len(json_get(j, "a")), 3);
    assert_true(json_int(json_at(json_get(j, "a"), 2), &i) && i == 3);
    assert_null(json_at(json_get(j, "a"), 3));
    assert_null(json_at(j, 0));
    assert_null(json_get(json_get(j, "a"), "k"));
    assert_int_equal(json_len(j), 9);
    assert_int_equal(json_len(json_get(j, "s")), 0);
    json_free(j);
    json_free(NULL);
}

static void test_kind_names(void **state)
{
    (void)state;
    static const char *const names[] = { "null", "a boolean", "an integer", "a number", "a string", "an array", "an object" };
    struct json *j = parse("[null, false, 1, 1.5, \"\", [], {}]");
    for (size_t i = 0; i < 7; i++)
        assert_string_equal(json_kind_name(json_at(j, i)), names[i]);
    assert_string_equal(json_kind_name(NULL), "nothing");
    json_free(j);
}

static void test_steps_in_order(void **state)
{
    (void)state;
    struct json *j = parse("{\"z\":0,\"a\":1,\"m\":2}");
    struct json *none = parse("{}");
    char keys[4] = "";
    int64_t n = 0, v;
    for (void *it = json_first(j); it; it = json_next(j, it)) {
        assert_true(json_int(json_value(it), &v) && v == n);
        keys[n++] = json_key(it)[0];
    }
    assert_string_equal(keys, "zam");
    assert_null(json_first(none));
    json_free(j);
    json_free(none);
}

static void test_errors(void **state)
{
    (void)state;
    static const struct { const char *text, *want; } cases[] = {
        { "", "line 1, column 0: " },
        { "{\"a\": nul}", "line 1, column 9: " },
        { "[1,\n 2,\n x]", "line 3, column 2: " },
        { "[1] 2", "line 1, column 5: end of file expected" },
        { "\"\\ud800\"", "line 1, column " },
        { "\"\xc3(\"", "line 1, column 1: unable to decode byte 0xc3" },
        { "18446744073709551615", "too big integer" },
        { "1e9999", "real number overflow" },
        { "{\"a\\u0000\": 1}", "NUL byte in object key" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_null(json_parse(cases[i].text, strlen(cases[i].text)));
        if (!strstr(err_text(), cases[i].want))
            fail_msg("\"%s\" instead of \"%s\"", err_text(), cases[i].want);
    }
    assert_null(json_parse("[1,\n2]\0[", 8));
    assert_string_equal(err_text(), "line 2, column 3: NUL byte");
    assert_null(json_parse_line("{} x", 4));
    assert_string_equal(err_text(), "column 4: end of file expected near 'x'");
}

static void test_nesting(void **state)
{
    (void)state;
    for (int depth = 2047; depth <= 2050; depth++) {
        struct buf b = {0}, out = {0};
        for (int i = 0; i < depth; i++)
            buf_putc(&b, '[');
        for (int i = 0; i < depth; i++)
            buf_putc(&b, ']');
        struct json *j = json_parse(b.data, b.len);
        assert_int_equal(j != NULL, depth <= 2048);
        if (j) {
            json_put_json(&out, j);
            assert_string_equal(out.data, b.data);
        }
        json_free(j);
        buf_free(&b);
        buf_free(&out);
    }
}

static void test_put_string(void **state)
{
    (void)state;
    static const struct { const char *s; size_t len; const char *want; } cases[] = {
        { "", 0, "\"\"" },
        { "plain", 5, "\"plain\"" },
        { "\"\\\b\f\n\r\t/", 8, "\"\\\"\\\\\\b\\f\\n\\r\\t/\"" },
        { "\0\x01\x1f\x7f", 4, "\"\\u0000\\u0001\\u001f\x7f\"" },
        { "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9, "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"" },
        { "a\xff" "b", 3, "\"a\xef\xbf\xbd" "b\"" },
        { "\xe2\x82", 2, "\"\xef\xbf\xbd\"" },
        { "\xed\xa0\x80", 3, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"" },
        { "\xf0\x90\x80x", 4, "\"\xef\xbf\xbdx\"" },
        { "\xc0\xaf", 2, "\"\xef\xbf\xbd\xef\xbf\xbd\"" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf b = {0};
        json_put_string(&b, cases[i].s, cases[i].len);
        assert_string_equal(b.data, cases[i].want);
        buf_free(&b);
    }
}

/* Whatever the bytes: what is written can be read, and is the same if it was UTF-8. */
static void test_random_strings(void **state)
{
    (void)state;
    static const unsigned char pool[] = { 0, 9, 10, 'a', 'z', '"', '\\', 0x7f, 0x80, 0xbf, 0xc1, 0xc2, 0xe0, 0xed, 0xa0, 0xef, 0xf0, 0x90, 0xf4, 0x8f, 0xff };
    struct rng rng;
    struct buf b = {0};
    size_t n_valid = 0;
    rng_init(&rng, 1);
    for (int round = 0; round < 50000; round++) {
        char s[16];
        size_t len = rng_below(&rng, sizeof s), at, got;
        for (size_t i = 0; i < len; i++)
            s[i] = (char)pool[rng_below(&rng, sizeof pool)];
        buf_clear(&b);
        json_put_string(&b, s, len);
        struct json *j = json_parse(b.data, b.len);
        assert_non_null(j);
        const char *back = json_text(j, &got);
        bool valid = utf8_valid(s, len, &at);
        assert_int_equal(valid, got == len && !memcmp(back, s, len));
        n_valid += valid;
        json_free(j);
    }
    assert_in_range(n_valid, 5000, 45000);
    buf_free(&b);
}

static void test_put_real(void **state)
{
    (void)state;
    static const struct { double x; const char *want; } cases[] = {
        { 0, "0" }, { 1, "1" }, { -2.5, "-2.5" }, { 0.1, "0.1" }, { 0.1 + 0.2, "0.30000000000000004" }, { 1e300, "1e+300" },
        { 5e-324, "4.94065645841247e-324" }, { 1.0 / 3, "0.3333333333333333" }, { 123456789012345680.0, "1.2345678901234568e+17" },
        { INFINITY, "null" }, { -INFINITY, "null" }, { NAN, "null" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf b = {0};
        json_put_real(&b, cases[i].x);
        assert_string_equal(b.data, cases[i].want);
        buf_free(&b);
    }
}

static void test_put_float(void **state)
{
    (void)state;
    static const struct { float x; const char *want; } cases[] = {
        { 0.1f, "0.1" }, { -2, "-2" }, { 1.0f / 3, "0.33333334" }, { 16777216, "16777216" }, { 1e-45f, "1.4013e-45" }, { -0.0012345679f, "-0.001234568" },
        { INFINITY, "null" }, { NAN, "null" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf b = {0};
        json_put_float(&b, cases[i].x);
        assert_string_equal(b.data, cases[i].want);
        buf_free(&b);
    }
}

static void test_random_reals(void **state)
{
    (void)state;
    struct rng rng;
    struct buf b = {0};
    rng_init(&rng, 2);
    for (int round = 0; round < 20000; round++) {
        uint64_t bits = (uint64_t)rng_u32(&rng) << 32 | rng_u32(&rng);
        double x, back = 0;
        memcpy(&x, &bits, 8);
        if (!isfinite(x))
            continue;
        buf_clear(&b);
        json_put_real(&b, x);
        struct json *j = json_parse(b.data, b.len);
        assert_true(j && json_number(j, &back));
        assert_memory_equal(&back, &x, 8);
        json_free(j);
        float f = (float)x;
        buf_clear(&b);
        json_put_float(&b, f);
        assert_true(isfinite(f) ? strtof(b.data, NULL) == f && b.len <= 15 : !strcmp(b.data, "null"));
    }
    buf_free(&b);
}

static void test_put_json(void **state)
{
    (void)state;
    const char *text = "{\"z\":[null,true,false,-9223372036854775808,2.0,0.1,1e+22,-0.0],\"\xc3\xa9\\n\":{\"e\":{},\"l\":[]}}";
    struct json *j = parse(text);
    struct buf b = {0};
    json_put_json(&b, j);
    assert_string_equal(b.data, text);
    buf_free(&b);
    json_free(j);
}

/* RFC 3629 by its table of code points, the long way. */
static bool is_utf8(const unsigned char *s, size_t len)
{
    for (size_t i = 0, n; i < len; i += n) {
        n = s[i] < 0x80 ? 1 : s[i] >> 5 == 6 ? 2 : s[i] >> 4 == 14 ? 3 : s[i] >> 3 == 30 ? 4 : 0;
        if (!n || n > len - i)
            return false;
        uint32_t cp = n == 1 ? s[i] : s[i] & (0x7fu >> n);
        for (size_t k = 1; k < n; k++) {
            if (s[i + k] >> 6 != 2)
                return false;
            cp = cp << 6 | (s[i + k] & 0x3f);
        }
        static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
        if (cp < least[n] || cp > 0x10ffff || (cp >= 0xd800 && cp < 0xe000))
            return false;
    }
    return true;
}

static void test_utf8_valid(void **state)
{
    (void)state;
    unsigned char s[12] = "abcdefgh";   /* the fast path looks at eight bytes at once */
    for (uint32_t bytes = 0; bytes < 1 << 24; bytes += bytes < 0x800000 ? 0x7f01 : 0x71) {
        size_t at = 0;
        for (size_t k = 0; k < 3; k++)
            s[8 + k] = (unsigned char)(bytes >> (16 - 8 * k));
        s[11] = (unsigned char)(0x80 + bytes % 3 * 0x20);
        for (size_t len = 8; len <= 12; len++) {
            bool good = is_utf8(s, len);
            assert_int_equal(utf8_valid((char *)s, len, &at), good);
            assert_true(good || (at >= 8 && at < len && is_utf8(s, at)));
        }
    }
}

static void test_file(void **state)
{
    (void)state;
    char path[] = "/tmp/tokmill-json-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0 && write(fd, "{\"a\": [1,\n2,, ]}", 16) == 16);
    close(fd);
    assert_null(json_parse_file(path));
    assert_non_null(strstr(err_text(), path));
    assert_non_null(strstr(err_text(), "is not JSON: line 2, column 3: "));
    assert_int_equal(truncate(path, 0), 0);
    assert_null(json_parse_file(path));
    unlink(path);
    assert_null(json_parse_file(path));
    assert_non_null(strstr(err_text(), "cannot read \"/tmp/"));
    assert_null(json_parse_file("/tmp"));
    assert_non_null(strstr(err_text(), "Is a directory"));
}

/* What was parsed is written and read again without a change. */
static void check_round_trip(const struct json *j, const char *name)
{
    struct buf once = {0}, twice = {0};
    json_put_json(&once, j);
    struct json *again = json_parse(once.data, once.len);
    if (!again)
        fail_msg("%s: written as %s: %s", name, once.data, err_text());
    json_put_json(&twice, again);
    assert_string_equal(once.data, twice.data);
    json_free(again);
    buf_free(&once);
    buf_free(&twice);
}

/* Parses the file: 1 good, 0 bad, -1 not there. */
static int judge(const char *path)
{
    size_t len;
    char *text = slurp(path, &len);
    if (!text)
        return -1;
    struct json *j = json_parse(text, len);
    if (j)
        check_round_trip(j, path);
    json_free(j);
    free(text);
    return j != NULL;
}

static void test_json_test_suite(void **state)
{
    (void)state;
    DIR *dir = opendir(MATERIAL "JSONTestSuite");
    int n = 0;
    if (!dir) {
        print_message("skipped: no %s\n", MATERIAL "JSONTestSuite");
        skip();
    }
    for (struct dirent *d; (d = readdir(dir));) {
        char path[512];
        snprintf(path, sizeof path, MATERIAL "JSONTestSuite/%s", d->d_name);
        if (!strstr(d->d_name, ".json"))
            continue;
        int good = judge(path);
        if ((d->d_name[0] == 'y' && good != 1) || (d->d_name[0] == 'n' && good != 0))
            fail_msg("%s is judged %d", d->d_name, good);
        n++;
    }
    closedir(dir);
    assert_true(n > 100);
}

static void judge_folder(const char *folder, int want)
{
    char path[512];
    int n = 0;
    snprintf(path, sizeof path, MATERIAL "jansson/%s", folder);
    DIR *dir = opendir(path);
    if (!dir) {
        print_message("skipped: no %s\n", path);
        skip();
    }
    for (struct dirent *d; (d = readdir(dir));) {
        if (d->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, MATERIAL "jansson/%s/%s/input", folder, d->d_name);
        int good = judge(path);
        if (good >= 0 && good != want)
            fail_msg("%s is judged %d", path, good);
        n += good >= 0;
    }
    closedir(dir);
    assert_true(n > 5);
}

static void test_jansson_suites(void **state)
{
    (void)state;
    judge_folder("valid", 1);
    judge_folder("invalid-unicode", 0);
}

/* "number:valid or invalid:bytes" lines, and the same with U+FFFD as every good decoder puts it. */
static void test_utf8_suite(void **state)
{
    (void)state;
    size_t n, n_ref, at;
    char *text = slurp(MATERIAL "utf8/utf8tests.bin", &n), *ref = slurp(MATERIAL "utf8/utf8.replace.ref.txt", &n_ref);
    if (!text || !ref) {
        print_message("skipped: no %s\n", MATERIAL "utf8");
        skip();
    }
    struct buf out = {0};
    char *want = ref;
    for (char *line = text, *end; (end = memchr(line, '\n', (size_t)(text + n - line))); line = end + 1) {
        size_t len = (size_t)(end - line), got_len = 0;
        char *want_end = memchr(want, '\n', n_ref - (size_t)(want - ref));
        assert_non_null(want_end);
        bool valid = memmem(line, len, ":valid:", 7) != NULL;
        assert_int_equal(utf8_valid(line, len, &at), valid);
        buf_clear(&out);
        json_put_string(&out, line, len);
        struct json *j = parse(out.data);
        const char *got = json_text(j, &got_len);
        assert_int_equal(got_len, want_end - want);
        assert_memory_equal(got, want, got_len);
        json_free(j);
        want = want_end + 1;
    }
    buf_free(&out);
    free(text);
    free(ref);
}

static void test_naughty_strings(void **state)
{
    (void)state;
    struct json *j = json_parse_file(MATERIAL "blns/blns.json");
    if (!j) {
        print_message("skipped: %s\n", err_text());
        skip();
    }
    assert_true(json_len(j) > 400);
    check_round_trip(j, "blns.json");
    json_free(j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values), cmocka_unit_test(test_kind_names), cmocka_unit_test(test_steps_in_order),
        cmocka_unit_test(test_errors), cmocka_unit_test(test_nesting), cmocka_unit_test(test_put_string),
        cmocka_unit_test(test_random_strings), cmocka_unit_test(test_put_real), cmocka_unit_test(test_put_float), cmocka_unit_test(test_random_reals),
        cmocka_unit_test(test_put_json), cmocka_unit_test(test_utf8_valid), cmocka_unit_test(test_file),
        cmocka_unit_test(test_json_test_suite), cmocka_unit_test(test_jansson_suites), cmocka_unit_test(test_utf8_suite),
        cmocka_unit_test(test_naughty_strings),
    };
    return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}

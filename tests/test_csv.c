#define _POSIX_C_SOURCE 200809L     /* mkstemp */
/* The CSV reader on hand-made files, and on what table.h writes. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/rng.h"
#include "data/csv.h"
#include "data/table.h"

static char path[64];

static struct csv *open_text(const char *text, size_t len)
{
    strcpy(path, "/tmp/test_csv.XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0 && write(fd, text, len) == (ssize_t)len);
    close(fd);
    struct csv *c = csv_open(path);
    unlink(path);
    return c;
}

/* Every cell in [], a row in a line; then the message, without the path. */
static void tell(struct buf *b, struct csv *c)
{
    int rc = 1;
    while (c && (rc = csv_next(c)) > 0) {
        buf_printf(b, "%zu", csv_line(c));
        for (size_t i = 0; i < csv_columns(c); i++)
            buf_printf(b, "[%s]", csv_text(c, (int)i));
        buf_putc(b, '\n');
    }
    if (!c || rc < 0)
        buf_puts(b, err_text() + strlen(path));
}

static void files(void **state)
{
    (void)state;
    static const struct { const char *text, *told; } cases[] = {
        { "a,b\n1,2\n", "2[1][2]\n" },
        { "a,b\r\n1,2\r\n\r\n3,", "2[1][2]\n4[3][]\n" },
        { "\xef\xbb\xbf" "a\nx\n", "2[x]\n" },
        { "a,b\n\"x,\"\"y\"\"\",\"1\r\n\n2\"\n\"\",z\n", "2[x,\"y\"][1\n\n2]\n5[][z]\n" },
        { "a\n'=1+1\n'tis\n'\n", "2[=1+1]\n3['tis]\n4[']\n" },
        { "a,b\n1\n", ":2: 1 field, the header has 2" },
        { "a,b\n1,2\n1,2,3\n", "2[1][2]\n:3: 3 fields, the header has 2" },
        { "a\n\"x\ny\n", ":2: a quote opens and never closes" },
        { "a;b\n1,5;\"x;1,2,3\"\n-2,5e-7;1,2\n", "2[1.5][x;1,2,3]\n3[-2.5e-7][1.2]\n" },
        { "a,b,a\n", ":1: column \"a\" is there twice" },
        { "", ": empty: a header row is expected" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf told = {0};
        struct csv *c = open_text(cases[i].text, strlen(cases[i].text));
        tell(&told, c);
        assert_string_equal(told.data, cases[i].told);
        csv_close(c);
        buf_free(&told);
    }
}

static void columns_and_numbers(void **state)
{
    (void)state;
    static const char text[] = "name,x\na,12\nb,-1.5e3\nc,\nd,nan\ne,0x10\nf,1e999\ng,1 \n";
    struct csv *c = open_text(text, strlen(text));
    double x;
    assert_non_null(c);
    assert_string_equal(csv_name(c, 1), "x");
    assert_int_equal(csv_find(c, "x"), 1);
    assert_int_equal(csv_find(c, "X"), -1);
    assert_true(csv_next(c) == 1 && csv_number(c, 1, &x) == 0 && x == 12);
    assert_true(csv_number(c, -1, &x) == 0 && isnan(x));
    assert_string_equal(csv_text(c, -1), "");
    assert_true(csv_next(c) == 1 && csv_number(c, 1, &x) == 0 && x == -1500);
    assert_true(csv_next(c) == 1 && csv_number(c, 1, &x) == 0 && isnan(x));
    for (int row = 5; csv_next(c) > 0; row++) {
        char told[32];
        snprintf(told, sizeof told, ":%d: column \"x\": ", row);
        assert_int_equal(csv_number(c, 1, &x), -1);
        assert_non_null(strstr(err_text(), told));
    }
    csv_close(c);
}

static void too_many_columns(void **state)
{
    (void)state;
    struct buf text = {0};
    for (int i = 0; i <= CSV_MAX_COLUMN; i++)
        buf_printf(&text, "%s%d", i ? "," : "", i);
    struct csv *c = open_text(text.data, (size_t)(strrchr(text.data, ',') - text.data));
    assert_non_null(c);
    assert_int_equal(csv_columns(c), CSV_MAX_COLUMN);
    csv_close(c);
    assert_null(open_text(text.data, text.len));
    buf_free(&text);
    assert_non_null(strstr(err_text(), "more than 256 columns"));
}

/* What table.h writes comes back: texts of the characters that matter, numbers to eight digits. */
static void written_and_read(void **state)
{
    (void)state;
    struct row { const char *text; double x; };
    static const struct column columns[] = { {"text", COLUMN_TEXT, offsetof(struct row, text)}, {"x", COLUMN_REAL, offsetof(struct row, x)}, {0} };
    struct rng r;
    rng_init(&r, 7);
    for (int round = 0; round < 300; round++) {
        char text[9];
        size_t n = rng_below(&r, sizeof text);
        for (size_t i = 0; i < n; i++)
            text[i] = "a,\"\n=;+1 "[rng_below(&r, 9)];
        text[n] = 0;
        struct row row = { text, ((double)rng_uniform(&r) - 0.5) * 1e4 };
        struct buf b = {0};
        table_csv_header(&b, columns);
        table_csv_row(&b, columns, &row);
        struct csv *c = open_text(b.data, b.len);
        double x;
        assert_int_equal(csv_next(c), 1);
        assert_string_equal(csv_text(c, 0), text);
        assert_true(csv_number(c, 1, &x) == 0 && fabs(x - row.x) <= 1e-4);
        assert_int_equal(csv_next(c), 0);
        csv_close(c);
        buf_free(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files), cmocka_unit_test(columns_and_numbers), cmocka_unit_test(too_many_columns), cmocka_unit_test(written_and_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

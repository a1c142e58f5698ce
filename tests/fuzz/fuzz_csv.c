/* CSV files: columns are found by their names, numbers are finite or empty, and what is written of the cells comes back. */
#include "tests/fuzz/fuzz.h"

#include <math.h>
#include <stdbool.h>

#include "data/csv.h"
#include "data/table.h"

enum { MOST = 6 };      /* columns that are written again */

static const char *const names[MOST] = { "a", "b", "c", "d", "e", "f" };

/* The cells as one more row of the text, and one after the other, each with its NUL. */
static void put_row(const struct csv *c, struct buf *text, struct buf *cells)
{
    struct column columns[MOST + 1] = {{0}};
    const char *row[MOST];
    for (size_t i = 0; i < csv_columns(c); i++) {
        columns[i] = (struct column){ names[i], COLUMN_TEXT, i * sizeof *row };
        row[i] = csv_text(c, (int)i);
        buf_put(cells, row[i], strlen(row[i]) + 1);
    }
    if (!text->len)
        table_csv_header(text, columns);
    table_csv_row(text, columns, row);
}

static void check_row(const struct csv *c, size_t before)
{
    CHECK(csv_line(c) > before && !csv_text(c, -1)[0]);
    for (size_t i = 0; i < csv_columns(c); i++) {
        double x;
        CHECK(csv_find(c, csv_name(c, i)) == (int)i);
        if (csv_number(c, (int)i, &x) == 0)
            CHECK(csv_text(c, (int)i)[0] ? isfinite(x) : isnan(x));
        else
            fuzz_said_why();
    }
}

/* Reads the file; of few columns, the rows are written to text, and to cells.  0, or -1: the file is bad. */
static int read_file(const char *path, struct buf *text, struct buf *cells)
{
    struct csv *c = csv_open(path);
    size_t before = 0;
    int rc = -1;
    while (c && (rc = csv_next(c)) > 0) {
        check_row(c, before);
        before = csv_line(c);
        if (csv_columns(c) > 1 && csv_columns(c) <= MOST)       /* an empty cell alone would be a blank line */
            put_row(c, text, cells);
    }
    if (rc < 0)
        fuzz_said_why();
    csv_close(c);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf text = {0}, cells = {0}, again = {0}, back = {0};
    read_file(fuzz_file(data, size), &text, &cells);
    if (text.len) {
        CHECK(read_file(fuzz_file(text.data, text.len), &again, &back) == 0);
        bool breaks = memmem(cells.data, cells.len, "\r\n", 2) != NULL;      /* becomes "\n" */
        CHECK(breaks || (back.len == cells.len && memcmp(back.data, cells.data, back.len) == 0));
    }
    buf_free(&text);
    buf_free(&cells);
    buf_free(&again);
    buf_free(&back);
    return 0;
}

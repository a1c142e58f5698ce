/* CSV files: every row has the header's columns, numbers are finite or empty, and cells that are written come back. */
#include "tests/fuzz/fuzz.h"

#include <math.h>
#include <stdbool.h>

#include "data/csv.h"
#include "data/table.h"

enum { MOST = 6 };      /* columns that are written again */

static void check_cells(const struct csv *c)
{
    for (size_t i = 0; i < c->n_column; i++)
        CHECK(csv_column(c, c->names[i]) == i);
    for (size_t r = 0; r < c->n_row; r++) {
        CHECK(c->lines[r] > (r ? c->lines[r - 1] : 1));
        for (size_t i = 0; i < c->n_column; i++) {
            double x;
            if (csv_number(c, r, i, &x) == 0)
                CHECK(c->rows[r][i][0] ? isfinite(x) : isnan(x));
            else
                fuzz_said_why();
        }
    }
}

/* What a spreadsheet would take for a formula is written with a ' in front. */
static bool same(const char *back, const char *cell)
{
    bool formula = cell[0] && strchr("=+-@", cell[0]);
    return (!formula || back[0] == '\'') && strcmp(back + formula, cell) == 0;
}

static void check_written(const struct csv *c)
{
    static const char *const names[MOST] = { "a", "b", "c", "d", "e", "f" };
    struct column columns[MOST + 1] = {{0}};
    struct buf text = {0};
    struct csv back;
    for (size_t i = 0; i < c->n_column; i++)
        columns[i] = (struct column){ names[i], COLUMN_TEXT, i * sizeof(char *) };
    table_csv_header(&text, columns);
    for (size_t r = 0; r < c->n_row; r++)
        table_csv_row(&text, columns, c->rows[r]);
    if (csv_read(&back, fuzz_file(text.data, text.len)) != 0)
        CHECK(!"a file of ours is read");
    CHECK(back.n_row == c->n_row && back.n_column == c->n_column);
    for (size_t r = 0; r < c->n_row * c->n_column; r++)
        CHECK(same(back.rows[r / c->n_column][r % c->n_column], c->rows[r / c->n_column][r % c->n_column]));
    csv_free(&back);
    buf_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct csv c;
    if (csv_read(&c, fuzz_file(data, size)) == 0) {
        check_cells(&c);
        if (c.n_column > 1 && c.n_column <= MOST)
            check_written(&c);
    } else {
        fuzz_said_why();
    }
    csv_free(&c);
    return 0;
}

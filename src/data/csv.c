#include "data/csv.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "data/table.h"
#include "data/zfile.h"

enum { MAX_COLUMN = 1024, MAX_ROW = 100000 };

/* Splits the line at fields[0 .. most + 1); the fields live as long as the csv. */
static size_t split(struct csv *c, const char *line, size_t len, char **fields, size_t most)
{
    size_t n = table_csv_split(arena_dup(&c->text, line, len), c->separator, fields, most + 1);
    for (size_t i = 0; i < n && c->separator == ';'; i++)
        table_csv_point(fields[i]);
    return n;
}

static int take_header(struct csv *c, const char *line, size_t len)
{
    char *names[MAX_COLUMN + 1];
    if (len >= 3 && memcmp(line, "\xef\xbb\xbf", 3) == 0)      /* a spreadsheet's byte order mark */
        line += 3, len -= 3;
    c->separator = table_csv_separator(line);
    c->n_column = split(c, line, len, names, MAX_COLUMN);
    if (c->n_column > MAX_COLUMN)
        return err_set("%s:1: more than %d columns", c->path, MAX_COLUMN);
    c->names = mem_array(c->n_column, sizeof *c->names);
    memcpy(c->names, names, c->n_column * sizeof *names);
    for (size_t i = 0; i < c->n_column; i++)
        if (csv_column(c, c->names[i]) != i)
            return err_set("%s:1: column \"%s\" is there twice", c->path, c->names[i]);
    return 0;
}

static int take_row(struct csv *c, const char *line, size_t len, size_t number)
{
    char *fields[MAX_COLUMN + 1];
    size_t n = split(c, line, len, fields, c->n_column);
    if (n != c->n_column)
        return err_set("%s:%zu: %zu fields%s, the header has %zu", c->path, number, n, n > c->n_column ? " or more" : "", c->n_column);
    if (c->n_row == MAX_ROW)
        return err_set("%s:%zu: more than %d rows", c->path, number, MAX_ROW);
    if ((c->n_row & (c->n_row - 1)) == 0) {        /* a power of two, or 0: full */
        c->rows = mem_resize(c->rows, c->n_row ? 2 * c->n_row : 1, sizeof *c->rows);
        c->lines = mem_resize(c->lines, c->n_row ? 2 * c->n_row : 1, sizeof *c->lines);
    }
    c->rows[c->n_row] = arena_alloc(&c->text, n * sizeof *fields);
    memcpy(c->rows[c->n_row], fields, n * sizeof *fields);
    c->lines[c->n_row++] = number;
    return 0;
}

static int take_line(struct csv *c, const char *line, size_t len, size_t number)
{
    if (!line)
        return err_set("%s:%zu: the line has %zu bytes, more than %zu", c->path, number, len, ZFILE_MAX_LINE);
    if (memchr(line, 0, len))
        return err_set("%s:%zu: NUL byte: not a CSV file", c->path, number);
    if (number == 1)
        return take_header(c, line, len);
    return len ? take_row(c, line, len, number) : 0;
}

int csv_read(struct csv *c, const char *path)
{
    *c = (struct csv){ .path = path };
    struct zreader *r = zreader_open(path);
    if (!r)
        return -1;
    char *line;
    size_t len, number = 0;
    int rc, bad = 0;
    while (!bad && (rc = zreader_line(r, &line, &len)) > 0)
        bad = take_line(c, line, len, ++number);
    zreader_close(r);
    if (bad || rc < 0)
        return -1;
    return number ? 0 : err_set("%s: empty; a header row is expected", path);
}

void csv_free(struct csv *c)
{
    arena_free(&c->text);
    free(c->names);
    free(c->rows);
    free(c->lines);
    *c = (struct csv){0};
}

size_t csv_column(const struct csv *c, const char *name)
{
    for (size_t i = 0; i < c->n_column; i++)
        if (strcmp(c->names[i], name) == 0)
            return i;
    return CSV_NONE;
}

int csv_number(const struct csv *c, size_t row, size_t column, double *out)
{
    *out = (double)NAN;
    if (column == CSV_NONE || !c->rows[row][column][0])
        return 0;
    const char *text = c->rows[row][column];
    char *end;
    double x = strtod(text, &end);
    if (*end || !isfinite(x))
        return err_set("%s:%zu: %s: \"%s\" is not a number", c->path, c->lines[row], c->names[column], text);
    *out = x;
    return 0;
}

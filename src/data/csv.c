#include "data/csv.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "data/table.h"
#include "data/zfile.h"

struct csv {
    struct zreader *file;
    char *path;
    struct buf header, row;                    /* what names and cells point into */
    char *names[CSV_MAX_COLUMN + 1], *cells[CSV_MAX_COLUMN + 1];
    size_t n_column;
    char separator;
    size_t line, n_line;                       /* where the row began; lines read */
};

static size_t count_quotes(const char *s, size_t len)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++)
        n += s[i] == '"';
    return n;
}

/* One line more of the record; a line break within quotes is part of it. */
static int read_line(struct csv *c, struct buf *record)
{
    char *line;
    size_t len;
    int rc = zreader_line(c->file, &line, &len);
    if (rc <= 0)
        return rc;
    c->n_line++;
    if (!line || record->len + len > ZFILE_MAX_LINE)
        return err_set("%s:%zu: the row is longer than %zu bytes", c->path, c->n_line, ZFILE_MAX_LINE);
    if (memchr(line, 0, len))
        return err_set("%s:%zu: a NUL byte", c->path, c->n_line);
    buf_put(record, line, len);
    return 1;
}

/* 1: a record, which is not blank; 0: end of file. */
static int read_record(struct csv *c, struct buf *record)
{
    int rc;
    buf_clear(record);
    do
        rc = read_line(c, record);
    while (rc > 0 && !record->len);
    if (rc <= 0)
        return rc;
    c->line = c->n_line;
    size_t quotes = count_quotes(record->data, record->len);
    while (quotes % 2) {
        buf_putc(record, '\n');
        size_t from = record->len;
        if ((rc = read_line(c, record)) <= 0)
            return rc ? rc : err_set("%s:%zu: a quote opens and never closes", c->path, c->line);
        quotes += count_quotes(record->data + from, record->len - from);
    }
    return 1;
}

static int read_header(struct csv *c)
{
    int rc = read_record(c, &c->header);
    if (rc < 0)
        return -1;
    if (rc == 0)
        return err_set("%s: empty: a header row is expected", c->path);
    char *text = c->header.data;
    text += strncmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;     /* spreadsheets write a byte order mark */
    c->separator = table_csv_separator(text);
    c->n_column = table_csv_split(text, c->separator, c->names, CSV_MAX_COLUMN + 1);
    if (c->n_column > CSV_MAX_COLUMN)
        return err_set("%s:1: more than %d columns", c->path, CSV_MAX_COLUMN);
    for (size_t i = 0; i < c->n_column; i++)
        if (csv_find(c, c->names[i]) != (int)i)
            return err_set("%s:1: column \"%s\" is there twice", c->path, c->names[i]);
    return 0;
}

struct csv *csv_open(const char *path)
{
    struct zreader *file = zreader_open(path);
    if (!file)
        return NULL;
    struct csv *c = mem_alloc(sizeof *c);
    c->file = file;
    c->path = mem_dup(path, strlen(path));
    if (read_header(c) == 0)
        return c;
    csv_close(c);
    return NULL;
}

void csv_close(struct csv *c)
{
    if (!c)
        return;
    zreader_close(c->file);
    buf_free(&c->header);
    buf_free(&c->row);
    free(c->path);
    free(c);
}

size_t csv_columns(const struct csv *c)
{
    return c->n_column;
}

const char *csv_name(const struct csv *c, size_t column)
{
    return c->names[column];
}

int csv_find(const struct csv *c, const char *name)
{
    for (size_t i = 0; i < c->n_column; i++)
        if (strcmp(c->names[i], name) == 0)
            return (int)i;
    return -1;
}

int csv_next(struct csv *c)
{
    int rc = read_record(c, &c->row);
    if (rc <= 0)
        return rc;
    size_t n = table_csv_split(c->row.data, c->separator, c->cells, CSV_MAX_COLUMN + 1);
    if (n != c->n_column)
        return err_set("%s:%zu: %zu field%s, the header has %zu", c->path, c->line, n, n == 1 ? "" : "s", c->n_column);
    for (size_t i = 0; i < n && c->separator == ';'; i++)
        table_csv_point(c->cells[i]);
    for (size_t i = 0; i < n; i++)
        if (c->cells[i][0] == '\'' && c->cells[i][1] && strchr("=+-@", c->cells[i][1]))
            c->cells[i]++;
    return 1;
}

size_t csv_line(const struct csv *c)
{
    return c->line;
}

const char *csv_text(const struct csv *c, int column)
{
    return column < 0 ? "" : c->cells[column];
}

int csv_to_number(const char *text, double *x)
{
    char *end;
    *x = (double)NAN;
    if (!*text)
        return 0;
    if (text[strspn(text, "0123456789.eE+-")])     /* strtod would also take hexadecimal, inf and nan */
        return -1;
    double value = strtod(text, &end);
    if (*end || end == text || !isfinite(value))
        return -1;
    *x = value;
    return 0;
}

int csv_number(const struct csv *c, int column, double *x)
{
    const char *text = csv_text(c, column);
    if (csv_to_number(text, x))
        return err_set("%s:%zu: column \"%s\": \"%.40s\" is not a number", c->path, c->line, c->names[column], text);
    return 0;
}

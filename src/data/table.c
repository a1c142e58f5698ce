#include "data/table.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "data/json.h"

/* About eight digits, without an exponent wherever that is short enough for a spreadsheet.  Exactly three decimals
 * would be read as thousands under some locales: a zero is added. */
static void put_real(struct buf *b, double x)
{
    char text[64];
    double size = fabs(x);
    if (size != 0 && (size < 1e-9 || size >= 1e15)) {
        buf_printf(b, "%.9g", x);
        return;
    }
    int before = size >= 1 ? (int)log10(size) + 1 : 0;
    int decimals = before >= 7 ? 2 : size < 1e-3 ? 12 : 8 - before;
    int n = snprintf(text, sizeof text, "%.*f", decimals, x);
    while (text[n - 1] == '0')
        n--;
    if (text[n - 1] == '.')
        n--;
    buf_put(b, text, (size_t)n);
    const char *point = memchr(text, '.', (size_t)n);
    if (point && text + n - point == 4)
        buf_putc(b, '0');
}

static char separator = ',';

void table_csv_dialect(enum csv_dialect d)
{
    separator = d == CSV_SEMICOLON ? ';' : ',';
}

static void put_csv_text(struct buf *b, const char *s)
{
    bool formula = s[0] && strchr("=+-@", s[0]);
    bool quote = strpbrk(s, ",;\"\r\n") != NULL;
    if (quote)
        buf_putc(b, '"');
    if (formula)
        buf_putc(b, '\'');
    for (; *s; s++) {
        if (*s == '"')
            buf_putc(b, '"');
        buf_putc(b, *s);
    }
    if (quote)
        buf_putc(b, '"');
}

/* false: the cell is empty */
static bool put_number(struct buf *b, const struct column *c, const void *field)
{
    switch (c->kind) {
    case COLUMN_U32:  buf_printf(b, "%u", *(const uint32_t *)field); return true;
    case COLUMN_U64:  buf_printf(b, "%llu", (unsigned long long)*(const uint64_t *)field); return true;
    case COLUMN_I64:  buf_printf(b, "%lld", (long long)*(const int64_t *)field); return true;
    case COLUMN_REAL:
        if (!isfinite(*(const double *)field))
            return false;
        put_real(b, *(const double *)field);
        return true;
    case COLUMN_BOOL: buf_puts(b, *(const bool *)field ? "true" : "false"); return true;
    case COLUMN_TEXT: break;
    }
    return false;
}

static void put_csv_cell(struct buf *b, const struct column *c, const void *row)
{
    const void *field = (const char *)row + c->at;
    size_t begin = b->len;
    if (c->kind != COLUMN_TEXT)
        put_number(b, c, field);
    char *point = c->kind == COLUMN_REAL && separator == ';' && b->len > begin ? memchr(b->data + begin, '.', b->len - begin) : NULL;
    if (point)
        *point = ',';
    if (c->kind != COLUMN_TEXT)
        return;
    if (*(char *const *)field)
        put_csv_text(b, *(char *const *)field);
}

void table_csv_header(struct buf *b, const struct column *columns)
{
    for (const struct column *c = columns; c->name; c++) {
        if (c != columns)
            buf_putc(b, separator);
        buf_puts(b, c->name);
    }
    buf_puts(b, "\r\n");
}

void table_csv_row(struct buf *b, const struct column *columns, const void *row)
{
    for (const struct column *c = columns; c->name; c++) {
        if (c != columns)
            buf_putc(b, separator);
        put_csv_cell(b, c, row);
    }
    buf_puts(b, "\r\n");
}

char table_csv_separator(const char *header)
{
    return header[strcspn(header, ",;")] == ';' ? ';' : ',';
}

void table_csv_point(char *field)
{
    char *comma = strchr(field, ',');
    if (comma && strspn(field, "+-0123456789eE,") == strlen(field) && !strchr(comma + 1, ','))
        *comma = '.';
}

size_t table_csv_split(char *line, char by, char **fields, size_t max)
{
    size_t n = 0;
    char *at = line;
    while (n < max) {
        char *to = at;
        bool quoted = *at == '"';
        fields[n++] = to;
        at += quoted;
        for (; *at && (quoted || *at != by); at++) {
            if (quoted && *at == '"' && at[1] != '"')
                quoted = false;                 /* the closing quote */
            else
                *to++ = *at, at += quoted && *at == '"';
        }
        bool more = *at == by;
        *to = 0;
        if (!more)
            break;
        at++;
    }
    return n;
}

void table_json_members(struct buf *b, const struct column *columns, const void *row)
{
    for (const struct column *c = columns; c->name; c++) {
        const void *field = (const char *)row + c->at;
        buf_printf(b, "%s\"%s\":", c == columns ? "" : ",", c->name);
        const char *text = c->kind == COLUMN_TEXT ? *(char *const *)field : NULL;
        if (text)
            json_put_string(b, text, strlen(text));
        else if (c->kind == COLUMN_TEXT || !put_number(b, c, field))
            buf_puts(b, "null");
    }
}

void table_json_object(struct buf *b, const struct column *columns, const void *row)
{
    buf_putc(b, '{');
    table_json_members(b, columns, row);
    buf_putc(b, '}');
}

/* For people: large numbers without decimals, small ones with a few digits. */
static void put_short(struct buf *b, const struct column *c, const void *row)
{
    const void *field = (const char *)row + c->at;
    if (c->kind == COLUMN_REAL && isfinite(*(const double *)field)) {
        double x = *(const double *)field, size = fabs(x);
        buf_printf(b, "%.*f", size == 0 || size >= 1000 ? 0 : size >= 10 ? 1 : size >= 0.1 ? 2 : size >= 0.001 ? 4 : 7, x);
    } else {
        put_csv_cell(b, c, row);
    }
}

static const struct column *find_column(const struct column *columns, const char *name, size_t len)
{
    for (; columns->name; columns++)
        if (strlen(columns->name) == len && memcmp(columns->name, name, len) == 0)
            return columns;
    return NULL;
}

struct shown { const struct column *column; int width; };

static size_t choose_columns(const struct column *columns, const char *names, struct shown *shown, size_t max)
{
    size_t n = 0;
    while (*names && n < max) {
        size_t len = strcspn(names, ",");
        const struct column *c = find_column(columns, names, len);
        if (c)
            shown[n++] = (struct shown){ c, (int)len };
        names += len + (names[len] == ',');
    }
    return n;
}

void table_print(FILE *to, const struct column *columns, const char *names, const void *rows, size_t n, size_t row_size)
{
    struct shown shown[32];
    size_t n_shown = choose_columns(columns, names, shown, 32);
    struct buf cell = {0};
    for (size_t r = 0; r < n * n_shown; r++) {
        struct shown *s = &shown[r % n_shown];
        buf_clear(&cell);
        put_short(&cell, s->column, (const char *)rows + r / n_shown * row_size);
        s->width = (int)cell.len > s->width ? (int)cell.len : s->width;
    }
    for (size_t i = 0; i < n_shown; i++)
        fprintf(to, "%s%*s", i ? "  " : "", i ? shown[i].width : -shown[i].width, shown[i].column->name);
    fputc('\n', to);
    for (size_t r = 0; r < n * n_shown; r++) {
        size_t i = r % n_shown;
        buf_clear(&cell);
        put_short(&cell, shown[i].column, (const char *)rows + r / n_shown * row_size);
        fprintf(to, "%s%*s%s", i ? "  " : "", i ? shown[i].width : -shown[i].width, cell.len ? cell.data : "", i + 1 == n_shown ? "\n" : "");
    }
    buf_free(&cell);
}

/* table.h - typed rows to CSV (RFC 4180, results/README.md says the rest) and to JSON, keys equal to the CSV's columns.
 * A column is a field of a row struct; numbers never depend on the locale and never have exactly three decimals. */
#ifndef DATA_TABLE_H
#define DATA_TABLE_H

#include <stddef.h>
#include <stdio.h>

#include "base/buf.h"

enum column_kind { COLUMN_TEXT, COLUMN_U32, COLUMN_U64, COLUMN_I64, COLUMN_REAL, COLUMN_BOOL };

struct column { const char *name; enum column_kind kind; size_t at; };     /* name NULL ends the list; a NaN real is an empty cell / null */

/* How CSV is written from here on, for the whole program: with commas and decimal points, or with semicolons and decimal commas, as
 * spreadsheets of many countries want it. */
enum csv_dialect { CSV_COMMA, CSV_SEMICOLON };
void table_csv_dialect(enum csv_dialect d);

void table_csv_header(struct buf *b, const struct column *columns);
void table_csv_row(struct buf *b, const struct column *columns, const void *row);
void table_json_object(struct buf *b, const struct column *columns, const void *row);      /* {"a":1,...}, no newline */
void table_json_members(struct buf *b, const struct column *columns, const void *row);     /* "a":1,... */

/* Splits one CSV line in place (RFC 4180 quotes; a field holds no line break); returns the number of fields, at most max. */
size_t table_csv_split(char *line, char separator, char **fields, size_t max);

/* Which separator the header has; and, of a field of the semicolon dialect, in place: a number gets its decimal point. */
char table_csv_separator(const char *header);
void table_csv_point(char *field);

/* For people: the columns named ("stage,items,busy_s"), the first one flush left, numbers shortened. */
void table_print(FILE *to, const struct column *columns, const char *names, const void *rows, size_t n, size_t row_size);

#endif

/* csv.h - a CSV file read row by row, by the names of its columns: RFC 4180, plain or compressed.  The first row is the header.
 * Memory is that of one row.  Of either dialect of table.h, which the header tells; numbers have a decimal point all the same.  What
 * table.h writes is read back as it was: the quote before a formula is taken off again; a line break within a cell is "\n". */
#ifndef DATA_CSV_H
#define DATA_CSV_H

#include <stddef.h>

#define CSV_MAX_COLUMN 256

struct csv;

struct csv *csv_open(const char *path);        /* reads the header; NULL: err_text() */
void        csv_close(struct csv *c);          /* c may be NULL */

size_t      csv_columns(const struct csv *c);
const char *csv_name(const struct csv *c, size_t column);
int         csv_find(const struct csv *c, const char *name);   /* a column's index; -1: there is none */

/* The next row, blank lines passed over.  1: a row; 0: end of file; -1: err_text() says file, line and what. */
int         csv_next(struct csv *c);
size_t      csv_line(const struct csv *c);     /* where the row begins, from 1 */

/* Cells of the row; column -1 is an empty cell.  Valid until the next row. */
const char *csv_text(const struct csv *c, int column);
int         csv_number(const struct csv *c, int column, double *x);    /* an empty cell is NaN; 0, or -1: err_text() */

/* The same for a text that came from elsewhere: 0, or -1 without a message. */
int         csv_to_number(const char *text, double *x);

#endif

/* csv.h - a CSV file with a header row, read whole: cells by row and column.  For files that people may have edited:
 * what does not fit is refused with file and line, and semicolons are told by the header.  Fields hold no line breaks; blank lines are passed over.
 * Owns its text. */
#ifndef DATA_CSV_H
#define DATA_CSV_H

#include <stddef.h>

#include "base/mem.h"

#define CSV_NONE ((size_t)-1)

struct csv {
    const char *path;              /* borrowed */
    struct arena text;
    char separator;                /* of either dialect (data/table.h); numbers have a point all the same */
    char **names; size_t n_column;
    char ***rows;                  /* [n_row][n_column] */
    size_t *lines;                 /* [n_row]: where each stands, from 1 */
    size_t n_row;
};

/* At most 1,024 columns and 100,000 rows.  0, or -1: err_text(); csv_free in both cases. */
int  csv_read(struct csv *c, const char *path);
void csv_free(struct csv *c);

size_t csv_column(const struct csv *c, const char *name);      /* CSV_NONE: no such column */

/* A cell as a number, NaN for an empty cell or column CSV_NONE.  0, or -1: it is no finite number (err_text()). */
int csv_number(const struct csv *c, size_t row, size_t column, double *out);

#endif

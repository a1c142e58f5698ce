/* opt.h - options as rows of one table: parsing (over getopt_long), --help, the man page's option list and
 * the shell completion all come from it.  A row writes into a field of the caller's struct. */
#ifndef BASE_OPT_H
#define BASE_OPT_H

#include <stddef.h>

#include "base/buf.h"

enum opt_kind {
    OPT_FLAG,          /* bool; no argument */
    OPT_TEXT,          /* const char *, borrowed from argv */
    OPT_CHOICE,        /* int: index into the words of `choices` */
    OPT_INT,           /* int64_t */
    OPT_REAL,          /* double */
    OPT_SIZE,          /* int64_t bytes: 1048576, 64KiB, 8GiB, 2GB */
    OPT_DURATION,      /* double seconds: 200ms, 1.5s, 10m, 2h; a bare number is seconds */
    OPT_LIST,          /* struct opt_list: may be given again and again; borrowed from argv */
};

enum { OPT_LIST_MAX = 64 };
struct opt_list { const char *texts[OPT_LIST_MAX]; size_t n; };

struct opt {
    const char *name;          /* long name without dashes; NULL with help set: a group's heading; NULL alone ends the table */
    char letter;               /* short form or 0 */
    enum opt_kind kind;
    const char *arg;           /* what --help calls the argument: "N", "FILE" */
    size_t at;                 /* offsetof the field */
    const char *def;           /* default, written as the user would; NULL: field stays zero */
    const char *help;          /* one sentence, no full stop */
    const char *choices;       /* OPT_CHOICE: "auto|cpu|cuda:N" style words */
    double min, max;           /* INT, REAL, SIZE, DURATION: limits; both 0: none */
};

/* Sets the defaults, then parses argv[1..]; *rest is the index of the first operand in argv (operands may stand
 * between options; they are moved to the end).  --help and -h set *help and stop there.
 * Returns 0, or -1 with the message in err_text(). */
int opt_parse(const struct opt *table, void *into, int argc, char **argv, int *rest, int *help);

/* Parses one value as the kind of the row says, into the row's field (also used for the defaults). */
int opt_set(const struct opt *row, void *into, const char *value);

/* Appends the option's value as the user would write it; a flag is "yes" or "no", a text that was not given nothing. */
void opt_put_value(struct buf *b, const struct opt *row, const void *from);

void opt_print_help(const struct opt *table);                          /* the option list of --help, on stdout */
void opt_print_man(const struct opt *table);                           /* the same as scdoc source */
void opt_print_words(const struct opt *table);                         /* "--name" words for the completion */

#endif

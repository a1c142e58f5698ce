/* env.h - the environment.  Here alone it is read. */
#ifndef BASE_ENV_H
#define BASE_ENV_H

#include <stdint.h>

const char *env_text(const char *name);                /* NULL: not set, or empty */
int         env_count(const char *name, uint64_t *n);  /* 1: a whole number; 0: not set, or empty; -1: something else, err_text() */

#endif

/* tok_onig.h - regular expressions as Oniguruma reads them, rewritten for PCRE2.
 * The two agree on most of the syntax; this closes the gaps that tokenizers meet: \s \w \b \h, their opposites, [:punct:]
 * and the like have other members, {2,3}+ is a repeated repeat and not possessive, {,3} begins at 0, (?m:) lets the dot
 * match a newline, \p takes long names, classes nest and intersect (&&).  Checked against Oniguruma 6.9 over all code points. */
#ifndef DATA_TOK_ONIG_H
#define DATA_TOK_ONIG_H

#include <stddef.h>

#include "base/buf.h"

/* Appends the rewritten pattern. 0, or -1: err_text() says what has no counterpart. */
int tok_onig_to_pcre(const char *pattern, size_t len, struct buf *out);

#endif

/* cache.h - where the program keeps what it could also work out again; the user may delete it at any time. */
#ifndef BASE_CACHE_H
#define BASE_CACHE_H

#include <stddef.h>

/* "$XDG_CACHE_HOME/tokmill/NAME", or "$HOME/.cache/tokmill/NAME" where that is not set (XDG Base Directory Specification 0.8), its
 * folders made.  0, or -1: there is no such place; err_text(). */
int cache_path(char *path, size_t size, const char *name);

/* Writes a whole file beside the old one and puts it in its place, so that a reader finds one or the other, also when two
 * processes write.  0, or -1: err_text(). */
int cache_write(const char *path, const void *data, size_t len);

#endif

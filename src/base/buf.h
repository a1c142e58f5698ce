/* buf.h - a growing run of bytes.  Owns its memory; a zeroed buf is empty and safe to free.
 * data is NUL-closed after every call but may hold NUL bytes within len. */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stddef.h>

struct buf { char *data; size_t len, cap; };

void buf_reserve(struct buf *b, size_t more);      /* room for `more` bytes beyond len */
void buf_put(struct buf *b, const void *p, size_t n);
void buf_puts(struct buf *b, const char *s);
void buf_putc(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_clear(struct buf *b);                     /* len = 0, memory kept */
void buf_free(struct buf *b);

#endif

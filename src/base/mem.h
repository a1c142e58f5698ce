/* mem.h - memory that is there or the program ends: no caller tests for NULL.
 * Sizes are in bytes and are products of size_t; mem_array checks the product. */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stddef.h>

void *mem_alloc(size_t size);                      /* zeroed */
void *mem_array(size_t n, size_t size);            /* n elements, zeroed */
void *mem_resize(void *p, size_t n, size_t size);  /* n elements; what is new is not zeroed */
char *mem_dup(const char *s, size_t len);          /* a copy with a closing NUL */

/* Whole pages, zeroed, aligned to 2 MiB and asked to be huge pages: for weights, KV and other big blocks. */
void *mem_pages(size_t size);
void  mem_pages_free(void *p, size_t size);

/* Arena: many small things with one life.  A zeroed arena is empty. */
struct arena { struct arena_chunk *last; };
void *arena_alloc(struct arena *a, size_t size);   /* zeroed, aligned to 16 */
char *arena_dup(struct arena *a, const char *s, size_t len);
void  arena_free(struct arena *a);

#endif

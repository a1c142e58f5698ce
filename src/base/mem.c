#define _DEFAULT_SOURCE     /* madvise */
#include "base/mem.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/err.h"

#define HUGE_PAGE ((size_t)2 << 20)
#define ARENA_FIRST ((size_t)1 << 10)      /* chunks double from here .. */
#define ARENA_CHUNK ((size_t)64 << 10)     /* .. to here */

struct arena_chunk { struct arena_chunk *next; size_t used, size; };

static void *or_die(void *p, size_t size)
{
    if (!p)
        die("out of memory: %zu bytes asked for", size);
    return p;
}

void *mem_alloc(size_t size)
{
    return or_die(calloc(1, size ? size : 1), size);
}

void *mem_array(size_t n, size_t size)
{
    return or_die(calloc(n ? n : 1, size ? size : 1), n * size);
}

void *mem_resize(void *p, size_t n, size_t size)
{
    return or_die(reallocarray(p, n ? n : 1, size ? size : 1), n * size);
}

char *mem_dup(const char *s, size_t len)
{
    char *copy = mem_alloc(len + 1);
    memcpy(copy, s, len);
    return copy;
}

static size_t whole_pages(size_t size)
{
    return (size + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
}

void *mem_pages(size_t size)
{
    size_t want = whole_pages(size);
    char *base = mmap(NULL, want + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        or_die(NULL, size);
    char *p = (char *)(((uintptr_t)base + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);
    if (p > base)
        munmap(base, (size_t)(p - base));
    if (p < base + HUGE_PAGE)
        munmap(p + want, (size_t)(base + HUGE_PAGE - p));
    madvise(p, want, MADV_HUGEPAGE);
    return p;
}

void mem_pages_free(void *p, size_t size)
{
    if (p)
        munmap(p, whole_pages(size));
}

void *arena_alloc(struct arena *a, size_t size)
{
    size = (size + 15) & ~(size_t)15;
    struct arena_chunk *c = a->last;
    if (!c || c->size - c->used < size) {
        size_t room = !c ? ARENA_FIRST : c->size < ARENA_CHUNK ? c->size * 2 : ARENA_CHUNK;
        room = size > room ? size : room;
        c = mem_alloc(sizeof *c + 16 + room);
        *c = (struct arena_chunk){ .next = a->last, .size = room };
        a->last = c;
    }
    char *first = (char *)(((uintptr_t)(c + 1) + 15) & ~(uintptr_t)15);
    void *p = first + c->used;
    c->used += size;
    return p;
}

char *arena_dup(struct arena *a, const char *s, size_t len)
{
    char *copy = arena_alloc(a, len + 1);
    memcpy(copy, s, len);
    return copy;
}

void arena_free(struct arena *a)
{
    while (a->last) {
        struct arena_chunk *c = a->last;
        a->last = c->next;
        free(c);
    }
}

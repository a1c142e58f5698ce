/* fail_alloc.c - loaded before the program (LD_PRELOAD): allocation number FAIL_AT fails, counted from 1 over malloc, calloc, realloc,
 * reallocarray, aligned_alloc, memalign, posix_memalign, and mmap of files and of large memory.  (Small maps are oneDNN's for the code it
 * makes, and it does not look whether they failed.)  FAIL_COUNT names a file for how many there were. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* glibc's own names of what is replaced here. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t align, size_t size);

static atomic_long n_call;
static long fail_at;

/* Before main: what the loader and constructors allocate is not counted. */
__attribute__((constructor)) static void begin(void)
{
    const char *at = getenv("FAIL_AT");
    atomic_store(&n_call, 0);
    fail_at = at ? atol(at) : 0;
}

__attribute__((destructor)) static void end(void)
{
    const char *path = getenv("FAIL_COUNT");
    long n = atomic_load(&n_call);
    fail_at = 0;
    FILE *f = path ? fopen(path, "w") : NULL;
    if (f) {
        fprintf(f, "%ld\n", n);
        fclose(f);
    }
}

static bool fails(void)
{
    if (atomic_fetch_add(&n_call, 1) + 1 != fail_at)
        return false;
    errno = ENOMEM;
    return true;
}

void *malloc(size_t size)
{
    return fails() ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    return fails() ? NULL : __libc_calloc(n, size);
}

void *realloc(void *p, size_t size)
{
    return fails() ? NULL : __libc_realloc(p, size);
}

void *reallocarray(void *p, size_t n, size_t size)
{
    size_t whole;
    return __builtin_mul_overflow(n, size, &whole) || fails() ? NULL : __libc_realloc(p, whole);
}

void *aligned_alloc(size_t align, size_t size)
{
    return fails() ? NULL : __libc_memalign(align, size);
}

void *memalign(size_t align, size_t size)
{
    return aligned_alloc(align, size);
}

int posix_memalign(void **p, size_t align, size_t size)
{
    *p = aligned_alloc(align, size);
    return *p ? 0 : ENOMEM;
}

void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    static void *(*real)(void *, size_t, int, int, int, off_t);
    if (!real)
        real = (void *(*)(void *, size_t, int, int, int, off_t))dlsym(RTLD_NEXT, "mmap");
    bool counts = fd >= 0 || size >= (size_t)1 << 20;
    return counts && fails() ? MAP_FAILED : real(at, size, protection, flags, fd, offset);
}

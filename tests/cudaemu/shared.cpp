/* shared.cpp - the shared memory of the block that runs: the dynamic part, then each array at its first use, all between
 * zones that nobody may touch; not a number at first. */
#include <cstdio>
#include <sys/mman.h>

#include "core.h"
#ifdef EMU_ASAN
#include <sanitizer/asan_interface.h>
#endif

enum { ZONE = 128, MOST_ARRAYS = 64, ARENA = 512 << 10, MARK = 0xa5 };

struct array { const void *key; const char *name; size_t start, size; };

static char *arena;
static size_t top;                     /* of what is in use, the last zone included */
static struct array array[MOST_ARRAYS];
static int n_array;

void emu_fill(char *p, int byte, size_t n)
{
#if defined EMU_ASAN || defined EMU_TSAN
    for (size_t i = 0; i < n; i++)     /* they would see memset */
        ((volatile char *)p)[i] = (char)byte;
#else
    memset(p, byte, n);
#endif
}

void emu_hide([[maybe_unused]] void *p, [[maybe_unused]] size_t size)
{
#ifdef EMU_ASAN
    __asan_poison_memory_region(p, size);
#endif
}

void emu_show([[maybe_unused]] void *p, [[maybe_unused]] size_t size)
{
#ifdef EMU_ASAN
    __asan_unpoison_memory_region(p, size);
#endif
}

static void *add(const void *key, size_t size, const char *name)
{
    size_t start = top, padded = (size + 15) / 16 * 16;
    if (start + padded + ZONE > ARENA || n_array == MOST_ARRAYS)
        emu_fail(nullptr, "shared memory of more than %d bytes or %d arrays", ARENA, MOST_ARRAYS);
    array[n_array++] = {key, name, start, size};
    top += padded + ZONE;
    emu_fill(arena + start, 0xff, size);
    emu_fill(arena + start + size, MARK, top - start - size);
    emu_show(arena + start, size);
    return arena + start;
}

void shared_begin(size_t dynamic)
{
#ifndef EMU_TSAN
    if (!arena)
#endif
    {
        /* Mapped anew for each block under TSan, so that what another block did there is forgotten. */
        void *p = mmap(arena, ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | (arena ? MAP_FIXED : 0), -1, 0);
        if (p == MAP_FAILED)
            emu_fail(nullptr, "no memory for shared memory");
        arena = (char *)p;
    }
    emu_hide(arena, ARENA);
    emu_fill(arena, MARK, ZONE);
    top = ZONE;
    n_array = 0;
    add(nullptr, dynamic, "dynamic shared memory");
}

void shared_end(const emu_kernel *k)
{
    size_t used = 0;
    for (int i = 0; i < n_array; i++)
        used += array[i].size;
    if (used > MOST_SHARED)
        emu_fail(&k->at, "a block of this kernel has %zu bytes of shared memory; %d is the most", used, MOST_SHARED);
    if (used - k->dynamic_shared > PLAIN_SHARED)
        emu_fail(&k->at, "%zu bytes of static shared memory; %d is the most", used - k->dynamic_shared, PLAIN_SHARED);
    emu_show(arena, ARENA);
    for (int i = -1; i < n_array; i++) {
        size_t end = i < 0 ? 0 : array[i].start + array[i].size, next = i + 1 < n_array ? array[i + 1].start : top;
        for (size_t b = end; b < next; b++)
            if ((unsigned char)arena[b] != MARK)
                emu_fail(&k->at, "a thread wrote %zu bytes behind the end of %s", b - end, i < 0 ? "nothing" : array[i].name);
    }
}

void *emu_shared(const void *key, size_t size, const char *name, emu_site at)
{
    for (int i = 1; i < n_array; i++)
        if (array[i].key == key)
            return arena + array[i].start;
    if (size == 0)
        emu_fail(&at, "shared array %s is empty", name);
    return add(key, size, name);
}

void *emu_dynamic_shared(void)
{
    return arena + array[0].start;
}

bool shared_is(const void *p)
{
    return arena && (const char *)p >= arena && (const char *)p < arena + ARENA;
}

bool shared_holds(const void *p, size_t size)
{
    if (!shared_is(p))
        return false;
    size_t from = (size_t)((const char *)p - arena);
    for (int i = 0; i < n_array; i++)
        if (from >= array[i].start && from + size <= array[i].start + array[i].size)
            return true;
    return false;
}

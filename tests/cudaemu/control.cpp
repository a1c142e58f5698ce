/* control.cpp - options, the random numbers of schedules, and how a violation ends the program. */
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "core.h"

struct emu_options emu_opt = { EMU_IN_ORDER, EMU_LAZY, 1, (size_t)1 << 30, 1, 0 };
static uint64_t calls;

static const char *const schedule_name[] = { "in-order", "reverse", "random" };
static const char *const copies_name[] = { "lazy", "eager", "mixed" };

static bool option(const char *s)
{
    for (int i = 0; i < 3; i++) {
        if (!strcmp(s, schedule_name[i]))
            return emu_opt.schedule = (enum emu_schedule)i, true;
        if (!strcmp(s, copies_name[i]))
            return emu_opt.copies = (enum emu_copies)i, true;
    }
    const char *value = strchr(s, '=');
    if (!value)
        return false;
    uint64_t n = strtoull(value + 1, nullptr, 10);
    if (!strncmp(s, "seed=", 5))
        emu_opt.seed = n;
    else if (!strncmp(s, "memory=", 7))
        emu_opt.memory = n;
    else if (!strncmp(s, "devices=", 8))
        emu_opt.n_device = (int)n;
    else if (!strncmp(s, "fail=", 5))
        emu_opt.fail_at = n;
    else
        return false;
    return true;
}

__attribute__((constructor)) static void from_environment(void)
{
    const char *s = getenv("CUDAEMU");
    char copy[256];
    snprintf(copy, sizeof copy, "%s", s ? s : "");
    for (char *word = strtok(copy, ","); word; word = strtok(nullptr, ","))
        if (!option(word))
            emu_fail(nullptr, "CUDAEMU holds '%s', which is no option (tests/cudaemu/control.h)", word);
}

struct emu_options emu_get(void)
{
    return emu_opt;
}

void emu_set(const struct emu_options *o)
{
    if (!emu_idle())
        emu_fail(nullptr, "emu_set while something is enqueued");
    emu_opt = *o;
    calls = 0;
}

void emu_describe(char *text, size_t size)
{
    snprintf(text, size, "%s %s seed %llu", schedule_name[emu_opt.schedule], copies_name[emu_opt.copies], (unsigned long long)emu_opt.seed);
}

/* splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014) */
uint64_t emu_random(void)
{
    uint64_t z = emu_opt.seed * 0x632be59bd9b4e019 + ++calls * 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

void emu_fail(const emu_site *at, const char *fmt, ...)
{
    char where[256];
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "cudaemu: ");
    if (at)
        fprintf(stderr, "%s:%d: ", at->file, at->line);
    vfprintf(stderr, fmt, ap);
    fprintf(stderr, "%s (%s, %s, seed %llu)\n", block_where(where, sizeof where), schedule_name[emu_opt.schedule],
            copies_name[emu_opt.copies], (unsigned long long)emu_opt.seed);
    va_end(ap);
    fflush(stderr);
    abort();
}

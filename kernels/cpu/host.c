#define _GNU_SOURCE         /* sched_getaffinity, CPU_COUNT */
#include "kernels/cpu/host.h"

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The text of a small file, NUL-closed; false if it cannot be read. */
static bool read_small(const char *path, char *text, size_t size)
{
    FILE *f = fopen(path, "r");
    if (!f)
        return false;
    size_t n = fread(text, 1, size - 1, f);
    text[n] = 0;
    fclose(f);
    return n > 0;
}

/* This process's cgroup (version 2) as a path below /sys/fs/cgroup: "" for the root or if there is none. */
static void own_cgroup(char *path, size_t size)
{
    char text[4096];
    path[0] = 0;
    if (!read_small("/proc/self/cgroup", text, sizeof text))
        return;
    char *at = strstr(text, "0::/");
    if (at)
        snprintf(path, size, "%.*s", (int)strcspn(at + 3, "\n"), at + 3);
}

/* Calls see(folder, out) for the process's cgroup and each one above it: a limit of any of them holds. */
static void each_cgroup(void (*see)(const char *folder, void *out), void *out)
{
    char path[1024], folder[1100];
    own_cgroup(path, sizeof path);
    for (;;) {
        snprintf(folder, sizeof folder, "/sys/fs/cgroup%s", path);
        see(folder, out);
        char *slash = strrchr(path, '/');
        if (!slash)
            return;
        *slash = 0;
    }
}

static bool read_in(const char *folder, const char *name, char *text, size_t size)
{
    char path[1200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return read_small(path, text, size);
}

static void see_quota(const char *folder, void *out)
{
    char text[128];
    double quota, period;
    int *cpus = out;
    if (!read_in(folder, "cpu.max", text, sizeof text) || sscanf(text, "%lf %lf", &quota, &period) != 2)
        return;             /* "max 100000": no quota */
    int n = (int)((quota + period - 1) / period);
    if (n >= 1 && n < *cpus)
        *cpus = n;
}

int host_cpus(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
    each_cgroup(see_quota, &n);
    return n;
}

static void see_memory(const char *folder, void *out)
{
    char max[64], used[64];
    size_t *left = out;
    if (!read_in(folder, "memory.max", max, sizeof max) || !strncmp(max, "max", 3)
        || !read_in(folder, "memory.current", used, sizeof used))
        return;
    size_t limit = strtoull(max, NULL, 10), now = strtoull(used, NULL, 10);
    size_t rest = limit > now ? limit - now : 0;
    if (rest < *left)
        *left = rest;
}

size_t host_memory(void)
{
    char text[4096];
    size_t left = SIZE_MAX;
    char *at = read_small("/proc/meminfo", text, sizeof text) ? strstr(text, "MemAvailable:") : NULL;
    if (at)
        left = (size_t)strtoull(at + strlen("MemAvailable:"), NULL, 10) * 1024;
    each_cgroup(see_memory, &left);
    return left;
}

void host_cpu_name(char *name, size_t size)
{
    char text[4096];
    char *at = read_small("/proc/cpuinfo", text, sizeof text) ? strstr(text, "model name") : NULL;
    at = at ? strchr(at, ':') : NULL;
    if (at)
        snprintf(name, size, "%.*s", (int)strcspn(at + 2, "\n"), at + 2);
    else
        snprintf(name, size, "unknown CPU");
}

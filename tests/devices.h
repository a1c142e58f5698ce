/* devices.h - for the tests of ops: the CPU device with 1, 2 and 3 threads and any instruction set that the machine has. */
#ifndef TESTS_DEVICES_H
#define TESTS_DEVICES_H

#include "base/clock.h"
#include "kernels/cpu/cpu.h"
#include "tests/tensors.h"

enum { MOST_THREADS = 3 };

static struct device *devices[MOST_THREADS];       /* with 1, 2, 3 threads */
static enum cpu_tier best_tier;

static inline void devices_open(void)
{
    for (int t = 0; t < MOST_THREADS; t++) {
        devices[t] = device_open("cpu", DTYPE_BF16, t + 1);
        CHECK(devices[t]);
    }
    best_tier = cpu_of(devices[0])->tier;
}

static inline void devices_close(void)
{
    for (int t = 0; t < MOST_THREADS; t++)
        devices[t]->ops->close(devices[t]);
}

static inline void devices_tier(int tier)
{
    for (int t = 0; t < MOST_THREADS; t++)
        cpu_of(devices[t])->tier = (enum cpu_tier)tier;
}

/* Calls test(device) for each tier and number of threads. */
static inline void everywhere(void (*test)(struct device *))
{
    for (int tier = 0; tier <= (int)best_tier; tier++) {
        devices_tier(tier);
        for (int t = 0; t < MOST_THREADS; t++)
            test(devices[t]);
    }
}

/* A test that is name_here, everywhere. */
#define EVERYWHERE(name) static void name##_test(void **state) { (void)state; everywhere(name##_here); }

/* With --perf: speed(device with 2 threads) for each tier, and no tests. */
static inline bool asked_for_speed(int argc, char **argv, void (*speed)(struct device *))
{
    if (argc < 2 || strcmp(argv[1], "--perf"))
        return false;
    for (int tier = (int)best_tier; tier >= 0; tier--) {
        static const char *const name[] = { "plain C", "AVX2", "AVX-512", "AMX" };
        devices_tier(tier);
        printf("%s, %s\n", devices[1]->text, name[tier]);
        speed(devices[1]);
    }
    return true;
}

/* Runs for about half a second and prints the best time, and what it makes of n bytes and FLOP. */
#define TIME(name, bytes, flops, ...)                                                                          \
    do {                                                                                                       \
        int64_t begin = clock_ns(), best_ns = INT64_MAX;                                                       \
        for (int64_t from = begin, end; from - begin < 500000000 || best_ns == INT64_MAX; from = end) {        \
            __VA_ARGS__;                                                                                       \
            end = clock_ns();                                                                                  \
            best_ns = end - from < best_ns ? end - from : best_ns;                                             \
        }                                                                                                      \
        printf("%-44s %10.1f us %8.2f GB/s %8.1f GFLOP/s\n", name, (double)best_ns * 1e-3,                     \
               (double)(bytes) / (double)best_ns, (double)(flops) / (double)best_ns);                          \
    } while (0)

#endif

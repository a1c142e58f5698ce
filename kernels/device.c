#include "kernels/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cuda/open.h"

static struct device *asked_open(int ordinal, enum dtype compute)
{
    struct device *d = cuda_open(ordinal, compute);
    if (!d) {
        char reason[256];
        snprintf(reason, sizeof reason, "%s", err_text());
        err_set("%s; use \"cpu\" or \"auto\"", reason);
    }
    return d;
}

static struct device *auto_open(enum dtype compute, int n_thread)
{
    struct device *d = cuda_open(0, compute);
    if (d)
        return d;
    log_info("%s; computing on the CPU", err_text());
    return cpu_open(compute, n_thread);
}

/* The N of "cuda:N"; -1: it is something else. */
static int cuda_ordinal(const char *name)
{
    if (strncmp(name, "cuda:", 5) || !name[5] || strlen(name) > 8 || strspn(name + 5, "0123456789") != strlen(name + 5))
        return -1;
    return atoi(name + 5);
}

/* To a multiple of 16, and to an eighth of the power of two below: 56 numbers up to 8192. */
uint32_t device_bucket(uint32_t n)
{
    uint32_t step = n ? (1u << (31 - __builtin_clz(n))) / 8 : 0;
    step = step < 16 ? 16 : step;
    return (n + step - 1) / step * step;
}

struct device *device_open(const char *name, enum dtype compute, int n_thread)
{
    if (compute != DTYPE_F32 && compute != DTYPE_BF16) {
        err_set("a device computes in f32 or bf16, not in \"%s\"", dtype_name(compute));
        return NULL;
    }
    if (!strcmp(name, "auto"))
        return auto_open(compute, n_thread);
    if (!strcmp(name, "cpu"))
        return cpu_open(compute, n_thread);
    if (cuda_ordinal(name) >= 0)
        return asked_open(cuda_ordinal(name), compute);
    err_set("unknown device \"%s\"; use \"auto\", \"cpu\" or \"cuda:N\"", name);
    return NULL;
}

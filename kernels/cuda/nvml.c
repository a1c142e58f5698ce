/* nvml.c - the driver's library for what a GPU uses: the part of it that the program tells.  Its header is not in the toolkit,
 * so prototypes and numbers are ours (NVML API Reference, the functions by their names below); every function returns 0 where it
 * went well.  A driver may lack any of them, and a GPU may not know: what is not told is NaN. */
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/cuda/cuda.h"

enum { CLOCK_SM = 1 };                                         /* nvmlClockType_t */
struct memory { unsigned long long total, left, used; };       /* nvmlMemory_t */

struct nvml {
    int (*init)(void);
    int (*by_bus_id)(const char *bus_id, void **device);
    int (*energy)(void *device, unsigned long long *mj);
    int (*power)(void *device, unsigned *mw);
    int (*clock)(void *device, int type, unsigned *mhz);
    int (*memory)(void *device, struct memory *m);
    int (*throttle)(void *device, unsigned long long *reasons);
    void *device;
};

/* A function of the library at `to`, or NULL there. */
static void find(void *library, const char *name, void *to)
{
    void *p = dlsym(library, name);
    memcpy(to, &p, sizeof p);
}

struct nvml *nvml_open(int ordinal)
{
    struct nvml *n = mem_alloc(sizeof *n);
    char bus_id[32];
    void *library = cuda_library("libnvidia-ml.so.1");
    if (library) {
        find(library, "nvmlInit_v2", &n->init);
        find(library, "nvmlDeviceGetHandleByPciBusId_v2", &n->by_bus_id);
        find(library, "nvmlDeviceGetTotalEnergyConsumption", &n->energy);
        find(library, "nvmlDeviceGetPowerUsage", &n->power);
        find(library, "nvmlDeviceGetClockInfo", &n->clock);
        find(library, "nvmlDeviceGetMemoryInfo", &n->memory);
        find(library, "nvmlDeviceGetCurrentClocksThrottleReasons", &n->throttle);
    }
    if (n->init && n->by_bus_id && !n->init() && !cudaDeviceGetPCIBusId(bus_id, sizeof bus_id, ordinal) && !n->by_bus_id(bus_id, &n->device))
        return n;
    free(n);
    return NULL;
}

void nvml_close(struct nvml *n)
{
    free(n);
}

/* nvmlClocksThrottleReason*, several to each of ours; an idle GPU's low clock is none. */
static double throttle_of(unsigned long long reasons)
{
    static const struct { unsigned long long theirs; enum throttle ours; } table[] = {
        { 0x4 | 0x80, THROTTLE_POWER },                /* SwPowerCap, HwPowerBrakeSlowdown */
        { 0x20 | 0x40, THROTTLE_HEAT },                /* SwThermalSlowdown, HwThermalSlowdown */
        { 0x8, THROTTLE_HARDWARE },                    /* HwSlowdown */
        { 0x2 | 0x10 | 0x100, THROTTLE_SETTING },      /* ApplicationsClocksSetting, SyncBoost, DisplayClockSetting */
    };
    int sum = 0;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        sum += reasons & table[i].theirs ? (int)table[i].ours : 0;
    return sum;
}

void nvml_read(const struct nvml *n, struct telemetry *t)
{
    unsigned long long mj, reasons;
    unsigned mw, mhz;
    struct memory m;
    *t = (struct telemetry){ NAN, NAN, NAN, NAN, NAN };
    if (!n)
        return;
    if (n->energy && !n->energy(n->device, &mj))
        t->energy_j = (double)mj * 1e-3;
    if (n->power && !n->power(n->device, &mw))
        t->power_w = mw * 1e-3;
    if (n->clock && !n->clock(n->device, CLOCK_SM, &mhz))
        t->clock_mhz = mhz;
    if (n->memory && !n->memory(n->device, &m))
        t->memory_bytes = (double)m.used;
    if (n->throttle && !n->throttle(n->device, &reasons))
        t->throttle = throttle_of(reasons);
}

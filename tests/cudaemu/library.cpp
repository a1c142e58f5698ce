/* library.cpp - the libraries that the product opens at run time, which here are parts of the program: cuBLASLt (blaslt.cpp),
 * and an NVML whose device uses a millijoule an operation and is hot. */
#include <cstring>
#include <dlfcn.h>

#include <cublasLt.h>

#include "core.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT void *cuda_library(const char *)
{
    static void *volatile keep = (void *)cublasLtMatmul;       /* so that blaslt.cpp is linked */
    return keep ? dlopen(nullptr, RTLD_NOW) : nullptr;
}

EXPORT int nvmlInit_v2(void) { return 0; }
EXPORT int nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, void **device)
{
    *device = (void *)&emu_opt;
    return strcmp(bus_id, "0000:00:00.0") != 0;
}
EXPORT int nvmlDeviceGetTotalEnergyConsumption(void *, unsigned long long *mj)
{
    *mj = emu_operations();
    return 0;
}
EXPORT int nvmlDeviceGetPowerUsage(void *, unsigned *mw)
{
    *mw = 350500;
    return 0;
}
EXPORT int nvmlDeviceGetClockInfo(void *, int type, unsigned *mhz)
{
    *mhz = 1980;
    return type != 1;
}
EXPORT int nvmlDeviceGetMemoryInfo(void *, unsigned long long m[3])
{
    m[0] = emu_opt.memory;
    m[2] = emu_allocated();
    m[1] = m[0] - m[2];
    return 0;
}
EXPORT int nvmlDeviceGetCurrentClocksThrottleReasons(void *, unsigned long long *reasons)
{
    *reasons = 0x1 | 0x4 | 0x40;       /* idle, power, heat */
    return 0;
}

/* nvml.c - the driver's library for what a GPU uses: the part of it that the program tells.  Its header is not in the toolkit,
 * so the prototypes are ours (NVML API Reference: nvmlInit_v2, nvmlDeviceGetHandleByPciBusId_v2,
 * nvmlDeviceGetTotalEnergyConsumption, from Volta on); every function returns 0 where it went well. */
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/cuda/cuda.h"

struct nvml {
    int (*init)(void);
    int (*by_bus_id)(const char *bus_id, void **device);
    int (*energy)(void *device, unsigned long long *mj);
    void *device;
};

static int find(void *library, const char *name, void *to)
{
    void *p = dlsym(library, name);
    memcpy(to, &p, sizeof p);
    return p ? 0 : -1;
}

struct nvml *nvml_open(int ordinal)
{
    struct nvml *n = mem_alloc(sizeof *n);
    char bus_id[32];
    void *library = cuda_library("libnvidia-ml.so.1");
    if (library && !find(library, "nvmlInit_v2", &n->init) && !find(library, "nvmlDeviceGetHandleByPciBusId_v2", &n->by_bus_id) &&
        !find(library, "nvmlDeviceGetTotalEnergyConsumption", &n->energy) && !n->init() &&
        !cudaDeviceGetPCIBusId(bus_id, sizeof bus_id, ordinal) && !n->by_bus_id(bus_id, &n->device))
        return n;
    free(n);
    return NULL;
}

void nvml_close(struct nvml *n)
{
    free(n);
}

double nvml_energy(const struct nvml *n)
{
    unsigned long long mj;
    return n && !n->energy(n->device, &mj) ? (double)mj * 1e-3 : (double)NAN;
}

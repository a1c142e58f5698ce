/* device.cpp - what the emulated device says of itself: an H100 with few multiprocessors. */
#include <cstdio>
#include <cstring>

#include "core.h"

enum { N_MULTIPROCESSOR = 4 };

cudaError_t cudaGetDeviceCount(int *n)
{
    *n = emu_opt.n_device;
    return *n ? cudaSuccess : stream_error(cudaErrorNoDevice);
}

static cudaError_t known(int device)
{
    return device >= 0 && device < emu_opt.n_device ? cudaSuccess : stream_error(cudaErrorInvalidDevice);
}

cudaError_t cudaSetDevice(int device)
{
    return known(device);
}

cudaError_t cudaGetDevice(int *device)
{
    *device = 0;
    return known(0);
}

cudaError_t cudaSetDeviceFlags(unsigned int)
{
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device)
{
    switch (attribute) {
    case cudaDevAttrMultiProcessorCount: *value = N_MULTIPROCESSOR; break;
    case cudaDevAttrComputeCapabilityMajor: *value = 9; break;
    case cudaDevAttrComputeCapabilityMinor: *value = 0; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = MOST_SHARED; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = PLAIN_SHARED; break;
    case cudaDevAttrMaxThreadsPerBlock: *value = 1024; break;
    case cudaDevAttrWarpSize: *value = 32; break;
    case cudaDevAttrL2CacheSize: *value = 50 << 20; break;
    case cudaDevAttrPciBusId: case cudaDevAttrPciDeviceId: case cudaDevAttrPciDomainId: *value = 0; break;
    default: emu_fail(nullptr, "cudaDeviceGetAttribute of attribute %d, which the emulation does not know", (int)attribute);
    }
    return known(device);
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device)
{
    memset(p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "emulated GPU");
    p->totalGlobalMem = emu_opt.memory;
    p->multiProcessorCount = N_MULTIPROCESSOR;
    p->major = 9;
    p->warpSize = 32;
    p->maxThreadsPerBlock = 1024;
    p->sharedMemPerBlock = PLAIN_SHARED;
    p->sharedMemPerBlockOptin = MOST_SHARED;
    return known(device);
}

cudaError_t cudaDeviceGetPCIBusId(char *text, int size, int device)
{
    snprintf(text, (size_t)size, "0000:00:00.0");
    return known(device);
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *n, const void *, int block, size_t)
{
    *n = 2048 / block < 2 ? 1 : 2;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *v)  { *v = 13000; return cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int *v) { *v = 13000; return cudaSuccess; }

const char *cudaGetErrorName(cudaError_t e)
{
    switch (e) {
    case cudaSuccess: return "cudaSuccess";
    case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorNoDevice: return "cudaErrorNoDevice";
    case cudaErrorInvalidDevice: return "cudaErrorInvalidDevice";
    case cudaErrorNotReady: return "cudaErrorNotReady";
    case cudaErrorIllegalAddress: return "cudaErrorIllegalAddress";
    case cudaErrorGraphExecUpdateFailure: return "cudaErrorGraphExecUpdateFailure";
    default: return "unrecognized error code";
    }
}

const char *cudaGetErrorString(cudaError_t e)
{
    switch (e) {
    case cudaSuccess: return "no error";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice: return "invalid device ordinal";
    case cudaErrorIllegalAddress: return "an illegal memory access was encountered";
    default: return cudaGetErrorName(e);
    }
}

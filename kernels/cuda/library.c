#include <dlfcn.h>

#include "base/err.h"
#include "kernels/cuda/cuda.h"

void *cuda_library(const char *name)
{
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        err_set("%s", dlerror());
    return library;
}

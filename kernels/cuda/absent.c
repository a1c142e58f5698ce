/* absent.c - in the place of this folder's other files where the build has no CUDA toolkit. */
#include "base/err.h"
#include "kernels/cuda/open.h"

struct device *cuda_open(int ordinal, enum dtype compute)
{
    (void)compute;
    err_set("device \"cuda:%d\": this build has no CUDA device", ordinal);
    return NULL;
}

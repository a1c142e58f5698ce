/* open.h - the way in for kernels/device.c, which knows nothing of the toolkit. */
#ifndef KERNELS_CUDA_OPEN_H
#define KERNELS_CUDA_OPEN_H

#include "kernels/device.h"

/* NULL: err_text() says why there is no such device. */
struct device *cuda_open(int ordinal, enum dtype compute);

#endif

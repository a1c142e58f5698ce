/* on_device.h - for tests of launchers on the emulated GPU: a device without its door, memory that all_free frees, and
 * the schedules under which each test runs. */
#ifndef TESTS_ON_DEVICE_H
#define TESTS_ON_DEVICE_H

#include "kernels/cuda/cuda.h"
#include "tests/cudaemu/control.h"
#include "tests/devices.h"

static struct cuda_device device;

static inline void ok(cudaError_t e)
{
    if (e != cudaSuccess)
        fail_msg("%s", cudaGetErrorString(e));
}

static inline void on_device_open(void)
{
    CHECK(cudaStreamCreateWithFlags(&device.stream, cudaStreamNonBlocking) == cudaSuccess);
}

static inline void on_device_close(void)
{
    CHECK(cudaStreamDestroy(device.stream) == cudaSuccess);
}

/* ---- memory ---- */

enum { MOST_BUFFERS = 32 };
static struct { void *data[MOST_BUFFERS]; int n; } buffers;

/* A copy of host on the device; NULL: NaN in every type. */
static inline void *up(const void *host, size_t size)
{
    void *p;
    CHECK(buffers.n < MOST_BUFFERS);
    ok(cudaMalloc(&p, size));
    buffers.data[buffers.n++] = p;
    if (host)
        ok(cudaMemcpyAsync(p, host, size, cudaMemcpyHostToDevice, device.stream));
    else
        ok(cudaMemsetAsync(p, 0xff, size, device.stream));
    return p;
}

static inline void down(void *host, const void *data, size_t size)
{
    ok(cudaMemcpyAsync(host, data, size, cudaMemcpyDeviceToHost, device.stream));
    ok(cudaStreamSynchronize(device.stream));
}

static inline void all_free(void)
{
    while (buffers.n)
        ok(cudaFree(buffers.data[--buffers.n]));
}

static inline struct tensor up_tensor(const struct tensor *t)
{
    return (struct tensor){ up(t->data, tensor_size(t)), t->dtype, t->rows, t->cols };
}

static inline struct tensor down_tensor(const struct tensor *t)
{
    struct tensor host = tensor_new(t->rows, t->cols, t->dtype);
    down(host.data, t->data, tensor_size(t));
    return host;
}

/* From the definition: sign, 4 bits of exponent with bias 7, 3 of mantissa; 0x7f is the NaN. */
static inline double e4m3_value(uint8_t v)
{
    int e = v >> 3 & 15, m = v & 7;
    double x = e ? ldexp(8 + m, e - 10) : ldexp(m, -9);
    return (v & 0x7f) == 0x7f ? (double)NAN : v & 0x80 ? -x : x;
}

/* ---- schedules ---- */

enum { N_SCHEDULE = 4 };

static inline void schedule_set(int i)
{
    struct emu_options o = emu_get();
    o.schedule = i == 0 ? EMU_IN_ORDER : i == 1 ? EMU_REVERSE : EMU_RANDOM;
    o.seed = (uint64_t)i;
    emu_set(&o);
}

/* The statement that follows, under each of them. */
#define SCHEDULES for (int schedule = 0; schedule < N_SCHEDULE && (schedule_set(schedule), true); schedule++)

#endif

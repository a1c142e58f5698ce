/* tokmill bench: the machine's ceilings, which every share of a peak refers to. */
#include <stdio.h>

#include "base/err.h"
#include "cmd/cmd.h"
#include "kernels/device.h"

struct bench_opts { const char *device; int64_t threads; bool ceilings; };

const struct opt bench_options[] = {
    {"ceilings", 0, OPT_FLAG, NULL, offsetof(struct bench_opts, ceilings), NULL, "measure the device's FLOP rates and read bandwidth (all that bench does so far)", NULL, 0, 0},
    {"device", 0, OPT_TEXT, "auto|cpu|cuda:N", offsetof(struct bench_opts, device), "auto", "what to measure", NULL, 0, 0},
    {"threads", 't', OPT_INT, "N", offsetof(struct bench_opts, threads), NULL, "threads of the CPU device (default: all cores)", NULL, 1, 1024},
    {0},
};

int cmd_bench(int argc, char **argv)
{
    struct bench_opts o = {0};
    cmd_options(&o, argc, argv);
    if (!o.ceilings)
        die("bench: nothing to do: give --ceilings");
    struct device *d = device_open(o.device, DTYPE_BF16, (int)o.threads);
    if (!d)
        die("%s", err_text());
    printf("device       %s: %s\n", d->name, d->text);
    printf("f32          %8.1f GFLOP/s\n", d->ops->peak_flops(d, DTYPE_F32) * 1e-9);
    printf("bf16         %8.1f GFLOP/s\n", d->ops->peak_flops(d, DTYPE_BF16) * 1e-9);
    printf("int8         %8.1f Gop/s\n", d->ops->peak_flops(d, DTYPE_I8) * 1e-9);
    printf("read         %8.1f GB/s\n", d->ops->peak_bandwidth(d) * 1e-9);
    d->ops->close(d);
    return EXIT_GOOD;
}

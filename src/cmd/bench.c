/* tokmill bench: the machine's ceilings, which every share of a peak refers to. */
#include <math.h>
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

/* Nothing, where the device does not do it. */
static void print_peak(const char *name, double peak, const char *unit)
{
    if (isfinite(peak))
        printf("%-12s %8.1f %s\n", name, peak * 1e-9, unit);
}

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
    print_peak("f32", d->ops->peak_flops(d, DTYPE_F32), "GFLOP/s");
    print_peak("bf16", d->ops->peak_flops(d, DTYPE_BF16), "GFLOP/s");
    print_peak("fp8", d->ops->peak_flops(d, DTYPE_E4M3), "GFLOP/s");
    print_peak("int8", d->ops->peak_flops(d, DTYPE_I8), "Gop/s");
    print_peak("read", d->ops->peak_bandwidth(d), "GB/s");
    d->ops->close(d);
    return EXIT_GOOD;
}

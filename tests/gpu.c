/* tests/cudaemu/control.h on a real GPU, for test_cuda: there is one way of running, and nothing is counted. */
#include "tests/cudaemu/control.h"

struct emu_options emu_get(void)
{
    return (struct emu_options){ 0 };
}

void emu_set(const struct emu_options *o)
{
    (void)o;
}

uint64_t emu_asked(void)
{
    return 0;
}

enum emu_algorithm emu_algorithm(void)
{
    return EMU_N_ALGORITHM;
}

size_t emu_allocated(void)
{
    return 0;
}

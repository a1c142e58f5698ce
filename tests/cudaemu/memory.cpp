/* memory.cpp - device memory and pinned host memory.  Device memory is not a number at first, has zones between allocations
 * that nobody may touch, and is closed to the host but while an operation runs. */
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <sys/mman.h>

#include "core.h"

enum { ALIGN = 256, ZONE = 256, MARK = 0xa5, PAGE = 4096, HUGE = 2 << 20 };
static const size_t HEAP = (size_t)1 << 36;        /* addresses; memory is what is touched */

static char *heap;
static std::atomic<size_t> used;       /* bytes allocated; a second thread may ask */
static size_t high;                    /* end of what was ever in use */
static std::map<size_t, size_t> block;             /* offset -> size */
static std::map<uintptr_t, size_t> pinned;
static int n_open;

/* ---- touching what one must not ---- */

static void on_fault(int, siginfo_t *info, void *)
{
    const char *p = (const char *)info->si_addr;
    if (memory_is(p) && !n_open) {
        auto b = block.upper_bound((size_t)(p - heap));
        if (b == block.begin())
            emu_fail(nullptr, "the host touches device memory at %p", (const void *)p);
        --b;
        emu_fail(nullptr, "the host touches device memory: byte %zu of the allocation of %zu bytes at %p", (size_t)(p - heap) - b->first,
                 b->second, (void *)(heap + b->first));
    }
    if (block_stack_overflow(p))
        emu_fail(nullptr, "a thread's local arrays are too large for its stack");
    signal(SIGSEGV, SIG_DFL);          /* and again, for whoever looks at it */
}

static void watch_faults(void)
{
    static char stack[64 << 10];
    stack_t s = {};
    s.ss_sp = stack;
    s.ss_size = sizeof stack;
    sigaltstack(&s, nullptr);
    struct sigaction a = {};
    a.sa_sigaction = on_fault;
    a.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &a, nullptr);
}

static void protect(int prot)
{
    if (high && mprotect(heap, high, prot))
        emu_fail(nullptr, "mprotect of device memory failed");
}

void memory_open(void)
{
    if (!n_open++)
        protect(PROT_READ | PROT_WRITE);
}

void memory_close(void)
{
    if (!--n_open)
        protect(PROT_NONE);
}

/* ---- device ---- */

static void make_heap(void)
{
    heap = (char *)mmap(nullptr, HEAP + HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (heap == MAP_FAILED)
        emu_fail(nullptr, "no addresses for device memory");
    heap += HUGE - (uintptr_t)heap % HUGE;
    madvise(heap, HEAP, MADV_HUGEPAGE);        /* so that protect has few pages to change */
}

static void grow(size_t end)
{
    if (end <= high)
        return;
    size_t from = high;
    high = (end + HUGE - 1) / HUGE * HUGE;
    protect(PROT_READ | PROT_WRITE);
    emu_hide(heap + from, high - from);
    emu_fill(heap + from, MARK, high - from);
}

/* First fit; a zone before the first block and behind each. */
static size_t place(size_t size)
{
    size_t at = ZONE;
    for (auto &b : block) {
        if (at + size + ZONE <= b.first)
            break;
        at = (b.first + b.second + ALIGN - 1) / ALIGN * ALIGN + ZONE;
    }
    return at;
}

cudaError_t cudaMalloc(void **p, size_t size)
{
    LOCKED;
    cudaError_t e = stream_refuse("cudaMalloc");
    *p = nullptr;
    if (e || !size)
        return e;
    if (size > emu_opt.memory || used > emu_opt.memory - size)
        return stream_error(cudaErrorMemoryAllocation);
    if (!heap)
        make_heap();
    watch_faults();                    /* each time: a test program may watch, too */
    size_t at = place(size);
    memory_open();
    grow(at + size + ALIGN + ZONE);
    block[at] = size;
    used += size;
    emu_show(heap + at, size);
    emu_fill(heap + at, 0xff, size);
    memory_close();
    *p = heap + at;
    return cudaSuccess;
}

static void check_block(size_t at, size_t size)
{
    for (size_t i = at + size; i < (at + size + ALIGN - 1) / ALIGN * ALIGN + ZONE; i++)
        if ((unsigned char)heap[i] != MARK)
            emu_fail(nullptr, "somebody wrote %zu bytes behind the end of an allocation of %zu bytes", i - at - size, size);
    for (size_t i = at - ZONE; i < at; i++)
        if ((unsigned char)heap[i] != MARK)
            emu_fail(nullptr, "somebody wrote %zu bytes before an allocation of %zu bytes", at - i, size);
}

void memory_check(void)
{
    for (auto &b : block)
        check_block(b.first, b.second);
}

cudaError_t cudaFree(void *p)
{
    LOCKED;
    cudaError_t e = stream_refuse("cudaFree");
    if (!p)
        return e;
    cudaDeviceSynchronize();
    size_t at = (size_t)((char *)p - heap);
    auto b = block.find(at);
    if (!memory_is(p) || b == block.end())
        emu_fail(nullptr, "cudaFree of %p, which is no allocation", p);
    memory_open();
    memory_check();
    emu_fill(heap + at, MARK, b->second);
    emu_hide(heap + at, b->second);
    memory_close();
    used -= b->second;
    block.erase(b);
    return e;
}

cudaError_t cudaMemGetInfo(size_t *free, size_t *total)
{
    LOCKED;
    *total = emu_opt.memory;
    *free = emu_opt.memory - used;
    return cudaSuccess;
}

bool memory_is(const void *p)
{
    return heap && (const char *)p >= heap && (const char *)p < heap + HEAP;
}

size_t memory_extent(const void *p)
{
    if (!memory_is(p))
        return 0;
    size_t at = (size_t)((const char *)p - heap);
    auto b = block.upper_bound(at);
    if (b == block.begin())
        return 0;
    --b;
    return at < b->first + b->second ? b->first + b->second - at : 0;
}

size_t emu_allocated(void)
{
    return used;
}

void emu_check(const char *what, const void *p, size_t size, size_t align, int space, emu_site at)
{
    if ((uintptr_t)p % align)
        emu_fail(&at, "%s at %p, which is no multiple of %zu", what, p, align);
    bool shared = shared_is(p);
    if (!shared && !memory_is(p))
        emu_fail(&at, "%s at %p, which is neither device nor shared memory", what, p);
    if (!(space & (shared ? EMU_SHARED : EMU_GLOBAL)))
        emu_fail(&at, "%s wants an address in %s memory", what, shared ? "global" : "shared");
    if (shared ? !shared_holds(p, size) : memory_extent(p) < size)
        emu_fail(&at, "%s of %zu bytes at %p is outside of what was allocated", what, size, p);
}

/* ---- pinned ---- */

cudaError_t cudaMallocHost(void **p, size_t size)
{
    LOCKED;
    cudaError_t e = stream_refuse("cudaMallocHost");
    *p = nullptr;
    if (e || !size)
        return e;
    if (!(*p = aligned_alloc(PAGE, (size + PAGE - 1) / PAGE * PAGE)))
        return stream_error(cudaErrorMemoryAllocation);
    memset(*p, 0xff, size);
    pinned[(uintptr_t)*p] = size;
    return e;
}

cudaError_t cudaHostAlloc(void **p, size_t size, unsigned int)
{
    return cudaMallocHost(p, size);
}

static void unpin(const char *what, void *p)
{
    cudaDeviceSynchronize();
    if (!pinned.erase((uintptr_t)p))
        emu_fail(nullptr, "%s of %p, which is not pinned", what, p);
}

cudaError_t cudaFreeHost(void *p)
{
    LOCKED;
    cudaError_t e = stream_refuse("cudaFreeHost");
    if (p) {
        unpin("cudaFreeHost", p);
        free(p);
    }
    return e;
}

cudaError_t cudaHostRegister(void *p, size_t size, unsigned int)
{
    LOCKED;
    pinned[(uintptr_t)p] = size;
    return cudaSuccess;
}

cudaError_t cudaHostUnregister(void *p)
{
    LOCKED;
    unpin("cudaHostUnregister", p);
    return cudaSuccess;
}

size_t pinned_extent(const void *p)
{
    auto b = pinned.upper_bound((uintptr_t)p);
    if (b == pinned.begin())
        return 0;
    --b;
    return (uintptr_t)p < b->first + b->second ? b->first + b->second - (uintptr_t)p : 0;
}

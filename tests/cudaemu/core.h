/* core.h - what the files of the emulation share.  They are compiled without sanitizers, but say EMU_ASAN or EMU_TSAN where
 * the kernels are compiled with one.  Under TSan nothing that a fiber runs in here may call memcpy or memset, which
 * would count as the kernel's own access. */
#ifndef CUDAEMU_CORE_H
#define CUDAEMU_CORE_H

#include <mutex>

#include "control.h"
#include "cudaemu.h"

/* ---- control.cpp ---- */

extern struct emu_options emu_opt;
uint64_t emu_random(void);                         /* a function of the seed and the number of calls */
[[noreturn]] void emu_fail(const emu_site *at, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- fiber.cpp: a stack and where it stopped ---- */

struct emu_fiber {
    void *sp;
    char *stack;               /* lowest byte; NULL: the host's own */
    size_t size;
    void *asan, *tsan;
};

void fiber_init(emu_fiber *f, void (*run)(void));  /* run never returns */
void fiber_host(emu_fiber *f);                     /* f: what runs now */
void fiber_switch(emu_fiber *from, emu_fiber *to);
bool fiber_guard(const emu_fiber *f, const void *p);       /* p is in the page below the stack */

/* What was before release(p) is before what is after acquire(p). */
void sync_release(void *p);
void sync_acquire(void *p);

/* ---- block.cpp ---- */

void block_run_grid(const emu_kernel *k);
const char *block_where(char *text, size_t size);  /* "block (1,0,0) thread 5 of the kernel launched at f.cu:3", or "" */
bool block_stack_overflow(const void *p);

/* ---- shared.cpp: the shared memory of the block that runs ---- */

void shared_begin(size_t dynamic);
void shared_end(const emu_kernel *k);              /* checks what lies between */
bool shared_holds(const void *p, size_t size);
bool shared_is(const void *p);                     /* within the arena at all */
void emu_fill(char *p, int byte, size_t n);        /* memset that no sanitizer sees */

enum { MOST_SHARED = 227 << 10, PLAIN_SHARED = 48 << 10 };      /* sm_90: per block with and without the opt-in */

/* ---- memory.cpp: device memory, which the host cannot touch but in between memory_open and memory_close, and pinned
 * memory.  extent: the bytes from p to the end of its allocation, 0 if there is none. ---- */

void   memory_open(void);
void   memory_close(void);
size_t memory_extent(const void *p);
bool   memory_is(const void *p);                   /* within the device's addresses at all */
size_t pinned_extent(const void *p);
void   memory_check(void);                         /* nothing was written between allocations */

/* ---- stream.cpp ---- */

/* One at a time: every function of the runtime holds it. */
extern std::recursive_mutex emu_mutex;
#define LOCKED std::lock_guard<std::recursive_mutex> lock(emu_mutex)

/* Enqueues, or records where the stream is captured.  what: for messages, and the same for what graphs may exchange. */
cudaError_t stream_add(cudaStream_t s, const char *what, std::function<void()> run);
void stream_spend(double ms);                      /* by the operation that runs, on the device's clock; each takes a microsecond anyway */
cudaError_t stream_error(cudaError_t e);           /* e, which cudaGetLastError will answer */
cudaError_t stream_refuse(const char *what);       /* fails where something is being captured; the error that nothing survives, if any */

#endif

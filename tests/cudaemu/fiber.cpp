/* fiber.cpp - threads of a kernel are fibers: a stack each, and a switch of registers. */
#include <sys/mman.h>

#include "core.h"

#ifdef EMU_ASAN
#include <pthread.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef EMU_TSAN
#include <sanitizer/tsan_interface.h>
#endif

#if defined EMU_ASAN || defined EMU_TSAN
enum { STACK = 256 << 10 };            /* reports are made on it */
#else
enum { STACK = 64 << 10 };
#endif
enum { PAGE = 4096 };

#if defined __x86_64__ && !defined EMU_UCONTEXT
/* Saves what the System V ABI lets a callee keep, and goes on where `to` was saved. */
extern "C" void emu_switch(void **from, void *to);
asm(".text\n"
    ".p2align 4\n"
    ".globl emu_switch\n"
    ".type emu_switch, @function\n"
    "emu_switch:\n"
    "    pushq %rbp\n    pushq %rbx\n    pushq %r12\n    pushq %r13\n    pushq %r14\n    pushq %r15\n"
    "    movq %rsp, (%rdi)\n"
    "    movq %rsi, %rsp\n"
    "    popq %r15\n    popq %r14\n    popq %r13\n    popq %r12\n    popq %rbx\n    popq %rbp\n"
    "    ret\n"
    ".size emu_switch, .-emu_switch\n");

static void *first_frame(char *top, void (*start)(void))
{
    void **sp = (void **)top;
    *--sp = nullptr;                   /* where start would return to; and the stack is as after a call */
    *--sp = (void *)start;
    for (int i = 0; i < 6; i++)
        *--sp = nullptr;
    return sp;
}
#else
#include <ucontext.h>
static void emu_switch(void **from, void *to)
{
    ucontext_t here;
    *from = &here;
    swapcontext(&here, (ucontext_t *)to);
}

static void *first_frame(char *top, void (*start)(void))
{
    char *bottom = top - STACK;
    ucontext_t *c = new ucontext_t;
    getcontext(c);
    c->uc_stack.ss_sp = bottom;
    c->uc_stack.ss_size = STACK;
    makecontext(c, start, 0);
    return c;
}
#endif

static void (*run_now)(void);

static void finish_switch([[maybe_unused]] emu_fiber *now)
{
#ifdef EMU_ASAN
    __sanitizer_finish_switch_fiber(now ? now->asan : nullptr, nullptr, nullptr);
#endif
}

static void start(void)
{
    finish_switch(nullptr);
    run_now();
    __builtin_trap();
}

void fiber_init(emu_fiber *f, void (*run)(void))
{
    run_now = run;
    char *p = (char *)mmap(nullptr, STACK + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED || mprotect(p, PAGE, PROT_NONE))
        emu_fail(nullptr, "no memory for a thread's stack");
    f->stack = p + PAGE;
    f->size = STACK;
    f->asan = nullptr;
    f->sp = first_frame(f->stack + STACK, start);
#ifdef EMU_TSAN
    f->tsan = __tsan_create_fiber(0);
#endif
}

#ifdef EMU_ASAN
static void own_stack(emu_fiber *f)
{
    static thread_local void *stack;
    static thread_local size_t size;
    if (!stack) {
        pthread_attr_t attr;
        pthread_getattr_np(pthread_self(), &attr);
        pthread_attr_getstack(&attr, &stack, &size);
        pthread_attr_destroy(&attr);
    }
    f->stack = (char *)stack;
    f->size = size;
}
#endif

void fiber_host(emu_fiber *f)
{
    *f = emu_fiber{};
#ifdef EMU_ASAN
    own_stack(f);
#endif
#ifdef EMU_TSAN
    f->tsan = __tsan_get_current_fiber();
#endif
}

void fiber_switch(emu_fiber *from, emu_fiber *to)
{
#ifdef EMU_ASAN
    __sanitizer_start_switch_fiber(&from->asan, to->stack, to->size);
#endif
#ifdef EMU_TSAN
    __tsan_switch_to_fiber(to->tsan, 1);       /* 1: no order between the two */
#endif
    emu_switch(&from->sp, to->sp);
    finish_switch(from);
}

bool fiber_guard(const emu_fiber *f, const void *p)
{
    return f->stack && (const char *)p < f->stack && (const char *)p >= f->stack - PAGE;
}

void sync_release([[maybe_unused]] void *p)
{
#ifdef EMU_TSAN
    __tsan_release(p);
#endif
}

void sync_acquire([[maybe_unused]] void *p)
{
#ifdef EMU_TSAN
    __tsan_acquire(p);
#endif
}

/* block.cpp - runs a grid, block after block.  A thread runs until it waits; then the warp of highest rank that can run
 * goes on.  What waits for all lanes or all threads is let go by the last to arrive, who finds every misuse. */
#include <cstdio>
#include <cstring>
#include <vector>

#include "core.h"

enum { LANES = 32, MOST_WARPS = 32, MOST_COPIES = 256, MOST_SEEN = 1024 };

/* Under TSan a thread of the device is a fiber's history; blocks that follow each other need different ones, or
 * everything in them would look ordered. */
#ifdef EMU_TSAN
enum { N_SET = 4 };
#else
enum { N_SET = 1 };
#endif

struct thread {
    emu_fiber fiber;
    emu_index index;
    const char *waits;                 /* for what; NULL: runs or could run */
    emu_site at;                       /* where it waits, or waited last */
    emu_copy copy[MOST_COPIES];        /* under way, oldest first */
    uint32_t n_copy, group;
    bool fenced;                       /* since its last atomic, which was on `atomic` */
    void *atomic;
};

struct warp {
    uint32_t ready, arrived, gone;     /* lanes */
    const char *what;                  /* that the arrived lanes wait for, and where */
    emu_site at;
    int phase;                         /* of the two slots: a lane can be ahead of another by one call only */
    emu_lane slot[2][LANES];
};

/* What the threads of a block meet at, for the race detector; a set's own, as its fibers are. */
struct set { std::vector<struct thread *> thread; char block_sync[2]; char warp_sync[MOST_WARPS][2]; };

static struct {
    const emu_kernel *kernel;
    struct set *set;
    struct warp warp[MOST_WARPS];
    uint32_t n_thread, n_warp, n_done, n_arrived;
    emu_site barrier_at;
    int phase;
    uint32_t rank[MOST_WARPS], by_rank[MOST_WARPS], ready;     /* bit r of ready: the warp of rank r has a lane that can run */
    uint32_t lane_turn;
    struct { const uint64_t *p; uint64_t was[2]; } seen[MOST_SEEN];
    uint32_t n_seen;
} blk;

static set *const sets = new set[N_SET];         /* never freed: its fibers never return */
static thread *me;                     /* NULL: the host */
static emu_fiber host;
static char launch_sync, done_sync;
const emu_index *emu_index_now;

static uint32_t number(const thread *t) { return t->index.thread.x; }
static warp    *warp_of(const thread *t) { return &blk.warp[number(t) / LANES]; }
static uint32_t lane_bit(const thread *t) { return 1u << number(t) % LANES; }

static void go_to(thread *t, emu_fiber *from)
{
    me = t;
    emu_index_now = t ? &t->index : nullptr;
    fiber_switch(from, t ? &t->fiber : &host);
}

/* ---- messages ---- */

const char *block_where(char *text, size_t size)
{
    if (!blk.kernel)
        return text[0] = 0, text;
    const emu_site *at = &blk.kernel->at;
    if (me)
        snprintf(text, size, " in block (%u,%u,%u) thread %u of the kernel launched at %s:%d", me->index.block.x, me->index.block.y,
                 me->index.block.z, number(me), at->file, at->line);
    else
        snprintf(text, size, " in the kernel launched at %s:%d", at->file, at->line);
    return text;
}

static bool same(const emu_site *a, const emu_site *b)
{
    return a->line == b->line && !strcmp(a->file, b->file);
}

static bool wait_alike(const thread *a, const thread *b)
{
    return a->waits == b->waits && (!a->waits || same(&a->at, &b->at));
}

/* Runs of threads that wait for the same. */
[[noreturn]] static void deadlock(void)
{
    thread **t = blk.set->thread.data();
    fprintf(stderr, "cudaemu: deadlock:\n");
    for (uint32_t i = 0, end; i < blk.n_thread; i = end) {
        for (end = i + 1; end < blk.n_thread && wait_alike(t[i], t[end]);)
            end++;
        if (t[i]->waits)
            fprintf(stderr, "  threads %u to %u wait in %s at %s:%d\n", i, end - 1, t[i]->waits, t[i]->at.file, t[i]->at.line);
        else
            fprintf(stderr, "  threads %u to %u have returned\n", i, end - 1);
    }
    emu_fail(nullptr, "deadlock: every thread waits for others");
}

bool block_stack_overflow(const void *p)
{
    return me && fiber_guard(&me->fiber, p);
}

/* ---- who is next ---- */

static void set_ready(uint32_t w, uint32_t lanes)
{
    blk.warp[w].ready = lanes;
    uint32_t bit = 1u << blk.rank[w];
    blk.ready = lanes ? blk.ready | bit : blk.ready & ~bit;
}

static void swap_ranks(uint32_t a, uint32_t b)
{
    uint32_t w = blk.by_rank[a], v = blk.by_rank[b];
    blk.by_rank[a] = v, blk.by_rank[b] = w;
    blk.rank[v] = a, blk.rank[w] = b;
    set_ready(v, blk.warp[v].ready);
    set_ready(w, blk.warp[w].ready);
}

static thread *next_thread(void)
{
    if (emu_opt.schedule == EMU_RANDOM && emu_random() % 64 == 0)
        swap_ranks(emu_random() % blk.n_warp, emu_random() % blk.n_warp);
    if (!blk.ready)
        deadlock();
    uint32_t w = blk.by_rank[__builtin_ctz(blk.ready)], lanes = blk.warp[w].ready, turn = blk.lane_turn;
    uint32_t turned = turn ? lanes >> turn | lanes << (LANES - turn) : lanes;
    uint32_t lane = emu_opt.schedule == EMU_REVERSE ? 31 - __builtin_clz(lanes) : (__builtin_ctz(turned) + turn) % LANES;
    return blk.set->thread[w * LANES + lane];
}

/* Lets others run until somebody makes this thread ready; it may be this thread at once. */
static void yield(void)
{
    thread *from = me, *to = next_thread();
    if (to != from)
        go_to(to, &from->fiber);
}

static void wait(const char *what, emu_site at)
{
    me->waits = what;
    me->at = at;
    uint32_t w = number(me) / LANES;
    set_ready(w, blk.warp[w].ready & ~lane_bit(me));
    yield();
}

/* ---- warps ---- */

const emu_lane *emu_gather(const char *what, const uint32_t *word, int n, emu_site at)
{
    uint32_t w = number(me) / LANES;
    warp *p = &blk.warp[w];
    int phase = p->phase;
    if (p->gone)
        emu_fail(&at, "%s waits for lanes %#x of its warp, which have returned", what, p->gone);
    if (!p->arrived) {
        p->what = what;
        p->at = at;
    } else if (p->what != what || !same(&p->at, &at)) {
        emu_fail(&at, "the lanes of a warp part: this one calls %s, lanes %#x wait in %s at %s:%d", what, p->arrived, p->what, p->at.file, p->at.line);
    }
    for (int i = 0; i < n; i++)
        p->slot[phase][number(me) % LANES].word[i] = word[i];
    p->arrived |= lane_bit(me);
    if (p->arrived != ~0u) {
        wait(what, at);
        return p->slot[phase];
    }
    p->arrived = 0;
    p->phase ^= 1;
    for (uint32_t i = 0; i < LANES; i++)
        blk.set->thread[w * LANES + i]->waits = nullptr;
    set_ready(w, ~0u);
    return p->slot[phase];
}

void emu_warp_sync(emu_site at)
{
    warp *p = warp_of(me);
    char *sync = &blk.set->warp_sync[number(me) / LANES][p->phase];
    sync_release(sync);
    emu_gather("warp_sync", nullptr, 0, at);
    sync_acquire(sync);
}

/* ---- blocks ---- */

void emu_block_sync(emu_site at)
{
    if (blk.n_done)
        emu_fail(&at, "block_sync waits for %u threads, which have returned", blk.n_done);
    if (!blk.n_arrived)
        blk.barrier_at = at;
    else if (!same(&blk.barrier_at, &at))
        emu_fail(&at, "the threads of a block part: this one calls block_sync, %u wait in the one at %s:%d", blk.n_arrived,
                 blk.barrier_at.file, blk.barrier_at.line);
    char *sync = &blk.set->block_sync[blk.phase];
    sync_release(sync);
    if (++blk.n_arrived < blk.n_thread) {
        wait("block_sync", at);
    } else {
        blk.n_arrived = 0;
        blk.phase ^= 1;
        for (uint32_t i = 0; i < blk.n_thread; i++)
            blk.set->thread[i]->waits = nullptr;
        for (uint32_t w = 0; w < blk.n_warp; w++)
            set_ready(w, ~0u);
        yield();
    }
    sync_acquire(sync);
}

/* A fence and then an atomic publish what was before; an atomic and then a fence see what others published there.  (What
 * stands between the fence and the atomic is published too, which is more than a GPU promises.) */
void emu_fence(void)
{
    if (me->atomic)
        sync_acquire(me->atomic);
    me->fenced = true;
}

void emu_atomic(const char *what, void *p, size_t size, emu_site at)
{
    emu_check(what, p, size, size, EMU_BOTH, at);
    if (me->fenced)
        sync_release(p);
    me->fenced = false;
    me->atomic = p;
}

/* ---- read-only loads: what the first of them saw must still be there when the grid has run ---- */

void emu_readonly(const void *p)
{
    if (blk.n_seen < MOST_SEEN)
        blk.seen[blk.n_seen++] = {(const uint64_t *)p, {((const uint64_t *)p)[0], ((const uint64_t *)p)[1]}};
}

static void check_readonly(void)
{
    for (uint32_t i = 0; i < blk.n_seen; i++)
        if (blk.seen[i].p[0] != blk.seen[i].was[0] || blk.seen[i].p[1] != blk.seen[i].was[1])
            emu_fail(nullptr, "a read-only load at %p, which the kernel writes", (const void *)blk.seen[i].p);
    blk.n_seen = 0;
}

/* ---- cp.async ---- */

bool emu_copy_issue(void *shared, const void *global, uint32_t size, emu_site at)
{
    emu_check("cp_async16", shared, 16, 16, EMU_SHARED, at);
    if (size > 16)
        emu_fail(&at, "cp_async16 of %u bytes; it copies 0 to 16", size);
    if ((uintptr_t)global % 16)
        emu_fail(&at, "cp_async16 from %p, which is no multiple of 16", global);
    if (size)
        emu_check("cp_async16", global, size, 16, EMU_GLOBAL, at);
    if (me->n_copy == MOST_COPIES)
        emu_fail(&at, "more than %d copies of a thread are under way", MOST_COPIES);
    for (uint32_t i = 0; i < me->n_copy; i++)
        if (me->copy[i].to == shared)
            emu_fail(&at, "cp_async16 to where an earlier copy is still under way");
    if (emu_opt.copies == EMU_EAGER || (emu_opt.copies == EMU_MIXED && emu_random() % 2))
        return true;
    me->copy[me->n_copy++] = emu_copy{shared, global, size, me->group};
    return false;
}

void emu_copy_commit(void)
{
    me->group++;
}

bool emu_copy_due(uint32_t n_left, emu_copy *c)
{
    if (!me->n_copy || me->copy[0].group + n_left >= me->group)
        return false;
    *c = me->copy[0];
    me->n_copy--;
    for (uint32_t i = 0; i < me->n_copy; i++)
        me->copy[i] = me->copy[i + 1];
    return true;
}

/* ---- grids ---- */

static void finish_thread(void)
{
    warp *p = warp_of(me);
    if (me->n_copy)
        emu_fail(nullptr, "a thread returns with %u cp.async copies under way", me->n_copy);
    if (p->arrived)
        emu_fail(&p->at, "%s waits for a lane that returns", p->what);
    if (blk.n_arrived)
        emu_fail(&blk.barrier_at, "block_sync waits for a thread that returns");
    p->gone |= lane_bit(me);
    uint32_t w = number(me) / LANES;
    set_ready(w, p->ready & ~lane_bit(me));
    sync_release(&done_sync);
    thread *from = me;
    go_to(++blk.n_done == blk.n_thread ? nullptr : next_thread(), &from->fiber);
}

static void run_thread(void)
{
    for (;;) {
        sync_acquire(&launch_sync);
        blk.kernel->body();
        finish_thread();
    }
}

static void begin_threads(set *s, uint3 block)
{
    while (s->thread.size() < blk.n_thread) {
        s->thread.push_back(new thread{});
        fiber_init(&s->thread.back()->fiber, run_thread);
    }
    for (uint32_t i = 0; i < blk.n_thread; i++) {
        thread *t = s->thread[i];
        t->index = emu_index{uint3{i, 0, 0}, block, dim3{blk.n_thread, 1, 1}, blk.kernel->grid};
        t->waits = nullptr;
        t->n_copy = t->group = 0;
        t->fenced = false;
        t->atomic = nullptr;
    }
}

static void run_block(set *s, uint3 block)
{
    blk.set = s;
    blk.n_thread = blk.kernel->block;
    blk.n_warp = blk.n_thread / LANES;
    blk.n_done = blk.n_arrived = blk.ready = 0;
    blk.phase = 0;
    blk.lane_turn = emu_opt.schedule == EMU_RANDOM ? emu_random() % LANES : 0;
    begin_threads(s, block);
    for (uint32_t w = 0; w < blk.n_warp; w++)
        blk.rank[w] = blk.by_rank[w] = emu_opt.schedule == EMU_REVERSE ? blk.n_warp - 1 - w : w;
    for (uint32_t w = 0; w < blk.n_warp; w++) {
        blk.warp[w].arrived = blk.warp[w].gone = 0;
        blk.warp[w].phase = 0;
        set_ready(w, ~0u);
    }
    for (uint32_t w = blk.n_warp; emu_opt.schedule == EMU_RANDOM && w > 1; w--)
        swap_ranks(w - 1, emu_random() % w);
    shared_begin(blk.kernel->dynamic_shared);
    sync_release(&launch_sync);
    go_to(next_thread(), &host);
    shared_end(blk.kernel);
}

void block_run_grid(const emu_kernel *k)
{
    dim3 g = k->grid;
    std::vector<uint32_t> order((size_t)g.x * g.y * g.z);
    for (size_t i = 0; i < order.size(); i++)
        order[i] = (uint32_t)(emu_opt.schedule == EMU_REVERSE ? order.size() - 1 - i : i);
    for (size_t n = order.size(); emu_opt.schedule == EMU_RANDOM && n > 1; n--)
        std::swap(order[n - 1], order[emu_random() % n]);
    blk.kernel = k;
    fiber_host(&host);
    for (size_t i = 0; i < order.size(); i++) {
        uint32_t b = order[i];
        run_block(&sets[i % N_SET], uint3{b % g.x, b / g.x % g.y, b / g.x / g.y});
    }
    sync_acquire(&done_sync);
    check_readonly();
    blk.kernel = nullptr;
}

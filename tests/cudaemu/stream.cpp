/* stream.cpp - streams are queues that nobody runs before the host waits for something; then what must run does, and
 * sometimes more, in any order that the events allow.  Graphs are what was enqueued while recording. */
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "core.h"

/* Of an event: a record's number grows from one record to the next. */
struct moment {
    uint64_t recorded, done;
    double time_ms;
    uint64_t capture;                  /* recorded in the capture of this number (0: none), after these nodes */
    std::vector<int> after;
};

enum kind { RUN, RECORD, WAIT };

struct range { const char *start; size_t size; };

struct op {
    enum kind kind;
    const char *what;
    std::function<void()> run;
    std::shared_ptr<moment> event;
    uint64_t number;
    struct range reads, writes;        /* pinned memory */
};

struct CUevent_st { std::shared_ptr<moment> now; };
struct CUstream_st { std::deque<op> queue; struct capture *capture; std::vector<int> after; };

struct node { op what; std::vector<int> after; };
struct CUgraph_st { std::vector<node> nodes; };
struct CUgraphExec_st { std::vector<node> nodes; };
struct capture { uint64_t number; CUgraph_st *graph; CUstream_st *origin; enum cudaStreamCaptureMode mode; };

std::recursive_mutex emu_mutex;

static std::vector<CUstream_st *> streams;
static std::map<const void *, size_t> allowed_shared;
static int n_capture;                  /* that forbid what could wait */
static std::atomic<uint64_t> n_run;        /* a second thread may ask */
static uint64_t n_graph;
static cudaError_t last_error, lost;
static double now_ms;                  /* the device's clock: not ours, so that what is tuned by it is the same in every run */

void stream_spend(double ms)
{
    now_ms += ms;
}

cudaError_t stream_error(cudaError_t e)
{
    if (e)
        last_error = e;
    return e;
}

cudaError_t stream_refuse(const char *what)
{
    if (n_capture)
        emu_fail(nullptr, "%s while a stream is captured", what);
    return stream_error(lost);
}

static CUstream_st *real_stream(const char *what, cudaStream_t s)
{
    if (std::find(streams.begin(), streams.end(), s) == streams.end())
        emu_fail(nullptr, "%s on %s", what, s ? "what is no stream" : "the default stream");
    return s;
}

/* ---- running ---- */

static void run_op(const op &o)
{
    if (o.kind == RECORD) {
        o.event->time_ms = now_ms;
        o.event->done = o.number;
    }
    if (o.kind != RUN || lost)
        return;
    n_run++;
    stream_spend(1e-3);
    if (emu_opt.fail_at && !--emu_opt.fail_at)
        lost = last_error = cudaErrorIllegalAddress;
    else
        o.run();
}

static bool ready(const CUstream_st *s)
{
    return !s->queue.empty() && (s->queue.front().kind != WAIT || s->queue.front().event->done >= s->queue.front().number);
}

/* Whose record the wait at the head of s waits for. */
static CUstream_st *recorder(const op &wait)
{
    for (CUstream_st *s : streams)
        for (const op &o : s->queue)
            if (o.kind == RECORD && o.event == wait.event && o.number == wait.number)
                return s;
    emu_fail(nullptr, "a stream waits for an event that nothing will record");
}

/* The next to run on the way to the end of s, or another that could. */
static CUstream_st *next_stream(CUstream_st *s)
{
    std::vector<CUstream_st *> able;
    std::copy_if(streams.begin(), streams.end(), std::back_inserter(able), ready);
    if (emu_opt.schedule == EMU_REVERSE && !able.empty())
        return able.back();
    if (emu_opt.schedule == EMU_RANDOM && !able.empty() && emu_random() % 2)
        return able[emu_random() % able.size()];
    while (!ready(s))
        s = recorder(s->queue.front());
    return s;
}

static void run_one(CUstream_st *s)
{
    op o = std::move(s->queue.front());
    s->queue.pop_front();
    run_op(o);
}

/* Runs until `until` holds, of which s is in the way. */
static cudaError_t run_until(const std::function<bool()> &until, const std::function<CUstream_st *()> &in_the_way)
{
    if (until())
        return stream_error(lost);
    memory_open();
    while (!until())
        run_one(next_stream(in_the_way()));
    memory_check();
    memory_close();
    return stream_error(lost);
}

static cudaError_t run_stream(CUstream_st *s)
{
    return run_until([=] { return s->queue.empty(); }, [=] { return s; });
}

static CUstream_st *busy_stream(void)
{
    auto s = std::find_if(streams.begin(), streams.end(), [](CUstream_st *x) { return !x->queue.empty(); });
    return s == streams.end() ? nullptr : *s;
}

/* A question makes progress, so that asking again and again ends. */
static void run_some(CUstream_st *s)
{
    memory_open();
    for (uint64_t n = emu_opt.schedule == EMU_RANDOM ? emu_random() % 4 : 1; n && !s->queue.empty(); n--)
        run_one(next_stream(s));
    memory_close();
}

uint64_t emu_operations(void) { return n_run; }
uint64_t emu_graphs(void) { LOCKED; return n_graph; }
bool emu_idle(void) { LOCKED; return !busy_stream(); }

/* ---- enqueueing ---- */

static bool read_later(const range &r)
{
    for (CUstream_st *s : streams)
        for (const op &o : s->queue)
            if (o.reads.start < r.start + r.size && r.start < o.reads.start + o.reads.size)
                return true;
    return false;
}

/* Pinned memory that a copy will write is not a number until then: whoever reads too early shall notice. */
static void spoil(const op &o)
{
    if (o.writes.size && !read_later(o.writes))
        memset((void *)o.writes.start, 0xff, o.writes.size);
}

static cudaError_t enqueue(CUstream_st *s, op o)
{
    if (lost)
        return stream_error(lost);
    if (!s->capture) {
        spoil(o);
        s->queue.push_back(std::move(o));
        return cudaSuccess;
    }
    std::vector<node> &nodes = s->capture->graph->nodes;
    nodes.push_back(node{std::move(o), s->after});
    s->after.assign(1, (int)nodes.size() - 1);
    return cudaSuccess;
}

cudaError_t stream_add(cudaStream_t s, const char *what, std::function<void()> run)
{
    LOCKED;
    return enqueue(real_stream(what, s), op{RUN, what, std::move(run), nullptr, 0, {}, {}});
}

cudaError_t emu_launch(const emu_kernel &k, cudaStream_t stream)
{
    LOCKED;
    const emu_site *at = &k.at;
    if (!k.grid.x || !k.grid.y || !k.grid.z || k.grid.x > 0x7fffffff || k.grid.y > 65535 || k.grid.z > 65535)
        emu_fail(at, "a grid of %u x %u x %u blocks", k.grid.x, k.grid.y, k.grid.z);
    if (!k.block || k.block % 32 || k.block > 1024)
        emu_fail(at, "a block of %u threads; it has a multiple of 32, at most 1024", k.block);
    if (k.dynamic_shared > MOST_SHARED)
        emu_fail(at, "%zu bytes of dynamic shared memory; %d is the most", k.dynamic_shared, MOST_SHARED);
    if (k.dynamic_shared > PLAIN_SHARED && allowed_shared[k.function] < k.dynamic_shared)
        emu_fail(at, "%zu bytes of dynamic shared memory; more than %d need prim_allow_shared (%zu were allowed)", k.dynamic_shared,
                 PLAIN_SHARED, allowed_shared[k.function]);
    return stream_add(stream, "a kernel", [k] { block_run_grid(&k); });
}

cudaError_t cudaFuncSetAttribute(const void *function, enum cudaFuncAttribute a, int value)
{
    LOCKED;
    if (a == cudaFuncAttributeMaxDynamicSharedMemorySize) {
        if (value < 0 || value > MOST_SHARED)
            return stream_error(cudaErrorInvalidValue);
        allowed_shared[function] = (size_t)value;
    }
    return stream_error(lost);
}

/* ---- copies ---- */

static bool device_side(const char *what, const void *p, size_t size)
{
    if (!memory_is(p))
        return false;
    if (memory_extent(p) < size)
        emu_fail(nullptr, "%s of %zu bytes at %p, where the allocation has %zu more", what, size, p, memory_extent(p));
    return true;
}

static bool pinned_side(const char *what, const void *p, size_t size)
{
    size_t extent = pinned_extent(p);
    if (extent && extent < size)
        emu_fail(nullptr, "%s of %zu bytes at %p, where the pinned buffer has %zu more", what, size, p, extent);
    return extent;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t size, enum cudaMemcpyKind kind, cudaStream_t stream)
{
    LOCKED;
    const char *what = "cudaMemcpyAsync";
    CUstream_st *s = real_stream(what, stream);
    if (!size)
        return stream_error(lost);
    bool up = device_side(what, to, size), down = device_side(what, from, size);
    enum cudaMemcpyKind is = up && down ? cudaMemcpyDeviceToDevice : up ? cudaMemcpyHostToDevice : down ? cudaMemcpyDeviceToHost : cudaMemcpyHostToHost;
    if (kind != is && kind != cudaMemcpyDefault)
        emu_fail(nullptr, "cudaMemcpyAsync of kind %d, but the addresses are of kind %d", (int)kind, (int)is);
    bool pageable = (!up && !pinned_side(what, to, size)) || (!down && !pinned_side(what, from, size));
    if (pageable && s->capture)
        emu_fail(nullptr, "cudaMemcpyAsync with pageable memory while a stream is captured");
    if (pageable && is == cudaMemcpyHostToDevice) {        /* the host's memory is free again at return */
        std::vector<char> staged((const char *)from, (const char *)from + size);
        return stream_add(s, "a copy", [=] { memcpy(to, staged.data(), size); });
    }
    range reads = down || pageable ? range{} : range{(const char *)from, size}, writes = up || pageable ? range{} : range{(const char *)to, size};
    cudaError_t e = enqueue(s, op{RUN, "a copy", [=] { memmove(to, from, size); }, nullptr, 0, reads, writes});
    return pageable && !e ? run_stream(s) : e;
}

cudaError_t cudaMemsetAsync(void *p, int byte, size_t size, cudaStream_t stream)
{
    LOCKED;
    if (size && !device_side("cudaMemsetAsync", p, size))
        emu_fail(nullptr, "cudaMemsetAsync of %p, which is no device memory", p);
    return size ? stream_add(stream, "a memset", [=] { memset(p, byte, size); }) : stream_error(lost);
}

/* ---- streams and events ---- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned int)
{
    LOCKED;
    streams.push_back(*s = new CUstream_st{});
    return stream_error(lost);
}

cudaError_t cudaStreamCreate(cudaStream_t *s)
{
    return cudaStreamCreateWithFlags(s, 0);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *s, unsigned int flags, int)
{
    return cudaStreamCreateWithFlags(s, flags);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    LOCKED;
    cudaError_t e = run_stream(real_stream("cudaStreamDestroy", s));
    streams.erase(std::find(streams.begin(), streams.end(), s));
    delete s;
    return e;
}

cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
    LOCKED;
    stream_refuse("cudaStreamSynchronize");
    return run_stream(real_stream("cudaStreamSynchronize", s));
}

cudaError_t cudaDeviceSynchronize(void)
{
    LOCKED;
    stream_refuse("cudaDeviceSynchronize");
    return run_until([] { return !busy_stream(); }, busy_stream);
}

cudaError_t cudaStreamQuery(cudaStream_t s)
{
    LOCKED;
    stream_refuse("cudaStreamQuery");
    run_some(real_stream("cudaStreamQuery", s));
    return lost ? stream_error(lost) : s->queue.empty() ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned int)
{
    LOCKED;
    *e = new CUevent_st{std::make_shared<moment>()};
    return stream_error(lost);
}

cudaError_t cudaEventCreate(cudaEvent_t *e)
{
    return cudaEventCreateWithFlags(e, 0);
}

cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    LOCKED;
    delete e;
    return stream_error(lost);
}

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t stream)
{
    LOCKED;
    CUstream_st *s = real_stream("cudaEventRecord", stream);
    e->now->capture = s->capture ? s->capture->number : 0;
    e->now->after = s->after;
    if (s->capture)
        return cudaSuccess;
    return enqueue(s, op{RECORD, "an event", nullptr, e->now, ++e->now->recorded, {}, {}});
}

static capture *capture_of(uint64_t number)
{
    for (CUstream_st *s : streams)
        if (s->capture && s->capture->number == number)
            return s->capture;
    emu_fail(nullptr, "a stream waits for an event of a capture that has ended");
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t e, unsigned int)
{
    LOCKED;
    CUstream_st *s = real_stream("cudaStreamWaitEvent", stream);
    if (!e->now->capture) {
        if (s->capture)
            emu_fail(nullptr, "a captured stream waits for an event from outside of the graph");
        return enqueue(s, op{WAIT, "a wait", nullptr, e->now, e->now->recorded, {}, {}});
    }
    if (!s->capture && !s->queue.empty() && s->queue.back().kind == RUN)
        emu_fail(nullptr, "a stream with work under way joins a capture");
    capture *c = capture_of(e->now->capture);
    if (s->capture && s->capture != c)
        emu_fail(nullptr, "two captures meet");
    s->capture = c;
    s->after.insert(s->after.end(), e->now->after.begin(), e->now->after.end());
    return cudaSuccess;
}

static bool passed(const moment *m, uint64_t number)
{
    return m->done >= number;
}

static CUstream_st *recorder_of(cudaEvent_t e, uint64_t number)
{
    return recorder(op{WAIT, "", nullptr, e->now, number, {}, {}});
}

cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
    LOCKED;
    stream_refuse("cudaEventSynchronize");
    uint64_t n = e->now->recorded;
    return run_until([=] { return passed(e->now.get(), n); }, [=] { return recorder_of(e, n); });
}

cudaError_t cudaEventQuery(cudaEvent_t e)
{
    LOCKED;
    stream_refuse("cudaEventQuery");
    if (!passed(e->now.get(), e->now->recorded))
        run_some(recorder_of(e, e->now->recorded));
    return lost ? stream_error(lost) : passed(e->now.get(), e->now->recorded) ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to)
{
    LOCKED;
    if (!from->now->recorded || !to->now->recorded)
        return stream_error(cudaErrorInvalidResourceHandle);
    if (!passed(from->now.get(), from->now->recorded) || !passed(to->now.get(), to->now->recorded))
        return cudaErrorNotReady;
    *ms = (float)(to->now->time_ms - from->now->time_ms);
    return stream_error(lost);
}

/* ---- graphs ---- */

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    LOCKED;
    CUstream_st *s = real_stream("cudaStreamBeginCapture", stream);
    if (s->capture)
        emu_fail(nullptr, "cudaStreamBeginCapture of a stream that is captured");
    static uint64_t number;
    s->capture = new capture{++number, new CUgraph_st{}, s, mode};
    s->after.clear();
    n_capture += mode != cudaStreamCaptureModeRelaxed;
    return stream_error(lost);
}

/* Whether everything captured is before the end of the origin stream. */
static bool joined(const CUgraph_st *g, const std::vector<int> &end)
{
    std::vector<bool> seen(g->nodes.size());
    std::vector<int> todo = end;
    while (!todo.empty()) {
        int i = todo.back();
        todo.pop_back();
        if (seen[i])
            continue;
        seen[i] = true;
        todo.insert(todo.end(), g->nodes[i].after.begin(), g->nodes[i].after.end());
    }
    return std::find(seen.begin(), seen.end(), false) == seen.end();
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    LOCKED;
    CUstream_st *s = real_stream("cudaStreamEndCapture", stream);
    capture *c = s->capture;
    if (!c || c->origin != s)
        emu_fail(nullptr, "cudaStreamEndCapture of a stream where no capture began");
    if (!joined(c->graph, s->after))
        emu_fail(nullptr, "cudaStreamEndCapture while another stream of the capture has not been joined");
    for (CUstream_st *x : streams)
        if (x->capture == c) {
            x->capture = nullptr;
            x->after.clear();
        }
    n_capture -= c->mode != cudaStreamCaptureModeRelaxed;
    *graph = c->graph;
    delete c;
    return stream_error(lost);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t s, enum cudaStreamCaptureStatus *status)
{
    LOCKED;
    *status = real_stream("cudaStreamIsCapturing", s)->capture ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return stream_error(lost);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long)
{
    LOCKED;
    *exec = new CUgraphExec_st{graph->nodes};
    return stream_error(lost);
}

cudaError_t cudaGraphExecUpdate(cudaGraphExec_t exec, cudaGraph_t graph, cudaGraphExecUpdateResultInfo *info)
{
    LOCKED;
    bool alike = exec->nodes.size() == graph->nodes.size();
    for (size_t i = 0; alike && i < exec->nodes.size(); i++)
        alike = exec->nodes[i].after == graph->nodes[i].after && !strcmp(exec->nodes[i].what.what, graph->nodes[i].what.what);
    *info = cudaGraphExecUpdateResultInfo{};
    info->result = alike ? cudaGraphExecUpdateSuccess : cudaGraphExecUpdateErrorTopologyChanged;
    if (!alike)
        return stream_error(cudaErrorGraphExecUpdateFailure);
    exec->nodes = graph->nodes;
    return stream_error(lost);
}

/* In any order that the edges allow. */
static void run_nodes(const std::vector<node> &nodes)
{
    std::vector<bool> done(nodes.size());
    for (size_t left = nodes.size(); left; left--) {
        std::vector<size_t> able;
        for (size_t i = 0; i < nodes.size() && (able.empty() || emu_opt.schedule != EMU_IN_ORDER); i++)
            if (!done[i] && std::all_of(nodes[i].after.begin(), nodes[i].after.end(), [&](int k) { return done[k]; }))
                able.push_back(i);
        size_t i = emu_opt.schedule == EMU_REVERSE ? able.back() : able[emu_opt.schedule == EMU_RANDOM ? emu_random() % able.size() : 0];
        run_op(nodes[i].what);
        done[i] = true;
    }
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    LOCKED;
    CUstream_st *s = real_stream("cudaGraphLaunch", stream);
    n_graph++;
    std::vector<node> nodes = exec->nodes;
    for (const node &n : nodes)
        spoil(n.what);
    return enqueue(s, op{RUN, "a graph", [nodes] { run_nodes(nodes); }, nullptr, 0, {}, {}});
}

cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { return stream_error(lost); }
cudaError_t cudaGraphDestroy(cudaGraph_t g) { LOCKED; delete g; return stream_error(lost); }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t g) { LOCKED; delete g; return stream_error(lost); }

/* ---- errors ---- */

cudaError_t cudaGetLastError(void)
{
    cudaError_t e = last_error;
    last_error = lost;
    return e;
}

cudaError_t cudaPeekAtLastError(void)
{
    return last_error;
}

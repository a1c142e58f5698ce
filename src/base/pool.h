/* pool.h - a team of threads that do one job together, again and again (the CPU device's ops).
 * The caller is thread 0.  Jobs are split statically by the thread number, so that what a thread
 * does depends on nothing but (thread, n_thread).  Waiting threads spin shortly, then sleep. */
#ifndef BASE_POOL_H
#define BASE_POOL_H

struct pool;

struct pool *pool_open(int n_thread);
void         pool_close(struct pool *p);
int          pool_size(const struct pool *p);

/* Runs job(arg, thread, n_thread) on every thread; returns when the last is done. */
void pool_run(struct pool *p, void (*job)(void *arg, int thread, int n_thread), void *arg);

#endif

#define _GNU_SOURCE         /* sigwait */
#include "cmd/stop.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "cmd/cmd.h"

atomic_bool stop_asked;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct queue *running;          /* to be closed; NULL: none */
static bool begun;

static void set_of_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGTERM);
}

static void *watch_signals(void *arg)
{
    sigset_t set;
    int number;
    (void)arg;
    set_of_signals(&set);
    for (;;) {
        sigwait(&set, &number);
        pthread_mutex_lock(&lock);
        if (stop_asked || !begun)
            _exit(EXIT_AGAIN);
        stop_asked = true;
        log_info("stopping: what runs is finished first; once more to stop at once");
        if (running)
            queue_close(running);
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

void stop_catch(void)
{
    sigset_t set;
    pthread_t watcher;
    set_of_signals(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);          /* a closed pipe is a write error */
    if (pthread_create(&watcher, NULL, watch_signals, NULL) || pthread_detach(watcher))
        die("cannot start a thread");
}

void stop_wakes(struct queue *q)
{
    pthread_mutex_lock(&lock);
    running = q;
    begun = true;
    pthread_mutex_unlock(&lock);
}

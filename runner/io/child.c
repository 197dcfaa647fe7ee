#define _GNU_SOURCE /* pipe2, strsignal */

#include "runner/io/child.h"

#include "kernels/base/clock.h"
#include "kernels/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

struct lemoe_child {
    pid_t number;
    int link;
    bool has_ended; /* its end of the link is closed */
};

/* ---- in the child ---- */

/* MPI may have handlers of its own, which print and look around; a fault is to be what the system makes of it. */
static void restore_faults(void) {
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) (void)signal(faults[i], SIG_DFL);
}

static void be_child(pid_t parent, void (*work)(void *context, int link), void *context, int link) {
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1); /* it died before that */
    restore_faults();
    work(context, link);
    _exit(0); /* nothing of the parent's is flushed or closed twice */
}

bool lemoe_child_send(int link, const void *record, size_t n_bytes) {
    ssize_t n = 0; /* in one piece: pipes promise that up to PIPE_BUF */
    do n = write(link, record, n_bytes);
    while (n < 0 && errno == EINTR);
    return n == (ssize_t)n_bytes;
}

/* ---- in the parent ---- */

lemoe_status lemoe_child_start(void (*work)(void *context, int link), void *context, lemoe_child **out) {
    int ends[2];
    pid_t parent = getpid();
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof **out, out));
    lemoe_child *child = *out;
    child->number = -1;
    if (pipe2(ends, O_CLOEXEC) == 0) {
        child->number = fork();
        if (child->number == 0) {
            (void)close(ends[0]);
            be_child(parent, work, context, ends[1]);
        }
        child->link = ends[0];
        (void)close(ends[1]);
    }
    if (child->number > 0) return LEMOE_OK;
    int reason = errno;
    lemoe_mem_free(child);
    *out = NULL;
    return lemoe_raise(LEMOE_ERR_IO, "no process can be started: %s", strerror(reason));
}

/* Whether there is something to read, or nothing any more. */
static bool wait_for(const lemoe_child *child, double until) {
    for (;;) {
        struct pollfd what = {.fd = child->link, .events = POLLIN};
        double left = until - lemoe_clock_seconds();
        int n = poll(&what, 1, left > 0 ? (int)(1e3 * left) + 1 : 0);
        if (n > 0) return true;
        if (n == 0 && left <= 0) return false;
        if (n < 0 && errno != EINTR) return false;
    }
}

bool lemoe_child_receive(lemoe_child *child, void *record, size_t n_bytes, double until) {
    size_t n_read = 0;
    while (n_read < n_bytes && !child->has_ended && wait_for(child, until)) {
        ssize_t n = read(child->link, (char *)record + n_read, n_bytes - n_read);
        if (n > 0)
            n_read += (size_t)n;
        else
            child->has_ended = n == 0 || errno != EINTR;
    }
    return n_read == n_bytes;
}

lemoe_child_ending lemoe_child_end(lemoe_child *child, int *how) {
    bool was_at_work = !child->has_ended;
    pid_t n = 0;
    *how = 0;
    (void)close(child->link);
    if (was_at_work) (void)kill(child->number, SIGKILL);
    do n = waitpid(child->number, how, 0);
    while (n < 0 && errno == EINTR);
    lemoe_mem_free(child);
    if (n < 0) return LEMOE_CHILD_DIED;
    if (was_at_work) return LEMOE_CHILD_STOPPED;
    return *how == 0 ? LEMOE_CHILD_DONE : LEMOE_CHILD_DIED;
}

void lemoe_child_describe(int how, char *out, size_t n_bytes) {
    if (WIFSIGNALED(how))
        (void)snprintf(out, n_bytes, "killed by signal %d (%s)", WTERMSIG(how), strsignal(WTERMSIG(how)));
    else
        (void)snprintf(out, n_bytes, "ended with status %d", WEXITSTATUS(how));
}

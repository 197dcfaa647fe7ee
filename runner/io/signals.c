#include "runner/io/signals.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>

enum { N_SIGNAL = 3 };
static const int watched[N_SIGNAL] = {SIGUSR1, SIGINT, SIGTERM};

static volatile sig_atomic_t pending;
static struct sigaction previous[N_SIGNAL], previous_pipe;
static sigset_t previous_mask;
static bool is_installed, is_held;

static void remember(int number) { pending = number; }

static sigset_t watched_set(void) {
    sigset_t set;
    (void)sigemptyset(&set);
    for (int i = 0; i < N_SIGNAL; i++) (void)sigaddset(&set, watched[i]);
    return set;
}

lemoe_status lemoe_signals_install(void) {
    struct sigaction note = {.sa_handler = remember,
                             .sa_flags = SA_RESTART}; /* libraries need not cope with cut calls */
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    pending = 0;
    if (is_installed) return LEMOE_OK;
    (void)sigemptyset(&note.sa_mask);
    (void)sigemptyset(&ignore.sa_mask);
    for (int i = 0; i < N_SIGNAL; i++) {
        if (sigaction(watched[i], &note, &previous[i]) == 0) continue;
        int reason = errno;
        while (i-- > 0) (void)sigaction(watched[i], &previous[i], NULL);
        return lemoe_raise(LEMOE_ERR_IO, "cannot install a signal handler: %s", strerror(reason));
    }
    (void)sigaction(SIGPIPE, &ignore, &previous_pipe);
    is_installed = true;
    return LEMOE_OK;
}

void lemoe_signals_hold(void) {
    sigset_t set = watched_set();
    if (!is_installed || is_held) return;
    is_held = pthread_sigmask(SIG_BLOCK, &set, &previous_mask) == 0;
}

void lemoe_signals_restore(void) {
    if (!is_installed) return;
    (void)lemoe_signals_pending(); /* what waits is taken, and ends nothing below */
    if (is_held) (void)pthread_sigmask(SIG_SETMASK, &previous_mask, NULL);
    for (int i = 0; i < N_SIGNAL; i++) (void)sigaction(watched[i], &previous[i], NULL);
    (void)sigaction(SIGPIPE, &previous_pipe, NULL);
    is_installed = is_held = false;
}

int lemoe_signals_pending(void) {
    const struct timespec at_once = {0, 0};
    sigset_t set = watched_set();
    for (int number = 0; is_held && (number = sigtimedwait(&set, NULL, &at_once)) > 0;) pending = number;
    return (int)pending;
}

void lemoe_signals_note(int number) { pending = number; }

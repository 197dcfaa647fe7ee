#include "runner/io/signals.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>

enum { N_SIGNAL = 3 };
static const int watched[N_SIGNAL] = {SIGUSR1, SIGINT, SIGTERM};

static volatile sig_atomic_t pending;
static struct sigaction previous[N_SIGNAL];
static bool is_installed;

static void remember(int number) { pending = number; }

lemoe_status lemoe_signals_install(void) {
    pending = 0;
    if (is_installed) return LEMOE_OK;
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = remember;
    action.sa_flags = SA_RESTART; /* libraries need not cope with interrupted calls */
    (void)sigemptyset(&action.sa_mask);
    for (int i = 0; i < N_SIGNAL; i++) {
        if (sigaction(watched[i], &action, &previous[i]) == 0) continue;
        int reason = errno;
        while (i-- > 0) (void)sigaction(watched[i], &previous[i], NULL);
        return lemoe_raise(LEMOE_ERR_IO, "cannot install a signal handler: %s", strerror(reason));
    }
    is_installed = true;
    return LEMOE_OK;
}

void lemoe_signals_restore(void) {
    if (!is_installed) return;
    for (int i = 0; i < N_SIGNAL; i++) (void)sigaction(watched[i], &previous[i], NULL);
    is_installed = false;
}

int lemoe_signals_pending(void) { return (int)pending; }

void lemoe_signals_note(int number) { pending = number; }

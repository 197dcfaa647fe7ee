#define _XOPEN_SOURCE 700 /* sigaltstack */

#include "runner/io/signals.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>

enum { N_SIGNAL = 3 };
static const int watched[N_SIGNAL] = {SIGUSR1, SIGINT, SIGTERM};

/* Handlers run on a stack of their own. A signal's frame is otherwise written right below what the interrupted code
 * uses, and AVX-512 products of oneDNN 2.6 do not survive that: a signal in the middle of one corrupted the heap.
 * Frames with all vector and matrix registers take about 11 KiB. */
enum { HANDLER_STACK_BYTES = 64 << 10 };
static char handler_stack[HANDLER_STACK_BYTES];
static stack_t previous_stack;

static volatile sig_atomic_t pending;
static struct sigaction previous[N_SIGNAL];
static bool is_installed;

static void remember(int number) { pending = number; }

lemoe_status lemoe_signals_install(void) {
    pending = 0;
    if (is_installed) return LEMOE_OK;
    const stack_t stack = {.ss_sp = handler_stack, .ss_size = sizeof handler_stack};
    struct sigaction action;
    LEMOE_CHECK(sigaltstack(&stack, &previous_stack) == 0, LEMOE_ERR_IO, "cannot give signal handlers a stack: %s",
                strerror(errno));
    memset(&action, 0, sizeof action);
    action.sa_handler = remember;
    action.sa_flags = SA_RESTART | SA_ONSTACK; /* libraries need not cope with interrupted calls */
    (void)sigemptyset(&action.sa_mask);
    for (int i = 0; i < N_SIGNAL; i++) {
        if (sigaction(watched[i], &action, &previous[i]) == 0) continue;
        int reason = errno;
        while (i-- > 0) (void)sigaction(watched[i], &previous[i], NULL);
        (void)sigaltstack(&previous_stack, NULL);
        return lemoe_raise(LEMOE_ERR_IO, "cannot install a signal handler: %s", strerror(reason));
    }
    is_installed = true;
    return LEMOE_OK;
}

void lemoe_signals_restore(void) {
    if (!is_installed) return;
    for (int i = 0; i < N_SIGNAL; i++) (void)sigaction(watched[i], &previous[i], NULL);
    (void)sigaltstack(&previous_stack, NULL);
    is_installed = false;
}

int lemoe_signals_pending(void) { return (int)pending; }

void lemoe_signals_note(int number) { pending = number; }

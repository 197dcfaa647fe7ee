/*
 * SIGUSR1, SIGINT and SIGTERM ask the program to stop at the next safe place: the handler only sets a flag, the edit
 * loop reads it between steps. The flag and the replaced handlers are process-wide, as signals are.
 */
#ifndef RUNNER_IO_SIGNALS_H
#define RUNNER_IO_SIGNALS_H

#include "kernels/base/status.h"

/* Local. Installs the handlers and clears the flag; twice is fine. */
lemoe_status lemoe_signals_install(void) LEMOE_MUST_CHECK;
/* Local. Puts back what was there before; fine without an install. */
void lemoe_signals_restore(void);
/* Local. Number of the latest signal received since the install, 0 for none. */
int lemoe_signals_pending(void);
/* Local. Takes note of a signal that another rank of the team received: the team stops together. */
void lemoe_signals_note(int number);

#endif

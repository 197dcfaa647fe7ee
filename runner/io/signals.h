/*
 * SIGUSR1, SIGINT and SIGTERM ask the program to stop at the next safe place: they are noted, and the edit loop and the
 * coordinator look between steps. What is noted and the replaced handlers are process-wide, as signals are.
 *
 * No handler runs while there is computing. A handler's frame is written right below what the interrupted code uses,
 * and AVX-512 products of oneDNN 2.6 do not survive that, on whichever of their threads it falls: a signal in the
 * middle of one corrupted the heap. So signals are held back from the main thread and from all threads that it starts
 * (lemoe_signals_hold, once MPI has its own threads and before there are others), and picked up where they are looked
 * for. The handlers are for the time before, and for MPI's threads, which multiply nothing.
 */
#ifndef RUNNER_IO_SIGNALS_H
#define RUNNER_IO_SIGNALS_H

#include "kernels/base/status.h"

/* Local. Installs the handlers and clears the note; twice is fine. SIGPIPE is ignored from here on: when a pager or a
 * log's reader goes away, output is lost and not the run. */
lemoe_status lemoe_signals_install(void) LEMOE_MUST_CHECK;
/* Local, by the main thread, after the install: from here on this thread and those that it starts are not interrupted.
 */
void lemoe_signals_hold(void);
/* Local. Puts back what was there before; fine without an install. */
void lemoe_signals_restore(void);
/* Local, by the thread that held them. Number of the latest signal received since the install, 0 for none. */
int lemoe_signals_pending(void);
/* Local. Takes note of a signal that another rank of the team received: the team stops together. */
void lemoe_signals_note(int number);

#endif

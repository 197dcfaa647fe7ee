/*
 * Work that may die is done by a child process: what kills it costs its own answers only. The child is a copy of this
 * process as it stands (memory, open files), and sends records back; of what it changes in memory nothing returns. It
 * must not call MPI or a GPU: neither survives being copied. It ends with this process.
 */
#ifndef RUNNER_IO_CHILD_H
#define RUNNER_IO_CHILD_H

#include "kernels/base/status.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct lemoe_child lemoe_child;

/* Local. Starts a child that does work(context, link) and ends. Errors: IO where the system has no process left. */
lemoe_status lemoe_child_start(void (*work)(void *context, int link), void *context,
                               lemoe_child **out) LEMOE_MUST_CHECK;
/* In the child. Sends a record of at most 4096 bytes; false: nobody listens any more. */
bool lemoe_child_send(int link, const void *record, size_t n_bytes);
/* Local. Waits for the next record, all of the same size, until lemoe_clock_seconds() says `until`. False: there is
 * none, as the child has ended or the time is over. */
bool lemoe_child_receive(lemoe_child *child, void *record, size_t n_bytes, double until);

typedef enum lemoe_child_ending {
    LEMOE_CHILD_DONE,    /* did its work */
    LEMOE_CHILD_STOPPED, /* was still at it, and was ended here */
    LEMOE_CHILD_DIED     /* by a signal, or by leaving on its own */
} lemoe_child_ending;

/* Local. Ends the child if it still works, and closes it. *how, of one that died: for lemoe_child_describe. */
lemoe_child_ending lemoe_child_end(lemoe_child *child, int *how);
/* "killed by signal 11 (Segmentation fault)"; the caller's storage. */
void lemoe_child_describe(int how, char *out, size_t n_bytes);

#endif

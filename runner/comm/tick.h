/*
 * One tick, no thread: a short list of rate-limited callbacks (coordinator's poll, signals, leases, progress) that long
 * loops call between steps.
 */
#ifndef RUNNER_COMM_TICK_H
#define RUNNER_COMM_TICK_H

#include "kernels/base/status.h"

#include <stdbool.h>

typedef struct lemoe_tick lemoe_tick;

/* Local. The caller destroys it; contexts stay their owners'. Errors: NOMEM. */
lemoe_status lemoe_tick_create(lemoe_tick **out) LEMOE_MUST_CHECK;
/* Local. NULL is fine. */
void lemoe_tick_destroy(lemoe_tick *tick);
/* Local. Adds a callback, called at most every `seconds`, first after that time. context is borrowed and has to live
 * until it is removed or the tick destroyed. A callback must not add or remove entries. Errors: NOMEM. */
lemoe_status lemoe_tick_add(lemoe_tick *tick, double seconds, void (*callback)(void *context),
                            void *context) LEMOE_MUST_CHECK;
/* Local. Takes every callback with that context out again; from outside of callbacks. */
void lemoe_tick_remove(lemoe_tick *tick, void *context);
/* Local. Calls what is due, in the order it was added. NULL is fine. */
void lemoe_tick_now(lemoe_tick *tick);

#endif

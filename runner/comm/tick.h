/*
 * One tick, no thread: a short list of rate-limited callbacks (coordinator's poll, signals, leases, progress) that long
 * loops call between steps.
 */
#ifndef RUNNER_COMM_TICK_H
#define RUNNER_COMM_TICK_H

#include "kernels/base/status.h"

#include <stdbool.h>

typedef struct lemoe_tick lemoe_tick;

lemoe_status lemoe_tick_create(lemoe_tick **out) LEMOE_MUST_CHECK;
void lemoe_tick_destroy(lemoe_tick *tick);
/* Local. Adds a callback, called at most every `seconds`. */
lemoe_status lemoe_tick_add(lemoe_tick *tick, double seconds, void (*callback)(void *context),
                            void *context) LEMOE_MUST_CHECK;
/* Local. Takes every callback with that context out again. */
void lemoe_tick_remove(lemoe_tick *tick, void *context);
/* Local. Calls what is due. NULL is fine. */
void lemoe_tick_now(lemoe_tick *tick);

#endif

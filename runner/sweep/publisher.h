/* The one publisher of sweep.h5: whoever holds the lease of the output folder. Always written whole, from the journals.
 */
#ifndef RUNNER_SWEEP_PUBLISHER_H
#define RUNNER_SWEEP_PUBLISHER_H

#include "runner/sweep/sweep.h"

typedef struct lemoe_publisher lemoe_publisher;

/* Local. Borrows the sweep. */
lemoe_status lemoe_publisher_open(const lemoe_sweep *sweep, lemoe_publisher **out) LEMOE_MUST_CHECK;
/* Local. NULL is fine. */
void lemoe_publisher_close(lemoe_publisher *publisher);
/* Local. Publishes if this launch is, or can become, the publisher; else somebody else does. Errors: IO. */
lemoe_status lemoe_publisher_publish(lemoe_publisher *publisher) LEMOE_MUST_CHECK;
/* Local. The last time: waits up to `seconds` for another launch to end its own publishing, so that whoever ends last
 * has published everything. */
lemoe_status lemoe_publisher_publish_last(lemoe_publisher *publisher, double seconds) LEMOE_MUST_CHECK;

#endif

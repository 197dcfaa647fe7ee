/* The one publisher of sweep.h5: whoever holds the lease on `.sweep` in the output folder, which is taken for each
 * publication and given back after it. Always written whole, from the journals: the launch's runs in its order, then
 * all others of the folder. */
#ifndef RUNNER_SWEEP_PUBLISHER_H
#define RUNNER_SWEEP_PUBLISHER_H

#include "runner/sweep/sweep.h"

typedef struct lemoe_publisher lemoe_publisher;

/* Local. Borrows the sweep; makes the output folder; takes no lease yet. Errors: IO. */
lemoe_status lemoe_publisher_open(const lemoe_sweep *sweep, lemoe_publisher **out) LEMOE_MUST_CHECK;
/* Local. NULL is fine. */
void lemoe_publisher_close(lemoe_publisher *publisher);
/* Local. Publishes, unless another launch holds the lease at this moment: then that one does. Errors: IO. */
lemoe_status lemoe_publisher_publish(lemoe_publisher *publisher) LEMOE_MUST_CHECK;
/* Local. The last time: waits up to `seconds` for another launch to end its own publishing, so that whoever ends last
 * has published everything; a warning when that is not enough. Errors: IO. */
lemoe_status lemoe_publisher_publish_last(lemoe_publisher *publisher, double seconds) LEMOE_MUST_CHECK;
/* Local. Without a launch (--republish): all rows are of others. Waits as long for a launch that publishes. Errors: IO;
 * STATE when that was not enough. */
lemoe_status lemoe_publisher_publish_folder(const char *output_folder, double seconds) LEMOE_MUST_CHECK;

#endif

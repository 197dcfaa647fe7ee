/* The HDF5 file of one run, from its replay. */
#ifndef RUNNER_RESULTS_PUBLISH_RUN_H
#define RUNNER_RESULTS_PUBLISH_RUN_H

#include "runner/results/replay.h"

/* Local. Writes h5_path anew. Errors: FORMAT when the journal has no committed header; IO. */
lemoe_status lemoe_publish_run(const lemoe_replay *replay, const char *h5_path) LEMOE_MUST_CHECK;

#endif

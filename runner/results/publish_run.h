/* The HDF5 file of one run, from its replay. */
#ifndef RUNNER_RESULTS_PUBLISH_RUN_H
#define RUNNER_RESULTS_PUBLISH_RUN_H

#include "runner/results/replay.h"

#include <stdbool.h>

/* Local. Writes h5_path anew. Errors: FORMAT when the journal has no committed header; IO. */
lemoe_status lemoe_publish_run(const lemoe_replay *replay, const char *h5_path) LEMOE_MUST_CHECK;
/* Local. Whether the file of a journal that is there is missing, or older than the journal. */
bool lemoe_publish_is_due(const char *journal_path, const char *h5_path);

#endif

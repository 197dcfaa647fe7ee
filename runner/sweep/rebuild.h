/*
 * sweep.h5 from the journals alone, for an output folder whose sweep file is not at hand (--republish): its rows are
 * the runs there are, in the order of their ids, its axes the keys in which they differ.
 */
#ifndef RUNNER_SWEEP_REBUILD_H
#define RUNNER_SWEEP_REBUILD_H

#include "kernels/base/status.h"

#include <stdint.h>

/* Local. run_ids: [n_run], each with a journal. Errors: IO; STATE when another process is publishing. */
lemoe_status lemoe_rebuild_sweep(const char *output_folder, char *const *run_ids, int64_t n_run) LEMOE_MUST_CHECK;

#endif

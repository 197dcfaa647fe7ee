/* A sweep without model or data, for what is around its runs: they are done by a stand-in (lemoe_worker_args.execute).
 */
#ifndef TESTS_SWEEP_STAND_IN_SWEEP_H
#define TESTS_SWEEP_STAND_IN_SWEEP_H

#include "runner/sweep/sweep.h"

/* n_run runs of one rank, expected to take run_seconds each, with the output folder `folder`. The caller closes it. */
lemoe_status stand_in_sweep(lemoe_sweep *out, const char *folder, int64_t n_run, double run_seconds) LEMOE_MUST_CHECK;

#endif

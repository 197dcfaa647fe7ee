/*
 * Checks before anything starts: everything from outside that a run will need, and what the launch decides for it (team
 * size, identity, estimates). Rank 0 does this alone; the result is broadcast.
 */
#ifndef RUNNER_SWEEP_CHECK_H
#define RUNNER_SWEEP_CHECK_H

#include "runner/sweep/estimate.h"
#include "runner/sweep/sweep.h"

/* Local. Fills everything of every run but its skip, and drops runs whose identity an earlier one has. Each model and
 * dataset is opened once. n_rank: ranks of the launch, n_node_rank: of its largest node. Errors: those of the readers;
 * CONFIG for a layer outside the model or a team that cannot be made. */
lemoe_status lemoe_sweep_check(lemoe_sweep *sweep, const lemoe_estimates *estimates, int n_rank,
                               int n_node_rank) LEMOE_MUST_CHECK;

#endif

/* What a launch says before its runs begin and after they have ended. */
#ifndef RUNNER_SWEEP_ANNOUNCE_H
#define RUNNER_SWEEP_ANNOUNCE_H

#include "runner/sweep/coordinator.h"
#include "runner/sweep/sweep.h"

#include <stdio.h>

/* Local. One line: how many runs there are, how many are to do, and why the others are not; one about devices, unless
 * all runs ask for the CPU. */
void lemoe_announce_launch(const lemoe_sweep *sweep, int n_rank, FILE *out);
/* Local, on rank 0. --dry-run: a line a run (id, order, team, memory, time, whether it would run), a line for each
 * different order (similarities, its first edits), and the whole sweep's time. */
lemoe_status lemoe_announce_plan(const lemoe_sweep *sweep, const int *node_of, int n_rank, FILE *out) LEMOE_MUST_CHECK;
/* Local. What failed and why, what is left, and estimates beside what was measured; returns the exit status. */
int lemoe_announce_ending(const lemoe_sweep *sweep, const lemoe_coordinator *coordinator, FILE *out);

#endif

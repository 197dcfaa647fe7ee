/*
 * Who works on which run. Rank 0 holds the list and hands it out in order; a team's first rank asks when it is free,
 * and rank 0 answers between its own steps (tick), without a thread. Idle ranks sleep, at most 20 ms at a time.
 */
#ifndef RUNNER_SWEEP_COORDINATOR_H
#define RUNNER_SWEEP_COORDINATOR_H

#include "runner/comm/team.h"
#include "runner/comm/tick.h"

typedef struct lemoe_coordinator lemoe_coordinator;

/* Local, on every rank of a team. order: the runs to hand out, [n_order]; kept by reference on rank 0 only. */
lemoe_status lemoe_coordinator_open(lemoe_launch *launch, const lemoe_team *team, lemoe_tick *tick,
                                    const int64_t *order, int64_t n_order, bool fail_fast,
                                    lemoe_coordinator **out) LEMOE_MUST_CHECK;
/* Collective on the team. The team's next run, -1 when there is none left. failed: whether the run before it failed. */
lemoe_status lemoe_coordinator_next(lemoe_coordinator *coordinator, bool failed, int64_t *run) LEMOE_MUST_CHECK;
/* Local. Rank 0 stays until every team has been told that nothing is left. */
lemoe_status lemoe_coordinator_close(lemoe_coordinator *coordinator) LEMOE_MUST_CHECK;

#endif

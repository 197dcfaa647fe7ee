/*
 * Who works on which run: the part of rank 0 that hands runs to teams. It answers messages and looks at the clock when
 * rank 0's worker polls (between its own steps, or while it is idle). Every team is told its next run before its
 * present one ends. The policy is schedule.h; what one launch owes to others of the same folder is here: runs that
 * another launch holds are left to it, runs it has finished are not done again.
 */
#ifndef RUNNER_SWEEP_COORDINATOR_H
#define RUNNER_SWEEP_COORDINATOR_H

#include "runner/comm/team.h"
#include "runner/sweep/estimate.h"
#include "runner/sweep/messages.h"
#include "runner/sweep/sweep.h"

typedef struct lemoe_coordinator lemoe_coordinator;

typedef struct lemoe_coordinator_args {
    lemoe_launch *launch;
    const lemoe_sweep *sweep;
    lemoe_estimates *estimates;
    lemoe_progress progress;
} lemoe_coordinator_args;

/* How a run of this launch ended. */
typedef struct lemoe_run_ending {
    bool has_begun;
    lemoe_outcome outcome;
    const char *error; /* "" when there is none; borrowed from the coordinator */
    lemoe_run_measures measures;
} lemoe_run_ending;

/* Local, on rank 0. Everything is borrowed. */
lemoe_status lemoe_coordinator_create(const lemoe_coordinator_args *args, lemoe_coordinator **out) LEMOE_MUST_CHECK;
void lemoe_coordinator_destroy(lemoe_coordinator *coordinator);
/* Local. Takes in a message from a leader. */
lemoe_status lemoe_coordinator_receive(lemoe_coordinator *coordinator, const lemoe_message *message) LEMOE_MUST_CHECK;
/* Local. What is due: signals, idle ranks, runs held elsewhere, sweep.h5, the display; STOP to all at the end. */
lemoe_status lemoe_coordinator_act(lemoe_coordinator *coordinator) LEMOE_MUST_CHECK;

/* Local. sweep.h5 a last time, when all has ended: lemoe_publisher_publish_last. */
lemoe_status lemoe_coordinator_publish_last(lemoe_coordinator *coordinator, double seconds) LEMOE_MUST_CHECK;
/* Local. Of a run by its index in the sweep; has_begun is false for one that this launch did not start. */
lemoe_run_ending lemoe_coordinator_ending(const lemoe_coordinator *coordinator, int64_t index);
/* Local. Whether a signal ended handing out. */
bool lemoe_coordinator_was_interrupted(const lemoe_coordinator *coordinator);

#endif

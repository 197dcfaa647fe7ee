/*
 * The life of a rank during a sweep: idle until it is called into a team, working with it run after run, idle again,
 * until nothing is left. Rank 0 is a worker like the others and coordinates between its steps (tick); no rank, thread
 * or core is spent on that. Idle ranks sleep, at most 20 ms at a time.
 */
#ifndef RUNNER_SWEEP_WORKER_H
#define RUNNER_SWEEP_WORKER_H

#include "runner/run/run.h"
#include "runner/sweep/sweep.h"

struct lemoe_coordinator;

typedef struct lemoe_worker_args {
    lemoe_launch *launch;
    const lemoe_sweep *sweep;
    struct lemoe_coordinator *coordinator; /* on rank 0, NULL elsewhere; borrowed */
    /* what a run is: lemoe_run_execute, or a stand-in that measures what is around it */
    lemoe_status (*execute)(const lemoe_run_args *args);
} lemoe_worker_args;

/* Collective on the launch. Returns when all runs have ended. A failure here is one of the machinery, not of a run: the
 * job cannot go on. */
lemoe_status lemoe_worker_run(const lemoe_worker_args *args) LEMOE_MUST_CHECK;

#endif

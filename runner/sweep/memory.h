/*
 * Memory of a launch's runs, planned before anything is started: each shape in each order once, by going through such a
 * run (runner/run/run_memory.h). A run that needs more than the machine has is refused here.
 */
#ifndef RUNNER_SWEEP_MEMORY_H
#define RUNNER_SWEEP_MEMORY_H

#include "runner/sweep/sweep.h"

/* Local, on rank 0. n_node_rank: ranks of the launch on its largest node. Fills predicted_bytes and process_bytes of
 * the runs that are to do; what would take more than a few seconds stays 0, and is planned by the run's team. Orders
 * of many edits may take order_seconds in all; file order stands in for what is not worked out by then
 * (memory_is_exact). A run whose own code dies meanwhile
 * is not to do (LEMOE_SKIP_DIED). Errors: CONFIG where runs on CPUs that may stand side by side on a node have no room
 * there, with the numbers. */
lemoe_status lemoe_memory_plan(lemoe_sweep *sweep, int n_node_rank, double order_seconds) LEMOE_MUST_CHECK;

#endif

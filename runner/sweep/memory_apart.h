/*
 * Planning the memory of runs (runner/run/run_memory.h) goes through their own code: their planner, their editor. It is
 * done by child processes, so that code that dies or never ends costs its own run only.
 */
#ifndef RUNNER_SWEEP_MEMORY_APART_H
#define RUNNER_SWEEP_MEMORY_APART_H

#include "runner/run/run_memory.h"
#include "runner/sweep/sweep.h"

/* Runs that take the same memory. */
typedef struct lemoe_memory_shape {
    uint64_t key;  /* memory_key of them */
    int64_t index; /* the first of them in the sweep: it is gone through */
    /* the answer */
    lemoe_run_memory memory; /* zeros: unknown */
    bool is_exact;           /* in the run's own order */
    bool is_on_cpu;
    int death; /* how it died, twice, as lemoe_child_describe has it; 0: it did not */
} lemoe_memory_shape;

/* Local, on rank 0. Shapes in their order until a few seconds are over; what is left, or takes half a minute alone,
 * stays unknown. Where there are many edits, orders may take order_seconds in all, and file order stands in for what is
 * not worked out by then. Errors: those of a run's own code but NOMEM (addresses are limited: unknown). */
lemoe_status lemoe_memory_plan_shapes(const lemoe_sweep *sweep, double order_seconds, lemoe_memory_shape *shapes,
                                      int64_t n) LEMOE_MUST_CHECK;

#endif

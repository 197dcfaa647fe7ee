/*
 * Which run starts next, and on which ranks: list scheduling of runs of different widths over the ranks of several
 * nodes. Pure - no MPI, no clock, no files - so that the coordinator and a simulation use the very same policy.
 *
 * A team is a set of ranks with a model loaded. When its run ends it is asked what to go on with; when that is nothing,
 * it is dissolved, and its ranks may form other teams.
 */
#ifndef RUNNER_SWEEP_SCHEDULE_H
#define RUNNER_SWEEP_SCHEDULE_H

#include "kernels/base/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct lemoe_schedule_run {
    int tensor_parallel;
    int model;      /* runs with equal numbers share what a team loads; from 0 */
    double seconds; /* expected, or a guess in any unit that orders runs */
} lemoe_schedule_run;

typedef struct lemoe_schedule_args {
    const int *node_of; /* [n_rank] node numbers from 0 */
    int n_rank;
    const lemoe_schedule_run *runs; /* [n_run] */
    int64_t n_run;
    const int64_t *order; /* [n_run] the most urgent first; lemoe_schedule_order makes a good one */
} lemoe_schedule_args;

typedef struct lemoe_schedule lemoe_schedule;

/* Local. All runs wait, all ranks are idle. args and what it points to are borrowed. Errors: ARG for a run that is
 * wider than the launch. */
lemoe_status lemoe_schedule_create(const lemoe_schedule_args *args, lemoe_schedule **out) LEMOE_MUST_CHECK;
void lemoe_schedule_destroy(lemoe_schedule *schedule);

/* Local. Forms a team from idle ranks for the most urgent run that fits on them. False: nothing that waits fits. */
bool lemoe_schedule_form(lemoe_schedule *schedule, int *team, int64_t *run);
/* Local. What the team should go on with when its present run ends, taken out of those that wait; -1: nothing, dissolve
 * it then (nothing waits, or a run of another width is more urgent). */
int64_t lemoe_schedule_next(lemoe_schedule *schedule, int team);
/* Local. The team's ranks are idle again, its number is free. */
void lemoe_schedule_dissolve(lemoe_schedule *schedule, int team);
/* Local. Puts a run (back) among those that wait. */
void lemoe_schedule_wait(lemoe_schedule *schedule, int64_t run);
/* Local. Takes one run out of those that wait, whichever is most urgent; -1: none. For ending early. */
int64_t lemoe_schedule_drop(lemoe_schedule *schedule);

/* Local. The team's ranks, ascending; borrowed until it is dissolved. */
const int *lemoe_schedule_team(const lemoe_schedule *schedule, int team, int *n_rank);
int64_t lemoe_schedule_n_waiting(const lemoe_schedule *schedule);
int lemoe_schedule_n_idle(const lemoe_schedule *schedule);
/* Local. Whether a run of that width would fit on the ranks that are idle now. */
bool lemoe_schedule_fits(const lemoe_schedule *schedule, int tensor_parallel);

/* Local. An order for args (whose own is not read) into out, [n_run]: the best of several rules, and for small sweeps
 * of a search from there, judged by simulation. Deterministic. */
lemoe_status lemoe_schedule_order(const lemoe_schedule_args *args, int64_t *out) LEMOE_MUST_CHECK;
/* Local. Plays the schedule with runs taking exactly their seconds; *makespan is when the last one ends. */
lemoe_status lemoe_schedule_simulate(const lemoe_schedule_args *args, double *makespan) LEMOE_MUST_CHECK;
/* Local, pure. No schedule can end before: the work over all ranks, the longest run, the runs too wide to stand side by
 * side. */
double lemoe_schedule_lower_bound(const lemoe_schedule_args *args);

#endif

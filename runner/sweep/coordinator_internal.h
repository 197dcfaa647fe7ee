/* The coordinator's own state, shared by its three files. Private to runner/sweep/coordinator*.c. */
#ifndef RUNNER_SWEEP_COORDINATOR_INTERNAL_H
#define RUNNER_SWEEP_COORDINATOR_INTERNAL_H

#include "runner/io/lease.h"
#include "runner/sweep/coordinator.h"
#include "runner/sweep/orders.h"
#include "runner/sweep/progress.h"
#include "runner/sweep/publisher.h"
#include "runner/sweep/schedule.h"

/* Runs that others hold are looked at that often; a lease that is renewed meanwhile has a living owner. */
#define LEMOE_COORDINATOR_LOOK_SECONDS 2.0

typedef struct lemoe_coordinator_run_state {
    int64_t index;                /* in the sweep */
    bool has_begun, is_held;      /* held by another launch, watched */
    bool is_planned, is_prepared; /* its order: worked out or left to its team; in its folder or the like */
    int64_t held_renewed;         /* that launch's claim when first seen */
    lemoe_lease *claim;           /* ours, from handing out to the end */
    lemoe_outcome outcome;
    char *error;
    lemoe_run_measures measures;
} lemoe_coordinator_run_state;

typedef struct lemoe_coordinator_team {
    bool is_open, is_recalled;
    int leader, n_rank;
    int64_t run, reserved; /* numbers in the schedule; -1: none */
    lemoe_run_measures measures;
    double next_line;
} lemoe_coordinator_team;

struct lemoe_coordinator {
    const lemoe_coordinator_args args;
    lemoe_mailbox *mailbox;
    lemoe_schedule *schedule;
    lemoe_schedule_run *schedule_runs;
    int64_t *order;
    lemoe_coordinator_run_state *runs; /* [n_run] of the schedule */
    lemoe_coordinator_team *teams;     /* [n_rank] */
    int n_rank, n_open;
    int64_t n_run, n_ended, n_failed, n_held;
    bool is_ending, is_interrupted, is_stopped, is_dirty; /* dirty: something may start */
    bool is_unpublished;
    double began, next_look, next_publish, next_draw, next_renewal, done_weight, all_weight;
    lemoe_orders *orders;
    int64_t next_order; /* runs before this place of the order have all begun */
    lemoe_publisher *publisher;
    lemoe_progress_display *display;
    lemoe_progress_team *lines; /* [n_rank] */
};

/* Local. The sweep's run behind a number of the schedule. */
const lemoe_sweep_run *lemoe_coordinator_run(const lemoe_coordinator *coordinator, int64_t run);
/* Local. Share of its batches that a run has done. */
double lemoe_coordinator_share_done(const lemoe_run_measures *measures);
/* Local. A message of one word. */
lemoe_status lemoe_coordinator_send(lemoe_coordinator *coordinator, int peer, int kind, int64_t word) LEMOE_MUST_CHECK;

/* ---- coordinator_teams.c: what runs where ---- */

/* Local. The run has ended, or will not begin: its claim is given back. */
lemoe_status lemoe_coordinator_end_run(lemoe_coordinator *coordinator, int64_t run, lemoe_outcome outcome,
                                       const char *error) LEMOE_MUST_CHECK;
/* Local. Begins what can begin on idle ranks. */
lemoe_status lemoe_coordinator_form_teams(lemoe_coordinator *coordinator) LEMOE_MUST_CHECK;
/* Local. Claims what the team should go on with; -1 when there is nothing for it. */
lemoe_status lemoe_coordinator_choose_next(lemoe_coordinator *coordinator, int team, int64_t *run) LEMOE_MUST_CHECK;
/* Local. The team's run has ended: it goes on, or is dissolved. */
lemoe_status lemoe_coordinator_go_on(lemoe_coordinator *coordinator, int team) LEMOE_MUST_CHECK;
/* Local. Takes a run that waits behind a busy team back for ranks that are idle. */
lemoe_status lemoe_coordinator_recall_for_idle(lemoe_coordinator *coordinator) LEMOE_MUST_CHECK;
/* Local. Nothing more is begun. */
lemoe_status lemoe_coordinator_stop(lemoe_coordinator *coordinator) LEMOE_MUST_CHECK;

#endif

/*
 * Teams: the only place that starts MPI and splits its communicators. A launch has one world; runs are worked on by
 * teams of equal size (the tensor-parallel degree), neighbours in rank order so that a team stays on one node where it
 * can.
 */
#ifndef RUNNER_COMM_TEAM_H
#define RUNNER_COMM_TEAM_H

#include "runner/comm/comm.h"
#include "runner/comm/mailbox.h"

typedef struct lemoe_launch lemoe_launch;

/* Collective on the job. Starts MPI (FUNNELED), with idle waiters yielding. Errors: COMM; STATE under Open MPI's
 * recovery mode (exit statuses would be lost). */
lemoe_status lemoe_launch_open(int *argc, char ***argv, lemoe_launch **out) LEMOE_MUST_CHECK;
/* Collective. Finalises MPI. */
void lemoe_launch_close(lemoe_launch *launch);
/* All ranks of the job. Borrowed. */
lemoe_comm *lemoe_launch_world(lemoe_launch *launch);
/* The mailbox between coordinator (rank 0) and the rest. Borrowed. */
lemoe_mailbox *lemoe_launch_mailbox(lemoe_launch *launch);
/* Text for --version and results. */
const char *lemoe_launch_mpi_version(void);

typedef struct lemoe_team {
    int index; /* which team; -1: this rank is idle (ranks do not divide) */
    int n_team;
    int leader; /* world rank of the team's first rank */
    lemoe_comm *comm;
} lemoe_team;

/* Collective on the world. Splits it into teams of team_size. */
lemoe_status lemoe_team_open(lemoe_launch *launch, int team_size, lemoe_team *out) LEMOE_MUST_CHECK;
void lemoe_team_close(lemoe_team *team);

#endif

/*
 * Launch and teams: the only place that starts MPI and makes its communicators. A launch has one world; runs are worked
 * on by teams, any sets of ranks that do not overlap, of any sizes side by side.
 */
#ifndef RUNNER_COMM_TEAM_H
#define RUNNER_COMM_TEAM_H

#include "runner/comm/comm.h"
#include "runner/comm/mailbox.h"

typedef struct lemoe_launch lemoe_launch;

/* Largest team: its ranks have to fit in one message. */
enum { LEMOE_TEAM_RANKS = 64 };

/* Collective on the job; once a process. Starts MPI (FUNNELED), with idle waiters yielding. *launch is the caller's to
 * close, also after an error, which may leave it NULL. Errors: COMM; STATE under Open MPI's
 * recovery mode (exit statuses would be lost) and where the launcher started several processes of which each believes
 * to be alone (launcher and MPI do not match). */
lemoe_status lemoe_launch_open(int *argc, char ***argv, lemoe_launch **out) LEMOE_MUST_CHECK;
/* Collective, after every team was closed. Closes the world and the mailbox, and finalises MPI. NULL is fine. */
void lemoe_launch_close(lemoe_launch *launch);
/* Local. All ranks of the job. Borrowed: the launch closes it. */
lemoe_comm *lemoe_launch_world(lemoe_launch *launch);
/* Local. The mailbox between coordinator (rank 0) and the rest. Borrowed. */
lemoe_mailbox *lemoe_launch_mailbox(lemoe_launch *launch);
/* Local. Which ranks share a node: [size] numbers from 0, in the order of the nodes' first ranks. Borrowed. */
const int *lemoe_launch_nodes(const lemoe_launch *launch);
/* Local, without MPI. Whether this process should speak where every process of a mismatched launch would say the same.
 */
bool lemoe_launch_is_first_process(void);
/* Local, before and after MPI was started too. Text for --version and results. */
const char *lemoe_launch_mpi_version(void);

/* Collective on the named world ranks and nobody else. ranks: [n_rank] ascending, this rank among them; tag: equal on
 * all of them, different from that of any other team being opened. *out is the caller's, who closes it before the
 * launch (lemoe_comm_close); with one rank it is a lemoe_comm_self. Errors: ARG when this rank is not among ranks;
 * COMM. */
lemoe_status lemoe_team_open(lemoe_launch *launch, const int *ranks, int n_rank, int tag,
                             lemoe_comm **out) LEMOE_MUST_CHECK;

#endif

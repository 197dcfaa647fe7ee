/*
 * The ranks of a launch by node, idle or busy; and which idle ones a new team takes. Pure. Private to runner/sweep.
 */
#ifndef RUNNER_SWEEP_SCHEDULE_RANKS_H
#define RUNNER_SWEEP_SCHEDULE_RANKS_H

#include "kernels/base/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct lemoe_schedule_node {
    int *ranks; /* [n_rank] ascending; borrowed from lemoe_schedule_ranks */
    int n_rank, n_idle;
    int next, previous; /* in the list of the nodes with as many idle ranks; -1: none */
} lemoe_schedule_node;

typedef struct lemoe_schedule_ranks {
    int n_rank, n_node, n_idle, widest; /* ranks of the largest node */
    int *by_node;                       /* [n_rank] the nodes' ranks, one node behind the other */
    const int *node_of;                 /* [n_rank] borrowed */
    bool *is_idle;                      /* [n_rank] */
    lemoe_schedule_node *nodes;
    int *with_idle; /* [widest + 1] first node with that many idle ranks, -1: none */
} lemoe_schedule_ranks;

/* Local. node_of: [n_rank] node numbers from 0; borrowed. All ranks are idle. */
lemoe_status lemoe_schedule_ranks_open(const int *node_of, int n_rank, lemoe_schedule_ranks *out) LEMOE_MUST_CHECK;
void lemoe_schedule_ranks_close(lemoe_schedule_ranks *ranks);
/* Local. Whether a team of that size could be formed if the given ranks (NULL: none) were idle too. A team that fits
 * on a node never spans two: where a run's ranks are is part of what makes its bits. */
bool lemoe_schedule_ranks_fit(const lemoe_schedule_ranks *ranks, int n, const int *besides, int n_besides);
/* Local. Takes n idle ranks, ascending, into out: of the node that they fill best, neighbours where there are. False:
 * they do not fit. */
bool lemoe_schedule_ranks_take(lemoe_schedule_ranks *ranks, int n, int *out);
/* Local. These are idle again. */
void lemoe_schedule_ranks_give_back(lemoe_schedule_ranks *ranks, const int *given, int n);

#endif

/*
 * What tensor parallelism needs, and no more: a team of ranks that reduce, gather and broadcast tensors.
 * Implementations: self (one rank, real) and mpi. Element counts, never bytes. Tensors lie in memory that the host can
 * read and write, which on the CPU is the device's memory as well.
 *
 * Every function that moves data is Collective on the comm: all its ranks call it in the same order with equal counts.
 */
#ifndef RUNNER_COMM_COMM_H
#define RUNNER_COMM_COMM_H

#include "kernels/base/status.h"
#include "kernels/base/tensor.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct lemoe_comm lemoe_comm;

/* Local. The comm of a single rank. Whoever opened a comm, here or by lemoe_team_open, closes it. Errors: NOMEM. */
lemoe_status lemoe_comm_self(lemoe_comm **out) LEMOE_MUST_CHECK;
/* Local for a single rank, else Collective. NULL is fine. */
void lemoe_comm_close(lemoe_comm *comm);
/* Local. */
int lemoe_comm_rank(const lemoe_comm *comm);
int lemoe_comm_size(const lemoe_comm *comm);

/* Collective. In place, fp32, fp64 or int32; sums in the order the library keeps for one node layout. Errors:
 * ARG for another type; COMM, as for all that follow, from the library. */
lemoe_status lemoe_comm_allreduce_sum(lemoe_comm *comm, lemoe_tensor x) LEMOE_MUST_CHECK;
lemoe_status lemoe_comm_allreduce_max(lemoe_comm *comm, lemoe_tensor x) LEMOE_MUST_CHECK;
/* Collective. Any type, the same for both. out, which does not overlap x, holds size times the elements of x, in rank
 * order. Errors: SHAPE when it does not. */
lemoe_status lemoe_comm_allgather(lemoe_comm *comm, lemoe_tensor x, lemoe_tensor out) LEMOE_MUST_CHECK;
/* Collective. Any type. From rank root to all, in place. */
lemoe_status lemoe_comm_broadcast(lemoe_comm *comm, int root, lemoe_tensor x) LEMOE_MUST_CHECK;
/* Collective. Host bytes from rank root to all, any length. */
lemoe_status lemoe_comm_broadcast_bytes(lemoe_comm *comm, int root, void *bytes, size_t n_bytes) LEMOE_MUST_CHECK;
/* Collective. All ranks pass their local status; all get the same: OK when every one is OK, else the code of the lowest
 * failing rank, with that rank's message recorded on all ("rank 2: ..."; the first rank's, which is everybody's where
 * all ranks fail alike, as it is). How a team leaves together. */
lemoe_status lemoe_comm_agree(lemoe_comm *comm, lemoe_status local) LEMOE_MUST_CHECK;
/* Local. Every function with collectives inside ends with this, around the status of its work: a rank that failed
 * between two of them cannot reach its team's next agreement, and the others would wait for it for ever. So with more
 * than one rank a failure is printed and ends the job (exit status 2); with one it is returned like any other. */
lemoe_status lemoe_comm_keep_step(lemoe_comm *comm, lemoe_status status) LEMOE_MUST_CHECK;

#endif

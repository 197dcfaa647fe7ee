/*
 * What tensor parallelism needs, and no more: a team of ranks that reduce, gather and broadcast tensors. Element
 * counts, never bytes. Tensors lie in host memory (implementations: self, one rank and real, and mpi), but for the
 * reductions named after the device: those take tensors of the device that was attached, which the host may not reach.
 *
 * Every function that moves data is Collective on the comm: all its ranks call it in the same order with equal counts.
 */
#ifndef RUNNER_COMM_COMM_H
#define RUNNER_COMM_COMM_H

#include "kernels/device.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct lemoe_comm lemoe_comm;

/* Local. The comm of a single rank. Whoever opened a comm, here or by lemoe_team_open, closes it. Errors: NOMEM. */
lemoe_status lemoe_comm_self(lemoe_comm **out) LEMOE_MUST_CHECK;
/* Local. A rank of a team of that size without the others, for finding out on a planning device (kernels/planning.h)
 * what it needs: collectives return at once, and what they leave means nothing. Errors: NOMEM. */
lemoe_status lemoe_comm_planning(int rank, int size, lemoe_comm **out) LEMOE_MUST_CHECK;
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
/* ---- tensors of a device ---- */

/* Collective. From now on the comm reduces tensors of this device too, by the shortest way there is: in place where the
 * host reaches its memory; between the devices themselves where they offer that and each rank has one of its own
 * (NCCL); else staged, through pinned host memory and the team's own reduction, whose bits it has. device_id: what
 * tells devices apart (lemoe_device_info.id). The device is borrowed until detach, or close of the comm. What the
 * device's library takes of its memory is taken afterwards. Errors, agreed on: COMM from that library; NOMEM; STATE
 * when another device is attached. */
lemoe_status lemoe_comm_attach(lemoe_comm *comm, lemoe_device *device, const char *device_id) LEMOE_MUST_CHECK;
/* Collective where ranks' devices talk to each other, else Local. Fine when nothing is attached. */
void lemoe_comm_detach(lemoe_comm *comm);
/* Local. The attached device; NULL: none. */
lemoe_device *lemoe_comm_device(const lemoe_comm *comm);
/* Local. "host", "staged" or "direct": how tensors of the device are reduced. */
const char *lemoe_comm_transport_name(const lemoe_comm *comm);
/* Local. Whether a reduction of the device's tensors is queued like an operation, so that it may be captured with them:
 * direct, and a single rank, where there is nothing to do. */
bool lemoe_comm_stays_on_device(const lemoe_comm *comm);
/* Collective. As allreduce, for tensors of the attached device; a comm without one takes memory to be the host's. */
lemoe_status lemoe_comm_device_sum(lemoe_comm *comm, lemoe_tensor x) LEMOE_MUST_CHECK;
lemoe_status lemoe_comm_device_max(lemoe_comm *comm, lemoe_tensor x) LEMOE_MUST_CHECK;
/* begin, Collective: as device_sum, beside the operations that are queued until its end; until then nothing may read or
 * write x. end, Local: operations that are queued after it find the sum. Where only the host can reduce, that is done
 * in begin. A lane has one sum at a time, and while one is under way no other function here reduces tensors of the
 * device. Errors: ARG for a lane that is not there; STATE for one that has begun already or has not, and for those
 * others. */
enum { LEMOE_COMM_LANES = 2 };
lemoe_status lemoe_comm_device_sum_begin(lemoe_comm *comm, lemoe_tensor x, int lane) LEMOE_MUST_CHECK;
lemoe_status lemoe_comm_device_sum_end(lemoe_comm *comm, int lane) LEMOE_MUST_CHECK;

/* ---- leaving together ---- */

/* Collective. All ranks pass their local status; all get the same: OK when every one is OK, else the code of the lowest
 * failing rank, with that rank's message recorded on all ("rank 2: ..."; the first rank's, which is everybody's where
 * all ranks fail alike, as it is). How a team leaves together. But COMM of a rank whose device reduces directly ends
 * the job: what is on the device never ends, so that nothing there could be closed. */
lemoe_status lemoe_comm_agree(lemoe_comm *comm, lemoe_status local) LEMOE_MUST_CHECK;
/* Local. Every function with collectives inside ends with this, around the status of its work: a rank that failed
 * between two of them cannot reach its team's next agreement, and the others would wait for it for ever. So with more
 * than one rank a failure is printed and ends the job (exit status 2); with one it is returned like any other. */
lemoe_status lemoe_comm_keep_step(lemoe_comm *comm, lemoe_status status) LEMOE_MUST_CHECK;
/* Local. Prints why, and the failure under way, and ends the job that the comm belongs to, all other teams with it:
 * exit status 2. Nothing is closed. Returns where the comm is a single rank's own (lemoe_comm_self): it has no job. */
void lemoe_comm_end_job(lemoe_comm *comm, const char *why);

#endif

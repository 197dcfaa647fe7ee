/*
 * Collectives that a device offers on its own memory (NCCL behind "cuda"): stream-ordered with its operations, nothing
 * staged through the host. Optional: a device without them, the CPU among these, leaves communication to the caller.
 * runner/comm decides which ranks form a group, carries the group's id between them, and is the only user.
 *
 * Everything but unique_id, abort and close is Collective: all ranks of the group call it in the same order, with equal
 * counts and types. Calls return when the work is queued; results are there for later operations and downloads.
 * Reductions have a fixed order for one group, layout and library version.
 *
 * What the library finds wrong with a peer while the host waits (upload, download, sync) is COMM there. Then, or where
 * the library notices nothing, what was queued never ends and device memory cannot be freed: the process has to end,
 * as after a broken MPI. A peer whose process ended is the launcher's affair: it ends the job.
 */
#ifndef KERNELS_COLLECTIVE_H
#define KERNELS_COLLECTIVE_H

#include "kernels/device.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { LEMOE_COLLECTIVE_ID_BYTES = 128 };
typedef struct lemoe_collective_id {
    char bytes[LEMOE_COLLECTIVE_ID_BYTES];
} lemoe_collective_id;
typedef enum lemoe_reduction { LEMOE_REDUCE_SUM = 0, LEMOE_REDUCE_MAX } lemoe_reduction;
typedef struct lemoe_collective lemoe_collective;

/* Whether the device has collectives. Everything below fails with UNSUPPORTED where it has none. */
bool lemoe_collective_offered(const lemoe_device *device);
/* Local. Made by one rank, carried to the others as plain bytes, then opened by all. Errors: COMM, from the library. */
lemoe_status lemoe_collective_unique_id(lemoe_device *device, lemoe_collective_id *out) LEMOE_MUST_CHECK;
/* Collective; waits for all ranks of the group. Ranks must hold different devices (lemoe_device_info.id). The caller
 * closes it before the device. Errors: COMM. */
lemoe_status lemoe_collective_open(lemoe_device *device, const lemoe_collective_id *id, int rank, int size,
                                   lemoe_collective **out) LEMOE_MUST_CHECK;
/* Collective. In place; fp32, fp64, bf16, fp16, int32 or int64. Errors: COMM. */
lemoe_status lemoe_collective_allreduce(lemoe_device *device, lemoe_collective *collective, lemoe_reduction reduction,
                                        lemoe_tensor x) LEMOE_MUST_CHECK;
/* begin, Collective: an allreduce that runs after what was queued before it and beside what is queued after it; until
 * its end nothing may read or write x. end, Local: what is queued after it finds the result. A lane has one reduction
 * at a time, and every begin has its end before any other of these functions is called, so that what a group moves has
 * one order, on its devices as well. A graph that captures one captures both. Errors: COMM, DEVICE; ARG for a lane that
 * is not there. */
enum { LEMOE_COLLECTIVE_LANES = 2 };
lemoe_status lemoe_collective_allreduce_begin(lemoe_device *device, lemoe_collective *collective,
                                              lemoe_reduction reduction, lemoe_tensor x, int lane) LEMOE_MUST_CHECK;
lemoe_status lemoe_collective_allreduce_end(lemoe_device *device, lemoe_collective *collective,
                                            int lane) LEMOE_MUST_CHECK;
/* Collective. out holds size times the elements of x, in rank order, and does not overlap it. Errors: SHAPE, COMM. */
lemoe_status lemoe_collective_allgather(lemoe_device *device, lemoe_collective *collective, lemoe_tensor x,
                                        lemoe_tensor out) LEMOE_MUST_CHECK;
/* Collective. From rank root to all, in place. Errors: COMM. */
lemoe_status lemoe_collective_broadcast(lemoe_device *device, lemoe_collective *collective, int root,
                                        lemoe_tensor x) LEMOE_MUST_CHECK;
/* Local. Gives up a group that a peer could not open, after graphs that name it were destroyed; close it afterwards. */
void lemoe_collective_abort(lemoe_device *device, lemoe_collective *collective);
/* Collective but after abort, after graphs that name it were destroyed. NULL is fine. */
void lemoe_collective_close(lemoe_device *device, lemoe_collective *collective);

#ifdef __cplusplus
}
#endif
#endif

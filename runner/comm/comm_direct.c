/* Between the devices themselves, by their own collectives (NCCL); this comm carries the id of the group. */
#include "runner/comm/comm_ops.h"

#include "kernels/collective.h"

static lemoe_status direct_open(lemoe_comm *comm) {
    lemoe_collective_id id = {{0}};
    lemoe_collective *group = NULL;
    LEMOE_TRY(lemoe_comm_agree(comm, comm->rank == 0 ? lemoe_collective_unique_id(comm->device, &id) : LEMOE_OK));
    LEMOE_TRY(lemoe_comm_broadcast_bytes(comm, 0, &id, sizeof id));
    LEMOE_TRY(lemoe_collective_open(comm->device, &id, comm->rank, comm->size, &group));
    comm->transport_state = group;
    return LEMOE_OK;
}

static lemoe_status direct_allreduce(lemoe_comm *comm, lemoe_tensor x, bool max) {
    return lemoe_collective_allreduce(comm->device, comm->transport_state, max ? LEMOE_REDUCE_MAX : LEMOE_REDUCE_SUM,
                                      x);
}

static void direct_close(lemoe_comm *comm, bool is_broken) {
    lemoe_collective *group = comm->transport_state;
    if (group && is_broken) lemoe_collective_abort(comm->device, group);
    lemoe_collective_close(comm->device, group);
}

const lemoe_comm_transport lemoe_comm_direct = {
    .name = "direct",
    .stays_on_device = true,
    .open = direct_open,
    .allreduce = direct_allreduce,
    .close = direct_close,
};

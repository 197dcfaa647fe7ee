/* Between the devices themselves, by their own collectives (NCCL); this comm carries the id of the group. */
#include "runner/comm/comm_ops.h"

#include "kernels/collective.h"

/* What a rank says of itself comes before what others say of their peers. */
static lemoe_status agree_on_cause(lemoe_comm *comm, lemoe_status status) {
    LEMOE_TRY(lemoe_comm_agree(comm, status == LEMOE_ERR_COMM ? LEMOE_OK : status));
    return lemoe_comm_agree(comm, status);
}

/* Its peers would wait for a rank that could not reduce, as long as it does not leave. */
static lemoe_status sum_of_one(lemoe_device *device, lemoe_collective *group, void *word) {
    lemoe_status status =
        lemoe_collective_allreduce(device, group, LEMOE_REDUCE_SUM, lemoe_tensor_1d(word, LEMOE_F32, 1));
    if (status == LEMOE_OK) status = lemoe_device_sync(device);
    if (status != LEMOE_OK) lemoe_collective_abort(device, group);
    return status;
}

/* The library takes memory of the device when it first reduces. That is now, where it can be agreed on; and what is
 * free from here on is free. */
static lemoe_status try_out(lemoe_comm *comm, lemoe_collective *group) {
    void *word = NULL;
    lemoe_status status = lemoe_device_alloc(comm->device, sizeof(float), &word);
    if (status == LEMOE_OK) status = lemoe_device_zero(comm->device, word, sizeof(float));
    status = lemoe_comm_agree(comm, status);
    if (status == LEMOE_OK) status = agree_on_cause(comm, sum_of_one(comm->device, group, word));
    lemoe_device_free(comm->device, word);
    return status;
}

static void leave(lemoe_device *device, lemoe_collective *group, bool is_broken) {
    if (group && is_broken) lemoe_collective_abort(device, group);
    lemoe_collective_close(device, group);
}

static lemoe_status direct_open(lemoe_comm *comm) {
    lemoe_collective_id id = {{0}};
    lemoe_collective *group = NULL;
    LEMOE_TRY(lemoe_comm_agree(comm, comm->rank == 0 ? lemoe_collective_unique_id(comm->device, &id) : LEMOE_OK));
    LEMOE_TRY(lemoe_comm_broadcast_bytes(comm, 0, &id, sizeof id));
    lemoe_status status = lemoe_collective_open(comm->device, &id, comm->rank, comm->size, &group);
    status = agree_on_cause(comm, status);
    if (status == LEMOE_OK) status = try_out(comm, group);
    if (status == LEMOE_OK)
        comm->transport_state = group;
    else
        leave(comm->device, group, true);
    return status;
}

static lemoe_status direct_allreduce(lemoe_comm *comm, lemoe_tensor x, bool max) {
    return lemoe_collective_allreduce(comm->device, comm->transport_state, max ? LEMOE_REDUCE_MAX : LEMOE_REDUCE_SUM,
                                      x);
}

static lemoe_status direct_sum_begin(lemoe_comm *comm, lemoe_tensor x, int lane) {
    return lemoe_collective_allreduce_begin(comm->device, comm->transport_state, LEMOE_REDUCE_SUM, x, lane);
}

static lemoe_status direct_sum_end(lemoe_comm *comm, int lane) {
    return lemoe_collective_allreduce_end(comm->device, comm->transport_state, lane);
}

static void direct_close(lemoe_comm *comm, bool is_broken) { leave(comm->device, comm->transport_state, is_broken); }

const lemoe_comm_transport lemoe_comm_direct = {
    .name = "direct",
    .stays_on_device = true,
    .open = direct_open,
    .allreduce = direct_allreduce,
    .sum_begin = direct_sum_begin,
    .sum_end = direct_sum_end,
    .close = direct_close,
};

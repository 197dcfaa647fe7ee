/* A rank of a team that is not there: nothing is reduced and nobody is waited for, and no value means anything. On a
 * planning device it lets one process find out what a rank of a team needs. */
#include "runner/comm/comm_ops.h"

#include <string.h>

static lemoe_status planning_allreduce(lemoe_comm *comm, lemoe_tensor x, bool max) {
    (void)comm, (void)x, (void)max;
    return LEMOE_OK;
}

static lemoe_status planning_allgather(lemoe_comm *comm, lemoe_tensor x, lemoe_tensor out) {
    size_t n_bytes = lemoe_tensor_bytes(&x);
    for (int i = 0; i < comm->size; i++) memcpy((char *)out.data + (size_t)i * n_bytes, x.data, n_bytes);
    return LEMOE_OK;
}

static lemoe_status planning_broadcast(lemoe_comm *comm, int root, void *bytes, size_t n_bytes) {
    (void)comm, (void)root, (void)bytes, (void)n_bytes;
    return LEMOE_OK;
}

static void planning_abandon(lemoe_comm *comm) { (void)comm; }
static void planning_close(lemoe_comm *comm) { (void)comm; }

static const lemoe_comm_ops planning_ops = {
    .allreduce = planning_allreduce,
    .allgather = planning_allgather,
    .broadcast = planning_broadcast,
    .abandon = planning_abandon,
    .close = planning_close,
};

lemoe_status lemoe_comm_planning(int rank, int size, lemoe_comm **out) {
    return lemoe_comm_create(&planning_ops, rank, size, NULL, out);
}

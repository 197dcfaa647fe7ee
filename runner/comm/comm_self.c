/* One rank: reductions change nothing, a gather is a copy. Real, not a mock: a program without mpirun runs on it. */
#include "runner/comm/comm_ops.h"

#include <string.h>

static lemoe_status self_allreduce(lemoe_comm *comm, lemoe_tensor x, bool max) {
    (void)comm, (void)x, (void)max;
    return LEMOE_OK;
}

static lemoe_status self_allgather(lemoe_comm *comm, lemoe_tensor x, lemoe_tensor out) {
    (void)comm;
    if (out.data != x.data) memcpy(out.data, x.data, lemoe_tensor_bytes(&x));
    return LEMOE_OK;
}

static lemoe_status self_broadcast(lemoe_comm *comm, int root, void *bytes, size_t n_bytes) {
    (void)comm, (void)root, (void)bytes, (void)n_bytes;
    return LEMOE_OK;
}

static void self_abandon(lemoe_comm *comm) { (void)comm; }

static void self_close(lemoe_comm *comm) { (void)comm; }

static const lemoe_comm_ops self_ops = {
    .allreduce = self_allreduce,
    .allgather = self_allgather,
    .broadcast = self_broadcast,
    .abandon = self_abandon,
    .close = self_close,
};

lemoe_status lemoe_comm_self(lemoe_comm **out) { return lemoe_comm_create(&self_ops, 0, 1, NULL, out); }

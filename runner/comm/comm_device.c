/* Tensors of a device between ranks: which way they go. */
#include "runner/comm/comm_ops.h"

#include "kernels/base/mem.h"
#include "kernels/collective.h"

#include <string.h>

enum { ID_WORDS = sizeof((lemoe_device_info *)0)->id / sizeof(int32_t) };

/* Whether every rank has a device of its own. */
static lemoe_status are_distinct(lemoe_comm *comm, const char *device_id, bool *out) {
    int32_t own[ID_WORDS] = {0}, *all = NULL;
    size_t length = strlen(device_id);
    memcpy(own, device_id, length < sizeof own ? length : sizeof own);
    *out = true;
    LEMOE_TRY(lemoe_comm_agree(comm, lemoe_mem_alloc((int64_t)comm->size * ID_WORDS, sizeof *all, &all)));
    lemoe_status status = lemoe_comm_allgather(comm, lemoe_tensor_1d(own, LEMOE_I32, ID_WORDS),
                                               lemoe_tensor_1d(all, LEMOE_I32, (int64_t)comm->size * ID_WORDS));
    for (int i = 0; i < comm->size; i++)
        for (int j = 0; j < i; j++)
            if (memcmp(all + i * ID_WORDS, all + j * ID_WORDS, sizeof own) == 0) *out = false;
    lemoe_mem_free(all);
    return status;
}

static lemoe_status choose(lemoe_comm *comm, lemoe_device *device, const char *device_id,
                           const lemoe_comm_transport **out) {
    int32_t cannot = !lemoe_collective_offered(device);
    bool distinct = false;
    *out = NULL;
    if (comm->size == 1 || lemoe_device_is_host(device)) return LEMOE_OK;
    LEMOE_TRY(lemoe_comm_allreduce_max(comm, lemoe_tensor_1d(&cannot, LEMOE_I32, 1)));
    LEMOE_TRY(are_distinct(comm, device_id, &distinct));
    *out = distinct && !cannot ? &lemoe_comm_direct : &lemoe_comm_staged;
    return LEMOE_OK;
}

static void detach(lemoe_comm *comm, bool is_broken) {
    if (comm->transport) comm->transport->close(comm, is_broken);
    comm->transport = NULL;
    comm->transport_state = NULL;
    comm->device = NULL;
}

lemoe_status lemoe_comm_attach(lemoe_comm *comm, lemoe_device *device, const char *device_id) {
    const lemoe_comm_transport *transport = NULL;
    LEMOE_CHECK(!comm->device, LEMOE_ERR_STATE, "a team's communicator has a device already");
    LEMOE_TRY(choose(comm, device, device_id, &transport));
    comm->device = device;
    comm->transport = transport;
    lemoe_status status = lemoe_comm_agree(comm, transport ? transport->open(comm) : LEMOE_OK);
    if (status != LEMOE_OK) detach(comm, true);
    return status;
}

void lemoe_comm_detach(lemoe_comm *comm) { detach(comm, false); }

lemoe_device *lemoe_comm_device(const lemoe_comm *comm) { return comm->device; }

const char *lemoe_comm_transport_name(const lemoe_comm *comm) {
    return comm->transport ? comm->transport->name : "host";
}

bool lemoe_comm_stays_on_device(const lemoe_comm *comm) {
    return comm->size == 1 || (comm->transport && comm->transport->stays_on_device);
}

static bool has_nothing_to_do(const lemoe_comm *comm, lemoe_tensor x) {
    return comm->size == 1 || lemoe_tensor_count(&x) == 0;
}

static lemoe_status reduce_now(lemoe_comm *comm, lemoe_tensor x, bool max) {
    if (has_nothing_to_do(comm, x)) return LEMOE_OK;
    return comm->transport ? comm->transport->allreduce(comm, x, max) : comm->ops->allreduce(comm, x, max);
}

static lemoe_status allreduce(lemoe_comm *comm, lemoe_tensor x, bool max) {
    LEMOE_TRY(lemoe_comm_check_reducible(x));
    for (int lane = 0; lane < LEMOE_COMM_LANES; lane++)
        LEMOE_CHECK(!comm->has_begun[lane], LEMOE_ERR_STATE, "a reduction while the sum of lane %d is under way", lane);
    return reduce_now(comm, x, max);
}

lemoe_status lemoe_comm_device_sum(lemoe_comm *comm, lemoe_tensor x) { return allreduce(comm, x, false); }
lemoe_status lemoe_comm_device_max(lemoe_comm *comm, lemoe_tensor x) { return allreduce(comm, x, true); }

/* ---- beside other operations ---- */

_Static_assert((int)LEMOE_COMM_LANES == (int)LEMOE_COLLECTIVE_LANES, "a lane is a lane of the device");

static lemoe_status check_lane(const lemoe_comm *comm, int lane, bool has_begun) {
    LEMOE_CHECK(lane >= 0 && lane < LEMOE_COMM_LANES, LEMOE_ERR_ARG, "sums have %d lanes, not lane %d",
                LEMOE_COMM_LANES, lane);
    LEMOE_CHECK(comm->has_begun[lane] == has_begun, LEMOE_ERR_STATE, "the sum of lane %d %s", lane,
                has_begun ? "has not begun" : "has not ended");
    return LEMOE_OK;
}

static bool runs_beside(const lemoe_comm *comm) {
    return comm->size > 1 && comm->transport && comm->transport->sum_begin;
}

lemoe_status lemoe_comm_device_sum_begin(lemoe_comm *comm, lemoe_tensor x, int lane) {
    LEMOE_TRY(lemoe_comm_check_reducible(x));
    LEMOE_TRY(check_lane(comm, lane, false));
    comm->has_begun[lane] = true;
    return runs_beside(comm) ? comm->transport->sum_begin(comm, x, lane) : reduce_now(comm, x, false);
}

lemoe_status lemoe_comm_device_sum_end(lemoe_comm *comm, int lane) {
    LEMOE_TRY(check_lane(comm, lane, true));
    comm->has_begun[lane] = false;
    return runs_beside(comm) ? comm->transport->sum_end(comm, lane) : LEMOE_OK;
}

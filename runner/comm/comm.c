#include "runner/comm/comm_ops.h"

#include "kernels/base/mem.h"

#include <stdio.h>
#include <string.h>

lemoe_status lemoe_comm_create(const lemoe_comm_ops *ops, int rank, int size, void *handle, lemoe_comm **out) {
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof **out, out));
    **out = (lemoe_comm){.ops = ops, .rank = rank, .size = size, .handle = handle};
    return LEMOE_OK;
}

void lemoe_comm_close(lemoe_comm *comm) {
    if (!comm) return;
    lemoe_comm_detach(comm);
    comm->ops->close(comm);
    lemoe_mem_free(comm);
}

int lemoe_comm_rank(const lemoe_comm *comm) { return comm->rank; }
int lemoe_comm_size(const lemoe_comm *comm) { return comm->size; }

lemoe_status lemoe_comm_check_reducible(lemoe_tensor x) {
    LEMOE_CHECK(x.dtype == LEMOE_F32 || x.dtype == LEMOE_F64 || x.dtype == LEMOE_I32, LEMOE_ERR_ARG,
                "a reduction of %s is not offered", lemoe_dtype_name(x.dtype));
    return LEMOE_OK;
}

lemoe_status lemoe_comm_allreduce_sum(lemoe_comm *comm, lemoe_tensor x) {
    LEMOE_TRY(lemoe_comm_check_reducible(x));
    return comm->ops->allreduce(comm, x, false);
}

lemoe_status lemoe_comm_allreduce_max(lemoe_comm *comm, lemoe_tensor x) {
    LEMOE_TRY(lemoe_comm_check_reducible(x));
    return comm->ops->allreduce(comm, x, true);
}

lemoe_status lemoe_comm_allgather(lemoe_comm *comm, lemoe_tensor x, lemoe_tensor out) {
    LEMOE_CHECK(lemoe_tensor_bytes(&out) == (size_t)comm->size * lemoe_tensor_bytes(&x), LEMOE_ERR_SHAPE,
                "allgather: %lld elements from each of %d ranks do not fill %lld", (long long)lemoe_tensor_count(&x),
                comm->size, (long long)lemoe_tensor_count(&out));
    return comm->ops->allgather(comm, x, out);
}

lemoe_status lemoe_comm_broadcast(lemoe_comm *comm, int root, lemoe_tensor x) {
    return comm->ops->broadcast(comm, root, x.data, lemoe_tensor_bytes(&x));
}

lemoe_status lemoe_comm_broadcast_bytes(lemoe_comm *comm, int root, void *bytes, size_t n_bytes) {
    return comm->ops->broadcast(comm, root, bytes, n_bytes);
}

void lemoe_comm_end_job(lemoe_comm *comm, const char *why) {
    (void)fprintf(stderr, "[rank %d] %s: %s\n%s\n", comm->rank, why, lemoe_error_message(), lemoe_error_trace());
    comm->ops->abandon(comm);
}

lemoe_status lemoe_comm_keep_step(lemoe_comm *comm, lemoe_status status) {
    if (status == LEMOE_OK || comm->size == 1) return status;
    lemoe_comm_end_job(comm, "cannot keep step with its team");
    return status;
}

enum { AGREED_MESSAGE_BYTES = 1024 };

/* Whether work that other ranks take part in is on the device, and will never end. */
static bool is_stuck(const lemoe_comm *comm, lemoe_status local) {
    return local == LEMOE_ERR_COMM && comm->transport_state && comm->transport->stays_on_device;
}

lemoe_status lemoe_comm_agree(lemoe_comm *comm, lemoe_status local) {
    if (comm->size == 1) return local;
    if (is_stuck(comm, local)) return lemoe_comm_keep_step(comm, local);
    /* one reduction in the common case: the lowest failing rank, as the largest of (size - rank) over failing ranks */
    int32_t failing = local == LEMOE_OK ? 0 : comm->size - comm->rank;
    LEMOE_TRY(lemoe_comm_allreduce_max(comm, lemoe_tensor_1d(&failing, LEMOE_I32, 1)));
    if (failing == 0) return LEMOE_OK;
    int first = comm->size - failing;
    struct {
        int32_t code;
        char message[AGREED_MESSAGE_BYTES];
    } report = {(int32_t)local, ""};
    size_t length = strlen(lemoe_error_message());
    if (length >= sizeof report.message) length = sizeof report.message - 1;
    memcpy(report.message, lemoe_error_message(), length);
    LEMOE_TRY(lemoe_comm_broadcast_bytes(comm, first, &report, sizeof report));
    if (comm->rank != first) (void)lemoe_raise((lemoe_status)report.code, "%s", report.message);
    if (first > 0) lemoe_error_prefix("rank %d", first); /* its own record is richer, it has the trace, and stays */
    return (lemoe_status)report.code;
}

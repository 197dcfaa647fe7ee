/*
 * Through the host: where ranks share one device, or have devices that cannot talk to each other. A tensor is reduced
 * whole, in the team's own reduction, so it has the bits that the CPU's would have; the buffer grows to the largest.
 */
#include "runner/comm/comm_ops.h"

#include "kernels/base/mem.h"

typedef struct staging {
    void *buffer; /* pinned */
    size_t n_bytes;
} staging;

static lemoe_status staged_open(lemoe_comm *comm) {
    return lemoe_mem_alloc(1, sizeof(staging), &comm->transport_state);
}

static lemoe_status reserve(lemoe_comm *comm, size_t n_bytes) {
    staging *s = comm->transport_state;
    if (n_bytes <= s->n_bytes) return LEMOE_OK;
    lemoe_device_host_free(comm->device, s->buffer);
    *s = (staging){NULL, 0};
    LEMOE_TRY(lemoe_device_host_alloc(comm->device, n_bytes, &s->buffer));
    s->n_bytes = n_bytes;
    return LEMOE_OK;
}

static lemoe_status staged_allreduce(lemoe_comm *comm, lemoe_tensor x, bool max) {
    size_t n_bytes = lemoe_tensor_bytes(&x);
    lemoe_tensor on_host = x;
    LEMOE_TRY(reserve(comm, n_bytes));
    on_host.data = ((staging *)comm->transport_state)->buffer;
    LEMOE_TRY(lemoe_device_download(comm->device, on_host.data, x.data, n_bytes));
    LEMOE_TRY(comm->ops->allreduce(comm, on_host, max));
    return lemoe_device_upload(comm->device, x.data, on_host.data, n_bytes);
}

static void staged_close(lemoe_comm *comm, bool is_broken) {
    staging *s = comm->transport_state;
    (void)is_broken;
    if (!s) return;
    lemoe_device_host_free(comm->device, s->buffer);
    lemoe_mem_free(s);
}

const lemoe_comm_transport lemoe_comm_staged = {
    .name = "staged",
    .open = staged_open,
    .allreduce = staged_allreduce,
    .close = staged_close,
};

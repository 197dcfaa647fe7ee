/* Private to runner/comm: the table behind lemoe_comm. Front end (comm.c) checks, an implementation moves data. */
#ifndef RUNNER_COMM_COMM_OPS_H
#define RUNNER_COMM_COMM_OPS_H

#include "runner/comm/comm.h"

typedef struct lemoe_comm_ops {
    lemoe_status (*allreduce)(lemoe_comm *comm, lemoe_tensor x, bool max);
    lemoe_status (*allgather)(lemoe_comm *comm, lemoe_tensor x, lemoe_tensor out);
    lemoe_status (*broadcast)(lemoe_comm *comm, int root, void *bytes, size_t n_bytes);
    void (*abandon)(lemoe_comm *comm); /* ends the job; returns only where there is none */
    void (*close)(lemoe_comm *comm);
} lemoe_comm_ops;

/* How tensors of an attached device are reduced between ranks (comm_device.c chooses). */
typedef struct lemoe_comm_transport {
    const char *name;
    bool stays_on_device;                   /* queued like an operation: the host takes no part */
    lemoe_status (*open)(lemoe_comm *comm); /* fills comm->transport_state, NULL until then */
    lemoe_status (*allreduce)(lemoe_comm *comm, lemoe_tensor x, bool max);
    /* optional, both or neither: a sum beside what is queued between them (lemoe_collective_allreduce_begin) */
    lemoe_status (*sum_begin)(lemoe_comm *comm, lemoe_tensor x, int lane);
    lemoe_status (*sum_end)(lemoe_comm *comm, int lane);
    void (*close)(lemoe_comm *comm, bool is_broken); /* broken: a peer could not open its end */
} lemoe_comm_transport;

extern const lemoe_comm_transport lemoe_comm_staged, lemoe_comm_direct;

struct lemoe_comm {
    const lemoe_comm_ops *ops;
    int rank, size;
    void *handle;                          /* the implementation's own */
    lemoe_device *device;                  /* attached, borrowed; NULL: none */
    const lemoe_comm_transport *transport; /* NULL: device memory is host memory, or there is one rank */
    void *transport_state;                 /* the transport's own */
    bool has_begun[LEMOE_COMM_LANES];      /* a sum that has not ended */
};

/* Local. ARG for a type that no reduction is offered for. */
lemoe_status lemoe_comm_check_reducible(lemoe_tensor x) LEMOE_MUST_CHECK;

lemoe_status lemoe_comm_create(const lemoe_comm_ops *ops, int rank, int size, void *handle,
                               lemoe_comm **out) LEMOE_MUST_CHECK;

#endif

/* Private to runner/comm: the table behind lemoe_comm. Front end (comm.c) checks, an implementation moves data. */
#ifndef RUNNER_COMM_COMM_OPS_H
#define RUNNER_COMM_COMM_OPS_H

#include "runner/comm/comm.h"

typedef struct lemoe_comm_ops {
    const char *name;
    lemoe_status (*allreduce)(lemoe_comm *comm, lemoe_tensor x, bool max);
    lemoe_status (*allgather)(lemoe_comm *comm, lemoe_tensor x, lemoe_tensor out);
    lemoe_status (*broadcast)(lemoe_comm *comm, int root, void *bytes, size_t n_bytes);
    void (*abandon)(lemoe_comm *comm); /* ends the job; does not return where there are other ranks */
    void (*close)(lemoe_comm *comm);
} lemoe_comm_ops;

struct lemoe_comm {
    const lemoe_comm_ops *ops;
    int rank, size;
    void *handle; /* the implementation's own */
};

lemoe_status lemoe_comm_create(const lemoe_comm_ops *ops, int rank, int size, void *handle,
                               lemoe_comm **out) LEMOE_MUST_CHECK;

#endif

/* Private to runner/comm: the one adapter from MPI's results to ours. */
#ifndef RUNNER_COMM_MPI_INTERNAL_H
#define RUNNER_COMM_MPI_INTERNAL_H

#include "runner/comm/comm_ops.h"
#include "runner/comm/mailbox.h"

#include <mpi.h>

#define LEMOE_MPI(call)                                                                                                \
    do {                                                                                                               \
        int mpi_code_ = (call);                                                                                        \
        if (mpi_code_ != MPI_SUCCESS) return lemoe_mpi_raise(__FILE__, __LINE__, mpi_code_, #call);                    \
    } while (0)

lemoe_status lemoe_mpi_raise(const char *file, int line, int mpi_code, const char *call);
/* Takes the communicator over: close frees it. */
lemoe_status lemoe_comm_mpi(MPI_Comm handle, lemoe_comm **out) LEMOE_MUST_CHECK;
lemoe_status lemoe_mailbox_create(MPI_Comm parent, lemoe_mailbox **out) LEMOE_MUST_CHECK;
void lemoe_mailbox_destroy(lemoe_mailbox *mailbox);

#endif

/* Tensor parallelism over MPI, host memory. Counts are 64-bit here and int in MPI, so long tensors go in chunks. */
#include "runner/comm/mpi_internal.h"

#include "kernels/base/mem.h"

enum { CHUNK_ELEMENTS = 1 << 28 };

lemoe_status lemoe_mpi_raise(const char *file, int line, int mpi_code, const char *call) {
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    (void)MPI_Error_string(mpi_code, text, &length);
    return lemoe_raise_at(file, line, LEMOE_ERR_COMM, "MPI: %s (%s)", text, call);
}

static MPI_Comm handle_of(const lemoe_comm *comm) { return *(MPI_Comm *)comm->handle; }

static MPI_Datatype type_of(lemoe_dtype dtype) {
    switch (dtype) {
    case LEMOE_F32: return MPI_FLOAT;
    case LEMOE_F64: return MPI_DOUBLE;
    default: return MPI_INT32_T;
    }
}

static lemoe_status mpi_allreduce(lemoe_comm *comm, lemoe_tensor x, bool max) {
    int64_t n = lemoe_tensor_count(&x);
    size_t item_bytes = lemoe_dtype_bytes(x.dtype);
    for (int64_t done = 0; done < n; done += CHUNK_ELEMENTS) {
        int chunk = n - done < CHUNK_ELEMENTS ? (int)(n - done) : CHUNK_ELEMENTS;
        LEMOE_MPI(MPI_Allreduce(MPI_IN_PLACE, (char *)x.data + (size_t)done * item_bytes, chunk, type_of(x.dtype),
                                max ? MPI_MAX : MPI_SUM, handle_of(comm)));
    }
    return LEMOE_OK;
}

static lemoe_status mpi_broadcast(lemoe_comm *comm, int root, void *bytes, size_t n_bytes) {
    for (size_t done = 0; done < n_bytes; done += CHUNK_ELEMENTS) {
        int chunk = n_bytes - done < CHUNK_ELEMENTS ? (int)(n_bytes - done) : CHUNK_ELEMENTS;
        LEMOE_MPI(MPI_Bcast((char *)bytes + done, chunk, MPI_BYTE, root, handle_of(comm)));
    }
    return LEMOE_OK;
}

/* One broadcast a rank: chunking an allgather would interleave the ranks' parts. */
static lemoe_status mpi_allgather(lemoe_comm *comm, lemoe_tensor x, lemoe_tensor out) {
    size_t n_bytes = lemoe_tensor_bytes(&x);
    if (n_bytes <= CHUNK_ELEMENTS) {
        LEMOE_MPI(MPI_Allgather(x.data, (int)n_bytes, MPI_BYTE, out.data, (int)n_bytes, MPI_BYTE, handle_of(comm)));
        return LEMOE_OK;
    }
    for (int rank = 0; rank < comm->size; rank++) {
        char *part = (char *)out.data + (size_t)rank * n_bytes;
        if (rank == comm->rank)
            for (size_t i = 0; i < n_bytes; i++) part[i] = ((const char *)x.data)[i];
        LEMOE_TRY(mpi_broadcast(comm, rank, part, n_bytes));
    }
    return LEMOE_OK;
}

static void mpi_abandon(lemoe_comm *comm) {
    enum { EXIT_RUN_FAILED = 2 };
    (void)comm;
    (void)MPI_Abort(MPI_COMM_WORLD, EXIT_RUN_FAILED);
}

static void mpi_close(lemoe_comm *comm) {
    MPI_Comm handle = handle_of(comm);
    (void)MPI_Comm_free(&handle);
    lemoe_mem_free(comm->handle);
}

static const lemoe_comm_ops mpi_ops = {
    .allreduce = mpi_allreduce,
    .allgather = mpi_allgather,
    .broadcast = mpi_broadcast,
    .abandon = mpi_abandon,
    .close = mpi_close,
};

lemoe_status lemoe_comm_mpi(MPI_Comm handle, lemoe_comm **out) {
    int rank = 0, size = 0;
    LEMOE_MPI(MPI_Comm_set_errhandler(handle, MPI_ERRORS_RETURN));
    LEMOE_MPI(MPI_Comm_rank(handle, &rank));
    LEMOE_MPI(MPI_Comm_size(handle, &size));
    MPI_Comm *kept = NULL;
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof *kept, &kept));
    *kept = handle;
    lemoe_status status = lemoe_comm_create(&mpi_ops, rank, size, kept, out);
    if (status != LEMOE_OK) lemoe_mem_free(kept);
    return status;
}

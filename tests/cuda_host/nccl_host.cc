/*
 * NCCL on the CPU: collectives between the processes of one machine, each with an emulated device of its own. They are
 * queued and captured like other work, run in the order in which a communicator got them, and reduce in rank order.
 * What on GPUs ends in garbage or a hang ends here with a message: ranks that do not call alike, a communicator that is
 * destroyed while a captured graph names it.
 */
#include "kernels/base/dtype.h"
#include "tests/cuda_host/cuda_host.h"
#include "tests/cuda_host/nccl_group.h"

#include <cstdio>
#include <cstring>

struct ncclComm {
    std::shared_ptr<nccl_group> group;
    void *buffers;
};

namespace {

bool bytes_of(ncclDataType_t type, size_t *out) {
    switch (type) {
    case ncclFloat16:
    case ncclBfloat16: *out = 2; return true;
    case ncclInt32:
    case ncclFloat32: *out = 4; return true;
    case ncclInt64:
    case ncclFloat64: *out = 8; return true;
    }
    return false;
}

struct reduction {
    const nccl_group *group;
    int64_t number;
    bool max;
    size_t count;
    void *out;
};

template <typename T> void reduce(const reduction &r) {
    T *out = static_cast<T *>(r.out);
    for (int rank = 0; rank < r.group->size; rank++) {
        const T *part = static_cast<const T *>(nccl_group_part(r.group, r.number, rank));
        for (size_t i = 0; i < r.count; i++)
            out[i] = rank == 0 ? part[i] : !r.max ? out[i] + part[i] : part[i] > out[i] ? part[i] : out[i];
    }
}

/* In fp32, and rounded once. */
void reduce_short(const reduction &r, lemoe_dtype type) {
    std::vector<float> sum(r.count), part(r.count);
    for (int rank = 0; rank < r.group->size; rank++) {
        lemoe_dtype_to_f32(type, nccl_group_part(r.group, r.number, rank), (int64_t)r.count, part.data());
        for (size_t i = 0; i < r.count; i++)
            sum[i] = rank == 0 ? part[i] : !r.max ? sum[i] + part[i] : part[i] > sum[i] ? part[i] : sum[i];
    }
    lemoe_dtype_from_f32(type, sum.data(), (int64_t)r.count, r.out);
}

void reduce_typed(const reduction &r, ncclDataType_t type) {
    switch (type) {
    case ncclFloat32: return reduce<float>(r);
    case ncclFloat64: return reduce<double>(r);
    case ncclInt32: return reduce<int32_t>(r);
    case ncclInt64: return reduce<int64_t>(r);
    case ncclFloat16: return reduce_short(r, LEMOE_F16);
    case ncclBfloat16: return reduce_short(r, LEMOE_BF16);
    }
}

/* One collective of a communicator, which a graph may run many times. */
struct collective : cuda_host_collective {
    std::shared_ptr<nccl_group> ranks;
    nccl_call call;
    const void *send;
    void *receive;
    size_t n_bytes; /* of a rank */

    const void *group() const override { return ranks.get(); }
    int64_t number() override { return ranks->n_called++; }
    void give(int64_t number) override {
        bool has_part = call.root < 0 || call.root == ranks->rank;
        if (!ranks->is_aborted) nccl_group_give(ranks.get(), number, call, send, has_part ? n_bytes : 0);
    }
    bool is_there(int64_t number) override { return ranks->is_aborted || nccl_group_is_there(ranks.get(), number); }
    bool is_lost(int64_t number) override { return nccl_group_is_lost(ranks.get(), number); }
    void take(int64_t number) override;
};

void collective::take(int64_t number) {
    if (ranks->is_aborted) return;
    nccl_group_check_alike(ranks.get(), number);
    if (call.op >= 0)
        return reduce_typed({ranks.get(), number, call.op == ncclMax, call.count, receive}, (ncclDataType_t)call.type);
    if (call.root >= 0) {
        memcpy(receive, nccl_group_part(ranks.get(), number, call.root), n_bytes);
        return;
    }
    for (int rank = 0; rank < ranks->size; rank++)
        memcpy(static_cast<char *>(receive) + (size_t)rank * n_bytes, nccl_group_part(ranks.get(), number, rank),
               n_bytes);
}

/* Real ones take memory of the device with the first collective, if not before. */
ncclResult_t connect(ncclComm_t comm) {
    size_t n_bytes = cuda_host_setting("LEMOE_CUDA_HOST_NCCL_BYTES", 0);
    if (comm->buffers || n_bytes == 0) return ncclSuccess;
    if (cudaMalloc(&comm->buffers, n_bytes) == cudaSuccess) return ncclSuccess;
    (void)cudaGetLastError();
    return nccl_failed(ncclUnhandledCudaError, "Cuda failure 2 'out of memory'");
}

/* Checks what NCCL checks, and that both ends lie on the device. */
ncclResult_t queue(ncclComm_t comm, const nccl_call &call, const void *send, void *receive, size_t n_part,
                   cudaStream_t stream) {
    size_t item_bytes = 0;
    nccl_group *group = comm->group.get();
    if (nccl_group_is_lost(group, group->n_called)) return ncclRemoteError;
    if (!bytes_of((ncclDataType_t)call.type, &item_bytes) || call.root >= group->size)
        return nccl_failed(ncclInvalidArgument, "%s: type %d, root %d", call.name, call.type, call.root);
    size_t n_bytes = call.count * item_bytes;
    if (!cuda_host_on_device(send, n_bytes) || !cuda_host_on_device(receive, n_part * n_bytes))
        return nccl_failed(ncclInvalidArgument, "%s: not memory of the device", call.name);
    if (ncclResult_t result = connect(comm)) return result;
    std::shared_ptr<collective> work(new collective);
    work->ranks = comm->group;
    work->call = call;
    work->send = send;
    work->receive = receive;
    work->n_bytes = n_bytes;
    if (cuda_host_done(cuda_host_queue(stream, {nullptr, work})) == cudaSuccess) return ncclSuccess;
    return cuda_host_is_broken() ? nccl_failed(ncclUnhandledCudaError, "%s: the device is broken", call.name)
                                 : nccl_failed(ncclInvalidUsage, "%s: the stream captures no more", call.name);
}

/* Real ones wait as long as there are graphs. */
ncclResult_t close_comm(ncclComm_t comm, const char *call) {
    cuda_host_finish_all();
    nccl_group_leave(comm->group.get());
    if (comm->group.use_count() > 1) cuda_host_die("%s: a captured graph still names the communicator", call);
    (void)cudaFree(comm->buffers);
    delete comm;
    return ncclSuccess;
}

} // namespace

ncclResult_t ncclGetVersion(int *version) {
    *version = 0; /* nobody takes it for the real one */
    return ncclSuccess;
}
const char *ncclGetErrorString(ncclResult_t result) {
    switch (result) {
    case ncclSuccess: return "no error";
    case ncclUnhandledCudaError: return "unhandled cuda error";
    case ncclSystemError: return "unhandled system error";
    case ncclInvalidArgument: return "invalid argument";
    case ncclInvalidUsage: return "invalid usage";
    case ncclRemoteError: return "remote process exited or there was a network error";
    }
    return "unknown result code";
}
const char *ncclGetLastError(ncclComm_t) { return nccl_last_error; }

ncclResult_t ncclGetUniqueId(ncclUniqueId *id) { return nccl_group_name(id->internal, sizeof id->internal); }

ncclResult_t ncclCommInitRank(ncclComm_t *comm, int n_rank, ncclUniqueId id, int rank) {
    std::shared_ptr<nccl_group> group(new nccl_group);
    id.internal[sizeof id.internal - 1] = '\0';
    *comm = nullptr;
    if (cuda_host_refused_by_capture()) return nccl_failed(ncclInvalidUsage, "not while a stream captures");
    ncclResult_t result = nccl_group_join(group.get(), id.internal, rank, n_rank);
    if (result == ncclSuccess) *comm = new ncclComm{group, nullptr};
    return result;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) { return close_comm(comm, "ncclCommDestroy"); }

/* What is under way ends without a result. */
ncclResult_t ncclCommAbort(ncclComm_t comm) {
    comm->group->is_aborted = true;
    return close_comm(comm, "ncclCommAbort");
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error) {
    *error = nccl_group_is_lost(comm->group.get(), comm->group->n_called - 1) ? ncclRemoteError : ncclSuccess;
    return ncclSuccess;
}

ncclResult_t ncclAllReduce(const void *send, void *receive, size_t count, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream) {
    if (op != ncclSum && op != ncclMax) return nccl_failed(ncclInvalidArgument, "a reduction that is not emulated");
    return queue(comm, {"ncclAllReduce", count, type, op, -1}, send, receive, 1, stream);
}
ncclResult_t ncclAllGather(const void *send, void *receive, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream) {
    return queue(comm, {"ncclAllGather", count, type, -1, -1}, send, receive, (size_t)comm->group->size, stream);
}
ncclResult_t ncclBroadcast(const void *send, void *receive, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
    if (root < 0) return nccl_failed(ncclInvalidArgument, "root %d", root);
    return queue(comm, {"ncclBroadcast", count, type, -1, root}, send, receive, 1, stream);
}

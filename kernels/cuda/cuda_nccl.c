#define _DEFAULT_SOURCE /* setenv */

/*
 * NCCL as the device's collectives: on the stream of its operations, but for reductions that run beside these, which
 * have a stream of their own. Two events a lane tie the two together: the reduction waits for what was queued before
 * it, and what is queued after its end waits for the reduction. While a graph is captured the same calls fork the
 * capture and join it again.
 */
#include "kernels/cuda/cuda_internal.h"

#include "kernels/base/mem.h"

#include <nccl.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct nccl_lane {
    cudaEvent_t is_ready, is_reduced;
} nccl_lane;

struct lemoe_collective {
    ncclComm_t comm; /* NULL: aborted, and freed by the library */
    int size;
    struct lemoe_collective *next; /* open on the same device */
    cudaStream_t beside;           /* of all lanes: reductions of one group run one after the other anyway */
    nccl_lane lanes[LEMOE_COLLECTIVE_LANES];
};

/* The library has no code for a device without memory: it repeats what CUDA said. */
static lemoe_status failed(const char *file, int line, const char *what, ncclResult_t result) {
    const char *reason = ncclGetLastError(NULL);
    bool is_full = reason && strstr(reason, "out of memory");
    return lemoe_raise_at(file, line, is_full ? LEMOE_ERR_NOMEM : LEMOE_ERR_COMM, "%s: %s%s%s", what,
                          ncclGetErrorString(result), reason && *reason ? ": " : "", reason ? reason : "");
}

#define NCCL_TRY(what, call)                                                                                           \
    do {                                                                                                               \
        ncclResult_t nccl_result_ = (call);                                                                            \
        if (nccl_result_ != ncclSuccess) return failed(__FILE__, __LINE__, (what), nccl_result_);                      \
    } while (0)

/* With these it adds in another order than it would choose. */
static const char *const order_settings[] = {"NCCL_ALGO", "NCCL_PROTO", "NCCL_MIN_NCHANNELS", "NCCL_MAX_NCHANNELS"};

void cuda_collective_library(char *text, size_t text_bytes) {
    int version = 0;
    char settings[128];
    (void)ncclGetVersion(&version);
    cuda_write_settings(order_settings, sizeof order_settings / sizeof *order_settings, settings, sizeof settings);
    (void)snprintf(text, text_bytes, "NCCL %d.%d.%d%s", version / 10000, version % 10000 / 100, version % 100,
                   settings);
}

static lemoe_status type_of(lemoe_tensor x, ncclDataType_t *out) {
    static const struct {
        bool is_known;
        ncclDataType_t type;
    } types[LEMOE_DTYPE_COUNT] = {
        [LEMOE_F32] = {true, ncclFloat32 },
          [LEMOE_BF16] = {true, ncclBfloat16},
          [LEMOE_F16] = {true, ncclFloat16 },
        [LEMOE_F64] = {true, ncclFloat64 },
          [LEMOE_I32] = {true, ncclInt32   },
          [LEMOE_I64] = {true, ncclInt64   },
    };
    LEMOE_CHECK((unsigned)x.dtype < LEMOE_DTYPE_COUNT && types[x.dtype].is_known, LEMOE_ERR_ARG,
                "NCCL moves no tensors of type %d", (int)x.dtype);
    *out = types[x.dtype].type;
    return LEMOE_OK;
}

/* ---- groups of a device ---- */

/* Errors of peers: what was queued will then never end. Nothing is aborted: the library would first wait until no
 * captured graph names the communicator, and the process has to end anyway. */
static lemoe_status check_groups(const lemoe_collective *groups) {
    for (const lemoe_collective *group = groups; group; group = group->next) {
        ncclResult_t error = ncclSuccess;
        NCCL_TRY("errors of a group", ncclCommGetAsyncError(group->comm, &error));
        if (error != ncclSuccess) return failed(__FILE__, __LINE__, "a collective will never end", error);
    }
    return LEMOE_OK;
}

static void enter(cuda_state *state, lemoe_collective *group) {
    group->next = state->groups;
    state->groups = group;
    state->check_groups = check_groups;
}

static void leave(cuda_state *state, const lemoe_collective *group) {
    lemoe_collective **at = &state->groups;
    while (*at && *at != group) at = &(*at)->next;
    if (*at) *at = group->next;
}

static lemoe_status nccl_unique_id(lemoe_device *device, lemoe_collective_id *out) {
    ncclUniqueId id;
    _Static_assert(sizeof id.internal == LEMOE_COLLECTIVE_ID_BYTES, "an id is handed on as it is");
    (void)cuda_state_of(device);
    NCCL_TRY("an id", ncclGetUniqueId(&id));
    memcpy(out->bytes, id.internal, sizeof id.internal);
    return LEMOE_OK;
}

/* All that a group will ever take of the device is taken when it opens, not at the first collective of some size that
 * needs another way. Whoever sets it otherwise has their reasons. */
static void connect_at_once(void) { (void)setenv("NCCL_RUNTIME_CONNECT", "0", 0); }

/* First in line for multiprocessors: products wait for what is reduced sooner or later, and fill what it leaves. */
static lemoe_status open_lanes(lemoe_collective *collective) {
    int least = 0, greatest = 0;
    CUDA_TRY(cudaDeviceGetStreamPriorityRange(&least, &greatest));
    CUDA_TRY(cudaStreamCreateWithPriority(&collective->beside, cudaStreamNonBlocking, greatest));
    for (int i = 0; i < LEMOE_COLLECTIVE_LANES; i++) {
        CUDA_TRY(cudaEventCreateWithFlags(&collective->lanes[i].is_ready, cudaEventDisableTiming));
        CUDA_TRY(cudaEventCreateWithFlags(&collective->lanes[i].is_reduced, cudaEventDisableTiming));
    }
    return LEMOE_OK;
}

static void close_lanes(lemoe_collective *collective) {
    for (int i = 0; i < LEMOE_COLLECTIVE_LANES; i++) {
        if (collective->lanes[i].is_ready) (void)cudaEventDestroy(collective->lanes[i].is_ready);
        if (collective->lanes[i].is_reduced) (void)cudaEventDestroy(collective->lanes[i].is_reduced);
    }
    if (collective->beside) (void)cudaStreamDestroy(collective->beside);
}

static lemoe_status connect(const lemoe_collective_id *id, int rank, lemoe_collective *collective) {
    ncclUniqueId own;
    memcpy(own.internal, id->bytes, sizeof own.internal);
    char what[64];
    (void)snprintf(what, sizeof what, "NCCL does not connect rank %d of %d", rank, collective->size);
    connect_at_once();
    NCCL_TRY(what, ncclCommInitRank(&collective->comm, collective->size, own, rank));
    return LEMOE_OK;
}

static lemoe_status nccl_open(lemoe_device *device, const lemoe_collective_id *id, int rank, int size,
                              lemoe_collective **out) {
    lemoe_collective *collective = NULL;
    cuda_state *state = cuda_state_of(device);
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof *collective, &collective));
    collective->size = size;
    lemoe_status status = open_lanes(collective);
    if (status == LEMOE_OK) status = connect(id, rank, collective);
    if (status != LEMOE_OK) {
        close_lanes(collective);
        lemoe_mem_free(collective);
        return status;
    }
    enter(state, collective);
    *out = collective;
    return LEMOE_OK;
}

static int nccl_size(const lemoe_collective *collective) { return collective->size; }

static lemoe_status reduce_on(cudaStream_t stream, lemoe_collective *collective, lemoe_reduction reduction,
                              lemoe_tensor x) {
    ncclDataType_t type = ncclFloat32;
    LEMOE_TRY(type_of(x, &type));
    NCCL_TRY("allreduce", ncclAllReduce(x.data, x.data, (size_t)lemoe_tensor_count(&x), type,
                                        reduction == LEMOE_REDUCE_MAX ? ncclMax : ncclSum, collective->comm, stream));
    return LEMOE_OK;
}

static lemoe_status nccl_allreduce(lemoe_device *device, lemoe_collective *collective, lemoe_reduction reduction,
                                   lemoe_tensor x) {
    return reduce_on(cuda_state_of(device)->stream, collective, reduction, x);
}

static lemoe_status nccl_allreduce_begin(lemoe_device *device, lemoe_collective *collective, lemoe_reduction reduction,
                                         lemoe_tensor x, int lane) {
    const nccl_lane *l = &collective->lanes[lane];
    CUDA_TRY(cudaEventRecord(l->is_ready, cuda_state_of(device)->stream));
    CUDA_TRY(cudaStreamWaitEvent(collective->beside, l->is_ready, 0));
    LEMOE_TRY(reduce_on(collective->beside, collective, reduction, x));
    CUDA_TRY(cudaEventRecord(l->is_reduced, collective->beside));
    return LEMOE_OK;
}

static lemoe_status nccl_allreduce_end(lemoe_device *device, lemoe_collective *collective, int lane) {
    CUDA_TRY(cudaStreamWaitEvent(cuda_state_of(device)->stream, collective->lanes[lane].is_reduced, 0));
    return LEMOE_OK;
}

static lemoe_status nccl_allgather(lemoe_device *device, lemoe_collective *collective, lemoe_tensor x,
                                   lemoe_tensor out) {
    ncclDataType_t type = ncclFloat32;
    LEMOE_TRY(type_of(x, &type));
    NCCL_TRY("allgather", ncclAllGather(x.data, out.data, (size_t)lemoe_tensor_count(&x), type, collective->comm,
                                        cuda_state_of(device)->stream));
    return LEMOE_OK;
}

static lemoe_status nccl_broadcast(lemoe_device *device, lemoe_collective *collective, int root, lemoe_tensor x) {
    ncclDataType_t type = ncclFloat32;
    LEMOE_TRY(type_of(x, &type));
    NCCL_TRY("broadcast", ncclBroadcast(x.data, x.data, (size_t)lemoe_tensor_count(&x), type, root, collective->comm,
                                        cuda_state_of(device)->stream));
    return LEMOE_OK;
}

static void nccl_abort(lemoe_device *device, lemoe_collective *collective) {
    leave(cuda_state_of(device), collective);
    if (collective->comm) (void)ncclCommAbort(collective->comm);
    collective->comm = NULL;
}

static void nccl_close(lemoe_device *device, lemoe_collective *collective) {
    leave(cuda_state_of(device), collective);
    if (collective->comm) (void)ncclCommDestroy(collective->comm);
    close_lanes(collective);
    lemoe_mem_free(collective);
}

const lemoe_collective_ops cuda_collective_ops = {
    .unique_id = nccl_unique_id,
    .open = nccl_open,
    .size = nccl_size,
    .allreduce = nccl_allreduce,
    .allreduce_begin = nccl_allreduce_begin,
    .allreduce_end = nccl_allreduce_end,
    .allgather = nccl_allgather,
    .broadcast = nccl_broadcast,
    .abort = nccl_abort,
    .close = nccl_close,
};

/* The CUDA run time as a device: which there are, memory, transfers, captured graphs. */
#include "kernels/cuda/cuda_internal.h"

#include "kernels/base/mem.h"
#include "kernels/workspace.h"
#include "lemoe_kernels_id.h"

#include <cublas_v2.h>

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A piece of an upload: long enough to travel at full speed, short enough that host memory stays small. */
static const size_t stage_bytes = (size_t)16 << 20;
/* What cuBLAS recommends for sm_90. */
static const size_t blas_workspace_bytes = (size_t)32 << 20;
/* First the fault, then a value for the host. */
enum { PINNED_BYTES = 256, PINNED_VALUE = 128 };

/* ---- errors ---- */

lemoe_status cuda_failed(const char *file, int line, const char *call, cudaError_t error) {
    (void)cudaGetLastError(); /* so that the next call does not report this one again */
    lemoe_status code = error == cudaErrorMemoryAllocation ? LEMOE_ERR_NOMEM : LEMOE_ERR_DEVICE;
    return lemoe_raise_at(file, line, code, "%s: %s (%s)", call, cudaGetErrorString(error), cudaGetErrorName(error));
}

cuda_state *cuda_state_of(lemoe_device *device) {
    (void)cudaSetDevice(device->index); /* cannot fail: opening made it current before */
    return device->state;
}

lemoe_status cuda_not_captured(lemoe_device *device, const char *what) {
    const cuda_state *state = device->state;
    LEMOE_CHECK(!state->is_capturing, LEMOE_ERR_STATE, "%s: not while a graph is captured", what);
    return LEMOE_OK;
}

static lemoe_status take_fault(cuda_state *state, int fault) {
    static const char *const texts[CUDA_FAULT_COUNT] = {
        [CUDA_FAULT_ROPE] = "rope: a position outside [0, 2^20)",
        [CUDA_FAULT_ATTENTION] = "attention: a sequence whose rows are not in order, not there, or more than max_seq",
        [CUDA_FAULT_SEG_MEAN] = "seg_mean: rows that are not there",
        [CUDA_FAULT_GATHER] = "rows_gather: a row that is not there",
        [CUDA_FAULT_SCATTER] = "rows_scatter_add: a row that is not there",
    };
    if (fault == CUDA_FAULT_NONE) return LEMOE_OK;
    CUDA_TRY(cudaMemsetAsync(state->fault, 0, sizeof *state->fault, state->stream));
    return lemoe_raise(LEMOE_ERR_ARG, "%s",
                       fault > 0 && fault < CUDA_FAULT_COUNT ? texts[fault] : "an operation's unknown fault");
}

/* Waits for an event; NULL: for everything on the stream. A collective with a rank that is gone never ends, and a wait
 * of the run time's would not either: where the device is in a group, the host looks at both in turn. */
static lemoe_status await(cuda_state *state, cudaEvent_t event, const char *op) {
    cudaError_t error = cudaErrorNotReady;
    if (!state->groups) error = event ? cudaEventSynchronize(event) : cudaStreamSynchronize(state->stream);
    while (error == cudaErrorNotReady) {
        LEMOE_TRY(state->check_groups(state->groups));
        error = event ? cudaEventQuery(event) : cudaStreamQuery(state->stream);
        if (error != cudaErrorNotReady) break;
        (void)cudaGetLastError(); /* it is no error */
        (void)sched_yield();
    }
    return error == cudaSuccess ? LEMOE_OK : cuda_failed(__FILE__, __LINE__, op, error);
}

/* Waits for everything, and for errors that nobody waited for. */
static lemoe_status wait(cuda_state *state) {
    CUDA_TRY(cudaMemcpyAsync(state->pinned, state->fault, sizeof(int), cudaMemcpyDeviceToHost, state->stream));
    LEMOE_TRY(await(state, NULL, "sync"));
    int fault = CUDA_FAULT_NONE;
    memcpy(&fault, state->pinned, sizeof fault);
    return take_fault(state, fault);
}

lemoe_status cuda_launched(lemoe_device *device, const char *op) {
    cuda_state *state = device->state;
    cudaError_t error = cudaGetLastError();
    LEMOE_CHECK(error == cudaSuccess, LEMOE_ERR_DEVICE, "%s: %s (%s)", op, cudaGetErrorString(error),
                cudaGetErrorName(error));
    return state->waits_always && !state->is_capturing ? await(state, NULL, op) : LEMOE_OK;
}

/* ---- which there are ---- */

/* From here on the matrix units take bf16 and TF32. What is older would fail at its first operation. */
enum { LEAST_MAJOR = 8 };

static lemoe_status check_capabilities(int n) {
    for (int i = 0; i < n; i++) {
        struct cudaDeviceProp properties;
        CUDA_TRY(cudaGetDeviceProperties(&properties, i));
        LEMOE_CHECK(properties.major >= LEAST_MAJOR, LEMOE_ERR_UNSUPPORTED,
                    "GPU %d, %.100s, has compute capability %d.%d, and %d.0 is needed; hide it by CUDA_VISIBLE_DEVICES",
                    i, properties.name, properties.major, properties.minor, LEAST_MAJOR);
    }
    return LEMOE_OK;
}

lemoe_status cuda_count(int *out) {
    int driver = 0;
    *out = 0; /* the call leaves it alone when there is no driver */
    cudaError_t error = cudaGetDeviceCount(out);
    if (error != cudaSuccess) *out = 0;
    (void)cudaGetLastError();
    LEMOE_CHECK(cudaDriverGetVersion(&driver) == cudaSuccess && driver > 0, LEMOE_ERR_UNSUPPORTED,
                "there is no NVIDIA driver on this machine");
    LEMOE_CHECK(error != cudaErrorInsufficientDriver, LEMOE_ERR_UNSUPPORTED,
                "the NVIDIA driver is too old: it offers CUDA %d.%d, and this program was built with %d.%d",
                driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
    LEMOE_CHECK(*out > 0, LEMOE_ERR_UNSUPPORTED, "there is no GPU that this process may use (%s)",
                error == cudaSuccess ? "none visible" : cudaGetErrorString(error));
    return check_capabilities(*out);
}

lemoe_status cuda_describe(int index, lemoe_device_info *out) {
    struct cudaDeviceProp properties;
    CUDA_TRY(cudaGetDeviceProperties(&properties, index));
    (void)snprintf(out->name, sizeof out->name, "%.100s", properties.name);
    for (size_t i = 0; i < sizeof properties.uuid.bytes; i++)
        (void)snprintf(out->id + 2 * i, 3, "%02x", (unsigned char)properties.uuid.bytes[i]);
    out->total_bytes = properties.totalGlobalMem;
    return LEMOE_OK;
}

static void version_text(int version, char *text, size_t text_bytes) {
    (void)snprintf(text, text_bytes, "%d.%d", version / 1000, version % 1000 / 10);
}

void cuda_describe_libraries(lemoe_device_libraries *out) {
    int runtime = 0, driver = 0;
    char runtime_text[16], driver_text[16];
    (void)cudaRuntimeGetVersion(&runtime);
    (void)cudaDriverGetVersion(&driver);
    version_text(runtime, runtime_text, sizeof runtime_text);
    version_text(driver, driver_text, sizeof driver_text);
    int major = 0, minor = 0, patch = 0;
    (void)cublasGetProperty(MAJOR_VERSION, &major);
    (void)cublasGetProperty(MINOR_VERSION, &minor);
    (void)cublasGetProperty(PATCH_LEVEL, &patch);
    (void)snprintf(out->compute, sizeof out->compute, "CUDA %s, cuBLAS %d.%d.%d, %s%s", runtime_text, major, minor,
                   patch, driver ? "driver for CUDA " : "no driver", driver ? driver_text : "");
#ifdef LEMOE_NCCL
    cuda_collective_library(out->collective, sizeof out->collective);
#endif
}

/* ---- life ---- */

static lemoe_status open_blas(cuda_state *state) {
    cublasStatus_t status = cublasCreate(&state->blas);
    LEMOE_CHECK(status == CUBLAS_STATUS_SUCCESS, LEMOE_ERR_DEVICE, "cuBLAS does not start: %s",
                cublasGetStatusString(status));
    CUDA_TRY(cudaMalloc(&state->blas_workspace, blas_workspace_bytes));
    /* Products of fp32 stay fp32, and sums are never shortened. */
    bool is_set =
        cublasSetStream(state->blas, state->stream) == CUBLAS_STATUS_SUCCESS &&
        cublasSetWorkspace(state->blas, state->blas_workspace, blas_workspace_bytes) == CUBLAS_STATUS_SUCCESS &&
        cublasSetMathMode(state->blas, (cublasMath_t)((int)CUBLAS_DEFAULT_MATH |
                                                      (int)CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION)) ==
            CUBLAS_STATUS_SUCCESS;
    LEMOE_CHECK(is_set, LEMOE_ERR_DEVICE, "cuBLAS takes no stream, workspace or mode");
    return LEMOE_OK;
}

/* Values are cut to what always has room: 46 bytes a setting with its name. */
void cuda_write_settings(const char *const *names, size_t n, char *text, size_t text_bytes) {
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < n && used < text_bytes; i++) {
        const char *value = getenv(names[i]);
        if (value) used += (size_t)snprintf(text + used, text_bytes - used, "; %s=%.11s", names[i], value);
    }
}

/* With these cuBLAS computes other bits, whatever a handle is told: without TF32, or fp32 out of bf16. */
static const char *const blas_settings[] = {"NVIDIA_TF32_OVERRIDE", "CUBLAS_EMULATE_SINGLE_PRECISION",
                                            "CUBLAS_EMULATION_STRATEGY"};

/* All that decides last bits: the device's model and how much of it there is, the libraries, our kernels and
 * what compiled them. */
static lemoe_status write_domain(lemoe_device *device) {
    struct cudaDeviceProp properties;
    lemoe_device_libraries libraries = {{0}, {0}};
    char settings[128];
    CUDA_TRY(cudaGetDeviceProperties(&properties, device->index));
    cuda_describe_libraries(&libraries);
    cuda_write_settings(blas_settings, sizeof blas_settings / sizeof *blas_settings, settings, sizeof settings);
    (void)snprintf(device->domain, sizeof device->domain,
                   "cuda; %.48s sm_%d%d, %d multiprocessors; %.100s%s; kernels %s by %.24s", properties.name,
                   properties.major, properties.minor, properties.multiProcessorCount, libraries.compute, settings,
                   LEMOE_KERNELS_ID, LEMOE_KERNELS_COMPILER);
    return LEMOE_OK;
}

static lemoe_status open_parts(lemoe_device *device, cuda_state *state) {
    const char *waits = getenv("LEMOE_SYNC");
    CUDA_TRY(cudaSetDevice(device->index));
    CUDA_TRY(cudaStreamCreateWithFlags(&state->stream, cudaStreamNonBlocking));
    CUDA_TRY(cudaMalloc((void **)&state->fault, sizeof *state->fault));
    CUDA_TRY(cudaMemsetAsync(state->fault, 0, sizeof *state->fault, state->stream));
    CUDA_TRY(cudaMallocHost((void **)&state->pinned, PINNED_BYTES));
    state->waits_always = waits && strcmp(waits, "1") == 0;
    LEMOE_TRY(open_blas(state));
    return write_domain(device);
}

/* What graphs kept included. */
static void free_workspace(cuda_state *state) {
    while (state->retired) {
        cuda_retired *next = state->retired->next;
        (void)cudaFree(state->retired->block);
        lemoe_mem_free(state->retired);
        state->retired = next;
    }
    (void)cudaFree(state->workspace);
    state->workspace = NULL;
    state->workspace_bytes = 0;
}

static void cuda_close(lemoe_device *device) {
    cuda_state *state = cuda_state_of(device);
    if (state->stream) (void)cudaStreamSynchronize(state->stream);
    if (state->blas) (void)cublasDestroy(state->blas);
    for (int i = 0; i < CUDA_N_STAGE; i++) {
        if (state->staged[i]) (void)cudaEventDestroy(state->staged[i]);
        (void)cudaFreeHost(state->stage[i]);
    }
    free_workspace(state);
    (void)cudaFree(state->blas_workspace);
    (void)cudaFree(state->fault);
    (void)cudaFreeHost(state->pinned);
    if (state->stream) (void)cudaStreamDestroy(state->stream);
    lemoe_mem_free(state);
}

static lemoe_status cuda_open(lemoe_device *device) {
    cuda_state *state = NULL;
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof *state, &state));
    device->state = state;
    lemoe_status status = open_parts(device, state);
    if (status != LEMOE_OK) cuda_close(device);
    return status;
}

/* ---- memory ---- */

/* cudaMalloc, with the sizes in the message when there is no more. */
static lemoe_status take_memory(size_t n_bytes, void **out) {
    size_t free_bytes = 0, total_bytes = 0;
    cudaError_t error = cudaMalloc(out, n_bytes ? n_bytes : LEMOE_DEVICE_ALIGNMENT);
    if (error == cudaErrorMemoryAllocation) {
        (void)cudaGetLastError();
        (void)cudaMemGetInfo(&free_bytes, &total_bytes);
        return lemoe_raise(LEMOE_ERR_NOMEM, "no GPU memory for %zu bytes; %zu of %zu are free", n_bytes, free_bytes,
                           total_bytes);
    }
    CUDA_TRY(error);
    return LEMOE_OK;
}

static lemoe_status cuda_alloc(lemoe_device *device, size_t n_bytes, void **out) {
    (void)cuda_state_of(device);
    LEMOE_TRY(cuda_not_captured(device, "alloc"));
    return take_memory(n_bytes, out);
}

static void cuda_free(lemoe_device *device, void *block) {
    (void)cuda_state_of(device);
    (void)cudaFree(block);
}

static lemoe_status cuda_host_alloc(lemoe_device *device, size_t n_bytes, void **out) {
    (void)cuda_state_of(device);
    cudaError_t error = cudaMallocHost(out, n_bytes ? n_bytes : 1);
    LEMOE_CHECK(error != cudaErrorMemoryAllocation, LEMOE_ERR_NOMEM, "no pinned host memory for %zu bytes", n_bytes);
    CUDA_TRY(error);
    return LEMOE_OK;
}

static void cuda_host_free(lemoe_device *device, void *block) {
    (void)cuda_state_of(device);
    (void)cudaFreeHost(block);
}

/* A captured graph holds addresses of the workspace it was captured with, so that is kept while there are graphs. */
static lemoe_status retire_workspace(cuda_state *state) {
    if (!state->workspace) return LEMOE_OK;
    if (state->n_graph > 0) {
        cuda_retired *retired = NULL;
        LEMOE_TRY(lemoe_mem_alloc(1, sizeof *retired, &retired));
        *retired = (cuda_retired){state->workspace, state->retired};
        state->retired = retired;
    } else {
        LEMOE_TRY(await(state, NULL, "workspace"));
        CUDA_TRY(cudaFree(state->workspace));
    }
    state->workspace = NULL;
    state->workspace_bytes = 0;
    return LEMOE_OK;
}

static lemoe_status cuda_reserve_workspace(lemoe_device *device, size_t n_bytes) {
    cuda_state *state = cuda_state_of(device);
    void *block = NULL;
    if (n_bytes <= state->workspace_bytes) return LEMOE_OK;
    LEMOE_CHECK(!state->is_capturing, LEMOE_ERR_STATE,
                "a captured operation needs %zu bytes of workspace and there are %zu; run it once plainly before",
                n_bytes, state->workspace_bytes);
    LEMOE_TRY(retire_workspace(state));
    LEMOE_TRY(take_memory(n_bytes, &block));
    state->workspace = block;
    state->workspace_bytes = n_bytes;
    return LEMOE_OK;
}

static void cuda_release_workspace(lemoe_device *device) {
    cuda_state *state = cuda_state_of(device);
    if (state->n_graph > 0) return;
    if (await(state, NULL, "workspace") == LEMOE_OK) free_workspace(state);
}

static size_t cuda_workspace_bytes(const lemoe_device *device) {
    const cuda_state *state = device->state;
    return state->workspace_bytes;
}

lemoe_status cuda_workspace(lemoe_device *device, size_t n_bytes, void **out) {
    cuda_state *state = device->state;
    if (n_bytes > state->workspace_bytes) LEMOE_TRY(cuda_reserve_workspace(device, lemoe_workspace_grown(n_bytes)));
    *out = state->workspace;
    return LEMOE_OK;
}

static lemoe_status cuda_mem_info(lemoe_device *device, size_t *free_bytes, size_t *total_bytes) {
    (void)cuda_state_of(device);
    CUDA_TRY(cudaMemGetInfo(free_bytes, total_bytes));
    return LEMOE_OK;
}

/* ---- transfers ---- */

static bool is_pinned(const void *host) {
    struct cudaPointerAttributes attributes;
    bool known = cudaPointerGetAttributes(&attributes, host) == cudaSuccess;
    (void)cudaGetLastError();
    return known && attributes.type == cudaMemoryTypeHost;
}

static lemoe_status open_stages(cuda_state *state) {
    for (int i = 0; i < CUDA_N_STAGE; i++) {
        if (!state->stage[i]) CUDA_TRY(cudaMallocHost((void **)&state->stage[i], stage_bytes));
        if (!state->staged[i]) CUDA_TRY(cudaEventCreateWithFlags(&state->staged[i], cudaEventDisableTiming));
    }
    return LEMOE_OK;
}

/* One piece is read from the source, a file's mapping perhaps, while the one before travels. Nobody waits for the last
 * one: the source is read, and the stage says when it may be filled again. */
static lemoe_status upload_staged(cuda_state *state, char *to, const char *from, size_t n_bytes) {
    LEMOE_TRY(open_stages(state));
    for (size_t at = 0, n; at < n_bytes; at += n) {
        int i = state->next_stage;
        state->next_stage = (i + 1) % CUDA_N_STAGE;
        n = n_bytes - at < stage_bytes ? n_bytes - at : stage_bytes;
        LEMOE_TRY(await(state, state->staged[i], "upload"));
        memcpy(state->stage[i], from + at, n);
        CUDA_TRY(cudaMemcpyAsync(to + at, state->stage[i], n, cudaMemcpyHostToDevice, state->stream));
        CUDA_TRY(cudaEventRecord(state->staged[i], state->stream));
    }
    return LEMOE_OK;
}

static lemoe_status cuda_upload(lemoe_device *device, void *to, const void *from_host, size_t n_bytes) {
    cuda_state *state = cuda_state_of(device);
    LEMOE_TRY(cuda_not_captured(device, "upload"));
    if (!is_pinned(from_host)) return upload_staged(state, to, from_host, n_bytes);
    CUDA_TRY(cudaMemcpyAsync(to, from_host, n_bytes, cudaMemcpyHostToDevice, state->stream));
    return await(state, NULL, "upload");
}

static lemoe_status cuda_download(lemoe_device *device, void *to_host, const void *from, size_t n_bytes) {
    cuda_state *state = cuda_state_of(device);
    LEMOE_TRY(cuda_not_captured(device, "download"));
    if (state->groups && !is_pinned(to_host)) /* a copy to other memory waits inside the run time */
        LEMOE_TRY(await(state, NULL, "download"));
    CUDA_TRY(cudaMemcpyAsync(to_host, from, n_bytes, cudaMemcpyDeviceToHost, state->stream));
    return wait(state);
}

lemoe_status cuda_to_host(lemoe_device *device, const char *op, void *to_host, const void *from, size_t n_bytes) {
    cuda_state *state = device->state;
    LEMOE_TRY(cuda_not_captured(device, op));
    CUDA_TRY(cudaMemcpyAsync(state->pinned + PINNED_VALUE, from, n_bytes, cudaMemcpyDeviceToHost, state->stream));
    LEMOE_TRY(wait(state));
    memcpy(to_host, state->pinned + PINNED_VALUE, n_bytes);
    return LEMOE_OK;
}

static lemoe_status cuda_copy(lemoe_device *device, void *to, const void *from, size_t n_bytes) {
    CUDA_TRY(cudaMemcpyAsync(to, from, n_bytes, cudaMemcpyDeviceToDevice, cuda_state_of(device)->stream));
    return LEMOE_OK;
}

static lemoe_status cuda_zero(lemoe_device *device, void *block, size_t n_bytes) {
    CUDA_TRY(cudaMemsetAsync(block, 0, n_bytes, cuda_state_of(device)->stream));
    return LEMOE_OK;
}

static lemoe_status cuda_sync(lemoe_device *device) {
    cuda_state *state = cuda_state_of(device);
    LEMOE_TRY(cuda_not_captured(device, "sync"));
    return wait(state);
}

/* An error that does not go away with being asked for. A collective may never end, so it is not waited for. */
static bool cuda_is_lost(lemoe_device *device) {
    cuda_state *state = cuda_state_of(device);
    if (!state->groups) (void)cudaStreamSynchronize(state->stream);
    (void)cudaGetLastError();
    cudaError_t error = cudaStreamQuery(state->stream);
    (void)cudaGetLastError();
    return error != cudaSuccess && error != cudaErrorNotReady;
}

/* ---- captured work: a graph is the library's executable graph ---- */

static lemoe_status cuda_capture_begin(lemoe_device *device) {
    cuda_state *state = cuda_state_of(device);
    LEMOE_TRY(cuda_not_captured(device, "capture"));
    CUDA_TRY(cudaStreamBeginCapture(state->stream, cudaStreamCaptureModeThreadLocal));
    state->is_capturing = true;
    return LEMOE_OK;
}

/* With all the memory that replaying it takes. */
static cudaError_t make_executable(cudaGraph_t graph, cudaStream_t stream, cudaGraphExec_t *out) {
    cudaError_t error = cudaGraphInstantiate(out, graph, 0);
    if (error != cudaSuccess) return error;
    error = cudaGraphUpload(*out, stream);
    if (error != cudaSuccess) (void)cudaGraphExecDestroy(*out);
    return error;
}

static lemoe_status cuda_capture_end(lemoe_device *device, lemoe_graph **out) {
    cuda_state *state = cuda_state_of(device);
    cudaGraph_t graph = NULL;
    cudaGraphExec_t executable = NULL;
    LEMOE_CHECK(state->is_capturing, LEMOE_ERR_STATE, "capture_end: nothing is captured");
    state->is_capturing = false;
    CUDA_TRY(cudaStreamEndCapture(state->stream, &graph));
    cudaError_t error = make_executable(graph, state->stream, &executable);
    (void)cudaGraphDestroy(graph);
    if (error != cudaSuccess) return cuda_failed(__FILE__, __LINE__, "an executable graph", error);
    state->n_graph++;
    *out = (lemoe_graph *)executable;
    return LEMOE_OK;
}

static lemoe_status cuda_replay(lemoe_device *device, lemoe_graph *graph) {
    CUDA_TRY(cudaGraphLaunch((cudaGraphExec_t)graph, cuda_state_of(device)->stream));
    return cuda_launched(device, "replay");
}

static void cuda_graph_destroy(lemoe_device *device, lemoe_graph *graph) {
    cuda_state *state = cuda_state_of(device);
    (void)!await(state, NULL, "graph"); /* whoever waits next says so too */
    (void)cudaGraphExecDestroy((cudaGraphExec_t)graph);
    state->n_graph--;
}

const lemoe_memory_ops cuda_memory_ops = {
    .is_host = false,
    .open = cuda_open,
    .close = cuda_close,
    .alloc = cuda_alloc,
    .free = cuda_free,
    .upload = cuda_upload,
    .download = cuda_download,
    .copy = cuda_copy,
    .zero = cuda_zero,
    .sync = cuda_sync,
    .mem_info = cuda_mem_info,
    .is_lost = cuda_is_lost,
    .host_alloc = cuda_host_alloc,
    .host_free = cuda_host_free,
    .reserve_workspace = cuda_reserve_workspace,
    .release_workspace = cuda_release_workspace,
    .workspace_bytes = cuda_workspace_bytes,
    .capture_begin = cuda_capture_begin,
    .capture_end = cuda_capture_end,
    .replay = cuda_replay,
    .graph_destroy = cuda_graph_destroy,
};

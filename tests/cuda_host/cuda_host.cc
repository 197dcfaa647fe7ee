/*
 * The CUDA run time on the CPU. A stream runs its work at once, or records it while it captures. Device memory is one
 * range of addresses that is closed but while a stream works, so that host code which follows a device pointer dies as
 * it should; what is handed out begins as NaN, and writes behind a block are noticed when it is freed.
 *
 * Streams take turns in the order in which the threads of a block run, ascending or descending: equal bits on two of
 * them mean that no result hangs on an order that a barrier should fix.
 *
 *   LEMOE_CUDA_HOST_DEVICES   how many devices there are (1)
 *   LEMOE_CUDA_HOST_BYTES     memory of each (4 GiB)
 *   LEMOE_CUDA_HOST_OPEN=1    leaves device memory open once it is: twice as fast, for whole runs of the program
 */
#include "tests/cuda_host/cuda_host.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <sys/mman.h>

namespace {

const size_t page_bytes = 4096, range_bytes = (size_t)64 << 30;
const size_t poisoned_bytes = (size_t)2 << 20; /* of a block; touching all of a large one costs at every launch */
const unsigned char behind = 0xa5;

char *range; /* of device memory */
size_t n_used, n_taken;
std::map<char *, size_t> blocks;             /* handed out: bytes asked for */
std::map<size_t, std::vector<char *>> freed; /* by pages */
std::map<const char *, size_t> pinned;
int n_open, n_stream;
cudaError_t last_error;

size_t setting(const char *name, size_t otherwise) {
    const char *text = getenv(name);
    return text ? strtoull(text, nullptr, 10) : otherwise;
}
size_t total_bytes() { return setting("LEMOE_CUDA_HOST_BYTES", (size_t)4 << 30); }
int n_device() { return (int)setting("LEMOE_CUDA_HOST_DEVICES", 1); }

cudaError_t done(cudaError_t error) {
    if (error != cudaSuccess) last_error = error;
    return error;
}

size_t whole_pages(size_t n_bytes) {
    return (n_bytes + page_bytes) / page_bytes * page_bytes;
} /* one byte more at least */

void protect(int protection) {
    if (n_used && mprotect(range, n_used, protection) != 0) cuda_host_die("mprotect");
}

/* Device memory is open as long as one of these lives. */
struct opened {
    opened() {
        if (n_open++ == 0) protect(PROT_READ | PROT_WRITE);
    }
    ~opened() {
        static const bool stays_open = setting("LEMOE_CUDA_HOST_OPEN", 0) == 1;
        if (!stays_open && --n_open == 0) protect(PROT_NONE);
    }
};

} // namespace

void cuda_host_die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    (void)fputs("cuda_host: ", stderr);
    (void)vfprintf(stderr, format, arguments);
    (void)fputc('\n', stderr);
    va_end(arguments);
    abort();
}

bool cuda_host_on_device(const void *block, size_t n_bytes) {
    const char *begin = static_cast<const char *>(block);
    return range && begin >= range && begin + n_bytes <= range + n_used;
}

bool cuda_host_off_device(const void *block, size_t n_bytes) {
    const char *begin = static_cast<const char *>(block);
    return !range || begin + n_bytes <= range || begin >= range + range_bytes;
}

bool cuda_host_in_block(const void *bytes, size_t n_bytes) {
    const char *begin = static_cast<const char *>(bytes);
    auto after = blocks.upper_bound(const_cast<char *>(begin));
    return after != blocks.begin() && begin + n_bytes <= std::prev(after)->first + std::prev(after)->second;
}

cudaError_t cuda_host_queue(cudaStream_t stream, std::function<void()> work) {
    if (stream->is_capturing) {
        stream->recorded.push_back(std::move(work));
        return cudaSuccess;
    }
    opened open;
    work();
    return cudaSuccess;
}

void cuda_host_launch(const char *kernel, dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
                      std::function<void()> body) {
    bool fits = grid.x > 0 && grid.y > 0 && grid.y <= 65535 && grid.z == 1 && block.x > 0 && block.x <= 1024 &&
                block.x % 32 == 0 && block.y == 1 && block.z == 1 && shared_bytes <= (size_t)227 << 10;
    if (!fits) {
        last_error = cudaErrorInvalidConfiguration;
        return;
    }
    bool is_descending = stream->is_descending;
    (void)cuda_host_queue(stream, [=] { cuda_host_run_grid(kernel, grid, block, shared_bytes, is_descending, body); });
}

/* ---- errors, devices ---- */

const char *cudaGetErrorName(cudaError_t error) {
    return error == cudaSuccess                 ? "cudaSuccess"
           : error == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation"
                                                : "cudaError";
}
const char *cudaGetErrorString(cudaError_t error) {
    switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorStreamCaptureUnsupported: return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated: return "operation failed due to a previous error during capture";
    default: return "invalid argument";
    }
}
cudaError_t cudaGetLastError(void) {
    cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}

cudaError_t cudaGetDeviceCount(int *count) {
    *count = n_device();
    return done(*count > 0 ? cudaSuccess : cudaErrorNoDevice);
}
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int device) {
    if (device < 0 || device >= n_device()) return done(cudaErrorInvalidDevice);
    memset(properties, 0, sizeof *properties);
    (void)snprintf(properties->name, sizeof properties->name, "emulated device %d", device);
    properties->uuid.bytes[15] = (char)device;
    properties->totalGlobalMem = total_bytes();
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
    return done(device >= 0 && device < n_device() ? cudaSuccess : cudaErrorInvalidDevice);
}
cudaError_t cudaDriverGetVersion(int *version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}

/* ---- memory ---- */

static char *take_pages(size_t n_bytes) {
    std::vector<char *> &kept = freed[n_bytes];
    if (!kept.empty()) {
        char *block = kept.back();
        kept.pop_back();
        return block;
    }
    if (n_used + n_bytes > range_bytes) return nullptr;
    char *block = range + n_used;
    n_used += n_bytes;
    if (n_open && mprotect(block, n_bytes, PROT_READ | PROT_WRITE) != 0) cuda_host_die("mprotect");
    return block;
}

cudaError_t cudaMalloc(void **block, size_t n_bytes) {
    if (!range) {
        void *pages = mmap(nullptr, range_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (pages == MAP_FAILED) return done(cudaErrorMemoryAllocation);
        range = static_cast<char *>(pages);
    }
    size_t taken = whole_pages(n_bytes);
    if (n_bytes > total_bytes() || n_taken + taken > total_bytes()) return done(cudaErrorMemoryAllocation);
    char *pages = take_pages(taken);
    if (!pages) return done(cudaErrorMemoryAllocation);
    opened open;
    memset(pages, 0xff, n_bytes < poisoned_bytes ? n_bytes : poisoned_bytes);
    memset(pages + n_bytes, behind, taken - n_bytes);
    blocks[pages] = n_bytes;
    n_taken += taken;
    *block = pages;
    return cudaSuccess;
}

cudaError_t cudaFree(void *block) {
    if (!block) return cudaSuccess;
    auto found = blocks.find(static_cast<char *>(block));
    if (found == blocks.end()) return done(cudaErrorInvalidValue);
    size_t n_bytes = found->second, taken = whole_pages(n_bytes);
    opened open;
    for (size_t i = n_bytes; i < taken; i++)
        if (static_cast<unsigned char *>(block)[i] != behind)
            cuda_host_die("a kernel wrote behind a block of device memory");
    (void)madvise(block, taken, MADV_DONTNEED);
    freed[taken].push_back(static_cast<char *>(block));
    blocks.erase(found);
    n_taken -= taken;
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **block, size_t n_bytes) {
    *block = malloc(n_bytes);
    if (!*block) return done(cudaErrorMemoryAllocation);
    pinned[static_cast<char *>(*block)] = n_bytes;
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *block) {
    if (!block) return cudaSuccess;
    if (!pinned.erase(static_cast<char *>(block))) return done(cudaErrorInvalidValue);
    free(block);
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total) {
    *total = total_bytes();
    *free_bytes = *total - n_taken;
    return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *attributes, const void *pointer) {
    const char *address = static_cast<const char *>(pointer);
    auto after = pinned.upper_bound(address);
    bool is_pinned = after != pinned.begin() && address < std::prev(after)->first + std::prev(after)->second;
    attributes->type = cuda_host_on_device(pointer, 1) ? cudaMemoryTypeDevice
                       : is_pinned                     ? cudaMemoryTypeHost
                                                       : cudaMemoryTypeUnregistered;
    return cudaSuccess;
}

/* ---- streams ---- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned) {
    *stream = new CUstream_st{n_stream++ % 2 == 1, false, false, {}};
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    delete stream;
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    if (!stream->is_capturing) return cudaSuccess;
    stream->is_broken = true;
    return done(cudaErrorStreamCaptureUnsupported);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n_bytes, enum cudaMemcpyKind kind, cudaStream_t stream) {
    bool to_fits =
        kind == cudaMemcpyDeviceToHost ? cuda_host_off_device(to, n_bytes) : cuda_host_on_device(to, n_bytes);
    bool from_fits =
        kind == cudaMemcpyHostToDevice ? cuda_host_off_device(from, n_bytes) : cuda_host_on_device(from, n_bytes);
    if (!to_fits || !from_fits) return done(cudaErrorInvalidValue);
    return cuda_host_queue(stream, [=] { memmove(to, from, n_bytes); });
}

cudaError_t cudaMemsetAsync(void *block, int value, size_t n_bytes, cudaStream_t stream) {
    if (!cuda_host_on_device(block, n_bytes)) return done(cudaErrorInvalidValue);
    return cuda_host_queue(stream, [=] { memset(block, value, n_bytes); });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned) {
    static char stand_in; /* streams never run behind, so there is nothing to wait for */
    *event = reinterpret_cast<cudaEvent_t>(&stand_in);
    return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }

cudaError_t cudaFuncSetAttribute(const void *, enum cudaFuncAttribute, int) { return cudaSuccess; }

/* ---- captured graphs: lists of work ---- */

struct CUgraph_st {
    std::vector<std::function<void()>> work;
};
struct CUgraphExec_st {
    std::vector<std::function<void()>> work;
};

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode) {
    if (stream->is_capturing) return done(cudaErrorInvalidValue);
    stream->is_capturing = true;
    stream->is_broken = false;
    stream->recorded.clear();
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
    *graph = nullptr;
    if (!stream->is_capturing) return done(cudaErrorInvalidValue);
    stream->is_capturing = false;
    if (stream->is_broken) return done(cudaErrorStreamCaptureInvalidated);
    *graph = new CUgraph_st{std::move(stream->recorded)};
    stream->recorded.clear();
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *executable, cudaGraph_t graph, unsigned long long) {
    *executable = new CUgraphExec_st{graph->work};
    return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete graph;
    return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
    return cuda_host_queue(stream, [executable] {
        for (const auto &work : executable->work) work();
    });
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
    delete executable;
    return cudaSuccess;
}

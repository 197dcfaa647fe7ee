/*
 * The CUDA run time on the CPU: devices and memory. Device memory is one range of addresses that is closed but while
 * work runs, so that host code which follows a device pointer dies as it should; what is handed out begins as NaN, and
 * writes behind a block are noticed when it is freed.
 *
 *   LEMOE_CUDA_HOST_DEVICES      how many devices there are (1)
 *   LEMOE_CUDA_HOST_BYTES        memory of each (4 GiB)
 *   LEMOE_CUDA_HOST_GRAPHS       for how many executable graphs a device has room (any number)
 *   LEMOE_CUDA_HOST_NCCL_BYTES   memory that a communicator takes with its first collective (0)
 *   LEMOE_CUDA_HOST_CAPABILITY   their compute capability (9)
 *   LEMOE_CUDA_HOST_OPEN=1       leaves device memory open once it is: faster, for whole runs of the program
 *   LEMOE_CUDA_HOST_ORDER        held or ahead: one order of streams (cuda_host_streams.cc) in place of both in turn
 *   LEMOE_CUDA_HOST_DEAF=1       NCCL never notices that a rank is gone, as between GPUs of one node
 *   LEMOE_CUDA_HOST_SECONDS      how long ranks wait for one another before the process ends with a message (300)
 *   LEMOE_CUDA_HOST_BREAKS       the launch, counted from 1 as they run, that breaks the device: nothing runs after it,
 *                                and every call fails, for as long as the process lives (none)
 *   LEMOE_CUDA_HOST_REFUSES      the launch, counted as they are made, that is refused; the device lives on (none)
 *   LEMOE_CUDA_HOST_KERNEL       the kernel whose launches these two count, as k_topk_softmax (any)
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
int n_open, device_in_use;
cudaError_t last_error;
bool is_broken;

size_t total_bytes() { return cuda_host_setting("LEMOE_CUDA_HOST_BYTES", (size_t)4 << 30); }
int n_device() { return (int)cuda_host_setting("LEMOE_CUDA_HOST_DEVICES", 1); }

size_t whole_pages(size_t n_bytes) {
    return (n_bytes + page_bytes) / page_bytes * page_bytes;
} /* one byte more at least */

void protect(int protection) {
    if (n_used && mprotect(range, n_used, protection) != 0) cuda_host_die("mprotect");
}

} // namespace

cuda_host_opened::cuda_host_opened() {
    if (n_open++ == 0) protect(PROT_READ | PROT_WRITE);
}
cuda_host_opened::~cuda_host_opened() {
    static const bool stays_open = cuda_host_setting("LEMOE_CUDA_HOST_OPEN", 0) == 1;
    if (!stays_open && --n_open == 0) protect(PROT_NONE);
}

size_t cuda_host_setting(const char *name, size_t otherwise) {
    const char *text = getenv(name);
    return text ? strtoull(text, nullptr, 10) : otherwise;
}

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

bool cuda_host_is_pinned(const void *block) {
    const char *address = static_cast<const char *>(block);
    auto after = pinned.upper_bound(address);
    return after != pinned.begin() && address < std::prev(after)->first + std::prev(after)->second;
}

/* ---- launches that go wrong ---- */

static bool is_counted(const char *kernel) {
    const char *wanted = getenv("LEMOE_CUDA_HOST_KERNEL");
    return !wanted || strcmp(wanted, kernel) == 0;
}

bool cuda_host_is_broken() { return is_broken; }

bool cuda_host_breaks(const char *kernel) {
    static size_t n_run;
    size_t at = cuda_host_setting("LEMOE_CUDA_HOST_BREAKS", 0);
    if (at && is_counted(kernel) && ++n_run == at) is_broken = true;
    return is_broken;
}

bool cuda_host_refuses(const char *kernel) {
    static size_t n_made;
    size_t at = cuda_host_setting("LEMOE_CUDA_HOST_REFUSES", 0);
    return at && is_counted(kernel) && ++n_made == at;
}

/* ---- errors, devices ---- */

const char *cudaGetErrorName(cudaError_t error) {
    return error == cudaSuccess                 ? "cudaSuccess"
           : error == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation"
           : error == cudaErrorIllegalAddress   ? "cudaErrorIllegalAddress"
                                                : "cudaError";
}
const char *cudaGetErrorString(cudaError_t error) {
    switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorStreamCaptureUnsupported: return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated: return "operation failed due to a previous error during capture";
    case cudaErrorStreamCaptureUnjoined: return "capturing stream has unjoined work";
    case cudaErrorStreamCaptureIsolation: return "dependency created on uncaptured work in another stream";
    case cudaErrorNotReady: return "device not ready";
    case cudaErrorIllegalAddress: return "an illegal memory access was encountered";
    case cudaErrorInvalidConfiguration: return "invalid configuration argument";
    default: return "invalid argument";
    }
}
cudaError_t cuda_host_done(cudaError_t error) {
    if (is_broken) return cudaErrorIllegalAddress;
    if (error != cudaSuccess) last_error = error;
    return error;
}
cudaError_t cudaGetLastError(void) {
    if (is_broken) return cudaErrorIllegalAddress; /* it stays */
    cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}

cudaError_t cudaGetDeviceCount(int *count) {
    *count = n_device();
    return cuda_host_done(*count > 0 ? cudaSuccess : cudaErrorNoDevice);
}
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int device) {
    if (device < 0 || device >= n_device()) return cuda_host_done(cudaErrorInvalidDevice);
    memset(properties, 0, sizeof *properties);
    (void)snprintf(properties->name, sizeof properties->name, "emulated device %d", device);
    properties->uuid.bytes[15] = (char)device;
    properties->totalGlobalMem = total_bytes();
    properties->major = (int)cuda_host_setting("LEMOE_CUDA_HOST_CAPABILITY", 9);
    properties->multiProcessorCount = 1;
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
    if (device < 0 || device >= n_device()) return cuda_host_done(cudaErrorInvalidDevice);
    device_in_use = device;
    return cuda_host_done(cudaSuccess);
}
int cuda_host_device() { return device_in_use; }
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
    if (is_broken) return cuda_host_done(cudaErrorIllegalAddress);
    if (cuda_host_refused_by_capture()) return cuda_host_done(cudaErrorStreamCaptureUnsupported);
    if (!range) {
        void *pages = mmap(nullptr, range_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (pages == MAP_FAILED) return cuda_host_done(cudaErrorMemoryAllocation);
        range = static_cast<char *>(pages);
    }
    size_t taken = whole_pages(n_bytes);
    if (n_bytes > total_bytes() || n_taken + taken > total_bytes()) return cuda_host_done(cudaErrorMemoryAllocation);
    char *pages = take_pages(taken);
    if (!pages) return cuda_host_done(cudaErrorMemoryAllocation);
    cuda_host_opened open;
    memset(pages, 0xff, n_bytes < poisoned_bytes ? n_bytes : poisoned_bytes);
    memset(pages + n_bytes, behind, taken - n_bytes);
    blocks[pages] = n_bytes;
    n_taken += taken;
    *block = pages;
    return cudaSuccess;
}

/* As a device does, after all that was queued. */
cudaError_t cudaFree(void *block) {
    if (!block) return cudaSuccess;
    if (cuda_host_refused_by_capture()) return cuda_host_done(cudaErrorStreamCaptureUnsupported);
    cuda_host_finish_all();
    if (is_broken) return cuda_host_done(cudaErrorIllegalAddress);
    auto found = blocks.find(static_cast<char *>(block));
    if (found == blocks.end()) return cuda_host_done(cudaErrorInvalidValue);
    size_t n_bytes = found->second, taken = whole_pages(n_bytes);
    cuda_host_opened open;
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
    if (is_broken) return cuda_host_done(cudaErrorIllegalAddress);
    if (cuda_host_refused_by_capture()) return cuda_host_done(cudaErrorStreamCaptureUnsupported);
    *block = malloc(n_bytes);
    if (!*block) return cuda_host_done(cudaErrorMemoryAllocation);
    pinned[static_cast<char *>(*block)] = n_bytes;
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *block) {
    if (!block) return cudaSuccess;
    if (cuda_host_refused_by_capture()) return cuda_host_done(cudaErrorStreamCaptureUnsupported);
    cuda_host_finish_all();
    if (is_broken) return cuda_host_done(cudaErrorIllegalAddress);
    if (!pinned.erase(static_cast<char *>(block))) return cuda_host_done(cudaErrorInvalidValue);
    free(block);
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total) {
    *total = total_bytes();
    *free_bytes = n_taken < *total ? *total - n_taken : 0;
    return cuda_host_done(cudaSuccess);
}

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *attributes, const void *pointer) {
    attributes->type = cuda_host_on_device(pointer, 1) ? cudaMemoryTypeDevice
                       : cuda_host_is_pinned(pointer)  ? cudaMemoryTypeHost
                                                       : cudaMemoryTypeUnregistered;
    return cuda_host_done(cudaSuccess);
}

/* Shared by the files of the emulated run time: work that a stream runs or records, with device memory open for it. */
#ifndef TESTS_CUDA_HOST_CUDA_HOST_H
#define TESTS_CUDA_HOST_CUDA_HOST_H

#include <cuda_runtime.h>

#include <functional>
#include <vector>

struct CUstream_st {
    bool is_descending; /* the order in which a block's threads run */
    bool is_capturing, is_broken;
    std::vector<std::function<void()>> recorded;
};

/* Runs the work now with device memory open, or records it. */
cudaError_t cuda_host_queue(cudaStream_t stream, std::function<void()> work);
/* Whether all bytes are the device's, or all are not. */
bool cuda_host_on_device(const void *block, size_t n_bytes);
bool cuda_host_off_device(const void *block, size_t n_bytes);
/* Whether all bytes are of one block that was handed out. */
bool cuda_host_in_block(const void *bytes, size_t n_bytes);
/* Ends the process with a message: a contract of the device is broken, and no result after it would mean anything. */
[[noreturn]] void cuda_host_die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* All threads of all blocks of one launch (cuda_host_fibers.cc). */
void cuda_host_run_grid(const char *kernel, dim3 grid, dim3 block, size_t shared_bytes, bool is_descending,
                        const std::function<void()> &body);
size_t cuda_host_shared_bytes();
/* Rising numbers: what happens between the same two barriers of one block has one phase; since when block and launch
 * run. */
struct cuda_host_time {
    uint64_t phase, block_began, launch_began;
};
cuda_host_time cuda_host_now();

#endif

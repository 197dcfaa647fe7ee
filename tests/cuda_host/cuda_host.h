/* Shared by the files of the emulated run time: device memory, and work that streams keep until somebody waits for it.
 */
#ifndef TESTS_CUDA_HOST_CUDA_HOST_H
#define TESTS_CUDA_HOST_CUDA_HOST_H

#include <cuda_runtime.h>

#include <functional>
#include <memory>
#include <vector>

/* ---- memory (cuda_host.cc) ---- */

/* Whether all bytes are the device's, or all are not; whether the address lies in pinned host memory. */
bool cuda_host_on_device(const void *block, size_t n_bytes);
bool cuda_host_off_device(const void *block, size_t n_bytes);
/* Whether all bytes are of one block that was handed out. */
bool cuda_host_in_block(const void *bytes, size_t n_bytes);
bool cuda_host_is_pinned(const void *block);
/* Device memory is open to the host as long as one of these lives. */
struct cuda_host_opened {
    cuda_host_opened();
    ~cuda_host_opened();
};
/* The device that the process works on: cudaSetDevice. */
int cuda_host_device();

/* ---- errors ---- */

/* Keeps an error for cudaGetLastError, and gives it. */
cudaError_t cuda_host_done(cudaError_t error);
/* Ends the process with a message: a contract of the device is broken, and no result after it would mean anything. */
[[noreturn]] void cuda_host_die(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Whether a launch has broken the device: nothing runs any more, and every call gives the same error. */
bool cuda_host_is_broken();
/* Before a kernel runs, and before it is queued: whether this launch is to break the device, or to be refused. */
bool cuda_host_breaks(const char *kernel);
bool cuda_host_refuses(const char *kernel);
/* A number of the environment. */
size_t cuda_host_setting(const char *name, size_t otherwise);

/* ---- work (cuda_host_streams.cc, cuda_host_graphs.cc) ---- */

/* What other processes take part in, as a communicator's collectives do: one part that waits for nobody, and another
 * that can only run once they have done theirs. Those of one group run in the order in which they were queued. */
struct cuda_host_collective {
    virtual ~cuda_host_collective() = default;
    virtual const void *group() const = 0;
    virtual int64_t number() = 0; /* of the next one in the group: called when it is queued, in order */
    virtual void give(int64_t number) = 0;
    virtual bool is_there(int64_t number) = 0; /* what the others give */
    virtual void take(int64_t number) = 0;
    virtual bool is_lost(int64_t number) = 0; /* another process will never give its part */
};

struct cuda_host_work {
    std::function<void()> run;
    std::shared_ptr<cuda_host_collective> collective; /* instead */
};

/* Keeps the work until somebody waits for it, or records it where the stream captures. A collective gives its part now,
 * after what it has to wait for. */
cudaError_t cuda_host_queue(cudaStream_t stream, cuda_host_work work);
/* Waits for all streams. */
void cuda_host_finish_all();
/* Whether a stream captures: what a capture does not allow then fails and ends it. */
bool cuda_host_refused_by_capture();

/* ---- kernels (cuda_host_fibers.cc) ---- */

/* All threads of all blocks of one launch. */
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

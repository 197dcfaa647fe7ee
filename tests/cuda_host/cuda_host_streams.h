/* Private to the streams and graphs of the emulated run time. */
#ifndef TESTS_CUDA_HOST_CUDA_HOST_STREAMS_H
#define TESTS_CUDA_HOST_CUDA_HOST_STREAMS_H

#include "tests/cuda_host/cuda_host.h"

#include <deque>

struct cuda_host_node;
using node_ptr = std::shared_ptr<cuda_host_node>;

/* A piece of queued work. */
struct cuda_host_node {
    std::function<void()> run;
    std::shared_ptr<cuda_host_collective>
        collective;               /* of which it takes its part; NULL: it waits for no other process */
    int64_t number;               /* of the collective */
    std::vector<node_ptr> before; /* what has to be done first, the one in front of it in its line among them */
    bool is_done;
    unsigned long wanted_by; /* the last wait that needs it */
};

/* Work in a fixed order: of a stream, or of a stream's part in one launch of a graph. */
struct cuda_host_line {
    int place; /* the stream's number, in the order of creation */
    std::deque<node_ptr> nodes;
};
using line_ptr = std::shared_ptr<cuda_host_line>;

/* Work that is recorded and not run. */
struct cuda_host_recorded {
    cuda_host_work work;
    int place;
    std::vector<size_t> before; /* recorded ones */
};

struct cuda_host_capture {
    cudaStream_t origin;
    bool is_broken, is_over;
    std::vector<cuda_host_recorded> nodes;
    std::vector<cudaStream_t> streams; /* the origin, and those that events drew in */
};

struct CUstream_st {
    int place;
    int is_descending;                          /* the order in which a block's threads run; below 0: not drawn yet */
    line_ptr line;                              /* what it was given */
    std::vector<node_ptr> tail;                 /* what its next work has to wait for */
    std::shared_ptr<cuda_host_capture> capture; /* NULL: it captures nothing */
    std::vector<size_t> captured_tail;
};

struct CUevent_st {
    std::vector<node_ptr> tail;                 /* of the stream, when it was recorded */
    std::shared_ptr<cuda_host_capture> capture; /* recorded in there */
    std::vector<size_t> captured_tail;
};

/* Gives work to a line, behind `before`; returns what is done when it is over. *given: a collective's first part. */
node_ptr cuda_host_append(const line_ptr &line, const cuda_host_work &work, std::vector<node_ptr> before,
                          node_ptr *given);
/* A line that is emptied with the others, and forgotten then. */
line_ptr cuda_host_new_line(int place);
/* Runs what is wanted, and what the order of this turn runs besides. Stops early where the rest waits for what is lost.
 */
void cuda_host_settle(const std::vector<node_ptr> &wanted);
/* The end of a capture that went wrong: `error` now, and the recording is worth nothing. */
cudaError_t cuda_host_break(cuda_host_capture *capture, cudaError_t error);
/* Records work behind what the stream captured so far. */
cudaError_t cuda_host_record(cudaStream_t stream, cuda_host_work work);

#endif

/*
 * Captured graphs: work and what it waits for, recorded. Events carry a capture from stream to stream. A launch gives
 * each stream's part a line of its own, so that replays run in unkind orders as well (cuda_host_streams.cc).
 */
#include "tests/cuda_host/cuda_host_streams.h"

#include <algorithm>
#include <map>

struct CUgraph_st {
    std::vector<cuda_host_recorded> nodes;
    std::vector<size_t> ends; /* what the stream that captured waits for at its end */
};
struct CUgraphExec_st {
    CUgraph_st graph;
    std::vector<node_ptr> last; /* launch: an executable graph runs once at a time */
};

namespace {
std::vector<std::shared_ptr<cuda_host_capture>> captures; /* under way */
}

bool cuda_host_refused_by_capture() {
    for (const auto &capture : captures) capture->is_broken = true;
    return !captures.empty();
}

cudaError_t cuda_host_break(cuda_host_capture *capture, cudaError_t error) {
    capture->is_broken = true;
    return cuda_host_done(error);
}

cudaError_t cuda_host_record(cudaStream_t stream, cuda_host_work work) {
    cuda_host_capture *capture = stream->capture.get();
    if (capture->is_broken) return cudaErrorStreamCaptureInvalidated;
    capture->nodes.push_back({std::move(work), stream->place, std::move(stream->captured_tail)});
    stream->captured_tail = {capture->nodes.size() - 1};
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode) {
    if (cuda_host_is_broken() || stream->capture) return cuda_host_done(cudaErrorInvalidValue);
    stream->capture.reset(new cuda_host_capture{stream, false, false, {}, {stream}});
    stream->captured_tail.clear();
    captures.push_back(stream->capture);
    return cudaSuccess;
}

/* Whether everything recorded is behind, or is, one of the ends. */
static bool is_joined(const cuda_host_capture &capture, const std::vector<size_t> &ends) {
    std::vector<bool> is_reached(capture.nodes.size(), false);
    for (size_t end : ends) is_reached[end] = true;
    for (size_t i = capture.nodes.size(); i-- > 0;)
        for (size_t before : capture.nodes[i].before)
            if (is_reached[i]) is_reached[before] = true;
    return std::find(is_reached.begin(), is_reached.end(), false) == is_reached.end();
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
    std::shared_ptr<cuda_host_capture> capture = stream->capture;
    *graph = nullptr;
    if (!capture) return cuda_host_done(cudaErrorInvalidValue);
    if (capture->origin != stream) return cuda_host_break(capture.get(), cudaErrorStreamCaptureUnmatched);
    std::vector<size_t> ends = stream->captured_tail;
    for (cudaStream_t drawn_in : capture->streams) {
        drawn_in->capture.reset();
        drawn_in->captured_tail.clear();
    }
    capture->is_over = true;
    captures.erase(std::find(captures.begin(), captures.end(), capture));
    if (capture->is_broken || cuda_host_is_broken()) return cuda_host_done(cudaErrorStreamCaptureInvalidated);
    if (!is_joined(*capture, ends)) return cuda_host_done(cudaErrorStreamCaptureUnjoined);
    *graph = new CUgraph_st{std::move(capture->nodes), std::move(ends)};
    return cudaSuccess;
}

static size_t n_executable;

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *executable, cudaGraph_t graph, unsigned long long) {
    if (cuda_host_is_broken()) return cuda_host_done(cudaErrorIllegalAddress);
    if (cuda_host_refused_by_capture()) return cuda_host_done(cudaErrorStreamCaptureUnsupported);
    *executable = new CUgraphExec_st{*graph, {}};
    n_executable++;
    return cudaSuccess;
}
/* Real ones take their memory of the device here, or when they are made. */
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) {
    bool has_room = n_executable <= cuda_host_setting("LEMOE_CUDA_HOST_GRAPHS", SIZE_MAX);
    return cuda_host_done(has_room ? cudaSuccess : cudaErrorMemoryAllocation);
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete graph;
    return cuda_host_done(cudaSuccess);
}

/* What a recorded piece waits for in this launch. */
static std::vector<node_ptr> before_of(const cuda_host_recorded &recorded, const std::vector<node_ptr> &launched,
                                       const std::vector<node_ptr> &roots) {
    if (recorded.before.empty()) return roots;
    std::vector<node_ptr> before;
    for (size_t i : recorded.before) before.push_back(launched[i]);
    return before;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
    const CUgraph_st &graph = executable->graph;
    if (cuda_host_is_broken()) return cuda_host_done(cudaErrorIllegalAddress);
    if (stream->capture) return cuda_host_break(stream->capture.get(), cudaErrorStreamCaptureUnsupported);
    std::map<int, line_ptr> lines;
    std::vector<node_ptr> launched, given, roots = stream->tail;
    roots.insert(roots.end(), executable->last.begin(), executable->last.end());
    for (const cuda_host_recorded &recorded : graph.nodes) {
        line_ptr &line = lines[recorded.place];
        node_ptr gives;
        if (!line) line = cuda_host_new_line(recorded.place);
        launched.push_back(cuda_host_append(line, recorded.work, before_of(recorded, launched, roots), &gives));
        if (gives) given.push_back(gives);
    }
    if (graph.ends.empty()) return cudaSuccess;
    stream->tail.clear();
    for (size_t end : graph.ends) stream->tail.push_back(launched[end]);
    executable->last = stream->tail;
    if (!given.empty()) cuda_host_settle(given);
    return cuda_host_done(cudaSuccess);
}

/* What was launched keeps what it needs. */
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
    delete executable;
    n_executable--;
    return cuda_host_done(cudaSuccess);
}

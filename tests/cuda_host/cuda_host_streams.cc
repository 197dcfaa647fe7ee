/*
 * Streams and events. What a stream is given waits until the host, or another process, waits for it, and then runs in
 * an order that is as unkind as the program's own waits allow. Two such orders take turns, drawn by the number of
 * pieces queued so far:
 *
 *   held    only what is waited for, streams created first before others: side streams lag behind
 *   ahead   everything, streams created last before others: side streams run before what they forgot to wait for
 *
 * So a wait that is missing between two streams is a wrong result in one of them, and host code that reads results
 * without waiting finds none. What a right program computes is the same in both.
 */
#include "tests/cuda_host/cuda_host_streams.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <map>
#include <optional>

namespace {

std::vector<line_ptr> lines;
std::map<const void *, std::weak_ptr<cuda_host_node>> last_of_group;
unsigned long n_queued, n_wait;
int n_stream, n_launching; /* streams, and those that launched kernels */

/* Of a block: what any launch may ask for, and what a kernel may after its attribute was raised, on a device of 8.6. */
const size_t plain_shared_bytes = (size_t)48 << 10, most_shared_bytes = (size_t)99 << 10;
std::map<const void *, size_t> more_shared; /* by kernel */

bool goes_ahead() {
    const char *order = getenv("LEMOE_CUDA_HOST_ORDER");
    if (order) return strcmp(order, "ahead") == 0;
    unsigned long mixed = n_queued * 0x9e3779b97f4a7c15ul;
    return (mixed >> 33) & 1;
}

double seconds() {
    timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void doze() {
    timespec moment = {0, 20000};
    (void)nanosleep(&moment, nullptr);
}

/* Marks all that has to be done for the nodes to be. */
void mark(std::vector<node_ptr> wanted) {
    n_wait++;
    while (!wanted.empty()) {
        node_ptr node = std::move(wanted.back());
        wanted.pop_back();
        if (node->is_done || node->wanted_by == n_wait) continue;
        node->wanted_by = n_wait;
        wanted.insert(wanted.end(), node->before.begin(), node->before.end());
    }
}

bool is_done(const node_ptr &node) { return node->is_done; }
bool are_done(const std::vector<node_ptr> &nodes) { return std::all_of(nodes.begin(), nodes.end(), is_done); }
bool may_run(const node_ptr &node) {
    bool is_there = !node->collective || cuda_host_is_broken() || node->collective->is_there(node->number);
    return is_there && are_done(node->before);
}

/* The line whose turn it is; NULL: none can go on. */
line_ptr next_line(bool ahead) {
    line_ptr best;
    for (const line_ptr &line : lines) {
        if (line->nodes.empty()) continue;
        const node_ptr &node = line->nodes.front();
        if ((!ahead && node->wanted_by != n_wait) || !may_run(node)) continue;
        if (!best || (ahead ? line->place > best->place : line->place < best->place)) best = line;
    }
    return best;
}

void forget_empty_lines() {
    auto is_over = [](const line_ptr &line) { return line->nodes.empty() && line.use_count() == 1; };
    for (size_t i = 0; i < lines.size();) {
        if (is_over(lines[i]))
            lines.erase(lines.begin() + (long)i);
        else
            i++;
    }
}

/* Runs what can run now. */
void run_some(const std::vector<node_ptr> &wanted) {
    std::optional<cuda_host_opened> open;
    bool ahead = goes_ahead();
    mark(wanted);
    while (line_ptr line = next_line(ahead)) {
        if (!open) open.emplace();
        node_ptr node = std::move(line->nodes.front());
        line->nodes.pop_front();
        if (!cuda_host_is_broken()) node->run();
        node->run = nullptr;
        node->collective.reset();
        node->before.clear();
        node->is_done = true;
    }
    forget_empty_lines();
}

bool is_lost() {
    for (const line_ptr &line : lines) {
        if (line->nodes.empty()) continue;
        const node_ptr &node = line->nodes.front();
        if (node->wanted_by != n_wait || !node->collective || !are_done(node->before)) continue;
        if (node->collective->is_lost(node->number)) return true;
    }
    return false;
}

/* Whether all is done; false: it never will be. */
bool finish(const std::vector<node_ptr> &wanted) {
    double limit = (double)cuda_host_setting("LEMOE_CUDA_HOST_SECONDS", 300), began = seconds();
    for (;;) {
        run_some(wanted);
        if (are_done(wanted)) return true;
        if (is_lost()) return false;
        if (seconds() - began > limit) cuda_host_die("after %.0f s a collective still waits for other ranks", limit);
        doze();
    }
}

/* A real device would wait for ever. */
void finish_or_die(const std::vector<node_ptr> &wanted) {
    if (!finish(wanted)) cuda_host_die("the host waits for a collective with a rank that is gone: for ever, on a GPU");
}

void keep_undone(std::vector<node_ptr> *nodes) {
    nodes->erase(std::remove_if(nodes->begin(), nodes->end(), is_done), nodes->end());
}

} // namespace

/* ---- queued work ---- */

line_ptr cuda_host_new_line(int place) {
    line_ptr line(new cuda_host_line{place, {}});
    lines.push_back(line);
    return line;
}

static node_ptr put(const line_ptr &line, std::vector<node_ptr> before, std::function<void()> run) {
    if (!line->nodes.empty()) before.push_back(line->nodes.back());
    node_ptr node(new cuda_host_node{std::move(run), nullptr, 0, std::move(before), false, 0});
    line->nodes.push_back(node);
    n_queued++;
    return node;
}

node_ptr cuda_host_append(const line_ptr &line, const cuda_host_work &work, std::vector<node_ptr> before,
                          node_ptr *given) {
    if (!work.collective) return put(line, std::move(before), work.run);
    std::shared_ptr<cuda_host_collective> collective = work.collective;
    std::weak_ptr<cuda_host_node> &last = last_of_group[collective->group()];
    int64_t number = collective->number();
    if (node_ptr node = last.lock()) before.push_back(node);
    *given = put(line, std::move(before), [collective, number] { collective->give(number); });
    node_ptr taken = put(line, {}, [collective, number] { collective->take(number); });
    taken->collective = collective;
    taken->number = number;
    last = taken;
    return taken;
}

void cuda_host_settle(const std::vector<node_ptr> &wanted) { (void)finish(wanted); }

cudaError_t cuda_host_queue(cudaStream_t stream, cuda_host_work work) {
    if (cuda_host_is_broken()) return cuda_host_done(cudaErrorIllegalAddress);
    if (stream->capture) return cuda_host_record(stream, std::move(work));
    node_ptr given;
    keep_undone(&stream->tail);
    node_ptr node = cuda_host_append(stream->line, work, std::move(stream->tail), &given);
    stream->tail = {node};
    if (given) cuda_host_settle({given});
    return cudaSuccess;
}

void cuda_host_finish_all() {
    std::vector<node_ptr> all;
    for (const line_ptr &line : lines)
        if (!line->nodes.empty()) all.push_back(line->nodes.back());
    if (!all.empty()) finish_or_die(all);
}

/* Launching streams take turns in the order of threads, so that two devices opened one after the other differ. */
void cuda_host_launch(const char *kernel, const void *address, size_t argument_bytes, dim3 grid, dim3 block,
                      size_t shared_bytes, cudaStream_t stream, std::function<void()> body) {
    auto more = more_shared.find(address);
    bool fits = grid.x > 0 && grid.y > 0 && grid.y <= 65535 && grid.z == 1 && block.x > 0 && block.x <= 1024 &&
                block.x % 32 == 0 && block.y == 1 && block.z == 1 && argument_bytes <= 4096 &&
                shared_bytes <= (more == more_shared.end() ? plain_shared_bytes : more->second);
    if (!fits || cuda_host_refuses(kernel)) {
        (void)cuda_host_done(cudaErrorInvalidConfiguration);
        return;
    }
    if (stream->is_descending < 0) stream->is_descending = n_launching++ % 2;
    bool is_descending = stream->is_descending == 1;
    auto run = [=] {
        if (!cuda_host_breaks(kernel)) cuda_host_run_grid(kernel, grid, block, shared_bytes, is_descending, body);
    };
    (void)cuda_host_done(cuda_host_queue(stream, {run, nullptr}));
}

cudaError_t cudaFuncSetAttribute(const void *kernel, enum cudaFuncAttribute, int value) {
    if (value < 0 || (size_t)value > most_shared_bytes) return cuda_host_done(cudaErrorInvalidValue);
    more_shared[kernel] = (size_t)value;
    return cudaSuccess;
}

/* ---- streams ---- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned) {
    if (cuda_host_is_broken()) return cuda_host_done(cudaErrorIllegalAddress);
    int place = n_stream++;
    *stream = new CUstream_st{place, -1, cuda_host_new_line(place), {}, nullptr, {}};
    return cudaSuccess;
}
/* Which is a wish, and not an order that anybody may rely on. */
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority) {
    int least = 0, greatest = 0;
    (void)cudaDeviceGetStreamPriorityRange(&least, &greatest);
    if (priority > least || priority < greatest) cuda_host_die("a stream's priority is out of range");
    return cudaStreamCreateWithFlags(stream, flags);
}
cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}
/* What it was given is done all the same. */
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    if (stream->capture) cuda_host_die("a stream is destroyed while it captures");
    delete stream;
    return cuda_host_done(cudaSuccess);
}

static cudaError_t refuse_captured(cudaStream_t stream) {
    return cuda_host_break(stream->capture.get(), cudaErrorStreamCaptureUnsupported);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    if (stream->capture) return refuse_captured(stream);
    finish_or_die(stream->tail);
    return cuda_host_done(cudaSuccess);
}

static cudaError_t query(const std::vector<node_ptr> &wanted) {
    run_some(wanted);
    if (are_done(wanted)) return cuda_host_done(cudaSuccess);
    doze();
    return cuda_host_done(cudaErrorNotReady); /* which cudaGetLastError gives as well */
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
    return stream->capture ? refuse_captured(stream) : query(stream->tail);
}

static void check_sides(void *to, const void *from, size_t n_bytes, enum cudaMemcpyKind kind, bool *fit) {
    bool to_fits =
        kind == cudaMemcpyDeviceToHost ? cuda_host_off_device(to, n_bytes) : cuda_host_on_device(to, n_bytes);
    bool from_fits =
        kind == cudaMemcpyHostToDevice ? cuda_host_off_device(from, n_bytes) : cuda_host_on_device(from, n_bytes);
    *fit = to_fits && from_fits;
}

/* Pinned memory is read and written when the stream gets there. Other host memory is read at once, into a buffer of the
 * driver's own, and written before the call returns. */
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n_bytes, enum cudaMemcpyKind kind, cudaStream_t stream) {
    bool fit = false;
    check_sides(to, from, n_bytes, kind, &fit);
    if (!fit) return cuda_host_done(cudaErrorInvalidValue);
    if (kind == cudaMemcpyHostToDevice && !cuda_host_is_pinned(from) && !stream->capture) {
        const char *bytes = static_cast<const char *>(from);
        std::vector<char> kept(bytes, bytes + n_bytes);
        return cuda_host_queue(stream, {[to, kept] { memcpy(to, kept.data(), kept.size()); }, nullptr});
    }
    cudaError_t error = cuda_host_queue(stream, {[=] { memmove(to, from, n_bytes); }, nullptr});
    bool waits = kind == cudaMemcpyDeviceToHost && !cuda_host_is_pinned(to) && !stream->capture;
    return waits ? cudaStreamSynchronize(stream) : cuda_host_done(error);
}

cudaError_t cudaMemsetAsync(void *block, int value, size_t n_bytes, cudaStream_t stream) {
    if (!cuda_host_on_device(block, n_bytes)) return cuda_host_done(cudaErrorInvalidValue);
    return cuda_host_done(cuda_host_queue(stream, {[=] { memset(block, value, n_bytes); }, nullptr}));
}

/* ---- events ---- */

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned) {
    if (cuda_host_is_broken()) return cuda_host_done(cudaErrorIllegalAddress);
    *event = new CUevent_st{};
    return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
    delete event;
    return cuda_host_done(cudaSuccess);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    *event = CUevent_st{stream->tail, stream->capture, stream->captured_tail};
    return cuda_host_done(cudaSuccess);
}

/* Draws the stream into the event's capture, if it is not there already. */
static cudaError_t wait_captured(cudaStream_t stream, const CUevent_st *event) {
    cuda_host_capture *capture = event->capture.get();
    if (capture->is_over) return cuda_host_done(cudaErrorCapturedEvent);
    if (stream->capture && stream->capture != event->capture) {
        (void)cuda_host_break(stream->capture.get(), cudaErrorStreamCaptureMerge);
        return cuda_host_break(capture, cudaErrorStreamCaptureMerge);
    }
    if (!stream->capture) {
        stream->capture = event->capture;
        stream->captured_tail.clear();
        capture->streams.push_back(stream);
    }
    stream->captured_tail.insert(stream->captured_tail.end(), event->captured_tail.begin(), event->captured_tail.end());
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    if (event->capture) return wait_captured(stream, event);
    keep_undone(&event->tail);
    if (stream->capture && !event->tail.empty())
        return cuda_host_break(stream->capture.get(), cudaErrorStreamCaptureIsolation);
    if (!stream->capture) stream->tail.insert(stream->tail.end(), event->tail.begin(), event->tail.end());
    return cuda_host_done(cudaSuccess);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    if (event->capture) return cuda_host_break(event->capture.get(), cudaErrorCapturedEvent);
    if (cuda_host_refused_by_capture()) return cuda_host_done(cudaErrorStreamCaptureUnsupported);
    finish_or_die(event->tail);
    return cuda_host_done(cudaSuccess);
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
    if (event->capture) return cuda_host_break(event->capture.get(), cudaErrorCapturedEvent);
    if (cuda_host_refused_by_capture()) return cuda_host_done(cudaErrorStreamCaptureUnsupported);
    return query(event->tail);
}

/*
 * The emulated run time itself: a missing wait between streams, or of the host, gives a wrong result in one of its two
 * orders, and the right program gives the same in both, plainly and in captured graphs. Work is copies of bytes.
 */
#include "tests/unit/fixture.h"

#include <cuda_runtime_api.h>
#include <nccl.h>

#define assert_cuda(call) assert_int_equal((call), cudaSuccess)

enum { N = 64 };

/* Two streams, the second created later; three blocks of the device; one of the host's, pinned. */
typedef struct stage {
    cudaStream_t front, side;
    cudaEvent_t forked, joined;
    char *a, *b, *c, *host;
} stage;

static int stage_open(void **state) {
    stage *s = calloc(1, sizeof *s);
    *state = s;
    assert_cuda(cudaStreamCreateWithFlags(&s->front, cudaStreamNonBlocking));
    assert_cuda(cudaStreamCreateWithFlags(&s->side, cudaStreamNonBlocking));
    assert_cuda(cudaEventCreateWithFlags(&s->forked, cudaEventDisableTiming));
    assert_cuda(cudaEventCreateWithFlags(&s->joined, cudaEventDisableTiming));
    assert_cuda(cudaMalloc((void **)&s->a, N));
    assert_cuda(cudaMalloc((void **)&s->b, N));
    assert_cuda(cudaMalloc((void **)&s->c, N));
    assert_cuda(cudaMallocHost((void **)&s->host, N));
    memset(s->host, 7, N);
    return 0;
}

static int stage_close(void **state) {
    stage *s = *state;
    assert_cuda(cudaFree(s->a));
    assert_cuda(cudaFree(s->b));
    assert_cuda(cudaFree(s->c));
    assert_cuda(cudaFreeHost(s->host));
    assert_cuda(cudaEventDestroy(s->forked));
    assert_cuda(cudaEventDestroy(s->joined));
    assert_cuda(cudaStreamDestroy(s->front));
    assert_cuda(cudaStreamDestroy(s->side));
    free(s);
    return 0;
}

static void set(char *block, int value, cudaStream_t stream) { assert_cuda(cudaMemsetAsync(block, value, N, stream)); }
static void copy(char *to, const char *from, cudaStream_t stream) {
    assert_cuda(cudaMemcpyAsync(to, from, N, cudaMemcpyDeviceToDevice, stream));
}
static void wait(cudaStream_t waits, cudaStream_t stream, cudaEvent_t event) {
    assert_cuda(cudaEventRecord(event, stream));
    assert_cuda(cudaStreamWaitEvent(waits, event, 0));
}

/* All bytes of a block, or -1 where they differ; everything is waited for first. */
static int value_of(const stage *s, const char *block) {
    char back[N];
    assert_cuda(cudaStreamSynchronize(s->side));
    assert_cuda(cudaMemcpyAsync(back, block, N, cudaMemcpyDeviceToHost, s->front));
    for (int i = 1; i < N; i++)
        if (back[i] != back[0]) return -1;
    return (unsigned char)back[0];
}

/* ---- one stream, and the host ---- */

static void work_waits_for_the_host(void **state) {
    stage *s = *state;
    set(s->a, 3, s->front);
    assert_cuda(cudaMemcpyAsync(s->host, s->a, N, cudaMemcpyDeviceToHost, s->front));
    assert_int_equal(s->host[0], 7); /* not yet */
    assert_cuda(cudaStreamSynchronize(s->front));
    assert_int_equal(s->host[0], 3);
    assert_cuda(cudaMemcpyAsync(s->b, s->host, N, cudaMemcpyHostToDevice, s->front));
    memset(s->host, 5, N); /* too early: pinned memory is read when the stream gets there */
    assert_int_equal(value_of(s, s->b), 5);
    char plain[N];
    memset(plain, 4, N);
    assert_cuda(cudaMemcpyAsync(s->b, plain, N, cudaMemcpyHostToDevice, s->front));
    memset(plain, 6, N); /* and other memory at once */
    assert_int_equal(value_of(s, s->b), 4);
}

static void queries_make_progress(void **state) {
    stage *s = *state;
    set(s->a, 3, s->front);
    assert_cuda(cudaEventRecord(s->forked, s->front));
    assert_cuda(cudaMemcpyAsync(s->host, s->a, N, cudaMemcpyDeviceToHost, s->front));
    assert_cuda(cudaEventQuery(s->forked));
    assert_cuda(cudaStreamQuery(s->front));
    assert_int_equal(s->host[0], 3);
    assert_cuda(cudaEventQuery(s->joined)); /* never recorded */
    assert_cuda(cudaEventSynchronize(s->joined));
    set(s->a, 4, s->front);
    assert_cuda(cudaMemcpyAsync(s->host, s->a, N, cudaMemcpyDeviceToHost, s->front));
    assert_cuda(cudaEventRecord(s->joined, s->front));
    assert_cuda(cudaEventSynchronize(s->joined));
    assert_int_equal(s->host[0], 4);
}

/* ---- two streams: the side stream doubles what the front one made, which then uses it ---- */

/* Waits that are left out. */
enum { FORK = 1, JOIN = 2 };

/* a = 1; on the side b = a; then c = b, and a = 2 while the side may still read it. */
static void fork_and_join(const stage *s, int left_out) {
    set(s->a, 1, s->front);
    if (!(left_out & FORK)) wait(s->side, s->front, s->forked);
    copy(s->b, s->a, s->side);
    if (!(left_out & JOIN)) wait(s->front, s->side, s->joined);
    copy(s->c, s->b, s->front);
    set(s->a, 2, s->front);
}

static void choose(const char *order) { assert_int_equal(setenv("LEMOE_CUDA_HOST_ORDER", order, 1), 0); }

/* b and c after a program with waits left out, which began with 9 everywhere. */
typedef struct outcome {
    int b, c;
} outcome;

static outcome after(const stage *s, const char *order, int left_out, void (*run)(const stage *s, int left_out)) {
    choose(order);
    set(s->a, 9, s->front);
    set(s->b, 9, s->front);
    set(s->c, 9, s->front);
    assert_cuda(cudaStreamSynchronize(s->front));
    run(s, left_out);
    assert_cuda(cudaStreamSynchronize(s->front));
    outcome seen = {.c = value_of(s, s->c)};
    seen.b = value_of(s, s->b);
    assert_int_equal(unsetenv("LEMOE_CUDA_HOST_ORDER"), 0);
    return seen;
}

static bool is_right(outcome seen) { return seen.b == 1 && seen.c == 1; }

static void check_waits(const stage *s, void (*run)(const stage *s, int left_out)) {
    assert_true(is_right(after(s, "held", 0, run)));
    assert_true(is_right(after(s, "ahead", 0, run)));
    assert_false(is_right(after(s, "ahead", FORK, run))); /* the side was there before what it reads */
    assert_false(is_right(after(s, "held", JOIN, run)));  /* and here it lags behind */
}

static void a_missing_wait_is_seen(void **state) {
    const stage *s = *state;
    check_waits(s, fork_and_join);
    outcome seen = after(s, "ahead", FORK, fork_and_join);
    assert_true(seen.b == 9 && seen.c == 9);
    seen = after(s, "held", JOIN, fork_and_join);
    assert_true(seen.b == 2 && seen.c == 9); /* it also read what was overwritten by then */
}

/* Without a choice both orders come about. */
static void orders_take_turns(void **state) {
    const stage *s = *state;
    int n_wrong = 0, n_run = 40;
    for (int i = 0; i < n_run; i++) {
        set(s->b, 9, s->front);
        set(s->c, 9, s->front);
        for (int pieces = 0; pieces < i; pieces++) set(s->a, 9, s->front);
        assert_cuda(cudaStreamSynchronize(s->front));
        fork_and_join(s, JOIN);
        assert_cuda(cudaStreamSynchronize(s->front));
        n_wrong += value_of(s, s->c) != 1;
    }
    assert_in_range(n_wrong, n_run / 4, 3 * n_run / 4);
}

/* ---- captured ---- */

static cudaGraphExec_t captured(const stage *s, int left_out, void (*run)(const stage *s, int left_out)) {
    cudaGraph_t graph = NULL;
    cudaGraphExec_t executable = NULL;
    assert_cuda(cudaStreamBeginCapture(s->front, cudaStreamCaptureModeThreadLocal));
    run(s, left_out);
    assert_cuda(cudaStreamEndCapture(s->front, &graph));
    assert_cuda(cudaGraphInstantiate(&executable, graph, 0));
    assert_cuda(cudaGraphDestroy(graph));
    return executable;
}

static void replay_twice(const stage *s, int left_out) {
    cudaGraphExec_t executable = captured(s, left_out, fork_and_join);
    assert_cuda(cudaGraphLaunch(executable, s->front));
    set(s->b, 9, s->front);
    assert_cuda(cudaGraphLaunch(executable, s->front));
    assert_cuda(cudaGraphExecDestroy(executable)); /* what was launched is run all the same */
}

/* b is made on the side, from an a that the front sets after the fork: the edge for that is missing. The join is there,
 * as a capture demands. */
static void late_a(const stage *s, int left_out) {
    wait(s->side, s->front, s->forked);
    set(s->a, 1, s->front);
    if (!(left_out & FORK)) wait(s->side, s->front, s->forked);
    copy(s->b, s->a, s->side);
    if (left_out & JOIN) copy(s->c, s->b, s->front); /* before the join */
    wait(s->front, s->side, s->joined);
    if (!(left_out & JOIN)) copy(s->c, s->b, s->front);
}

static void replay_late_a(const stage *s, int left_out) {
    cudaGraphExec_t executable = captured(s, left_out, late_a);
    assert_cuda(cudaGraphLaunch(executable, s->front));
    assert_cuda(cudaGraphExecDestroy(executable));
}

static void replays_keep_the_edges_and_no_others(void **state) {
    const stage *s = *state;
    assert_true(is_right(after(s, "held", 0, replay_twice)));
    assert_true(is_right(after(s, "ahead", 0, replay_twice)));
    check_waits(s, late_a);
    check_waits(s, replay_late_a);
}

static void captures_record_and_run_nothing(void **state) {
    const stage *s = *state;
    set(s->c, 9, s->front);
    cudaGraphExec_t executable = captured(s, 0, fork_and_join);
    assert_int_equal(value_of(s, s->c), 9);
    set(s->b, 5, s->side); /* the side stream is free again */
    assert_int_equal(value_of(s, s->b), 5);
    assert_cuda(cudaGraphExecDestroy(executable));
}

static void fork_without_join(const stage *s) {
    wait(s->side, s->front, s->forked);
    set(s->b, 1, s->side);
}

static void what_a_capture_refuses(void **state) {
    const stage *s = *state;
    cudaGraph_t graph = NULL;
    void *block = NULL;
    assert_cuda(cudaStreamBeginCapture(s->front, cudaStreamCaptureModeThreadLocal));
    fork_without_join(s);
    assert_int_equal(cudaStreamEndCapture(s->side, &graph), cudaErrorStreamCaptureUnmatched);
    assert_int_equal(cudaStreamEndCapture(s->front, &graph), cudaErrorStreamCaptureInvalidated);
    assert_cuda(cudaStreamBeginCapture(s->front, cudaStreamCaptureModeThreadLocal));
    fork_without_join(s);
    assert_int_equal(cudaStreamEndCapture(s->front, &graph), cudaErrorStreamCaptureUnjoined);
    set(s->a, 1, s->side);
    assert_cuda(cudaEventRecord(s->joined, s->side));
    assert_cuda(cudaStreamBeginCapture(s->front, cudaStreamCaptureModeThreadLocal)); /* what is not captured */
    assert_int_equal(cudaStreamWaitEvent(s->front, s->joined, 0), cudaErrorStreamCaptureIsolation);
    assert_int_equal(cudaStreamEndCapture(s->front, &graph), cudaErrorStreamCaptureInvalidated);
    assert_cuda(cudaStreamBeginCapture(s->front, cudaStreamCaptureModeThreadLocal)); /* two captures meet */
    assert_cuda(cudaStreamBeginCapture(s->side, cudaStreamCaptureModeThreadLocal));
    assert_cuda(cudaEventRecord(s->forked, s->front));
    assert_int_equal(cudaStreamWaitEvent(s->side, s->forked, 0), cudaErrorStreamCaptureMerge);
    assert_int_equal(cudaStreamEndCapture(s->side, &graph), cudaErrorStreamCaptureInvalidated);
    assert_int_equal(cudaStreamEndCapture(s->front, &graph), cudaErrorStreamCaptureInvalidated);
    assert_int_equal(cudaStreamWaitEvent(s->side, s->forked, 0), cudaErrorCapturedEvent); /* its capture is over */
    cudaError_t (*const waits[])(cudaStream_t) = {cudaStreamSynchronize, cudaStreamQuery};
    for (int i = 0; i < 4; i++) {
        assert_cuda(cudaStreamBeginCapture(s->front, cudaStreamCaptureModeThreadLocal));
        assert_cuda(cudaEventRecord(s->forked, s->front));
        cudaError_t error = i < 2 ? waits[i](s->front) : i == 2 ? cudaEventQuery(s->forked) : cudaMalloc(&block, N);
        assert_int_equal(error, i == 2 ? cudaErrorCapturedEvent : cudaErrorStreamCaptureUnsupported);
        assert_int_equal(cudaStreamEndCapture(s->front, &graph), cudaErrorStreamCaptureInvalidated);
        assert_null(graph);
    }
}

/* ---- collectives beside other work, as a group of one: those end late or early as well ---- */

static ncclComm_t comm;

static void reduce_on_the_side(const stage *s, int left_out) {
    set(s->a, 1, s->front);
    if (!(left_out & FORK)) wait(s->side, s->front, s->forked);
    assert_int_equal(ncclAllReduce(s->a, s->b, N / 4, ncclInt32, ncclSum, comm, s->side), ncclSuccess);
    set(s->a, left_out & FORK ? 1 : 2, s->front); /* beside the reduction, which has given its part by now */
    if (!(left_out & JOIN)) wait(s->front, s->side, s->joined);
    copy(s->c, s->b, s->front);
}

/* One that nothing waits for is still done in its turn. */
static void replay_reduction(const stage *s, int left_out) {
    cudaGraphExec_t executable = captured(s, left_out, reduce_on_the_side);
    assert_cuda(cudaGraphLaunch(executable, s->front));
    assert_cuda(cudaStreamSynchronize(s->front));
    assert_cuda(cudaGraphExecDestroy(executable));
}

static void collectives_keep_waits_too(void **state) {
    const stage *s = *state;
    ncclUniqueId id;
    assert_int_equal(ncclGetUniqueId(&id), ncclSuccess);
    assert_int_equal(ncclCommInitRank(&comm, 1, id, 0), ncclSuccess);
    assert_true(is_right(after(s, "held", 0, reduce_on_the_side)));
    assert_true(is_right(after(s, "ahead", 0, reduce_on_the_side)));
    assert_false(is_right(after(s, "held", FORK, reduce_on_the_side)));
    assert_false(is_right(after(s, "ahead", FORK, reduce_on_the_side)));
    assert_false(is_right(after(s, "held", JOIN, reduce_on_the_side)));
    assert_true(is_right(after(s, "held", 0, replay_reduction)));
    assert_true(is_right(after(s, "ahead", 0, replay_reduction)));
    assert_int_equal(ncclCommDestroy(comm), ncclSuccess);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(work_waits_for_the_host, stage_open, stage_close),
        cmocka_unit_test_setup_teardown(queries_make_progress, stage_open, stage_close),
        cmocka_unit_test_setup_teardown(a_missing_wait_is_seen, stage_open, stage_close),
        cmocka_unit_test_setup_teardown(orders_take_turns, stage_open, stage_close),
        cmocka_unit_test_setup_teardown(replays_keep_the_edges_and_no_others, stage_open, stage_close),
        cmocka_unit_test_setup_teardown(captures_record_and_run_nothing, stage_open, stage_close),
        cmocka_unit_test_setup_teardown(what_a_capture_refuses, stage_open, stage_close),
        cmocka_unit_test_setup_teardown(collectives_keep_waits_too, stage_open, stage_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

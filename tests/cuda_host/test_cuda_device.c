/*
 * The CUDA device around its operations, on the emulated run time: which devices there are, memory, transfers, captured
 * graphs, the workspace; and that the emulation catches what it is there to catch.
 */
#include "kernels/collective.h"
#include "kernels/ops.h"
#include "kernels/planning.h"
#include "tests/unit/fixture.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { N = 1000 };

static lemoe_device *device;
static void *blocks[64];
static int n_block;

static int open_device(void **state) {
    (void)state;
    n_block = 0;
    return lemoe_device_open("cuda", 1, &device) != LEMOE_OK;
}
static int close_device(void **state) {
    (void)state;
    while (n_block > 0) lemoe_device_free(device, blocks[--n_block]);
    lemoe_device_close(device);
    return 0;
}

static lemoe_tensor tensor(int64_t rows, int64_t columns, float value) {
    lemoe_tensor t = lemoe_tensor_2d(NULL, LEMOE_F32, rows, columns);
    float *values = NULL;
    assert_ok(lemoe_mem_alloc(rows * columns, sizeof *values, &values));
    for (int64_t i = 0; i < rows * columns; i++) values[i] = value;
    assert_ok(lemoe_device_alloc(device, lemoe_tensor_bytes(&t), &t.data));
    blocks[n_block++] = t.data;
    assert_ok(lemoe_device_upload(device, t.data, values, lemoe_tensor_bytes(&t)));
    lemoe_mem_free(values);
    return t;
}

static float first_of(lemoe_tensor t) {
    float value = 0;
    assert_ok(lemoe_device_download(device, &value, t.data, sizeof value));
    return value;
}

/* ---- which there are ---- */

static void devices_are_counted_and_told_apart(void **state) {
    lemoe_device_info info[2];
    lemoe_device *none = NULL;
    int n = 0;
    (void)state;
    assert_int_equal(setenv("LEMOE_CUDA_HOST_DEVICES", "2", 1), 0);
    assert_ok(lemoe_device_count("cuda", &n));
    assert_int_equal(n, 2);
    for (int i = 0; i < n; i++) assert_ok(lemoe_device_describe("cuda", i, &info[i]));
    assert_string_not_equal(info[0].id, info[1].id);
    assert_int_equal(strlen(info[0].id), 32);
    assert_non_null(strstr(info[1].name, "emulated device 1"));
    assert_true(info[0].total_bytes > 0);
    assert_error(lemoe_device_open_at("cuda", 2, 1, &none), LEMOE_ERR_ARG, "there are 2");
    assert_ok(lemoe_device_open_at("cuda", 1, 1, &none));
    assert_non_null(strstr(lemoe_device_domain(none), "emulated device 1"));
    lemoe_device_close(none);
    assert_int_equal(setenv("LEMOE_CUDA_HOST_DEVICES", "0", 1), 0);
    assert_error(lemoe_device_count("cuda", &n), LEMOE_ERR_UNSUPPORTED, "no GPU that this process may use");
    assert_error(lemoe_device_open("cuda", 1, &none), LEMOE_ERR_UNSUPPORTED, "no GPU that this process may use");
    assert_int_equal(unsetenv("LEMOE_CUDA_HOST_DEVICES"), 0);
    assert_int_equal(setenv("LEMOE_CUDA_HOST_CAPABILITY", "7", 1), 0);
    assert_error(lemoe_device_count("cuda", &n), LEMOE_ERR_UNSUPPORTED,
                 "has compute capability 7.0, and 8.0 is needed");
    assert_int_equal(unsetenv("LEMOE_CUDA_HOST_CAPABILITY"), 0);
    assert_ok(lemoe_device_count("cpu", &n));
    assert_int_equal(n, 1);
    assert_ok(lemoe_device_describe("cpu", 0, &info[0]));
    assert_string_equal(info[0].id, "");
}

/* The longest there can be, and "products bf16" behind it. */
static void what_changes_bits_is_in_the_domain(void **state) {
    static const char *const names[] = {"NVIDIA_TF32_OVERRIDE", "CUBLAS_EMULATE_SINGLE_PRECISION",
                                        "CUBLAS_EMULATION_STRATEGY"};
    lemoe_device *plain = NULL, *changed = NULL;
    (void)state;
    assert_ok(lemoe_device_open("cuda", 1, &plain));
    assert_null(strstr(lemoe_device_domain(plain), names[0]));
    for (int i = 0; i < 3; i++) assert_int_equal(setenv(names[i], "performant and more", 1), 0);
    assert_ok(lemoe_device_open("cuda", 1, &changed));
    assert_ok(lemoe_device_set_products(changed, LEMOE_PRODUCTS_BF16));
    for (int i = 0; i < 3; i++) assert_non_null(strstr(lemoe_device_domain(changed), names[i]));
    for (int i = 0; i < 3; i++) assert_int_equal(unsetenv(names[i]), 0);
    assert_non_null(strstr(lemoe_device_domain(changed), "CUBLAS_EMULATION_STRATEGY=performant ; kernels "));
    assert_non_null(strstr(lemoe_device_domain(changed), " by g++ "));
    assert_non_null(strstr(lemoe_device_domain(changed), "; products bf16"));
    lemoe_device_close(plain);
    lemoe_device_close(changed);
}

static void what_changes_the_order_of_sums_is_named_with_the_library(void **state) {
    static const char *const names[] = {"NCCL_ALGO", "NCCL_PROTO", "NCCL_MIN_NCHANNELS", "NCCL_MAX_NCHANNELS"};
    lemoe_device_libraries libraries;
    (void)state;
    for (int i = 0; i < 4; i++) assert_int_equal(setenv(names[i], "allreduce:tree", 1), 0);
    assert_ok(lemoe_device_describe_libraries("cuda", &libraries));
    for (int i = 0; i < 4; i++) assert_int_equal(unsetenv(names[i]), 0);
    assert_string_equal(libraries.collective, "NCCL 0.0.0; NCCL_ALGO=allreduce:t; NCCL_PROTO=allreduce:t; "
                                              "NCCL_MIN_NCHANNELS=allreduce:t; NCCL_MAX_NCHANNELS=allreduce:t");
    assert_ok(lemoe_device_describe_libraries("cuda", &libraries));
    assert_string_equal(libraries.collective, "NCCL 0.0.0");
}

/* ---- memory ---- */

static void memory_that_is_not_there(void **state) {
    void *block = NULL;
    size_t free_before = 0, free_after = 0, total = 0;
    (void)state;
    assert_ok(lemoe_device_mem_info(device, &free_before, &total));
    assert_error(lemoe_device_alloc(device, total + 1, &block), LEMOE_ERR_NOMEM, "no GPU memory for");
    assert_ok(lemoe_device_alloc(device, N, &block));
    assert_ok(lemoe_device_mem_info(device, &free_after, &total));
    assert_true(free_after <= free_before - N);
    lemoe_device_free(device, block);
    assert_ok(lemoe_device_mem_info(device, &free_after, &total));
    assert_int_equal(free_after, free_before);
    assert_error(lemoe_device_reserve_workspace(device, total + 1), LEMOE_ERR_NOMEM, "no GPU memory for");
}

/* More of them than there are pinned buffers, and nobody waits in between. */
static void what_was_uploaded_may_be_overwritten(void **state) {
    enum { N_UPLOAD = 7 };
    lemoe_tensor to = tensor(N_UPLOAD, N, 0), sums = tensor(N_UPLOAD, N, 1);
    float values[N];
    (void)state;
    for (int i = 0; i < N_UPLOAD; i++) {
        for (int k = 0; k < N; k++) values[k] = (float)(i + 1);
        lemoe_tensor row = lemoe_tensor_rows(to, i, 1);
        assert_ok(lemoe_device_upload(device, row.data, values, sizeof values));
        assert_ok(lemoe_op_axpy(device, 2.0f, row, lemoe_tensor_rows(sums, i, 1)));
    }
    memset(values, 0, sizeof values);
    for (int i = 0; i < N_UPLOAD; i++) {
        assert_float_equal(first_of(lemoe_tensor_rows(to, i, 1)), i + 1, 0);
        assert_float_equal(first_of(lemoe_tensor_rows(sums, i, 1)), 2 * i + 3, 0);
    }
}

/* Longer than the pieces in which an upload travels, from plain and from pinned memory. */
static void long_uploads_arrive(void **state) {
    const int64_t n = ((int64_t)40 << 20) / 4 + 3;
    uint32_t *plain = NULL, *back = NULL;
    void *pinned = NULL, *block = NULL;
    (void)state;
    assert_ok(lemoe_mem_alloc(n, sizeof *plain, &plain));
    assert_ok(lemoe_mem_alloc(n, sizeof *back, &back));
    for (int64_t i = 0; i < n; i++) plain[i] = (uint32_t)i * 2654435761u;
    size_t n_bytes = (size_t)n * sizeof *plain;
    assert_ok(lemoe_device_host_alloc(device, n_bytes, &pinned));
    memcpy(pinned, plain, n_bytes);
    assert_ok(lemoe_device_alloc(device, n_bytes, &block));
    for (int i = 0; i < 2; i++) {
        assert_ok(lemoe_device_zero(device, block, n_bytes));
        assert_ok(lemoe_device_upload(device, block, i ? pinned : plain, n_bytes));
        memset(back, 0, n_bytes);
        assert_ok(lemoe_device_download(device, back, block, n_bytes));
        assert_memory_equal(back, plain, n_bytes);
    }
    lemoe_device_host_free(device, pinned);
    lemoe_device_host_free(device, NULL);
    lemoe_device_free(device, block);
    lemoe_mem_free(plain);
    lemoe_mem_free(back);
}

/* What a device that plans says of an operation's room is what the operation takes. */
static size_t planned_room, taken_room;
static void compare_room(lemoe_products products, lemoe_status (*op)(lemoe_device *on)) {
    lemoe_device *planning = NULL, *fresh = NULL, *keep = device;
    assert_ok(lemoe_planning_device_open(false, products, &planning));
    assert_ok(lemoe_device_open("cuda", 1, &fresh));
    assert_ok(lemoe_device_set_products(fresh, products));
    device = fresh;
    assert_ok(op(planning));
    assert_ok(op(fresh));
    assert_ok(lemoe_device_sync(fresh));
    planned_room = lemoe_device_workspace_bytes(planning);
    taken_room = lemoe_device_workspace_bytes(fresh);
    assert_int_equal(planned_room, taken_room);
    lemoe_device_release_workspace(fresh);
    assert_int_equal(lemoe_device_workspace_bytes(fresh), 0);
    device = keep;
    lemoe_device_close(planning);
    lemoe_device_close(fresh);
}

static lemoe_tensor wide_x, wide_w, wide_y; /* [700, 900], [600, 900], [700, 600] */
static lemoe_status multiply_fp32(lemoe_device *on) { return lemoe_op_linear(on, wide_x, wide_w, wide_y, false); }
static lemoe_status multiply_exactly(lemoe_device *on) {
    return lemoe_op_exact_linear(on, wide_x, wide_w, wide_y, false);
}
static lemoe_status multiply_stored(lemoe_device *on, lemoe_dtype dtype) {
    lemoe_tensor w = lemoe_tensor_2d(wide_w.data, dtype, wide_w.shape[0], wide_w.shape[1]);
    return lemoe_op_linear(on, wide_x, w, wide_y, false);
}
static lemoe_status multiply_bf16(lemoe_device *on) { return multiply_stored(on, LEMOE_BF16); }
static lemoe_status multiply_fp16(lemoe_device *on) { return multiply_stored(on, LEMOE_F16); }
static lemoe_status multiply_rounded(lemoe_device *on) {
    lemoe_tensor x = lemoe_tensor_2d(wide_x.data, LEMOE_BF16, wide_x.shape[0], wide_x.shape[1]);
    return lemoe_op_linear(on, x, lemoe_tensor_2d(wide_w.data, LEMOE_BF16, 600, 900), wide_y, false);
}
static lemoe_status gradient_of_weights(lemoe_device *on) {
    return lemoe_op_linear_dw(on, wide_y, wide_x, wide_w, true);
}
static lemoe_status add_squares(lemoe_device *on) {
    double total = 0;
    return lemoe_op_sumsq(on, wide_x, &total);
}

static void planned_room_is_what_is_taken(void **state) {
    enum { MB = 1 << 20 };
    (void)state;
    wide_x = tensor(700, 900, 1.0f), wide_w = tensor(600, 900, 1.0f), wide_y = tensor(700, 600, 1.0f);
    compare_room(LEMOE_PRODUCTS_F32, multiply_fp32);
    assert_int_equal(taken_room, 0);
    compare_room(LEMOE_PRODUCTS_F32, multiply_bf16); /* widened: 2.16 MB */
    assert_int_equal(taken_room, 3 * MB);
    compare_room(LEMOE_PRODUCTS_F32, multiply_fp16);
    assert_int_equal(taken_room, 3 * MB);
    compare_room(LEMOE_PRODUCTS_BF16, multiply_bf16); /* x rounded: 1.26 MB */
    assert_int_equal(taken_room, 2 * MB);
    compare_room(LEMOE_PRODUCTS_BF16, multiply_rounded); /* as they are */
    assert_int_equal(taken_room, 0);
    compare_room(LEMOE_PRODUCTS_BF16, multiply_fp32); /* and w: 1.08 MB */
    assert_int_equal(taken_room, 3 * MB);
    compare_room(LEMOE_PRODUCTS_BF16, multiply_exactly);
    assert_int_equal(taken_room, 0);
    compare_room(LEMOE_PRODUCTS_BF16, gradient_of_weights);
    assert_int_equal(taken_room, 3 * MB);
    compare_room(LEMOE_PRODUCTS_BF16, add_squares);
    assert_int_equal(taken_room, MB);
}

/* ---- captured work ---- */

/* y += a x, then c = x w with w as bf16: a kernel, and a product that needs workspace. */
static lemoe_status work(lemoe_tensor x, lemoe_tensor y, lemoe_tensor w, lemoe_tensor c) {
    LEMOE_TRY(lemoe_op_axpy(device, 0.5f, x, y));
    return lemoe_op_linear(device, y, w, c, false);
}

static void captured_work_runs_when_replayed(void **state) {
    lemoe_tensor x = tensor(4, 8, 2.0f), y = tensor(4, 8, 1.0f), wide = tensor(3, 8, 0.25f), c = tensor(4, 3, -1.0f);
    lemoe_tensor w = lemoe_tensor_2d(tensor(3, 4, 0).data, LEMOE_BF16, 3, 8);
    lemoe_graph *graph = NULL;
    (void)state;
    assert_true(lemoe_device_can_capture(device));
    assert_ok(lemoe_op_cast(device, wide, w));
    assert_ok(work(x, y, w, c)); /* plainly first: the workspace grows */
    assert_true(lemoe_device_workspace_bytes(device) > 0);
    assert_true(first_of(y) == 2.0f && first_of(c) == 4.0f);
    assert_ok(lemoe_device_capture_begin(device));
    assert_ok(work(x, y, w, c));
    assert_ok(lemoe_device_capture_end(device, &graph));
    assert_true(first_of(y) == 2.0f && first_of(c) == 4.0f); /* recorded, not run */
    for (int i = 1; i <= 3; i++) {
        assert_ok(lemoe_graph_replay(device, graph));
        assert_true(first_of(y) == 2.0f + (float)i && first_of(c) == 4.0f + 2.0f * (float)i);
    }
    /* a workspace that grows leaves the graph its own */
    assert_ok(lemoe_device_reserve_workspace(device, (size_t)64 << 20));
    assert_ok(lemoe_graph_replay(device, graph));
    assert_true(first_of(c) == 12.0f);
    lemoe_graph_destroy(device, graph);
    lemoe_graph_destroy(device, NULL);
}

static void what_cannot_be_captured_says_so(void **state) {
    lemoe_tensor x = tensor(64, 64, 1.0f), c = tensor(64, 64, 0.0f);
    lemoe_tensor w = lemoe_tensor_2d(x.data, LEMOE_BF16, 64, 64);
    lemoe_graph *graph = NULL;
    double sum = 0;
    int64_t bad = 0;
    float value = 0;
    void *block = NULL;
    (void)state;
    assert_int_equal(lemoe_device_workspace_bytes(device), 0);
    assert_ok(lemoe_device_capture_begin(device));
    assert_error(lemoe_op_sumsq(device, x, &sum), LEMOE_ERR_STATE, "sumsq: not while a graph is captured");
    assert_error(lemoe_op_count_nonfinite(device, x, &bad), LEMOE_ERR_STATE, "count_nonfinite");
    assert_error(lemoe_device_download(device, &value, x.data, sizeof value), LEMOE_ERR_STATE, "download");
    assert_error(lemoe_device_upload(device, x.data, &value, sizeof value), LEMOE_ERR_STATE, "upload");
    assert_error(lemoe_device_alloc(device, 1, &block), LEMOE_ERR_STATE, "alloc");
    assert_error(lemoe_device_sync(device), LEMOE_ERR_STATE, "sync");
    assert_error(lemoe_device_capture_begin(device), LEMOE_ERR_STATE, "capture");
    assert_error(lemoe_op_linear(device, x, w, c, false), LEMOE_ERR_STATE, "run it once plainly before");
    assert_ok(lemoe_device_capture_end(device, &graph));
    lemoe_graph_destroy(device, graph);
    assert_error(lemoe_device_capture_end(device, &graph), LEMOE_ERR_STATE, "nothing is captured");
    assert_ok(lemoe_op_linear(device, x, w, c, false));
    assert_ok(lemoe_device_sync(device));
}

static void the_cpu_captures_nothing(void **state) {
    lemoe_device *cpu = NULL;
    lemoe_graph *graph = NULL;
    (void)state;
    assert_ok(lemoe_device_open("cpu", 1, &cpu));
    assert_false(lemoe_device_can_capture(cpu));
    assert_false(lemoe_device_is_lost(cpu));
    assert_error(lemoe_device_capture_begin(cpu), LEMOE_ERR_UNSUPPORTED, "run the operations plainly");
    assert_error(lemoe_device_capture_end(cpu, &graph), LEMOE_ERR_UNSUPPORTED, "captures nothing");
    assert_ok(lemoe_device_reserve_workspace(cpu, N));
    assert_int_equal(lemoe_device_workspace_bytes(cpu), 0);
    lemoe_device_close(cpu);
}

/* ---- collectives (those of several ranks: tests/parallel/parallel_direct.c) ---- */

static void the_cpu_has_no_collectives(void **state) {
    lemoe_device *cpu = NULL;
    lemoe_collective_id id = {{0}};
    lemoe_collective *collective = NULL;
    (void)state;
    assert_ok(lemoe_device_open("cpu", 1, &cpu));
    assert_false(lemoe_collective_offered(cpu));
    assert_error(lemoe_collective_unique_id(cpu, &id), LEMOE_ERR_UNSUPPORTED, "device cpu has no collectives");
    assert_error(lemoe_collective_open(cpu, &id, 0, 1, &collective), LEMOE_ERR_UNSUPPORTED, "no collectives");
    lemoe_collective_abort(cpu, NULL);
    lemoe_collective_close(cpu, NULL);
    lemoe_device_close(cpu);
}

static void a_group_of_one_keeps_what_it_has(void **state) {
    lemoe_tensor x = tensor(5, 3, 2.0f), y = tensor(5, 3, 0.0f), short_one = tensor(2, 2, 0.0f);
    lemoe_collective_id id = {{0}};
    lemoe_collective *group = NULL;
    (void)state;
    assert_true(lemoe_collective_offered(device));
    assert_error(lemoe_collective_open(device, &id, 1, 1, &group), LEMOE_ERR_ARG, "rank 1 of 1");
    assert_error(lemoe_collective_open(device, &id, 0, 1, &group), LEMOE_ERR_COMM, "does not connect rank 0 of 1");
    assert_ok(lemoe_collective_unique_id(device, &id));
    assert_ok(lemoe_collective_open(device, &id, 0, 1, &group));
    assert_ok(lemoe_collective_allreduce(device, group, LEMOE_REDUCE_SUM, x));
    assert_ok(lemoe_collective_allgather(device, group, x, y));
    assert_ok(lemoe_collective_broadcast(device, group, 0, y));
    assert_true(first_of(y) == 2.0f);
    assert_error(lemoe_collective_allgather(device, group, x, short_one), LEMOE_ERR_SHAPE, "allgather");
    lemoe_tensor on_host = lemoe_tensor_1d(&id, LEMOE_F32, 2);
    assert_error(lemoe_collective_broadcast(device, group, 0, on_host), LEMOE_ERR_COMM, "not memory of the device");
    assert_error(lemoe_collective_broadcast(device, group, 1, y), LEMOE_ERR_ARG, "from rank 1 of 1");
    lemoe_collective_close(device, group);
}

/* ---- what the emulation catches ---- */

/* How a child that runs `body` ends: the signal, or 0. */
static int signal_of(void (*body)(void)) {
    pid_t child = fork();
    if (child == 0) {
        struct rlimit no_core = {0, 0};
        (void)setrlimit(RLIMIT_CORE, &no_core);
        (void)fclose(stderr);
        (void)signal(SIGSEGV, SIG_DFL); /* cmocka catches them */
        (void)signal(SIGABRT, SIG_DFL);
        body();
        _exit(EXIT_SUCCESS);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static lemoe_tensor shared_tensor;

static void host_reads_device_memory(void) { exit(((volatile float *)shared_tensor.data)[0] > 0.0f); }

/* A tensor that claims one row more than its block: scale writes behind it, and free notices. */
static void kernel_writes_behind_a_block(void) {
    lemoe_tensor longer = shared_tensor;
    longer.shape[0]++;
    (void)!lemoe_op_scale(device, 2.0f, longer);
    lemoe_device_free(device, shared_tensor.data);
}

static void mistakes_end_the_process(void **state) {
    (void)state;
    shared_tensor = tensor(5, 3, 1.0f);
    assert_int_equal(signal_of(host_reads_device_memory), SIGSEGV);
    assert_int_equal(signal_of(kernel_writes_behind_a_block), SIGABRT);
    assert_true(first_of(shared_tensor) == 1.0f); /* in the children only */
}

/* Host memory where device memory is due, and the other way round, is an error and not a copy. */
static void transfers_check_their_sides(void **state) {
    lemoe_tensor x = tensor(2, 2, 1.0f);
    float host[4] = {0};
    (void)state;
    assert_error(lemoe_device_upload(device, host, host, sizeof host), LEMOE_ERR_DEVICE, "invalid argument");
    assert_error(lemoe_device_download(device, x.data, x.data, sizeof host), LEMOE_ERR_DEVICE, "invalid argument");
    assert_error(lemoe_device_copy(device, x.data, host, sizeof host), LEMOE_ERR_DEVICE, "invalid argument");
    assert_error(lemoe_device_zero(device, host, sizeof host), LEMOE_ERR_DEVICE, "invalid argument");
}

/* ---- failures that the device survives, and others ---- */

static void a_refused_launch_is_not_the_last(void **state) {
    lemoe_tensor x = tensor(2, 2, 1.0f);
    (void)state;
    assert_int_equal(setenv("LEMOE_CUDA_HOST_REFUSES", "1", 1), 0);
    assert_error(lemoe_op_scale(device, 2.0f, x), LEMOE_ERR_DEVICE, "invalid configuration");
    assert_int_equal(unsetenv("LEMOE_CUDA_HOST_REFUSES"), 0);
    assert_false(lemoe_device_is_lost(device));
    assert_string_equal(lemoe_error_message() + strlen("scale: "), "invalid configuration argument (cudaError)");
    assert_ok(lemoe_op_scale(device, 2.0f, x));
    assert_true(first_of(x) == 2.0f);
}

static void require(bool condition) {
    if (!condition) abort();
}

/* Every call fails from then on, and closing ends. */
static void the_device_breaks(void) {
    lemoe_graph *graph = NULL;
    float host[4] = {0};
    void *block = NULL;
    (void)alarm(60);
    require(setenv("LEMOE_CUDA_HOST_BREAKS", "2", 1) == 0);
    require(lemoe_op_scale(device, 2.0f, shared_tensor) == LEMOE_OK);
    require(lemoe_device_capture_begin(device) == LEMOE_OK);
    require(lemoe_op_scale(device, 2.0f, shared_tensor) == LEMOE_OK);
    require(lemoe_device_capture_end(device, &graph) == LEMOE_OK && !lemoe_device_is_lost(device));
    require(lemoe_graph_replay(device, graph) == LEMOE_OK); /* it notices later, where somebody waits */
    require(lemoe_device_sync(device) == LEMOE_ERR_DEVICE && lemoe_device_is_lost(device));
    require(strstr(lemoe_error_message(), "an illegal memory access was encountered"));
    require(lemoe_device_alloc(device, sizeof host, &block) == LEMOE_ERR_DEVICE);
    require(lemoe_device_upload(device, shared_tensor.data, host, sizeof host) == LEMOE_ERR_DEVICE);
    require(lemoe_device_download(device, host, shared_tensor.data, sizeof host) == LEMOE_ERR_DEVICE);
    require(lemoe_op_scale(device, 2.0f, shared_tensor) == LEMOE_ERR_DEVICE);
    require(lemoe_device_capture_begin(device) == LEMOE_ERR_DEVICE && lemoe_device_is_lost(device));
    lemoe_graph_destroy(device, graph);
    lemoe_device_free(device, shared_tensor.data);
    lemoe_device_close(device);
    require(lemoe_device_open("cuda", 1, &device) != LEMOE_OK);
}

static void a_broken_device_is_lost_to_its_process(void **state) {
    (void)state;
    shared_tensor = tensor(2, 2, 1.0f);
    assert_int_equal(signal_of(the_device_breaks), 0);
    assert_false(lemoe_device_is_lost(device)); /* to another it is not */
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(devices_are_counted_and_told_apart),
        cmocka_unit_test(what_changes_bits_is_in_the_domain),
        cmocka_unit_test(what_changes_the_order_of_sums_is_named_with_the_library),
        cmocka_unit_test(the_cpu_captures_nothing),
        cmocka_unit_test(the_cpu_has_no_collectives),
        cmocka_unit_test_setup_teardown(memory_that_is_not_there, open_device, close_device),
        cmocka_unit_test_setup_teardown(what_was_uploaded_may_be_overwritten, open_device, close_device),
        cmocka_unit_test_setup_teardown(long_uploads_arrive, open_device, close_device),
        cmocka_unit_test_setup_teardown(planned_room_is_what_is_taken, open_device, close_device),
        cmocka_unit_test_setup_teardown(captured_work_runs_when_replayed, open_device, close_device),
        cmocka_unit_test_setup_teardown(what_cannot_be_captured_says_so, open_device, close_device),
        cmocka_unit_test_setup_teardown(a_group_of_one_keeps_what_it_has, open_device, close_device),
        cmocka_unit_test_setup_teardown(mistakes_end_the_process, open_device, close_device),
        cmocka_unit_test_setup_teardown(transfers_check_their_sides, open_device, close_device),
        cmocka_unit_test_setup_teardown(a_refused_launch_is_not_the_last, open_device, close_device),
        cmocka_unit_test_setup_teardown(a_broken_device_is_lost_to_its_process, open_device, close_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * Groups of emulated devices, one a process, without MPI (what the runner makes of them: tests/parallel). Values
 * plainly and in replayed graphs, and all that must not go on: ranks that do not call alike, a device that two of them
 * hold, a rank that dies or never comes.
 */
#include "kernels/collective.h"
#include "kernels/ops.h"
#include "tests/unit/fixture.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { N = 500, MAX_RANKS = 4 };

/* A rank's place in its group. */
typedef struct seat {
    int rank, size;
    lemoe_device *device;
    lemoe_collective *group;
    lemoe_tensor x, y, all; /* [N], [N], [size N] */
} seat;

/* What a rank does; whether all was as it should be. It leaves its seat as it found it, or does not come back. */
typedef bool (*part)(seat *s);

#define HOLDS(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            print_error("rank %d: %s:%d %s: %s\n", s->rank, __FILE__, __LINE__, #condition, lemoe_error_message());    \
            return false;                                                                                              \
        }                                                                                                              \
    } while (0)

static lemoe_tensor vector(const seat *s, int64_t n) {
    void *block = NULL;
    if (lemoe_device_alloc(s->device, (size_t)n * sizeof(float), &block) != LEMOE_OK) _exit(EXIT_FAILURE);
    return lemoe_tensor_1d(block, LEMOE_F32, n);
}

/* x[i] = (i % 50) (rank + 1): sums are whole numbers. */
static lemoe_status fill(const seat *s, lemoe_tensor x) {
    float host[N];
    for (int i = 0; i < N; i++) host[i] = (float)((i % 50) * (s->rank + 1));
    return lemoe_device_upload(s->device, x.data, host, sizeof host);
}

/* Whether x[begin + i] == (i % 50) factor. */
static bool is_scaled(const seat *s, lemoe_tensor x, int64_t begin, double factor) {
    float host[MAX_RANKS * N];
    if (lemoe_device_download(s->device, host, x.data, lemoe_tensor_bytes(&x)) != LEMOE_OK) return false;
    for (int i = 0; i < N; i++)
        if ((double)host[begin + i] != (i % 50) * factor) return false;
    return true;
}

/* ---- processes ---- */

static bool sit_down(seat *s, int ids[2], bool on_own_device) {
    lemoe_collective_id id;
    HOLDS(lemoe_device_open_at("cuda", on_own_device ? s->rank : 0, 1, &s->device) == LEMOE_OK);
    if (s->rank == 0) {
        HOLDS(lemoe_collective_unique_id(s->device, &id) == LEMOE_OK);
        for (int r = 1; r < s->size; r++) HOLDS(write(ids[1], &id, sizeof id) == sizeof id);
    } else {
        HOLDS(read(ids[0], &id, sizeof id) == sizeof id);
    }
    if (lemoe_collective_open(s->device, &id, s->rank, s->size, &s->group) != LEMOE_OK) s->group = NULL;
    s->x = vector(s, N), s->y = vector(s, N), s->all = vector(s, (int64_t)s->size * N);
    return true;
}

static void stand_up(seat *s) {
    lemoe_collective_close(s->device, s->group);
    lemoe_device_free(s->device, s->x.data);
    lemoe_device_free(s->device, s->y.data);
    lemoe_device_free(s->device, s->all.data);
    lemoe_device_close(s->device);
}

static void be_rank(int rank, int size, int ids[2], part body, bool on_own_device) {
    struct rlimit no_core = {0, 0};
    seat s = {.rank = rank, .size = size};
    (void)setrlimit(RLIMIT_CORE, &no_core);
    (void)signal(SIGABRT, SIG_DFL); /* cmocka catches it */
    bool holds = sit_down(&s, ids, on_own_device) && body(&s);
    stand_up(&s);
    _exit(holds ? EXIT_SUCCESS : EXIT_FAILURE);
}

/* How the processes of a group end: exit status, or minus the signal. */
static void run_ranks(int size, part body, bool on_own_device, int ends[MAX_RANKS]) {
    int ids[2], status = 0;
    pid_t ranks[MAX_RANKS];
    assert_int_equal(setenv("LEMOE_CUDA_HOST_DEVICES", "4", 1), 0);
    assert_int_equal(pipe(ids), 0);
    for (int r = 0; r < size; r++) {
        ranks[r] = fork();
        if (ranks[r] == 0) be_rank(r, size, ids, body, on_own_device);
    }
    for (int r = 0; r < size; r++) {
        assert_int_equal(waitpid(ranks[r], &status, 0), ranks[r]);
        ends[r] = WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
    }
    (void)close(ids[0]);
    (void)close(ids[1]);
}

static void all_end_with(int size, part body, int end) {
    int ends[MAX_RANKS];
    run_ranks(size, body, true, ends);
    for (int r = 0; r < size; r++) assert_int_equal(ends[r], end);
}

/* ---- values ---- */

static double sum_of_ranks(const seat *s) { return s->size * (s->size + 1) / 2.0; }

static bool every_collective(seat *s) {
    HOLDS(s->group);
    HOLDS(fill(s, s->x) == LEMOE_OK);
    HOLDS(lemoe_collective_allgather(s->device, s->group, s->x, s->all) == LEMOE_OK);
    HOLDS(lemoe_collective_allreduce(s->device, s->group, LEMOE_REDUCE_SUM, s->x) == LEMOE_OK);
    HOLDS(is_scaled(s, s->x, 0, sum_of_ranks(s)));
    for (int r = 0; r < s->size; r++) HOLDS(is_scaled(s, s->all, (int64_t)r * N, r + 1));
    HOLDS(fill(s, s->x) == LEMOE_OK);
    HOLDS(lemoe_collective_allreduce(s->device, s->group, LEMOE_REDUCE_MAX, s->x) == LEMOE_OK);
    HOLDS(is_scaled(s, s->x, 0, s->size));
    HOLDS(fill(s, s->x) == LEMOE_OK);
    HOLDS(lemoe_collective_broadcast(s->device, s->group, s->size - 1, s->x) == LEMOE_OK);
    HOLDS(is_scaled(s, s->x, 0, s->size));
    return true;
}

/* ---- every type: small whole numbers, which each of them holds ---- */

enum { SHORT = 16 };

static void write_typed(lemoe_dtype type, double factor, void *out) {
    float as_float[SHORT];
    for (int i = 0; i < SHORT; i++) {
        double value = i % 8 * factor;
        as_float[i] = (float)value;
        if (type == LEMOE_F64) ((double *)out)[i] = value;
        if (type == LEMOE_I32) ((int32_t *)out)[i] = (int32_t)value;
        if (type == LEMOE_I64) ((int64_t *)out)[i] = (int64_t)value;
    }
    if (type == LEMOE_F32 || type == LEMOE_BF16 || type == LEMOE_F16) lemoe_dtype_from_f32(type, as_float, SHORT, out);
}

static bool every_type(seat *s) {
    HOLDS(s->group);
    for (int type = 0; type < LEMOE_DTYPE_COUNT; type++) {
        for (int max = 0; max < 2; max++) {
            double expected[SHORT], found[SHORT];
            lemoe_tensor x = lemoe_tensor_1d(s->all.data, (lemoe_dtype)type, SHORT);
            write_typed(x.dtype, s->rank + 1, found);
            write_typed(x.dtype, max ? s->size : sum_of_ranks(s), expected);
            HOLDS(lemoe_device_upload(s->device, x.data, found, lemoe_tensor_bytes(&x)) == LEMOE_OK);
            HOLDS(lemoe_collective_allreduce(s->device, s->group, max ? LEMOE_REDUCE_MAX : LEMOE_REDUCE_SUM, x) ==
                  LEMOE_OK);
            HOLDS(lemoe_device_download(s->device, found, x.data, lemoe_tensor_bytes(&x)) == LEMOE_OK);
            HOLDS(memcmp(found, expected, lemoe_tensor_bytes(&x)) == 0);
        }
    }
    return true;
}

/* y = x + the sum of x, then x is doubled: twice a replay with a collective, each of which needs the one before. */
static lemoe_status step(seat *s) {
    LEMOE_TRY(lemoe_device_copy(s->device, s->y.data, s->x.data, lemoe_tensor_bytes(&s->x)));
    LEMOE_TRY(lemoe_collective_allreduce(s->device, s->group, LEMOE_REDUCE_SUM, s->y));
    LEMOE_TRY(lemoe_op_axpy(s->device, 1.0f, s->x, s->y));
    LEMOE_TRY(lemoe_collective_allreduce(s->device, s->group, LEMOE_REDUCE_MAX, s->y));
    return lemoe_op_scale(s->device, 2.0f, s->x);
}

static bool captured_collectives(seat *s) {
    lemoe_graph *graph = NULL;
    double expected = sum_of_ranks(s) + s->size; /* the largest x is the last rank's */
    HOLDS(s->group);
    HOLDS(fill(s, s->x) == LEMOE_OK);
    HOLDS(step(s) == LEMOE_OK);
    HOLDS(is_scaled(s, s->y, 0, expected));
    HOLDS(lemoe_device_capture_begin(s->device) == LEMOE_OK);
    HOLDS(step(s) == LEMOE_OK);
    HOLDS(lemoe_device_capture_end(s->device, &graph) == LEMOE_OK);
    for (int i = 1; i <= 5; i++) {
        HOLDS(lemoe_graph_replay(s->device, graph) == LEMOE_OK);
        HOLDS(is_scaled(s, s->y, 0, expected * (1 << i)));
        HOLDS(i % 2 == 0 || step(s) == LEMOE_OK); /* between replays, plainly */
        HOLDS(i % 2 == 0 || lemoe_op_scale(s->device, 0.5f, s->x) == LEMOE_OK);
    }
    lemoe_graph_destroy(s->device, graph);
    return true;
}

static void values_are_right(void **state) {
    (void)state;
    for (int size = 1; size <= MAX_RANKS; size++) {
        all_end_with(size, every_collective, 0);
        all_end_with(size, every_type, 0);
        all_end_with(size, captured_collectives, 0);
    }
}

/* ---- what must not go on ---- */

static bool unequal_counts(seat *s) {
    s->x.shape[0] -= s->rank;
    (void)!lemoe_collective_allreduce(s->device, s->group, LEMOE_REDUCE_SUM, s->x);
    (void)!lemoe_device_sync(s->device);
    return true;
}

static bool unequal_reductions(seat *s) {
    (void)!lemoe_collective_allreduce(s->device, s->group, s->rank ? LEMOE_REDUCE_SUM : LEMOE_REDUCE_MAX, s->x);
    (void)!lemoe_device_sync(s->device);
    return true;
}

static bool another_order(seat *s) {
    lemoe_tensor half = s->y;
    half.shape[0] /= 2;
    for (int i = 0; i < 2; i++)
        (void)!lemoe_collective_allreduce(s->device, s->group, LEMOE_REDUCE_SUM, i == s->rank ? half : s->x);
    (void)!lemoe_device_sync(s->device);
    return true;
}

/* Real ones wait there for ever. */
static bool a_graph_outlives_its_group(seat *s) {
    lemoe_graph *graph = NULL;
    HOLDS(lemoe_device_capture_begin(s->device) == LEMOE_OK);
    HOLDS(lemoe_collective_allreduce(s->device, s->group, LEMOE_REDUCE_SUM, s->x) == LEMOE_OK);
    HOLDS(lemoe_device_capture_end(s->device, &graph) == LEMOE_OK);
    HOLDS(lemoe_collective_allreduce(s->device, s->group, LEMOE_REDUCE_SUM, s->x) == LEMOE_OK);
    HOLDS(lemoe_device_sync(s->device) == LEMOE_OK); /* all have come so far */
    lemoe_collective_close(s->device, s->group);
    return true;
}

static void disagreement_ends_the_process(void **state) {
    (void)state;
    all_end_with(2, unequal_counts, -SIGABRT);
    all_end_with(2, unequal_reductions, -SIGABRT);
    all_end_with(2, another_order, -SIGABRT);
    all_end_with(2, a_graph_outlives_its_group, -SIGABRT);
}

static bool one_device_for_two(seat *s) {
    HOLDS(!s->group);
    HOLDS(strstr(lemoe_error_message(), "does not connect rank") && strstr(lemoe_error_message(), "Duplicate GPU"));
    return true;
}

static void a_device_belongs_to_one_rank(void **state) {
    int ends[MAX_RANKS];
    (void)state;
    run_ranks(2, one_device_for_two, false, ends);
    assert_true(ends[0] == 0 && ends[1] == 0);
}

/* The last rank is killed between two collectives; whatever the others wait with tells them, before long, and again. */
static bool a_rank_dies(seat *s) {
    float host[N];
    HOLDS(fill(s, s->x) == LEMOE_OK);
    HOLDS(lemoe_collective_allreduce(s->device, s->group, LEMOE_REDUCE_SUM, s->x) == LEMOE_OK);
    HOLDS(is_scaled(s, s->x, 0, sum_of_ranks(s)));
    if (s->rank == s->size - 1) (void)raise(SIGKILL);
    (void)!lemoe_collective_allreduce(s->device, s->group, LEMOE_REDUCE_SUM, s->x); /* may know already, or not */
    HOLDS(lemoe_device_sync(s->device) == LEMOE_ERR_COMM);
    HOLDS(strstr(lemoe_error_message(), "will never end: remote process exited"));
    HOLDS(lemoe_device_download(s->device, host, s->x.data, sizeof host) == LEMOE_ERR_COMM);
    HOLDS(lemoe_device_upload(s->device, s->y.data, host, sizeof host) == LEMOE_ERR_COMM);
    HOLDS(lemoe_collective_allreduce(s->device, s->group, LEMOE_REDUCE_SUM, s->x) == LEMOE_ERR_COMM);
    _exit(EXIT_SUCCESS); /* memory cannot be freed */
}

static bool a_rank_dies_in_a_replay(seat *s) {
    lemoe_graph *graph = NULL;
    HOLDS(lemoe_device_capture_begin(s->device) == LEMOE_OK);
    HOLDS(step(s) == LEMOE_OK);
    HOLDS(lemoe_device_capture_end(s->device, &graph) == LEMOE_OK);
    HOLDS(lemoe_graph_replay(s->device, graph) == LEMOE_OK);
    HOLDS(lemoe_device_sync(s->device) == LEMOE_OK);
    if (s->rank == s->size - 1) (void)raise(SIGKILL);
    HOLDS(lemoe_graph_replay(s->device, graph) == LEMOE_OK);
    HOLDS(lemoe_device_sync(s->device) == LEMOE_ERR_COMM);
    lemoe_graph_destroy(s->device, graph);
    _exit(EXIT_SUCCESS);
}

/* The first rank waits for others in vain, another one for who made the id. */
static bool a_rank_never_comes(seat *s) {
    lemoe_collective_id id = {.bytes = "nobody"};
    lemoe_collective *second = NULL;
    HOLDS(s->rank > 0 || lemoe_collective_unique_id(s->device, &id) == LEMOE_OK);
    HOLDS(lemoe_collective_open(s->device, &id, s->rank, s->size, &second) == LEMOE_ERR_COMM);
    HOLDS(strstr(lemoe_error_message(), s->rank ? "that made the id is not there" : "1 of 2 ranks came"));
    return true;
}

static void the_others_are_told(void **state) {
    int ends[MAX_RANKS];
    (void)state;
    for (int size = 2; size <= 3; size++) {
        run_ranks(size, a_rank_dies, true, ends);
        for (int r = 0; r < size; r++) assert_int_equal(ends[r], r == size - 1 ? -SIGKILL : 0);
    }
    run_ranks(2, a_rank_dies_in_a_replay, true, ends);
    assert_true(ends[0] == 0 && ends[1] == -SIGKILL);
    assert_int_equal(setenv("LEMOE_CUDA_HOST_SECONDS", "1", 1), 0);
    all_end_with(2, a_rank_never_comes, 0);
    assert_int_equal(unsetenv("LEMOE_CUDA_HOST_SECONDS"), 0);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_right),
        cmocka_unit_test(disagreement_ends_the_process),
        cmocka_unit_test(a_device_belongs_to_one_rank),
        cmocka_unit_test(the_others_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

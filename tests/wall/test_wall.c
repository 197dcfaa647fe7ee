/* The wall itself: what is behind it cannot be touched, and both ways of mixing up pointers end a program. */
#include "kernels/arena.h"
#include "kernels/ops.h"
#include "tests/unit/fixture.h"
#include "tests/wall/wall.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static lemoe_device *device;
static float *block;

static int open_device(void **state) {
    (void)state;
    return lemoe_device_open("cpu", 1, &device) != LEMOE_OK ||
           lemoe_device_alloc(device, 4 * sizeof(float), (void **)&block) != LEMOE_OK;
}
static int close_device(void **state) {
    (void)state;
    lemoe_device_free(device, block);
    lemoe_device_close(device);
    return 0;
}

static void read_it(void) { _exit(*(volatile float *)block > 0.0f); }
static void write_it(void) { *(volatile float *)block = 1.0f; }
static void compute_on_host_memory(void) {
    float values[4] = {0};
    (void)!lemoe_op_scale(device, 2.0f, lemoe_tensor_1d(values, LEMOE_F32, 4));
}
static void upload_from_device_memory(void) { (void)!lemoe_device_upload(device, block, block, sizeof(float)); }

/* The signal that ends a child which does that. */
static int signal_of(void (*deed)(void)) {
    int ending = 0;
    pid_t child = fork();
    if (child == 0) {
        (void)signal(SIGSEGV, SIG_DFL); /* a sanitizer would turn it into an exit */
        (void)close(STDERR_FILENO);
        deed();
        _exit(0);
    }
    assert_true(child > 0 && waitpid(child, &ending, 0) == child);
    return WIFSIGNALED(ending) ? WTERMSIG(ending) : 0;
}

static void cannot_be_touched(void **state) {
    (void)state;
    assert_false(lemoe_device_is_host(device));
    assert_int_equal(signal_of(read_it), SIGSEGV);
    assert_int_equal(signal_of(write_it), SIGSEGV);
    assert_int_equal(signal_of(compute_on_host_memory), SIGABRT);
    assert_int_equal(signal_of(upload_from_device_memory), SIGABRT);
}

static void computes_and_counts(void **state) {
    static const float two[4] = {1, 2, 3, 4};
    float out[4] = {0};
    (void)state;
    wall_count = (wall_counts){0};
    assert_ok(lemoe_device_upload(device, block, two, sizeof two));
    assert_ok(lemoe_op_scale(device, 2.0f, lemoe_tensor_1d(block, LEMOE_F32, 4)));
    assert_ok(lemoe_device_download(device, out, block, sizeof out));
    for (int i = 0; i < 4; i++) assert_true(out[i] == 2 * two[i]);
    assert_int_equal(wall_count.n_upload, 1);
    assert_int_equal(wall_count.n_download, 1);
    assert_int_equal(wall_count.n_op, 1);
    assert_int_equal(wall_count.upload_bytes, sizeof two);
}

/* Host memory of an arena lives and ends with what else it hands out. */
static void arenas_hand_out_host_memory_too(void **state) {
    lemoe_arena *arena = NULL;
    int64_t *first = NULL, *second = NULL, *again = NULL;
    void *device_memory = NULL;
    (void)state;
    assert_ok(lemoe_arena_create(device, 4096, &arena));
    assert_ok(lemoe_arena_host(arena, 100 * sizeof *first, &first));
    for (int i = 0; i < 100; i++) first[i] = i;
    size_t mark = lemoe_arena_mark(arena);
    for (int round = 0; round < 3; round++) {
        assert_ok(lemoe_arena_host(arena, 1000 * sizeof *second, round ? &again : &second));
        if (round) assert_ptr_equal(again, second); /* kept for the next use */
        memset(round ? again : second, 0xff, 1000 * sizeof *second);
        assert_ok(lemoe_arena_alloc(arena, 64, &device_memory));
        assert_ok(lemoe_device_zero(device, device_memory, 64));
        lemoe_arena_reset(arena, mark);
        assert_int_equal(lemoe_arena_used_bytes(arena), mark);
    }
    for (int i = 0; i < 100; i++) assert_int_equal(first[i], i);
    assert_int_equal((uintptr_t)first % 256, 0);
    lemoe_arena_destroy(arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cannot_be_touched),
        cmocka_unit_test(computes_and_counts),
        cmocka_unit_test(arenas_hand_out_host_memory_too),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}

/*
 * Signals in the middle of matrix products: a child rains SIGUSR1 on this process while it multiplies, on one thread
 * and on several, and every product has the bits of one that was left alone. Library code may keep data below its stack
 * pointer, where a handler's frame would be written.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernels/base/rng.h"
#include "kernels/ops.h"
#include "runner/io/signals.h"

enum { N_TOK = 40, WIDE = 352, NARROW = 128, N_ROUND = 1500 };

static float *numbers(lemoe_device *device, int64_t n, uint32_t stream) {
    float *out = malloc((size_t)n * sizeof *out);
    assert_non_null(out);
    lemoe_fill_args fill = {.x = lemoe_tensor_2d(out, LEMOE_F32, 1, n),
                            .rng = lemoe_rng_make(7, LEMOE_RNG_TEST, stream),
                            .std = 1,
                            .n_columns = n};
    assert_int_equal(lemoe_op_fill_normal(device, &fill), LEMOE_OK);
    return out;
}

/* Sends signals until it is killed. */
static pid_t begin_rain(void) {
    pid_t target = getpid(), child = fork();
    assert_true(child >= 0);
    if (child > 0) return child;
    for (;;) {
        const struct timespec pause = {0, 20000};
        (void)nanosleep(&pause, NULL);
        if (kill(target, SIGUSR1) != 0) _exit(0);
    }
}

static void end_rain(pid_t child) {
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
}

/* The three products of a linear layer, into y, dx and dw one behind the other. */
static void multiply(lemoe_device *device, float *x, float *w, float *dy, float *out) {
    lemoe_tensor tx = lemoe_tensor_2d(x, LEMOE_F32, N_TOK, WIDE), tw = lemoe_tensor_2d(w, LEMOE_F32, NARROW, WIDE);
    lemoe_tensor tdy = lemoe_tensor_2d(dy, LEMOE_F32, N_TOK, NARROW);
    float *dx = out + N_TOK * NARROW, *dw = dx + N_TOK * WIDE;
    assert_int_equal(lemoe_op_linear(device, tx, tw, lemoe_tensor_2d(out, LEMOE_F32, N_TOK, NARROW), false), LEMOE_OK);
    assert_int_equal(lemoe_op_linear_dx(device, tdy, tw, lemoe_tensor_2d(dx, LEMOE_F32, N_TOK, WIDE), false), LEMOE_OK);
    assert_int_equal(lemoe_op_linear_dw(device, tdy, tx, lemoe_tensor_2d(dw, LEMOE_F32, NARROW, WIDE), false),
                     LEMOE_OK);
}

static void products_survive_signals(int n_threads) {
    enum { N_OUT = N_TOK * NARROW + N_TOK * WIDE + NARROW * WIDE };
    lemoe_device *device = NULL;
    assert_int_equal(lemoe_signals_install(), LEMOE_OK);
    lemoe_signals_hold();
    assert_int_equal(lemoe_device_open("cpu", n_threads, &device), LEMOE_OK);
    float *x = numbers(device, N_TOK * WIDE, 0), *w = numbers(device, NARROW * WIDE, 1);
    float *dy = numbers(device, N_TOK * NARROW, 2), *calm = malloc(N_OUT * sizeof(float));
    float *stormy = malloc(N_OUT * sizeof(float));
    assert_non_null(calm);
    assert_non_null(stormy);
    multiply(device, x, w, dy, calm);
    pid_t child = begin_rain();
    for (int i = 0; i < N_ROUND; i++) {
        multiply(device, x, w, dy, stormy);
        if (memcmp(calm, stormy, N_OUT * sizeof(float)) != 0) fail_msg("round %d has other bits", i);
    }
    end_rain(child);
    assert_int_equal(lemoe_signals_pending(), SIGUSR1); /* some arrived */
    lemoe_signals_restore();
    free(x), free(w), free(dy), free(calm), free(stormy);
    lemoe_device_close(device);
}

/* The pool of threads grows with each, under the hold. */
static void one_thread(void **state) { (void)state, products_survive_signals(1); }
static void two_threads(void **state) { (void)state, products_survive_signals(2); }
static void four_threads(void **state) { (void)state, products_survive_signals(4); }

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(one_thread), cmocka_unit_test(two_threads),
                                       cmocka_unit_test(four_threads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "runner/io/signals.h"

static void each_signal_is_remembered(void **state) {
    (void)state;
    const int numbers[] = {SIGUSR1, SIGINT, SIGTERM};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(lemoe_signals_install(), LEMOE_OK);
        assert_int_equal(lemoe_signals_pending(), 0);
        assert_int_equal(raise(numbers[i]), 0);
        assert_int_equal(lemoe_signals_pending(), numbers[i]);
    }
    lemoe_signals_restore();
}

/* A held signal interrupts nothing, and is found where it is looked for; after the end it does no harm. */
static void held_signals_are_found(void **state) {
    (void)state;
    sigset_t waiting;
    assert_int_equal(lemoe_signals_install(), LEMOE_OK);
    lemoe_signals_hold();
    assert_int_equal(kill(getpid(), SIGUSR1), 0);
    assert_int_equal(sigpending(&waiting), 0);
    assert_true(sigismember(&waiting, SIGUSR1));
    assert_int_equal(lemoe_signals_pending(), SIGUSR1);
    assert_int_equal(lemoe_signals_pending(), SIGUSR1); /* from then on */
    assert_int_equal(kill(getpid(), SIGTERM), 0);
    lemoe_signals_restore();
    assert_int_equal(sigpending(&waiting), 0);
    assert_false(sigismember(&waiting, SIGTERM));
}

/* Where nobody reads any more, writing fails; it does not end the process. */
static void a_closed_pipe_is_an_error(void **state) {
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(lemoe_signals_install(), LEMOE_OK);
    (void)close(ends[0]);
    assert_int_equal(write(ends[1], "x", 1), -1);
    assert_int_equal(errno, EPIPE);
    (void)close(ends[1]);
    lemoe_signals_restore();
}

static int seen;
static void see(int number) { seen = number; }

static void what_was_there_comes_back(void **state) {
    (void)state;
    assert_true(signal(SIGUSR1, see) != SIG_ERR);
    assert_int_equal(lemoe_signals_install(), LEMOE_OK);
    (void)raise(SIGUSR1);
    assert_int_equal(seen, 0);
    lemoe_signals_restore();
    lemoe_signals_restore();
    (void)raise(SIGUSR1);
    assert_int_equal(seen, SIGUSR1);
}

/* Without handlers SIGTERM ends a process; so the first test does show something. */
static void restored_term_ends_the_process(void **state) {
    (void)state;
    pid_t child = fork();
    if (child == 0) {
        if (lemoe_signals_install() != LEMOE_OK) _exit(1);
        lemoe_signals_restore();
        (void)raise(SIGTERM);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_signal_is_remembered), cmocka_unit_test(held_signals_are_found),
        cmocka_unit_test(a_closed_pipe_is_an_error), cmocka_unit_test(what_was_there_comes_back),
        cmocka_unit_test(restored_term_ends_the_process)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

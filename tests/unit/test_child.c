/* A child process does its work, dies, or does not end: what its parent gets of it. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernels/base/clock.h"
#include "runner/io/child.h"

static const double soon = 60;

/* Sends so many numbers, then does what is asked. */
typedef struct order {
    int n;
    enum { LEAVE, FAULT, FAIL, HANG } then;
} order;

static void work(void *context, int link) {
    const order *o = context;
    for (int i = 0; i < o->n; i++)
        if (!lemoe_child_send(link, &i, sizeof i)) return;
    if (o->then == FAULT) (void)raise(SIGSEGV);
    if (o->then == FAIL) _exit(3);
    while (o->then == HANG) (void)pause();
}

static int count(lemoe_child *child, double seconds) {
    int n = 0;
    for (int number; lemoe_child_receive(child, &number, sizeof number, lemoe_clock_seconds() + seconds); n++)
        assert_int_equal(number, n);
    return n;
}

static lemoe_child_ending ending_of(order o, double seconds, int *how) {
    lemoe_child *child = NULL;
    assert_int_equal(lemoe_child_start(work, &o, &child), LEMOE_OK);
    assert_int_equal(count(child, seconds), o.n);
    return lemoe_child_end(child, how);
}

/* More than a pipe holds, so that the child waits for its reader meanwhile. */
static void work_that_ends(void **state) {
    (void)state;
    int how = 1;
    assert_int_equal(ending_of((order){100000, LEAVE}, soon, &how), LEMOE_CHILD_DONE);
    assert_int_equal(how, 0);
}

static void answers_before_a_death_count(void **state) {
    (void)state;
    int how = 0;
    char text[80];
    assert_int_equal(ending_of((order){7, FAULT}, soon, &how), LEMOE_CHILD_DIED);
    lemoe_child_describe(how, text, sizeof text);
    assert_string_equal(text, "killed by signal 11 (Segmentation fault)");
    assert_int_equal(ending_of((order){0, FAIL}, soon, &how), LEMOE_CHILD_DIED);
    lemoe_child_describe(how, text, sizeof text);
    assert_string_equal(text, "ended with status 3");
}

static void work_without_end_is_stopped(void **state) {
    (void)state;
    int how = 0;
    assert_int_equal(ending_of((order){3, HANG}, 0.2, &how), LEMOE_CHILD_STOPPED);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(work_that_ends), cmocka_unit_test(answers_before_a_death_count),
                                       cmocka_unit_test(work_without_end_is_stopped)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * How a team's last run ends while messages about its next one are on their way. On one rank the order of events is the
 * stand-in's own, so each race is played move by move, not waited for.
 */
#include "kernels/base/log.h"
#include "runner/io/signals.h"
#include "runner/sweep/coordinator.h"
#include "runner/sweep/worker.h"
#include "tests/sweep/stand_in_sweep.h"

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

enum { N_RUN = 4 };

/* What the first run does; the others, if they begin, end well at once. */
static struct script {
    bool is_told_next; /* the coordinator has handed the next run out before this one ends */
    int signal;        /* arrives then */
    lemoe_status ends_with;
    int n_begun;
} script; /* a stand-in has no context of its own */

static lemoe_status play(const lemoe_run_args *args) {
    lemoe_run_progress progress = {
        .phase = "editing", .n_batch = 10, .n_batch_done = 9, .loss = NAN, .immediate = {NAN, NAN, NAN}
    };
    if (script.n_begun++ > 0) return LEMOE_OK;
    args->report(args->report_context, &progress); /* late enough for the coordinator to hand out the next */
    if (script.is_told_next) {
        const struct timespec until_due = {0, 50000000};
        (void)nanosleep(&until_due, NULL);
        lemoe_tick_now(args->world->tick);
    }
    if (script.signal) (void)raise(script.signal);
    return script.ends_with == LEMOE_OK ? LEMOE_OK : lemoe_raise(script.ends_with, "as the script says");
}

static lemoe_launch *launch;

static lemoe_status work(lemoe_sweep *sweep, const char *folder, int64_t *n_ended, bool *was_interrupted) {
    lemoe_status status = LEMOE_OK;
    lemoe_estimates *estimates = NULL;
    lemoe_coordinator *coordinator = NULL;
    LEMOE_TRY_GOTO(lemoe_estimates_open(folder, &estimates));
    lemoe_coordinator_args args = {launch, sweep, estimates, LEMOE_PROGRESS_NONE};
    LEMOE_TRY_GOTO(lemoe_coordinator_create(&args, &coordinator));
    lemoe_worker_args worker = {launch, sweep, coordinator, play};
    LEMOE_TRY_GOTO(lemoe_worker_run(&worker));
    for (int64_t i = 0; i < sweep->n_run; i++) *n_ended += lemoe_coordinator_ending(coordinator, i).has_begun;
    *was_interrupted = lemoe_coordinator_was_interrupted(coordinator);
out:
    lemoe_coordinator_destroy(coordinator);
    lemoe_estimates_close(estimates);
    return status;
}

static void expect(int64_t n_begun, bool is_interrupted, bool fail_fast) {
    lemoe_sweep sweep = {0};
    char folder[] = "/tmp/lemoe-test-XXXXXX", command[64];
    int64_t n_ended = 0;
    bool was_interrupted = false;
    assert_non_null(mkdtemp(folder));
    assert_int_equal(lemoe_signals_install(), LEMOE_OK);
    assert_int_equal(stand_in_sweep(&sweep, folder, N_RUN, 1), LEMOE_OK);
    sweep.fail_fast = fail_fast;
    lemoe_status status = work(&sweep, folder, &n_ended, &was_interrupted);
    if (status != LEMOE_OK) print_error("%s\n", lemoe_error_message());
    lemoe_sweep_close(&sweep);
    lemoe_signals_restore();
    (void)snprintf(command, sizeof command, "rm -r '%s'", folder);
    assert_int_equal(system(command), 0);
    assert_int_equal(status, LEMOE_OK);
    assert_int_equal(script.n_begun, n_begun);
    assert_int_equal(n_ended, n_begun);
    assert_int_equal(was_interrupted, is_interrupted);
}

static void interrupted_before_it_is_told_the_next(void **context) {
    (void)context;
    script = (struct script){.signal = SIGUSR1, .ends_with = LEMOE_ERR_INTERRUPTED};
    expect(1, true, false);
}

static void interrupted_after_it_was_told_the_next(void **context) {
    (void)context;
    script = (struct script){.is_told_next = true, .signal = SIGUSR1, .ends_with = LEMOE_ERR_INTERRUPTED};
    expect(1, true, false);
}

static void failed_before_it_is_told_the_next(void **context) {
    (void)context;
    script = (struct script){.ends_with = LEMOE_ERR_IO};
    expect(1, false, true);
}

static void failed_after_it_was_told_the_next(void **context) {
    (void)context;
    script = (struct script){.is_told_next = true, .ends_with = LEMOE_ERR_IO};
    expect(1, false, true);
}

static void one_failure_is_one_failure(void **context) {
    (void)context;
    script = (struct script){.is_told_next = true, .ends_with = LEMOE_ERR_IO};
    expect(N_RUN, false, false);
}

/* The run ended well, so the one after it has begun for both sides before the signal is looked at. */
static void signal_after_the_end(void **context) {
    (void)context;
    script = (struct script){.signal = SIGUSR1};
    expect(2, true, false);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(interrupted_before_it_is_told_the_next),
        cmocka_unit_test(interrupted_after_it_was_told_the_next),
        cmocka_unit_test(failed_before_it_is_told_the_next),
        cmocka_unit_test(failed_after_it_was_told_the_next),
        cmocka_unit_test(one_failure_is_one_failure),
        cmocka_unit_test(signal_after_the_end),
    };
    if (lemoe_launch_open(&argc, &argv, &launch) != LEMOE_OK) return 1;
    int n_failed = cmocka_run_group_tests(tests, NULL, NULL);
    lemoe_launch_close(launch);
    return n_failed;
}

/* Claims and deaths: a death is counted once, however many launches come upon it, and by nobody who only looks. */
#define _GNU_SOURCE /* syscall */
#include "runner/io/file.h"
#include "runner/sweep/claim.h"
#include "tests/unit/fixture.h"

#include <sys/file.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static void (*before_lock)(const char *folder); /* what another launch does just before this one locks */
static const char *its_folder;

/* In place of the C library's, for the whole program. */
int flock(int file, int operation) {
    void (*other)(const char *folder) = before_lock;
    before_lock = NULL;
    if (other) other(its_folder);
    return (int)syscall(SYS_flock, file, operation);
}

/* A launch of its own: a process that does something and ends without giving anything back. */
static void in_a_launch(const char *folder, void (*what)(const char *folder)) {
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        what(folder);
        _exit(0);
    }
    assert_true(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void die(const char *folder) {
    lemoe_lease *claim = NULL;
    bool held = true;
    int64_t renewed = 0;
    if (lemoe_claim_take(folder, "r", &claim, &held, &renewed) != LEMOE_OK || held) _exit(1);
    lemoe_claim_begin(folder, "r");
}
static void count(const char *folder) {
    if (lemoe_claim_count_death(folder, "r") != LEMOE_OK) _exit(1);
}
static void another_counts(const char *folder) { in_a_launch(folder, count); }
static void another_dies(const char *folder) { in_a_launch(folder, die); }

static int64_t n_counted(void **state) {
    char path[512], *text = NULL;
    int64_t n_bytes = 0, n = 0;
    if (!lemoe_file_exists(fixture_path(state, "runs/r/deaths", path))) return 0;
    assert_ok(lemoe_file_read_text(path, 1 << 16, &text, &n_bytes));
    for (const char *at = text; (at = strstr(at, "found dead")); at++) n++;
    lemoe_mem_free(text);
    return n;
}

static void assert_deaths(void **state, int64_t seen, int64_t counted) {
    lemoe_claim_deaths deaths;
    assert_ok(lemoe_claim_read_deaths(*state, "r", &deaths));
    assert_int_equal(deaths.n, seen);
    assert_int_equal(n_counted(state), counted);
}

static void looking_counts_nothing(void **state) {
    assert_deaths(state, 0, 0);
    in_a_launch(*state, die);
    assert_deaths(state, 1, 0);
    assert_deaths(state, 1, 0);
    assert_ok(lemoe_claim_count_death(*state, "r"));
    assert_deaths(state, 1, 1);
    assert_ok(lemoe_claim_count_death(*state, "r"));
    assert_deaths(state, 1, 1);
    in_a_launch(*state, die);
    assert_deaths(state, 2, 1);
}

/* Both have seen it; the other is first. */
static void two_launches_count_a_death_once(void **state) {
    in_a_launch(*state, die);
    its_folder = *state;
    before_lock = another_counts;
    assert_ok(lemoe_claim_count_death(*state, "r"));
    assert_null(before_lock);
    assert_deaths(state, 1, 1);
}

/* The other takes the run over and dies as well: two deaths, each by its own name. */
static void a_second_death_is_its_own(void **state) {
    in_a_launch(*state, die);
    its_folder = *state;
    before_lock = another_dies;
    assert_ok(lemoe_claim_count_death(*state, "r"));
    assert_deaths(state, 2, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(looking_counts_nothing, fixture_open, fixture_close),
        cmocka_unit_test_setup_teardown(two_launches_count_a_death_once, fixture_open, fixture_close),
        cmocka_unit_test_setup_teardown(a_second_death_is_its_own, fixture_open, fixture_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "tests/unit/results_fixture.h"

#include "runner/io/lease.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

static void second_opener_is_told_who(void **state) {
    char path[512], job[64];
    lemoe_lease *first = NULL, *second = NULL;
    (void)setenv("SLURM_JOB_ID", "4711", 1);
    fixture_path(state, "a.journal", path);
    assert_ok(lemoe_lease_acquire(path, &first));
    assert_error(lemoe_lease_acquire(path, &second), LEMOE_ERR_STATE, "job 4711");
    assert_null(second);
    (void)snprintf(job, sizeof job, "process %d", (int)getpid());
    assert_non_null(strstr(lemoe_error_message(), job));
    assert_non_null(strstr(lemoe_error_message(), path));
    lemoe_lease_release(first);
    (void)unsetenv("SLURM_JOB_ID");
    assert_ok(lemoe_lease_acquire(path, &second));
    lemoe_lease_release(second);
}

static void another_process_is_refused_and_takes_over_after_a_kill(void **state) {
    char path[512], byte = 0;
    int ready[2], status = 0;
    lemoe_lease *lease = NULL;
    lemoe_lease_owner owner;
    fixture_path(state, "b.journal", path);
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        lemoe_lease *held = NULL;
        byte = lemoe_lease_acquire(path, &held) == LEMOE_OK ? 'y' : 'n';
        (void)!write(ready[1], &byte, 1);
        while (1) (void)pause();
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(byte, 'y');
    assert_true(lemoe_lease_probe(path, &owner));
    assert_int_equal(owner.pid, child);
    assert_error(lemoe_lease_acquire(path, &lease), LEMOE_ERR_STATE, "in use by");
    (void)kill(child, SIGKILL);
    siginfo_t unused;
    assert_int_equal(waitid(P_PID, (id_t)child, &unused, WEXITED | WNOWAIT), 0);
    assert_false(lemoe_lease_probe(path, &owner)); /* it has ended, though nobody has asked how */
    (void)waitpid(child, &status, 0);
    /* The lease file is fresh, yet its process is gone: not alive, and free to take at once. */
    assert_false(lemoe_lease_probe(path, &owner));
    assert_int_equal(owner.pid, child);
    assert_ok(lemoe_lease_acquire(path, &lease));
    assert_true(lemoe_lease_probe(path, &owner));
    assert_int_equal(owner.pid, getpid());
    lemoe_lease_release(lease);
    assert_false(lemoe_lease_probe(path, &owner));
    (void)close(ready[0]);
    (void)close(ready[1]);
}

static void write_foreign(const char *path, long age) {
    char lease_path[600];
    (void)snprintf(lease_path, sizeof lease_path, "%s.lease", path);
    FILE *file = fopen(lease_path, "w");
    assert_non_null(file);
    (void)fprintf(file,
                  "lemoe-lease 1\nhost node17\npid 42\nnamespace 1\nboot 01234567-89ab\njob 99\n"
                  "start 2026-11-23T08:00:00Z\nrenewed %020lld\n",
                  (long long)time(NULL) - age);
    (void)fclose(file);
}

static void lease_of_another_machine_counts_for_a_minute(void **state) {
    char path[512];
    lemoe_lease *lease = NULL;
    lemoe_lease_owner owner;
    fixture_path(state, "c.journal", path);
    write_foreign(path, 50);
    assert_true(lemoe_lease_probe(path, &owner));
    assert_error(lemoe_lease_acquire(path, &lease), LEMOE_ERR_STATE, "host node17, process 42, job 99");
    write_foreign(path, 70);
    assert_false(lemoe_lease_probe(path, &owner));
    assert_ok(lemoe_lease_acquire(path, &lease));
    lemoe_lease_release(lease);
}

static void renewal_writes_and_notices_a_take_over(void **state) {
    char path[512], lease_path[600];
    lemoe_lease *lease = NULL;
    lemoe_lease_owner owner;
    file_bytes *before = malloc(sizeof *before), *after = malloc(sizeof *after);
    fixture_path(state, "d.journal", path);
    (void)snprintf(lease_path, sizeof lease_path, "%s.lease", path);
    assert_ok(lemoe_lease_acquire(path, &lease));
    read_bytes(lease_path, before);
    struct timespec pause_time = {1, 100000000};
    (void)nanosleep(&pause_time, NULL);
    assert_ok(lemoe_lease_renew(lease)); /* too early: nothing is written */
    read_bytes(lease_path, after);
    assert_memory_equal(before->data, after->data, before->n);
    assert_ok(lemoe_lease_renew_now(lease));
    read_bytes(lease_path, after);
    assert_int_equal(before->n, after->n);
    assert_memory_not_equal(before->data, after->data, before->n);
    assert_int_equal(unlink(lease_path), 0);
    assert_ok(lemoe_lease_renew_now(lease)); /* tidied away by somebody: written anew */
    assert_true(lemoe_lease_probe(path, &owner));
    write_foreign(path, 0);
    assert_error(lemoe_lease_renew_now(lease), LEMOE_ERR_STATE, "taken over by host node17");
    lemoe_lease_release(lease);
    assert_true(lemoe_lease_probe(path, &owner)); /* the other's file stays */
    free(before);
    free(after);
}

static void nonsense_in_the_lease_file_is_no_owner(void **state) {
    char path[512], lease_path[600];
    lemoe_lease *lease = NULL;
    lemoe_lease_owner owner;
    static unsigned char noise[5000];
    memset(noise, 'x', sizeof noise);
    fixture_path(state, "e.journal", path);
    (void)snprintf(lease_path, sizeof lease_path, "%s.lease", path);
    const char *texts[] = {"", "lemoe-lease 1\n",
                           "lemoe-lease 1\nhost a\npid 99999999999999999999999999\nnamespace 1\n"};
    for (int i = 0; i < 4; i++) {
        if (i < 3)
            write_bytes(lease_path, (const unsigned char *)texts[i], strlen(texts[i]));
        else
            write_bytes(lease_path, noise, sizeof noise);
        assert_false(lemoe_lease_probe(path, &owner));
        assert_ok(lemoe_lease_acquire(path, &lease));
        lemoe_lease_release(lease);
    }
}

static void unwritable_places_are_named(void **state) {
    char path[512];
    lemoe_lease *lease = NULL;
    fixture_path(state, "no/such/folder/f.journal", path);
    assert_error(lemoe_lease_acquire(path, &lease), LEMOE_ERR_IO, path);
    lemoe_lease_release(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(second_opener_is_told_who),
        cmocka_unit_test(another_process_is_refused_and_takes_over_after_a_kill),
        cmocka_unit_test(lease_of_another_machine_counts_for_a_minute),
        cmocka_unit_test(renewal_writes_and_notices_a_take_over),
        cmocka_unit_test(nonsense_in_the_lease_file_is_no_owner),
        cmocka_unit_test(unwritable_places_are_named),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}

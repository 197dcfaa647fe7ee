#include "tests/unit/results_fixture.h"

#include "runner/io/json.h"
#include "runner/results/results_schema.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <utime.h>

static lemoe_results *open_run(void **state, const char *run_id) {
    lemoe_results_args args = fixture_args((char *)*state, run_id);
    lemoe_results *results = NULL;
    assert_ok(lemoe_results_open(&args, &results));
    return results;
}

static char *journal_of(void **state, const char *run_id, char out[512]) {
    (void)snprintf(out, 512, "%s/%s.journal", (char *)*state, run_id);
    return out;
}

static void assert_near(double a, double b) {
    if (!(fabs(a - b) < 1e-15)) fail_msg("%.17g and %.17g", a, b);
}

/* ---- summary ---- */

static void put_scores(lemoe_results *results) {
    const double nan_ = (double)NAN;
    const double reliability[] = {1, 0.5, 0.25, nan_}, all[] = {1, 0, 0, 0}, generality[] = {nan_, nan_, nan_, nan_};
    const double immediate[] = {0.75, 1}, base[] = {0.125, 0.125, 0.5, 0.25};
    const double consistency[] = {0.5, 0.25, 0.25, nan_, nan_, nan_};
    const double seconds[] = {1.5, 2.25};
    const int64_t peak[] = {700, 300};
    assert_ok(lemoe_results_put_f64(results, "/eval/final/reliability", 0, 4, reliability));
    assert_ok(lemoe_results_put_f64(results, "/eval/final/reliability_all", 0, 4, all));
    assert_ok(lemoe_results_put_f64(results, "/eval/final/generality", 0, 4, generality));
    assert_ok(lemoe_results_put_f64(results, "/eval/immediate/locality", 1, 2, immediate));
    assert_ok(lemoe_results_put_f64(results, "/eval/base/generality", 0, 4, base));
    assert_ok(lemoe_results_put_f64(results, "/routing/consistency", 0, 2, consistency));
    assert_ok(lemoe_results_put_f64(results, "/cost/seconds", 0, 2, seconds));
    assert_ok(lemoe_results_put_i64(results, "/cost/peak_bytes", 0, 2, peak));
}

static void check_scores(const lemoe_results_summary *s) {
    assert_near(s->score[2][0], 1.75 / 3); /* NaN is no edit */
    assert_int_equal(s->n_score[2][0], 3);
    assert_near(s->score_all[2][0], 0.25);
    assert_int_equal(s->n_score_all[2][0], 4);
    assert_true(isnan(s->score[2][1]));
    assert_int_equal(s->n_score[2][1], 0);
    assert_near(s->score[1][2], 0.875);
    assert_int_equal(s->n_score[1][2], 2);
    assert_near(s->score[0][1], 0.25);
    assert_true(isnan(s->score[0][2]) && isnan(s->score_all[1][1]));
    assert_near(s->consistency, 0.5); /* the second expert trained nothing */
    assert_near(s->seconds, 3.75);
    assert_int_equal(s->peak_bytes, 700);
}

static void summary_equals_hand_computed(void **state) {
    char path[512];
    lemoe_results_summary summary;
    lemoe_results *results = open_run(state, "sum");
    assert_ok(lemoe_results_attribute(results, "identity", "0123456789abcdef0123456789abcdef"));
    put_scores(results);
    assert_ok(lemoe_results_commit(results));
    assert_ok(lemoe_results_read_summary(journal_of(state, "sum", path), &summary));
    assert_true(summary.exists);
    assert_string_equal(summary.status, "running");
    assert_string_equal(summary.identity, "0123456789abcdef0123456789abcdef");
    assert_null(summary.error);
    check_scores(&summary);
    lemoe_results_summary_free(&summary);
    assert_ok(lemoe_results_finish(results, "failed", "rank 1: disk full"));
    lemoe_results_close(results);
    assert_ok(lemoe_results_read_summary(path, &summary)); /* now from the end frame */
    assert_string_equal(summary.status, "failed");
    assert_string_equal(summary.error, "rank 1: disk full");
    check_scores(&summary);
    lemoe_results_summary_free(&summary);
}

/* The summary in the end frame and the one from a replay are the same thing. */
static void end_frame_that_is_torn_changes_nothing(void **state) {
    char path[512], cut[512];
    lemoe_results_summary summary;
    file_bytes *file = malloc(sizeof *file);
    lemoe_results *results = open_run(state, "torn");
    put_scores(results);
    assert_ok(lemoe_results_finish(results, "complete", NULL));
    lemoe_results_close(results);
    read_bytes(journal_of(state, "torn", path), file);
    (void)snprintf(cut, sizeof cut, "%s/cut.journal", (char *)*state);
    for (size_t n = 1; n < 100; n += 7) {
        write_bytes(cut, file->data, file->n - n);
        assert_ok(lemoe_results_read_summary(cut, &summary));
        assert_string_equal(summary.status, "complete");
        check_scores(&summary);
        lemoe_results_summary_free(&summary);
    }
    free(file);
}

/* The last frame is whole and would say `complete`. While the file is as new as the journal that is enough. */
static void damage_shows_where_the_journal_is_all_there_is(void **state) {
    char path[512], h5[512];
    struct utimbuf old = {1000, 1000};
    lemoe_results_summary summary;
    file_bytes *file = malloc(sizeof *file);
    lemoe_results *results = open_run(state, "hidden");
    put_scores(results);
    assert_ok(lemoe_results_finish(results, "complete", NULL));
    lemoe_results_close(results);
    read_bytes(journal_of(state, "hidden", path), file);
    file->data[file->n / 2] ^= 1;
    write_bytes(path, file->data, file->n);
    assert_error(lemoe_results_read_summary(path, &summary), LEMOE_ERR_FORMAT, "damaged at byte");
    assert_int_equal(unlink(fixture_path(state, "hidden.h5", h5)), 0);
    assert_error(lemoe_results_read_summary(path, &summary), LEMOE_ERR_FORMAT, "damaged at byte");
    assert_ok(lemoe_results_publish(path, h5, true)); /* what could be saved was: complete, but for that */
    assert_ok(lemoe_results_read_summary(path, &summary));
    assert_string_equal(summary.status, "complete");
    lemoe_results_summary_free(&summary);
    assert_int_equal(utime(h5, &old), 0);
    assert_error(lemoe_results_read_summary(path, &summary), LEMOE_ERR_FORMAT, "damaged at byte");
    free(file);
}

static void nothing_there_is_no_summary(void **state) {
    char path[512];
    lemoe_results_summary summary;
    assert_ok(lemoe_results_read_summary(journal_of(state, "never", path), &summary));
    assert_false(summary.exists);
    write_bytes(path, (const unsigned char *)"", 0);
    assert_ok(lemoe_results_read_summary(path, &summary));
    assert_false(summary.exists);
    static const unsigned char other[] = "a journal of another kind, quite long enough for a frame";
    write_bytes(path, other, sizeof other);
    assert_error(lemoe_results_read_summary(path, &summary), LEMOE_ERR_FORMAT, "never.journal: not a journal");
    lemoe_results_summary_free(NULL);
}

/* ---- owners, older journals ---- */

static void second_opener_is_refused(void **state) {
    lemoe_results *results = open_run(state, "own"), *other = NULL;
    lemoe_results_args args = fixture_args((char *)*state, "own");
    assert_error(lemoe_results_open(&args, &other), LEMOE_ERR_STATE, "in use by host");
    assert_null(other);
    assert_ok(lemoe_results_tick(results));
    lemoe_results_close(results);
    results = open_run(state, "own"); /* unfinished: replaced */
    lemoe_results_close(results);
}

static void killed_owner_reads_lost(void **state) {
    char path[512], byte = 0;
    int ready[2], status = 0;
    lemoe_results_summary summary;
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        lemoe_results *results = open_run(state, "killed");
        const int64_t batch[] = {0, 0, 1, 1};
        assert_ok(lemoe_results_put_i64(results, "/plan/batch", 0, 4, batch));
        assert_ok(lemoe_results_commit(results));
        (void)!write(ready[1], &byte, 1);
        while (1) (void)pause();
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_ok(lemoe_results_read_summary(journal_of(state, "killed", path), &summary));
    assert_string_equal(summary.status, "running");
    (void)kill(child, SIGKILL);
    (void)waitpid(child, &status, 0);
    assert_ok(lemoe_results_read_summary(path, &summary));
    assert_string_equal(summary.status, "lost");
    lemoe_results_close(open_run(state, "killed"));
    (void)close(ready[0]);
    (void)close(ready[1]);
}

static void complete_or_strange_journals_are_not_replaced(void **state) {
    char path[512];
    lemoe_results *results = open_run(state, "kept"), *again = NULL;
    lemoe_results_args args = fixture_args((char *)*state, "kept");
    assert_ok(lemoe_results_finish(results, "complete", NULL));
    lemoe_results_close(results);
    assert_error(lemoe_results_open(&args, &again), LEMOE_ERR_STATE, "complete");
    static const unsigned char later[] = "LeMJ\2\0\x34\x12 written by a later one, in its own way";
    write_bytes(journal_of(state, "kept", path), later, sizeof later);
    assert_error(lemoe_results_open(&args, &again), LEMOE_ERR_UNSUPPORTED, "journal format 2.0");
    assert_null(again);
}

static void interrupted_runs_may_start_again(void **state) {
    char path[512];
    lemoe_results_summary summary;
    lemoe_results *results = open_run(state, "stopped");
    assert_ok(lemoe_results_finish(results, "interrupted", NULL));
    lemoe_results_close(results);
    assert_ok(lemoe_results_read_summary(journal_of(state, "stopped", path), &summary));
    assert_string_equal(summary.status, "interrupted");
    lemoe_results_close(open_run(state, "stopped"));
}

/* ---- what can be put ---- */

static void wrong_puts_are_refused(void **state) {
    lemoe_results *r = open_run(state, "puts");
    const double f[8] = {0};
    const int64_t i[8] = {0}, big[1] = {INT64_C(1) << 31};
    const char *text[1] = {"x"};
    assert_error(lemoe_results_put_f64(r, "/eval/final/nonsense", 0, 1, f), LEMOE_ERR_ARG, "/eval/final/nonsense");
    assert_error(lemoe_results_put_f64(r, "/eval/base/locality", 0, 1, f), LEMOE_ERR_ARG, "/eval/base/locality");
    assert_error(lemoe_results_put_f64(r, "/eval/final/locality_far", 0, 1, f), LEMOE_ERR_ARG, "locality_far");
    assert_error(lemoe_results_put_i64(r, "/eval/final/locality", 0, 1, i), LEMOE_ERR_ARG, "float64");
    assert_error(lemoe_results_put_f64(r, "/plan/batch", 0, 1, f), LEMOE_ERR_ARG, "int32");
    assert_error(lemoe_results_put_text(r, "/plan/batch", 0, 1, text), LEMOE_ERR_ARG, "int32");
    assert_error(lemoe_results_put_i64(r, "/plan/batch", 0, 1, big), LEMOE_ERR_ARG, "2147483648");
    assert_error(lemoe_results_put_f64(r, "/eval/final/locality", 3, 2, f), LEMOE_ERR_ARG, "axis of 4");
    assert_error(lemoe_results_put_f64(r, "/eval/final/locality", -1, 1, f), LEMOE_ERR_ARG, "axis of 4");
    assert_error(lemoe_results_put_f64(r, "/eval/final/locality", 0, INT64_MAX, f), LEMOE_ERR_ARG, "axis of 4");
    assert_error(lemoe_results_attribute(r, "a/b", "x"), LEMOE_ERR_ARG, "a/b");
    assert_error(lemoe_results_finish(r, "done", NULL), LEMOE_ERR_ARG, "done");
    assert_ok(lemoe_results_put_f64(r, "/eval/final/locality_same", 0, 4, f));
    assert_ok(lemoe_results_put_f64(r, "/train/loss", 1000, 3, f));
    assert_ok(lemoe_results_commit(r));
    lemoe_results_close(r);
    lemoe_results_close(NULL);
}

static void wrong_runs_are_refused(void **state) {
    lemoe_results *results = NULL;
    const char *ids[] = {"", ".", "..", ".hidden", "a/b", "/etc/x"};
    for (int i = 0; i < 6; i++) {
        lemoe_results_args args = fixture_args((char *)*state, ids[i]);
        assert_error(lemoe_results_open(&args, &results), LEMOE_ERR_ARG, "cannot name a run");
    }
    const char *const bad[] = {"", "Far Away"}, *const twice[] = {"", "far", "far"}, *const taken[] = {"", "accuracy"};
    lemoe_results_args args = fixture_args((char *)*state, "kinds");
    args.axes.locality_name = bad;
    assert_error(lemoe_results_open(&args, &results), LEMOE_ERR_ARG, "Far Away");
    args.axes.locality_name = taken;
    assert_error(lemoe_results_open(&args, &results), LEMOE_ERR_ARG, "accuracy");
    args.axes.locality_name = twice;
    args.axes.n_locality = 3;
    assert_error(lemoe_results_open(&args, &results), LEMOE_ERR_ARG, "twice");
    args = fixture_args((char *)*state, "axes");
    args.axes.n_edit = -1;
    assert_error(lemoe_results_open(&args, &results), LEMOE_ERR_ARG, "`edit`");
    char path[512];
    write_bytes(fixture_path(state, "in_the_way", path), (const unsigned char *)"x", 1);
    args = fixture_args(path, "r");
    assert_error(lemoe_results_open(&args, &results), LEMOE_ERR_IO, "in_the_way");
    assert_null(results);
}

static void publishing_is_throttled(void **state) {
    char path[512];
    lemoe_results_args args = fixture_args((char *)*state, "slow");
    lemoe_results *results = NULL;
    struct stat first, second, last;
    args.publish_seconds = 3600;
    (void)snprintf(path, sizeof path, "%s/slow.h5", (char *)*state);
    assert_ok(lemoe_results_open(&args, &results));
    assert_ok(lemoe_results_commit(results));
    assert_int_equal(stat(path, &first), 0);
    for (int i = 0; i < 5; i++) assert_ok(lemoe_results_commit(results));
    assert_int_equal(stat(path, &second), 0);
    assert_ok(lemoe_results_finish(results, "complete", NULL));
    assert_int_equal(stat(path, &last), 0);
    assert_int_equal(first.st_ino, second.st_ino);
    assert_int_equal(first.st_mtim.tv_nsec, second.st_mtim.tv_nsec);
    assert_true(last.st_ino != first.st_ino || last.st_mtim.tv_nsec != first.st_mtim.tv_nsec);
    lemoe_results_close(results);
}

/* ---- --describe-schema ---- */

static const lemoe_json_value *find_path(const lemoe_json_value *rows, const char *path) {
    for (int64_t i = 0; i < lemoe_json_size(rows); i++) {
        const lemoe_json_value *row = lemoe_json_at(rows, i);
        if (strcmp(lemoe_json_string(lemoe_json_get(row, "path")), path) == 0) return row;
    }
    fail_msg("%s is not described", path);
    return NULL;
}

/* The paths that users rely on, written down a second time. */
static void schema_is_described(void **state) {
    (void)state;
    char *text = NULL, path[128];
    lemoe_json *json = NULL;
    assert_ok(lemoe_results_describe_schema(&text));
    assert_ok(lemoe_json_parse("schema", text, (int64_t)strlen(text), &json));
    const lemoe_json_value *rows = lemoe_json_get(lemoe_json_root(json), "datasets");
    const char *const plain[] = {"/edit/id",
                                 "/edit/record",
                                 "/edit/subject",
                                 "/edit/prompt",
                                 "/edit/target",
                                 "/edit/prompt_tokens",
                                 "/edit/target_tokens",
                                 "/edit/superseded_by",
                                 "/plan/batch",
                                 "/plan/cluster",
                                 "/plan/similarity",
                                 "/train/batch",
                                 "/train/loss",
                                 "/train/grad_norm",
                                 "/train/seconds",
                                 "/eval/milestone/reliability",
                                 "/eval/milestone/generality",
                                 "/eval/milestone/locality",
                                 "/eval/milestone/locality_<kind>",
                                 "/eval/milestone/batches",
                                 "/routing/train_expert",
                                 "/routing/final_expert",
                                 "/routing/paraphrase_expert",
                                 "/routing/locality_expert",
                                 "/routing/locality_<kind>_expert",
                                 "/routing/gate_train",
                                 "/routing/gate_final",
                                 "/routing/margin",
                                 "/routing/consistency",
                                 "/routing/agreement_prompt",
                                 "/routing/agreement_paraphrase",
                                 "/routing/threshold",
                                 "/cost/seconds",
                                 "/cost/tokens",
                                 "/cost/peak_bytes",
                                 "/cost/predicted_bytes",
                                 "/cost/predicted_step_seconds"};
    const char *const evals[] = {
        "reliability", "reliability_all", "generality",      "generality_all",           "locality_accuracy",
        "target_nll",  "paraphrase_nll",  "locality_nll",    "locality_<kind>_accuracy", "locality_<kind>_nll",
        "locality",    "locality_all",    "locality_<kind>", "locality_<kind>_all"};
    const char *const moments[] = {"base", "immediate", "final"};
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
        const lemoe_json_value *row = find_path(rows, plain[i]);
        bool is_volatile = strncmp(plain[i], "/cost/", 6) == 0 || strcmp(plain[i], "/train/seconds") == 0;
        assert_int_equal(lemoe_json_integer(lemoe_json_get(row, "volatile")), is_volatile);
    }
    for (size_t moment = 0; moment < 3; moment++)
        for (size_t i = 0; i < (moment == 0 ? 10 : 14); i++) {
            (void)snprintf(path, sizeof path, "/eval/%s/%s", moments[moment], evals[i]);
            const lemoe_json_value *row = find_path(rows, path);
            assert_string_equal(lemoe_json_string(lemoe_json_get(row, "moment")), moments[moment]);
            assert_string_equal(lemoe_json_string(lemoe_json_get(row, "protocol")), "teacher_forced");
            const char *scorer = strstr(evals[i], "_nll") ? "nll" : strstr(evals[i], "_all") ? "all" : "tok";
            assert_string_equal(lemoe_json_string(lemoe_json_get(row, "scorer")), scorer);
        }
    const lemoe_json_value *axes = lemoe_json_get(find_path(rows, "/routing/consistency"), "axes");
    assert_int_equal(lemoe_json_size(axes), 2);
    assert_string_equal(lemoe_json_string(lemoe_json_at(axes, 0)), "expert_train");
    assert_string_equal(lemoe_json_string(lemoe_json_at(axes, 1)), "expert_final");
    assert_true(lemoe_json_size(lemoe_json_get(lemoe_json_root(json), "attributes")) >= 19);
    (void)find_path(lemoe_json_get(lemoe_json_root(json), "sweep"), "/final/reliability_n");
    lemoe_json_close(json);
    lemoe_mem_free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(summary_equals_hand_computed),
        cmocka_unit_test(end_frame_that_is_torn_changes_nothing),
        cmocka_unit_test(damage_shows_where_the_journal_is_all_there_is),
        cmocka_unit_test(nothing_there_is_no_summary),
        cmocka_unit_test(second_opener_is_refused),
        cmocka_unit_test(killed_owner_reads_lost),
        cmocka_unit_test(complete_or_strange_journals_are_not_replaced),
        cmocka_unit_test(interrupted_runs_may_start_again),
        cmocka_unit_test(wrong_puts_are_refused),
        cmocka_unit_test(wrong_runs_are_refused),
        cmocka_unit_test(publishing_is_throttled),
        cmocka_unit_test(schema_is_described),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}

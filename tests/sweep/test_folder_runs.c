/* The runs of a folder that are not the launch's own: their rows, and the keys their sweeps varied. */
#include "runner/io/file.h"
#include "runner/sweep/folder_runs.h"
#include "tests/unit/results_fixture.h"

static lemoe_results *begin(void **state, const char *run_id) {
    char folder[512];
    lemoe_results *results = NULL;
    lemoe_results_args args = fixture_args(fixture_path(state, "runs", folder), run_id);
    assert_ok(lemoe_results_open(&args, &results));
    return results;
}

/* swept NULL: as an older program, which does not say. */
static void write_run(void **state, const char *run_id, const char *swept, int64_t place, const char *yaml) {
    static const double scores[4] = {1, 0, 1, 0};
    lemoe_results *results = begin(state, run_id);
    assert_ok(lemoe_results_attribute(results, "config_yaml", yaml));
    assert_ok(lemoe_results_attribute(results, "device", "cuda"));
    assert_ok(lemoe_results_attribute_int(results, "tensor_parallel", 2));
    if (swept) assert_ok(lemoe_results_attribute(results, "swept_keys", swept));
    if (swept) assert_ok(lemoe_results_attribute_int(results, "sweep_place", place));
    assert_ok(lemoe_results_put_f64(results, "/eval/base/reliability", 0, 4, scores));
    assert_ok(lemoe_results_finish(results, "complete", NULL));
    lemoe_results_close(results);
}

static void remove_run(void **state, const char *run_id) {
    char name[64], path[512];
    (void)snprintf(name, sizeof name, "runs/%s.journal", run_id);
    assert_int_equal(unlink(fixture_path(state, name, path)), 0);
}

static lemoe_folder_runs *look(void **state, const char *const *own, int64_t n_own, const char *key) {
    lemoe_folder_runs *runs = NULL;
    lemoe_folder_runs_args args = {*state, own, n_own, &key, key ? 1 : 0};
    assert_ok(lemoe_folder_runs_open(&args, &runs));
    assert_ok(lemoe_folder_runs_refresh(runs));
    return runs;
}

/* All of it in one text: "KEY KEY; ID VALUE VALUE; ID ..."; empty values as "-". */
static void assert_table(const lemoe_folder_runs *runs, const char *expected) {
    char text[2048] = "";
    int64_t n_key = 0;
    const char *const *keys = lemoe_folder_runs_keys(runs, &n_key);
    for (int64_t k = 0; k < n_key; k++) (void)snprintf(text + strlen(text), 256, "%s%.200s", k > 0 ? " " : "", keys[k]);
    for (int64_t i = 0; i < lemoe_folder_runs_count(runs); i++) {
        lemoe_sweep_row row = lemoe_folder_runs_row(runs, i);
        (void)snprintf(text + strlen(text), 256, "; %.200s", row.run_id);
        for (int64_t k = 0; k < n_key; k++) {
            const char *value = row.axis_values[k];
            (void)snprintf(text + strlen(text), 256, " %.200s", value && *value ? value : "-");
        }
    }
    assert_string_equal(text, expected);
}

static void runs_of_sweeps_stand_in_their_order(void **state) {
    static const char *const own[] = {"z", "m"};
    write_run(state, "b", "seed,lemoe.lr", 0, "seed: 1\nlemoe:\n  lr: 0.1\n");
    write_run(state, "a", "seed,lemoe.lr", 10, "seed: 2\nlemoe:\n  lr: 0.2\n");
    write_run(state, "c", "seed,lemoe.lr", 2, "seed: 2\nmoe:\n  lr: 0.2\n"); /* does not read the key */
    write_run(state, "m", "seed", 0, "seed: 9\n");
    lemoe_folder_runs *runs = look(state, own, 2, "edit.method");
    assert_table(runs, "edit.method seed lemoe.lr; b - 1 0.1; c - 2 -; a - 2 0.2");
    assert_string_equal(lemoe_folder_runs_row(runs, 0).device, "cuda");
    assert_int_equal(lemoe_folder_runs_row(runs, 0).tensor_parallel, 2);

    /* meanwhile: one comes, one goes; what is known gets values of the new key */
    write_run(state, "d", "edit.method,name", 0, "name: n\nedit:\n  method: none\n");
    remove_run(state, "c");
    assert_ok(lemoe_folder_runs_refresh(runs));
    assert_table(runs, "edit.method seed lemoe.lr name; d none - - n; b - 1 0.1 -; a - 2 0.2 -");
    lemoe_folder_runs_close(runs);
}

static void older_runs_show_what_differs(void **state) {
    write_run(state, "a", NULL, 0, "name: x\nseed: 1\nlemoe:\n  lr: 0.1\n  layer: 3\n");
    write_run(state, "b", NULL, 0, "name: y\nseed: 1\nlemoe:\n  lr: 0.2\n  layer: 3\n");
    write_run(state, "c", NULL, 0, "name: y\nseed: 1\nmoe:\n  layer: 4\n");
    write_run(state, "d", "", 0, "name: y\nseed: 7\n"); /* a single run that says so */
    lemoe_folder_runs *runs = look(state, NULL, 0, NULL);
    assert_table(runs, "lemoe.lr; d -; a 0.1; b 0.2; c -");
    lemoe_folder_runs_close(runs);
}

static void a_run_that_has_only_begun_is_read_later(void **state) {
    lemoe_results *results = begin(state, "a");
    lemoe_folder_runs *runs = look(state, NULL, 0, "seed");
    assert_table(runs, "seed; a -");
    assert_ok(lemoe_results_attribute(results, "config_yaml", "seed: 4\n"));
    assert_ok(lemoe_results_commit(results));
    assert_ok(lemoe_folder_runs_refresh(runs));
    assert_table(runs, "seed; a 4");
    lemoe_folder_runs_close(runs);
    lemoe_results_close(results);
}

/* A long configuration, and rows behind it that would take long to read. */
static void the_beginning_is_enough_however_long(void **state) {
    char *yaml = malloc(1 << 16), path[512];
    size_t n = 0;
    for (int i = 0; i < 1200; i++) n += (size_t)sprintf(yaml + n, "key_%d: \"a value of some length\"\n", i);
    (void)strcpy(yaml + n, "seed: 5\n");
    write_run(state, "a", "seed", 0, yaml);
    file_bytes *file = malloc(sizeof *file);
    read_bytes(fixture_path(state, "runs/a.journal", path), file);
    file->data[file->n - 200] ^= 1; /* far behind it */
    write_bytes(path, file->data, file->n);
    lemoe_folder_runs *runs = look(state, NULL, 0, NULL);
    assert_table(runs, "seed; a 5");
    lemoe_folder_runs_close(runs);
    free(file);
    free(yaml);
}

static void what_journals_say_may_be_anything(void **state) {
    char path[512];
    write_run(state, "a", "a/b,,.,..,seed,\"x\",seed", -5, "seed: 1\n");
    write_run(state, "b", "seed", 0, "seed: [\n"); /* no YAML */
    write_text(fixture_path(state, "runs/c.journal", path), "something else");
    assert_ok(lemoe_file_make_folders(fixture_path(state, "runs/d.journal", path)));
    write_text(fixture_path(state, "runs/e.journal", path), "");
    lemoe_folder_runs *runs = look(state, NULL, 0, NULL);
    assert_table(runs, "seed; a 1; b -; c -; d -; e -");
    lemoe_folder_runs_close(runs);
}

static void no_folder_is_no_runs(void **state) {
    lemoe_folder_runs *runs = look(state, NULL, 0, "seed");
    assert_table(runs, "seed");
    lemoe_folder_runs_close(runs);
    lemoe_folder_runs_close(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(runs_of_sweeps_stand_in_their_order, fixture_open, fixture_close),
        cmocka_unit_test_setup_teardown(older_runs_show_what_differs, fixture_open, fixture_close),
        cmocka_unit_test_setup_teardown(a_run_that_has_only_begun_is_read_later, fixture_open, fixture_close),
        cmocka_unit_test_setup_teardown(the_beginning_is_enough_however_long, fixture_open, fixture_close),
        cmocka_unit_test_setup_teardown(what_journals_say_may_be_anything, fixture_open, fixture_close),
        cmocka_unit_test_setup_teardown(no_folder_is_no_runs, fixture_open, fixture_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

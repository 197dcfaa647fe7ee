#include "tests/unit/results_fixture.h"

#include <hdf5.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define PYTHON "/usr/bin/python3"

/* ---- one run with something in every corner; reading it back through the library itself ---- */

static const double reliability[] = {1, 0.5, 0.25, 0};
static const char *const prompts[] = {"Who wrote \xc3\x89mile?", "", NULL, "plain"};

static void put_run(lemoe_results *r, double loss, double seconds) {
    const double nan_ = (double)NAN;
    const int64_t batch[] = {0, 0, 1, 1}, tokens[] = {5, 6, 7, 8}, expert[] = {0, -1, 1, 1}, batches[] = {1, 2};
    const double square[] = {1, 0.5, 0.5, 1}, consistency[] = {0.5, 0.25, 0.25, nan_, nan_, nan_};
    const double losses[] = {loss, loss / 2, loss / 4}, norms[] = {1, 2}, half[] = {0.5}, nll[] = {1, 2, 3, 4};
    const double times[] = {seconds, seconds};
    assert_ok(lemoe_results_attribute(r, "config_yaml", "name: test\nseed: 0\n"));
    assert_ok(lemoe_results_attribute(r, "hosts", "vm"));
    assert_ok(lemoe_results_attribute_int(r, "threads", 1));
    assert_ok(lemoe_results_attribute(r, "note", "of this test"));
    assert_ok(lemoe_results_put_text(r, "/edit/prompt", 0, 4, prompts));
    assert_ok(lemoe_results_put_i64(r, "/edit/prompt_tokens", 0, 4, tokens));
    assert_ok(lemoe_results_put_i64(r, "/plan/batch", 0, 4, batch));
    assert_ok(lemoe_results_put_f64(r, "/plan/similarity", 0, 2, square));
    assert_ok(lemoe_results_put_f64(r, "/train/loss", 0, 3, losses));
    assert_ok(lemoe_results_put_f64(r, "/train/grad_norm", 0, 2, norms));
    assert_ok(lemoe_results_put_f64(r, "/eval/final/reliability", 2, 2, reliability + 2));
    assert_ok(lemoe_results_put_f64(r, "/eval/final/reliability", 0, 2, reliability));
    assert_ok(lemoe_results_put_f64(r, "/eval/immediate/locality_same", 1, 1, half));
    assert_ok(lemoe_results_put_f64(r, "/eval/immediate/locality_same_all", 1, 1, half));
    assert_ok(lemoe_results_put_f64(r, "/eval/base/target_nll", 0, 4, nll));
    assert_ok(lemoe_results_put_i64(r, "/eval/milestone/batches", 0, 2, batches));
    assert_ok(lemoe_results_put_f64(r, "/eval/milestone/generality", 1, 1, square));
    assert_ok(lemoe_results_put_i64(r, "/routing/train_expert", 0, 4, expert));
    assert_ok(lemoe_results_put_i64(r, "/routing/locality_same_expert", 0, 2, expert));
    assert_ok(lemoe_results_put_f64(r, "/routing/consistency", 0, 2, consistency));
    assert_ok(lemoe_results_put_f64(r, "/cost/seconds", 0, 2, times));
    assert_ok(lemoe_results_put_i64(r, "/cost/tokens", 1, 1, tokens));
}

static void make_run(void **state, const char *run_id, double loss, double seconds) {
    lemoe_results_args args = fixture_args((char *)*state, run_id);
    lemoe_results *results = NULL;
    assert_ok(lemoe_results_open(&args, &results));
    put_run(results, loss, seconds);
    assert_ok(lemoe_results_finish(results, "complete", NULL));
    lemoe_results_close(results);
}

static hid_t open_published(void **state, const char *name) {
    char path[512];
    hid_t file = H5Fopen(fixture_path(state, name, path), H5F_ACC_RDONLY, H5P_DEFAULT);
    assert_true(file >= 0);
    return file;
}

static void read_all(hid_t file, const char *path, hid_t type, void *out, hsize_t n_wanted) {
    hid_t dataset = H5Dopen2(file, path, H5P_DEFAULT);
    if (dataset < 0) fail_msg("%s is missing", path);
    hid_t space = H5Dget_space(dataset);
    assert_int_equal(H5Sget_simple_extent_npoints(space), n_wanted);
    assert_true(H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, out) >= 0);
    (void)H5Sclose(space);
    (void)H5Dclose(dataset);
}

static hid_t text_type(void) {
    hid_t type = H5Tcopy(H5T_C_S1);
    (void)H5Tset_size(type, H5T_VARIABLE);
    (void)H5Tset_cset(type, H5T_CSET_UTF8);
    return type;
}

static void assert_text(hid_t file, const char *path, hsize_t n, hsize_t index, const char *part) {
    char *text[8] = {NULL};
    hid_t type = text_type();
    read_all(file, path, type, text, n);
    if (!strstr(text[index], part)) fail_msg("%s[%d] is `%s`", path, (int)index, text[index]);
    for (hsize_t i = 0; i < n; i++) free(text[i]);
    (void)H5Tclose(type);
}

static void values_and_fill_come_back(void **state) {
    double f[8];
    int32_t i[8];
    int64_t l[8];
    make_run(state, "values", 4, 1);
    hid_t file = open_published(state, "values.h5");
    read_all(file, "/eval/final/reliability", H5T_NATIVE_DOUBLE, f, 4);
    assert_memory_equal(f, reliability, sizeof reliability);
    read_all(file, "/eval/immediate/locality_same", H5T_NATIVE_DOUBLE, f, 4);
    assert_true(isnan(f[0]) && f[1] == 0.5 && isnan(f[2]) && isnan(f[3]));
    read_all(file, "/train/loss", H5T_NATIVE_DOUBLE, f, 3);
    assert_true(f[0] == 4 && f[1] == 2 && f[2] == 1);
    read_all(file, "/train/grad_norm", H5T_NATIVE_DOUBLE, f, 3); /* as long as the longest over steps */
    assert_true(f[1] == 2 && isnan(f[2]));
    read_all(file, "/eval/milestone/generality", H5T_NATIVE_DOUBLE, f, 4);
    assert_true(isnan(f[0]) && isnan(f[1]) && f[2] == 1 && f[3] == 0.5);
    read_all(file, "/routing/train_expert", H5T_NATIVE_INT32, i, 4);
    assert_true(i[0] == 0 && i[1] == -1 && i[2] == 1);
    read_all(file, "/routing/locality_same_expert", H5T_NATIVE_INT32, i, 4);
    assert_true(i[0] == 0 && i[1] == -1 && i[2] == -1 && i[3] == -1);
    read_all(file, "/cost/tokens", H5T_NATIVE_INT64, l, 2);
    assert_true(l[0] == -1 && l[1] == 5);
    read_all(file, "/expert_final_index", H5T_NATIVE_INT64, l, 3);
    assert_true(l[0] == 0 && l[1] == 1 && l[2] == -1);
    assert_text(file, "/edit/prompt", 4, 0, prompts[0]);
    assert_text(file, "/edit/prompt", 4, 3, "plain");
    assert_true(H5Lexists(file, "/eval/final/generality", H5P_DEFAULT) <= 0); /* nothing put, nothing written */
    assert_true(H5Lexists(file, "/routing/margin", H5P_DEFAULT) <= 0);
    (void)H5Fclose(file);
}

static void uncommitted_rows_stay_out(void **state) {
    char journal[512], h5[512];
    double f[4];
    const double later[] = {0, 0, 0, 0};
    lemoe_results_args args = fixture_args((char *)*state, "open");
    lemoe_results *results = NULL;
    assert_ok(lemoe_results_open(&args, &results));
    assert_ok(lemoe_results_put_f64(results, "/eval/final/reliability", 0, 4, reliability));
    assert_ok(lemoe_results_commit(results));
    assert_ok(lemoe_results_put_f64(results, "/eval/final/reliability", 0, 4, later));
    lemoe_results_close(results);
    assert_ok(lemoe_results_publish(fixture_path(state, "open.journal", journal), fixture_path(state, "open2.h5", h5),
                                    false));
    hid_t file = open_published(state, "open2.h5");
    read_all(file, "/eval/final/reliability", H5T_NATIVE_DOUBLE, f, 4);
    assert_memory_equal(f, reliability, sizeof reliability);
    (void)H5Fclose(file);
}

static void twice_gives_equal_bytes(void **state) {
    char journal[512], path[512];
    file_bytes *first = malloc(sizeof *first), *second = malloc(sizeof *second);
    make_run(state, "twice", 4, 1);
    read_bytes(fixture_path(state, "twice.h5", path), first);
    (void)sleep(1); /* a time that gets into the file shows */
    assert_ok(lemoe_results_publish(fixture_path(state, "twice.journal", journal), path, false));
    read_bytes(path, second);
    assert_int_equal(first->n, second->n);
    assert_memory_equal(first->data, second->data, first->n);
    free(first);
    free(second);
}

static void damage_is_refused_then_salvaged(void **state) {
    char journal[512], h5[512];
    double f[4];
    file_bytes *file = malloc(sizeof *file);
    make_run(state, "damaged", 4, 1);
    read_bytes(fixture_path(state, "damaged.journal", journal), file);
    const char *hit = NULL;
    for (size_t i = 0; i + 11 < file->n && !hit; i++)
        if (memcmp(file->data + i, "/train/loss", 11) == 0) hit = (const char *)file->data + i;
    assert_non_null(hit);
    file->data[(size_t)(hit - (const char *)file->data)] ^= 4;
    write_bytes(journal, file->data, file->n);
    fixture_path(state, "salvaged.h5", h5);
    assert_error(lemoe_results_publish(journal, h5, false), LEMOE_ERR_FORMAT, "--salvage");
    assert_int_equal(access(h5, F_OK), -1);
    assert_ok(lemoe_results_publish(journal, h5, true));
    hid_t published = open_published(state, "salvaged.h5");
    read_all(published, "/eval/final/reliability", H5T_NATIVE_DOUBLE, f, 4);
    assert_memory_equal(f, reliability, sizeof reliability);
    assert_true(H5Lexists(published, "/train/loss", H5P_DEFAULT) <= 0);
    assert_true(H5Aexists(published, "salvaged_bytes") > 0);
    (void)H5Fclose(published);
    free(file);
}

/* A reader that opens the file while it is published again and again sees one whole version each time. */
static void opens_while_published(void **state) {
    char journal[512], path[512];
    int status = 0, n_open = 0;
    double f[4];
    make_run(state, "live", 4, 1);
    fixture_path(state, "live.journal", journal);
    fixture_path(state, "live.h5", path);
    hid_t early = open_published(state, "live.h5");
    pid_t child = fork();
    if (child == 0) {
        for (int i = 0; i < 40; i++)
            if (lemoe_results_publish(journal, path, false) != LEMOE_OK) _exit(1);
        _exit(0);
    }
    for (; waitpid(child, &status, WNOHANG) == 0; n_open++) {
        hid_t file = open_published(state, "live.h5");
        read_all(file, "/eval/final/reliability", H5T_NATIVE_DOUBLE, f, 4);
        assert_memory_equal(f, reliability, sizeof reliability);
        (void)H5Fclose(file);
    }
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_true(n_open > 1);
    read_all(early, "/eval/final/reliability", H5T_NATIVE_DOUBLE, f, 4); /* opened before: still the old file */
    (void)H5Fclose(early);
}

static void unwritable_places_are_named(void **state) {
    char journal[512], path[512];
    make_run(state, "where", 4, 1);
    fixture_path(state, "where.journal", journal);
    fixture_path(state, "no/such/folder/x.h5", path);
    assert_error(lemoe_results_publish(journal, path, false), LEMOE_ERR_IO, "no/such/folder");
    assert_error(lemoe_results_publish(path, path, false), LEMOE_ERR_IO, "x.h5: cannot be opened");
}

/* ---- sweep.h5 ---- */

static void sweep_table_holds_all_runs(void **state) {
    char runs[512], h5[512];
    double f[4];
    int64_t n[4];
    void *inner = runs;
    assert_int_equal(mkdir(fixture_path(state, "runs", runs), 0777), 0);
    make_run(&inner, "a", 4, 1);
    static const unsigned char other[] = "not one, but long enough to tell it is none";
    write_bytes(fixture_path(&inner, "b.journal", h5), other, sizeof other);
    const char *const keys[] = {"edit.method", "seed"};
    const char *const a[] = {"lemoe", "0"}, *const b[] = {"moe", "0"}, *const c[] = {"moe", "1"};
    const lemoe_sweep_row rows[] = {
        {"a", a, 1, "cpu"},
        {"b", b, 2, "cpu"},
        {"c", c, 1, "cpu"}
    };
    assert_ok(lemoe_results_publish_sweep((char *)*state, keys, 2, rows, 3));
    hid_t file = open_published(state, "sweep.h5");
    read_all(file, "/final/reliability", H5T_NATIVE_DOUBLE, f, 3);
    assert_true(f[0] == 1.75 / 4 && isnan(f[1]) && isnan(f[2]));
    read_all(file, "/final/reliability_n", H5T_NATIVE_INT64, n, 3);
    assert_true(n[0] == 4 && n[1] == 0);
    read_all(file, "/seconds", H5T_NATIVE_DOUBLE, f, 3);
    assert_true(f[0] == 2);
    assert_text(file, "/status", 3, 0, "complete");
    assert_text(file, "/status", 3, 1, "unreadable");
    assert_text(file, "/status", 3, 2, "waiting");
    assert_text(file, "/error", 3, 1, "b.journal: not a journal");
    assert_text(file, "/axis/edit.method", 3, 1, "moe");
    read_all(file, "/runs/a/eval/final/reliability", H5T_NATIVE_DOUBLE, f, 4); /* through the link */
    assert_memory_equal(f, reliability, sizeof reliability);
    assert_true(H5Lexists(file, "/runs/c", H5P_DEFAULT) <= 0);
    (void)H5Fclose(file);
    const lemoe_sweep_row escape[] = {
        {"../a", a, 1, "cpu"}
    };
    assert_error(lemoe_results_publish_sweep((char *)*state, keys, 2, escape, 1), LEMOE_ERR_ARG, "../a");
}

/* ---- the Python checks, and that they can fail ---- */

static bool has_h5py(void) {
    if (access(PYTHON, X_OK) == 0 && system(PYTHON " -c 'import h5py' 2>/dev/null") == 0) return true;
    print_message("skipped: " PYTHON " with h5py is not there\n");
    return false;
}

static int run(const char *format, ...) __attribute__((format(printf, 1, 2)));
static int run(const char *format, ...) {
    char command[2048];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(command, sizeof command, format, arguments);
    va_end(arguments);
    int status = system(command);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void write_schema(const char *path) {
    char *text = NULL;
    assert_ok(lemoe_results_describe_schema(&text));
    write_bytes(path, (const unsigned char *)text, strlen(text));
    lemoe_mem_free(text);
}

static void files_keep_to_the_schema(void **state) {
    const char *folder = *state;
    char schema[512], path[512];
    if (!has_h5py()) return;
    write_schema(fixture_path(state, "schema.json", schema));
    make_run(state, "checked", 4, 1);
    assert_int_equal(run(PYTHON " tests/e2e/check_schema.py %s/checked.h5 %s", folder, schema), 0);
    assert_int_equal(run(PYTHON " tests/e2e/check_schema.py %s/sweep.h5 %s", folder, schema), 0);
    const char *const breaks[] = {
        "del f['/plan/batch'].attrs['units']",
        "f['/plan/extra'] = [1.0]",
        "f['/routing/consistency'].dims[1].detach_scale(f['/expert_final_index'])",
        "f['/plan/batch'].attrs['flag'] = True",
        "f['/eval/final/reliability'][0] = 1.5",
        "f['/eval/final/reliability'].attrs['scorer'] = 'all'",
        "f['/routing/consistency'][0] = 0.5",
        "f['/train/loss'].attrs['volatile'] = 1",
        "del f['/cost/tokens'].attrs['_FillValue']",
        "f.attrs['status'] = 'done'",
        "f.attrs['schema_version'] = 2",
        "del f.attrs['run_id']",
        "f.attrs['volatile_attributes'] = 'hosts'",
        "f.create_group('/more')",
    };
    FILE *list = fopen(fixture_path(state, "breaks", path), "w");
    assert_non_null(list);
    for (size_t i = 0; i < sizeof breaks / sizeof breaks[0]; i++) (void)fprintf(list, "%s\n", breaks[i]);
    (void)fclose(list);
    /* Exit status 3, so that a script that falls over (1) is not taken for one that notices. */
    assert_int_equal(run("cd %s && PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$OLDPWD/tests/e2e " PYTHON " -c '%s'", folder,
                         "import check_schema, h5py, json, shutil, sys\n"
                         "missed = []\n"
                         "for line in open(\"breaks\"):\n"
                         "    shutil.copy(\"checked.h5\", \"broken.h5\")\n"
                         "    with h5py.File(\"broken.h5\", \"r+\") as f:\n"
                         "        exec(line)\n"
                         "        if not check_schema.Checker(f, json.load(open(\"schema.json\"))).run():\n"
                         "            missed.append(line)\n"
                         "print(\"\".join(missed), end=\"\")\n"
                         "sys.exit(1 if missed else 3)\n"),
                     3);
    assert_int_equal(run("cp %s/checked.h5 %s/broken.h5 && " PYTHON
                         " -c 'import h5py; h5py.File(\"%s/broken.h5\", \"r+\").create_group(\"more\")'",
                         folder, folder, folder),
                     0);
    assert_int_equal(run(PYTHON " tests/e2e/check_schema.py %s/broken.h5 %s > %s/said", folder, schema, folder), 1);
    assert_int_equal(run("grep -q 'broken.h5: /more: creation order is not tracked' %s/said", folder), 0);
}

static void equal_runs_compare_equal(void **state) {
    const char *folder = *state;
    if (!has_h5py()) return;
    make_run(state, "same", 4, 1);
    char first[512], second[512];
    assert_int_equal(rename(fixture_path(state, "same.h5", first), fixture_path(state, "same1.h5", second)), 0);
    assert_int_equal(unlink(fixture_path(state, "same.journal", first)), 0);
    (void)sleep(1);
    make_run(state, "same", 4, 99); /* other times, other stamps */
    assert_int_equal(run(PYTHON " tests/e2e/compare_h5.py %s/same1.h5 %s/same.h5", folder, folder), 0);
    assert_int_equal(unlink(first), 0);
    make_run(state, "same", 4.0000000000000009, 1); /* one bit of one loss */
    assert_int_equal(run(PYTHON " tests/e2e/compare_h5.py %s/same1.h5 %s/same.h5 > %s/said", folder, folder, folder),
                     1);
    assert_int_equal(run("grep -q '^/train/loss: differs at' %s/said", folder), 0);
    assert_int_equal(run("grep -q seconds %s/said", folder), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_and_fill_come_back),  cmocka_unit_test(uncommitted_rows_stay_out),
        cmocka_unit_test(twice_gives_equal_bytes),    cmocka_unit_test(damage_is_refused_then_salvaged),
        cmocka_unit_test(opens_while_published),      cmocka_unit_test(unwritable_places_are_named),
        cmocka_unit_test(sweep_table_holds_all_runs), cmocka_unit_test(files_keep_to_the_schema),
        cmocka_unit_test(equal_runs_compare_equal),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}

#include "runner/io/atomic_file.h"
#include "runner/io/file.h"
#include "tests/unit/fixture.h"

#include <dirent.h>
#include <sys/stat.h>
#include <utime.h>

/* ---- reading ---- */

static void mapping_shows_the_file(void **state) {
    char path[512];
    lemoe_file_map map;
    write_text(fixture_path(state, "mapped", path), "some bytes");
    assert_ok(lemoe_file_map_open(path, &map));
    assert_int_equal(map.n_bytes, 10);
    assert_memory_equal(map.data, "some bytes", 10);
    lemoe_file_map_close(&map);
    assert_null(map.data);
    write_text(path, "");
    assert_ok(lemoe_file_map_open(path, &map));
    assert_true(map.n_bytes == 0 && map.data == NULL);
    lemoe_file_map_close(&map);
}

static void what_is_no_regular_file_is_refused(void **state) {
    char path[512], *text = NULL;
    int64_t n_bytes = 0;
    lemoe_file_map map;
    assert_error(lemoe_file_map_open(fixture_path(state, "absent", path), &map), LEMOE_ERR_IO,
                 "absent: cannot be read");
    assert_error(lemoe_file_map_open((char *)*state, &map), LEMOE_ERR_IO, "not a regular file");
    assert_error(lemoe_file_read_text((char *)*state, 10, &text, &n_bytes), LEMOE_ERR_IO, "not a regular file");
    assert_int_equal(mkfifo(fixture_path(state, "pipe", path), 0600), 0);
    assert_error(lemoe_file_map_open(path, &map), LEMOE_ERR_IO,
                 "not a regular file"); /* and does not wait for a writer */
}

static void text_is_read_whole(void **state) {
    char path[512], *text = NULL;
    int64_t n_bytes = 0;
    write_text(fixture_path(state, "text", path), "line\nline\n");
    assert_ok(lemoe_file_read_text(path, 10, &text, &n_bytes));
    assert_int_equal(n_bytes, 10);
    assert_string_equal(text, "line\nline\n");
    lemoe_mem_free(text);
    assert_error(lemoe_file_read_text(path, 9, &text, &n_bytes), LEMOE_ERR_FORMAT, "10 bytes long; at most 9");
}

/* ---- paths ---- */

static void paths_are_joined_and_split(void **state) {
    static const struct {
        const char *folder, *name, *joined, *joined_folder;
    } cases[] = {
        {"a/b", "c",   "a/b/c", "a/b"},
        {"a/",  "c",   "a/c",   "a"  },
        {"a",   "/c",  "/c",    "/"  },
        {"",    "c/d", "/c/d",  "/c" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *path = NULL, *folder = NULL;
        assert_ok(lemoe_file_join(cases[i].folder, cases[i].name, &path));
        assert_string_equal(path, cases[i].joined);
        assert_ok(lemoe_file_folder_of(path, &folder));
        assert_string_equal(folder, cases[i].joined_folder);
        lemoe_mem_free(path);
        lemoe_mem_free(folder);
    }
    char *here = NULL;
    assert_ok(lemoe_file_folder_of("name", &here));
    assert_string_equal(here, ".");
    lemoe_mem_free(here);
}

static void names_that_leave_the_folder(void **state) {
    static const char *const inside[] = {"a", "a.safetensors", "a/b", "..a", "a..", ".hidden"};
    static const char *const outside[] = {"", "/a", "..", "../a", "a/../b", "a/..", "a//b", "a/"};
    (void)state;
    for (size_t i = 0; i < sizeof inside / sizeof *inside; i++) assert_true(lemoe_file_name_is_inside(inside[i]));
    for (size_t i = 0; i < sizeof outside / sizeof *outside; i++)
        if (lemoe_file_name_is_inside(outside[i])) fail_msg("'%s' counts as inside", outside[i]);
}

static void folders_are_made_unless_a_file_is_in_the_way(void **state) {
    char path[512], below[512];
    fixture_path(state, "x/y/z", path);
    assert_ok(lemoe_file_make_folders(path));
    assert_true(lemoe_file_is_folder(path));
    assert_ok(lemoe_file_make_folders(path));
    write_text(fixture_path(state, "file", path), "");
    assert_true(lemoe_file_exists(path));
    assert_false(lemoe_file_is_folder(path));
    assert_error(lemoe_file_make_folders(path), LEMOE_ERR_IO, "in the way");
    assert_error(lemoe_file_make_folders(fixture_path(state, "file/below", below)), LEMOE_ERR_IO, path);
}

/* ---- files that are the old or the new one ---- */

static int n_dot_files(const char *folder) {
    DIR *listing = opendir(folder);
    int n = 0;
    for (struct dirent *entry; (entry = readdir(listing));)
        n += entry->d_name[0] == '.' && strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    (void)closedir(listing);
    return n;
}

static void assert_holds(const char *path, const char *expected) {
    char *text = NULL;
    int64_t n_bytes = 0;
    assert_ok(lemoe_file_read_text(path, 100, &text, &n_bytes));
    assert_string_equal(text, expected);
    lemoe_mem_free(text);
}

static void the_old_file_stands_until_the_commit(void **state) {
    char path[512];
    lemoe_atomic_file *file = NULL;
    write_text(fixture_path(state, "kept", path), "old");
    assert_ok(lemoe_atomic_file_begin(path, &file));
    (void)fputs("new", lemoe_atomic_file_stream(file));
    assert_int_equal(fflush(lemoe_atomic_file_stream(file)), 0);
    assert_holds(path, "old");
    assert_holds(lemoe_atomic_file_temporary(file), "new");
    assert_ok(lemoe_atomic_file_commit(file));
    assert_holds(path, "new");
    assert_int_equal(n_dot_files((char *)*state), 0);
}

static void abandoning_leaves_nothing(void **state) {
    char path[512];
    lemoe_atomic_file *file = NULL;
    assert_ok(lemoe_atomic_file_begin(fixture_path(state, "never", path), &file));
    (void)fputs("new", lemoe_atomic_file_stream(file));
    assert_int_equal(n_dot_files((char *)*state), 1);
    lemoe_atomic_file_abandon(file);
    lemoe_atomic_file_abandon(NULL);
    assert_false(lemoe_file_exists(path));
    assert_int_equal(n_dot_files((char *)*state), 0);
}

static void a_commit_that_fails_leaves_nothing(void **state) {
    char path[512], full[512];
    lemoe_atomic_file *file = NULL;
    assert_error(lemoe_atomic_file_begin(fixture_path(state, "absent-folder/a", path), &file), LEMOE_ERR_IO,
                 "cannot be written");
    fixture_path(state, "folder/inside", path);
    assert_ok(lemoe_file_make_folders(path));
    assert_ok(lemoe_atomic_file_begin(fixture_path(state, "folder", path), &file));
    assert_error(lemoe_atomic_file_commit(file), LEMOE_ERR_IO, "cannot be renamed"); /* a full folder is in the way */
    assert_int_equal(n_dot_files((char *)*state), 0);
    assert_ok(lemoe_fsync_folder_of(fixture_path(state, "anything", full)));
}

/* Of those that a killed process had begun: its only writer sweeps them all, others what is old. */
static void what_was_begun_is_swept(void **state) {
    static const struct {
        const char *name;
        bool is_old, stays;
    } cases[] = {
        {"swept/.a.bin.17",  true,  false},
        {"swept/.b.bin.17",  true,  true }, /* another name */
        {"swept/.a.bin.17x", true,  true }, /* no process number */
        {"swept/a.bin.17",   true,  true },
        {"swept/.a.bin.18",  false, true }, /* may be under way */
    };
    char path[512], folder[512];
    struct utimbuf old = {1000, 1000};
    assert_ok(lemoe_file_make_folders(fixture_path(state, "swept/.a.folder.17", path)));
    assert_int_equal(utime(path, &old), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_text(fixture_path(state, cases[i].name, path), "x");
        if (cases[i].is_old) assert_int_equal(utime(path, &old), 0);
    }
    lemoe_atomic_file_sweep_stale(fixture_path(state, "swept", folder), "a.");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(lemoe_file_exists(fixture_path(state, cases[i].name, path)), cases[i].stays);
    assert_true(lemoe_file_is_folder(fixture_path(state, "swept/.a.folder.17", path)));
    lemoe_atomic_file_sweep(fixture_path(state, "swept/a.bin", path));
    assert_false(lemoe_file_exists(fixture_path(state, "swept/.a.bin.18", path)));
    lemoe_atomic_file_sweep_stale(fixture_path(state, "absent", folder), "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mapping_shows_the_file),
        cmocka_unit_test(what_is_no_regular_file_is_refused),
        cmocka_unit_test(text_is_read_whole),
        cmocka_unit_test(paths_are_joined_and_split),
        cmocka_unit_test(names_that_leave_the_folder),
        cmocka_unit_test(folders_are_made_unless_a_file_is_in_the_way),
        cmocka_unit_test(the_old_file_stands_until_the_commit),
        cmocka_unit_test(abandoning_leaves_nothing),
        cmocka_unit_test(a_commit_that_fails_leaves_nothing),
        cmocka_unit_test(what_was_begun_is_swept),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}

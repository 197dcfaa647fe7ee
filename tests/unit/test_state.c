#include "runner/state/state.h"
#include "tests/unit/fixture.h"

enum { N_VALUE = 5 };

/* Something to save: values, host memory, a tensor, a part. */
typedef struct thing {
    lemoe_device *device;
    const char *identity;
    int64_t n, most;
    double number;
    bool flag, part_is_frozen;
    float values[N_VALUE], part[3];
    const char *part_name;
} thing;

static lemoe_status visit_part(void *object, lemoe_state *state) {
    thing *t = object;
    return lemoe_state_bytes(state, "numbers", t->part, (int64_t)sizeof t->part);
}

static lemoe_status visit(void *object, lemoe_state *state) {
    thing *t = object;
    LEMOE_TRY(lemoe_state_same(state, "identity", t->identity));
    LEMOE_TRY(lemoe_state_count(state, "n", &t->n, t->most));
    LEMOE_TRY(lemoe_state_f64(state, "number", &t->number));
    LEMOE_TRY(lemoe_state_bool(state, "flag", &t->flag));
    LEMOE_TRY(
        lemoe_state_tensor(state, t->device, "values", lemoe_tensor_1d(t->values, LEMOE_F32, t->flag ? t->n : 0)));
    return lemoe_state_part(state, t->part_name, t->part_is_frozen, visit_part, t);
}

static thing make(lemoe_device *device) {
    return (thing){
        device, "a", N_VALUE, N_VALUE, 0.25, true, true, {1,  2, 3, 4, 5},
               {6, 7,  8  },
               "part"
    };
}
static thing make_empty(lemoe_device *device) {
    return (thing){.device = device, .identity = "a", .most = N_VALUE, .part_name = "part"};
}

/* The state of a test: its folder and a device. */
static lemoe_device *device_of(void) {
    lemoe_device *device = NULL;
    assert_ok(lemoe_device_open("cpu", 1, &device));
    return device;
}

static lemoe_status load(lemoe_state_folder *folder, const char *name, thing *t) {
    lemoe_state *state = NULL;
    LEMOE_TRY(lemoe_state_open(folder, name, &state));
    lemoe_status status = visit(t, state);
    lemoe_state_close(state);
    return status;
}

static void assert_same(const thing *a, const thing *b) {
    assert_int_equal(a->n, b->n);
    assert_true(a->number == b->number && a->flag == b->flag);
    assert_memory_equal(a->values, b->values, sizeof a->values);
    assert_memory_equal(a->part, b->part, sizeof a->part);
}

static void what_is_saved_is_loaded(void **state) {
    lemoe_device *device = device_of();
    lemoe_state_folder folder = {.path = *state, .rank = 1};
    for (int frozen = 0; frozen < 2; frozen++) {
        thing saved = make(device), loaded = make_empty(device);
        saved.part_is_frozen = frozen == 1;
        assert_ok(lemoe_state_save(&folder, "000001", visit, &saved));
        assert_ok(load(&folder, "000001", &loaded));
        assert_same(&saved, &loaded);
    }
    char path[512];
    assert_int_equal(access(fixture_path(state, "checkpoint-000001-1", path), F_OK), 0);
    assert_int_equal(access(fixture_path(state, "checkpoint-part-1", path), F_OK), 0);
    lemoe_state_remove(&folder, "000001");
    thing loaded = make_empty(device);
    assert_error(load(&folder, "000001", &loaded), LEMOE_ERR_IO, "checkpoint-000001-1");
    lemoe_state_folder_reset(&folder);
    lemoe_device_close(device);
}

static void a_frozen_part_is_written_once(void **state) {
    lemoe_device *device = device_of();
    lemoe_state_folder folder = {.path = *state}, other = {.path = *state};
    thing saved = make(device), loaded = make_empty(device);
    assert_ok(lemoe_state_save(&folder, "000001", visit, &saved));
    saved.part[0] = 60; /* against the promise, so that it shows */
    assert_ok(lemoe_state_save(&folder, "000002", visit, &saved));
    assert_ok(load(&folder, "000002", &loaded));
    assert_true(loaded.part[0] == 6);
    assert_ok(lemoe_state_save(&other, "000003", visit, &saved)); /* a process that does not know the file */
    assert_error(load(&folder, "000002", &loaded), LEMOE_ERR_FORMAT, "is not the file that");
    lemoe_state_folder_reset(&folder);
    lemoe_state_folder_reset(&other);
    lemoe_device_close(device);
}

/* No byte of a file may change, and no end of it be missing, unnoticed. */
static void damage_is_noticed(void **state) {
    lemoe_device *device = device_of();
    lemoe_state_folder folder = {.path = *state};
    thing saved = make(device), loaded = make_empty(device);
    char path[512];
    file_bytes *file = malloc(sizeof *file);
    assert_ok(lemoe_state_save(&folder, "000001", visit, &saved));
    read_bytes(fixture_path(state, "checkpoint-000001-0", path), file);
    for (size_t i = 0; i < file->n; i++) {
        file->data[i] ^= 4;
        write_bytes(path, file->data, file->n);
        lemoe_status status = load(&folder, "000001", &loaded);
        assert_true(status == LEMOE_ERR_FORMAT || status == LEMOE_ERR_UNSUPPORTED);
        file->data[i] ^= 4;
        write_bytes(path, file->data, i);
        assert_error(load(&folder, "000001", &loaded), LEMOE_ERR_FORMAT, path);
    }
    free(file);
    lemoe_state_folder_reset(&folder);
    lemoe_device_close(device);
}

static void what_does_not_fit_is_refused(void **state) {
    lemoe_device *device = device_of();
    lemoe_state_folder folder = {.path = *state};
    thing saved = make(device), loaded = make_empty(device);
    assert_ok(lemoe_state_save(&folder, "000001", visit, &saved));
    loaded.identity = "b";
    assert_error(load(&folder, "000001", &loaded), LEMOE_ERR_FORMAT, "its identity is `a`, here it is `b`");
    loaded = make_empty(device);
    loaded.most = 4;
    assert_error(load(&folder, "000001", &loaded), LEMOE_ERR_FORMAT, "`n` is 5, outside of 0 to 4");
    loaded = make_empty(device);
    loaded.part_name = "other";
    assert_error(load(&folder, "000001", &loaded), LEMOE_ERR_FORMAT, "something else than `other`");
    lemoe_state_folder_reset(&folder);
    lemoe_device_close(device);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_saved_is_loaded, fixture_open, fixture_close),
        cmocka_unit_test_setup_teardown(a_frozen_part_is_written_once, fixture_open, fixture_close),
        cmocka_unit_test_setup_teardown(damage_is_noticed, fixture_open, fixture_close),
        cmocka_unit_test_setup_teardown(what_does_not_fit_is_refused, fixture_open, fixture_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

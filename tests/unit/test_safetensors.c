#include "runner/model/safetensors.h"
#include "tests/unit/fixture.h"

/* ---- files of our choosing ---- */

/* header text, then n data bytes 0, 1, 2, ... */
static void write_file(const char *path, const char *header, size_t n_data) {
    unsigned char bytes[4096] = {0};
    size_t length = strlen(header);
    for (int i = 0; i < 8; i++) bytes[i] = (unsigned char)((uint64_t)length >> (8 * i));
    memcpy(bytes + 8, header, length);
    for (size_t i = 0; i < n_data; i++) bytes[8 + length + i] = (unsigned char)i;
    write_bytes(path, bytes, 8 + length + n_data);
}

static void write_index(void **state, const char *map) {
    char path[512], text[1024];
    (void)snprintf(text, sizeof text, "{\"metadata\": {}, \"weight_map\": {%s}}", map);
    write_text(fixture_path(state, "model.safetensors.index.json", path), text);
}

static void remove_index(void **state) {
    char path[512];
    (void)remove(fixture_path(state, "model.safetensors.index.json", path));
}

#define TENSOR(name, type, shape, begin, end)                                                                          \
    "\"" name "\": {\"dtype\": \"" type "\", \"shape\": " shape ", \"data_offsets\": [" #begin ", " #end "]}"

/* ---- tests ---- */

/* Only in tensors that somebody asked for, in the order of the file, whatever their type and size. */
static void what_is_not_finite_is_named_with_its_place(void **state) {
    enum { ROWS = 700, COLUMNS = 300 }; /* more than a block of the search */
    char path[512], text[33], expected[120];
    float *matrix = calloc((size_t)ROWS * COLUMNS, sizeof *matrix);
    uint16_t half[3] = {0x3f80, 0x7fc0, 0x3f80};
    matrix[699 * COLUMNS + 2] = -INFINITY;
    lemoe_safetensors_item items[] = {
        {"first", lemoe_tensor_2d(matrix, LEMOE_F32, ROWS,                        COLUMNS)},
        {"second",       lemoe_tensor_1d(half,                      LEMOE_BF16,     3)},
    };
    lemoe_safetensors *file = NULL;
    lemoe_tensor t;
    assert_ok(lemoe_safetensors_write(fixture_path(state, "nan.safetensors", path), items, 2, NULL, 0));
    assert_ok(lemoe_safetensors_open(path, &file));
    assert_ok(lemoe_safetensors_fingerprint(file, false, text));
    assert_ok(lemoe_safetensors_get(file, "second", 0, NULL, &t));
    assert_error(lemoe_safetensors_fingerprint(file, false, text), LEMOE_ERR_FORMAT, "tensor second is nan at [1]");
    assert_ok(lemoe_safetensors_get(file, "first", 0, NULL, &t));
    assert_error(lemoe_safetensors_fingerprint(file, false, text), LEMOE_ERR_FORMAT,
                 "tensor first is -inf at [699, 2]");
    (void)snprintf(expected, sizeof expected, "%.80s: tensor", path);
    assert_error(lemoe_safetensors_fingerprint(file, false, text), LEMOE_ERR_FORMAT, expected);
    lemoe_safetensors_close(file);
    free(matrix);
}

static void what_is_written_is_read(void **state) {
    char path[512], again[33], first[33];
    float matrix[6] = {1, 2, 3, 4, 5, 6}, nothing[1] = {0};
    uint16_t half[3] = {0x3f80, 0x4000, 0xc040};
    lemoe_safetensors_item items[] = {
        {"b.matrix",               lemoe_tensor_2d(matrix, LEMOE_F32,  2,  3)},
        {"a.\"half\"",             lemoe_tensor_1d(half,   LEMOE_BF16, 3)},
        {"empty", lemoe_tensor_2d(nothing,              LEMOE_F32,          0, 5)  },
    };
    const char *metadata[] = {"method", "lemoe", "note", "two\nlines"};
    lemoe_safetensors *file = NULL;
    lemoe_tensor t;
    fixture_path(state, "out.safetensors", path);
    assert_ok(lemoe_safetensors_write(path, items, 3, metadata, 2));
    assert_ok(lemoe_safetensors_open(path, &file));
    assert_int_equal(lemoe_safetensors_count(file), 3);
    assert_string_equal(lemoe_safetensors_name(file, 0), "a.\"half\"");
    assert_int_equal(lemoe_safetensors_data_bytes(file), 30);
    assert_ok(lemoe_safetensors_get(file, "b.matrix", 2, (int64_t[]){2, 3}, &t));
    assert_int_equal(t.dtype, LEMOE_F32);
    assert_true(lemoe_safetensors_aligned(&t));
    assert_memory_equal(t.data, matrix, sizeof matrix);
    assert_ok(lemoe_safetensors_get(file, "a.\"half\"", 0, NULL, &t));
    assert_true(t.dtype == LEMOE_BF16 && t.shape[0] == 3);
    assert_memory_equal(t.data, half, sizeof half);
    assert_ok(lemoe_safetensors_get(file, "empty", 2, (int64_t[]){0, 5}, &t));
    assert_ok(lemoe_safetensors_fingerprint(file, false, first));
    lemoe_safetensors_close(file);
    matrix[5] = 7;
    assert_ok(lemoe_safetensors_write(path, items, 3, metadata, 2));
    assert_ok(lemoe_safetensors_open(path, &file));
    assert_ok(lemoe_safetensors_fingerprint(file, false, again));
    assert_string_not_equal(first, again);
    lemoe_safetensors_close(file);
    lemoe_safetensors_close(NULL);
}

static void asking_for_what_is_not_there(void **state) {
    char path[512];
    lemoe_safetensors *file = NULL;
    lemoe_tensor t;
    write_file(fixture_path(state, "a.safetensors", path),
               "{" TENSOR("x", "F32", "[2, 3]", 0, 24) ", " TENSOR("i", "I64", "[1]", 24, 32) "}", 32);
    assert_ok(lemoe_safetensors_open(path, &file));
    assert_true(lemoe_safetensors_has(file, "x") && !lemoe_safetensors_has(file, "y"));
    assert_error(lemoe_safetensors_get(file, "y", 0, NULL, &t), LEMOE_ERR_FORMAT, "no tensor y");
    assert_error(lemoe_safetensors_get(file, "x", 2, (int64_t[]){3, 2}, &t), LEMOE_ERR_FORMAT, "[2, 3]");
    assert_non_null(strstr(lemoe_error_message(), "[3, 2]"));
    assert_error(lemoe_safetensors_get(file, "x", 1, (int64_t[]){6}, &t), LEMOE_ERR_FORMAT, "[6]");
    assert_error(lemoe_safetensors_get(file, "i", 0, NULL, &t), LEMOE_ERR_UNSUPPORTED, "is I64");
    lemoe_safetensors_close(file);
}

/* clang-format off */ /* version 14 crashes on this table */
static const struct {
    const char *header;
    size_t n_data;
    const char *part;
} damaged[] = {
    {"[]",                                                                               0,  "not a JSON object"     },
    {"{\"x\": 3}",                                                                       0,  "not an object"         },
    {"{\"x\": {\"dtype\": \"F32\"}}",                                                    0,  "is missing"            },
    {"{" TENSOR("x", "F33", "[1]", 0, 4) "}",                                            4,  "none that safetensors" },
    {"{" TENSOR("x", "F32", "3", 0, 4) "}",                                              4,  "array of at most"      },
    {"{" TENSOR("x", "F32", "[1,1,1,1,1]", 0, 4) "}",                                    4,  "array of at most"      },
    {"{" TENSOR("x", "F32", "[-1]", 0, 4) "}",                                           4,  "not a count"           },
    {"{" TENSOR("x", "F32", "[1.5]", 0, 4) "}",                                          4,  "not a count"           },
    {"{" TENSOR("x", "F32", "[4611686018427387904, 4]", 0, 4) "}",                       4,  "larger than any file"  },
    {"{" TENSOR("x", "F32", "[2]", 0, 4) "}",                                            4,  "need 8 bytes"          },
    {"{" TENSOR("x", "F32", "[2]", 0, 8) "}",                                            4,  "truncated"             },
    {"{" TENSOR("x", "F32", "[1]", -4, 0) "}",                                           4,  "outside"               },
    {"{" TENSOR("x", "F32", "[0]", 4, 0) "}",                                            4,  "outside"               },
    {"{\"x\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0]}}",             4,  "two integers"          },
    {"{" TENSOR("x", "F32", "[1]", 0, 4) ", " TENSOR("y", "F32", "[2]", 0, 8) "}",       8,  "overlaps"              },
    {"{" TENSOR("x", "F32", "[1]", 0, 4) ", " TENSOR("y", "F32", "[1]", 8, 12) "}",      12, "4 bytes before"        },
    {"{" TENSOR("x", "F32", "[1]", 0, 4) "}",                                            9,  "5 bytes behind"        },
    {"{" TENSOR("x", "F32", "[1]", 0, 4) ", " TENSOR("x", "F32", "[1]", 4, 8) "}",       8,  "not valid JSON"        },
};
/* clang-format on */

static void damaged_files_are_refused(void **state) {
    char path[512];
    fixture_path(state, "bad.safetensors", path);
    for (size_t i = 0; i < sizeof damaged / sizeof *damaged; i++) {
        lemoe_safetensors *file = NULL;
        write_file(path, damaged[i].header, damaged[i].n_data);
        assert_error(lemoe_safetensors_open(path, &file), LEMOE_ERR_FORMAT, damaged[i].part);
        assert_non_null(strstr(lemoe_error_message(), path));
        assert_null(file);
    }
}

/* Cut anywhere, a file is refused: header length, header, data. */
static void every_truncation_is_refused(void **state) {
    char path[512];
    file_bytes whole;
    lemoe_safetensors *file = NULL;
    write_file(fixture_path(state, "cut.safetensors", path), "{" TENSOR("x", "F32", "[4]", 0, 16) "}", 16);
    read_bytes(path, &whole);
    for (size_t n = 0; n < whole.n; n++) {
        write_bytes(path, whole.data, n);
        if (lemoe_safetensors_open(path, &file) != LEMOE_ERR_FORMAT) fail_msg("%zu bytes of %zu pass", n, whole.n);
    }
    write_bytes(path, whole.data, whole.n);
    assert_ok(lemoe_safetensors_open(path, &file));
    lemoe_safetensors_close(file);
}

static void data_may_lie_anywhere(void **state) {
    char path[512];
    lemoe_safetensors *file = NULL;
    lemoe_tensor t;
    for (int pad = 0; pad < 4; pad++) {
        char header[256];
        (void)snprintf(header, sizeof header, "{" TENSOR("x", "F32", "[2]", 0, 8) "}%*s", pad, "");
        write_file(fixture_path(state, "odd.safetensors", path), header, 8);
        assert_ok(lemoe_safetensors_open(path, &file));
        assert_ok(lemoe_safetensors_get(file, "x", 0, NULL, &t));
        assert_int_equal(lemoe_safetensors_aligned(&t), (8 + strlen(header)) % 4 == 0);
        assert_int_equal(((unsigned char *)t.data)[7], 7);
        lemoe_safetensors_close(file);
    }
}

static void an_index_joins_shards(void **state) {
    char path[512];
    lemoe_safetensors *file = NULL;
    lemoe_tensor t;
    write_file(fixture_path(state, "s1.safetensors", path), "{" TENSOR("x", "F32", "[1]", 0, 4) "}", 4);
    write_file(fixture_path(state, "s2.safetensors", path), "{" TENSOR("y", "F16", "[3]", 0, 6) "}", 6);
    write_index(state, "\"x\": \"s1.safetensors\", \"y\": \"s2.safetensors\"");
    assert_ok(lemoe_safetensors_open((char *)*state, &file));
    assert_int_equal(lemoe_safetensors_count(file), 2);
    assert_int_equal(lemoe_safetensors_data_bytes(file), 10);
    assert_ok(lemoe_safetensors_get(file, "y", 1, (int64_t[]){3}, &t));
    assert_int_equal(t.dtype, LEMOE_F16);
    lemoe_safetensors_close(file);
    remove_index(state);
}

static void an_index_that_does_not_fit_is_refused(void **state) {
    static const struct {
        const char *map, *part;
    } cases[] = {
        {"\"x\": \"s1.safetensors\", \"z\": \"s1.safetensors\"",  "tensor z is not in"  },
        {"\"x\": \"../s1.safetensors\"",                          "outside the model's" },
        {"\"x\": \"/etc/passwd\"",                                "outside the model's" },
        {"\"x\": 3",                                              "is not a string"     },
        {"\"x\": \"s1.safetensors\", \"x2\": \"s3.safetensors\"", "stands in two shards"},
    };
    char path[512];
    lemoe_safetensors *file = NULL;
    write_file(fixture_path(state, "s1.safetensors", path), "{" TENSOR("x", "F32", "[1]", 0, 4) "}", 4);
    write_file(fixture_path(state, "s3.safetensors", path), "{" TENSOR("x", "F32", "[1]", 0, 4) "}", 4);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_index(state, cases[i].map);
        assert_error(lemoe_safetensors_open((char *)*state, &file), LEMOE_ERR_FORMAT, cases[i].part);
        assert_null(file);
    }
    write_index(state, "\"x\": \"absent.safetensors\"");
    assert_error(lemoe_safetensors_open((char *)*state, &file), LEMOE_ERR_IO, "absent.safetensors");
    write_text(fixture_path(state, "model.safetensors.index.json", path), "{\"weight_map\": []}");
    assert_error(lemoe_safetensors_open((char *)*state, &file), LEMOE_ERR_FORMAT, "no object weight_map");
    remove_index(state);
    assert_error(lemoe_safetensors_open((char *)*state, &file), LEMOE_ERR_IO, "holds neither");
}

static void only_our_types_are_written(void **state) {
    char path[512];
    int32_t x[1] = {0};
    lemoe_safetensors_item item = {"x", lemoe_tensor_1d(x, LEMOE_I32, 1)};
    assert_error(lemoe_safetensors_write(fixture_path(state, "no.safetensors", path), &item, 1, NULL, 0), LEMOE_ERR_ARG,
                 "int32");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_finite_is_named_with_its_place),
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(asking_for_what_is_not_there),
        cmocka_unit_test(damaged_files_are_refused),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(data_may_lie_anywhere),
        cmocka_unit_test(an_index_joins_shards),
        cmocka_unit_test(an_index_that_does_not_fit_is_refused),
        cmocka_unit_test(only_our_types_are_written),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}

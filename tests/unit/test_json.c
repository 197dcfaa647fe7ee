#include "runner/io/json.h"
#include "tests/unit/fixture.h"

static lemoe_json *parse(const char *text) {
    lemoe_json *document = NULL;
    assert_ok(lemoe_json_parse("t.json", text, (int64_t)strlen(text), &document));
    return document;
}

static void values_of_every_kind(void **state) {
    lemoe_json *document =
        parse("{\"i\": -7, \"r\": 2.5, \"s\": \"\\u00fc\", \"t\": true, \"n\": null, \"a\": [1, 2, 3], \"o\": {}}");
    const lemoe_json_value *root = lemoe_json_root(document), *array = lemoe_json_get(root, "a");
    (void)state;
    assert_int_equal(lemoe_json_kind_of(root), LEMOE_JSON_OBJECT);
    assert_int_equal(lemoe_json_size(root), 7);
    assert_int_equal(lemoe_json_integer(lemoe_json_get(root, "i")), -7);
    assert_true(lemoe_json_real(lemoe_json_get(root, "r")) == 2.5);
    assert_true(lemoe_json_real(lemoe_json_get(root, "i")) == -7.0);
    assert_string_equal(lemoe_json_string(lemoe_json_get(root, "s")), "ü");
    assert_true(lemoe_json_bool(lemoe_json_get(root, "t")));
    assert_int_equal(lemoe_json_kind_of(lemoe_json_get(root, "n")), LEMOE_JSON_NULL);
    assert_int_equal(lemoe_json_size(array), 3);
    assert_int_equal(lemoe_json_integer(lemoe_json_at(array, 2)), 3);
    assert_null(lemoe_json_at(array, 3));
    assert_null(lemoe_json_at(array, -1));
    assert_null(lemoe_json_get(root, "absent"));
    assert_string_equal(lemoe_json_kind_name(LEMOE_JSON_OBJECT), "an object");
    lemoe_json_close(document);
    lemoe_json_close(NULL);
}

static void what_is_not_json_is_refused_with_its_place(void **state) {
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"",                          "t.json:1:"  },
        {"{\"a\": 1,\n \"a\": 2}",    "t.json:2:"  }, /* a key twice */
        {"{\"a\": 1,}",               "t.json:1:"  },
        {"[1, 2",                     "t.json:1:"  },
        {"[1] x",                     "t.json:1:"  },
        {"[\"\xff\"]",                "byte 0xff"  },
        {"[\"a\\u0000b\"]",           "\\u0000"    },
        {"[99999999999999999999999]", "integer"    },
        {"[1e999]",                   "real number"},
        {"nonsense",                  "t.json:1:"  },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lemoe_json *document = NULL;
        assert_error(lemoe_json_parse("t.json", cases[i].text, (int64_t)strlen(cases[i].text), &document),
                     LEMOE_ERR_FORMAT, cases[i].part);
        assert_null(document);
    }
}

static void nesting_without_end_is_refused(void **state) {
    enum { DEPTH = 100000 };
    char *text = malloc(DEPTH);
    lemoe_json *document = NULL;
    (void)state;
    memset(text, '[', DEPTH);
    assert_error(lemoe_json_parse("t.json", text, DEPTH, &document), LEMOE_ERR_FORMAT, "depth");
    free(text);
}

static lemoe_status sum_up(void *context, const char *key, const lemoe_json_value *value) {
    int64_t *sum = context;
    LEMOE_CHECK(key[0] != 'z', LEMOE_ERR_ARG, "stop at %s", key);
    *sum += lemoe_json_integer(value);
    return LEMOE_OK;
}

static void members_are_visited_until_one_fails(void **state) {
    lemoe_json *document = parse("{\"a\": 1, \"b\": 20, \"c\": 300}");
    int64_t sum = 0;
    (void)state;
    assert_ok(lemoe_json_each(lemoe_json_root(document), sum_up, &sum));
    assert_int_equal(sum, 321);
    lemoe_json_close(document);
    document = parse("{\"a\": 1, \"z\": 20, \"c\": 300}");
    assert_error(lemoe_json_each(lemoe_json_root(document), sum_up, &sum), LEMOE_ERR_ARG, "stop at z");
    lemoe_json_close(document);
}

static void files_are_named_in_errors(void **state) {
    char path[512], expected[560];
    lemoe_json *document = NULL;
    assert_error(lemoe_json_open(fixture_path(state, "absent.json", path), 100, &document), LEMOE_ERR_IO, path);
    write_text(fixture_path(state, "a.json", path), "{\"a\":\n  nope}");
    (void)snprintf(expected, sizeof expected, "%s:2:", path);
    assert_error(lemoe_json_open(path, 100, &document), LEMOE_ERR_FORMAT, expected);
    assert_error(lemoe_json_open(path, 5, &document), LEMOE_ERR_FORMAT, "at most 5");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_of_every_kind),           cmocka_unit_test(what_is_not_json_is_refused_with_its_place),
        cmocka_unit_test(nesting_without_end_is_refused), cmocka_unit_test(members_are_visited_until_one_fails),
        cmocka_unit_test(files_are_named_in_errors),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}

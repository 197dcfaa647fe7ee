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

/* ---- item by item ---- */

static lemoe_status walk(const char *text, int64_t n_bytes, int64_t *n_item, int64_t *sum) {
    lemoe_json_items items;
    lemoe_json *item = NULL;
    *n_item = *sum = 0;
    LEMOE_TRY(lemoe_json_items_begin("t.json", text, n_bytes, &items));
    while (true) {
        LEMOE_TRY(lemoe_json_items_next(&items, &item));
        *n_item = items.n_item;
        if (!item) return LEMOE_OK;
        const lemoe_json_value *root = lemoe_json_root(item);
        *sum += lemoe_json_kind_of(root) == LEMOE_JSON_INTEGER ? lemoe_json_integer(root) : 100 * lemoe_json_size(root);
        lemoe_json_close(item);
    }
}

static void items_come_one_at_a_time(void **state) {
    static const struct {
        const char *text;
        int64_t n_item, sum;
    } cases[] = {
        {"[]",                                           0, 0  },
        {" [ ] \n",                                      0, 0  },
        {"[7]",                                          1, 7  },
        {"[1,2,30]",                                     3, 33 },
        {"\t[ 1 ,\r\n 2 , [3, 4], {\"a\": \"]\"} ]  \n", 4, 303},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t n_item = 0, sum = 0;
        assert_ok(walk(cases[i].text, (int64_t)strlen(cases[i].text), &n_item, &sum));
        assert_int_equal(n_item, cases[i].n_item);
        assert_int_equal(sum, cases[i].sum);
    }
}

/* The place is that in the whole text: lines, and columns counted in characters. */
static void items_that_are_wrong_are_refused_with_their_place(void **state) {
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"",                                    "t.json:1:1: not valid JSON: '[' expected before the end"},
        {"{\"a\": 1}",                          "t.json: is not a JSON array but an object"              },
        {"nonsense",                            "t.json:1:1: not valid JSON: '['"                        },
        {"[",                                   "t.json:1:"                                              },
        {"[1, 2",                               "t.json:1:6: not valid JSON: ',' or ']' expected before" },
        {"[1 2]",                               "t.json:1:4: not valid JSON: ',' or ']'"                 },
        {"[1,\n 2,]",                           "t.json:2:"                                              },
        {"[,1]",                                "t.json:1:"                                              },
        {"[1] x",                               "t.json:1:5: not valid JSON: nothing more"               },
        {"[1,\n{\"a\": 1, \"a\": 2}]",          "t.json:2:"                                              },
        {"[1,\n \"\xc3\xbc\", {\"a\":\n  no}]", "t.json:3:4: not valid JSON: invalid token near 'no'"    },
        {"[1, \"\xc3\xbc\", no]",               "t.json:1:11: not valid JSON: invalid token"             },
        {"[\"\xff\"]",                          "byte 0xff"                                              },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t n_item = 0, sum = 0;
        assert_error(walk(cases[i].text, (int64_t)strlen(cases[i].text), &n_item, &sum), LEMOE_ERR_FORMAT,
                     cases[i].part);
    }
    int64_t n_item = 0, sum = 0;
    assert_error(walk("[1]\0", 4, &n_item, &sum), LEMOE_ERR_FORMAT, "nothing more");
    assert_error(walk("[\0]", 3, &n_item, &sum), LEMOE_ERR_FORMAT, "t.json:1:");
}

/* A text of one string of n bytes, between brackets. */
static char *long_item(int64_t n) {
    char *text = malloc((size_t)n + 5);
    memset(text, 'a', (size_t)n + 4);
    memcpy(text, "[\"", 2);
    (void)strcpy(text + n + 2, "\"]");
    return text;
}

static void an_item_has_a_largest_size(void **state) {
    int64_t n_item = 0, sum = 0, most = LEMOE_JSON_MAX_ITEM;
    char *fits = long_item(most - 2), *longer = long_item(most - 1);
    (void)state;
    assert_ok(walk(fits, (int64_t)strlen(fits), &n_item, &sum));
    assert_int_equal(n_item, 1);
    assert_error(walk(longer, (int64_t)strlen(longer), &n_item, &sum), LEMOE_ERR_FORMAT,
                 "t.json:1:2: item 0 (from 0) is longer than");
    free(fits);
    free(longer);
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

/* What is written is read back, and is ASCII whatever the text is. */
static void any_text_can_be_written(void **state) {
    static const char *const texts[][2] = {
        {"",                          NULL    },
        {"a\"b\\c\n\t\x01\x7f/",      NULL    },
        {"\xc3\xbc \xf0\x9f\x98\x80", NULL    },
        {"caf\xe9\"",                 "caf?\""}, /* no UTF-8 */
        {"\xc3",                      "?"     },
    };
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char *quoted = NULL, *array = NULL;
        assert_ok(lemoe_json_quote(texts[i][0], &quoted));
        for (const char *at = quoted; *at; at++) assert_in_range(*at, ' ', '~' + 1);
        assert_ok(lemoe_mem_printf(&array, "[%s]", quoted));
        lemoe_json *document = parse(array);
        assert_string_equal(lemoe_json_string(lemoe_json_at(lemoe_json_root(document), 0)),
                            texts[i][1] ? texts[i][1] : texts[i][0]);
        lemoe_json_close(document);
        lemoe_mem_free(quoted);
        lemoe_mem_free(array);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_of_every_kind),
        cmocka_unit_test(what_is_not_json_is_refused_with_its_place),
        cmocka_unit_test(nesting_without_end_is_refused),
        cmocka_unit_test(members_are_visited_until_one_fails),
        cmocka_unit_test(files_are_named_in_errors),
        cmocka_unit_test(items_come_one_at_a_time),
        cmocka_unit_test(an_item_has_a_largest_size),
        cmocka_unit_test(items_that_are_wrong_are_refused_with_their_place),
        cmocka_unit_test(any_text_can_be_written),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}

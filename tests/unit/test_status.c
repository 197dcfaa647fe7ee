#include "tests/unit/fixture.h"

static lemoe_status inner(int code) {
    LEMOE_CHECK(code == 0, (lemoe_status)code, "value %d is refused", code);
    return LEMOE_OK;
}

static lemoe_status middle(int code) {
    LEMOE_TRY(inner(code));
    return LEMOE_OK;
}

/* Cleanup runs on both ways out. */
static lemoe_status outer(int code, int *n_cleaned) {
    lemoe_status status = LEMOE_OK;
    LEMOE_TRY_GOTO(middle(code));
out:
    (*n_cleaned)++;
    return status;
}

static void failure_carries_message_and_trace(void **state) {
    int n_cleaned = 0;
    (void)state;
    lemoe_error_clear();
    assert_int_equal(outer(0, &n_cleaned), LEMOE_OK);
    assert_string_equal(lemoe_error_message(), "");
    assert_int_equal(outer(LEMOE_ERR_SHAPE, &n_cleaned), LEMOE_ERR_SHAPE);
    assert_int_equal(n_cleaned, 2);
    assert_string_equal(lemoe_error_message(), "value 6 is refused");
    const char *trace = lemoe_error_trace(), *in_middle = strstr(trace, "middle"), *in_outer = strstr(trace, "outer");
    assert_non_null(strstr(trace, "test_status.c:"));
    assert_non_null(in_middle);
    assert_non_null(in_outer);
    assert_true(in_middle < in_outer); /* innermost first */
}

static void a_new_failure_replaces_the_old_one(void **state) {
    int n_cleaned = 0;
    (void)state;
    assert_int_equal(outer(LEMOE_ERR_IO, &n_cleaned), LEMOE_ERR_IO);
    assert_int_equal(inner(LEMOE_ERR_ARG), LEMOE_ERR_ARG);
    assert_string_equal(lemoe_error_message(), "value 1 is refused");
    assert_null(strstr(lemoe_error_trace(), "outer"));
    lemoe_error_clear();
    assert_string_equal(lemoe_error_message(), "");
    assert_string_equal(lemoe_error_trace(), "");
}

static void prefix_goes_in_front(void **state) {
    (void)state;
    (void)inner(LEMOE_ERR_FORMAT);
    lemoe_error_prefix("record %d", 12);
    assert_string_equal(lemoe_error_message(), "record 12: value 4 is refused");
}

static void long_texts_are_cut_not_overrun(void **state) {
    char text[5000];
    (void)state;
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    (void)lemoe_raise(LEMOE_ERR_IO, "%s", text);
    size_t length = strlen(lemoe_error_message());
    assert_true(length > 1000 && length < sizeof text);
    lemoe_error_prefix("%s", text);
    lemoe_error_prefix("short");
    assert_memory_equal(lemoe_error_message(), "short: xxx", 10);
    for (int i = 0; i < 500; i++) (void)lemoe_error_frame(LEMOE_ERR_IO, __FILE__, i, __func__);
    assert_true(strlen(lemoe_error_trace()) < sizeof text);
}

static void every_code_has_a_name(void **state) {
    (void)state;
    for (int i = 0; i < LEMOE_STATUS_COUNT; i++) {
        assert_string_not_equal(lemoe_status_name((lemoe_status)i), "unknown");
        for (int j = 0; j < i; j++)
            assert_string_not_equal(lemoe_status_name((lemoe_status)i), lemoe_status_name((lemoe_status)j));
    }
    assert_string_equal(lemoe_status_name((lemoe_status)99), "unknown");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(failure_carries_message_and_trace),
        cmocka_unit_test(a_new_failure_replaces_the_old_one),
        cmocka_unit_test(prefix_goes_in_front),
        cmocka_unit_test(long_texts_are_cut_not_overrun),
        cmocka_unit_test(every_code_has_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

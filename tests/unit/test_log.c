#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "tests/unit/fixture.h"

/* The file gets every line, whatever the level of standard error. */
static void the_file_gets_every_line(void **state) {
    char path[512];
    file_bytes text;
    FILE *file = fopen(fixture_path(state, "run.log", path), "w");
    assert_non_null(file);
    lemoe_log_set_level(LEMOE_LOG_ERROR);
    lemoe_log_set_file(file);
    lemoe_log(LEMOE_LOG_INFO, "batch %d of %d", 3, 5);
    lemoe_log(LEMOE_LOG_DEBUG, "detail");
    lemoe_log_set_file(NULL);
    lemoe_log(LEMOE_LOG_INFO, "not kept");
    assert_int_equal(fclose(file), 0);
    read_bytes(path, &text);
    text.data[text.n] = '\0';
    assert_non_null(strstr((char *)text.data, " info: batch 3 of 5\n"));
    assert_non_null(strstr((char *)text.data, " debug: detail\n"));
    assert_null(strstr((char *)text.data, "not kept"));
}

static void clocks(void **state) {
    char stamp[21];
    double before = lemoe_clock_seconds();
    (void)state;
    lemoe_clock_utc(stamp);
    assert_int_equal(strlen(stamp), 20);
    assert_true(stamp[4] == '-' && stamp[10] == 'T' && stamp[19] == 'Z');
    assert_true(lemoe_clock_seconds() >= before);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_file_gets_every_line),
        cmocka_unit_test(clocks),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}

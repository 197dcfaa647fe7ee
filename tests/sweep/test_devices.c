/* Which GPU a rank takes, and what parallel.device means; tests/e2e/cuda_host.sh has a whole launch. */
#include "runner/sweep/devices.h"
#include "tests/unit/fixture.h"

static void ranks_of_a_node_count_from_zero(void **state) {
    static const int together[] = {0, 0, 0, 0}, apart[] = {0, 0, 1, 1}, mixed[] = {0, 1, 0, 1, 0};
    (void)state;
    for (int r = 0; r < 4; r++) assert_int_equal(lemoe_devices_local_rank(together, r), r);
    for (int r = 0; r < 4; r++) assert_int_equal(lemoe_devices_local_rank(apart, r), r % 2);
    for (int r = 0; r < 5; r++) assert_int_equal(lemoe_devices_local_rank(mixed, r), r / 2);
}

static void auto_takes_what_there_is(void **state) {
    lemoe_devices none = {.are_asked = true, .why_not = "no driver"}, some = {.are_asked = true, .has_cuda = true};
    const char *kind = NULL;
    (void)state;
    assert_ok(lemoe_devices_resolve(&none, "auto", &kind));
    assert_string_equal(kind, "cpu");
    assert_ok(lemoe_devices_resolve(&some, "auto", &kind));
    assert_string_equal(kind, "cuda");
    assert_ok(lemoe_devices_resolve(&some, "cpu", &kind));
    assert_string_equal(kind, "cpu");
    assert_ok(lemoe_devices_resolve(&some, "cuda", &kind));
    assert_string_equal(kind, "cuda");
    assert_error(lemoe_devices_resolve(&none, "cuda", &kind), LEMOE_ERR_UNSUPPORTED,
                 "parallel.device: cuda: no driver");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_of_a_node_count_from_zero),
        cmocka_unit_test(auto_takes_what_there_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

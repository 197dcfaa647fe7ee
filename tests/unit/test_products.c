/*
 * Products of bf16 on a CPU without instructions for them, wherever this runs: the linker takes the answer below before
 * that of kernels/cpu/cpu_features.c. Refused when a configuration is checked, and when a device is to compute so.
 */
#include "kernels/device.h"
#include "tests/unit/fixture.h"

bool cpu_has_bf16(void);
bool cpu_has_bf16(void) { return false; }

/* A build without oneDNN has no such products whatever the CPU. */
static const char *const reasons[] = {"this CPU has no instructions for bf16", "this build has no oneDNN"};

static void expect_refusal(lemoe_status status) {
    assert_int_equal(status, LEMOE_ERR_UNSUPPORTED);
    if (!strstr(lemoe_error_message(), reasons[0]) && !strstr(lemoe_error_message(), reasons[1]))
        fail_msg("message `%s`", lemoe_error_message());
    lemoe_error_clear();
}

static void a_cpu_without_bf16_refuses_its_products(void **state) {
    lemoe_device *device = NULL;
    (void)state;
    assert_ok(lemoe_device_check_products("cpu", LEMOE_PRODUCTS_F32));
    expect_refusal(lemoe_device_check_products("cpu", LEMOE_PRODUCTS_BF16));

    assert_ok(lemoe_device_open("cpu", 1, &device));
    expect_refusal(lemoe_device_set_products(device, LEMOE_PRODUCTS_BF16));
    assert_null(strstr(lemoe_device_domain(device), "products bf16"));
    assert_ok(lemoe_device_set_products(device, LEMOE_PRODUCTS_F32));
    lemoe_device_close(device);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cpu_without_bf16_refuses_its_products),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

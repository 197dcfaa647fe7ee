/* What opening the CUDA module says where it is missing, broken, or of another build. argv[1]: the folder of the fakes.
 */
#include "kernels/device.h"
#include "kernels/module.h"
#include "tests/unit/fixture.h"

static const char *fakes;

static void choose(const char *folder, const char *name) {
    char path[1024];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(setenv("LEMOE_CUDA_MODULE", path, 1), 0);
}

static void refused(const char *part) {
    lemoe_device *device = NULL;
    lemoe_device_info info;
    lemoe_device_libraries libraries;
    int n = 0;
    assert_error(lemoe_device_count("cuda", &n), LEMOE_ERR_UNSUPPORTED, part);
    assert_error(lemoe_device_open("cuda", 1, &device), LEMOE_ERR_UNSUPPORTED, part);
    assert_error(lemoe_device_describe("cuda", 0, &info), LEMOE_ERR_UNSUPPORTED, part);
    assert_error(lemoe_device_describe_libraries("cuda", &libraries), LEMOE_ERR_UNSUPPORTED, part);
    assert_null(strchr(lemoe_error_message(), '\n'));
}

static void a_missing_one(void **state) {
    choose((const char *)*state, "absent.so");
    refused("absent.so, which LEMOE_CUDA_MODULE names");
    assert_int_equal(unsetenv("LEMOE_CUDA_MODULE"), 0);
    refused("there is no CUDA module (liblemoe_cuda.so)");
}

static void a_broken_one(void **state) {
    char path[512];
    FILE *file = fopen(fixture_path(state, "broken.so", path), "w");
    assert_non_null(file);
    (void)fputs("this is no library", file);
    assert_int_equal(fclose(file), 0);
    choose((const char *)*state, "broken.so");
    refused("broken.so does not open:");
    choose(fakes, "libfake_needs.so");
    refused("cannot open shared object file");
    choose(fakes, "libfake_nothing.so");
    refused("it exports no lemoe_cuda_module");
}

static void another_build(void **state) {
    (void)state;
    char expected[64];
    choose(fakes, "libfake_abi.so");
    (void)snprintf(expected, sizeof expected, "has interface 999 and this program %d;", LEMOE_MODULE_ABI);
    refused(expected);
    choose(fakes, "libfake_id.so");
    refused("has build id 0123456789abcdef and this program ");
}

/* Once opened it stays, whatever the environment says then. */
static void the_right_one_after_all(void **state) {
    lemoe_device_libraries libraries;
    int n = 0;
    (void)state;
    choose(fakes, "../liblemoe_cuda_host.so");
    assert_ok(lemoe_device_count("cuda", &n));
    assert_int_equal(n, 1);
    choose(fakes, "libfake_id.so");
    assert_ok(lemoe_device_describe_libraries("cuda", &libraries));
    assert_non_null(strstr(libraries.compute, "cuBLAS"));
    assert_string_equal(libraries.collective, "NCCL 0.0.0");
}

int main(int argc, char **argv) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_missing_one, fixture_open, fixture_close),
        cmocka_unit_test_setup_teardown(a_broken_one, fixture_open, fixture_close),
        cmocka_unit_test(another_build),
        cmocka_unit_test(the_right_one_after_all),
    };
    if (argc < 2) return EXIT_FAILURE;
    fakes = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}

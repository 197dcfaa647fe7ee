/* What the tests of the configuration share: loading text with the methods and planners of the program. */
#ifndef TESTS_UNIT_TEST_CONFIG_SUPPORT_H
#define TESTS_UNIT_TEST_CONFIG_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/base/mem.h"
#include "runner/config/config.h"

#include <stdio.h>
#include <string.h>

/* the two keys without a default; what follows starts in line 3 */
#define NEEDED "model: {path: m}\ndata: {path: d}\n"

static const char *const test_methods[] = {"none", "lemoe", "moe", "ft_m", NULL};
static const char *const test_planners[] = {"file", "random", "kmeans", "hierarchical", "round_robin", NULL};

typedef struct text_list {
    const char *items[8]; /* ends with NULL */
} text_list;

#define OVERRIDES(...)                                                                                                 \
    (text_list) {                                                                                                      \
        { __VA_ARGS__, NULL }                                                                                          \
    }
#define NO_OVERRIDES OVERRIDES(NULL)

static inline lemoe_status load_bytes(const char *path, const char *text, int64_t n_bytes, text_list overrides,
                                      lemoe_sweep_spec **out) {
    int64_t n = 0;
    while (overrides.items[n]) n++;
    lemoe_config_args args = {path, text, n_bytes, overrides.items, n, NULL, test_methods, test_planners};
    return lemoe_config_load(&args, out);
}

static inline lemoe_sweep_spec *load_with(const char *text, text_list overrides) {
    lemoe_sweep_spec *spec = NULL;
    if (load_bytes("dir/t.yaml", text, (int64_t)strlen(text), overrides, &spec) != LEMOE_OK)
        fail_msg("not accepted: %s\n%s", lemoe_error_message(), text);
    return spec;
}

static inline lemoe_sweep_spec *load(const char *text) { return load_with(text, NO_OVERRIDES); }

static inline void expect_error_with(const char *text, text_list overrides, const char *message) {
    lemoe_sweep_spec *spec = NULL;
    lemoe_status status = load_bytes("t.yaml", text, (int64_t)strlen(text), overrides, &spec);
    if (status == LEMOE_OK) fail_msg("accepted, expected: %s\n%s", message, text);
    assert_int_equal(status, LEMOE_ERR_CONFIG);
    assert_null(spec);
    assert_string_equal(lemoe_error_message(), message);
}

static inline void expect_error(const char *text, const char *message) {
    expect_error_with(text, NO_OVERRIDES, message);
}

/* One value of one run as text, compared. */
static inline void check_value(const lemoe_config *config, const char *key, const char *expected) {
    char *text = NULL;
    assert_int_equal(lemoe_config_value(config, key, &text), LEMOE_OK);
    if (strcmp(text, expected) != 0) fail_msg("%s is %s, expected %s", key, text, expected);
    lemoe_mem_free(text);
}

#endif

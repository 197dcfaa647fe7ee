#include "tests/unit/fixture.h"

static void blocks_are_zeroed_and_aligned(void **state) {
    double *block = NULL;
    (void)state;
    for (int64_t n = 0; n < 100; n += 33) {
        assert_ok(lemoe_mem_alloc(n, sizeof *block, &block));
        assert_non_null(block);
        assert_int_equal((uintptr_t)block % 64, 0);
        for (int64_t i = 0; i < n; i++) assert_true(block[i] == 0.0);
        lemoe_mem_free(block);
    }
    lemoe_mem_free(NULL);
}

static void sizes_that_overflow_are_refused(void **state) {
    void *block = NULL;
    int64_t capacity = 0;
    (void)state;
    assert_error(lemoe_mem_alloc(INT64_MAX, 8, &block), LEMOE_ERR_NOMEM, "9223372036854775807");
    assert_error(lemoe_mem_alloc(-1, 8, &block), LEMOE_ERR_NOMEM, "-1");
    assert_error(lemoe_mem_grow(&block, &capacity, INT64_MAX, 16), LEMOE_ERR_NOMEM, "too large");
    assert_null(block);
    assert_int_equal(capacity, 0);
}

static void growing_keeps_what_was_there(void **state) {
    int64_t *list = NULL, capacity = 0, n_moved = 0;
    (void)state;
    for (int64_t n = 0; n < 10000; n++) {
        int64_t before = capacity;
        assert_ok(lemoe_mem_grow(&list, &capacity, n + 1, sizeof *list));
        assert_true(capacity > n);
        n_moved += capacity != before;
        list[n] = n * n;
    }
    assert_true(n_moved < 20); /* grows by a factor */
    for (int64_t i = 0; i < 10000; i++) assert_int_equal(list[i], i * i);
    lemoe_mem_free(list);
}

static void texts_are_copied(void **state) {
    char *copy = NULL, *made = NULL;
    (void)state;
    assert_ok(lemoe_mem_strdup("Zürich", &copy));
    assert_string_equal(copy, "Zürich");
    assert_ok(lemoe_mem_printf(&made, "%s has %d %s", copy, 12, "Kreise"));
    assert_string_equal(made, "Zürich has 12 Kreise");
    lemoe_mem_free(copy);
    lemoe_mem_free(made);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_zeroed_and_aligned),
        cmocka_unit_test(sizes_that_overflow_are_refused),
        cmocka_unit_test(growing_keeps_what_was_there),
        cmocka_unit_test(texts_are_copied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "runner/io/crc32c.h"

/* The definition, bit by bit. */
static uint32_t reference(const unsigned char *data, size_t n) {
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < n; i++) {
        crc ^= data[i];
        for (int k = 0; k < 8; k++) crc = crc & 1 ? (crc >> 1) ^ 0x82f63b78u : crc >> 1;
    }
    return ~crc;
}

/* RFC 3720, B.4 */
static void published_vectors(void **state) {
    (void)state;
    unsigned char bytes[32];
    assert_int_equal(lemoe_crc32c(0, "123456789", 9), 0xe3069283u);
    assert_int_equal(lemoe_crc32c(0, "", 0), 0);
    memset(bytes, 0, sizeof bytes);
    assert_int_equal(lemoe_crc32c(0, bytes, sizeof bytes), 0x8a9136aau);
    memset(bytes, 0xff, sizeof bytes);
    assert_int_equal(lemoe_crc32c(0, bytes, sizeof bytes), 0x62a8ab43u);
    for (int i = 0; i < 32; i++) bytes[i] = (unsigned char)i;
    assert_int_equal(lemoe_crc32c(0, bytes, sizeof bytes), 0x46dd794eu);
}

static void equals_definition_in_any_cut(void **state) {
    (void)state;
    unsigned char bytes[300];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (unsigned char)(i * 89 + i / 7);
    for (size_t n = 0; n <= sizeof bytes; n++) {
        uint32_t whole = lemoe_crc32c(0, bytes, n);
        assert_int_equal(whole, reference(bytes, n));
        assert_int_equal(lemoe_crc32c(lemoe_crc32c(0, bytes, n / 3), bytes + n / 3, n - n / 3), whole);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(published_vectors),
                                       cmocka_unit_test(equals_definition_in_any_cut)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "kernels/base/dtype.h"
#include "tests/unit/fixture.h"

/* The value of a half by its definition, for what is not infinite or NaN. */
static double value_of(lemoe_dtype dtype, uint16_t bits) {
    int exponent_bits = dtype == LEMOE_BF16 ? 8 : 5, mantissa_bits = 15 - exponent_bits;
    int exponent = (bits & 0x7fff) >> mantissa_bits, bias = (1 << (exponent_bits - 1)) - 1;
    double mantissa = (double)(bits & ((1 << mantissa_bits) - 1)) / (double)(1 << mantissa_bits);
    double magnitude = exponent ? ldexp(1.0 + mantissa, exponent - bias) : ldexp(mantissa, 1 - bias);
    return bits & 0x8000 ? -magnitude : magnitude;
}

static bool is_special(lemoe_dtype dtype, uint16_t bits) {
    uint16_t all = dtype == LEMOE_BF16 ? 0x7f80 : 0x7c00;
    return (bits & all) == all;
}

static void every_half_widens_to_its_value_and_comes_back(void **state) {
    static const lemoe_dtype dtypes[] = {LEMOE_BF16, LEMOE_F16};
    (void)state;
    for (int d = 0; d < 2; d++)
        for (uint32_t i = 0; i < 65536; i++) {
            uint16_t bits = (uint16_t)i, back = 0;
            float wide = 0;
            lemoe_dtype_to_f32(dtypes[d], &bits, 1, &wide);
            lemoe_dtype_from_f32(dtypes[d], &wide, 1, &back);
            if (!is_special(dtypes[d], bits)) assert_true((double)wide == value_of(dtypes[d], bits));
            if (isnan(wide))
                assert_true(is_special(dtypes[d], back) && back & (dtypes[d] == LEMOE_BF16 ? 0x7f : 0x3ff));
            else
                assert_int_equal(back, bits);
        }
}

static uint16_t narrow(lemoe_dtype dtype, double value) {
    float wide = (float)value;
    uint16_t bits = 0;
    lemoe_dtype_from_f32(dtype, &wide, 1, &bits);
    return bits;
}

/* Halfway between neighbours goes to the even one; a little beyond goes to the nearer one. */
static void rounding_is_to_nearest_even(void **state) {
    static const lemoe_dtype dtypes[] = {LEMOE_BF16, LEMOE_F16};
    (void)state;
    for (int d = 0; d < 2; d++)
        for (uint32_t i = 1; i < 0x7c00 - 1; i += 13) {
            double low = value_of(dtypes[d], (uint16_t)i), high = value_of(dtypes[d], (uint16_t)(i + 1));
            double middle = 0.5 * (low + high), a_quarter = 0.25 * (high - low);
            assert_int_equal(narrow(dtypes[d], middle), i % 2 ? i + 1 : i);
            assert_int_equal(narrow(dtypes[d], middle - a_quarter), i);
            assert_int_equal(narrow(dtypes[d], middle + a_quarter), i + 1);
            assert_int_equal(narrow(dtypes[d], -middle), 0x8000 | (i % 2 ? i + 1 : i));
        }
}

static void the_ends_of_the_ranges(void **state) {
    (void)state;
    assert_int_equal(narrow(LEMOE_F16, 65504.0), 0x7bff); /* the largest */
    assert_int_equal(narrow(LEMOE_F16, 65519.996), 0x7bff);
    assert_int_equal(narrow(LEMOE_F16, 65520.0), 0x7c00); /* rounds to infinity */
    assert_int_equal(narrow(LEMOE_F16, 1e30), 0x7c00);
    assert_int_equal(narrow(LEMOE_F16, -INFINITY), 0xfc00);
    assert_int_equal(narrow(LEMOE_F16, 0x1p-24), 1); /* the smallest */
    assert_int_equal(narrow(LEMOE_F16, 0x1p-25), 0); /* halfway to zero, which is even */
    assert_int_equal(narrow(LEMOE_F16, 0x1.8p-25), 1);
    assert_int_equal(narrow(LEMOE_F16, -1e-30), 0x8000);
    assert_int_equal(narrow(LEMOE_BF16, 3.4e38), 0x7f80);
    assert_int_equal(narrow(LEMOE_BF16, INFINITY), 0x7f80);
    assert_int_equal(narrow(LEMOE_BF16, 1.0), 0x3f80);
}

static void sizes_and_names(void **state) {
    static const size_t bytes[LEMOE_DTYPE_COUNT] = {4, 2, 2, 8, 4, 8};
    static const char *const names[LEMOE_DTYPE_COUNT] = {"fp32", "bf16", "fp16", "fp64", "int32", "int64"};
    double wide[3];
    float from[3] = {1.5f, -2.25f, 0.0f}, back[3];
    (void)state;
    for (int i = 0; i < LEMOE_DTYPE_COUNT; i++) {
        assert_int_equal(lemoe_dtype_bytes((lemoe_dtype)i), bytes[i]);
        assert_string_equal(lemoe_dtype_name((lemoe_dtype)i), names[i]);
    }
    lemoe_dtype_from_f32(LEMOE_F64, from, 3, wide);
    lemoe_dtype_to_f32(LEMOE_F64, wide, 3, back);
    assert_memory_equal(from, back, sizeof from);
    lemoe_dtype_from_f32(LEMOE_F32, from, 3, back);
    assert_memory_equal(from, back, sizeof from);
}

/* At every distance from the edges of the vectors and blocks that the search works in, aligned or not. */
static void what_is_not_finite_is_found(void **state) {
    enum { N = 4096 + 37 };
    static const struct {
        lemoe_dtype dtype;
        uint32_t bits[4], finite; /* infinity, its negative, two NaNs; the largest finite value */
    } cases[] = {
        {LEMOE_F32,  {0x7f800000, 0xff800000, 0x7f800001, 0xffc00000}, 0x7f7fffff},
        {LEMOE_BF16, {0x7f80, 0xff80, 0x7f81, 0xffc0},                 0xff7f    },
        {LEMOE_F16,  {0x7c00, 0xfc00, 0x7c01, 0xfe00},                 0x7bff    },
    };
    static const int places[] = {0, 1, 15, 16, 17, 4095, 4096, N - 1};
    unsigned char *bytes = calloc(N + 1, 4);
    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        for (int shift = 0; shift < 2; shift++) {
            size_t size = lemoe_dtype_bytes(cases[c].dtype);
            unsigned char *values = bytes + shift;
            for (int i = 0; i < N; i++) memcpy(values + (size_t)i * size, &cases[c].finite, size); /* little-endian */
            assert_int_equal(lemoe_dtype_find_nonfinite(cases[c].dtype, values, N), -1);
            for (size_t p = sizeof places / sizeof *places; p-- > 0;) { /* the last one first: the first is found */
                memcpy(values + (size_t)places[p] * size, &cases[c].bits[p % 4], size);
                assert_int_equal(lemoe_dtype_find_nonfinite(cases[c].dtype, values, N), places[p]);
            }
            assert_int_equal(lemoe_dtype_find_nonfinite(cases[c].dtype, values, 0), -1);
        }
    free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_finite_is_found),
        cmocka_unit_test(every_half_widens_to_its_value_and_comes_back),
        cmocka_unit_test(rounding_is_to_nearest_even),
        cmocka_unit_test(the_ends_of_the_ranges),
        cmocka_unit_test(sizes_and_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "kernels/base/rng.h"
#include "tests/unit/fixture.h"

/* Random123's known answers for philox4x32-10: the counter is (index, purpose, stream), the key the seed. */
static void bits_are_philox(void **state) {
    lemoe_rng zero = {0, 0, 0}, ones = {UINT64_MAX, UINT32_MAX, UINT32_MAX};
    lemoe_rng pi = {UINT64_C(0x299f31d0a4093822), 0x13198a2e, 0x03707344};
    (void)state;
    assert_true(lemoe_rng_bits(zero, 0) == UINT64_C(0xe169c58d6627e8d5));
    assert_true(lemoe_rng_bits(ones, UINT64_MAX) == UINT64_C(0x41c83b0e408f276d));
    assert_true(lemoe_rng_bits(pi, UINT64_C(0x85a308d3243f6a88)) == UINT64_C(0x94fdccebd16cfe09));
}

static void seed_purpose_stream_and_index_all_count(void **state) {
    lemoe_rng base = lemoe_rng_make(1, LEMOE_RNG_EXPERT, 0);
    uint64_t bits = lemoe_rng_bits(base, 0);
    (void)state;
    assert_true(bits == lemoe_rng_bits(base, 0));
    assert_true(bits != lemoe_rng_bits(base, 1));
    assert_true(bits != lemoe_rng_bits(lemoe_rng_make(2, LEMOE_RNG_EXPERT, 0), 0));
    assert_true(bits != lemoe_rng_bits(lemoe_rng_make(1, LEMOE_RNG_ROUTER, 0), 0));
    assert_true(bits != lemoe_rng_bits(lemoe_rng_make(1, LEMOE_RNG_EXPERT, 1), 0));
    assert_true(bits != lemoe_rng_bits(lemoe_rng_make(UINT64_C(1) | UINT64_C(1) << 40, LEMOE_RNG_EXPERT, 0), 0));
}

/* Means and variances within five standard errors of what they should be. */
static void moments(void **state) {
    enum { N = 100000 };
    lemoe_rng rng = lemoe_rng_make(3, LEMOE_RNG_TEST, 0);
    double uniform = 0, normal = 0, square = 0, fourth = 0;
    (void)state;
    for (uint64_t i = 0; i < N; i++) {
        double u = lemoe_rng_uniform(rng, i), z = lemoe_rng_normal(rng, i);
        assert_true(u >= 0.0 && u < 1.0 && isfinite(z));
        uniform += u / N;
        normal += z / N;
        square += z * z / N;
        fourth += z * z * z * z / N;
    }
    assert_close(uniform, 0.5, 5 * sqrt(1.0 / 12 / N));
    assert_close(normal, 0.0, 5 / sqrt(N));
    assert_close(square, 1.0, 5 * sqrt(2.0 / N));
    assert_close(fourth, 3.0, 5 * sqrt(96.0 / N));
}

static void permutations_hold_every_index_once(void **state) {
    enum { N = 257 };
    int64_t order[N], again[N], seen[N] = {0}, fixed = 0;
    lemoe_rng rng = lemoe_rng_make(4, LEMOE_RNG_ORDER, 0);
    (void)state;
    lemoe_rng_permutation(rng, N, order);
    lemoe_rng_permutation(rng, N, again);
    assert_memory_equal(order, again, sizeof order);
    for (int64_t i = 0; i < N; i++) {
        assert_in_range(order[i], 0, N - 1);
        seen[order[i]]++;
        fixed += order[i] == i;
    }
    for (int64_t i = 0; i < N; i++) assert_int_equal(seen[i], 1);
    assert_true(fixed < 10);
    lemoe_rng_permutation(rng, 0, order);
    lemoe_rng_permutation(rng, 1, order);
    assert_int_equal(order[0], 0);
}

/* Each of the 6 orders of three things, over seeds, about equally often. */
static void permutations_are_fair(void **state) {
    enum { N = 6000 };
    int64_t count[27] = {0};
    (void)state;
    for (uint64_t seed = 0; seed < N; seed++) {
        int64_t order[3];
        lemoe_rng_permutation(lemoe_rng_make(seed, LEMOE_RNG_TEST, 0), 3, order);
        count[order[0] * 9 + order[1] * 3 + order[2]]++;
    }
    for (int i = 0; i < 27; i++)
        if (count[i]) assert_close((double)count[i], N / 6.0, 5 * sqrt(N / 6.0));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bits_are_philox),
        cmocka_unit_test(seed_purpose_stream_and_index_all_count),
        cmocka_unit_test(moments),
        cmocka_unit_test(permutations_hold_every_index_once),
        cmocka_unit_test(permutations_are_fair),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Anchors: the nearest, the impostors, and the rules that set the threshold of the null route. */
#include "kernels/base/rng.h"
#include "runner/adaptor/anchors.h"
#include "tests/unit/fixture.h"

enum { D = 6, N = 40 };

static lemoe_device *device;
static lemoe_arena *arena;
static float features[N * D];

static int open_device(void **state) {
    (void)state;
    for (int64_t i = 0; i < N * D; i++)
        features[i] = (float)lemoe_rng_normal(lemoe_rng_make(1, LEMOE_RNG_TEST, 0), (uint64_t)i);
    return lemoe_device_open("cpu", 1, &device) != LEMOE_OK || lemoe_arena_create(device, 1 << 16, &arena) != LEMOE_OK;
}
static int close_device(void **state) {
    (void)state;
    lemoe_arena_destroy(arena);
    lemoe_device_close(device);
    return 0;
}

/* Of features of any length. */
static double cosine(const float *a, const float *b) {
    double dot = 0, aa = 0, bb = 0;
    for (int c = 0; c < D; c++) {
        dot += (double)a[c] * (double)b[c];
        aa += (double)a[c] * (double)a[c];
        bb += (double)b[c] * (double)b[c];
    }
    return dot / sqrt(aa * bb);
}

/* Experts of 3 edits each: anchor i belongs to expert i / 3. */
static void fill(lemoe_anchors *a, int64_t n) {
    assert_ok(lemoe_anchors_create(arena, N, D, a));
    for (int64_t i = 0; i < n; i += 3)
        assert_ok(lemoe_anchors_add(a, features + i * D, n - i < 3 ? n - i : 3, i / 3, arena));
    assert_int_equal(a->n, n);
}

static void the_nearest_anchor_and_the_nearest_rival(void **state) {
    enum { N_ANCHOR = 30 };
    lemoe_anchors a;
    lemoe_nearest found[N];
    (void)state;
    fill(&a, N_ANCHOR);
    assert_ok(lemoe_anchors_nearest(&a, features, N, arena, found));
    for (int64_t i = 0; i < N; i++) {
        int64_t best = 0;
        double rival = -1;
        for (int64_t j = 0; j < N_ANCHOR; j++)
            if (cosine(features + i * D, features + j * D) > cosine(features + i * D, features + best * D)) best = j;
        for (int64_t j = 0; j < N_ANCHOR; j++)
            if (j / 3 != best / 3) rival = fmax(rival, cosine(features + i * D, features + j * D));
        assert_int_equal(found[i].expert, best / 3);
        assert_close(found[i].cosine, cosine(features + i * D, features + best * D), 1e-6);
        assert_close(found[i].other_cosine, rival, 1e-6);
        if (i < N_ANCHOR) assert_close(found[i].cosine, 1.0, 1e-6); /* an edit's own anchor */
    }
    lemoe_anchors_destroy(&a);
}

/* A prompt that is edited again: the newer expert, whatever the order of the sums; and no impostor of itself. */
static void the_latest_of_equally_near_anchors_wins(void **state) {
    lemoe_anchors a;
    lemoe_nearest found;
    float again[D];
    double others[4];
    (void)state;
    for (int c = 0; c < D; c++) again[c] = 3.0f * features[c] * (c % 2 ? 1.0f + 1e-6f : 1.0f);
    assert_ok(lemoe_anchors_create(arena, 5, D, &a));
    assert_ok(lemoe_anchors_add(&a, features, 3, 0, arena));
    assert_ok(lemoe_anchors_add(&a, again, 1, 1, arena));
    assert_ok(lemoe_anchors_nearest(&a, features, 1, arena, &found));
    assert_int_equal(found.expert, 1);
    assert_close(found.cosine - found.other_cosine, 0, 1e-6);
    assert_ok(lemoe_anchors_nearest(&a, again, 1, arena, &found));
    assert_int_equal(found.expert, 1);
    for (int i = 0; i < 4; i++) {
        const float *own = i == 3 ? features : features + i * D; /* the nearest of another feature */
        others[i] = -1;
        for (int j = 0; j < 3; j++)
            if (features + j * D != own) others[i] = fmax(others[i], cosine(own, features + j * D));
        assert_close(a.impostor[i], others[i], 1e-6);
    }
    assert_ok(lemoe_anchors_add(&a, features, 1, 2, arena)); /* and again */
    assert_ok(lemoe_anchors_nearest(&a, features, 1, arena, &found));
    assert_int_equal(found.expert, 2);
    lemoe_anchors_destroy(&a);
}

/* Beyond the tie the nearer one wins, though it is older. */
static void a_nearer_anchor_beats_a_later_one(void **state) {
    const float rows[] = {1, 0, 0, 0, 0, 0, 1, 0.02f, 0, 0, 0, 0}; /* cosine 1 - 2e-4 */
    lemoe_anchors a;
    lemoe_nearest found;
    (void)state;
    assert_ok(lemoe_anchors_create(arena, 2, D, &a));
    assert_ok(lemoe_anchors_add(&a, rows, 1, 0, arena));
    assert_ok(lemoe_anchors_add(&a, rows + D, 1, 1, arena));
    assert_ok(lemoe_anchors_nearest(&a, rows, 1, arena, &found));
    assert_int_equal(found.expert, 0);
    assert_true(a.impostor[0] > 0.999 && a.impostor[1] > 0.999);
    lemoe_anchors_destroy(&a);
}

static void without_anchors_there_is_nobody(void **state) {
    lemoe_anchors a;
    lemoe_nearest found[2];
    (void)state;
    assert_ok(lemoe_anchors_create(arena, 3, D, &a));
    assert_true(isnan(a.threshold));
    assert_ok(lemoe_anchors_nearest(&a, features, 2, arena, found));
    assert_true(found[1].expert == -1 && found[1].cosine == -1.0);
    assert_ok(lemoe_anchors_add(&a, features, 2, 7, arena));
    assert_ok(lemoe_anchors_nearest(&a, features + 5 * D, 1, arena, found));
    assert_true(found[0].expert == 7 && found[0].other_cosine == -1.0); /* no other expert */
    assert_error(lemoe_anchors_add(&a, features, 2, 8, arena), LEMOE_ERR_STATE, "more than 3");
    lemoe_anchors_destroy(&a);
}

static void impostors_are_the_nearest_other_anchors(void **state) {
    enum { N_ANCHOR = 20 };
    lemoe_anchors a;
    (void)state;
    fill(&a, N_ANCHOR);
    for (int64_t i = 0; i < N_ANCHOR; i++) {
        double largest = -1;
        for (int64_t j = 0; j < N_ANCHOR; j++)
            if (j != i) largest = fmax(largest, cosine(features + i * D, features + j * D));
        assert_close(a.impostor[i], largest, 1e-6);
    }
    lemoe_anchors_destroy(&a);
}

static void quantiles_are_linear_between_order_statistics(void **state) {
    double values[] = {4, 1, 3, 2}, one[] = {7};
    (void)state;
    assert_close(lemoe_quantile(values, 4, 0.0), 1.0, 0);
    assert_close(lemoe_quantile(values, 4, 1.0), 4.0, 0);
    assert_close(lemoe_quantile(values, 4, 0.5), 2.5, 1e-15);
    assert_close(lemoe_quantile(values, 4, 0.9), 3.7, 1e-12);
    assert_close(lemoe_quantile(one, 1, 0.98), 7.0, 0);
    assert_true(isnan(lemoe_quantile(values, 0, 0.5)));
}

static void threshold_rules(void **state) {
    enum { N_ANCHOR = 12 };
    lemoe_anchors a;
    double impostors[N_ANCHOR], genuine[3];
    int64_t anchor[3] = {0, 4, 11};
    (void)state;
    fill(&a, N_ANCHOR);
    memcpy(impostors, a.impostor, sizeof impostors);
    double high = lemoe_quantile(impostors, N_ANCHOR, 0.9);
    assert_ok(lemoe_anchors_set_threshold(&a, LEMOE_NULL_RULE_QUANTILE, 0.9));
    assert_close(a.threshold, high, 1e-15);
    assert_true(isnan(a.genuine_level));
    assert_ok(lemoe_anchors_set_threshold(&a, LEMOE_NULL_RULE_MID, 0.9));
    assert_close(a.threshold, 0.5 * (high + 1.0), 1e-15);
    assert_ok(lemoe_anchors_set_threshold(&a, LEMOE_NULL_RULE_TWO_SIDED, 0.9)); /* no genuine pair yet: as mid */
    assert_close(a.threshold, 0.5 * (high + 1.0), 1e-15);
    assert_ok(lemoe_anchors_add_genuine(&a, features + 20 * D, anchor, 3));
    for (int i = 0; i < 3; i++) genuine[i] = cosine(features + (20 + i) * D, features + anchor[i] * D);
    assert_ok(lemoe_anchors_set_threshold(&a, LEMOE_NULL_RULE_TWO_SIDED, 0.9));
    assert_close(a.threshold, 0.5 * (high + lemoe_quantile(genuine, 3, 0.5)), 1e-6);
    assert_close(a.impostor_level, high, 1e-15); /* what it was set from, genuine[] is sorted by now */
    assert_close(a.genuine_level, genuine[1], 1e-6);
    double before = a.threshold; /* setting it twice changes nothing */
    assert_ok(lemoe_anchors_set_threshold(&a, LEMOE_NULL_RULE_TWO_SIDED, 0.9));
    assert_close(a.threshold, before, 0);
    lemoe_anchors_destroy(&a);
}

static void one_anchor_has_no_impostor(void **state) {
    lemoe_anchors a;
    (void)state;
    fill(&a, 1);
    assert_ok(lemoe_anchors_set_threshold(&a, LEMOE_NULL_RULE_MID, 0.98));
    assert_close(a.threshold, 0.5, 0);
    assert_ok(lemoe_anchors_set_threshold(&a, LEMOE_NULL_RULE_QUANTILE, 0.98));
    assert_close(a.threshold, 0.0, 0);
    assert_ok(lemoe_anchors_add(&a, features, 1, 1, arena)); /* the same prompt again is still one feature */
    assert_ok(lemoe_anchors_set_threshold(&a, LEMOE_NULL_RULE_MID, 0.98));
    assert_close(a.threshold, 0.5, 0);
    lemoe_anchors_destroy(&a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_nearest_anchor_and_the_nearest_rival),
        cmocka_unit_test(the_latest_of_equally_near_anchors_wins),
        cmocka_unit_test(a_nearer_anchor_beats_a_later_one),
        cmocka_unit_test(without_anchors_there_is_nobody),
        cmocka_unit_test(impostors_are_the_nearest_other_anchors),
        cmocka_unit_test(quantiles_are_linear_between_order_statistics),
        cmocka_unit_test(threshold_rules),
        cmocka_unit_test(one_anchor_has_no_impostor),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/base/mem.h"
#include "kernels/base/rng.h"
#include "runner/plan/order_plan.h"

enum { D = 16, MAX_EDIT = 120 };
static float features[MAX_EDIT * D];

/* n rows around k directions that are at right angles, noise of the given size; row i belongs to direction of[i]. */
static void scatter(int64_t n, const int64_t *of, double noise) {
    lemoe_rng rng = lemoe_rng_make(7, LEMOE_RNG_TEST, 0);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < D; j++) {
            double scale = 1 + (double)(i % 5); /* lengths differ: planners see directions only */
            features[i * D + j] =
                (float)(scale * ((j == of[i]) + noise * lemoe_rng_normal(rng, (uint64_t)(i * D + j))));
        }
}

/* i mod k, so that file order is as far from the clusters as it gets. */
static void scatter_cyclic(int64_t n, int64_t k, double noise) {
    int64_t of[MAX_EDIT];
    for (int64_t i = 0; i < n; i++) of[i] = i % k;
    scatter(n, of, noise);
}

static lemoe_plan_space *space_of(int64_t n) {
    lemoe_plan_space *space = NULL;
    assert_int_equal(lemoe_plan_space_create(features, n, D, &space), LEMOE_OK);
    return space;
}

static lemoe_plan *plan_in(lemoe_plan_space *space, const char *planner, int64_t n, int64_t batch_size, uint64_t seed) {
    lemoe_plan_args args = {
        .planner = planner, .space = space, .n_edit = n, .batch_size = batch_size, .seed = seed, .restarts = 10};
    lemoe_plan *plan = NULL;
    assert_int_equal(lemoe_plan_create(&args, &plan), LEMOE_OK);
    return plan;
}

static lemoe_plan *plan_of(const char *planner, int64_t n, int64_t batch_size, uint64_t seed) {
    lemoe_plan_space *space = space_of(n);
    lemoe_plan *plan = plan_in(space, planner, n, batch_size, seed);
    lemoe_plan_space_destroy(space);
    return plan;
}

static double cosine(int64_t a, int64_t b) {
    double ab = 0, aa = 0, bb = 0;
    for (int64_t j = 0; j < D; j++) {
        double x = features[a * D + j], y = features[b * D + j];
        ab += x * y;
        aa += x * x;
        bb += y * y;
    }
    return ab / sqrt(aa * bb);
}

/* The definition, pair by pair. */
static double mean_cosine(const lemoe_plan *plan, int64_t b, int64_t c) {
    double sum = 0, pairs = 0;
    for (int64_t i = 0; i < plan->n_edit; i++)
        for (int64_t j = 0; j < plan->n_edit; j++) {
            if (plan->batch[i] != b || plan->batch[j] != c || i == j) continue;
            sum += cosine(plan->edit[i], plan->edit[j]);
            pairs++;
        }
    return sum / pairs;
}

static void check_shape(const lemoe_plan *plan, int64_t n, int64_t batch_size) {
    bool seen[MAX_EDIT] = {false};
    assert_int_equal(plan->n_edit, n);
    assert_int_equal(plan->n_batch, (n + batch_size - 1) / batch_size);
    for (int64_t i = 0; i < n; i++) {
        assert_in_range(plan->edit[i], 0, n - 1);
        assert_false(seen[plan->edit[i]]);
        seen[plan->edit[i]] = true;
        assert_int_equal(plan->batch[i], i / batch_size);
    }
}

static void check_similarity(const lemoe_plan *plan) {
    for (int64_t b = 0; b < plan->n_batch; b++)
        for (int64_t c = 0; c < plan->n_batch; c++) {
            double got = plan->similarity[b * plan->n_batch + c], expected = mean_cosine(plan, b, c);
            assert_true(isnan(expected) ? isnan(got) : fabs(got - expected) < 1e-12);
        }
}

static void every_planner_gives_a_valid_plan(void **state) {
    (void)state;
    static const int64_t sizes[][2] = {
        {1,  1 },
        {1,  5 },
        {7,  1 },
        {12, 5 },
        {60, 10},
        {61, 10},
        {69, 10},
        {30, 30},
        {30, 31}
    };
    scatter_cyclic(MAX_EDIT, 5, 0.5);
    for (const char *const *name = lemoe_plan_names(); *name; name++)
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            lemoe_plan *plan = plan_of(*name, sizes[s][0], sizes[s][1], 3);
            check_shape(plan, sizes[s][0], sizes[s][1]);
            check_similarity(plan);
            lemoe_plan_destroy(plan);
        }
}

static bool same(const lemoe_plan *a, const lemoe_plan *b) {
    size_t edits = (size_t)a->n_edit * sizeof *a->edit;
    size_t matrix = (size_t)(a->n_batch * a->n_batch) * sizeof *a->similarity;
    return memcmp(a->edit, b->edit, edits) == 0 && memcmp(a->cluster, b->cluster, edits) == 0 &&
           memcmp(a->similarity, b->similarity, matrix) == 0;
}

/* The coordinator works products out a few at a time and plans several orders with them. */
static void a_plan_does_not_depend_on_what_was_worked_out_before(void **state) {
    (void)state;
    bool is_complete = false;
    int n_advance = 0;
    scatter_cyclic(69, 5, 0.5);
    lemoe_plan_space *space = space_of(69);
    for (; !is_complete; n_advance++) assert_int_equal(lemoe_plan_space_advance(space, 7, &is_complete), LEMOE_OK);
    assert_true(n_advance > 20);
    for (const char *const *name = lemoe_plan_names(); *name; name++) {
        lemoe_plan *alone = plan_of(*name, 69, 10, 4), *later = plan_in(space, *name, 69, 10, 4);
        assert_true(same(alone, later));
        lemoe_plan_destroy(alone);
        lemoe_plan_destroy(later);
    }
    lemoe_plan_space_destroy(space);
}

static void a_plan_is_a_function_of_its_seed(void **state) {
    (void)state;
    scatter_cyclic(MAX_EDIT, 3, 1.0); /* so much noise that k-means has many optima */
    for (const char *const *name = lemoe_plan_names(); *name; name++) {
        lemoe_plan *one = plan_of(*name, 100, 7, 5), *again = plan_of(*name, 100, 7, 5),
                   *other = plan_of(*name, 100, 7, 6);
        assert_true(same(one, again));
        bool is_drawn = strcmp(*name, "file") != 0 && strcmp(*name, "hierarchical") != 0;
        assert_int_equal(same(one, other), !is_drawn);
        lemoe_plan_destroy(one);
        lemoe_plan_destroy(again);
        lemoe_plan_destroy(other);
    }
}

static void file_and_random_need_no_features(void **state) {
    (void)state;
    lemoe_plan_args args = {.planner = "file", .n_edit = 10, .batch_size = 4};
    lemoe_plan *plan = NULL;
    assert_int_equal(lemoe_plan_create(&args, &plan), LEMOE_OK);
    check_shape(plan, 10, 4);
    for (int64_t i = 0; i < 10; i++) {
        assert_int_equal(plan->edit[i], i);
        assert_int_equal(plan->cluster[i], -1);
    }
    for (int i = 0; i < 9; i++) assert_true(isnan(plan->similarity[i]));
    lemoe_plan_destroy(plan);
}

static void kmeans_finds_clusters_that_are_far_apart(void **state) {
    (void)state;
    scatter_cyclic(100, 10, 0.05);
    lemoe_plan *plan = plan_of("kmeans", 100, 10, 1);
    for (int64_t i = 0; i < 100; i++) {
        assert_int_equal(plan->edit[i] % 10, plan->edit[i / 10 * 10] % 10); /* a batch, a direction */
        assert_int_equal(plan->cluster[i], plan->batch[i]);
        if (i % 10) assert_true(plan->edit[i] > plan->edit[i - 1]); /* dataset order within */
    }
    lemoe_plan_destroy(plan);
}

/* The tree has one right answer where clusters are far apart: whichever way merges are found. */
static void hierarchical_finds_clusters_that_are_far_apart(void **state) {
    (void)state;
    scatter_cyclic(100, 10, 0.05);
    lemoe_plan *plan = plan_of("hierarchical", 100, 10, 1);
    for (int64_t i = 0; i < 100; i++) {
        assert_int_equal(plan->edit[i] % 10, plan->edit[i / 10 * 10] % 10);
        assert_int_equal(plan->cluster[i], i / 10);
    }
    lemoe_plan_destroy(plan);
}

/* Every batch gets its share of every cluster, and is as similar to the others as to itself. */
static void round_robin_spreads_every_cluster(void **state) {
    (void)state;
    scatter_cyclic(100, 10, 0.05);
    lemoe_plan *plan = plan_of("round_robin", 100, 10, 1);
    for (int64_t b = 0; b < 10; b++) {
        int64_t seen[10] = {0};
        for (int64_t i = 0; i < 10; i++) seen[plan->edit[b * 10 + i] % 10]++;
        for (int64_t c = 0; c < 10; c++) assert_int_equal(seen[c], 1);
    }
    lemoe_plan_destroy(plan);
}

static void unit_row(int64_t i, double *row) {
    double squared = 0;
    for (int64_t j = 0; j < D; j++) squared += (double)features[i * D + j] * features[i * D + j];
    for (int64_t j = 0; j < D; j++) row[j] = features[i * D + j] / sqrt(squared);
}

static double squared_distance(int64_t i, const double *centre) {
    double row[D], sum = 0;
    unit_row(i, row);
    for (int64_t j = 0; j < D; j++) sum += (row[j] - centre[j]) * (row[j] - centre[j]);
    return sum;
}

/* Inertia, from centres that are formed; *misplaced counts pairs of a point and a centre nearer to it than its own. */
static double inertia_of(int64_t n, const int64_t *label, int64_t k, int64_t *misplaced) {
    double centre[MAX_EDIT][D] = {{0}}, size[MAX_EDIT] = {0}, row[D], inertia = 0;
    for (int64_t i = 0; i < n; i++) {
        unit_row(i, row);
        for (int64_t j = 0; j < D; j++) centre[label[i]][j] += row[j];
        size[label[i]]++;
    }
    for (int64_t c = 0; c < k; c++)
        for (int64_t j = 0; j < D; j++) centre[c][j] /= size[c];
    *misplaced = 0;
    for (int64_t i = 0; i < n; i++) {
        double own = squared_distance(i, centre[label[i]]);
        inertia += own;
        for (int64_t c = 0; c < k; c++) *misplaced += squared_distance(i, centre[c]) < own - 1e-9;
    }
    return inertia;
}

/* Restarts find the clusters that are there although noise blurs them, whatever the seed; one start alone does not. */
static void kmeans_ends_at_the_best_of_its_restarts(void **state) {
    (void)state;
    enum { N = 96, K = 12, SEEDS = 20 };
    int64_t truth[N], label[N], misplaced, worse_alone = 0;
    for (int64_t i = 0; i < N; i++) truth[i] = i % K;
    scatter(N, truth, 0.1);
    double best = inertia_of(N, truth, K, &misplaced);
    assert_int_equal(misplaced, 0);
    lemoe_plan_space *space = space_of(N);
    for (uint64_t seed = 0; seed < SEEDS; seed++)
        for (int64_t restarts = 1; restarts <= 30; restarts += 29) {
            lemoe_plan *plan = NULL;
            lemoe_plan_args args = {.planner = "kmeans",
                                    .space = space,
                                    .n_edit = N,
                                    .batch_size = N / K,
                                    .seed = seed,
                                    .restarts = restarts};
            assert_int_equal(lemoe_plan_create(&args, &plan), LEMOE_OK);
            for (int64_t i = 0; i < N; i++) label[plan->edit[i]] = plan->cluster[i];
            double inertia = inertia_of(N, label, K, &misplaced);
            assert_int_equal(misplaced, 0);
            if (restarts == 1) worse_alone += inertia > best * 1.001;
            if (restarts > 1) assert_true(inertia < best * 1.001);
            lemoe_plan_destroy(plan);
        }
    assert_true(worse_alone > 0);
    lemoe_plan_space_destroy(space);
}

/* Clusters of 15, 9 and 6 in batches of 10: the first gives away five, and only those. */
static void balancing_moves_no_more_than_it_must(void **state) {
    (void)state;
    int64_t of[30], moved = 0;
    for (int64_t i = 0; i < 30; i++) of[i] = i < 15 ? 0 : i < 24 ? 1 : 2;
    scatter(30, of, 0.02);
    lemoe_plan *plan = plan_of("kmeans", 30, 10, 1);
    check_shape(plan, 30, 10);
    for (int64_t i = 0; i < 30; i++) {
        if (plan->batch[i] == 0) assert_int_equal(of[plan->edit[i]], 0); /* the chain starts at the largest */
        moved += plan->cluster[i] != plan->batch[i];
    }
    assert_int_equal(moved, 5);
    lemoe_plan_destroy(plan);
}

/* Three directions in a plane; the middle one is nearest to both others. */
static void batches_follow_the_nearest_centre(void **state) {
    (void)state;
    static const double angle[3] = {0, 2.5, 1.2};
    for (int64_t i = 0; i < 31; i++) {
        double a = i == 30 ? angle[0] : angle[i % 3]; /* direction 0 is the largest: its batch is the first */
        memset(features + i * D, 0, D * sizeof *features);
        features[i * D] = (float)cos(a);
        features[i * D + 1] = (float)sin(a);
    }
    lemoe_plan *plan = plan_of("kmeans", 30, 10, 1);
    int64_t first = plan->edit[0] % 3, second = plan->edit[10] % 3; /* all of one size: the start is a tie */
    assert_true(first == 2 || second == 2);
    lemoe_plan_destroy(plan);
    plan = plan_of("kmeans", 31, 11, 1); /* batches of 11, 11 and 9 */
    assert_int_equal(plan->edit[0] % 3, 0);
    check_shape(plan, 31, 11);
    lemoe_plan_destroy(plan);
}

static void points_that_coincide_are_no_trouble(void **state) {
    (void)state;
    for (int64_t i = 0; i < 20 * D; i++) features[i] = i % D == 0 ? 1 : 0;
    memset(features + 19 * D, 0, D * sizeof *features); /* and a row without a direction */
    lemoe_plan *plan = plan_of("kmeans", 20, 4, 1);
    check_shape(plan, 20, 4);
    lemoe_plan_destroy(plan);
}

static void errors(void **state) {
    (void)state;
    scatter_cyclic(20, 2, 0.1);
    lemoe_plan_space *space = space_of(20), *other = space_of(19), *none = NULL;
    const lemoe_plan_args good = {.planner = "kmeans", .space = space, .n_edit = 20, .batch_size = 5, .restarts = 1};
    struct {
        lemoe_plan_args args;
        lemoe_status status;
    } cases[] = {
        {good, LEMOE_ERR_CONFIG},
        {good, LEMOE_ERR_ARG   },
        {good, LEMOE_ERR_ARG   },
        {good, LEMOE_ERR_ARG   },
        {good, LEMOE_ERR_ARG   },
        {good, LEMOE_ERR_ARG   },
        {good, LEMOE_ERR_NOMEM }
    };
    cases[0].args.planner = "kmean";
    cases[1].args.space = NULL;
    cases[2].args.n_edit = 0;
    cases[3].args.batch_size = 0;
    cases[4].args.space = other;
    cases[5].args.restarts = 0;
    cases[6].args = (lemoe_plan_args){.planner = "file", .n_edit = INT64_MAX / 2, .batch_size = 1};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lemoe_plan *plan = NULL;
        assert_int_equal(lemoe_plan_create(&cases[i].args, &plan), cases[i].status);
        assert_null(plan);
    }
    lemoe_plan_space_destroy(other);
    lemoe_plan_space_destroy(space);
    for (int i = 0; i < 2; i++) {
        features[3 * D + 2] = i == 0 ? NAN : INFINITY;
        assert_int_equal(lemoe_plan_space_create(features, 20, D, &none), LEMOE_ERR_NUMERIC);
        assert_non_null(strstr(lemoe_error_message(), "edit 3"));
        lemoe_plan_space_destroy(none);
    }
    assert_int_equal(lemoe_plan_space_create(features, 20, 0, &none), LEMOE_ERR_ARG);
    assert_null(none);
    lemoe_plan_destroy(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_planner_gives_a_valid_plan),
                                       cmocka_unit_test(a_plan_does_not_depend_on_what_was_worked_out_before),
                                       cmocka_unit_test(a_plan_is_a_function_of_its_seed),
                                       cmocka_unit_test(file_and_random_need_no_features),
                                       cmocka_unit_test(kmeans_finds_clusters_that_are_far_apart),
                                       cmocka_unit_test(hierarchical_finds_clusters_that_are_far_apart),
                                       cmocka_unit_test(round_robin_spreads_every_cluster),
                                       cmocka_unit_test(kmeans_ends_at_the_best_of_its_restarts),
                                       cmocka_unit_test(balancing_moves_no_more_than_it_must),
                                       cmocka_unit_test(batches_follow_the_nearest_centre),
                                       cmocka_unit_test(points_that_coincide_are_no_trouble),
                                       cmocka_unit_test(errors)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* One update: global norm, clipping as torch.nn.utils.clip_grad_norm_, step as torch.optim.AdamW; in double beside it.
 */
#include "kernels/base/rng.h"
#include "runner/optim/adamw.h"
#include "tests/unit/fixture.h"

enum { N_PARAM = 3, MAX = 60 };
static const int64_t shapes[N_PARAM][2] = {
    {5, 12},
    {1, 7 },
    {3, 3 }
};

typedef struct world {
    lemoe_device *device;
    lemoe_arena *arena;
    lemoe_comm *comm;
    lemoe_param params[N_PARAM];
    double w[N_PARAM][MAX], m[N_PARAM][MAX], v[N_PARAM][MAX];
} world;

static int64_t count(int p) { return shapes[p][0] * shapes[p][1]; }

static void open_world(world *s) {
    static const lemoe_param_place places[N_PARAM] = {LEMOE_PARAM_SHARDED, LEMOE_PARAM_REPLICATED, LEMOE_PARAM_PARTIAL};
    *s = (world){0};
    assert_ok(lemoe_device_open("cpu", 1, &s->device));
    assert_ok(lemoe_arena_create(s->device, 1 << 14, &s->arena));
    assert_ok(lemoe_comm_self(&s->comm));
    for (int p = 0; p < N_PARAM; p++) {
        s->params[p] = (lemoe_param){.name = "p", .place = places[p]};
        assert_ok(lemoe_arena_matrix(s->arena, LEMOE_F32, shapes[p][0], shapes[p][1], &s->params[p].w));
        assert_ok(lemoe_arena_matrix(s->arena, LEMOE_F32, shapes[p][0], shapes[p][1], &s->params[p].grad));
        for (int64_t i = 0; i < count(p); i++) {
            float *w = s->params[p].w.data;
            w[i] = (float)lemoe_rng_normal(lemoe_rng_make(1, LEMOE_RNG_TEST, (uint32_t)p), (uint64_t)i);
            s->w[p][i] = (double)w[i];
        }
    }
}

static void close_world(world *s) {
    lemoe_arena_destroy(s->arena);
    lemoe_comm_close(s->comm);
    lemoe_device_close(s->device);
}

/* Fresh gradients; their global norm. */
static double draw_gradients(world *s, int step) {
    double sum = 0;
    for (int p = 0; p < N_PARAM; p++)
        for (int64_t i = 0; i < count(p); i++) {
            float *g = s->params[p].grad.data;
            g[i] =
                (float)lemoe_rng_normal(lemoe_rng_make(2, LEMOE_RNG_TEST, (uint32_t)(step * N_PARAM + p)), (uint64_t)i);
            sum += (double)g[i] * (double)g[i];
        }
    return sqrt(sum);
}

static void reference_step(world *s, int step, double lr, double decay, double factor) {
    for (int p = 0; p < N_PARAM; p++)
        for (int64_t i = 0; i < count(p); i++) {
            double g = factor * (double)((float *)s->params[p].grad.data)[i];
            s->m[p][i] = 0.9 * s->m[p][i] + 0.1 * g;
            s->v[p][i] = 0.999 * s->v[p][i] + 0.001 * g * g;
            double m = s->m[p][i] / (1 - pow(0.9, step)), v = s->v[p][i] / (1 - pow(0.999, step));
            s->w[p][i] = (1 - lr * decay) * s->w[p][i] - lr * m / (sqrt(v) + 1e-8);
        }
}

static void ten_steps(double decay, double clip) {
    world s;
    lemoe_adamw adamw;
    open_world(&s);
    assert_ok(lemoe_adamw_begin(&adamw, 0.01, decay, clip, s.arena, s.params, N_PARAM));
    for (int step = 1; step <= 10; step++) {
        double norm = draw_gradients(&s, step), got = 0, factor = clip > 0 ? fmin(1.0, clip / (norm + 1e-6)) : 1.0;
        assert_ok(lemoe_adamw_update(&adamw, s.device, s.comm, s.params, N_PARAM, &got));
        reference_step(&s, step, 0.01, decay, factor);
        assert_close(got, norm, 1e-6 * norm); /* before clipping */
        assert_int_equal(adamw.step, step);
        for (int p = 0; p < N_PARAM; p++) assert_relative(s.params[p].w.data, s.w[p], count(p), 1e-6);
    }
    close_world(&s);
}

static void plain(void **state) {
    (void)state;
    ten_steps(0, 0);
}
static void with_weight_decay(void **state) {
    (void)state;
    ten_steps(0.1, 0);
}
static void clipped(void **state) {
    (void)state;
    ten_steps(0.1, 1.0);
}
static void a_clip_above_the_norm_does_nothing(void **state) {
    (void)state;
    ten_steps(0, 1e6);
}

static void a_norm_that_is_not_finite_changes_nothing(void **state) {
    world s;
    lemoe_adamw adamw;
    double norm = 0;
    (void)state;
    open_world(&s);
    assert_ok(lemoe_adamw_begin(&adamw, 0.01, 0.1, 1.0, s.arena, s.params, N_PARAM));
    (void)draw_gradients(&s, 1);
    ((float *)s.params[1].grad.data)[3] = NAN;
    assert_ok(lemoe_adamw_update(&adamw, s.device, s.comm, s.params, N_PARAM, &norm));
    assert_false(isfinite(norm));
    assert_int_equal(adamw.step, 0);
    for (int p = 0; p < N_PARAM; p++) assert_relative(s.params[p].w.data, s.w[p], count(p), 0);
    close_world(&s);
}

static void a_new_optimiser_starts_over(void **state) {
    world s;
    lemoe_adamw adamw;
    double norm = 0;
    (void)state;
    open_world(&s);
    for (int run = 0; run < 2; run++) {
        assert_ok(lemoe_adamw_begin(&adamw, 0.01, 0, 0, s.arena, s.params, N_PARAM));
        memset(s.m, 0, sizeof s.m);
        memset(s.v, 0, sizeof s.v);
        for (int step = 1; step <= 3; step++) {
            (void)draw_gradients(&s, step);
            assert_ok(lemoe_adamw_update(&adamw, s.device, s.comm, s.params, N_PARAM, &norm));
            reference_step(&s, step, 0.01, 0, 1.0);
        }
    }
    for (int p = 0; p < N_PARAM; p++) assert_relative(s.params[p].w.data, s.w[p], count(p), 1e-6);
    assert_ok(lemoe_adamw_zero_grad(s.arena, s.params, N_PARAM));
    for (int64_t i = 0; i < count(0); i++) assert_true(((float *)s.params[0].grad.data)[i] == 0.0f);
    close_world(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain),
        cmocka_unit_test(with_weight_decay),
        cmocka_unit_test(clipped),
        cmocka_unit_test(a_clip_above_the_norm_does_nothing),
        cmocka_unit_test(a_norm_that_is_not_finite_changes_nothing),
        cmocka_unit_test(a_new_optimiser_starts_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The conventional router: p = softmax(W_g x), the top_k, and its gradients. */
#include "runner/adaptor/token_router.h"
#include "tests/unit/fixture.h"

enum { D = 10, N_EXPERT = 5, TOP_K = 2, N = 7 };

typedef struct loss {
    lemoe_device *device;
    lemoe_arena *arena;
    lemoe_token_router r;
    lemoe_tensor x, anchor;
    float dp[N * N_EXPERT];
} loss;

static void fill(float *x, int64_t n, double size, uint32_t stream) {
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(size * lemoe_rng_normal(lemoe_rng_make(6, LEMOE_RNG_TEST, stream), (uint64_t)i));
}

static void open_loss(loss *l) {
    lemoe_token_router_args args = {.d = D, .n_expert = N_EXPERT, .top_k = TOP_K, .has_anchor = true, .seed = 1};
    assert_ok(lemoe_device_open("cpu", 1, &l->device));
    assert_ok(lemoe_arena_create(l->device, 1 << 16, &l->arena));
    args.arena = l->arena;
    assert_ok(lemoe_token_router_create(&args, &l->r));
    assert_ok(lemoe_arena_matrix(l->arena, LEMOE_F32, N, D, &l->x));
    assert_ok(lemoe_arena_matrix(l->arena, LEMOE_F32, N, D, &l->anchor));
    fill(l->anchor.data, N * D, 1.0, 3);
    fill(l->r.w_anchor.data, N_EXPERT * D, 0.5, 4);
    fill(l->r.w.data, N_EXPERT * D, 0.5, 0);
    fill(l->x.data, N * D, 1.0, 1);
    fill(l->dp, N * N_EXPERT, 1.0, 2);
}

static void close_loss(loss *l) {
    lemoe_arena_destroy(l->arena);
    lemoe_device_close(l->device);
}

static double value_of(void *context) {
    loss *l = context;
    lemoe_token_scores s;
    size_t mark = lemoe_arena_mark(l->arena);
    double value = 0;
    assert_ok(lemoe_token_router_forward(&l->r, l->x, l->anchor, l->arena, &s));
    for (int i = 0; i < N * N_EXPERT; i++) value += (double)l->dp[i] * (double)((const float *)s.p.data)[i];
    lemoe_arena_reset(l->arena, mark);
    return value;
}

static void the_largest_probabilities_in_order(void **state) {
    loss l;
    lemoe_token_scores s;
    (void)state;
    open_loss(&l);
    assert_ok(lemoe_token_router_forward(&l.r, l.x, l.anchor, l.arena, &s));
    for (int i = 0; i < N; i++) {
        const float *p = (const float *)s.p.data + i * N_EXPERT;
        const int32_t *top = (const int32_t *)s.top.data + i * TOP_K;
        double sum = 0;
        assert_true(p[top[0]] >= p[top[1]] && top[0] != top[1]);
        for (int e = 0; e < N_EXPERT; e++) {
            sum += (double)p[e];
            if (e != top[0] && e != top[1]) assert_true(p[e] <= p[top[1]]);
        }
        assert_close(sum, 1.0, 1e-6);
    }
    close_loss(&l);
}

static void gradients(void **state) {
    loss l;
    lemoe_param param[LEMOE_TOKEN_ROUTER_MAX_PARAM];
    lemoe_token_scores s;
    lemoe_tensor d_x;
    int64_t n_params = 0;
    (void)state;
    open_loss(&l);
    assert_ok(lemoe_token_router_train(&l.r, l.arena, param, &n_params));
    assert_int_equal(n_params, 2);
    assert_ok(lemoe_adamw_zero_grad(l.arena, param, 2));
    assert_ok(lemoe_arena_matrix(l.arena, LEMOE_F32, N, D, &d_x));
    assert_ok(lemoe_device_zero(l.device, d_x.data, lemoe_tensor_bytes(&d_x)));
    assert_ok(lemoe_token_router_forward(&l.r, l.x, l.anchor, l.arena, &s));
    assert_ok(lemoe_token_router_backward(&l.r, &s, l.dp, d_x, l.arena));
    assert_gradient_of("w", value_of, &l, l.r.w.data, param[0].grad.data, N_EXPERT * D, 1, 1.0 / 32.0);
    assert_gradient_of("w_anchor", value_of, &l, l.r.w_anchor.data, param[1].grad.data, N_EXPERT * D, 1, 1.0 / 32.0);
    assert_gradient_of("x", value_of, &l, l.x.data, d_x.data, N * D, 1, 1.0 / 32.0);
    close_loss(&l);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_largest_probabilities_in_order),
        cmocka_unit_test(gradients),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

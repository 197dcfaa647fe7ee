/* Keys and a projection as printed: z = k . (W_up silu(W_down e)), and its gradients. */
#include "runner/adaptor/key_router.h"
#include "tests/unit/fixture.h"

enum { D = 12, KEY_DIM = 5, MAX_KEY = 4, N_KEY = 3, N = 6 };

static lemoe_device *device;
static lemoe_arena *arena;

static int open_device(void **state) {
    (void)state;
    return lemoe_device_open("cpu", 1, &device) != LEMOE_OK || lemoe_arena_create(device, 1 << 18, &arena) != LEMOE_OK;
}
static int close_device(void **state) {
    (void)state;
    lemoe_arena_destroy(arena);
    lemoe_device_close(device);
    return 0;
}

static void fill(float *x, int64_t n, double size, uint32_t stream) {
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(size * lemoe_rng_normal(lemoe_rng_make(3, LEMOE_RNG_TEST, stream), (uint64_t)i));
}

static lemoe_key_router_args args_with(uint64_t seed, uint32_t stream) {
    return (lemoe_key_router_args){
        .arena = arena, .d = D, .key_dim = KEY_DIM, .max_key = MAX_KEY, .seed = seed, .stream = stream};
}

static void create(uint64_t seed, uint32_t stream, lemoe_key_router *out) {
    lemoe_key_router_args args = args_with(seed, stream);
    assert_ok(lemoe_key_router_create(&args, out));
}

/* A router with weights large enough that routes differ, unlike the ones it starts with. */
static void make(lemoe_key_router *r) {
    create(1, 0, r);
    for (int i = 0; i < N_KEY; i++) assert_ok(lemoe_key_router_add_key(r, 1));
    fill(r->w_down.data, KEY_DIM * D, 0.5, 1);
    fill(r->w_up.data, D * KEY_DIM, 0.5, 2);
    fill(r->keys.data, N_KEY * D, 0.5, 3);
}

static void drawn_by_seed_alone(void **state) {
    lemoe_key_router a, b, c, second;
    (void)state;
    create(1, 0, &a);
    create(1, 0, &b);
    create(2, 0, &c);
    create(1, 1, &second); /* another router of the same run */
    assert_memory_equal(a.w_down.data, b.w_down.data, KEY_DIM * D * sizeof(float));
    assert_memory_equal(a.w_up.data, b.w_up.data, KEY_DIM * D * sizeof(float));
    assert_memory_not_equal(a.w_down.data, c.w_down.data, KEY_DIM * D * sizeof(float));
    assert_memory_not_equal(a.w_down.data, second.w_down.data, KEY_DIM * D * sizeof(float));
    for (int i = 0; i < MAX_KEY; i++) assert_ok(lemoe_key_router_add_key(&a, 1));
    const float *keys = a.keys.data;
    assert_memory_not_equal(keys, keys + D, D * sizeof(float)); /* no two keys are equal */
    double size = 0;
    for (int i = 0; i < MAX_KEY * D; i++) size += (double)keys[i] * (double)keys[i] / (MAX_KEY * D);
    assert_close(sqrt(size), 0.01, 0.003);
    assert_error(lemoe_key_router_add_key(&a, 1), LEMOE_ERR_STATE, "more than 4");
}

/* The definition, in double. */
static void scores_of(const lemoe_key_router *r, const float *e, double z[N_KEY]) {
    const float *down = r->w_down.data, *up = r->w_up.data, *keys = r->keys.data;
    double a[KEY_DIM], v[D];
    for (int i = 0; i < KEY_DIM; i++) {
        double b = 0;
        for (int c = 0; c < D; c++) b += (double)down[i * D + c] * (double)e[c];
        a[i] = b / (1 + exp(-b));
    }
    for (int c = 0; c < D; c++) {
        v[c] = 0;
        for (int i = 0; i < KEY_DIM; i++) v[c] += (double)up[c * KEY_DIM + i] * a[i];
    }
    for (int k = 0; k < N_KEY; k++) {
        z[k] = 0;
        for (int c = 0; c < D; c++) z[k] += (double)keys[k * D + c] * v[c];
    }
}

static void scores_are_the_printed_formula(void **state) {
    lemoe_key_router r;
    lemoe_key_scores s;
    float e[N * D];
    (void)state;
    make(&r);
    fill(e, N * D, 1.0, 4);
    assert_ok(lemoe_key_router_forward(&r, lemoe_tensor_2d(e, LEMOE_F32, N, D), arena, &s));
    for (int i = 0; i < N; i++) {
        double z[N_KEY];
        scores_of(&r, e + i * D, z);
        assert_relative((const float *)s.z.data + i * N_KEY, z, N_KEY, 1e-5);
    }
}

/* <dz, z>: linear in z, so dz is its gradient with respect to z. */
typedef struct loss {
    lemoe_key_router r;
    float e[N * D];
    lemoe_tensor dz; /* [N, N_KEY] */
} loss;

static double value_of(void *context) {
    loss *l = context;
    lemoe_key_scores s;
    size_t mark = lemoe_arena_mark(arena);
    double value = 0;
    assert_ok(lemoe_key_router_forward(&l->r, lemoe_tensor_2d(l->e, LEMOE_F32, N, D), arena, &s));
    for (int i = 0; i < N * N_KEY; i++)
        value += (double)((const float *)l->dz.data)[i] * (double)((const float *)s.z.data)[i];
    lemoe_arena_reset(arena, mark);
    return value;
}

static void open_loss(loss *l) {
    make(&l->r);
    assert_ok(lemoe_arena_matrix(arena, LEMOE_F32, N, N_KEY, &l->dz));
    fill(l->e, N * D, 1.0, 4);
    fill(l->dz.data, N * N_KEY, 1.0, 5);
}

static void backward(loss *l) {
    lemoe_key_scores s;
    assert_ok(lemoe_key_router_forward(&l->r, lemoe_tensor_2d(l->e, LEMOE_F32, N, D), arena, &s));
    assert_ok(lemoe_key_router_backward(&l->r, &s, l->dz, arena));
}

static void gradients(void **state) {
    loss l;
    lemoe_param params[3];
    int64_t n_params = 0;
    (void)state;
    open_loss(&l);
    assert_ok(lemoe_key_router_train(&l.r, true, 0.5, arena, params, &n_params));
    assert_int_equal(n_params, 3);
    assert_ptr_equal(params[0].w.data,
                     (float *)l.r.keys.data + (N_KEY - 1) * D); /* the newest: older ones are frozen */
    backward(&l);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(params[i].place, LEMOE_PARAM_REPLICATED);
        assert_true(params[i].lr == 0.5);
        assert_gradient_of(params[i].name, value_of, &l, params[i].w.data, params[i].grad.data,
                           lemoe_tensor_count(&params[i].w), 1, 1.0 / 32.0);
    }
    float once[KEY_DIM * D];
    memcpy(once, l.r.d_w_down.data, sizeof once); /* a second pack adds to the gradient */
    backward(&l);
    for (int i = 0; i < KEY_DIM * D; i++)
        assert_close((double)((float *)l.r.d_w_down.data)[i], 2.0 * (double)once[i], 1e-6);
}

static void a_frozen_projection_has_no_gradient(void **state) {
    loss l;
    lemoe_param params[3];
    int64_t n_params = 0;
    (void)state;
    open_loss(&l);
    assert_ok(lemoe_key_router_train(&l.r, false, 0, arena, params, &n_params));
    assert_int_equal(n_params, 1);
    backward(&l);
    assert_gradient_of("key", value_of, &l, params[0].w.data, params[0].grad.data, D, 1, 1.0 / 32.0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(drawn_by_seed_alone),
        cmocka_unit_test(scores_are_the_printed_formula),
        cmocka_unit_test(gradients),
        cmocka_unit_test(a_frozen_projection_has_no_gradient),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}

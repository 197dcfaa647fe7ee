/* Every router mode behind the one table: where units go, and the gradients of what trains. */
#include "runner/adaptor/router_keys.h"
#include "tests/unit/fixture.h"

#include "kernels/base/rng.h"

#include <math.h>

enum { D = 12, N = 6, MAX_EXPERT = 3 };

/* A router of a mode with its surroundings, and n units whose features are of our choosing. */
typedef struct world {
    lemoe_config config;
    lemoe_device *device;
    lemoe_arena *run_arena, *batch_arena, *step_arena;
    lemoe_anchors anchors;
    const lemoe_router_ops *ops;
    void *router;
    float e[N * D];
    lemoe_item items[N];
    int64_t item_of[N];
    lemoe_units units;
    float d_gate[N];
} world;

static void draw(float *x, int64_t n, double size, uint32_t stream) {
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(size * lemoe_rng_normal(lemoe_rng_make(21, LEMOE_RNG_TEST, stream), (uint64_t)i));
}

static void open_world(lemoe_router_mode mode, world *w) {
    *w = (world){.config = {.seed = 1}};
    w->config.lemoe.router = mode;
    w->config.lemoe.key_dim = 5;
    w->config.lemoe.router_init = LEMOE_ROUTER_INIT_FAN_IN; /* larger than the small one: routes differ */
    w->config.lemoe.gate = mode <= LEMOE_ROUTER_PER_EXPERT_PROJ ? LEMOE_GATE_RAW : LEMOE_GATE_RENORM;
    assert_ok(lemoe_device_open("cpu", 1, &w->device));
    assert_ok(lemoe_arena_create(w->device, 1 << 16, &w->run_arena));
    assert_ok(lemoe_arena_create(w->device, 1 << 16, &w->batch_arena));
    assert_ok(lemoe_arena_create(w->device, 1 << 16, &w->step_arena));
    assert_ok(lemoe_anchors_create(w->run_arena, MAX_EXPERT * N, D, &w->anchors));
    draw(w->e, N * D, 1.0, 1);
    draw(w->d_gate, N, 1.0, 2);
    for (int i = 0; i < N; i++) {
        w->items[i] = (lemoe_item){.n_tok = 5, .n_prompt = 4, .edit = i};
        w->item_of[i] = i;
    }
    w->units = (lemoe_units){.n = N, .d = D, .items = w->items, .n_items = N, .item_of = w->item_of, .e = w->e};
}

/* After the settings are made. */
static void open_router(world *w) {
    lemoe_router_context context = {&w->config,    w->device, w->run_arena, w->batch_arena,
                                    w->step_arena, D,         MAX_EXPERT,   &w->anchors};
    w->ops = lemoe_router_find(w->config.lemoe.router);
    assert_ok(w->ops->open(&context, &w->router));
}

static void close_world(world *w) {
    w->ops->close(w->router);
    lemoe_anchors_destroy(&w->anchors);
    lemoe_arena_destroy(w->run_arena);
    lemoe_arena_destroy(w->batch_arena);
    lemoe_arena_destroy(w->step_arena);
    lemoe_device_close(w->device);
}

/* Units [2 i, 2 i + 2) belong to expert i. */
static lemoe_units units_of(const world *w, int64_t expert) {
    lemoe_units u = w->units;
    u.n = u.n_items = 2;
    u.items += 2 * expert;
    u.e += 2 * expert * D;
    return u;
}

static void add_experts(world *w, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        lemoe_units own = units_of(w, i);
        assert_ok(w->ops->add_expert(w->router));
        if (w->ops->end_batch) assert_ok(w->ops->end_batch(w->router, &own));
        assert_ok(lemoe_anchors_add(&w->anchors, own.e, own.n, i, w->step_arena));
    }
}

/* ---- gates whose gradient reaches the router ---- */

static double gate_value(void *context) {
    world *w = context;
    lemoe_route routes[N];
    void *kept = NULL;
    double value = 0;
    size_t mark = lemoe_arena_mark(w->step_arena);
    assert_ok(w->ops->route_in_training(w->router, &w->units, w->step_arena, routes, &kept));
    for (int u = 0; u < N; u++) value += (double)w->d_gate[u] * routes[u].gate;
    lemoe_arena_reset(w->step_arena, mark);
    return value;
}

static void gradients_through_the_gate(void **state) {
    static const struct {
        lemoe_router_mode mode;
        int64_t n_params;
    } modes[] = {
        {LEMOE_ROUTER_LITERAL,         3},
        {LEMOE_ROUTER_FORCED,          3},
        {LEMOE_ROUTER_FROZEN_PROJ,     1},
        {LEMOE_ROUTER_PER_EXPERT_PROJ, 3},
    };
    (void)state;
    for (int m = 0; m < 4; m++) {
        world w;
        lemoe_param params[LEMOE_ROUTER_MAX_PARAM];
        lemoe_route routes[N];
        int64_t n_params = 0;
        void *kept = NULL;
        open_world(modes[m].mode, &w);
        open_router(&w);
        add_experts(&w, MAX_EXPERT);
        assert_ok(w.ops->train(w.router, params, &n_params));
        assert_int_equal(n_params, modes[m].n_params);
        for (int64_t p = 0; p < n_params; p++) draw(params[p].w.data, lemoe_tensor_count(&params[p].w), 0.5, 5);
        assert_ok(w.ops->route_in_training(w.router, &w.units, w.step_arena, routes, &kept));
        for (int u = 0; u < N && m > 0; u++) assert_int_equal(routes[u].expert, MAX_EXPERT - 1); /* forced */
        assert_ok(w.ops->backward(w.router, kept, routes, w.d_gate, w.step_arena));
        for (int64_t p = 0; p < n_params; p++) /* steps too small to flip a route */
            assert_gradient_of(params[p].name, gate_value, &w, params[p].w.data, params[p].grad.data,
                               lemoe_tensor_count(&params[p].w), 1, 1.0 / 256.0);
        close_world(&w);
    }
}

/* ---- cross-entropy and replay ---- */

/* router_ce (mean over the batch of -log p_newest + mean over what is remembered of -log p_own). */
static double entropy_value(void *context) {
    world *w = context;
    const lemoe_router_keys *k = w->router;
    lemoe_units batch = units_of(w, MAX_EXPERT - 1);
    double value = 0;
    for (int part = 0; part < 2; part++) {
        const float *e = part ? k->replayed.e : batch.e;
        int64_t n = part ? k->replayed.n : batch.n;
        size_t mark = lemoe_arena_mark(w->step_arena);
        lemoe_key_pass pass;
        assert_ok(lemoe_router_keys_score(k, e, n, w->step_arena, &pass));
        for (int64_t u = 0; u < n; u++) {
            int64_t expert = part ? k->replayed.expert[u] : MAX_EXPERT - 1;
            value -= log((double)((const float *)pass.p.data)[u * MAX_EXPERT + expert]) / (double)n;
        }
        lemoe_arena_reset(w->step_arena, mark);
    }
    return w->config.lemoe.router_ce * value;
}

static void gradients_of_the_cross_entropy(void **state) {
    world w;
    lemoe_param params[LEMOE_ROUTER_MAX_PARAM];
    int64_t n_params = 0;
    (void)state;
    open_world(LEMOE_ROUTER_FORCED, &w);
    w.config.lemoe.router_ce = 0.7;
    w.config.lemoe.replay = true;
    open_router(&w);
    add_experts(&w, MAX_EXPERT - 1); /* whose units are remembered */
    assert_ok(w.ops->add_expert(w.router));
    assert_int_equal(((lemoe_router_keys *)w.router)->replayed.n, 2 * (MAX_EXPERT - 1));
    assert_ok(w.ops->train(w.router, params, &n_params));
    for (int64_t p = 0; p < n_params; p++) draw(params[p].w.data, lemoe_tensor_count(&params[p].w), 0.5, 5);
    lemoe_units batch = units_of(&w, MAX_EXPERT - 1);
    assert_ok(w.ops->begin_minibatch(w.router, &batch));
    for (int64_t p = 0; p < n_params; p++)
        assert_gradient_of(params[p].name, entropy_value, &w, params[p].w.data, params[p].grad.data,
                           lemoe_tensor_count(&params[p].w), 1, 1.0 / 64.0);
    close_world(&w);
}

/* ---- where units go ---- */

/* A unit that comes again belongs to the newest expert alone; a slightly different one is another. */
static void replay_keeps_the_latest_of_equal_units(void **state) {
    world w;
    (void)state;
    open_world(LEMOE_ROUTER_FORCED, &w);
    w.config.lemoe.replay = true;
    open_router(&w);
    add_experts(&w, 2); /* units 0, 1 and 2, 3 */
    const lemoe_router_keys *k = w.router;
    lemoe_units again = units_of(&w, 0);
    float rows[2 * D];
    for (int c = 0; c < D; c++) {
        rows[c] = again.e[c] * (c % 2 ? 1.0f + 1e-6f : 1.0f); /* unit 0, computed elsewhere */
        rows[D + c] = again.e[D + c] + (c == 0 ? 0.1f : 0.0f);
    }
    again.e = rows;
    assert_ok(w.ops->add_expert(w.router));
    assert_ok(w.ops->end_batch(w.router, &again));
    const int64_t experts[] = {0, 1, 1, 2, 2};
    assert_int_equal(k->replayed.n, 5);
    assert_memory_equal(k->replayed.expert, experts, sizeof experts);
    assert_memory_equal(k->replayed.e, w.e + D, 3 * D * sizeof(float)); /* units 1, 2, 3 */
    assert_memory_equal(k->replayed.e + 3 * D, rows, sizeof rows);
    close_world(&w);
}

static void routers_that_remember_send_units_home(void **state) {
    static const lemoe_router_mode modes[] = {LEMOE_ROUTER_NEAREST, LEMOE_ROUTER_CENTROID, LEMOE_ROUTER_FITTED,
                                              LEMOE_ROUTER_ORACLE};
    (void)state;
    for (int m = 0; m < 4; m++) {
        world w;
        lemoe_route routes[N];
        open_world(modes[m], &w);
        w.config.lemoe.router_steps = 300;
        open_router(&w);
        add_experts(&w, MAX_EXPERT);
        assert_ok(w.ops->route(w.router, &w.units, routes));
        for (int u = 0; u < N; u++) {
            if (routes[u].expert != u / 2) fail_msg("mode %d: unit %d goes to %d", modes[m], u, (int)routes[u].expert);
            assert_true(routes[u].gate == 1.0);
            assert_true(modes[m] == LEMOE_ROUTER_ORACLE ? isnan(routes[u].margin) : routes[u].margin > 0);
        }
        close_world(&w);
    }
}

/* The gate is the softmax probability of the expert named, whatever was done in training. */
static void inference_takes_the_largest_probability(void **state) {
    world w;
    lemoe_route routes[N];
    lemoe_key_pass pass;
    (void)state;
    open_world(LEMOE_ROUTER_FORCED, &w);
    open_router(&w);
    add_experts(&w, MAX_EXPERT);
    assert_ok(w.ops->route(w.router, &w.units, routes));
    assert_ok(lemoe_router_keys_score(w.router, w.e, N, w.step_arena, &pass));
    for (int u = 0; u < N; u++) {
        const float *p = (const float *)pass.p.data + u * MAX_EXPERT;
        for (int i = 0; i < MAX_EXPERT; i++) assert_true(p[i] <= p[routes[u].expert]);
        assert_close(routes[u].gate, (double)p[routes[u].expert], 0);
    }
    close_world(&w);
}

/* ---- the null key ---- */

static double null_value(void *context) {
    world *w = context;
    const lemoe_router_keys *k = w->router;
    lemoe_key_pass pass;
    float mixed[N * D];
    double value = 0;
    size_t mark = lemoe_arena_mark(w->step_arena);
    for (int u = 0; u < N; u++)
        for (int c = 0; c < D; c++) mixed[u * D + c] = 0.5f * (w->e[u * D + c] + w->e[(u + N / 2) % N * D + c]);
    assert_ok(lemoe_router_keys_score(k, mixed, N, w->step_arena, &pass));
    for (int u = 0; u < N; u++) value -= log((double)((const float *)pass.p.data)[u * (MAX_EXPERT + 1)]) / N;
    lemoe_arena_reset(w->step_arena, mark);
    return value;
}

/* Its gradients, on mixtures of units alone; and an input that it wins goes nowhere. */
static void a_null_key_learns_from_mixtures(void **state) {
    world w;
    lemoe_param params[LEMOE_ROUTER_MAX_PARAM];
    lemoe_route routes[N];
    int64_t n_params = 0;
    double loss = 0;
    (void)state;
    open_world(LEMOE_ROUTER_FORCED, &w);
    w.config.lemoe.null_route = LEMOE_NULL_KEY;
    w.config.lemoe.router_ce = 1.0;
    open_router(&w);
    add_experts(&w, MAX_EXPERT);
    lemoe_router_keys *k = w.router;
    assert_ok(w.ops->train(w.router, params, &n_params));
    assert_int_equal(n_params, 4);
    for (int64_t p = 0; p < n_params; p++) draw(params[p].w.data, lemoe_tensor_count(&params[p].w), 0.5, 5);
    assert_ok(lemoe_router_keys_null_entropy(k, &(lemoe_key_units){w.e, NULL, N, 0}, 1.0, &loss));
    assert_close(loss, null_value(&w), 1e-6);
    for (int64_t p = 0; p < n_params; p++)
        assert_gradient_of(params[p].name, null_value, &w, params[p].w.data, params[p].grad.data,
                           lemoe_tensor_count(&params[p].w), 1, 1.0 / 64.0);
    float *null_key = k->routers[0].keys.data;
    lemoe_key_pass pass;
    assert_ok(lemoe_router_keys_score(k, w.e, N, w.step_arena, &pass));
    for (int c = 0; c < D; c++) null_key[c] = 1e3f * ((const float *)pass.scores[0].v.data)[c]; /* along v of unit 0 */
    assert_ok(w.ops->route(w.router, &w.units, routes));
    assert_int_equal(routes[0].expert, -1);
    assert_close(routes[0].gate, 0, 0);
    close_world(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_through_the_gate),
        cmocka_unit_test(gradients_of_the_cross_entropy),
        cmocka_unit_test(replay_keeps_the_latest_of_equal_units),
        cmocka_unit_test(routers_that_remember_send_units_home),
        cmocka_unit_test(inference_takes_the_largest_probability),
        cmocka_unit_test(a_null_key_learns_from_mixtures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

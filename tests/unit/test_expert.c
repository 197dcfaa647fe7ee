/* Experts beside an FFN: initialisations, what they add at first, and their gradients. */
#include "kernels/ops.h"
#include "runner/adaptor/expert.h"
#include "tests/unit/world_fixture.h"

enum { LAYER = 1, D = 24, N_TOK = 6 };

static world_fixture f;

static int open_folder_and_model(void **state) {
    if (fixture_open(state) != 0) return -1;
    world_open(state, &tiny_llama, LEMOE_F32, &f);
    return 0;
}
static int close_all(void **state) {
    world_close(&f);
    return fixture_close(state);
}

/* An expert with the rows it works on, and the scalar <cotangent, f(x)>. */
typedef struct loss {
    lemoe_expert expert;
    lemoe_expert_rows rows;
    float *cotangent;
    lemoe_tensor dy;
} loss;

static void draw(lemoe_tensor t, double size, uint32_t stream) {
    for (int64_t i = 0; i < lemoe_tensor_count(&t); i++)
        ((float *)t.data)[i] = (float)(size * lemoe_rng_normal(lemoe_rng_make(8, LEMOE_RNG_TEST, stream), (uint64_t)i));
}

static lemoe_tensor matrix(int64_t rows, int64_t columns) {
    lemoe_tensor t;
    assert_ok(lemoe_arena_matrix(f.w.arena, LEMOE_F32, rows, columns, &t));
    return t;
}

/* The host's own projections of x, which LoRA builds on. */
static void host_rows(lemoe_expert_rows *rows) {
    lemoe_tensor gate = lemoe_llama_matrix(f.w.model, LAYER, LEMOE_MATRIX_GATE);
    lemoe_tensor up = lemoe_llama_matrix(f.w.model, LAYER, LEMOE_MATRIX_UP);
    assert_ok(lemoe_op_linear(f.w.device, rows->x, gate, rows->gate, false));
    assert_ok(lemoe_op_linear(f.w.device, rows->x, up, rows->up, false));
    assert_ok(lemoe_op_swiglu_fwd(f.w.device, rows->gate, rows->up, rows->act));
}

static void make(const lemoe_expert_config *config, int64_t index, loss *l) {
    assert_ok(lemoe_expert_create(f.w.model, LAYER, config, 1, index, f.w.arena, &l->expert));
    l->rows.x = matrix(N_TOK, D);
    l->rows.gate = matrix(N_TOK, tiny_llama.d_ff);
    l->rows.up = matrix(N_TOK, tiny_llama.d_ff);
    l->rows.act = matrix(N_TOK, tiny_llama.d_ff);
    l->dy = matrix(N_TOK, D);
    draw(l->rows.x, 1.0, 1);
    draw(l->dy, 1.0, 2);
    host_rows(&l->rows);
    l->cotangent = l->dy.data;
}

static lemoe_tensor output_of(loss *l) {
    lemoe_expert_trace trace;
    lemoe_tensor y = matrix(N_TOK, D);
    draw(y, 100.0, 3); /* poison: an output is written, not added to */
    assert_ok(lemoe_expert_forward(f.w.model, &l->expert, &l->rows, y, f.w.arena, &trace));
    return y;
}

static double value_of(void *context) {
    loss *l = context;
    size_t mark = lemoe_arena_mark(f.w.arena);
    host_rows(&l->rows);
    lemoe_tensor y = output_of(l);
    double value = 0;
    for (int64_t i = 0; i < N_TOK * D; i++) value += (double)l->cotangent[i] * (double)((float *)y.data)[i];
    lemoe_arena_reset(f.w.arena, mark);
    return value;
}

static bool is_zero(lemoe_tensor t) {
    for (int64_t i = 0; i < lemoe_tensor_count(&t); i++)
        if (((float *)t.data)[i] != 0.0f) return false;
    return true;
}

static void a_new_expert_adds_exactly_nothing(void **state) {
    static const lemoe_expert_config configs[] = {
        {LEMOE_EXPERT_FFN,  0,  0, LEMOE_INIT_ZERO_DOWN     },
        {LEMOE_EXPERT_FFN,  17, 0, LEMOE_INIT_ZERO_DOWN     },
        {LEMOE_EXPERT_FFN,  0,  0, LEMOE_INIT_COPY_ZERO_DOWN},
        {LEMOE_EXPERT_LORA, 0,  4, LEMOE_INIT_ZERO_DOWN     },
    };
    (void)state;
    for (int i = 0; i < 4; i++) {
        loss l;
        make(&configs[i], i, &l);
        assert_true(is_zero(output_of(&l)));
        assert_false(is_zero(l.expert.w[0]));
        assert_int_equal(l.expert.n_matrix, i == 3 ? 6 : 3);
        assert_int_equal(l.expert.n_width, configs[i].width ? configs[i].width : tiny_llama.d_ff);
    }
}

static void a_copy_is_the_host(void **state) {
    static const lemoe_expert_config config = {LEMOE_EXPERT_FFN, 0, 0, LEMOE_INIT_COPY};
    static const lemoe_expert_config narrow = {LEMOE_EXPERT_FFN, 20, 0, LEMOE_INIT_COPY};
    lemoe_tensor down = lemoe_llama_matrix(f.w.model, LAYER, LEMOE_MATRIX_DOWN), host = matrix(N_TOK, D);
    lemoe_expert expert;
    loss l;
    (void)state;
    make(&config, 0, &l);
    assert_ok(lemoe_op_linear(f.w.device, l.rows.act, down, host, false));
    assert_memory_equal(output_of(&l).data, host.data, lemoe_tensor_bytes(&host));
    assert_error(lemoe_expert_create(f.w.model, LAYER, &narrow, 1, 0, f.w.arena, &expert), LEMOE_ERR_CONFIG,
                 "expert.width");
}

static void weights_are_drawn_by_seed_and_index(void **state) {
    static const lemoe_expert_config config = {LEMOE_EXPERT_FFN, 0, 0, LEMOE_INIT_ZERO_DOWN};
    lemoe_expert a, again, other, seeded;
    (void)state;
    assert_ok(lemoe_expert_create(f.w.model, LAYER, &config, 1, 0, f.w.arena, &a));
    assert_ok(lemoe_expert_create(f.w.model, LAYER, &config, 1, 0, f.w.arena, &again));
    assert_ok(lemoe_expert_create(f.w.model, LAYER, &config, 1, 1, f.w.arena, &other));
    assert_ok(lemoe_expert_create(f.w.model, LAYER, &config, 2, 0, f.w.arena, &seeded));
    size_t n_bytes = lemoe_tensor_bytes(&a.w[0]);
    assert_memory_equal(a.w[0].data, again.w[0].data, n_bytes);
    assert_memory_not_equal(a.w[0].data, other.w[0].data, n_bytes);
    assert_memory_not_equal(a.w[0].data, seeded.w[0].data, n_bytes);
    assert_memory_not_equal(a.w[0].data, a.w[1].data, n_bytes); /* gate and up */
}

static void check_gradients(const lemoe_expert_config *config, bool with_dx) {
    loss l;
    lemoe_param params[LEMOE_EXPERT_MAX_MATRIX];
    lemoe_expert_trace trace;
    lemoe_tensor y = matrix(N_TOK, D), dx = {0};
    int64_t n_params = 0;
    make(config, 0, &l);
    for (int m = 0; m < l.expert.n_matrix; m++) draw(l.expert.w[m], 0.3, 10 + (uint32_t)m); /* the zeros too */
    assert_ok(lemoe_expert_train(&l.expert, f.w.arena, params, &n_params));
    assert_int_equal(n_params, l.expert.n_matrix);
    assert_ok(lemoe_adamw_zero_grad(f.w.arena, params, n_params));
    if (with_dx) {
        dx = matrix(N_TOK, D);
        assert_ok(lemoe_device_zero(f.w.device, dx.data, lemoe_tensor_bytes(&dx)));
    }
    assert_ok(lemoe_expert_forward(f.w.model, &l.expert, &l.rows, y, f.w.arena, &trace));
    assert_ok(lemoe_expert_backward(f.w.model, &l.expert, &trace, l.dy, dx, f.w.arena));
    for (int m = 0; m < l.expert.n_matrix; m++)
        assert_gradient_of(params[m].name, value_of, &l, params[m].w.data, params[m].grad.data,
                           lemoe_tensor_count(&params[m].w), 7, 1.0 / 64.0);
    if (with_dx) assert_gradient_of("x", value_of, &l, l.rows.x.data, dx.data, N_TOK * D, 1, 1.0 / 64.0);
    lemoe_expert_freeze(&l.expert);
    assert_null(l.expert.grad[0].data);
}

static void gradients_of_an_ffn_expert(void **state) {
    static const lemoe_expert_config config = {LEMOE_EXPERT_FFN, 17, 0, LEMOE_INIT_ZERO_DOWN};
    (void)state;
    check_gradients(&config, true);
    check_gradients(&config, false);
}

static void gradients_of_a_lora_expert(void **state) {
    static const lemoe_expert_config config = {LEMOE_EXPERT_LORA, 0, 4, LEMOE_INIT_ZERO_DOWN};
    lemoe_expert_trace trace = {0};
    loss l;
    (void)state;
    check_gradients(&config, false);
    make(&config, 0, &l);
    assert_error(lemoe_expert_backward(f.w.model, &l.expert, &trace, l.dy, l.rows.x, f.w.arena), LEMOE_ERR_UNSUPPORTED,
                 "LoRA");
}

static void names_splits_and_sizes(void **state) {
    static const lemoe_expert_config ffn = {LEMOE_EXPERT_FFN, 17, 0, LEMOE_INIT_ZERO_DOWN};
    static const lemoe_expert_config lora = {LEMOE_EXPERT_LORA, 0, 4, LEMOE_INIT_ZERO_DOWN};
    lemoe_expert e;
    (void)state;
    assert_ok(lemoe_expert_create(f.w.model, LAYER, &ffn, 1, 0, f.w.arena, &e));
    assert_string_equal(lemoe_expert_matrix_name(&e, 2), "down");
    assert_int_equal(lemoe_expert_matrix_split(&e, 0), LEMOE_SPLIT_ROWS);
    assert_int_equal(lemoe_expert_matrix_split(&e, 2), LEMOE_SPLIT_COLUMNS);
    assert_int_equal(lemoe_expert_n_weight(&e, D), 3 * D * 17);
    assert_ok(lemoe_expert_create(f.w.model, LAYER, &lora, 1, 0, f.w.arena, &e));
    assert_string_equal(lemoe_expert_matrix_name(&e, 5), "down_b");
    assert_int_equal(lemoe_expert_matrix_split(&e, 0), LEMOE_SPLIT_NONE);
    assert_int_equal(lemoe_expert_matrix_split(&e, 4), LEMOE_SPLIT_COLUMNS);
    assert_int_equal(lemoe_expert_n_weight(&e, D), 3 * 4 * (D + tiny_llama.d_ff));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_expert_adds_exactly_nothing),   cmocka_unit_test(a_copy_is_the_host),
        cmocka_unit_test(weights_are_drawn_by_seed_and_index), cmocka_unit_test(gradients_of_an_ffn_expert),
        cmocka_unit_test(gradients_of_a_lora_expert),          cmocka_unit_test(names_splits_and_sizes),
    };
    return cmocka_run_group_tests(tests, open_folder_and_model, close_all);
}

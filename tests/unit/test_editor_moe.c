/* The conventional adaptor: untouched before its first batch, gradients of all experts and of the router, balance loss.
 */
#include "runner/edit/moe_editor.h"
#include "tests/unit/editor_fixture.h"

#define MOE "edit: {method: moe}\nmoe: {layer: 1, experts: 3, max_steps: 60, lr: 0.02, stop_loss: 0.001"

static void before_the_first_batch_nothing_is_added(void **state) {
    editor_fixture f;
    editor_open(state, MOE ", expert: {init: copy}}", &f);
    float *pristine = editor_pristine_logits(&f), *attached = editor_logits(&f);
    assert_memory_equal(pristine, attached, editor_logit_bytes(&f));
    free(pristine);
    free(attached);
    editor_close(&f);
}

static void untrained_with_zero_down_changes_no_bit(void **state) {
    editor_fixture f;
    editor_open(state, MOE ", top_k: 2, expert: {init: zero_down}}", &f);
    f.e.config.moe.training.lr = 0;
    f.e.config.moe.training.max_steps = 1;
    float *pristine = editor_pristine_logits(&f);
    assert_ok(editor_train(&f, 0));
    float *untrained = editor_logits(&f);
    assert_memory_equal(pristine, untrained, editor_logit_bytes(&f));
    free(pristine);
    free(untrained);
    editor_close(&f);
}

/* The editor with random weights and gradients of one pack; returns the number of parameters. */
static int64_t open_with_gradients(void **state, const char *settings, editor_fixture *f, lemoe_param *params) {
    int64_t n_params = 0;
    editor_open(state, settings, f);
    f->e.config.moe.training.lr = 0;
    f->e.config.moe.training.max_steps = 1;
    assert_ok(editor_train(f, 0)); /* attaches it */
    lemoe_moe *e = f->e.editor;
    for (int64_t i = 0; i < e->n_expert; i++)
        assert_ok(lemoe_expert_train(&e->experts[i], f->e.run_arena, params, &n_params));
    assert_ok(lemoe_token_router_train(&e->router, f->e.run_arena, params, &n_params));
    for (int64_t p = 0; p < n_params; p++)
        for (int64_t i = 0; i < lemoe_tensor_count(&params[p].w); i++)
            ((float *)params[p].w.data)[i] =
                (float)(0.3 * lemoe_rng_normal(lemoe_rng_make(4, LEMOE_RNG_TEST, (uint32_t)p), (uint64_t)i));
    world_pack(&f->world, f->world.cut, 4);
    assert_ok(lemoe_moe_count_shares(e, f->world.w.text.items, 4));
    assert_ok(lemoe_adamw_zero_grad(f->e.run_arena, params, n_params));
    return n_params;
}

/* With every expert used there is no choice that a step could flip. */
static void gradients_of_experts_and_router(void **state) {
    editor_fixture f;
    lemoe_param params[3 * LEMOE_EXPERT_MAX_MATRIX + 1];
    int64_t n = open_with_gradients(state, MOE ", top_k: 3, lambda: 1.5, balance: 0}", &f, params);
    world_backward(&f.world, NULL);
    for (int64_t p = 0; p < n; p++)
        assert_gradient(&f.world, params[p].name, params[p].w.data, params[p].grad.data,
                        lemoe_tensor_count(&params[p].w), 11, true);
    editor_close(&f);
}

/* With one expert a token, its weights still have a gradient to compare: a small step flips no route. */
static void gradients_of_the_chosen_expert(void **state) {
    editor_fixture f;
    lemoe_param params[3 * LEMOE_EXPERT_MAX_MATRIX + 1];
    int64_t n = open_with_gradients(state, MOE ", top_k: 1, balance: 0}", &f, params);
    world_backward(&f.world, NULL);
    for (int64_t p = 0; p < n - 1; p++)
        assert_gradient(&f.world, params[p].name, params[p].w.data, params[p].grad.data,
                        lemoe_tensor_count(&params[p].w), 11, true);
    editor_close(&f);
}

/* balance * n_expert * sum_e f_e P_e of the pack's tokens; f_e are counted once and constant to the gradient. */
static double balance_loss(void *context) {
    editor_fixture *f = context;
    lemoe_moe *e = f->e.editor;
    lemoe_tensor x;
    lemoe_token_scores s;
    size_t mark = lemoe_arena_mark(f->e.run_arena);
    int64_t n_tok = f->world.pack.n_tok;
    double loss = 0;
    assert_ok(lemoe_arena_matrix(f->e.run_arena, LEMOE_F32, n_tok, e->router.d, &x));
    assert_ok(lemoe_llama_ffn_input(f->world.w.model, e->layer, f->world.pack.x, f->e.run_arena, x));
    assert_ok(lemoe_token_router_forward(&e->router, x, (lemoe_tensor){0}, f->e.run_arena, &s));
    for (int64_t t = 0; t < n_tok; t++)
        for (int64_t i = 0; i < e->n_expert; i++)
            loss += e->share[i] * (double)((const float *)s.p.data)[t * e->n_expert + i] / (double)n_tok;
    lemoe_arena_reset(f->e.run_arena, mark);
    return f->e.config.moe.balance * (double)e->n_expert * loss;
}

static void gradient_of_the_balance_loss(void **state) {
    editor_fixture f;
    lemoe_param params[3 * LEMOE_EXPERT_MAX_MATRIX + 1];
    int64_t n = open_with_gradients(state, MOE ", top_k: 2, balance: 0.7}", &f, params);
    const lemoe_moe *e = f.e.editor;
    double sum = 0;
    for (int64_t i = 0; i < e->n_expert; i++) sum += e->share[i];
    assert_close(sum, 1.0, 1e-12);
    assert_ok(
        lemoe_device_zero(f.world.w.device, f.world.weight_tensor.data, lemoe_tensor_bytes(&f.world.weight_tensor)));
    world_backward(&f.world, NULL); /* no target weighs anything: the balance loss is left */
    assert_gradient_of("router, balance", balance_loss, &f, params[n - 1].w.data, params[n - 1].grad.data,
                       lemoe_tensor_count(&params[n - 1].w), 1, 1.0 / 32.0);
    editor_close(&f);
}

static void training_lowers_the_loss_and_moves_every_batch(void **state) {
    editor_fixture f;
    lemoe_route routes[TINY_ITEMS];
    int64_t tokens[TINY_ITEMS * TINY_MAX_TOK], n_prompt = 0;
    editor_open(state, MOE ", top_k: 1}", &f);
    for (int64_t b = 0; b < EDITOR_BATCHES; b++) {
        int64_t first = f.e.n_step;
        assert_ok(editor_train(&f, b));
        assert_true(f.e.steps[f.e.n_step - 1].loss < 0.2 * f.e.steps[first].loss);
    }
    for (int i = 0; i < TINY_ITEMS; i++) n_prompt += f.world.w.text.items[i].n_prompt - 1;
    assert_ok(f.e.ops->route(f.e.editor, f.world.w.text.items, TINY_ITEMS, routes));
    assert_ok(f.e.ops->route_tokens(f.e.editor, f.world.w.text.items, TINY_ITEMS, tokens));
    const int64_t *next = tokens;
    for (int i = 0; i < TINY_ITEMS; i++) { /* an item's expert is the one most of its prompt tokens go to */
        int64_t n = f.world.w.text.items[i].n_prompt - 1, count[3] = {0};
        for (int64_t t = 0; t < n; t++) count[*next++]++;
        for (int k = 0; k < 3; k++) assert_true(count[k] <= count[routes[i].expert]);
        assert_close(routes[i].share, (double)count[routes[i].expert] / (double)n, 1e-12);
    }
    assert_int_equal(next - tokens, n_prompt);
    assert_int_equal(f.e.ops->n_expert(f.e.editor), 3);
    editor_close(&f);
}

static void what_does_not_fit_is_refused(void **state) {
    editor_fixture f = {0};
    lemoe_llama_config shape = {.n_layer = 3, .d_model = 24};
    (void)state;
    assert_ok(tiny_editor_configure(MOE "}", &f.e));
    const lemoe_editor_ops *ops = lemoe_editor_find("moe");
    assert_ok(ops->check(&f.e.config, &shape));
    f.e.config.moe.layer = 3;
    assert_error(ops->check(&f.e.config, &shape), LEMOE_ERR_CONFIG, "moe.layer: 3");
    f.e.config.moe.top_k = 4;
    assert_error(ops->check(&f.e.config, &shape), LEMOE_ERR_CONFIG, "moe.top_k: 4");
    lemoe_config_free(f.e.spec);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(before_the_first_batch_nothing_is_added),
        cmocka_unit_test(untrained_with_zero_down_changes_no_bit),
        cmocka_unit_test(gradients_of_experts_and_router),
        cmocka_unit_test(gradients_of_the_chosen_expert),
        cmocka_unit_test(gradient_of_the_balance_loss),
        cmocka_unit_test(training_lowers_the_loss_and_moves_every_batch),
        cmocka_unit_test(what_does_not_fit_is_refused),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}

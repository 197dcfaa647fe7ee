/*
 * Gradients of what an editor trains, as the editor itself computes them: an edit with learning rate 0 changes nothing,
 * and its second batch (two keys, weight g below 1) leaves every gradient to be looked at.
 */
#include "tests/golden/golden_edit.h"

#include "kernels/ops.h"
#include "runner/edit/lemoe_editor.h"

enum { NAME_BYTES = 64 };

/* ---- LEMoE ---- */

/* The training pass once more, this time down to the cut: the gradient through the bypass and its host together. */
static void check_cut(golden_edit *edit) {
    golden *g = edit->g;
    int64_t cut = lemoe_llama_cut(g->model), d_model = lemoe_llama_config_of(g->model)->d_model;
    size_t mark = lemoe_arena_mark(g->step_arena);
    lemoe_pack pack;
    lemoe_llama_output output;
    lemoe_tensor d_cut;
    golden_pack(g, g->batch_start[1], g->batch_start[2], &pack);
    assert_ok(lemoe_arena_matrix(g->step_arena, LEMOE_F32, pack.n_tok, d_model, &d_cut));
    assert_ok(lemoe_llama_forward(g->model, &pack, cut, true, g->step_arena, &output));
    lemoe_tensor weight = golden_target_weights(g, &pack);
    assert_ok(lemoe_llama_backward(g->model, &pack, &output, weight, g->step_arena, d_cut));
    golden_check_tensor(g, "gradient at the cut", "gradient.d_cut", d_cut);
    lemoe_arena_reset(g->step_arena, mark);
}

static void check_gradient(golden_edit *edit, const char *kind, const char *of, lemoe_tensor gradient) {
    char name[NAME_BYTES];
    (void)snprintf(name, sizeof name, "%s.%s", edit->section, of);
    golden_check_tensor(edit->g, kind, name, gradient);
}

/* After the one update of the second batch, whose gradients are still there. */
static void check_gradients(golden_edit *edit) {
    const lemoe_lemoe *state = edit->editor;
    const lemoe_expert *expert = &state->experts[1];
    bool is_lora = expert->kind == LEMOE_EXPERT_LORA;
    if (state->n_expert < GOLDEN_BATCHES) return;
    golden_check(edit->g, "loss", is_lora ? "lora.loss" : "gradient.loss", &edit->loss[1], 1);
    for (int i = 0; i < expert->n_matrix; i++) {
        const char *matrix = lemoe_expert_matrix_name(expert, i);
        check_gradient(edit, is_lora ? "LoRA gradient" : "expert gradient", matrix, expert->grad[i]);
    }
    check_gradient(edit, "router gradient", "key", golden_keys(state)->d_key);
    check_gradient(edit, "router gradient", "w_down", golden_keys(state)->d_w_down);
    check_gradient(edit, "router gradient", "w_up", golden_keys(state)->d_w_up);
    if (!is_lora) check_cut(edit); /* LoRA experts offer no input gradient: nothing trains below them */
}

static void probe(golden *g, const char *section, lemoe_expert_kind kind) {
    golden_edit edit;
    golden_edit_lemoe(g, "plain", &edit);
    edit.section = section;
    edit.config.lemoe.training.lr = 0.0;
    edit.config.lemoe.training.max_steps = 1;
    edit.config.lemoe.expert.kind = kind;
    if (kind == LEMOE_EXPERT_LORA) edit.expert[0] = edit.expert[1] = "lora";
    edit.on_step = check_gradients;
    golden_edit_run(&edit);
    golden_edit_close(&edit);
    golden_assert(g);
}

static void ffn_expert_and_router_match(void **state) { probe(*state, "gradient", LEMOE_EXPERT_FFN); }
static void lora_expert_and_router_match(void **state) { probe(*state, "lora", LEMOE_EXPERT_LORA); }

/* ---- a weight gradient through the tap ---- */

typedef struct tapped {
    lemoe_device *device;
    lemoe_tensor gradient;
} tapped;

static lemoe_status take_rows(void *context, lemoe_tensor x, lemoe_tensor dy) {
    tapped *t = context;
    return lemoe_op_linear_dw(t->device, dy, x, t->gradient, true);
}

static void tap_gives_the_gradient_of_down(void **state) {
    golden *g = *state;
    const lemoe_llama_config *shape = lemoe_llama_config_of(g->model);
    tapped t = {.device = g->device};
    lemoe_tap tap = {(int64_t)golden_setting(g, "adaptor", "layer"), LEMOE_MATRIX_DOWN, take_rows, &t};
    lemoe_tensor no_cut = {0};
    lemoe_pack pack;
    lemoe_llama_output output;
    assert_ok(lemoe_arena_matrix(g->run_arena, LEMOE_F32, shape->d_model, shape->d_ff, &t.gradient));
    assert_ok(lemoe_device_zero(g->device, t.gradient.data, lemoe_tensor_bytes(&t.gradient)));
    assert_ok(lemoe_llama_add_tap(g->model, &tap));
    golden_fill(g, lemoe_llama_cut(g->model));
    golden_pack(g, 0, g->batch_start[1], &pack);
    assert_ok(lemoe_llama_forward(g->model, &pack, lemoe_llama_cut(g->model), true, g->step_arena, &output));
    lemoe_tensor weight = golden_target_weights(g, &pack);
    assert_ok(lemoe_llama_backward(g->model, &pack, &output, weight, g->step_arena, no_cut));
    golden_check_tensor(g, "down_proj gradient", "model.d_down", t.gradient);
    assert_ok(lemoe_llama_seams_clear(g->model));
    golden_assert(g);
}

#define ON(open, fixture)                                                                                              \
    cmocka_unit_test_prestate_setup_teardown(ffn_expert_and_router_match, open, golden_close, fixture),                \
        cmocka_unit_test_prestate_setup_teardown(lora_expert_and_router_match, open, golden_close, fixture),           \
        cmocka_unit_test_prestate_setup_teardown(tap_gives_the_gradient_of_down, open, golden_close, fixture)
#define ON_ALL(open) ON(open, "llama_grouped"), ON(open, "llama_tied"), ON(open, "mistral_window")

int main(int argc, char **argv) {
    const struct CMUnitTest fp32[] = {ON_ALL(golden_open)};
    const struct CMUnitTest widened[] = {ON_ALL(golden_open_widened)};
    const struct CMUnitTest bf16[] = {ON_ALL(golden_open_bf16)};
    const char *mode = golden_mode(argc, argv);
    if (strcmp(mode, "widened") == 0)
        return cmocka_run_group_tests_name("golden gradients, widened", widened, NULL, NULL);
    if (strcmp(mode, "bf16") == 0) return cmocka_run_group_tests_name("golden gradients, bf16", bf16, NULL, NULL);
    return cmocka_run_group_tests_name("golden gradients", fp32, NULL, NULL);
}

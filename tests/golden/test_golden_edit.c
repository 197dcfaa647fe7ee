/*
 * Whole edits with the real editors and the real loop: ten AdamW steps of a two-batch LEMoE edit (plain from a no-op;
 * and with weight decay and clipping, from random experts), what inference makes of it, and one batch of the MoE and
 * FT-M baselines. Weights are compared, and their change too: an error in a small step would hide behind the weights.
 */
#include "tests/golden/golden_edit.h"

#include "runner/edit/lemoe_editor.h"
#include "runner/edit/moe_editor.h"

enum { NAME_BYTES = 64 };

/* ---- after each batch ---- */

/* before: where the weight started; NULL: at zero. */
static void check_weight(golden_edit *edit, const char *place, const char *of, const float *before, lemoe_tensor w) {
    char name[NAME_BYTES];
    (void)snprintf(name, sizeof name, "%s.%s.%s", edit->section, place, of);
    golden_check_tensor(edit->g, "weight", name, w);
    golden_check_change(edit->g, "change of weight", name, before, w);
}

static void check_expert(golden_edit *edit, const char *place, int64_t index, const lemoe_expert *expert) {
    for (int i = 0; i < expert->n_matrix; i++) {
        const char *of = lemoe_expert_matrix_name(expert, i);
        char name[NAME_BYTES];
        (void)snprintf(name, sizeof name, "initial.expert%lld.%s", (long long)index, of);
        bool from_zero = edit->zero_down && strcmp(of, "down") == 0;
        check_weight(edit, place, of, from_zero ? NULL : golden_expected(edit->g, name).data, expert->w[i]);
    }
}

/* Experts and keys as their own batch left them, the older ones too: they are frozen. The projection goes on. */
static void check_batch(golden_edit *edit, int64_t batch) {
    static const char *const places[] = {"batch0", "batch1"}, *const keys[] = {"initial.key0", "initial.key1"};
    const lemoe_lemoe *state = edit->editor;
    const lemoe_key_router *router = golden_keys(state);
    for (int64_t i = 0; i <= batch; i++) {
        const float *key = golden_expected(edit->g, keys[i]).data;
        check_expert(edit, places[i], i, &state->experts[i]);
        check_weight(edit, places[i], "key", key, lemoe_tensor_rows(router->keys, i, 1));
    }
    const float *w_down = golden_expected(edit->g, "initial.w_down").data;
    const float *w_up = golden_expected(edit->g, "initial.w_up").data;
    check_weight(edit, places[batch], "w_down", w_down, router->w_down);
    check_weight(edit, places[batch], "w_up", w_up, router->w_up);
}

/* ---- after the edit ---- */

static void check_steps(golden_edit *edit) {
    char name[NAME_BYTES];
    (void)snprintf(name, sizeof name, "%s.loss", edit->section);
    golden_check(edit->g, "loss of every step", name, edit->loss, edit->n_step);
    (void)snprintf(name, sizeof name, "%s.norm", edit->section);
    golden_check(edit->g, "gradient norm of every step", name, edit->norm, edit->n_step);
}

/* Inference: the router sends each edit where it did in the reference, with the same weight, to the same NLLs. */
static void check_inference(golden_edit *edit) {
    golden *g = edit->g;
    char routes_name[NAME_BYTES], nll_name[NAME_BYTES];
    int64_t n = g->batch_start[GOLDEN_BATCHES];
    lemoe_route *routes = NULL;
    float *pairs = NULL;
    lemoe_pack pack;
    lemoe_llama_output output;
    (void)snprintf(routes_name, sizeof routes_name, "%s.route", edit->section);
    (void)snprintf(nll_name, sizeof nll_name, "%s.nll", edit->section);
    assert_ok(lemoe_mem_alloc(n, sizeof *routes, &routes));
    assert_ok(lemoe_mem_alloc(2 * n, sizeof *pairs, &pairs));
    assert_ok(edit->ops->route(edit->editor, g->items, n, routes));
    const float *expected = golden_expected(g, routes_name).data;
    for (int64_t i = 0; i < n; i++) {
        assert_int_equal(routes[i].expert, (int64_t)expected[2 * i]);
        pairs[2 * i] = (float)routes[i].expert;
        pairs[2 * i + 1] = (float)routes[i].gate;
    }
    golden_check(g, "route and weight", routes_name, pairs, 2 * n);
    golden_pack(g, 0, n, &pack);
    assert_ok(lemoe_llama_forward(g->model, &pack, lemoe_llama_cut(g->model), false, g->step_arena, &output));
    golden_check_tensor(g, "NLL after the edit", nll_name, output.nll);
    lemoe_mem_free(routes);
    lemoe_mem_free(pairs);
}

/* ---- the edits ---- */

static void run_lemoe(golden *g, const char *section, bool zero_down) {
    golden_edit edit;
    golden_edit_lemoe(g, section, &edit);
    edit.zero_down = zero_down;
    edit.on_batch = check_batch;
    golden_edit_run(&edit);
    check_steps(&edit);
    check_inference(&edit);
    golden_edit_close(&edit);
    golden_assert(g);
}

static void plain_edit_matches(void **state) { run_lemoe(*state, "plain", true); }
static void decayed_and_clipped_edit_matches(void **state) { run_lemoe(*state, "decayed", false); }

static void moe_matches(void **state) {
    golden *g = *state;
    golden_edit edit;
    golden_edit_moe(g, &edit);
    golden_edit_run(&edit);
    const lemoe_moe *moe = edit.editor;
    check_steps(&edit);
    check_expert(&edit, "expert0", 0, &moe->experts[0]);
    check_expert(&edit, "expert1", 1, &moe->experts[1]);
    golden_check_tensor(g, "weight", "moe.router", moe->router.w);
    golden_check_change(g, "change of weight", "moe.router", golden_expected(g, "initial.token_router").data,
                        moe->router.w);
    golden_edit_close(&edit);
    golden_assert(g);
}

static void ft_m_matches(void **state) {
    golden *g = *state;
    golden_edit edit;
    int64_t layer = (int64_t)golden_setting(g, "adaptor", "layer");
    lemoe_tensor matrix = lemoe_llama_matrix(g->model, layer, LEMOE_MATRIX_DOWN);
    float *pristine = NULL;
    assert_ok(lemoe_mem_alloc(lemoe_tensor_count(&matrix), sizeof *pristine, &pristine));
    assert_ok(lemoe_device_download(g->device, pristine, matrix.data, lemoe_tensor_bytes(&matrix)));
    golden_edit_ft_m(g, &edit);
    golden_edit_run(&edit);
    lemoe_tensor edited = lemoe_llama_matrix(g->model, layer, LEMOE_MATRIX_DOWN);
    check_steps(&edit);
    golden_check_tensor(g, "weight", "ft_m.down", edited);
    golden_check_change(g, "change of weight", "ft_m.down", pristine, edited);
    lemoe_mem_free(pristine);
    golden_edit_close(&edit);
    golden_assert(g);
}

#define ON(fixture)                                                                                                    \
    cmocka_unit_test_prestate_setup_teardown(plain_edit_matches, golden_open, golden_close, fixture),                  \
        cmocka_unit_test_prestate_setup_teardown(decayed_and_clipped_edit_matches, golden_open, golden_close,          \
                                                 fixture),                                                             \
        cmocka_unit_test_prestate_setup_teardown(moe_matches, golden_open, golden_close, fixture),                     \
        cmocka_unit_test_prestate_setup_teardown(ft_m_matches, golden_open, golden_close, fixture)

int main(void) {
    const struct CMUnitTest tests[] = {ON("llama_grouped"), ON("llama_tied"), ON("mistral_window")};
    return cmocka_run_group_tests_name("golden edit", tests, NULL, NULL);
}

/* LEMoE: nothing happens before the first batch, gradients through gate and expert, frozen experts, routes by every
 * router. */
#include "kernels/base/log.h"
#include "runner/edit/lemoe_editor.h"
#include "tests/unit/editor_fixture.h"

#define LAYER_1 "edit: {method: lemoe}\nlemoe: {layer: 1, max_steps: 60, lr: 0.02, stop_loss: 0.001"
#define PAPER   LAYER_1 ", preset: paper"
#define STABLE  LAYER_1 ", preset: stable"

/* Batches without a step that moves anything: experts are there as they were drawn. */
static void insert_untrained(editor_fixture *f, int64_t n_batch) {
    f->e.config.lemoe.training.lr = 0;
    f->e.config.lemoe.training.weight_decay = 0;
    f->e.config.lemoe.training.max_steps = 1;
    for (int64_t b = 0; b < n_batch; b++) assert_ok(editor_train(f, b));
}

static void untrained_changes_no_bit(void **state) {
    static const char *const settings[] = {
        PAPER "}",
        STABLE "}",
        STABLE ", expert: {kind: lora, rank: 4}}",
        STABLE ", expert: {init: copy_zero_down}}",
        "edit: {method: lemoe}\nlemoe: {preset: stable, layer: 2}", /* the last layer */
        "edit: {method: lemoe}\nlemoe: {preset: paper, layer: 0, expert: {width: 12}}",
    };
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        editor_fixture f;
        lemoe_route routes[TINY_ITEMS];
        editor_open(state, settings[i], &f);
        float *pristine = editor_pristine_logits(&f), *attached = editor_logits(&f);
        assert_memory_equal(pristine, attached, editor_logit_bytes(&f));
        insert_untrained(&f, EDITOR_BATCHES);
        float *untrained = editor_logits(&f);
        if (memcmp(pristine, untrained, editor_logit_bytes(&f)) != 0) fail_msg("%s: logits differ", settings[i]);
        assert_ok(f.e.ops->route(f.e.editor, f.world.w.text.items, TINY_ITEMS, routes));
        int64_t n_routed = 0;
        for (int k = 0; k < TINY_ITEMS; k++) n_routed += routes[k].expert >= 0;
        assert_true(n_routed > 0); /* sequences did go through experts */
        free(pristine);
        free(attached);
        free(untrained);
        editor_close(&f);
    }
}

/* ---- gradients: expert, newest key and projections, through gate, lambda and the layers above ---- */

static void check_gradients(void **state, const char *settings, int64_t n_router_params) {
    editor_fixture f;
    lemoe_param params[LEMOE_EXPERT_MAX_MATRIX + LEMOE_ROUTER_MAX_PARAM];
    int64_t n_params = 0;
    editor_open(state, settings, &f);
    insert_untrained(&f, 2);
    lemoe_lemoe *e = f.e.editor;
    lemoe_expert *newest = &e->experts[1];
    assert_ok(lemoe_expert_train(newest, f.e.run_arena, params, &n_params));
    if (e->router_ops->train) assert_ok(e->router_ops->train(e->router, params, &n_params));
    assert_int_equal(n_params - newest->n_matrix, n_router_params);
    for (int64_t p = 0; p < n_params; p++) /* large enough that every part matters */
        for (int64_t i = 0; i < lemoe_tensor_count(&params[p].w); i++)
            ((float *)params[p].w.data)[i] =
                (float)(0.3 * lemoe_rng_normal(lemoe_rng_make(4, LEMOE_RNG_TEST, (uint32_t)p), (uint64_t)i));
    world_pack(&f.world, f.world.cut, 4);
    assert_ok(lemoe_adamw_zero_grad(f.e.run_arena, params, n_params));
    world_backward(&f.world, NULL);
    for (int64_t p = 0; p < n_params; p++)
        assert_gradient(&f.world, params[p].name, params[p].w.data, params[p].grad.data,
                        lemoe_tensor_count(&params[p].w), 13, true);
    editor_close(&f);
}

static void gradients_with_the_raw_gate(void **state) { check_gradients(state, PAPER ", lambda: 1.5}", 3); }
static void gradients_without_a_gate(void **state) { check_gradients(state, STABLE ", lambda: 0.5}", 0); }
static void gradients_of_lora(void **state) { check_gradients(state, PAPER ", expert: {kind: lora, rank: 3}}", 3); }
static void gradients_of_a_projection_an_expert(void **state) {
    check_gradients(state, PAPER ", router: per_expert_proj}", 3);
}
static void gradients_with_a_frozen_projection(void **state) {
    check_gradients(state, PAPER ", router: frozen_proj}", 1);
}
static void gradients_on_the_last_layer(void **state) {
    check_gradients(state, "edit: {method: lemoe}\nlemoe: {preset: paper, layer: 2}", 3);
}

/* ---- training ---- */

static double last_loss(const editor_fixture *f) { return f->e.steps[f->e.n_step - 1].loss; }

static void train_all(editor_fixture *f) {
    for (int64_t b = 0; b < EDITOR_BATCHES; b++) {
        int64_t first = f->e.n_step;
        assert_ok(editor_train(f, b));
        assert_int_equal(f->e.steps[first].batch, b);
        assert_true(last_loss(f) < 0.1 && last_loss(f) < f->e.steps[first].loss);
    }
}

static void older_experts_stay_as_they_are(void **state) {
    editor_fixture f;
    editor_open(state, STABLE "}", &f);
    assert_ok(editor_train(&f, 0));
    lemoe_lemoe *e = f.e.editor;
    size_t n_bytes = lemoe_tensor_bytes(&e->experts[0].w[2]);
    float *before = malloc(n_bytes);
    memcpy(before, e->experts[0].w[2].data, n_bytes);
    assert_ok(editor_train(&f, 1));
    assert_ok(editor_train(&f, 2));
    assert_memory_equal(before, e->experts[0].w[2].data, n_bytes);
    assert_error(editor_train(&f, 2), LEMOE_ERR_STATE, "more batches than experts");
    free(before);
    editor_close(&f);
}

/* ---- routes ---- */

static void the_stable_router_sends_edits_to_their_own_expert(void **state) {
    editor_fixture f;
    lemoe_route routes[TINY_ITEMS], trained[EDITOR_BATCH_SIZE];
    editor_open(state, STABLE "}", &f);
    assert_ok(f.e.ops->route(f.e.editor, f.world.w.text.items, TINY_ITEMS, routes));
    for (int i = 0; i < TINY_ITEMS; i++) assert_int_equal(routes[i].expert, -1); /* nobody is there yet */
    train_all(&f);
    assert_ok(f.e.ops->route(f.e.editor, f.world.w.text.items, TINY_ITEMS, routes));
    for (int i = 0; i < TINY_ITEMS; i++) {
        assert_int_equal(routes[i].expert, i / EDITOR_BATCH_SIZE);
        assert_true(routes[i].gate == 1.0 && routes[i].margin > 0 && routes[i].share == 1.0);
    }
    lemoe_edit_batch last = tiny_editor_batch(&f.world.w, EDITOR_BATCHES - 1);
    assert_ok(f.e.ops->route_trained(f.e.editor, &last, trained));
    assert_int_equal(trained[2].expert, EDITOR_BATCHES - 1);
    assert_int_equal(f.e.ops->n_expert(f.e.editor), EDITOR_BATCHES);
    editor_close(&f);
}

/* A sequence that no anchor is near to goes nowhere and keeps the pristine model's bits. */
static void the_null_route_leaves_strangers_alone(void **state) {
    editor_fixture f;
    lemoe_route routes[TINY_ITEMS];
    editor_open(state, STABLE ", null: cosine, null_rule: mid}", &f);
    assert_ok(editor_train(&f, 0));
    double threshold = f.e.ops->threshold(f.e.editor);
    assert_true(threshold > 0.0 && threshold < 1.0);
    assert_ok(f.e.ops->route(f.e.editor, f.world.w.text.items, TINY_ITEMS, routes));
    float *pristine = editor_pristine_logits(&f), *edited = editor_logits(&f);
    int n_null = 0;
    for (int i = 0; i < TINY_ITEMS; i++) {
        assert_int_equal(editor_same_item(&f, pristine, edited, i), routes[i].expert < 0);
        if (i < EDITOR_BATCH_SIZE) assert_int_equal(routes[i].expert, 0);
        if (routes[i].expert < 0) assert_true(routes[i].gate == 0.0);
        n_null += routes[i].expert < 0;
    }
    assert_true(n_null > 0);
    free(pristine);
    free(edited);
    editor_close(&f);
}

static void the_two_sided_rule_looks_behind_other_text(void **state) {
    editor_fixture f;
    editor_open(state, STABLE ", features: last_hidden, null: cosine, null_rule: two_sided}", &f);
    assert_ok(editor_train(&f, 0));
    const lemoe_lemoe *e = f.e.editor;
    assert_int_equal(e->anchors.n_genuine, 2 * EDITOR_BATCH_SIZE); /* two draws an edit */
    for (int64_t i = 0; i < e->anchors.n_genuine; i++) assert_true(fabs(e->anchors.genuine[i]) <= 1.0 + 1e-6);
    assert_true(isfinite(f.e.ops->threshold(f.e.editor)));
    editor_close(&f);
}

/* The first batch under a rule, the threshold set twice; the warnings that this logs, which the caller frees. */
static char *warnings_of(void **state, const char *rule, double *impostors, double *genuine) {
    editor_fixture f;
    char path[512], settings[256], line[1024], *text = calloc(1, 4 * sizeof line);
    (void)snprintf(settings, sizeof settings, STABLE ", %s}", rule);
    editor_open(state, settings, &f);
    FILE *log = fopen(fixture_path(state, "overlap.log", path), "w+");
    assert_non_null(log);
    lemoe_log_set_file(log);
    assert_ok(editor_train(&f, 0));
    lemoe_edit_batch first = tiny_editor_batch(&f.world.w, 0);
    assert_ok(lemoe_lemoe_set_threshold(f.e.editor, &first, 0));
    lemoe_log_set_file(NULL);
    rewind(log);
    while (fgets(line, sizeof line, log))
        if (strstr(line, " warning: ") && strlen(text) < 3 * sizeof line) strcat(text, line);
    assert_int_equal(fclose(log), 0);
    const lemoe_lemoe *e = f.e.editor;
    *impostors = e->anchors.impostor_level;
    *genuine = e->anchors.genuine_level;
    editor_close(&f);
    return text;
}

/* Where edits lie nearer to each other than to themselves behind other text, that is said, once a run, with what it
 * was seen from; and only there. */
static void edits_that_are_not_told_apart_are_warned_of(void **state) {
    char want[256];
    double impostors, genuine;
    char *warnings = warnings_of(state, "null_quantile: 1", &impostors, &genuine);
    assert_true(impostors > genuine);
    (void)snprintf(want, sizeof want,
                   "after 3 edits, the last prompt token at layer 1 does not tell edits apart: cosine %.3f to other "
                   "edits, %.3f to the edit's own prompt behind other text",
                   impostors, genuine);
    if (!strstr(warnings, want)) fail_msg("no `%s` in `%s`", want, warnings);
    assert_non_null(
        strstr(warnings, "another lemoe.layer may do better, unless facts are edited again in other words"));
    assert_ptr_equal(strchr(warnings, '\n'), warnings + strlen(warnings) - 1); /* one line, though set twice */
    free(warnings);

    warnings = warnings_of(state, "null_quantile: 0", &impostors, &genuine);
    assert_true(impostors < genuine);
    assert_string_equal(warnings, "");
    free(warnings);

    warnings = warnings_of(state, "null_quantile: 1, null_rule: mid", &impostors, &genuine); /* without such pairs */
    assert_true(isfinite(impostors) && isnan(genuine));
    assert_string_equal(warnings, "");
    free(warnings);
}

/* Some expert, with its probability as weight; the batch's own while it trained. */
static void the_paper_router_weighs_by_probability(void **state) {
    editor_fixture f;
    lemoe_route routes[TINY_ITEMS], trained[EDITOR_BATCH_SIZE];
    editor_open(state, PAPER "}", &f);
    for (int64_t b = 0; b < EDITOR_BATCHES; b++) assert_ok(editor_train(&f, b));
    lemoe_edit_batch last = tiny_editor_batch(&f.world.w, EDITOR_BATCHES - 1);
    assert_ok(f.e.ops->route(f.e.editor, f.world.w.text.items, TINY_ITEMS, routes));
    assert_ok(f.e.ops->route_trained(f.e.editor, &last, trained));
    for (int i = 0; i < TINY_ITEMS; i++) {
        assert_in_range(routes[i].expert, 0, EDITOR_BATCHES - 1);
        assert_true(routes[i].gate >= 1.0 / EDITOR_BATCHES && routes[i].gate <= 1.0 && routes[i].margin >= 0);
    }
    for (int i = 0; i < EDITOR_BATCH_SIZE; i++) {
        assert_int_equal(trained[i].expert, EDITOR_BATCHES - 1);
        assert_true(trained[i].gate > 0 && trained[i].gate <= 1.0);
    }
    assert_true(isnan(f.e.ops->threshold(f.e.editor)));
    editor_close(&f);
}

static void the_oracle_knows_edits_and_paraphrases_only(void **state) {
    editor_fixture f;
    lemoe_item items[3];
    lemoe_route routes[3];
    editor_open(state, LAYER_1 ", preset: stable, router: oracle, null: none}", &f);
    assert_ok(editor_train(&f, 0));
    for (int i = 0; i < 3; i++) items[i] = f.world.w.text.items[1];
    items[1].role = 1;
    items[2].role = 2;
    assert_ok(f.e.ops->route(f.e.editor, items, 3, routes));
    assert_true(routes[0].expert == 0 && routes[1].expert == 0 && routes[2].expert == -1);
    items[0].edit = 8; /* not edited yet */
    assert_ok(f.e.ops->route(f.e.editor, items, 1, routes));
    assert_int_equal(routes[0].expert, -1);
    editor_close(&f);
}

/* ---- saving ---- */

static void what_is_saved_is_what_was_trained(void **state) {
    editor_fixture f;
    char path[512];
    lemoe_safetensors *file = NULL;
    lemoe_tensor t;
    editor_open(state, PAPER "}", &f);
    assert_ok(editor_train(&f, 0));
    assert_ok(editor_train(&f, 1));
    const lemoe_lemoe *e = f.e.editor;
    assert_ok(f.e.ops->save(f.e.editor, fixture_path(state, "adaptor.safetensors", path), LEMOE_F32));
    assert_ok(lemoe_safetensors_open(path, &file));
    assert_ok(lemoe_safetensors_get(file, "expert.1.down.weight", 2, (int64_t[]){24, 40}, &t));
    assert_memory_equal(t.data, e->experts[1].w[2].data, lemoe_tensor_bytes(&t));
    assert_ok(lemoe_safetensors_get(file, "router.keys.weight", 2, (int64_t[]){2, 24}, &t));
    assert_int_equal(lemoe_safetensors_data_bytes(file), f.e.ops->added_bytes(f.e.editor));
    lemoe_safetensors_close(file);
    assert_ok(f.e.ops->save(f.e.editor, path, LEMOE_BF16));
    assert_ok(lemoe_safetensors_open(path, &file));
    assert_int_equal(2 * lemoe_safetensors_data_bytes(file), f.e.ops->added_bytes(f.e.editor));
    lemoe_safetensors_close(file);
    editor_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(untrained_changes_no_bit),
        cmocka_unit_test(gradients_with_the_raw_gate),
        cmocka_unit_test(gradients_without_a_gate),
        cmocka_unit_test(gradients_of_lora),
        cmocka_unit_test(gradients_of_a_projection_an_expert),
        cmocka_unit_test(gradients_with_a_frozen_projection),
        cmocka_unit_test(gradients_on_the_last_layer),
        cmocka_unit_test(older_experts_stay_as_they_are),
        cmocka_unit_test(the_stable_router_sends_edits_to_their_own_expert),
        cmocka_unit_test(the_null_route_leaves_strangers_alone),
        cmocka_unit_test(the_two_sided_rule_looks_behind_other_text),
        cmocka_unit_test(edits_that_are_not_told_apart_are_warned_of),
        cmocka_unit_test(the_paper_router_weighs_by_probability),
        cmocka_unit_test(the_oracle_knows_edits_and_paraphrases_only),
        cmocka_unit_test(what_is_saved_is_what_was_trained),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}

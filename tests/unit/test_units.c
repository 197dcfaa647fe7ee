/* What a route is computed from: one vector a unit, a sequence or a token, of the prompt alone. */
#include "runner/adaptor/units.h"
#include "tests/unit/world_fixture.h"

enum { LAYER = 1, CUT = 2 * LAYER + 1, D = 24 };

static world_fixture f;

static int open_folder_and_model(void **state) {
    if (fixture_open(state) != 0) return -1;
    world_open(state, &tiny_llama, LEMOE_F32, &f);
    return tiny_world_fill(&f.w, CUT) != LEMOE_OK;
}
static int close_all(void **state) {
    world_close(&f);
    return fixture_close(state);
}

static lemoe_unit_args args_with(lemoe_features kind, lemoe_granularity granularity) {
    return (lemoe_unit_args){
        .model = f.w.model, .kind = kind, .granularity = granularity, .layer = LAYER, .arena = f.w.arena};
}

static void make(lemoe_features kind, lemoe_granularity granularity, lemoe_units *units) {
    lemoe_unit_args args = args_with(kind, granularity);
    size_t mark = lemoe_arena_mark(f.w.arena);
    assert_ok(lemoe_units_make(&args, f.w.text.items, TINY_ITEMS, units));
    assert_int_equal(lemoe_arena_mark(f.w.arena), mark); /* scratch is given back */
}

/* Features of whole sequences. */
static void features_with(lemoe_features kind, lemoe_granularity granularity, float *out) {
    lemoe_units units;
    make(kind, granularity, &units);
    assert_true(units.n == TINY_ITEMS && units.d == D && !units.per_token);
    for (int64_t u = 0; u < units.n; u++) assert_int_equal(units.item_of[u], u);
    memcpy(out, units.e, (size_t)(units.n * D) * sizeof *out);
    lemoe_units_free(&units);
}

static void means_are_the_caches(void **state) {
    float instance[TINY_ITEMS * D], entity[TINY_ITEMS * D];
    (void)state;
    features_with(LEMOE_FEATURES_EMBEDDING_MEAN, LEMOE_GRANULARITY_INSTANCE, instance);
    features_with(LEMOE_FEATURES_EMBEDDING_MEAN, LEMOE_GRANULARITY_ENTITY, entity);
    for (int i = 0; i < TINY_ITEMS; i++) {
        assert_memory_equal(instance + i * D, f.w.text.items[i].embedding_mean, D * sizeof(float));
        assert_memory_equal(entity + i * D, f.w.text.items[i].entity_mean, D * sizeof(float));
    }
}

/* RMSNorm of the row that predicts the first target. */
static void last_hidden_is_the_ffn_input_of_the_last_prompt_token(void **state) {
    float hidden[TINY_ITEMS * D], norm[D];
    char path[512];
    lemoe_safetensors *file = NULL;
    lemoe_tensor weight;
    features_with(LEMOE_FEATURES_LAST_HIDDEN, LEMOE_GRANULARITY_INSTANCE, hidden);
    (void)snprintf(path, sizeof path, "%s/model.safetensors", (char *)*state);
    assert_ok(lemoe_safetensors_open(path, &file));
    assert_ok(
        lemoe_safetensors_get(file, "model.layers.1.post_attention_layernorm.weight", 1, (int64_t[]){D}, &weight));
    memcpy(norm, weight.data, sizeof norm);
    for (int i = 0; i < TINY_ITEMS; i++) {
        const lemoe_item *item = &f.w.text.items[i];
        const float *row = item->cut_rows + (item->n_prompt - 1) * D;
        double mean = 0, want[D];
        for (int c = 0; c < D; c++) mean += (double)row[c] * (double)row[c] / D;
        for (int c = 0; c < D; c++) want[c] = (double)row[c] / sqrt(mean + 1e-5) * (double)norm[c];
        assert_relative(hidden + i * D, want, D, 1e-6);
    }
    lemoe_safetensors_close(file);
}

/* Other targets, same feature: nothing of the answer may reach the route. */
static void targets_do_not_reach_the_features(void **state) {
    float before[TINY_ITEMS * D], after[TINY_ITEMS * D];
    static const lemoe_features kinds[] = {LEMOE_FEATURES_EMBEDDING_MEAN, LEMOE_FEATURES_LAST_HIDDEN};
    (void)state;
    for (int k = 0; k < 2; k++) {
        features_with(kinds[k], LEMOE_GRANULARITY_INSTANCE, before);
        for (int i = 0; i < TINY_ITEMS; i++)
            for (int64_t t = f.w.text.items[i].n_prompt; t < f.w.text.items[i].n_tok; t++)
                f.w.text.ids[i][t] = 3 + (f.w.text.ids[i][t] + 5) % 30;
        assert_ok(tiny_world_fill(&f.w, CUT));
        features_with(kinds[k], LEMOE_GRANULARITY_INSTANCE, after);
        assert_memory_equal(before, after, sizeof before);
    }
}

/* Every token of every item in order, each with its own embedding. */
static void tokens_are_units_of_their_own(void **state) {
    lemoe_units units;
    int64_t u = 0;
    (void)state;
    make(LEMOE_FEATURES_EMBEDDING_MEAN, LEMOE_GRANULARITY_TOKEN, &units);
    assert_true(units.per_token);
    for (int64_t i = 0; i < TINY_ITEMS; i++) {
        const lemoe_item *item = &f.w.text.items[i];
        for (int64_t t = 0; t < item->n_tok; t++, u++) {
            assert_int_equal(units.item_of[u], i);
            assert_memory_equal(units.e + u * D, item->token_rows + (int64_t)item->token_index[t] * D,
                                D * sizeof(float));
        }
    }
    assert_int_equal(units.n, u);
    lemoe_units_free(&units);
}

static void features_may_be_normalised(void **state) {
    lemoe_units units;
    lemoe_unit_args args = args_with(LEMOE_FEATURES_EMBEDDING_MEAN, LEMOE_GRANULARITY_INSTANCE);
    (void)state;
    args.normalise = true;
    assert_ok(lemoe_units_make(&args, f.w.text.items, TINY_ITEMS, &units));
    for (int64_t u = 0; u < units.n; u++) {
        double sum = 0;
        for (int c = 0; c < D; c++) sum += (double)units.e[u * D + c] * (double)units.e[u * D + c];
        assert_close(sum, (double)D, 1e-4);
    }
    lemoe_units_free(&units);
}

static void rows_are_scaled_to_a_length(void **state) {
    float rows[3 * 2] = {3, 4, 0, 0, -5, 12};
    static const float want[3 * 2] = {1.2f, 1.6f, 0, 0, -10.0f / 13, 24.0f / 13};
    (void)state;
    lemoe_units_scale_rows(rows, 3, 2, 2.0);
    for (int i = 0; i < 6; i++) assert_close((double)rows[i], (double)want[i], 1e-6);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(means_are_the_caches),
        cmocka_unit_test(last_hidden_is_the_ffn_input_of_the_last_prompt_token),
        cmocka_unit_test(targets_do_not_reach_the_features),
        cmocka_unit_test(tokens_are_units_of_their_own),
        cmocka_unit_test(features_may_be_normalised),
        cmocka_unit_test(rows_are_scaled_to_a_length),
    };
    return cmocka_run_group_tests(tests, open_folder_and_model, close_all);
}

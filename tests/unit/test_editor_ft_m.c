/* FT-M: one down_proj changes, within its bound, and the model is itself again afterwards. */
#include "tests/unit/editor_fixture.h"

#define FT_M "edit: {method: ft_m}\nft_m: {layer: 1, max_steps: 40, lr: 0.02, stop_loss: 0.001"

static lemoe_tensor down_of(const editor_fixture *f) {
    return lemoe_llama_matrix(f->world.w.model, 1, LEMOE_MATRIX_DOWN);
}

static void training_changes_the_patched_matrix_only(void **state) {
    editor_fixture f;
    editor_open(state, FT_M "}", &f);
    assert_int_equal(lemoe_llama_cut(f.world.w.model), 3);
    float *pristine = editor_pristine_logits(&f), *attached = editor_logits(&f);
    assert_memory_equal(pristine, attached, editor_logit_bytes(&f));
    assert_ok(editor_train(&f, 0));
    assert_true(f.e.steps[f.e.n_step - 1].loss < 0.1 * f.e.steps[0].loss);
    float *edited = editor_logits(&f), *inactive = editor_pristine_logits(&f);
    assert_memory_not_equal(pristine, edited, editor_logit_bytes(&f));
    assert_memory_equal(pristine, inactive, editor_logit_bytes(&f));
    assert_ok(lemoe_llama_seams_clear(f.world.w.model));
    float *cleared = editor_logits(&f);
    assert_memory_equal(pristine, cleared, editor_logit_bytes(&f));
    float *const all[] = {pristine, attached, edited, inactive, cleared};
    for (int i = 0; i < 5; i++) free(all[i]);
    editor_close(&f);
}

static void every_weight_stays_near_its_start(void **state) {
    editor_fixture f;
    editor_open(state, FT_M ", norm_constraint: 0.01}", &f);
    lemoe_tensor w = down_of(&f);
    int64_t n = lemoe_tensor_count(&w);
    float *start = malloc((size_t)n * sizeof *start);
    for (int64_t batch = 0; batch < 2; batch++) { /* the bound is around where each batch began */
        double largest = 0;
        memcpy(start, w.data, (size_t)n * sizeof *start);
        assert_ok(editor_train(&f, batch));
        for (int64_t i = 0; i < n; i++)
            largest = fmax(largest, fabs((double)((const float *)w.data)[i] - (double)start[i]));
        assert_close(largest, 0.01, 1e-6);
    }
    free(start);
    editor_close(&f);
}

static void what_is_saved_is_the_edited_matrix(void **state) {
    editor_fixture f;
    char path[512];
    lemoe_safetensors *file = NULL;
    lemoe_tensor t;
    editor_open(state, FT_M "}", &f);
    assert_ok(editor_train(&f, 0));
    assert_ok(f.e.ops->save(f.e.editor, fixture_path(state, "edited.safetensors", path), LEMOE_F32));
    assert_ok(lemoe_safetensors_open(path, &file));
    assert_int_equal(lemoe_safetensors_count(file), 1);
    assert_ok(lemoe_safetensors_get(file, "model.layers.1.mlp.down_proj.weight", 2, (int64_t[]){24, 40}, &t));
    assert_memory_equal(t.data, down_of(&f).data, lemoe_tensor_bytes(&t));
    assert_int_equal(f.e.ops->added_bytes(f.e.editor), 0);
    assert_null(f.e.ops->route);
    lemoe_safetensors_close(file);
    editor_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(training_changes_the_patched_matrix_only),
        cmocka_unit_test(every_weight_stays_near_its_start),
        cmocka_unit_test(what_is_saved_is_the_edited_matrix),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}

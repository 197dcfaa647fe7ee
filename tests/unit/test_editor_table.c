/* What every row of the editor table has to offer, `none` included. */
#include "tests/unit/editor_fixture.h"

static void every_row_is_complete(void **state) {
    (void)state;
    for (const char *const *name = lemoe_editor_names(); *name; name++) {
        const lemoe_editor_ops *ops = lemoe_editor_find(*name);
        assert_non_null(ops);
        assert_string_equal(ops->name, *name);
        assert_true(ops->check && ops->open && ops->close && ops->edit_batch);
        assert_true(!ops->route || (ops->route_trained && ops->n_expert));
    }
    assert_null(lemoe_editor_find("grace"));
    assert_null(lemoe_editor_find(""));
}

/* A no-op before the first edit; one batch; then base weights are as loaded, which clearing the seams proves. */
static void every_editor_opens_edits_and_leaves(void **state) {
    static const char *const layers[] = {"", "lemoe: {layer: 1, max_steps: 2}\n", "moe: {layer: 1, max_steps: 2}\n",
                                         "ft_m: {layer: 1, max_steps: 2}\n"};
    const char *const *names = lemoe_editor_names();
    for (int i = 0; names[i]; i++) {
        editor_fixture f;
        char settings[256];
        (void)snprintf(settings, sizeof settings, "edit: {method: %s}\n%s", names[i], layers[i]);
        editor_open(state, settings, &f);
        float *pristine = editor_pristine_logits(&f), *attached = editor_logits(&f);
        assert_memory_equal(pristine, attached, editor_logit_bytes(&f));
        assert_ok(editor_train(&f, 0));
        assert_int_equal(f.e.n_step, i == 0 ? 0 : 2);
        free(pristine);
        free(attached);
        editor_close(&f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_is_complete),
        cmocka_unit_test(every_editor_opens_edits_and_leaves),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}

/* Training on a batch: what an update and a pass are, and what memory limits must not change. */
#include "tests/unit/editor_fixture.h"

#define FT_M "edit: {method: ft_m}\nft_m: {layer: 1, stop_loss: 0, "

/* Losses of training on batch 0 with these settings; returns how many updates there were. */
static int64_t losses_of(void **state, const char *settings, int64_t micro_batch_tokens, double *out) {
    editor_fixture f;
    editor_open(state, settings, &f);
    f.e.context.micro_batch_tokens = micro_batch_tokens;
    f.e.ops->close(f.e.editor); /* open again with that budget */
    assert_ok(lemoe_llama_seams_clear(f.world.w.model));
    assert_ok(f.e.ops->open(&f.e.context, &f.e.editor));
    assert_ok(editor_train(&f, 0));
    for (int64_t i = 0; i < f.e.n_step; i++) out[i] = f.e.steps[i].loss;
    int64_t n = f.e.n_step;
    editor_close(&f);
    return n;
}

static void micro_batches_only_limit_memory(void **state) {
    double whole[EDITOR_MAX_STEPS], split[EDITOR_MAX_STEPS];
    static const char settings[] = FT_M "max_steps: 10, lr: 0.001}";
    assert_int_equal(losses_of(state, settings, 1000, whole), 10);
    for (int64_t budget = 1; budget <= 12; budget += 11) { /* one sequence each, and two in one of them */
        assert_int_equal(losses_of(state, settings, budget, split), 10);
        for (int i = 0; i < 10; i++) assert_close(split[i], whole[i], 1e-4 * whole[i]);
    }
}

static void the_same_again_is_the_same_bit_for_bit(void **state) {
    double first[EDITOR_MAX_STEPS], again[EDITOR_MAX_STEPS], seeded[EDITOR_MAX_STEPS];
    static const char settings[] = FT_M "max_steps: 12, lr: 0.01, minibatch: 2}";
    assert_int_equal(losses_of(state, settings, 1000, first), 12);
    assert_int_equal(losses_of(state, settings, 1000, again), 12);
    assert_memory_equal(first, again, 12 * sizeof *first);
    static const char other[] = "seed: 5\n" FT_M "max_steps: 12, lr: 0.01, minibatch: 2}";
    assert_int_equal(losses_of(state, other, 1000, seeded), 12);
    assert_memory_not_equal(first, seeded, 12 * sizeof *first); /* other minibatches */
}

/* A pass of minibatches holds every edit once: two updates for three edits in twos. Which edits are together is drawn
 * once; which minibatch comes first, in each pass. */
static void a_pass_holds_every_edit_once(void **state) {
    editor_fixture f;
    int64_t n_tok = 0, n_swapped = 0;
    editor_open(state, FT_M "max_steps: 40, lr: 0.0001, minibatch: 2}", &f);
    for (int i = 0; i < EDITOR_BATCH_SIZE; i++) n_tok += f.world.w.text.items[i].n_tok;
    assert_ok(editor_train(&f, 0));
    assert_int_equal(f.e.n_step, 40);
    int64_t first = f.e.steps[0].n_tok, second = f.e.steps[1].n_tok;
    assert_int_equal(first + second, n_tok);
    assert_int_not_equal(first, second); /* else this shows nothing */
    for (int64_t i = 0; i < f.e.n_step; i += 2) {
        bool is_swapped = f.e.steps[i].n_tok != first;
        assert_int_equal(f.e.steps[i].n_tok, is_swapped ? second : first);
        assert_int_equal(f.e.steps[i + 1].n_tok, is_swapped ? first : second);
        n_swapped += is_swapped;
    }
    assert_in_range(n_swapped, 1, 19);
    editor_close(&f);
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Packs of single edits are built once and come again in another order: text, route and gate stay the edit's own.
 * Nothing learns here, so each pass has the same gradients, which the gate of the second batch's expert scales. */
static void single_edits_stay_themselves(void **state) {
    enum { N = EDITOR_BATCH_SIZE, PASSES = 3 };
    editor_fixture f;
    double norms[PASSES][N];
    editor_open(state,
                "edit: {method: lemoe}\nlemoe: {layer: 1, router: forced, max_steps: 9, stop_loss: 0, minibatch: 1}",
                &f);
    f.e.config.lemoe.training.lr = f.e.config.lemoe.router_lr = 0.0;
    for (int64_t batch = 0; batch < 2; batch++) assert_ok(editor_train(&f, batch));
    assert_int_equal(f.e.n_step, (int64_t)2 * PASSES * N);
    for (int pass = 0; pass < PASSES; pass++) {
        for (int i = 0; i < N; i++) norms[pass][i] = f.e.steps[(PASSES + pass) * N + i].grad_norm;
        qsort(norms[pass], N, sizeof *norms[pass], by_value);
        for (int i = 0; i < N; i++)
            assert_true(norms[pass][i] == norms[0][i] && (i == 0 || norms[0][i] > norms[0][i - 1]));
    }
    editor_close(&f);
}

/* The loss of an update is the mean over its edits of the mean over an edit's targets. */
static void the_loss_is_a_mean_of_means(void **state) {
    editor_fixture f;
    lemoe_llama_output out;
    double want = 0;
    editor_open(state, FT_M "max_steps: 1, lr: 0.01}", &f);
    world_pack(&f.world, f.world.cut, EDITOR_BATCH_SIZE);
    assert_ok(lemoe_llama_forward(f.world.w.model, &f.world.pack, f.world.cut, true, f.world.w.arena, &out));
    for (int64_t s = 0; s < EDITOR_BATCH_SIZE; s++) {
        int64_t first = f.world.pack.target_start[s], end = f.world.pack.target_start[s + 1];
        for (int64_t t = first; t < end; t++)
            want += (double)((const float *)out.nll.data)[t] / (double)((end - first) * EDITOR_BATCH_SIZE);
    }
    assert_ok(editor_train(&f, 0));
    assert_close(f.e.steps[0].loss, want, 1e-5);
    assert_true(f.e.steps[0].grad_norm > 0 && f.e.steps[0].seconds >= 0);
    editor_close(&f);
}

static void a_low_loss_ends_it_after_a_whole_pass(void **state) {
    double losses[EDITOR_MAX_STEPS];
    static const char once[] = "edit: {method: ft_m}\nft_m: {layer: 1, stop_loss: 1000, max_steps: 40, minibatch: 1}";
    assert_int_equal(losses_of(state, once, 1000, losses), 3); /* fine at once, and yet every edit was seen */
    static const char few[] = "edit: {method: ft_m}\nft_m: {layer: 1, stop_loss: 1000, max_steps: 2, minibatch: 1}";
    assert_int_equal(losses_of(state, few, 1000, losses), 2);
    static const char later[] = "edit: {method: ft_m}\nft_m: {layer: 1, stop_loss: 0.5, max_steps: 300, lr: 0.01}";
    int64_t n = losses_of(state, later, 1000, losses);
    assert_in_range(n, 2, 299);
    assert_true(losses[n - 1] < 0.5 && losses[n - 2] >= 0.5);
}

static void failures_come_back(void **state) {
    editor_fixture f;
    editor_open(state, FT_M "max_steps: 5, lr: 0.01}", &f);
    f.e.step_status = LEMOE_ERR_IO;
    assert_error(editor_train(&f, 0), LEMOE_ERR_IO, "the log is full");
    f.e.step_status = LEMOE_OK;
    lemoe_tensor w = lemoe_llama_matrix(f.world.w.model, 1, LEMOE_MATRIX_DOWN);
    ((float *)w.data)[7] = INFINITY;
    assert_error(editor_train(&f, 0), LEMOE_ERR_NUMERIC, "batch 0");
    editor_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(micro_batches_only_limit_memory),
        cmocka_unit_test(the_same_again_is_the_same_bit_for_bit),
        cmocka_unit_test(a_pass_holds_every_edit_once),
        cmocka_unit_test(single_edits_stay_themselves),
        cmocka_unit_test(the_loss_is_a_mean_of_means),
        cmocka_unit_test(a_low_loss_ends_it_after_a_whole_pass),
        cmocka_unit_test(failures_come_back),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}

/* The engine against itself: gradients by differences, and what must not depend on the cut, the pack or the storage. */
#include "tests/unit/world_fixture.h"

static const tiny_shape mistral = {24, 40, 3, 4, 2, 37, 4, false, LEMOE_F32};
static const tiny_shape tied = {24, 40, 3, 4, 4, 37, 0, true, LEMOE_F32};
static const tiny_shape bf16 = {24, 40, 3, 4, 1, 37, 0, false, LEMOE_BF16};

static void gradient_at_the_cut(void **state) {
    static const tiny_shape *const shapes[] = {&tiny_llama, &mistral, &tied, &bf16};
    static const char *const names[] = {"llama", "mistral", "tied", "bf16"};
    for (int s = 0; s < 4; s++) {
        world_fixture f;
        world_open(state, shapes[s], shapes[s]->dtype, &f);
        for (int64_t cut = 0; cut <= 2 * shapes[s]->n_layer; cut += s == 0 ? 1 : 3) {
            world_pack(&f, cut, 3);
            int64_t n = lemoe_tensor_count(&f.pack.x);
            float *gradient = malloc((size_t)n * sizeof *gradient);
            world_backward(&f, gradient);
            assert_gradient(&f, names[s], f.pack.x.data, gradient, n, 3, false);
            free(gradient);
        }
        world_close(&f);
    }
}

/* NLL and argmax of all items' targets at one cut, one pack. */
static void score(world_fixture *f, int64_t cut, int64_t n_items, float *nll, int32_t *argmax, bool training) {
    lemoe_llama_output out;
    world_pack(f, cut, n_items);
    assert_ok(lemoe_llama_forward(f->w.model, &f->pack, cut, training, f->w.arena, &out));
    memcpy(nll, out.nll.data, lemoe_tensor_bytes(&out.nll));
    memcpy(argmax, out.argmax.data, lemoe_tensor_bytes(&out.argmax));
}

enum { MAX_TARGET = 3 * TINY_ITEMS };

static void assert_same_scores(const float *a, const float *b, int64_t n) {
    for (int64_t i = 0; i < n; i++) assert_close((double)a[i], (double)b[i], 1e-5);
}

static void any_cut_gives_the_same_loss(void **state) {
    world_fixture f;
    float first[MAX_TARGET], nll[MAX_TARGET];
    int32_t first_argmax[MAX_TARGET], argmax[MAX_TARGET];
    world_open(state, &tiny_llama, LEMOE_F32, &f);
    score(&f, 0, TINY_ITEMS, first, first_argmax, false);
    for (int64_t cut = 0; cut <= 6; cut++)
        for (int training = 0; training < 2; training++) {
            score(&f, cut, TINY_ITEMS, nll, argmax, training);
            assert_same_scores(nll, first, f.pack.n_target);
            assert_memory_equal(argmax, first_argmax, (size_t)f.pack.n_target * sizeof *argmax);
        }
    world_close(&f);
}

/* A sequence does not see its neighbours in the pack. */
static void sequences_are_on_their_own(void **state) {
    world_fixture f;
    float together[MAX_TARGET], alone[MAX_TARGET];
    int32_t argmax[MAX_TARGET];
    int64_t target = 0;
    world_open(state, &mistral, LEMOE_F32, &f);
    score(&f, 0, TINY_ITEMS, together, argmax, false);
    lemoe_item first = f.w.text.items[0];
    for (int64_t i = 0; i < TINY_ITEMS; i++) {
        f.w.text.items[0] = f.w.text.items[i];
        score(&f, 0, 1, alone, argmax, false);
        assert_same_scores(alone, together + target, f.pack.n_target);
        target += f.pack.n_target;
    }
    f.w.text.items[0] = first;
    world_close(&f);
}

/* What a target is does not reach the rows that predict it or come before. */
static void nothing_looks_ahead(void **state) {
    world_fixture f;
    float before[MAX_TARGET], after[MAX_TARGET];
    int32_t argmax[MAX_TARGET], argmax_after[MAX_TARGET];
    world_open(state, &tiny_llama, LEMOE_F32, &f);
    score(&f, 0, 3, before, argmax, false);
    int64_t last = f.w.text.items[2].n_tok - 1; /* item 2 has three targets */
    f.w.text.ids[2][last] = f.w.text.ids[2][last] == 5 ? 6 : 5;
    f.cut = -1; /* other ids: fill anew */
    score(&f, 0, 3, after, argmax_after, false);
    assert_memory_equal(before, after, (size_t)(f.pack.n_target - 1) * sizeof *before);
    assert_memory_equal(argmax, argmax_after, (size_t)f.pack.n_target * sizeof *argmax);
    assert_true(before[f.pack.n_target - 1] != after[f.pack.n_target - 1]);
    world_close(&f);
}

static void a_window_that_is_long_enough_changes_nothing(void **state) {
    static const int64_t windows[] = {0, 100, TINY_MAX_TOK, 3};
    float nll[4][MAX_TARGET];
    int32_t argmax[MAX_TARGET];
    int64_t n = 0;
    for (int i = 0; i < 4; i++) {
        world_fixture f;
        tiny_shape shape = tiny_llama;
        shape.window = windows[i];
        world_open(state, &shape, LEMOE_F32, &f);
        score(&f, 0, TINY_ITEMS, nll[i], argmax, false);
        n = f.pack.n_target;
        world_close(&f);
    }
    assert_memory_equal(nll[0], nll[1], (size_t)n * sizeof(float));
    assert_memory_equal(nll[0], nll[2], (size_t)n * sizeof(float));
    assert_memory_not_equal(nll[0], nll[3], (size_t)n * sizeof(float));
}

/* A bf16 file used as bf16 (views) and as fp32 (copies) holds the same numbers. */
static void storage_type_of_exact_weights_does_not_matter(void **state) {
    float nll[3][MAX_TARGET];
    int32_t argmax[MAX_TARGET];
    static const lemoe_dtype dtypes[] = {LEMOE_BF16, LEMOE_F32, LEMOE_F16};
    int64_t n = 0;
    for (int i = 0; i < 3; i++) {
        world_fixture f;
        world_open(state, &bf16, dtypes[i], &f);
        score(&f, 0, TINY_ITEMS, nll[i], argmax, false);
        n = f.pack.n_target;
        assert_int_equal(lemoe_llama_matrix(f.w.model, 1, LEMOE_MATRIX_UP).dtype, dtypes[i]);
        world_close(&f);
    }
    assert_same_scores(nll[0], nll[1], n);
    for (int64_t i = 0; i < n; i++) assert_close((double)nll[0][i], (double)nll[2][i], 1e-3); /* tiny values of fp16 */
}

static void logits_and_argmax_belong_together(void **state) {
    world_fixture f;
    lemoe_llama_output out;
    world_open(state, &tiny_llama, LEMOE_F32, &f);
    world_pack(&f, 2, TINY_ITEMS);
    assert_ok(lemoe_llama_forward(f.w.model, &f.pack, 2, false, f.w.arena, &out));
    assert_true(out.logits.shape[0] == f.pack.n_target && out.logits.shape[1] == tiny_llama.n_vocab &&
                out.vocab_begin == 0);
    for (int64_t i = 0; i < f.pack.n_target; i++) {
        const float *row = (const float *)out.logits.data + i * tiny_llama.n_vocab;
        int64_t best = 0;
        double sum = 0;
        for (int64_t j = 0; j < tiny_llama.n_vocab; j++) {
            if (row[j] > row[best]) best = j;
            sum += exp((double)row[j]);
        }
        int32_t target = ((const int32_t *)f.pack.target_id.data)[i];
        assert_int_equal(((const int32_t *)out.argmax.data)[i], best);
        assert_close((double)((const float *)out.nll.data)[i], log(sum) - (double)row[target], 1e-5);
    }
    world_close(&f);
}

static void a_pack_without_targets(void **state) {
    world_fixture f;
    lemoe_llama_output out;
    world_open(state, &tiny_llama, LEMOE_F32, &f);
    f.w.text.items[0].n_prompt = f.w.text.items[0].n_tok;
    world_pack(&f, 3, 1);
    assert_int_equal(f.pack.n_target, 0);
    assert_ok(lemoe_llama_forward(f.w.model, &f.pack, 3, false, f.w.arena, &out));
    assert_int_equal(lemoe_tensor_count(&out.nll), 0);
    world_close(&f);
}

static void shares_and_splits(void **state) {
    world_fixture f;
    int64_t begin = -1, n = -1, n_bytes = 0;
    char fingerprint[33];
    world_open(state, &tiny_llama, LEMOE_F32, &f);
    const lemoe_llama_config *c = lemoe_llama_config_of(f.w.model);
    lemoe_llama_ff_share(f.w.model, &begin, &n);
    assert_true(begin == 0 && n == tiny_llama.d_ff);
    assert_ok(lemoe_llama_check_split(c, 1));
    assert_ok(lemoe_llama_check_split(c, 2));
    assert_ok(lemoe_llama_check_split(c, 4)); /* 2 key/value heads replicated */
    assert_error(lemoe_llama_check_split(c, 3), LEMOE_ERR_SHAPE, "4 attention heads");
    assert_error(lemoe_llama_check_split(c, 8), LEMOE_ERR_SHAPE, "4 attention heads");
    lemoe_llama_config odd = *c;
    odd.d_ff = 41;
    assert_error(lemoe_llama_check_split(&odd, 2), LEMOE_ERR_SHAPE, "FFN width 41");
    odd = *c;
    odd.n_head = 12, odd.n_kv = 4;
    assert_error(lemoe_llama_check_split(&odd, 6), LEMOE_ERR_SHAPE, "4 key/value heads");
    assert_ok(lemoe_llama_folder_check((char *)*state, c, fingerprint, &n_bytes));
    assert_string_equal(fingerprint, lemoe_llama_fingerprint(f.w.model));
    assert_true(n_bytes > 0);
    world_close(&f);
}

static void a_model_that_does_not_fit_its_config_is_refused(void **state) {
    lemoe_comm *comm = NULL;
    tiny_shape shape = tiny_llama;
    tiny_world w;
    assert_ok(lemoe_comm_self(&comm));
    assert_ok(tiny_model_write((char *)*state, &shape));
    shape.d_ff = 44;
    assert_ok(tiny_write_config((char *)*state, &shape));
    assert_error(tiny_world_open((char *)*state, &shape, LEMOE_F32, comm, &w), LEMOE_ERR_FORMAT, "[40, 24]");
    assert_null(w.model);
    tiny_world_close(&w);
    shape = tiny_llama;
    shape.n_layer = 4;
    assert_ok(tiny_write_config((char *)*state, &shape));
    assert_error(tiny_world_open((char *)*state, &shape, LEMOE_F32, comm, &w), LEMOE_ERR_FORMAT,
                 "no tensor model.layers.3");
    tiny_world_close(&w);
    lemoe_comm_close(comm);
}

/* The last value of the last matrix becomes another; behind it are two norms. */
static void spoil_last_weight(void **state, float value) {
    char path[512];
    FILE *file = fopen(fixture_path(state, "model.safetensors", path), "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, -4 * (2 * (long)tiny_llama.d_model + 1), SEEK_END), 0);
    assert_int_equal(fwrite(&value, 4, 1, file), 1);
    assert_int_equal(fclose(file), 0);
}

static void weights_that_are_not_numbers_here_are_refused(void **state) {
    lemoe_comm *comm = NULL;
    tiny_shape shape = tiny_llama;
    tiny_world w;
    assert_ok(lemoe_comm_self(&comm));
    assert_ok(tiny_model_write((char *)*state, &shape));
    spoil_last_weight(state, 1e6f);
    assert_ok(tiny_world_open((char *)*state, &shape, LEMOE_BF16, comm, &w));
    tiny_world_close(&w);
    assert_error(tiny_world_open((char *)*state, &shape, LEMOE_F16, comm, &w), LEMOE_ERR_NUMERIC,
                 "is beyond fp16; set model.dtype");
    assert_non_null(strstr(lemoe_error_message(), "tensor model.layers.2.mlp.down_proj.weight: 1e+06 at [23, 39]"));
    tiny_world_close(&w);
    spoil_last_weight(state, NAN);
    assert_error(tiny_world_open((char *)*state, &shape, LEMOE_F32, comm, &w), LEMOE_ERR_FORMAT,
                 "tensor model.layers.2.mlp.down_proj.weight is nan at [23, 39]");
    tiny_world_close(&w);
    lemoe_comm_close(comm);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_that_are_not_numbers_here_are_refused),
        cmocka_unit_test(gradient_at_the_cut),
        cmocka_unit_test(any_cut_gives_the_same_loss),
        cmocka_unit_test(sequences_are_on_their_own),
        cmocka_unit_test(nothing_looks_ahead),
        cmocka_unit_test(a_window_that_is_long_enough_changes_nothing),
        cmocka_unit_test(storage_type_of_exact_weights_does_not_matter),
        cmocka_unit_test(logits_and_argmax_belong_together),
        cmocka_unit_test(a_pack_without_targets),
        cmocka_unit_test(shares_and_splits),
        cmocka_unit_test(a_model_that_does_not_fit_its_config_is_refused),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}

/* The three seams: bypass adds to an FFN, tap sees a matrix's rows, patch changes a matrix; and none of them leaks. */
#include "tests/unit/world_fixture.h"

#include "kernels/ops.h"

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
static int clear_seams(void **state) {
    (void)state;
    return lemoe_llama_seams_clear(f.w.model) != LEMOE_OK;
}

/* ---- a bypass: adds factor * x, and counts its calls ---- */

typedef struct adder {
    float factor;
    int n_forward, n_backward;
} adder;

static lemoe_status adder_forward(void *context, lemoe_bypass_io *io) {
    adder *a = context;
    a->n_forward++;
    return a->factor == 0 ? LEMOE_OK : lemoe_op_axpy(lemoe_arena_device(io->arena), a->factor, io->x, io->out);
}

static lemoe_status adder_backward(void *context, lemoe_bypass_io *io) {
    adder *a = context;
    a->n_backward++;
    return io->d_x.data ? lemoe_op_axpy(lemoe_arena_device(io->arena), a->factor, io->d_out, io->d_x) : LEMOE_OK;
}

static void add_bypass(int64_t layer, adder *a) {
    lemoe_bypass bypass = {layer, adder_forward, adder_backward, a, false, NULL};
    assert_ok(lemoe_llama_add_bypass(f.w.model, &bypass));
}

/* ---- a tap: the weight gradient dy^T x ---- */

typedef struct taken {
    lemoe_device *device;
    lemoe_tensor gradient; /* as large as the matrix */
    int n_call;
} taken;

static lemoe_status take(void *context, lemoe_tensor x, lemoe_tensor dy) {
    taken *t = context;
    t->n_call++;
    return lemoe_op_linear_dw(t->device, dy, x, t->gradient, true);
}

static void nothing(void **state) {
    (void)state;
    assert_int_equal(lemoe_llama_cut(f.w.model), 2 * tiny_llama.n_layer);
}

static void the_lowest_seam_is_the_cut(void **state) {
    adder a = {0};
    lemoe_tensor w;
    lemoe_tap tap = {2, LEMOE_MATRIX_Q, take, NULL};
    nothing(state);
    assert_ok(lemoe_llama_add_tap(f.w.model, &tap));
    assert_int_equal(lemoe_llama_cut(f.w.model), 4);
    add_bypass(1, &a);
    assert_int_equal(lemoe_llama_cut(f.w.model), 3);
    assert_ok(lemoe_llama_patch_begin(f.w.model, 0, LEMOE_MATRIX_DOWN, &w));
    assert_int_equal(lemoe_llama_cut(f.w.model), 1);
    tap = (lemoe_tap){0, LEMOE_MATRIX_O, take, NULL};
    assert_ok(lemoe_llama_add_tap(f.w.model, &tap));
    assert_int_equal(lemoe_llama_cut(f.w.model), 0);
    lemoe_llama_seams_set_active(f.w.model, false);
    assert_int_equal(lemoe_llama_cut(f.w.model), 0); /* pristine outputs need the same cut */
    assert_ok(lemoe_llama_seams_clear(f.w.model));
    nothing(state);
}

static void seams_that_do_not_fit_are_refused(void **state) {
    adder a = {0};
    lemoe_tensor w;
    lemoe_bypass bypass = {3, adder_forward, adder_backward, &a, false, NULL};
    lemoe_tap tap = {-1, LEMOE_MATRIX_Q, take, NULL};
    (void)state;
    assert_error(lemoe_llama_add_bypass(f.w.model, &bypass), LEMOE_ERR_ARG, "layers 0 to 2");
    assert_error(lemoe_llama_add_tap(f.w.model, &tap), LEMOE_ERR_ARG, "layer -1");
    assert_error(lemoe_llama_patch_begin(f.w.model, 9, LEMOE_MATRIX_UP, &w), LEMOE_ERR_ARG, "layer 9");
    add_bypass(1, &a);
    bypass.layer = 1;
    assert_error(lemoe_llama_add_bypass(f.w.model, &bypass), LEMOE_ERR_STATE, "has a bypass already");
}

/* Logits of the first items at a cut, in memory of the caller's. */
static float *logits_of(int64_t cut, int64_t n_items, bool training) {
    lemoe_llama_output out;
    world_pack(&f, cut, n_items);
    assert_ok(lemoe_llama_forward(f.w.model, &f.pack, cut, training, f.w.arena, &out));
    float *logits = malloc(lemoe_tensor_bytes(&out.logits));
    memcpy(logits, out.logits.data, lemoe_tensor_bytes(&out.logits));
    return logits;
}

static size_t logit_bytes(void) { return (size_t)(f.pack.n_target * tiny_llama.n_vocab) * sizeof(float); }

/* A bypass that adds nothing changes no bit, on whatever layer, in packs of any size, inactive or not. */
static void a_bypass_that_adds_nothing_changes_no_bit(void **state) {
    static const int64_t sizes[] = {1, 2, TINY_ITEMS};
    (void)state;
    for (int64_t layer = 0; layer < tiny_llama.n_layer; layer++)
        for (int s = 0; s < 3; s++)
            for (int training = 0; training < 2; training++) {
                adder a = {0};
                int64_t cut = 2 * layer + 1;
                float *without = logits_of(cut, sizes[s], training);
                add_bypass(layer, &a);
                float *with = logits_of(cut, sizes[s], training);
                assert_int_equal(a.n_forward, 1);
                lemoe_llama_seams_set_active(f.w.model, false);
                float *inactive = logits_of(cut, sizes[s], training);
                assert_int_equal(a.n_forward, 1);
                if (memcmp(without, with, logit_bytes()) != 0 || memcmp(without, inactive, logit_bytes()) != 0)
                    fail_msg("layer %d, %d sequences: logits differ", (int)layer, (int)sizes[s]);
                assert_ok(lemoe_llama_seams_clear(f.w.model));
                free(without);
                free(with);
                free(inactive);
            }
}

static lemoe_llama_output forward_pack(void) {
    lemoe_llama_output out;
    assert_ok(lemoe_llama_forward(f.w.model, &f.pack, f.cut, true, f.w.arena, &out));
    return out;
}

/* Losses of a held pack come later, and are the same. */
static void assert_same_losses(const lemoe_llama_output *computed, const lemoe_llama_output *held) {
    float nll[3 * TINY_ITEMS];
    assert_null(held->nll.data);
    assert_null(held->argmax.data);
    assert_ok(lemoe_llama_held_nll(f.w.model, &f.pack, nll));
    assert_memory_equal(nll, computed->nll.data, (size_t)f.pack.n_target * sizeof *nll);
}

/* A pack that holds what the edited FFN gives computes the same bits, and the bypass still sees its input. */
static void a_held_ffn_changes_no_bit(void **state) {
    (void)state;
    for (int64_t layer = 0; layer < tiny_llama.n_layer; layer++) {
        adder a = {.factor = 0.7f};
        lemoe_arena *scratch = NULL;
        assert_ok(lemoe_arena_create(f.w.device, 1 << 16, &scratch));
        add_bypass(layer, &a);
        world_pack(&f, 2 * layer + 1, TINY_ITEMS);
        lemoe_llama_output computed = forward_pack();
        assert_ok(lemoe_llama_hold(f.w.model, &f.pack, f.cut, f.w.arena, scratch));
        assert_non_null(f.pack.ffn_output.data);
        lemoe_llama_output held = forward_pack();
        assert_memory_equal(computed.logits.data, held.logits.data, logit_bytes());
        assert_same_losses(&computed, &held);
        assert_false(f.pack.without_host); /* who knows what this bypass does */
        assert_true(f.pack.above_without_host);
        lemoe_tensor d_cut = lemoe_tensor_2d(f.pack.x.data, LEMOE_F32, f.pack.n_tok, tiny_llama.d_model);
        assert_error(lemoe_llama_backward(f.w.model, &f.pack, &held, f.weight_tensor, f.w.arena, d_cut),
                     LEMOE_ERR_UNSUPPORTED, "held");
        assert_ok(lemoe_llama_seams_clear(f.w.model));
        lemoe_arena_destroy(scratch);
    }
}

/* Where something else can change that FFN or wants to look inside, nothing is held. */
static void an_ffn_that_may_change_is_not_held(void **state) {
    adder a = {0};
    lemoe_tensor w;
    lemoe_bypass nosy = {1, adder_forward, adder_backward, &a, true, NULL};
    (void)state;
    assert_ok(lemoe_llama_add_bypass(f.w.model, &nosy));
    world_pack(&f, 3, 2);
    assert_ok(lemoe_llama_hold(f.w.model, &f.pack, 3, f.w.arena, f.w.arena));
    assert_null(f.pack.ffn_output.data);
    assert_ok(lemoe_llama_seams_clear(f.w.model));
    add_bypass(1, &a);
    assert_ok(lemoe_llama_patch_begin(f.w.model, 1, LEMOE_MATRIX_DOWN, &w));
    assert_ok(lemoe_llama_hold(f.w.model, &f.pack, 3, f.w.arena, f.w.arena));
    assert_null(f.pack.ffn_output.data);
    assert_ok(lemoe_llama_hold(f.w.model, &f.pack, 2, f.w.arena, f.w.arena));
    assert_false(f.pack.above_without_host); /* the bypass lies above that cut */
}

static void gradients_pass_through_a_bypass(void **state) {
    (void)state;
    for (int64_t layer = 0; layer < tiny_llama.n_layer; layer++) {
        adder a = {.factor = 0.7f};
        add_bypass(layer, &a);
        world_pack(&f, 0, 2);
        int64_t n = lemoe_tensor_count(&f.pack.x);
        float *gradient = malloc((size_t)n * sizeof *gradient);
        world_backward(&f, gradient);
        assert_int_equal(a.n_backward, 1);
        assert_gradient(&f, "the rows below a bypass", f.pack.x.data, gradient, n, 3, true);
        free(gradient);
        assert_ok(lemoe_llama_seams_clear(f.w.model));
    }
}

/* Without d_cut the backward goes down to the lowest seam and no further. */
static void the_backward_ends_at_the_lowest_seam(void **state) {
    adder a = {.factor = 0.1f};
    lemoe_tap below = {0, LEMOE_MATRIX_Q, take, NULL};
    taken t = {.device = f.w.device};
    (void)state;
    below.context = &t;
    assert_ok(lemoe_llama_add_tap(f.w.model, &below));
    assert_ok(lemoe_llama_seams_clear(f.w.model));
    add_bypass(1, &a);
    world_pack(&f, 3, 3);
    world_backward(&f, NULL);
    assert_true(a.n_forward == 1 && a.n_backward == 1 && t.n_call == 0);
}

/* A tap's dy^T x is the gradient of the matrix; a patch lets it be moved. */
static void taps_give_weight_gradients(void **state) {
    static const char *const names[] = {"q", "k", "v", "o", "gate", "up", "down"};
    (void)state;
    for (int layer = 0; layer < 3; layer += 2)
        for (int m = 0; m < LEMOE_MATRIX_COUNT; m++) {
            taken t = {.device = f.w.device};
            lemoe_tap tap = {layer, (lemoe_matrix)m, take, &t};
            lemoe_tensor w;
            assert_ok(lemoe_llama_patch_begin(f.w.model, layer, (lemoe_matrix)m, &w));
            assert_ok(lemoe_llama_add_tap(f.w.model, &tap));
            world_pack(&f, lemoe_llama_cut(f.w.model), 3);
            assert_ok(lemoe_arena_matrix(f.w.arena, LEMOE_F32, w.shape[0], w.shape[1], &t.gradient));
            assert_ok(lemoe_device_zero(f.w.device, t.gradient.data, lemoe_tensor_bytes(&t.gradient)));
            world_backward(&f, NULL);
            assert_int_equal(t.n_call, 1);
            assert_gradient(&f, names[m], w.data, t.gradient.data, lemoe_tensor_count(&w), 17, true);
            assert_ok(lemoe_llama_seams_clear(f.w.model));
        }
}

/* The gradient that a tap collects of the pack, taken in one or in three parts. */
static float *tapped(taken *t, bool in_parts) {
    lemoe_llama_output out;
    size_t n_bytes = lemoe_tensor_bytes(&t->gradient);
    float *gradient = malloc(n_bytes);
    assert_ok(lemoe_device_zero(f.w.device, t->gradient.data, n_bytes));
    if (in_parts) {
        assert_ok(lemoe_llama_forward_cut(f.w.model, &f.pack, f.cut, f.w.arena, &out));
        size_t used = lemoe_arena_used_bytes(f.w.arena);
        assert_ok(lemoe_llama_above_cut(f.w.model, &f.pack, &out, f.weight_tensor, f.w.arena));
        assert_int_equal(lemoe_arena_used_bytes(f.w.arena), used);
        assert_ok(lemoe_llama_backward_cut(f.w.model, &f.pack, &out, f.w.arena));
    } else {
        world_backward(&f, NULL);
    }
    memcpy(gradient, t->gradient.data, n_bytes);
    return gradient;
}

/* Forward and backward in three parts, from every cut: the same bits, of what lies at the cut and of what lies above.
 */
static void parts_make_the_whole(void **state) {
    static const lemoe_matrix matrices[] = {LEMOE_MATRIX_K, LEMOE_MATRIX_DOWN}; /* one of each block */
    int64_t n_block = 2 * tiny_llama.n_layer;
    (void)state;
    for (int64_t cut = 0; cut < n_block; cut++)
        for (int64_t block = cut; block < n_block; block++) {
            taken t = {.device = f.w.device}, other = t;
            lemoe_tap tap = {block / 2, matrices[block % 2], take, &t},
                      at_cut = {cut / 2, matrices[cut % 2], take, &other};
            lemoe_tensor w = lemoe_llama_matrix(f.w.model, tap.layer, tap.matrix);
            lemoe_tensor v = lemoe_llama_matrix(f.w.model, at_cut.layer, at_cut.matrix);
            assert_ok(lemoe_arena_matrix(f.w.arena, LEMOE_F32, w.shape[0], w.shape[1], &t.gradient));
            assert_ok(lemoe_arena_matrix(f.w.arena, LEMOE_F32, v.shape[0], v.shape[1], &other.gradient));
            assert_ok(lemoe_llama_add_tap(f.w.model, &tap));
            if (block > cut) assert_ok(lemoe_llama_add_tap(f.w.model, &at_cut));
            world_pack(&f, cut, 3);
            float *whole = tapped(&t, false), *parts = tapped(&t, true);
            assert_memory_equal(whole, parts, lemoe_tensor_bytes(&t.gradient));
            assert_int_equal(t.n_call, 2);
            assert_ok(lemoe_llama_seams_clear(f.w.model));
            free(whole);
            free(parts);
        }
}

static void a_patch_is_rolled_back(void **state) {
    lemoe_tensor w;
    char fingerprint[33];
    (void)state;
    memcpy(fingerprint, lemoe_llama_fingerprint(f.w.model), sizeof fingerprint);
    float *pristine = logits_of(3, 4, false);
    assert_ok(lemoe_llama_patch_begin(f.w.model, 1, LEMOE_MATRIX_DOWN, &w));
    assert_int_equal(w.dtype, LEMOE_F32);
    float *copied = logits_of(3, 4, false);
    assert_memory_equal(pristine, copied, logit_bytes());
    ((float *)w.data)[5] += 1.0f;
    float *patched = logits_of(3, 4, false);
    assert_memory_not_equal(pristine, patched, logit_bytes());
    lemoe_llama_seams_set_active(f.w.model, false);
    float *inactive = logits_of(3, 4, false);
    assert_memory_equal(pristine, inactive, logit_bytes());
    lemoe_llama_seams_set_active(f.w.model, true);
    float *again = logits_of(3, 4, false);
    assert_memory_equal(patched, again, logit_bytes());
    assert_ok(lemoe_llama_seams_clear(f.w.model));
    float *cleared = logits_of(3, 4, false);
    assert_memory_equal(pristine, cleared, logit_bytes());
    assert_string_equal(fingerprint, lemoe_llama_fingerprint(f.w.model));
    float *const all[] = {pristine, copied, patched, inactive, again, cleared};
    for (int i = 0; i < 6; i++) free(all[i]);
}

static void a_changed_weight_of_the_model_is_noticed(void **state) {
    lemoe_tensor w, own = lemoe_llama_matrix(f.w.model, 1, LEMOE_MATRIX_DOWN);
    tiny_shape shape = tiny_llama;
    world_fixture copy;
    (void)own;
    shape.dtype = LEMOE_BF16; /* stored as bf16, used as fp32: not a view of the file, which nobody could write to */
    world_open(state, &shape, LEMOE_F32, &copy);
    lemoe_tensor stored = lemoe_llama_matrix(copy.w.model, 1, LEMOE_MATRIX_DOWN);
    assert_ok(lemoe_llama_patch_begin(copy.w.model, 1, LEMOE_MATRIX_DOWN, &w));
    ((float *)stored.data)[0] += 1.0f;
    assert_error(lemoe_llama_seams_clear(copy.w.model), LEMOE_ERR_STATE, "has changed");
    world_close(&copy);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(the_lowest_seam_is_the_cut, clear_seams),
        cmocka_unit_test_teardown(seams_that_do_not_fit_are_refused, clear_seams),
        cmocka_unit_test_teardown(a_bypass_that_adds_nothing_changes_no_bit, clear_seams),
        cmocka_unit_test_teardown(a_held_ffn_changes_no_bit, clear_seams),
        cmocka_unit_test_teardown(an_ffn_that_may_change_is_not_held, clear_seams),
        cmocka_unit_test_teardown(gradients_pass_through_a_bypass, clear_seams),
        cmocka_unit_test_teardown(the_backward_ends_at_the_lowest_seam, clear_seams),
        cmocka_unit_test_teardown(taps_give_weight_gradients, clear_seams),
        cmocka_unit_test_teardown(parts_make_the_whole, clear_seams),
        cmocka_unit_test_teardown(a_patch_is_rolled_back, clear_seams),
        cmocka_unit_test_teardown(a_changed_weight_of_the_model_is_noticed, clear_seams),
    };
    return cmocka_run_group_tests(tests, open_folder_and_model, close_all);
}

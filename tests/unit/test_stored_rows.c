/*
 * Rows that products alone read are stored in the type that those multiply, and that changes no bit: against the same
 * model with somebody looking at every matrix, who is given fp32. On the CPU, and on the emulated CUDA module
 * (LEMOE_TEST_DEVICE=cuda).
 */
#include "kernels/ops_table.h"
#include "tests/unit/world_fixture.h"

static const tiny_shape shape = {24, 40, 3, 4, 2, 37, 0, false, LEMOE_BF16};
enum { N_LAYER = 3, LAST = N_LAYER - 1, ITEMS = 5 };

static world_fixture f;

/* ---- the device's own table, counting products by the type of their operand a ---- */

static lemoe_compute_ops counting;
static lemoe_status (*matmul)(lemoe_device *device, const lemoe_matmul_args *args);
static int n_bf16, n_f32;

static lemoe_status count_matmul(lemoe_device *device, const lemoe_matmul_args *args) {
    (*(args->a.dtype == LEMOE_BF16 ? &n_bf16 : &n_f32))++;
    return matmul(device, args);
}

static void open_world(void **state) {
    if (lemoe_device_check_products(tiny_device_kind(), LEMOE_PRODUCTS_BF16) != LEMOE_OK) skip();
    world_open(state, &shape, LEMOE_BF16, &f);
    lemoe_device *device = f.w.device;
    assert_ok(lemoe_device_set_products(device, LEMOE_PRODUCTS_BF16));
    counting = *device->compute;
    matmul = counting.matmul;
    counting.matmul = count_matmul;
    device->compute = &counting;
}

/* ---- what a forward and a backward give ---- */

typedef struct outcome {
    float *logits, *d_cut;
    size_t logit_bytes, d_bytes;
    int n_bf16, n_f32;
} outcome;

static float *downloaded(lemoe_tensor x) {
    float *values = malloc(lemoe_tensor_bytes(&x));
    assert_ok(lemoe_device_download(f.w.device, values, x.data, lemoe_tensor_bytes(&x)));
    return values;
}

static outcome run(void) {
    lemoe_arena *arena = f.w.arena;
    lemoe_llama_output out;
    lemoe_tensor weight, d_cut;
    size_t mark = lemoe_arena_mark(arena);
    assert_ok(tiny_world_fill(&f.w, 0));
    assert_ok(lemoe_pack_build(arena, f.w.text.items, ITEMS, shape.d_model, &f.pack));
    float weights[64] = {0};
    assert_true(f.pack.n_target <= 64);
    for (int64_t i = 0; i < f.pack.n_target; i++) weights[i] = 0.5f + (float)i / 7.0f;
    assert_ok(lemoe_arena_vector(arena, LEMOE_F32, f.pack.n_target, &weight));
    assert_ok(lemoe_device_upload(f.w.device, weight.data, weights, lemoe_tensor_bytes(&weight)));
    assert_ok(lemoe_arena_matrix(arena, LEMOE_F32, f.pack.n_tok, shape.d_model, &d_cut));
    n_bf16 = n_f32 = 0;
    assert_ok(lemoe_llama_forward(f.w.model, &f.pack, 0, true, arena, &out));
    outcome o = {.logits = downloaded(out.logits), .logit_bytes = lemoe_tensor_bytes(&out.logits)};
    assert_ok(lemoe_llama_backward(f.w.model, &f.pack, &out, weight, arena, d_cut));
    o.d_cut = downloaded(d_cut);
    o.d_bytes = lemoe_tensor_bytes(&d_cut);
    o.n_bf16 = n_bf16;
    o.n_f32 = n_f32;
    lemoe_arena_reset(arena, mark);
    return o;
}

/* Both are given back. */
static void assert_same_bits(outcome a, outcome b) {
    assert_int_equal(a.logit_bytes, b.logit_bytes);
    assert_int_equal(a.d_bytes, b.d_bytes);
    assert_memory_equal(a.logits, b.logits, a.logit_bytes);
    assert_memory_equal(a.d_cut, b.d_cut, a.d_bytes);
    free(a.logits);
    free(a.d_cut);
    free(b.logits);
    free(b.d_cut);
}

/* ---- somebody who looks ---- */

static int n_look;

static lemoe_status look(void *context, lemoe_tensor x, lemoe_tensor dy) {
    (void)context;
    n_look += x.dtype == LEMOE_F32 && dy.dtype == LEMOE_F32;
    return LEMOE_OK;
}

static void look_at(int64_t layer, lemoe_matrix which) {
    lemoe_tap tap = {layer, which, look, NULL};
    assert_ok(lemoe_llama_add_tap(f.w.model, &tap));
}

/* All but the output of the last layer's attention, which is looked at anyway: that layer answers to all rows. */
static void look_at_the_rest(void) {
    for (int64_t layer = 0; layer < N_LAYER; layer++)
        for (int which = 0; which < LEMOE_MATRIX_COUNT; which++)
            if (layer != LAST || which != LEMOE_MATRIX_O) look_at(layer, (lemoe_matrix)which);
}

enum {
    FORWARD = 6 * N_LAYER,  /* q, k, v, gate, up, down; what goes into o is attention's, which reads it again */
    BACKWARD = 2 * N_LAYER, /* from d of gate and up */
    PRODUCTS = 2 * (7 * N_LAYER + 1) /* the rows of the loss are the one more */
};

static void rows_are_stored_as_they_are_multiplied(void **state) {
    open_world(state);
    look_at(LAST, LEMOE_MATRIX_O);
    outcome stored = run();
    assert_int_equal(stored.n_bf16, FORWARD + BACKWARD + 1);
    assert_int_equal(stored.n_f32, PRODUCTS - stored.n_bf16);
    look_at_the_rest();
    n_look = 0;
    outcome watched = run();
    assert_int_equal(n_look, 7 * N_LAYER);
    assert_int_equal(watched.n_bf16, 1);
    assert_int_equal(watched.n_f32, PRODUCTS - 1);
    assert_same_bits(stored, watched);
    world_close(&f);
}

/* Its products are fp32 on the CPU, and so are the rows that it shares with frozen ones; not those of others. */
static void a_matrix_that_trains_has_its_own_type(void **state) {
    lemoe_tensor w;
    open_world(state);
    bool is_host = lemoe_device_is_host(f.w.device);
    look_at(LAST, LEMOE_MATRIX_O);
    assert_ok(lemoe_llama_patch_begin(f.w.model, 1, LEMOE_MATRIX_GATE, &w));
    outcome stored = run();
    assert_int_equal(stored.n_bf16, FORWARD + BACKWARD + 1 - (is_host ? 4 : 0)); /* into and out of gate and up */
    look_at_the_rest();
    assert_same_bits(stored, run());
    assert_ok(lemoe_llama_seams_clear(f.w.model));
    world_close(&f);
}

/* The last layer, where it answers to the target rows only: they are gathered as they are stored. */
static void rows_of_targets_are_stored_so_too(void **state) {
    open_world(state);
    outcome first = run();
    assert_int_equal(first.n_bf16, FORWARD + BACKWARD + 1);
    assert_same_bits(first, run());
    world_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_stored_as_they_are_multiplied),
        cmocka_unit_test(a_matrix_that_trains_has_its_own_type),
        cmocka_unit_test(rows_of_targets_are_stored_so_too),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}

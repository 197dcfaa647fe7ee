/* A tiny world (tiny_model.h) as a cmocka fixture, and what tests of gradients on it share. */
#ifndef TESTS_UNIT_WORLD_FIXTURE_H
#define TESTS_UNIT_WORLD_FIXTURE_H

#include "tests/unit/fixture.h"
#include "tests/unit/tiny_model.h"

typedef struct world_fixture {
    tiny_world w;
    lemoe_comm *comm;
    int64_t cut;     /* where the pack begins */
    lemoe_pack pack; /* items [0, n_items) at the cut */
    float *weight;   /* [n_target] of each target's NLL */
    lemoe_tensor weight_tensor;
} world_fixture;

/* Writes the model into the test's folder and opens it in that storage type. */
static inline void world_open(void **state, const tiny_shape *shape, lemoe_dtype dtype, world_fixture *f) {
    *f = (world_fixture){.cut = -1};
    assert_ok(lemoe_comm_self(&f->comm));
    assert_ok(tiny_model_write((char *)*state, shape));
    assert_ok(tiny_world_open((char *)*state, shape, dtype, f->comm, &f->w));
}

static inline void world_close(world_fixture *f) {
    tiny_world_close(&f->w);
    lemoe_comm_close(f->comm);
    lemoe_mem_free(f->weight);
}

/* A pack of the first items at a cut, and weights between 0.5 and 1.5 for its targets. */
static inline void world_pack(world_fixture *f, int64_t cut, int64_t n_items) {
    int64_t d = lemoe_llama_config_of(f->w.model)->d_model;
    if (cut != f->cut) assert_ok(tiny_world_fill(&f->w, cut));
    f->cut = cut;
    assert_ok(lemoe_pack_build(f->w.arena, f->w.text.items, n_items, d, &f->pack));
    lemoe_mem_free(f->weight);
    assert_ok(lemoe_mem_alloc(f->pack.n_target, sizeof *f->weight, &f->weight));
    for (int64_t i = 0; i < f->pack.n_target; i++)
        f->weight[i] = 0.5f + (float)lemoe_rng_uniform(lemoe_rng_make(5, LEMOE_RNG_TEST, 0), (uint64_t)i);
    assert_ok(lemoe_arena_vector(f->w.arena, LEMOE_F32, f->pack.n_target, &f->weight_tensor));
    memcpy(f->weight_tensor.data, f->weight, (size_t)f->pack.n_target * sizeof *f->weight);
}

/* sum_i weight_i nll_i of the pack as its rows are now; the CPU's device memory is host memory. */
static inline double world_loss(world_fixture *f, bool training) {
    lemoe_llama_output out;
    size_t mark = lemoe_arena_mark(f->w.arena);
    double loss = 0;
    assert_ok(lemoe_llama_forward(f->w.model, &f->pack, f->cut, training, f->w.arena, &out));
    for (int64_t i = 0; i < f->pack.n_target; i++)
        loss += (double)f->weight[i] * (double)((const float *)out.nll.data)[i];
    lemoe_arena_reset(f->w.arena, mark);
    return loss;
}

/* Backward of that loss; d_cut may be NULL. What seams and taps collect is theirs to keep. */
static inline void world_backward(world_fixture *f, float *d_cut) {
    lemoe_llama_output out;
    lemoe_tensor gradient = {0};
    size_t mark = lemoe_arena_mark(f->w.arena);
    if (d_cut) gradient = lemoe_tensor_2d(d_cut, LEMOE_F32, f->pack.n_tok, f->pack.x.shape[1]);
    assert_ok(lemoe_llama_forward(f->w.model, &f->pack, f->cut, true, f->w.arena, &out));
    assert_ok(lemoe_llama_backward(f->w.model, &f->pack, &out, f->weight_tensor, f->w.arena, gradient));
    lemoe_arena_reset(f->w.arena, mark);
}

static inline double world_loss_training(void *context) { return world_loss(context, true); }
static inline double world_loss_inference(void *context) { return world_loss(context, false); }

/* The loss is a sum of fp32 numbers near 5, good to some 1e-6; with a step of 1/16 formula and rounding are both off by
 * some 2e-5, gradients of single elements here are near 0.1. */
static inline void assert_gradient(world_fixture *f, const char *what, float *x, const float *gradient, int64_t n,
                                   int64_t stride, bool training) {
    assert_gradient_of(what, training ? world_loss_training : world_loss_inference, f, x, gradient, n, stride,
                       1.0 / 16.0);
}

#endif

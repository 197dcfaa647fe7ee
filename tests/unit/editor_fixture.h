/* tiny_editor.h as a cmocka fixture, and what tests of editors compare. */
#ifndef TESTS_UNIT_EDITOR_FIXTURE_H
#define TESTS_UNIT_EDITOR_FIXTURE_H

#include "tests/unit/tiny_editor.h"
#include "tests/unit/world_fixture.h"

typedef struct editor_fixture {
    world_fixture world;
    tiny_editor e;
} editor_fixture;

/* The model in the test's folder with the editor open on it and a pack of all items at its cut. */
static inline void editor_open(void **state, const char *settings, editor_fixture *f) {
    *f = (editor_fixture){0};
    assert_ok(tiny_editor_configure(settings, &f->e));
    world_open(state, &tiny_llama, LEMOE_F32, &f->world);
    assert_ok(tiny_editor_open(&f->world.w, &f->e));
    world_pack(&f->world, lemoe_llama_cut(f->world.w.model), TINY_ITEMS);
}

static inline void editor_close(editor_fixture *f) {
    assert_ok(tiny_editor_close(&f->e));
    world_close(&f->world);
}

static inline lemoe_status editor_train(editor_fixture *f, int64_t batch) {
    return tiny_editor_train(&f->world.w, &f->e, batch);
}

/* Logits of all items at the editor's cut; the caller frees. */
static inline float *editor_logits(editor_fixture *f) {
    lemoe_llama_output out;
    world_fixture *w = &f->world;
    size_t mark = lemoe_arena_mark(w->w.arena);
    assert_ok(lemoe_llama_forward(w->w.model, &w->pack, w->cut, false, w->w.arena, &out));
    float *logits = malloc(lemoe_tensor_bytes(&out.logits));
    memcpy(logits, out.logits.data, lemoe_tensor_bytes(&out.logits));
    lemoe_arena_reset(w->w.arena, mark);
    return logits;
}

static inline size_t editor_logit_bytes(const editor_fixture *f) {
    return (size_t)(f->world.pack.n_target * tiny_llama.n_vocab) * sizeof(float);
}

/* The same with the editor passed over: the pristine model. */
static inline float *editor_pristine_logits(editor_fixture *f) {
    lemoe_llama_seams_set_active(f->world.w.model, false);
    float *logits = editor_logits(f);
    lemoe_llama_seams_set_active(f->world.w.model, true);
    return logits;
}

/* Logits of the targets of item i are logits[target_start[i] * n_vocab ...). */
static inline bool editor_same_item(const editor_fixture *f, const float *a, const float *b, int64_t i) {
    const int64_t *start = f->world.pack.target_start;
    int64_t n_vocab = tiny_llama.n_vocab;
    return memcmp(a + start[i] * n_vocab, b + start[i] * n_vocab,
                  (size_t)((start[i + 1] - start[i]) * n_vocab) * sizeof *a) == 0;
}

#endif

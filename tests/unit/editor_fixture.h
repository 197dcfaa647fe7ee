/* An editor open on a tiny world: configuration from text, three batches of three edits, and a log of its updates. */
#ifndef TESTS_UNIT_EDITOR_FIXTURE_H
#define TESTS_UNIT_EDITOR_FIXTURE_H

#include "runner/edit/editor.h"
#include "tests/unit/world_fixture.h"

enum { EDITOR_BATCHES = 3, EDITOR_BATCH_SIZE = 3, EDITOR_MAX_STEPS = 400 };

typedef struct editor_fixture {
    world_fixture world;
    lemoe_sweep_spec *spec;
    lemoe_config config; /* resolved; a test may change it before the editor opens */
    lemoe_arena *run_arena, *batch_arena, *step_arena;
    lemoe_editor_context context;
    const lemoe_editor_ops *ops;
    void *editor;
    lemoe_step_record steps[EDITOR_MAX_STEPS];
    int64_t n_step;
    lemoe_status step_status; /* what the log answers */
} editor_fixture;

static inline lemoe_status editor_log_step(void *context, const lemoe_step_record *record) {
    editor_fixture *f = context;
    if (f->step_status != LEMOE_OK) return lemoe_raise(f->step_status, "the log is full");
    f->steps[f->n_step++] = *record;
    return LEMOE_OK;
}

/* settings: YAML behind model and data, for example "edit: {method: lemoe}\nlemoe: {layer: 1}\n". */
static inline void editor_configure(const char *settings, editor_fixture *f) {
    static const char *const planners[] = {"file", "random", "kmeans", NULL};
    char text[2048];
    (void)snprintf(text, sizeof text, "model: {path: m}\ndata: {path: d}\n%s", settings);
    lemoe_config_args args = {.path = "test.yaml",
                              .text = text,
                              .n_bytes = (int64_t)strlen(text),
                              .methods = lemoe_editor_names(),
                              .planners = planners};
    assert_ok(lemoe_config_load(&args, &f->spec));
    f->config = f->spec->runs[0];
}

/* The model in the test's folder with the editor open on it and items filled at its cut. */
static inline void editor_open(void **state, const char *settings, editor_fixture *f) {
    *f = (editor_fixture){0};
    editor_configure(settings, f);
    world_open(state, &tiny_llama, LEMOE_F32, &f->world);
    lemoe_arena **const arenas[] = {&f->run_arena, &f->batch_arena, &f->step_arena};
    for (int i = 0; i < 3; i++) assert_ok(lemoe_arena_create(f->world.w.device, 1 << 18, arenas[i]));
    f->context = (lemoe_editor_context){.config = &f->config,
                                        .model = f->world.w.model,
                                        .run_arena = f->run_arena,
                                        .batch_arena = f->batch_arena,
                                        .step_arena = f->step_arena,
                                        .n_batch = EDITOR_BATCHES,
                                        .batch_size = EDITOR_BATCH_SIZE,
                                        .micro_batch_tokens = 1000};
    f->ops = lemoe_editor_find(f->config.edit.method);
    assert_ok(f->ops->check(&f->config, lemoe_llama_config_of(f->world.w.model)));
    assert_ok(f->ops->open(&f->context, &f->editor));
    world_pack(&f->world, lemoe_llama_cut(f->world.w.model), TINY_ITEMS);
}

static inline void editor_close(editor_fixture *f) {
    f->ops->close(f->editor);
    assert_ok(lemoe_llama_seams_clear(f->world.w.model));
    lemoe_arena_destroy(f->run_arena);
    lemoe_arena_destroy(f->batch_arena);
    lemoe_arena_destroy(f->step_arena);
    world_close(&f->world);
    lemoe_config_free(f->spec);
}

static inline lemoe_edit_batch editor_batch(const editor_fixture *f, int64_t batch) {
    return (lemoe_edit_batch){batch, f->world.w.text.items + batch * EDITOR_BATCH_SIZE, EDITOR_BATCH_SIZE};
}

static inline lemoe_status editor_train(editor_fixture *f, int64_t batch) {
    lemoe_edit_batch b = editor_batch(f, batch);
    lemoe_step_log log = {editor_log_step, f};
    lemoe_arena_reset(f->batch_arena, 0);
    return f->ops->edit_batch(f->editor, &b, &log);
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

/* An editor open on a tiny world: configuration from text, three batches of three edits, and a log of its updates. */
#ifndef TESTS_UNIT_TINY_EDITOR_H
#define TESTS_UNIT_TINY_EDITOR_H

#include "runner/edit/editor.h"
#include "tests/unit/tiny_model.h"

enum { EDITOR_BATCHES = 3, EDITOR_BATCH_SIZE = 3, EDITOR_MAX_STEPS = 400 };

typedef struct tiny_editor {
    lemoe_sweep_spec *spec;
    lemoe_config config; /* resolved; a test may change it */
    lemoe_arena *run_arena, *batch_arena, *step_arena;
    lemoe_editor_context context;
    const lemoe_editor_ops *ops;
    void *editor;
    lemoe_step_record steps[EDITOR_MAX_STEPS];
    int64_t n_step;
    lemoe_status step_status; /* what the log answers */
    /* set before it is opened; 0: as most tests want it */
    bool launches_plainly;
    int64_t micro_batch_tokens;
    size_t step_block_bytes; /* of the step arena */
} tiny_editor;

static inline lemoe_status tiny_editor_log(void *context, const lemoe_step_record *record) {
    tiny_editor *e = context;
    LEMOE_CHECK(e->step_status == LEMOE_OK, e->step_status, "the log is full");
    e->steps[e->n_step++] = *record;
    return LEMOE_OK;
}

/* Local. settings: YAML behind model and data, for example "edit: {method: lemoe}\nlemoe: {layer: 1}\n". */
static inline lemoe_status tiny_editor_configure(const char *settings, tiny_editor *e) {
    static const char *const planners[] = {"file", "random", "kmeans", NULL};
    char text[2048];
    (void)snprintf(text, sizeof text, "model: {path: m}\ndata: {path: d}\n%s", settings);
    lemoe_config_args args = {.path = "test.yaml",
                              .text = text,
                              .n_bytes = (int64_t)strlen(text),
                              .methods = lemoe_editor_names(),
                              .planners = planners};
    LEMOE_TRY(lemoe_config_load(&args, &e->spec));
    e->config = *e->spec->first;
    e->ops = lemoe_editor_find(e->config.edit.method);
    return LEMOE_OK;
}

/* Collective on the world's comm. Opens the configured editor; items are filled at its cut. *e stays where it is. */
static inline lemoe_status tiny_editor_open(tiny_world *w, tiny_editor *e) {
    lemoe_arena **const arenas[] = {&e->run_arena, &e->batch_arena, &e->step_arena};
    for (int i = 0; i < 3; i++)
        LEMOE_TRY(
            lemoe_arena_create(w->device, i == 2 && e->step_block_bytes ? e->step_block_bytes : 1 << 18, arenas[i]));
    e->context = (lemoe_editor_context){.config = &e->config,
                                        .model = w->model,
                                        .run_arena = e->run_arena,
                                        .batch_arena = e->batch_arena,
                                        .step_arena = e->step_arena,
                                        .n_batch = EDITOR_BATCHES,
                                        .batch_size = EDITOR_BATCH_SIZE,
                                        .micro_batch_tokens = e->micro_batch_tokens ? e->micro_batch_tokens : 1000,
                                        .launches_plainly = e->launches_plainly};
    LEMOE_TRY(e->ops->check(&e->config, lemoe_llama_config_of(w->model)));
    LEMOE_TRY(e->ops->open(&e->context, &e->editor));
    return tiny_world_fill(w, lemoe_llama_cut(w->model));
}

/* Local. The world closes after it. */
static inline lemoe_status tiny_editor_close(tiny_editor *e) {
    e->ops->close(e->editor);
    lemoe_status status = lemoe_llama_seams_clear(e->context.model);
    lemoe_arena_destroy(e->run_arena);
    lemoe_arena_destroy(e->batch_arena);
    lemoe_arena_destroy(e->step_arena);
    lemoe_config_free(e->spec);
    return status;
}

static inline lemoe_edit_batch tiny_editor_batch(const tiny_world *w, int64_t batch) {
    return (lemoe_edit_batch){batch, w->text.items + batch * EDITOR_BATCH_SIZE, EDITOR_BATCH_SIZE, NULL};
}

/* Collective. One batch, its updates logged. */
static inline lemoe_status tiny_editor_train(tiny_world *w, tiny_editor *e, int64_t batch) {
    lemoe_edit_batch b = tiny_editor_batch(w, batch);
    lemoe_step_log log = {tiny_editor_log, e, NULL};
    lemoe_arena_reset(e->batch_arena, 0);
    return e->ops->edit_batch(e->editor, &b, &log);
}

#endif

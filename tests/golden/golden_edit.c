#include "tests/golden/golden_edit.h"

#include "runner/edit/lemoe_editor.h"
#include "runner/edit/moe_editor.h"

enum { NAME_BYTES = 64, MICRO_BATCH_TOKENS = 32 }; /* small: a batch takes several micro-batches */

/* ---- initial weights ---- */

/* The linker sends the editor's calls here (--wrap); __real_ is the function itself. */
lemoe_status __real_lemoe_expert_create(lemoe_llama *model, int64_t layer, const lemoe_expert_config *config,
                                        uint64_t seed, int64_t index, lemoe_arena *arena, lemoe_expert *out);
lemoe_status __wrap_lemoe_expert_create(lemoe_llama *model, int64_t layer, const lemoe_expert_config *config,
                                        uint64_t seed, int64_t index, lemoe_arena *arena, lemoe_expert *out);
lemoe_status __real_lemoe_key_router_add_key(lemoe_key_router *router, uint64_t seed);
lemoe_status __wrap_lemoe_key_router_add_key(lemoe_key_router *router, uint64_t seed);

lemoe_status __wrap_lemoe_expert_create(lemoe_llama *model, int64_t layer, const lemoe_expert_config *config,
                                        uint64_t seed, int64_t index, lemoe_arena *arena, lemoe_expert *out) {
    const golden_edit *edit = mock_ptr_type(golden_edit *);
    char name[NAME_BYTES];
    LEMOE_TRY(__real_lemoe_expert_create(model, layer, config, seed, index, arena, out));
    for (int i = 0; i < out->n_matrix; i++) {
        const char *matrix = lemoe_expert_matrix_name(out, i);
        if (edit->zero_down && strcmp(matrix, "down") == 0) continue;
        (void)snprintf(name, sizeof name, "initial.%s.%s", edit->expert[index], matrix);
        LEMOE_TRY(golden_upload(edit->g, name, out->w[i]));
    }
    return LEMOE_OK;
}

lemoe_status __wrap_lemoe_key_router_add_key(lemoe_key_router *router, uint64_t seed) {
    const golden_edit *edit = mock_ptr_type(golden_edit *);
    LEMOE_TRY(__real_lemoe_key_router_add_key(router, seed));
    char name[NAME_BYTES];
    (void)snprintf(name, sizeof name, "initial.key%lld", (long long)router->n_key - 1);
    return golden_upload(edit->g, name, lemoe_tensor_rows(router->keys, router->n_key - 1, 1));
}

static void start_projection(golden_edit *edit) {
    const lemoe_lemoe *lemoe = edit->editor;
    assert_ok(golden_upload(edit->g, "initial.w_down", golden_keys(lemoe)->w_down));
    assert_ok(golden_upload(edit->g, "initial.w_up", golden_keys(lemoe)->w_up));
}

static void start_token_router(golden_edit *edit) {
    const lemoe_moe *moe = edit->editor;
    assert_ok(golden_upload(edit->g, "initial.token_router", moe->router.w));
}

/* ---- configuration ---- */

static lemoe_training_config training_of(const golden *g, const char *section) {
    return (lemoe_training_config){.lr = golden_setting(g, section, "lr"),
                                   .max_steps = (int64_t)golden_setting(g, section, "steps"),
                                   .clip = golden_setting(g, section, "clip"),
                                   .weight_decay = golden_setting(g, section, "weight_decay")};
}

static lemoe_expert_config expert_of(const golden *g) {
    return (lemoe_expert_config){.kind = LEMOE_EXPERT_FFN,
                                 .width = (int64_t)golden_setting(g, "adaptor", "width"),
                                 .rank = (int64_t)golden_setting(g, "adaptor", "rank"),
                                 .init = LEMOE_INIT_ZERO_DOWN};
}

static void begin(golden *g, const char *method, const char *section, int64_t n_batch, golden_edit *edit) {
    *edit = (golden_edit){.g = g, .section = section, .ops = lemoe_editor_find(method)};
    assert_non_null(edit->ops);
    edit->context = (lemoe_editor_context){.config = &edit->config,
                                           .model = g->model,
                                           .run_arena = g->run_arena,
                                           .batch_arena = g->batch_arena,
                                           .step_arena = g->step_arena,
                                           .n_batch = n_batch,
                                           .batch_size = g->batch_start[1],
                                           .micro_batch_tokens = MICRO_BATCH_TOKENS};
}

static void draw_from_fixture(golden_edit *edit) {
    edit->expert[0] = "expert0";
    edit->expert[1] = "expert1";
    will_return_always(__wrap_lemoe_expert_create, edit);
}

void golden_edit_lemoe(golden *g, const char *section, golden_edit *edit) {
    begin(g, "lemoe", section, GOLDEN_BATCHES, edit);
    draw_from_fixture(edit);
    will_return_always(__wrap_lemoe_key_router_add_key, edit);
    edit->on_open = start_projection;
    edit->config.lemoe.training = training_of(g, section);
    edit->config.lemoe.layer = (int64_t)golden_setting(g, "adaptor", "layer");
    edit->config.lemoe.lambda = golden_setting(g, "adaptor", "lambda");
    edit->config.lemoe.key_dim = (int64_t)golden_setting(g, "adaptor", "key_dim");
    edit->config.lemoe.router = LEMOE_ROUTER_FORCED;
    edit->config.lemoe.gate = LEMOE_GATE_RAW;
    edit->config.lemoe.features = LEMOE_FEATURES_EMBEDDING_MEAN;
    edit->config.lemoe.granularity = LEMOE_GRANULARITY_INSTANCE;
    edit->config.lemoe.null_route = LEMOE_NULL_NONE;
    edit->config.lemoe.top_k = 1;
    edit->config.lemoe.expert = expert_of(g);
}

void golden_edit_moe(golden *g, golden_edit *edit) {
    begin(g, "moe", "moe", 1, edit);
    draw_from_fixture(edit);
    edit->on_open = start_token_router;
    edit->config.moe.training = training_of(g, edit->section);
    edit->config.moe.layer = (int64_t)golden_setting(g, "adaptor", "layer");
    edit->config.moe.lambda = golden_setting(g, "adaptor", "lambda");
    edit->config.moe.balance = golden_setting(g, edit->section, "balance");
    edit->config.moe.top_k = (int64_t)golden_setting(g, edit->section, "top_k");
    edit->config.moe.experts = GOLDEN_BATCHES;
    edit->config.moe.expert = expert_of(g);
}

void golden_edit_ft_m(golden *g, golden_edit *edit) {
    begin(g, "ft_m", "ft_m", 1, edit);
    edit->config.ft_m.training = training_of(g, edit->section);
    edit->config.ft_m.layer = (int64_t)golden_setting(g, "adaptor", "layer");
}

/* ---- running ---- */

static lemoe_status note_step(void *context, const lemoe_step_record *record) {
    golden_edit *edit = context;
    assert_true(edit->n_step < GOLDEN_MAX_STEP);
    edit->loss[edit->n_step] = (float)record->loss;
    edit->norm[edit->n_step++] = (float)record->grad_norm;
    if (edit->on_step) edit->on_step(edit);
    return LEMOE_OK;
}

static lemoe_status note_batch(void *context, int64_t batch) {
    golden_edit *edit = context;
    if (edit->on_batch) edit->on_batch(edit, batch);
    return LEMOE_OK;
}

void golden_edit_run(golden_edit *edit) {
    golden *g = edit->g;
    assert_ok(edit->ops->check(&edit->config, lemoe_llama_config_of(g->model)));
    assert_ok(edit->ops->open(&edit->context, &edit->editor));
    if (edit->on_open) edit->on_open(edit);
    golden_fill(g, lemoe_llama_cut(g->model));
    lemoe_step_log log = {note_step, edit, NULL};
    lemoe_edit_loop_args args = {.ops = edit->ops,
                                 .editor = edit->editor,
                                 .context = &edit->context,
                                 .items = g->items,
                                 .batch_start = g->batch_start,
                                 .log = &log,
                                 .after_batch = note_batch,
                                 .hook = edit};
    assert_ok(lemoe_edit_loop(&args));
}

void golden_edit_close(golden_edit *edit) {
    edit->ops->close(edit->editor);
    assert_ok(lemoe_llama_seams_clear(edit->g->model));
}

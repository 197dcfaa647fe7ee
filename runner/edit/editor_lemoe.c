/*
 * LEMoE (Wang & Li 2024; docs/method.md 1 and 2): for each batch insert an expert beside one FFN, freeze the older
 * ones, train the new one on the targets' NLL, and route by KV anchors. Which router is a matter of configuration
 * (presets paper and stable).
 */
#include "kernels/base/mem.h"
#include "runner/adaptor/saved.h"
#include "runner/edit/common/train.h"
#include "runner/edit/editors.h"
#include "runner/edit/lemoe_editor.h"

#include <math.h>
#include <stdio.h>

static lemoe_status lemoe_check(const lemoe_config *config, const lemoe_llama_config *shape) {
    LEMOE_TRY(lemoe_editor_check_layer("lemoe.layer", config->lemoe.layer, shape));
    LEMOE_CHECK(config->lemoe.key_dim > 0 || shape->d_model >= 4, LEMOE_ERR_CONFIG,
                "lemoe.key_dim: auto needs a wider model");
    bool hidden = config->lemoe.features == LEMOE_FEATURES_LAST_HIDDEN,
         cosine = config->lemoe.null_route == LEMOE_NULL_COSINE;
    LEMOE_CHECK(hidden || !cosine || config->lemoe.null_rule != LEMOE_NULL_RULE_TWO_SIDED, LEMOE_ERR_CONFIG,
                "lemoe.null_rule: two_sided looks at prompts behind other text, which the mean embedding would mix "
                "with that text; "
                "use mid or quantile, or features: last_hidden");
    return LEMOE_OK;
}

static lemoe_status open_router(lemoe_lemoe *e) {
    const lemoe_config *c = e->context.config;
    lemoe_router_context context = {.config = c,
                                    .device = lemoe_llama_device(e->context.model),
                                    .run_arena = e->context.run_arena,
                                    .batch_arena = e->context.batch_arena,
                                    .step_arena = e->context.step_arena,
                                    .d = lemoe_llama_config_of(e->context.model)->d_model,
                                    .max_expert = e->context.n_batch};
    e->router_ops = lemoe_router_find(c->lemoe.router);
    e->has_anchors = e->router_ops->needs_anchors || c->lemoe.null_route == LEMOE_NULL_COSINE;
    if (e->has_anchors) {
        int64_t capacity = e->context.n_batch * e->context.batch_size;
        LEMOE_TRY(lemoe_anchors_create(e->context.run_arena, capacity, context.d, &e->anchors));
        context.anchors = &e->anchors;
    }
    return e->router_ops->open(&context, &e->router);
}

static void lemoe_close(void *editor) {
    lemoe_lemoe *e = editor;
    if (e->router) e->router_ops->close(e->router);
    lemoe_anchors_destroy(&e->anchors);
    lemoe_mem_free(e->experts);
    lemoe_mem_free(e);
}

static lemoe_status lemoe_open(const lemoe_editor_context *context, void **editor) {
    lemoe_lemoe *e = NULL;
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof *e, &e));
    *editor = e;
    e->context = *context;
    e->layer = context->config->lemoe.layer;
    LEMOE_TRY(lemoe_mem_alloc(context->n_batch, sizeof *e->experts, &e->experts));
    LEMOE_TRY(open_router(e));
    lemoe_bypass bypass = {.layer = e->layer,
                           .forward = lemoe_lemoe_forward,
                           .backward = lemoe_lemoe_backward,
                           .context = e,
                           .reads_hidden = context->config->lemoe.expert.kind == LEMOE_EXPERT_LORA,
                           .hold = lemoe_lemoe_hold};
    return lemoe_llama_add_bypass(context->model, &bypass);
}

/* ---- a batch ---- */

static lemoe_status insert_expert(lemoe_lemoe *e) {
    const lemoe_config *c = e->context.config;
    LEMOE_CHECK(e->n_expert < e->context.n_batch, LEMOE_ERR_STATE, "more batches than experts");
    LEMOE_TRY(lemoe_expert_create(e->context.model, e->layer, &c->lemoe.expert, c->seed, e->n_expert,
                                  e->context.run_arena, &e->experts[e->n_expert]));
    e->n_expert++;
    return e->router_ops->add_expert(e->router);
}

/* What a router learns from or stores: units of the prompts, targets cut off. */
static lemoe_status make_prompt_units(const lemoe_lemoe *e, const lemoe_item *items, int64_t n, lemoe_item **prompts,
                                      lemoe_units *units) {
    lemoe_unit_args args = lemoe_lemoe_unit_args(e);
    LEMOE_TRY(lemoe_mem_alloc(n, sizeof **prompts, prompts));
    for (int64_t i = 0; i < n; i++) {
        (*prompts)[i] = items[i];
        (*prompts)[i].n_tok = items[i].n_prompt;
    }
    return lemoe_units_make(&args, *prompts, n, units);
}

static lemoe_status with_prompt_units(lemoe_lemoe *e, const lemoe_item *items, int64_t n,
                                      lemoe_status (*use)(void *router, const lemoe_units *units)) {
    lemoe_item *prompts = NULL;
    lemoe_units units = {0};
    if (!use) return LEMOE_OK;
    lemoe_status status = make_prompt_units(e, items, n, &prompts, &units);
    if (status == LEMOE_OK) status = use(e->router, &units);
    lemoe_units_free(&units);
    lemoe_mem_free(prompts);
    return status;
}

static lemoe_status begin_minibatch(void *editor, const lemoe_item *items, int64_t n_items) {
    lemoe_lemoe *e = editor;
    return with_prompt_units(e, items, n_items, e->router_ops->begin_minibatch);
}

static lemoe_status train_expert(lemoe_lemoe *e, const lemoe_edit_batch *batch, const lemoe_step_log *log) {
    lemoe_param params[LEMOE_EXPERT_MAX_MATRIX + LEMOE_ROUTER_MAX_PARAM];
    int64_t n_params = 0;
    lemoe_expert *newest = &e->experts[e->n_expert - 1];
    LEMOE_TRY(lemoe_expert_train(newest, e->context.batch_arena, params, &n_params));
    if (e->router_ops->train) LEMOE_TRY(e->router_ops->train(e->router, params, &n_params));
    lemoe_train_args args = {.context = &e->context,
                             .training = &e->context.config->lemoe.training,
                             .batch = batch,
                             .params = params,
                             .n_params = n_params,
                             .begin_minibatch = e->context.config->lemoe.router_ce > 0 ? begin_minibatch : NULL,
                             .editor = e,
                             .log = log};
    LEMOE_TRY(lemoe_train_batch(&args));
    lemoe_expert_freeze(newest);
    return LEMOE_OK;
}

static lemoe_status store_anchors(lemoe_lemoe *e, const lemoe_edit_batch *batch) {
    if (!e->has_anchors) return LEMOE_OK;
    int64_t first = e->anchors.n;
    lemoe_unit_args args = lemoe_lemoe_unit_args(e);
    lemoe_units units = {0};
    lemoe_status status = lemoe_units_make(&args, batch->items, batch->n_items, &units);
    if (status == LEMOE_OK)
        status = lemoe_anchors_add(&e->anchors, units.e, units.n, e->n_expert - 1, e->context.step_arena);
    lemoe_units_free(&units);
    LEMOE_TRY(status);
    bool cosine = e->context.config->lemoe.null_route == LEMOE_NULL_COSINE;
    return cosine ? lemoe_lemoe_set_threshold(e, batch, first) : LEMOE_OK;
}

static lemoe_status edit_batch(void *editor, const lemoe_edit_batch *batch, const lemoe_step_log *log) {
    lemoe_lemoe *e = editor;
    if (!batch->resume) LEMOE_TRY(insert_expert(e));
    LEMOE_TRY(train_expert(e, batch, log));
    LEMOE_TRY(with_prompt_units(e, batch->items, batch->n_items, e->router_ops->end_batch));
    return lemoe_comm_keep_step(lemoe_llama_comm(e->context.model), store_anchors(e, batch)); /* computes prefixes */
}

/* ---- state ---- */

typedef struct expert_part {
    lemoe_expert *expert;
    lemoe_device *device;
} expert_part;

static lemoe_status visit_expert(void *object, lemoe_state *state) {
    const expert_part *part = object;
    return lemoe_expert_visit(part->expert, part->device, state);
}

static lemoe_status visit_experts(lemoe_lemoe *e, lemoe_state *state) {
    int64_t n = e->n_expert;
    LEMOE_TRY(lemoe_state_count(state, "lemoe.experts", &n, e->context.n_batch));
    while (e->n_expert < n) LEMOE_TRY(insert_expert(e)); /* a fresh editor has none: their weights follow */
    for (int64_t i = 0; i < n; i++) {
        expert_part part = {&e->experts[i], lemoe_llama_device(e->context.model)};
        char name[32];
        (void)snprintf(name, sizeof name, "expert.%lld", (long long)i);
        LEMOE_TRY(lemoe_state_part(state, name, !lemoe_expert_is_training(part.expert), visit_expert, &part));
    }
    return LEMOE_OK;
}

static lemoe_status lemoe_visit(void *editor, lemoe_state *state) {
    lemoe_lemoe *e = editor;
    LEMOE_TRY(visit_experts(e, state));
    if (e->has_anchors) LEMOE_TRY(lemoe_anchors_visit(&e->anchors, state));
    return e->router_ops->visit ? e->router_ops->visit(e->router, state) : LEMOE_OK;
}

/* ---- what is known of it afterwards ---- */

static double lemoe_threshold(const void *editor) {
    const lemoe_lemoe *e = editor;
    return e->context.config->lemoe.null_route == LEMOE_NULL_COSINE ? e->anchors.threshold : NAN;
}

static int64_t lemoe_n_expert(const void *editor) { return ((const lemoe_lemoe *)editor)->context.n_batch; }

static int64_t lemoe_added_bytes(const void *editor) {
    const lemoe_lemoe *e = editor;
    int64_t d = lemoe_llama_config_of(e->context.model)->d_model, n = 0;
    for (int64_t i = 0; i < e->n_expert; i++) n += lemoe_expert_n_weight(&e->experts[i], d);
    if (e->router_ops->n_weight) n += e->router_ops->n_weight(e->router);
    n += e->has_anchors ? e->anchors.n * d : 0;
    return n * (int64_t)sizeof(float);
}

static lemoe_status save_anchors(const lemoe_lemoe *e, lemoe_saved *saved) {
    if (!e->has_anchors || e->anchors.n == 0) return LEMOE_OK;
    for (int64_t i = 0; i < e->n_expert; i++) { /* anchors of an expert lie together, in the order of its edits */
        char name[64];
        int64_t first = 0, n = 0;
        while (e->anchors.expert[first] != i) first++;
        while (first + n < e->anchors.n && e->anchors.expert[first + n] == i) n++;
        (void)snprintf(name, sizeof name, "anchors.%lld.features", (long long)i);
        LEMOE_TRY(lemoe_saved_add(saved, e->context.model, name, lemoe_tensor_rows(e->anchors.rows, first, n),
                                  LEMOE_SPLIT_NONE, 0));
    }
    return LEMOE_OK;
}

/* What inference has to know beside the tensors: these keys' values, named as in the configuration without its section.
 */
static const char *const saved_keys[] = {"layer",       "lambda",    "router", "gate",       "features",
                                         "granularity", "normalise", "null",   "expert.kind"};
enum { N_SAVED_KEY = sizeof saved_keys / sizeof saved_keys[0], N_METADATA = N_SAVED_KEY + 3 };

/* metadata[N_METADATA] pairs; values[N_SAVED_KEY] are the caller's to free, also after an error. */
static lemoe_status describe(const lemoe_lemoe *e, const char *threshold, const char **metadata, char **values) {
    const char *const others[] = {
        "method", "lemoe", "null_threshold", threshold, "model_fingerprint", lemoe_llama_fingerprint(e->context.model)};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) *metadata++ = others[i];
    for (int i = 0; i < N_SAVED_KEY; i++) {
        char key[32];
        (void)snprintf(key, sizeof key, "lemoe.%s", saved_keys[i]);
        LEMOE_TRY(lemoe_config_value(e->context.config, key, &values[i]));
        *metadata++ = saved_keys[i];
        *metadata++ = values[i];
    }
    return LEMOE_OK;
}

static lemoe_status lemoe_save(void *editor, const char *path, lemoe_dtype dtype) {
    lemoe_lemoe *e = editor;
    lemoe_llama *model = e->context.model;
    lemoe_saved saved = {.dtype = dtype};
    char threshold[40], *values[N_SAVED_KEY] = {NULL};
    const char *metadata[2 * N_METADATA];
    (void)snprintf(threshold, sizeof threshold, "%.17g", lemoe_threshold(e));
    lemoe_status status = lemoe_saved_add_experts(&saved, model, e->experts, e->n_expert);
    if (status == LEMOE_OK && e->router_ops->save) status = e->router_ops->save(e->router, &saved, model);
    if (status == LEMOE_OK) status = save_anchors(e, &saved);
    if (status == LEMOE_OK) status = describe(e, threshold, metadata, values);
    if (status == LEMOE_OK && lemoe_comm_rank(lemoe_llama_comm(model)) == 0)
        status = lemoe_safetensors_write(path, saved.items, saved.n_item, metadata, N_METADATA);
    for (int i = 0; i < N_SAVED_KEY; i++) lemoe_mem_free(values[i]);
    lemoe_saved_free(&saved);
    return status;
}

const lemoe_editor_ops lemoe_editor_lemoe_ops = {
    .name = "lemoe",
    .check = lemoe_check,
    .open = lemoe_open,
    .close = lemoe_close,
    .edit_batch = edit_batch,
    .route = lemoe_lemoe_route,
    .route_trained = lemoe_lemoe_route_trained,
    .routes_tokens = lemoe_lemoe_routes_tokens,
    .route_tokens = lemoe_lemoe_route_tokens,
    .threshold = lemoe_threshold,
    .n_expert = lemoe_n_expert,
    .visit = lemoe_visit,
    .save = lemoe_save,
    .added_bytes = lemoe_added_bytes,
};

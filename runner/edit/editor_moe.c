/*
 * The conventional MoE adaptor (docs/method.md 5.1): a fixed number of experts beside one FFN, all of them and the
 * token-level router trained by every batch. Nothing is frozen between batches; that is what LEMoE is compared with.
 */
#include "kernels/base/mem.h"
#include "runner/adaptor/saved.h"
#include "runner/edit/common/train.h"
#include "runner/edit/editors.h"
#include "runner/edit/moe_editor.h"

#include <stdio.h>

static lemoe_status moe_check(const lemoe_config *config, const lemoe_llama_config *shape) {
    LEMOE_CHECK(config->moe.top_k <= config->moe.experts, LEMOE_ERR_CONFIG,
                "moe.top_k: %lld, but there are %lld experts (moe.experts)", (long long)config->moe.top_k,
                (long long)config->moe.experts);
    return lemoe_editor_check_layer("moe.layer", config->moe.layer, shape);
}

static void moe_close(void *editor) {
    lemoe_moe *e = editor;
    lemoe_mem_free(e->experts);
    lemoe_mem_free(e->share);
    lemoe_mem_free(e);
}

static lemoe_status moe_open(const lemoe_editor_context *context, void **editor) {
    const lemoe_config *c = context->config;
    lemoe_moe *e = NULL;
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof *e, &e));
    *editor = e;
    e->context = *context;
    e->layer = c->moe.layer;
    e->n_expert = c->moe.experts;
    e->top_k = c->moe.top_k;
    LEMOE_TRY(lemoe_mem_alloc(e->n_expert, sizeof *e->experts, &e->experts));
    LEMOE_TRY(lemoe_mem_alloc(e->n_expert, sizeof *e->share, &e->share));
    for (int64_t i = 0; i < e->n_expert; i++)
        LEMOE_TRY(lemoe_expert_create(context->model, e->layer, &c->moe.expert, c->seed, i, context->run_arena,
                                      &e->experts[i]));
    lemoe_token_router_args router = {.arena = context->run_arena,
                                      .d = lemoe_llama_config_of(context->model)->d_model,
                                      .n_expert = e->n_expert,
                                      .top_k = e->top_k,
                                      .has_anchor = c->moe.router == LEMOE_MOE_ROUTER_ANCHOR,
                                      .seed = c->seed};
    LEMOE_TRY(lemoe_token_router_create(&router, &e->router));
    lemoe_bypass bypass = {.layer = e->layer,
                           .forward = lemoe_moe_forward,
                           .backward = lemoe_moe_backward,
                           .context = e,
                           .reads_hidden = context->config->moe.expert.kind == LEMOE_EXPERT_LORA};
    return lemoe_llama_add_bypass(context->model, &bypass);
}

static lemoe_status list_params(lemoe_moe *e, lemoe_param *params, int64_t *n_params) {
    for (int64_t i = 0; i < e->n_expert; i++)
        LEMOE_TRY(lemoe_expert_train(&e->experts[i], e->context.batch_arena, params, n_params));
    return lemoe_token_router_train(&e->router, e->context.batch_arena, params, n_params);
}

static lemoe_status moe_edit_batch(void *editor, const lemoe_edit_batch *batch, const lemoe_step_log *log) {
    lemoe_moe *e = editor;
    lemoe_status status = LEMOE_OK;
    lemoe_param *params = NULL;
    int64_t n_params = 0;
    bool balanced = e->context.config->moe.balance > 0;
    e->is_attached = true;
    LEMOE_TRY(
        lemoe_mem_alloc(e->n_expert * LEMOE_EXPERT_MAX_MATRIX + LEMOE_TOKEN_ROUTER_MAX_PARAM, sizeof *params, &params));
    LEMOE_TRY_GOTO(list_params(e, params, &n_params));
    lemoe_train_args args = {.context = &e->context,
                             .training = &e->context.config->moe.training,
                             .batch = batch,
                             .params = params,
                             .n_params = n_params,
                             .begin_minibatch = balanced ? lemoe_moe_count_shares : NULL,
                             .editor = e,
                             .log = log};
    LEMOE_TRY_GOTO(lemoe_train_batch(&args));
out:
    for (int64_t i = 0; i < e->n_expert; i++) lemoe_expert_freeze(&e->experts[i]); /* until the next batch */
    lemoe_mem_free(params);
    return status;
}

/* Every expert trains at every batch: none is ever frozen. */
static lemoe_status moe_visit(void *editor, lemoe_state *state) {
    lemoe_moe *e = editor;
    LEMOE_TRY(lemoe_state_bool(state, "moe.is_attached", &e->is_attached));
    for (int64_t i = 0; i < e->n_expert; i++)
        LEMOE_TRY(lemoe_expert_visit(&e->experts[i], lemoe_llama_device(e->context.model), state));
    return lemoe_token_router_visit(&e->router, state);
}

static int64_t moe_n_expert(const void *editor) { return ((const lemoe_moe *)editor)->n_expert; }

static int64_t moe_added_bytes(const void *editor) {
    const lemoe_moe *e = editor;
    int64_t d = lemoe_llama_config_of(e->context.model)->d_model,
            n = (e->router.w_anchor.data ? 2 : 1) * e->n_expert * d;
    for (int64_t i = 0; i < e->n_expert; i++) n += lemoe_expert_n_weight(&e->experts[i], d);
    return n * (int64_t)sizeof(float);
}

static lemoe_status moe_save(void *editor, const char *path, lemoe_dtype dtype) {
    lemoe_moe *e = editor;
    lemoe_llama *model = e->context.model;
    lemoe_saved saved = {.dtype = dtype};
    char layer[24], top_k[24];
    (void)snprintf(layer, sizeof layer, "%lld", (long long)e->layer);
    (void)snprintf(top_k, sizeof top_k, "%lld", (long long)e->top_k);
    const char *metadata[] = {
        "method", "moe", "layer", layer, "top_k", top_k, "model_fingerprint", lemoe_llama_fingerprint(model)};
    lemoe_status status = lemoe_saved_add_experts(&saved, model, e->experts, e->n_expert);
    if (status == LEMOE_OK) status = lemoe_saved_add(&saved, model, "router.weight", e->router.w, LEMOE_SPLIT_NONE, 0);
    if (status == LEMOE_OK && e->router.w_anchor.data)
        status = lemoe_saved_add(&saved, model, "router.anchor.weight", e->router.w_anchor, LEMOE_SPLIT_NONE, 0);
    if (status == LEMOE_OK && lemoe_comm_rank(lemoe_llama_comm(model)) == 0)
        status = lemoe_safetensors_write(path, saved.items, saved.n_item, metadata, 4);
    lemoe_saved_free(&saved);
    return status;
}

const lemoe_editor_ops lemoe_editor_moe_ops = {
    .name = "moe",
    .check = moe_check,
    .open = moe_open,
    .close = moe_close,
    .edit_batch = moe_edit_batch,
    .route = lemoe_moe_route,
    .route_trained = lemoe_moe_route_trained,
    .routes_tokens = lemoe_moe_routes_tokens,
    .route_tokens = lemoe_moe_route_tokens,
    .n_expert = moe_n_expert,
    .visit = moe_visit,
    .save = moe_save,
    .added_bytes = moe_added_bytes,
};

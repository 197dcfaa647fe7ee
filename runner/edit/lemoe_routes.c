/* Where LEMoE sends a sequence, by router mode (LEMOE.md 2.5), and to nowhere where a null route says so. */
#include "kernels/base/mem.h"
#include "runner/edit/lemoe_editor.h"

#include <math.h>

lemoe_feature_args lemoe_lemoe_feature_args(const lemoe_lemoe *e) {
    lemoe_feature_args args = {.model = e->context.model,
                               .kind = e->context.config->lemoe.features,
                               .granularity = e->context.config->lemoe.granularity,
                               .layer = e->layer,
                               .arena = e->context.step_arena};
    return args;
}

/* ---- forced: the printed rule at inference, top-1 over all keys ---- */

static lemoe_route top_key(const float *z, const float *p, int64_t n, bool raw) {
    int64_t best = 0, second = -1;
    for (int64_t j = 1; j < n; j++)
        if (z[j] > z[best]) best = j;
    for (int64_t j = 0; j < n; j++)
        if (j != best && (second < 0 || z[j] > z[second])) second = j;
    lemoe_route route = {best, raw ? p[best] : 1.0, second < 0 ? NAN : (double)z[best] - (double)z[second], 1.0};
    return route;
}

static lemoe_status route_by_key(lemoe_lemoe *e, const float *features, int64_t n, lemoe_route *out) {
    lemoe_status status = LEMOE_OK;
    lemoe_arena *arena = e->context.step_arena;
    size_t mark = lemoe_arena_mark(arena);
    int64_t n_key = e->router.n_key;
    lemoe_key_scores scores;
    float *z = NULL, *p = NULL;
    LEMOE_TRY_GOTO(lemoe_mem_alloc(n * n_key, sizeof *z, &z));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(n * n_key, sizeof *p, &p));
    LEMOE_TRY_GOTO(lemoe_key_router_forward(&e->router, features, n, arena, &scores));
    LEMOE_TRY_GOTO(lemoe_device_download(e->router.device, z, scores.z.data, lemoe_tensor_bytes(&scores.z)));
    LEMOE_TRY_GOTO(lemoe_device_download(e->router.device, p, scores.p.data, lemoe_tensor_bytes(&scores.p)));
    for (int64_t i = 0; i < n; i++) out[i] = top_key(z + i * n_key, p + i * n_key, n_key, lemoe_lemoe_gate_is_raw(e));
out:
    lemoe_arena_reset(arena, mark);
    lemoe_mem_free(z);
    lemoe_mem_free(p);
    return status;
}

/* ---- nearest, and the null route of any router ---- */

static void apply_null(double threshold, double cosine, lemoe_route *route) {
    double to_threshold = fabs(cosine - threshold);
    if (isnan(route->margin) || to_threshold < route->margin) route->margin = to_threshold;
    if (cosine >= threshold) return;
    route->expert = -1;
    route->gate = 0.0;
}

static lemoe_status route_by_anchor(lemoe_lemoe *e, float *features, int64_t n, lemoe_route *out) {
    bool nearest = e->context.config->lemoe.router == LEMOE_ROUTER_NEAREST;
    bool null = e->context.config->lemoe.null_route == LEMOE_NULL_COSINE && !isnan(e->anchors.threshold);
    lemoe_nearest *found = NULL;
    LEMOE_TRY(lemoe_mem_alloc(n, sizeof *found, &found));
    lemoe_features_normalise(features, n, e->anchors.d);
    lemoe_status status = lemoe_anchors_nearest(&e->anchors, features, n, e->context.step_arena, found);
    for (int64_t i = 0; i < n && status == LEMOE_OK; i++) {
        double margin = found[i].other_cosine > -1.0 ? found[i].cosine - found[i].other_cosine : NAN;
        if (nearest) out[i] = (lemoe_route){found[i].expert, found[i].expert < 0 ? 0.0 : 1.0, margin, 1.0};
        if (null) apply_null(e->anchors.threshold, found[i].cosine, &out[i]);
    }
    lemoe_mem_free(found);
    return status;
}

/* ---- oracle: what a perfect router would do ---- */

static void route_by_truth(const lemoe_lemoe *e, const lemoe_item *items, int64_t n, lemoe_route *out) {
    enum { ROLE_PARAPHRASE = 1 }; /* the edit and its paraphrase belong to its expert; locality prompts to none */
    for (int64_t i = 0; i < n; i++) {
        bool known = items[i].role <= ROLE_PARAPHRASE && items[i].edit < e->n_known_edit;
        int64_t expert = known ? e->expert_of_edit[items[i].edit] : -1;
        out[i] = (lemoe_route){expert, expert < 0 ? 0.0 : 1.0, NAN, 1.0};
    }
}

lemoe_status lemoe_lemoe_route(void *editor, const lemoe_item *items, int64_t n_items, lemoe_route *out) {
    lemoe_lemoe *e = editor;
    lemoe_router_mode mode = e->context.config->lemoe.router;
    lemoe_feature_args args = lemoe_lemoe_feature_args(e);
    lemoe_status status = LEMOE_OK;
    float *features = NULL;
    route_by_truth(e, items, n_items, out); /* also what stands before the first batch: no expert */
    if (mode == LEMOE_ROUTER_ORACLE || e->n_expert == 0) return LEMOE_OK;
    LEMOE_TRY(lemoe_mem_alloc(n_items * lemoe_llama_config_of(e->context.model)->d_model, sizeof *features, &features));
    LEMOE_TRY_GOTO(lemoe_features_of(&args, items, n_items, features));
    if (mode == LEMOE_ROUTER_FORCED) LEMOE_TRY_GOTO(route_by_key(e, features, n_items, out));
    if (e->has_anchors) LEMOE_TRY_GOTO(route_by_anchor(e, features, n_items, out));
out:
    lemoe_mem_free(features);
    return status;
}

lemoe_status lemoe_lemoe_route_trained(void *editor, const lemoe_edit_batch *batch, lemoe_route *out) {
    lemoe_lemoe *e = editor;
    for (int64_t i = 0; i < batch->n_items; i++) out[i] = (lemoe_route){batch->index, 1.0, NAN, 1.0};
    if (!lemoe_lemoe_gate_is_raw(e)) return LEMOE_OK;
    /* the weight in training was the newest key's probability; the newest key is this batch's as long as no other came
     */
    lemoe_status status = LEMOE_OK;
    int64_t n = batch->n_items, n_key = e->router.n_key;
    lemoe_arena *arena = e->context.step_arena;
    size_t mark = lemoe_arena_mark(arena);
    lemoe_feature_args args = lemoe_lemoe_feature_args(e);
    lemoe_key_scores scores;
    float *features = NULL, *p = NULL;
    LEMOE_TRY_GOTO(lemoe_mem_alloc(n * e->router.d, sizeof *features, &features));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(n * n_key, sizeof *p, &p));
    LEMOE_TRY_GOTO(lemoe_features_of(&args, batch->items, n, features));
    LEMOE_TRY_GOTO(lemoe_key_router_forward(&e->router, features, n, arena, &scores));
    LEMOE_TRY_GOTO(lemoe_device_download(e->router.device, p, scores.p.data, lemoe_tensor_bytes(&scores.p)));
    for (int64_t i = 0; i < n; i++) out[i].gate = p[i * n_key + batch->index];
out:
    lemoe_arena_reset(arena, mark);
    lemoe_mem_free(features);
    lemoe_mem_free(p);
    return status;
}

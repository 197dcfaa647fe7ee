/* Where LEMoE sends a sequence: its router's answer, and no expert where the null route says so. */
#include "kernels/base/mem.h"
#include "runner/edit/common/route_summary.h"
#include "runner/edit/lemoe_editor.h"

#include <math.h>

lemoe_unit_args lemoe_lemoe_unit_args(const lemoe_lemoe *e) {
    lemoe_unit_args args = {.model = e->context.model,
                            .kind = e->context.config->lemoe.features,
                            .granularity = e->context.config->lemoe.granularity,
                            .normalise = e->context.config->lemoe.normalise,
                            .layer = e->layer,
                            .arena = e->context.step_arena};
    return args;
}

lemoe_status lemoe_lemoe_route_units(lemoe_lemoe *e, const lemoe_units *units, lemoe_route *out) {
    if (e->n_expert == 0) {
        for (int64_t u = 0; u < units->n; u++) out[u] = (lemoe_route){-1, 0.0, NAN, 1.0};
        return LEMOE_OK;
    }
    LEMOE_TRY(e->router_ops->route(e->router, units, out));
    return e->has_anchors ? lemoe_lemoe_apply_null(e, units, out) : LEMOE_OK;
}

lemoe_status lemoe_lemoe_route_training(lemoe_lemoe *e, const lemoe_units *units, lemoe_arena *arena, lemoe_route *out,
                                        void **kept) {
    *kept = NULL;
    if (e->router_ops->route_in_training) return e->router_ops->route_in_training(e->router, units, arena, out, kept);
    for (int64_t u = 0; u < units->n; u++) out[u] = (lemoe_route){e->n_expert - 1, 1.0, NAN, 1.0};
    return LEMOE_OK;
}

/* ---- sequences ---- */

bool lemoe_lemoe_routes_tokens(const void *editor) {
    return ((const lemoe_lemoe *)editor)->context.config->lemoe.granularity == LEMOE_GRANULARITY_TOKEN;
}

/* Units and their routes, as in training or as now. */
typedef struct routed {
    lemoe_units units;
    lemoe_route *routes;
} routed;

static void free_routed(routed *r) {
    lemoe_units_free(&r->units);
    lemoe_mem_free(r->routes);
}

static lemoe_status route_items(lemoe_lemoe *e, const lemoe_item *items, int64_t n_items, bool training, routed *out) {
    lemoe_unit_args args = lemoe_lemoe_unit_args(e);
    size_t mark = lemoe_arena_mark(args.arena);
    void *kept = NULL;
    *out = (routed){0};
    LEMOE_TRY(lemoe_units_make(&args, items, n_items, &out->units));
    LEMOE_TRY(lemoe_mem_alloc(out->units.n, sizeof *out->routes, &out->routes));
    lemoe_status status = training ? lemoe_lemoe_route_training(e, &out->units, args.arena, out->routes, &kept)
                                   : lemoe_lemoe_route_units(e, &out->units, out->routes);
    lemoe_arena_reset(args.arena, mark);
    return status;
}

static lemoe_status summarise(const lemoe_lemoe *e, const routed *r, lemoe_route *out) {
    int64_t first = 0, *count = NULL;
    LEMOE_TRY(lemoe_mem_alloc(e->n_expert + 1, sizeof *count, &count));
    for (int64_t i = 0; i < r->units.n_items; i++) {
        bool tokens = r->units.per_token;
        out[i] = tokens ? lemoe_route_summary(r->routes + first, &r->units.items[i], e->n_expert, count) : r->routes[i];
        first += r->units.items[i].n_tok;
    }
    lemoe_mem_free(count);
    return LEMOE_OK;
}

static lemoe_status route_sequences(lemoe_lemoe *e, const lemoe_item *items, int64_t n_items, bool training,
                                    lemoe_route *out) {
    routed r;
    lemoe_status status = route_items(e, items, n_items, training, &r);
    if (status == LEMOE_OK) status = summarise(e, &r, out);
    free_routed(&r);
    return status;
}

lemoe_status lemoe_lemoe_route(void *editor, const lemoe_item *items, int64_t n_items, lemoe_route *out) {
    return route_sequences(editor, items, n_items, false, out);
}

/* As the last step would route the batch: the newest key is this batch's as long as no other came. */
lemoe_status lemoe_lemoe_route_trained(void *editor, const lemoe_edit_batch *batch, lemoe_route *out) {
    return route_sequences(editor, batch->items, batch->n_items, true, out);
}

lemoe_status lemoe_lemoe_route_tokens(void *editor, const lemoe_item *items, int64_t n_items, int64_t *out) {
    routed r;
    int64_t first = 0;
    lemoe_status status = route_items(editor, items, n_items, false, &r);
    for (int64_t i = 0; i < n_items && status == LEMOE_OK; i++) {
        for (int64_t t = 1; t < items[i].n_prompt; t++) *out++ = r.routes[first + t].expert;
        first += items[i].n_tok;
    }
    free_routed(&r);
    return status;
}

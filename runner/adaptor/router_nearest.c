/*
 * Routers without anything that trains (docs/method.md 2.3). nearest: the expert of the stored edit whose feature is
 * nearest (ours) - an edit prompt's own anchor has cosine 1, so its route cannot change. centroid: the expert whose
 * batch's mean feature is nearest.
 */
#include "kernels/base/mem.h"
#include "runner/adaptor/router_keys.h"

#include <math.h>
#include <string.h>

/* ---- nearest ---- */

typedef struct nearest {
    lemoe_router_context context;
} nearest;

static lemoe_status nearest_open(const lemoe_router_context *context, void **router) {
    nearest *r = NULL;
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof *r, &r));
    r->context = *context;
    *router = r;
    return LEMOE_OK;
}

static void nearest_close(void *router) { lemoe_mem_free(router); }

static lemoe_status nothing_to_add(void *router) {
    (void)router;
    return LEMOE_OK;
}

static lemoe_status nearest_route(void *router, const lemoe_units *units, lemoe_route *out) {
    const nearest *r = router;
    lemoe_nearest *found = NULL;
    LEMOE_TRY(lemoe_mem_alloc(units->n, sizeof *found, &found));
    lemoe_status status = lemoe_anchors_nearest(r->context.anchors, units->e, units->n, r->context.step_arena, found);
    for (int64_t u = 0; u < units->n && status == LEMOE_OK; u++) {
        double margin = found[u].other_cosine > -1.0 ? found[u].cosine - found[u].other_cosine : NAN;
        out[u] = (lemoe_route){found[u].expert, found[u].expert < 0 ? 0.0 : 1.0, margin, 1.0};
    }
    lemoe_mem_free(found);
    return status;
}

const lemoe_router_ops lemoe_router_nearest = {
    .needs_anchors = true,
    .open = nearest_open,
    .close = nearest_close,
    .add_expert = nothing_to_add,
    .route = nearest_route,
};

/* ---- centroid ---- */

typedef struct centroids {
    int64_t d, n, max_expert;
    float *rows; /* [max_expert, d] of length 1 */
} centroids;

static lemoe_status centroid_open(const lemoe_router_context *context, void **router) {
    centroids *c = NULL;
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof *c, &c));
    *router = c;
    c->d = context->d;
    c->max_expert = context->max_expert;
    return lemoe_mem_alloc(context->max_expert * context->d, sizeof *c->rows, &c->rows);
}

static void centroid_close(void *router) {
    centroids *c = router;
    lemoe_mem_free(c->rows);
    lemoe_mem_free(c);
}

static double cosine_of(const float *e, const float *centre, int64_t d) {
    double dot = 0, length = 0;
    for (int64_t i = 0; i < d; i++) {
        dot += (double)e[i] * (double)centre[i];
        length += (double)e[i] * (double)e[i];
    }
    return length > 0 ? dot / sqrt(length) : 0.0;
}

static lemoe_status centroid_end_batch(void *router, const lemoe_units *units) {
    centroids *c = router;
    float *centre = c->rows + c->n++ * c->d;
    for (int64_t u = 0; u < units->n; u++) {
        const float *e = units->e + u * c->d;
        double length = fmax(cosine_of(e, e, c->d), 1e-30); /* <e, e> / |e| = |e| */
        for (int64_t i = 0; i < c->d; i++) centre[i] += (float)((double)e[i] / length);
    }
    lemoe_units_scale_rows(centre, 1, c->d, 1.0);
    return LEMOE_OK;
}

static lemoe_status centroid_route(void *router, const lemoe_units *units, lemoe_route *out) {
    const centroids *c = router;
    for (int64_t u = 0; u < units->n; u++) {
        double best = -2, second = -2;
        int64_t expert = -1;
        for (int64_t i = 0; i < c->n; i++) {
            double cosine = cosine_of(units->e + u * c->d, c->rows + i * c->d, c->d);
            if (cosine > best) {
                second = best;
                best = cosine;
                expert = i;
            } else if (cosine > second) {
                second = cosine;
            }
        }
        out[u] = (lemoe_route){expert, expert < 0 ? 0.0 : 1.0, second > -2 ? best - second : NAN, 1.0};
    }
    return LEMOE_OK;
}

static lemoe_status centroid_visit(void *router, lemoe_state *state) {
    centroids *c = router;
    LEMOE_TRY(lemoe_state_count(state, "centroids", &c->n, c->max_expert));
    return lemoe_state_bytes(state, "centroids.rows", c->rows, c->n * c->d * (int64_t)sizeof *c->rows);
}

static lemoe_status centroid_save(void *router, lemoe_saved *saved, lemoe_llama *model) {
    const centroids *c = router;
    if (c->n == 0) return LEMOE_OK;
    return lemoe_saved_add_host(saved, model, "router.centroids", c->rows, c->n, c->d);
}

static int64_t centroid_n_weight(const void *router) {
    const centroids *c = router;
    return c->n * c->d;
}

const lemoe_router_ops lemoe_router_centroid = {
    .open = centroid_open,
    .close = centroid_close,
    .add_expert = nothing_to_add,
    .route = centroid_route,
    .end_batch = centroid_end_batch,
    .visit = centroid_visit,
    .save = centroid_save,
    .n_weight = centroid_n_weight,
};

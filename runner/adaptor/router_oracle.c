/*
 * The true expert (docs/method.md 2.3): an upper bound, as in WISE-Retrieve oracle. An edit and its paraphrase go to
 * the edit's expert, a locality prompt to none.
 */
#include "kernels/base/mem.h"
#include "runner/adaptor/router_keys.h"

#include <math.h>

enum { ROLE_PARAPHRASE = 1 }; /* roles up to this one belong to their edit */

typedef struct oracle {
    int64_t n_expert;
    int64_t *expert_of_edit; /* [n_known] by dataset index; -1: not edited yet */
    int64_t n_known;
} oracle;

static lemoe_status open(const lemoe_router_context *context, void **router) {
    (void)context;
    return lemoe_mem_alloc(1, sizeof(oracle), router);
}

static void close(void *router) {
    oracle *o = router;
    lemoe_mem_free(o->expert_of_edit);
    lemoe_mem_free(o);
}

static lemoe_status add_expert(void *router) {
    ((oracle *)router)->n_expert++;
    return LEMOE_OK;
}

static lemoe_status end_batch(void *router, const lemoe_units *units) {
    oracle *o = router;
    for (int64_t i = 0; i < units->n_items; i++) {
        int64_t edit = units->items[i].edit, known = o->n_known;
        LEMOE_TRY(lemoe_mem_grow(&o->expert_of_edit, &o->n_known, edit + 1, sizeof *o->expert_of_edit));
        for (; known < o->n_known; known++) o->expert_of_edit[known] = -1;
        o->expert_of_edit[edit] = o->n_expert - 1;
    }
    return LEMOE_OK;
}

static lemoe_status route(void *router, const lemoe_units *units, lemoe_route *out) {
    const oracle *o = router;
    for (int64_t u = 0; u < units->n; u++) {
        const lemoe_item *item = &units->items[units->item_of[u]];
        bool known = item->role <= ROLE_PARAPHRASE && item->edit < o->n_known;
        int64_t expert = known ? o->expert_of_edit[item->edit] : -1;
        out[u] = (lemoe_route){expert, expert < 0 ? 0.0 : 1.0, NAN, 1.0};
    }
    return LEMOE_OK;
}

static lemoe_status visit(void *router, lemoe_state *state) {
    oracle *o = router;
    int64_t n = o->n_known;
    LEMOE_TRY(lemoe_state_count(state, "oracle.known", &n, INT64_MAX));
    LEMOE_TRY(lemoe_mem_grow(&o->expert_of_edit, &o->n_known, n, sizeof *o->expert_of_edit));
    for (int64_t i = n; i < o->n_known; i++) o->expert_of_edit[i] = -1; /* room beyond what was known */
    return lemoe_state_bytes(state, "oracle.expert_of_edit", o->expert_of_edit, n * (int64_t)sizeof *o->expert_of_edit);
}

const lemoe_router_ops lemoe_router_oracle = {
    .open = open,
    .close = close,
    .add_expert = add_expert,
    .route = route,
    .end_batch = end_batch,
    .visit = visit,
};

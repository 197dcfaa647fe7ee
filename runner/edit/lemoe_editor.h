/*
 * Private to runner/edit: the LEMoE editor's parts. editor_lemoe.c is the method (insert, freeze, train, store),
 * lemoe_bypass.c what it adds to the FFN, lemoe_routes.c where sequences go.
 */
#ifndef RUNNER_EDIT_LEMOE_EDITOR_H
#define RUNNER_EDIT_LEMOE_EDITOR_H

#include "runner/adaptor/anchor_router.h"
#include "runner/adaptor/expert.h"
#include "runner/adaptor/features.h"
#include "runner/adaptor/key_router.h"
#include "runner/edit/editor.h"

typedef struct lemoe_lemoe {
    lemoe_editor_context context;
    int64_t layer, n_expert; /* experts present; the newest is the one that trains */
    lemoe_expert *experts;   /* [n_batch] */
    lemoe_key_router router; /* router forced */
    lemoe_anchors anchors;   /* router nearest, or a null route */
    bool has_anchors;
    int64_t *expert_of_edit; /* by dataset index, -1: not edited (yet); router oracle */
    int64_t n_known_edit;
} lemoe_lemoe;

/* Whether the weight of an expert is a probability (raw) rather than 1. */
static inline bool lemoe_lemoe_gate_is_raw(const lemoe_lemoe *e) {
    return e->context.config->lemoe.router == LEMOE_ROUTER_FORCED && e->context.config->lemoe.gate == LEMOE_GATE_RAW;
}

/* lemoe_bypass.c. Collective on the model's comm. */
lemoe_status lemoe_lemoe_forward(void *editor, lemoe_bypass_io *io);
lemoe_status lemoe_lemoe_backward(void *editor, lemoe_bypass_io *io);

/* lemoe_routes.c. Local. */
lemoe_status lemoe_lemoe_route(void *editor, const lemoe_item *items, int64_t n_items, lemoe_route *out);
lemoe_status lemoe_lemoe_route_trained(void *editor, const lemoe_edit_batch *batch, lemoe_route *out);
lemoe_feature_args lemoe_lemoe_feature_args(const lemoe_lemoe *e);

/* lemoe_null_route.c. Collective (it computes prefixes). Notes how far an edit prompt's feature moves when other text
 * stands before it, and sets the threshold by the configured rule. first_anchor: of the batch's first edit. */
lemoe_status lemoe_lemoe_set_threshold(lemoe_lemoe *e, const lemoe_edit_batch *batch, int64_t first_anchor);

#endif

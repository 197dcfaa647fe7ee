/*
 * Private to runner/edit: the LEMoE editor's parts. editor_lemoe.c is the method (insert, freeze, train, store),
 * lemoe_bypass.c what it adds to the FFN (lemoe_held.c: to packs that train many times), lemoe_routes.c where sequences
 * go, lemoe_null_route.c which go nowhere.
 */
#ifndef RUNNER_EDIT_LEMOE_EDITOR_H
#define RUNNER_EDIT_LEMOE_EDITOR_H

#include "runner/adaptor/expert.h"
#include "runner/adaptor/router.h"
#include "runner/edit/editor.h"

typedef struct lemoe_lemoe {
    lemoe_editor_context context;
    int64_t layer, n_expert; /* experts present; the newest is the one that trains */
    lemoe_expert *experts;   /* [n_batch] */
    const lemoe_router_ops *router_ops;
    void *router;
    lemoe_anchors anchors; /* where the router or the null route needs them */
    bool has_anchors, told_of_overlap;
} lemoe_lemoe;

/* lemoe_bypass.c. Collective on the model's comm. */
lemoe_status lemoe_lemoe_forward(void *editor, lemoe_bypass_io *io);
lemoe_status lemoe_lemoe_backward(void *editor, lemoe_bypass_io *io);

/* lemoe_held.c. Local. A pack whose rows all go to the newest expert in every update: NULL where they may not. */
lemoe_status lemoe_lemoe_hold(void *editor, const lemoe_pack *pack, lemoe_arena *arena, void **held);
/* Collective; operations only. */
lemoe_status lemoe_lemoe_held_forward(lemoe_lemoe *e, lemoe_bypass_io *io);
lemoe_status lemoe_lemoe_held_backward(lemoe_lemoe *e, lemoe_bypass_io *io);

/* lemoe_routes.c. Local. */
lemoe_unit_args lemoe_lemoe_unit_args(const lemoe_lemoe *e);
/* Routes of units: the router's, and the null route's. */
lemoe_status lemoe_lemoe_route_units(lemoe_lemoe *e, const lemoe_units *units, lemoe_route *out);
/* Routes of units in training; *kept may be NULL afterwards. */
lemoe_status lemoe_lemoe_route_training(lemoe_lemoe *e, const lemoe_units *units, lemoe_arena *arena, lemoe_route *out,
                                        void **kept);
lemoe_status lemoe_lemoe_route(void *editor, const lemoe_item *items, int64_t n_items, lemoe_route *out);
lemoe_status lemoe_lemoe_route_trained(void *editor, const lemoe_edit_batch *batch, lemoe_route *out);
lemoe_status lemoe_lemoe_route_tokens(void *editor, const lemoe_item *items, int64_t n_items, int64_t *out);
bool lemoe_lemoe_routes_tokens(const void *editor);

/* lemoe_null_route.c. Collective (it computes prefixes). Notes how far an edit prompt's feature moves when other text
 * stands before it, and sets the threshold by the configured rule. first_anchor: of the batch's first edit. */
lemoe_status lemoe_lemoe_set_threshold(lemoe_lemoe *e, const lemoe_edit_batch *batch, int64_t first_anchor);
/* Local. Sends units whose nearest anchor is too far to no expert. */
lemoe_status lemoe_lemoe_apply_null(lemoe_lemoe *e, const lemoe_units *units, lemoe_route *routes);

#endif

/*
 * Private to runner/edit: the conventional MoE adaptor's parts. editor_moe.c is the method, moe_bypass.c what it adds
 * to the FFN and its gradients, moe_routes.c where tokens go.
 */
#ifndef RUNNER_EDIT_MOE_EDITOR_H
#define RUNNER_EDIT_MOE_EDITOR_H

#include "runner/adaptor/dispatch.h"
#include "runner/adaptor/expert.h"
#include "runner/adaptor/token_router.h"
#include "runner/edit/editor.h"

typedef struct lemoe_moe {
    lemoe_editor_context context;
    int64_t layer, n_expert, top_k;
    lemoe_expert *experts; /* [n_expert] all train at every batch */
    lemoe_token_router router;
    bool is_attached;    /* from the first batch on; before it the model is untouched whatever the initialisation */
    double *share;       /* [n_expert] f_e of the balance loss, of the current minibatch */
    int64_t n_share_tok; /* its tokens */
} lemoe_moe;

/* moe_bypass.c. Collective on the model's comm. */
lemoe_status lemoe_moe_forward(void *editor, lemoe_bypass_io *io);
lemoe_status lemoe_moe_backward(void *editor, lemoe_bypass_io *io);

/* moe_routes.c. Local. The anchor of every row of a pack, its sequence's entity mean; data NULL where the router has
 * none. */
lemoe_status lemoe_moe_anchor_rows(const lemoe_moe *e, const lemoe_pack *pack, lemoe_arena *arena, lemoe_tensor *out);
/* Local. Shares of the routes of a minibatch, as its first step sees them: f_e of the balance loss. */
lemoe_status lemoe_moe_count_shares(void *editor, const lemoe_item *items, int64_t n_items);
lemoe_status lemoe_moe_route(void *editor, const lemoe_item *items, int64_t n_items, lemoe_route *out);
lemoe_status lemoe_moe_route_trained(void *editor, const lemoe_edit_batch *batch, lemoe_route *out);
bool lemoe_moe_routes_tokens(const void *editor);
lemoe_status lemoe_moe_route_tokens(void *editor, const lemoe_item *items, int64_t n_items, int64_t *out);

#endif

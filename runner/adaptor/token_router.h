/*
 * The conventional router (docs/method.md 5.1; Shazeer et al. 2017): p = softmax(W_g x) for every token, the top_k
 * largest are used with their probability as weight (not renormalised). With knowledge anchors (MEMoE) x is followed by
 * the mean embedding a of the sequence's entity, W_g [x; a] = W x + W_a a, so tokens about one entity share part of
 * their score.
 *
 * The auxiliary balance loss is that of Switch Transformers (Fedus et al. 2022, eq. 4): balance * n_expert * sum_e f_e
 * P_e, f_e the share of a minibatch's routes that go to e (a constant to the gradient), P_e the mean of p_e over its
 * tokens.
 */
#ifndef RUNNER_ADAPTOR_TOKEN_ROUTER_H
#define RUNNER_ADAPTOR_TOKEN_ROUTER_H

#include "kernels/arena.h"
#include "kernels/ops.h"
#include "runner/optim/adamw.h"
#include "runner/state/state.h"

typedef struct lemoe_token_router {
    lemoe_device *device;
    int64_t d, n_expert, top_k;
    lemoe_tensor w, w_anchor;     /* [n_expert, d_model]; w_anchor: data NULL without anchors */
    lemoe_tensor d_w, d_w_anchor; /* gradients while training */
} lemoe_token_router;

/* Scores of n tokens, in the arena given to forward. */
typedef struct lemoe_token_scores {
    lemoe_tensor x;      /* [n, d_model], borrowed */
    lemoe_tensor anchor; /* [n, d_model], borrowed; data NULL without anchors */
    lemoe_tensor p;      /* [n, n_expert] */
    lemoe_tensor top;    /* [n, top_k] int32, behind p in one piece of memory */
} lemoe_token_scores;

enum { LEMOE_TOKEN_ROUTER_MAX_PARAM = 2 };

typedef struct lemoe_token_router_args {
    lemoe_arena *arena;
    int64_t d, n_expert, top_k;
    bool has_anchor;
    uint64_t seed;
} lemoe_token_router_args;

/* Local. W_g ~ N(0, 0.02), drawn by (seed, purpose router). */
lemoe_status lemoe_token_router_create(const lemoe_token_router_args *args, lemoe_token_router *out) LEMOE_MUST_CHECK;
/* Local. Its gradients in the arena; lists W_g as (replicated) parameters. */
lemoe_status lemoe_token_router_train(lemoe_token_router *router, lemoe_arena *arena, lemoe_param *params,
                                      int64_t *n_params) LEMOE_MUST_CHECK;
/* Local. x, anchor: device [n, d_model]; anchor as the router was made. */
lemoe_status lemoe_token_router_forward(const lemoe_token_router *router, lemoe_tensor x, lemoe_tensor anchor,
                                        lemoe_arena *arena, lemoe_token_scores *out) LEMOE_MUST_CHECK;
/* Local. p and top for the host, which waits once; top lies behind p, which the caller frees. */
lemoe_status lemoe_token_scores_read(const lemoe_token_router *router, const lemoe_token_scores *scores, float **p,
                                     const int32_t **top) LEMOE_MUST_CHECK;
/* Local. dp: host [n, n_expert], gradient of the loss with respect to p. d_x: data NULL, or [n, d_model] that gets the
 * input gradient added. */
lemoe_status lemoe_token_router_backward(const lemoe_token_router *router, const lemoe_token_scores *scores,
                                         const float *dp, lemoe_tensor d_x, lemoe_arena *arena) LEMOE_MUST_CHECK;
/* Local. Its state, which is W_g. */
lemoe_status lemoe_token_router_visit(lemoe_token_router *router, lemoe_state *state) LEMOE_MUST_CHECK;

#endif

/*
 * KV-anchor routing as printed (LEMOE.md 2.1): v = W_up silu(W_down e), z_i = k_i . v, g = softmax over the experts
 * present. One key an expert, one projection for all.
 */
#ifndef RUNNER_ADAPTOR_KEY_ROUTER_H
#define RUNNER_ADAPTOR_KEY_ROUTER_H

#include "kernels/arena.h"
#include "kernels/ops.h"
#include "runner/optim/adamw.h"

typedef struct lemoe_key_router {
    lemoe_device *device;
    int64_t d, key_dim, n_key, max_key;
    lemoe_tensor keys;                    /* [max_key, d]; n_key are present */
    lemoe_tensor w_down, w_up;            /* [key_dim, d], [d, key_dim] */
    lemoe_tensor d_key, d_w_down, d_w_up; /* gradients while training: of the newest key, [1, d] */
} lemoe_key_router;

/* One pass over n features; in the arena given to it. */
typedef struct lemoe_key_scores {
    lemoe_tensor e;       /* [n, d] */
    lemoe_tensor b, a, v; /* [n, key_dim], [n, key_dim], [n, d] */
    lemoe_tensor z, p;    /* [n, n_key] */
    lemoe_tensor top;     /* [n, 1] int32 */
} lemoe_key_scores;

/* Local. Projections N(0, 0.02), drawn by (seed, purpose router); no key yet. */
lemoe_status lemoe_key_router_create(lemoe_arena *arena, int64_t d, int64_t key_dim, int64_t max_key, uint64_t seed,
                                     lemoe_key_router *out) LEMOE_MUST_CHECK;
/* Local. One key more, N(0, 0.01). */
lemoe_status lemoe_key_router_add_key(lemoe_key_router *router, uint64_t seed) LEMOE_MUST_CHECK;
/* Local. Gradients in the arena; lists the newest key and both projections as (replicated) parameters. */
lemoe_status lemoe_key_router_train(lemoe_key_router *router, lemoe_arena *arena, lemoe_param *params,
                                    int64_t *n_params) LEMOE_MUST_CHECK;
/* Local. e: host features [n, d]. */
lemoe_status lemoe_key_router_forward(const lemoe_key_router *router, const float *e, int64_t n, lemoe_arena *arena,
                                      lemoe_key_scores *out) LEMOE_MUST_CHECK;
/* Local. dp: host [n, n_key], dL/dg where an expert was used, 0 elsewhere. Adds gradients of the newest key and
 * projections; frozen keys still pass gradient to v. */
lemoe_status lemoe_key_router_backward(const lemoe_key_router *router, const lemoe_key_scores *scores, const float *dp,
                                       lemoe_arena *arena) LEMOE_MUST_CHECK;

#endif

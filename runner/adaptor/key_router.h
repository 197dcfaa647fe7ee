/*
 * Keys and a projection, as printed (docs/method.md 2.1): v = W_up silu(W_down e), z_i = k_i . v; what is made of the
 * scores (softmax, losses) stands in router_keys.c. One key an expert; only the newest has a gradient, and a first one
 * that is no expert's, if it trains.
 */
#ifndef RUNNER_ADAPTOR_KEY_ROUTER_H
#define RUNNER_ADAPTOR_KEY_ROUTER_H

#include "kernels/arena.h"
#include "kernels/ops.h"
#include "runner/config/config.h"
#include "runner/optim/adamw.h"
#include "runner/state/state.h"

typedef struct lemoe_key_router {
    lemoe_device *device;
    int64_t d, key_dim, n_key, max_key;
    lemoe_router_init init;
    uint32_t stream;                      /* of random numbers: tells routers of one run apart */
    lemoe_tensor keys;                    /* [max_key, d]; n_key are present */
    lemoe_tensor w_down, w_up;            /* [key_dim, d], [d, key_dim] */
    bool first_trains;                    /* key 0 is never frozen (the null key) */
    lemoe_tensor d_key, d_w_down, d_w_up; /* gradients while training: of the newest key, [1, d] */
    lemoe_tensor d_first;                 /* of key 0 where it trains */
} lemoe_key_router;

typedef struct lemoe_key_router_args {
    lemoe_arena *arena; /* of the keys and the projection */
    int64_t d, key_dim, max_key;
    lemoe_router_init init;
    uint64_t seed;
    uint32_t stream;
} lemoe_key_router_args;

/* One pass over n features; in the arena given to it. */
typedef struct lemoe_key_scores {
    lemoe_tensor e;       /* [n, d] */
    lemoe_tensor b, a, v; /* [n, key_dim], [n, key_dim], [n, d] */
    lemoe_tensor z;       /* [n, n_key] */
} lemoe_key_scores;

/* Local. Draws the projection by (seed, purpose router); no key yet. */
lemoe_status lemoe_key_router_create(const lemoe_key_router_args *args, lemoe_key_router *out) LEMOE_MUST_CHECK;
/* Local. One key more. */
lemoe_status lemoe_key_router_add_key(lemoe_key_router *router, uint64_t seed) LEMOE_MUST_CHECK;
/* Local. Zeroed gradients in the arena; lists the newest key and, where wanted, both projections as (replicated)
 * parameters with their own learning rate (0: the optimiser's). */
lemoe_status lemoe_key_router_train(lemoe_key_router *router, bool with_projection, double lr, lemoe_arena *arena,
                                    lemoe_param *params, int64_t *n_params) LEMOE_MUST_CHECK;
/* Local. e: features [n, d] of the device, borrowed until the backward. */
lemoe_status lemoe_key_router_forward(const lemoe_key_router *router, lemoe_tensor e, lemoe_arena *arena,
                                      lemoe_key_scores *out) LEMOE_MUST_CHECK;
/* Local. dz: device [n, n_key]. Adds gradients of the newest key and, where they train, the projections; frozen keys
 * still pass gradient to v. */
lemoe_status lemoe_key_router_backward(const lemoe_key_router *router, const lemoe_key_scores *scores, lemoe_tensor dz,
                                       lemoe_arena *arena) LEMOE_MUST_CHECK;
/* Local. Its state, with as many keys added as it shall have: keys and projection. */
lemoe_status lemoe_key_router_visit(lemoe_key_router *router, lemoe_state *state) LEMOE_MUST_CHECK;

#endif

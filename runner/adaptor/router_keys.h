/*
 * Private to runner/adaptor: what the routers with keys share. A key of every expert, scores z_i = k_i . v from one
 * projection or one an expert, p = softmax(z), and the cross-entropy -log p_i of units whose expert i is known.
 */
#ifndef RUNNER_ADAPTOR_ROUTER_KEYS_H
#define RUNNER_ADAPTOR_ROUTER_KEYS_H

#include "runner/adaptor/key_router.h"
#include "runner/adaptor/router.h"

/* Features of past units with their experts: replay. */
typedef struct lemoe_replayed {
    float *e; /* [n, d] host */
    int64_t *expert;
    int64_t n, e_capacity, expert_capacity;
} lemoe_replayed;

typedef struct lemoe_router_keys {
    lemoe_router_context context;
    lemoe_key_router *routers; /* one, or one an expert with a single key each */
    bool per_expert;
    int64_t n_expert;
    lemoe_replayed replayed;
} lemoe_router_keys;

/* Scores of n units; in an arena. */
typedef struct lemoe_key_pass {
    int64_t n;
    lemoe_key_scores *scores; /* [routers in use] */
    lemoe_tensor z, p;        /* [n, n_expert] */
    lemoe_tensor top;         /* [n, 1] int32 */
} lemoe_key_pass;

lemoe_status lemoe_router_keys_open(const lemoe_router_context *context, bool per_expert,
                                    lemoe_router_keys **out) LEMOE_MUST_CHECK;
void lemoe_router_keys_close(void *router);
lemoe_status lemoe_router_keys_add_expert(void *router) LEMOE_MUST_CHECK;
lemoe_status lemoe_router_keys_score(const lemoe_router_keys *keys, const float *e, int64_t n, lemoe_arena *arena,
                                     lemoe_key_pass *out) LEMOE_MUST_CHECK;
/* Adds the gradients of what trains. dz: device [n, n_expert]. */
lemoe_status lemoe_router_keys_backward(const lemoe_router_keys *keys, const lemoe_key_pass *pass, lemoe_tensor dz,
                                        lemoe_arena *arena) LEMOE_MUST_CHECK;
/* Adds the gradients of weight / n * sum over n units of -log p_expert; *loss gets the mean itself. */
lemoe_status lemoe_router_keys_cross_entropy(const lemoe_router_keys *keys, const float *e, const int64_t *expert,
                                             int64_t n, double weight, double *loss) LEMOE_MUST_CHECK;
/* Keeps features of the newest expert's units. */
lemoe_status lemoe_router_keys_remember(lemoe_router_keys *keys, const lemoe_units *units) LEMOE_MUST_CHECK;
/* Top-1 of every unit; gate: its probability, or 1. */
lemoe_status lemoe_router_keys_top(const lemoe_router_keys *keys, const lemoe_key_pass *pass, bool raw,
                                   lemoe_route *out) LEMOE_MUST_CHECK;
lemoe_status lemoe_router_keys_save(void *router, lemoe_saved *saved, lemoe_llama *model) LEMOE_MUST_CHECK;
lemoe_status lemoe_router_keys_visit(void *router, lemoe_state *state) LEMOE_MUST_CHECK;
int64_t lemoe_router_keys_n_weight(const void *router);

extern const lemoe_router_ops lemoe_router_literal, lemoe_router_forced, lemoe_router_frozen_proj,
    lemoe_router_per_expert_proj, lemoe_router_fitted, lemoe_router_centroid, lemoe_router_nearest, lemoe_router_oracle;

#endif

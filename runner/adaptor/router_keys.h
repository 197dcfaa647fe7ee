/*
 * Private to runner/adaptor: what the routers with keys share. A key of every expert, scores z_i = k_i . v from one
 * projection or one an expert, p = softmax(z), and the cross-entropy -log p_i of units whose expert i is known.
 *
 * With lemoe.null key a null key stands in front, column 0 of all scores: what it wins goes to no expert (-1). It never
 * freezes, and learns from mixtures of two edits' features, since nothing that will be judged by locality may be seen.
 *
 * All functions but lemoe_router_keys_save are Local.
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
    int64_t n_seen; /* those that were forgotten as well: memory is taken for so many */
} lemoe_replayed;

typedef struct lemoe_router_keys {
    lemoe_router_context context;
    lemoe_key_router *routers; /* one, or one an expert with a single key each */
    bool per_expert;
    int64_t n_expert, n_null; /* n_null: null keys, 0 or 1 */
    lemoe_replayed replayed;
} lemoe_router_keys;

/* What scores are made of, on the device; in an arena. */
typedef struct lemoe_key_input {
    lemoe_tensor e;     /* [n, d] features */
    lemoe_tensor place; /* [n_expert, n] int32, per_expert: where in z[n, n_expert] the scores of an expert lie */
} lemoe_key_input;

/* Scores of n units; in an arena. */
typedef struct lemoe_key_pass {
    int64_t n;
    lemoe_key_input input;
    lemoe_key_scores *scores; /* [routers in use] */
    lemoe_tensor z, p;        /* [n, columns] */
    lemoe_tensor top;         /* [n, 1] int32 */
} lemoe_key_pass;

/* Columns of scores, and the column of an expert (-1: of the null key). */
static inline int64_t lemoe_router_keys_columns(const lemoe_router_keys *keys) { return keys->n_null + keys->n_expert; }
static inline int64_t lemoe_router_keys_column(const lemoe_router_keys *keys, int64_t expert) {
    return keys->n_null + expert;
}

/* Without experts yet, one router of keys or (per_expert) one an expert. The context is copied, what it points to is
 * borrowed: weights live in its run arena, features of replay on the host. *out is the caller's, who closes it, also
 * after an error that left it set. Errors: NOMEM. */
lemoe_status lemoe_router_keys_open(const lemoe_router_context *context, bool per_expert,
                                    lemoe_router_keys **out) LEMOE_MUST_CHECK;
/* Frees what is not in an arena. NULL is fine. */
void lemoe_router_keys_close(void *router);
/* One expert more, with a fresh key (and per_expert a fresh projection); at most max_expert times. */
lemoe_status lemoe_router_keys_add_expert(void *router) LEMOE_MUST_CHECK;
/* Scores of host features e[n, d]; everything of *out lives in the arena. */
lemoe_status lemoe_router_keys_score(const lemoe_router_keys *keys, const float *e, int64_t n, lemoe_arena *arena,
                                     lemoe_key_pass *out) LEMOE_MUST_CHECK;
/* The same in two steps: the second only queues operations. The input is borrowed until the backward. */
lemoe_status lemoe_router_keys_input(const lemoe_router_keys *keys, const float *e, int64_t n, lemoe_arena *arena,
                                     lemoe_key_input *out) LEMOE_MUST_CHECK;
lemoe_status lemoe_router_keys_score_on(const lemoe_router_keys *keys, const lemoe_key_input *input, lemoe_arena *arena,
                                        lemoe_key_pass *out) LEMOE_MUST_CHECK;
/* Adds the gradients of what trains. dz: device [n, columns]. Queues operations. */
lemoe_status lemoe_router_keys_backward(const lemoe_router_keys *keys, const lemoe_key_pass *pass, lemoe_tensor dz,
                                        lemoe_arena *arena) LEMOE_MUST_CHECK;
/* Units with known experts. */
typedef struct lemoe_key_units {
    const float *e;        /* [n, d] */
    const int64_t *expert; /* [n] */
    int64_t n;
    int64_t n_most; /* where n depends on values: it may be so large, and that much is taken of the arena; else 0 */
} lemoe_key_units;

/* Those of replay, with other features (NULL: their own). */
lemoe_key_units lemoe_router_keys_replayed(const lemoe_router_keys *keys, const float *e);
/* Adds the gradients of weight / n * sum over n units of -log p_expert; *loss gets the mean itself. */
lemoe_status lemoe_router_keys_cross_entropy(const lemoe_router_keys *keys, const lemoe_key_units *units, double weight,
                                             double *loss) LEMOE_MUST_CHECK;
/* The same with the null key as the answer, for mixtures of each unit with the one half way round: (e_u + e_v) / 2. 0
 * where there is no null key. */
lemoe_status lemoe_router_keys_null_entropy(const lemoe_router_keys *keys, const lemoe_key_units *units, double weight,
                                            double *loss) LEMOE_MUST_CHECK;
/* Keeps features of the newest expert's units, and forgets earlier ones that equal them (unless units are tokens). */
lemoe_status lemoe_router_keys_remember(lemoe_router_keys *keys, const lemoe_units *units) LEMOE_MUST_CHECK;
/* Top-1 of every unit; gate: its probability, or 1; 0 of none. */
lemoe_status lemoe_router_keys_top(const lemoe_router_keys *keys, const lemoe_key_pass *pass, bool raw,
                                   lemoe_route *out) LEMOE_MUST_CHECK;
/* Collective like lemoe_saved_add. Keys and projections, by name. */
lemoe_status lemoe_router_keys_save(void *router, lemoe_saved *saved, lemoe_llama *model) LEMOE_MUST_CHECK;
/* Keys, projections and features of replay, with as many experts added as there shall be. */
lemoe_status lemoe_router_keys_visit(void *router, lemoe_state *state) LEMOE_MUST_CHECK;
/* Numbers in keys, projections and features of replay. */
int64_t lemoe_router_keys_n_weight(const void *router);

extern const lemoe_router_ops lemoe_router_literal, lemoe_router_forced, lemoe_router_frozen_proj,
    lemoe_router_per_expert_proj, lemoe_router_fitted, lemoe_router_centroid, lemoe_router_nearest, lemoe_router_oracle;

#endif

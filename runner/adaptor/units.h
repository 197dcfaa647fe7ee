/*
 * Units and their features: what a route is computed from (docs/method.md 2.1). A unit is a sequence, or a single
 * token; its feature is one vector, from the prompt alone - never from the target, which would leak the answer into the
 * route (a target token that is routed by itself sees only itself).
 */
#ifndef RUNNER_ADAPTOR_UNITS_H
#define RUNNER_ADAPTOR_UNITS_H

#include "runner/config/config.h"
#include "runner/model/llama.h"

typedef struct lemoe_unit_args {
    lemoe_llama *model;
    lemoe_features kind;
    lemoe_granularity granularity;
    bool normalise;     /* features to length sqrt(d_model) */
    int64_t layer;      /* last_hidden: whose FFN input */
    lemoe_arena *arena; /* scratch */
} lemoe_unit_args;

typedef struct lemoe_units {
    int64_t n, d;
    const lemoe_item *items; /* borrowed */
    int64_t n_items;
    bool per_token;         /* unit u is the u-th token of all items' tokens; else item u */
    const int64_t *item_of; /* [n] item of each unit */
    const float *e;         /* [n, d] host */
    void *storage[2];       /* behind the two above */
} lemoe_units;

/* Local. Items carry cut_rows at the FFN of `layer`, means, and token embeddings where tokens are units. Errors:
 * those of ops. Free with lemoe_units_free, also after an error. */
lemoe_status lemoe_units_make(const lemoe_unit_args *args, const lemoe_item *items, int64_t n_items,
                              lemoe_units *out) LEMOE_MUST_CHECK;
void lemoe_units_free(lemoe_units *units);
/* Local. last_hidden features from rows rather than items: out = FFN input of rows[n, d_model], both in host memory. */
lemoe_status lemoe_units_features_of_rows(const lemoe_unit_args *args, const float *rows, int64_t n,
                                          float *out) LEMOE_MUST_CHECK;
/* Local. Rows to that length (a zero row stays zero). */
void lemoe_units_scale_rows(float *rows, int64_t n, int64_t d, double length);

#endif

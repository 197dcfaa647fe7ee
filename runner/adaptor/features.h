/*
 * What a route is computed from (LEMOE.md 2.1): one vector a sequence, from its prompt alone - never from its target,
 * which would leak the answer into the route.
 */
#ifndef RUNNER_ADAPTOR_FEATURES_H
#define RUNNER_ADAPTOR_FEATURES_H

#include "runner/config/config.h"
#include "runner/model/llama.h"

typedef struct lemoe_feature_args {
    lemoe_llama *model;
    lemoe_features kind;
    lemoe_granularity granularity;
    int64_t layer;      /* last_hidden: whose FFN input */
    lemoe_arena *arena; /* scratch */
} lemoe_feature_args;

/* Local. out[n_items, d_model] in host memory. Items carry cut_rows at the FFN of `layer`, and means. */
lemoe_status lemoe_features_of(const lemoe_feature_args *args, const lemoe_item *items, int64_t n_items,
                               float *out) LEMOE_MUST_CHECK;
/* Local. last_hidden from rows rather than items: out = FFN input of rows[n, d_model], both in host memory. */
lemoe_status lemoe_features_of_rows(const lemoe_feature_args *args, const float *rows, int64_t n,
                                    float *out) LEMOE_MUST_CHECK;
/* Local. Rows to length 1 (a zero row stays zero). */
void lemoe_features_normalise(float *rows, int64_t n, int64_t d);

#endif

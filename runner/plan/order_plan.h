/*
 * Order planning (docs/method.md 3): which edits make a batch, and in which order batches are edited. A planner is a
 * pure function of features, batch size and seed; planning sees all edits beforehand, so it is offline planning, not
 * streaming.
 */
#ifndef RUNNER_PLAN_ORDER_PLAN_H
#define RUNNER_PLAN_ORDER_PLAN_H

#include "kernels/base/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct lemoe_plan {
    int64_t n_edit, n_batch;
    int64_t *edit;      /* [n_edit] dataset index of the edit at each place of the stream */
    int64_t *batch;     /* [n_edit] its batch: place / batch_size */
    int64_t *cluster;   /* [n_edit] its cluster before balancing, numbered as the batch that the cluster became (so an
                           edit that balancing moved has cluster != batch); round_robin, which makes no batch of a
                           cluster: numbered as k-means found them; -1 where the planner has none */
    double *similarity; /* [n_batch, n_batch] mean cosine similarity of features between batches; diagonal: within, over
                           distinct pairs; NaN where there is no pair or there are no features */
} lemoe_plan;

/* The features of all edits made ready for planning: rows of length 1 and the products of any two, which cost most of a
 * plan and are the same for every order of these edits. */
typedef struct lemoe_plan_space lemoe_plan_space;

/* Local. Copies features[n_edit, d], rows in dataset order. Errors: NUMERIC for features that are not finite, ARG for
 * sizes below 1. *out is the caller's to destroy, also after an error. */
lemoe_status lemoe_plan_space_create(const float *features, int64_t n_edit, int64_t d,
                                     lemoe_plan_space **out) LEMOE_MUST_CHECK;
void lemoe_plan_space_destroy(lemoe_plan_space *space);
/* Local. Works out about n_product products more, for whoever has little time at once; *is_complete: none are missing.
 * What is missing when a planner needs it is worked out then: no value depends on when. */
lemoe_status lemoe_plan_space_advance(lemoe_plan_space *space, int64_t n_product, bool *is_complete) LEMOE_MUST_CHECK;

typedef struct lemoe_plan_args {
    const char *planner;     /* file | random | kmeans | hierarchical | round_robin */
    lemoe_plan_space *space; /* of n_edit edits; NULL only for planners that do not need it (then no similarity) */
    int64_t n_edit, batch_size;
    uint64_t seed;
    int64_t restarts; /* kmeans: independent starts, of which the best counts; at least 1 */
} lemoe_plan_args;

/* Local, pure but for the products that it may add to the space. Batch b holds edits [b * batch_size, ...) of the
 * stream; the last may be shorter. Errors: CONFIG for an unknown planner, ARG for sizes below 1 or that do not agree,
 * or features that are missing. */
lemoe_status lemoe_plan_create(const lemoe_plan_args *args, lemoe_plan **out) LEMOE_MUST_CHECK;
void lemoe_plan_destroy(lemoe_plan *plan);
const char *const *lemoe_plan_names(void); /* NULL-terminated */

#endif

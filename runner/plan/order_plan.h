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

typedef struct lemoe_plan_args {
    const char *planner;   /* file | random | kmeans | hierarchical | round_robin */
    const float *features; /* [n_edit, d] rows in dataset order; NULL only for planners that do not need them (then no
                              similarity) */
    int64_t n_edit, d, batch_size;
    uint64_t seed;
    int64_t restarts; /* kmeans: independent starts, of which the best counts; at least 1 */
} lemoe_plan_args;

/* Local, pure. Batch b holds edits [b * batch_size, ...) of the stream; the last may be shorter. Errors: CONFIG for an
 * unknown planner, NUMERIC for features that are not finite, ARG for sizes below 1 or features that are missing. */
lemoe_status lemoe_plan_create(const lemoe_plan_args *args, lemoe_plan **out) LEMOE_MUST_CHECK;
void lemoe_plan_destroy(lemoe_plan *plan);
const char *const *lemoe_plan_names(void); /* NULL-terminated */
bool lemoe_plan_needs_features(const char *planner);

#endif

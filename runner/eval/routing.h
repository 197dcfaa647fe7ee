/*
 * Where sequences are sent, in training and at the end (docs/method.md 2.7): routes per edit, agreement at milestones,
 * and the routing consistency matrix C[i][j] = share of what was trained on expert i that the final model routes to j;
 * last column: none. Rows sum to 1; a row on which nothing was trained is NaN. Instance routers count edits,
 * token-level routers prompt tokens. Edits that a later one superseded are left out (lemoe_eval_in_force).
 *
 * All functions are Local: called on the team's first rank only.
 */
#ifndef RUNNER_EVAL_ROUTING_H
#define RUNNER_EVAL_ROUTING_H

#include "runner/edit/editor.h"
#include "runner/eval/evaluator.h"

typedef struct lemoe_routing lemoe_routing;

typedef struct lemoe_routing_args {
    const lemoe_editor_ops *ops; /* with route; ops->route NULL: every function below does nothing */
    void *editor;
    const lemoe_eval_stream *stream;
    lemoe_results *results;
} lemoe_routing_args;

lemoe_status lemoe_routing_create(const lemoe_routing_args *args, lemoe_routing **out) LEMOE_MUST_CHECK;
void lemoe_routing_destroy(lemoe_routing *routing);
/* Right after a batch was trained: /routing/train_expert, gate_train, threshold. */
lemoe_status lemoe_routing_after_batch(lemoe_routing *routing, int64_t batch) LEMOE_MUST_CHECK;
/* /routing/agreement_{prompt,paraphrase}: share of each batch's edits routed to the expert they were trained on. */
lemoe_status lemoe_routing_milestone(lemoe_routing *routing, int64_t milestone, int64_t n_done) LEMOE_MUST_CHECK;
/* After the last batch: final, paraphrase and locality routes, gates, margins, C. Mean diagonal of C in *consistency
 * (NaN when there is none). */
lemoe_status lemoe_routing_final(lemoe_routing *routing, double *consistency) LEMOE_MUST_CHECK;
/* Its state: the experts that edits (and their tokens) were trained on. */
lemoe_status lemoe_routing_visit(lemoe_routing *routing, lemoe_state *state) LEMOE_MUST_CHECK;

#endif

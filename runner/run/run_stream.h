/* The stream of one run: the plan, and every sequence in editing order. */
#ifndef RUNNER_RUN_RUN_STREAM_H
#define RUNNER_RUN_RUN_STREAM_H

#include "runner/eval/evaluator.h"
#include "runner/plan/order_plan.h"
#include "runner/run/run.h"

typedef struct lemoe_run_stream {
    lemoe_plan *plan;
    bool plan_was_kept;     /* by the coordinator or an earlier execution; on the team's first rank */
    lemoe_item *items;      /* [n_role][n_edit] in editing order */
    int64_t *batch_start;   /* [n_batch + 1] */
    int64_t *superseded_by; /* [n_edit] as in lemoe_eval_stream */
    lemoe_eval_stream eval; /* borrows the above */
} lemoe_run_stream;

/* Collective. Takes the plan that was kept for the run, or makes it, on the team's first rank, and broadcasts edits and
 * clusters; the plan's similarity is NaN on the other ranks. items: dataset order, from lemoe_world_items. */
lemoe_status lemoe_run_stream_open(const lemoe_run_args *args, const lemoe_item *items,
                                   lemoe_run_stream *out) LEMOE_MUST_CHECK;
/* Local. The same in the order of a plan, which passes to the stream with this call. */
lemoe_status lemoe_run_stream_lay_out(const lemoe_world *world, const lemoe_item *items, lemoe_plan *plan,
                                      lemoe_run_stream *out) LEMOE_MUST_CHECK;
/* Local. Also after an open that failed. */
void lemoe_run_stream_close(lemoe_run_stream *stream);

#endif

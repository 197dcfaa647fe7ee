/*
 * The coordinator's half of planning: orders of coming runs, worked out from the model's files a little at a time.
 * Equal orders of several runs are worked out once; products of features once for all orders of the same edits. Plans
 * that need the loaded model, or that cost more than a moment, are left to the run's team.
 */
#ifndef RUNNER_SWEEP_ORDERS_H
#define RUNNER_SWEEP_ORDERS_H

#include "runner/plan/order_plan.h"
#include "runner/sweep/sweep.h"

typedef struct lemoe_orders lemoe_orders;

/* Local, on rank 0. Borrows the sweep. */
lemoe_status lemoe_orders_create(const lemoe_sweep *sweep, lemoe_orders **out) LEMOE_MUST_CHECK;
void lemoe_orders_destroy(lemoe_orders *orders);
/* Local. Works on the plan of a run (index in the sweep) for about `seconds`, or one indivisible piece. *plan: the plan
 * once it is there, borrowed until the next call; NULL before. *is_over: nothing more comes of asking again: the plan
 * is there, or it is left to the team. Errors: NOMEM; what is wrong with the model's files or features is the team's to
 * say, whose run then fails. */
lemoe_status lemoe_orders_advance(lemoe_orders *orders, int64_t index, double seconds, const lemoe_plan **plan,
                                  bool *is_over) LEMOE_MUST_CHECK;
/* Local. The same for a run that was claimed, whose plan is put into its folder when it is there, before its team needs
 * it; one that an earlier execution kept there stays. */
lemoe_status lemoe_orders_prepare(lemoe_orders *orders, int64_t index, double seconds, bool *is_over) LEMOE_MUST_CHECK;
/* Local, pure. Equal for runs with the same order of the same edits. */
uint64_t lemoe_orders_key(const lemoe_config *config, int input);

#endif

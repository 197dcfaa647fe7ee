#include "kernels/base/rng.h"
#include "runner/plan/order_planner.h"

lemoe_status lemoe_order_random(const lemoe_plan_args *args, const double *gram, lemoe_plan *plan) {
    (void)gram;
    lemoe_rng_permutation(lemoe_rng_make(args->seed, LEMOE_RNG_ORDER, 0), plan->n_edit, plan->edit);
    return LEMOE_OK;
}

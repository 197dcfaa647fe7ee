#include "runner/plan/order_planner.h"

/* The order of the data file, which a plan starts as. */
lemoe_status lemoe_order_file(const lemoe_plan_args *args, const double *gram, lemoe_plan *plan) {
    (void)args, (void)gram, (void)plan;
    return LEMOE_OK;
}

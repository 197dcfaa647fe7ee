#include "runner/plan/order_planner.h"

/* The order of the data file, which a plan starts as. */
lemoe_status lemoe_order_file(const lemoe_plan_args *args, const lemoe_plan_rows *rows, lemoe_plan *plan) {
    (void)args, (void)rows, (void)plan;
    return LEMOE_OK;
}

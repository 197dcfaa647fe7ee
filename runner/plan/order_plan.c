#include "runner/plan/order_plan.h"

#include "kernels/base/mem.h"
#include "runner/plan/order_planner.h"

#include <math.h>
#include <string.h>

typedef struct planner {
    const char *name;
    bool needs_features;
    lemoe_planner_fn order;
} planner;

/* The only place that lists planners. */
static const planner planners[] = {
    {"file",         false, lemoe_order_file        },
    {"random",       false, lemoe_order_random      },
    {"kmeans",       true,  lemoe_order_kmeans      },
    {"hierarchical", true,  lemoe_order_hierarchical},
    {"round_robin",  true,  lemoe_order_round_robin },
};
enum { N_PLANNER = sizeof planners / sizeof *planners };

static const planner *find(const char *name) {
    for (int i = 0; i < N_PLANNER; i++)
        if (strcmp(planners[i].name, name) == 0) return &planners[i];
    return NULL;
}

const char *const *lemoe_plan_names(void) {
    static const char *names[N_PLANNER + 1];
    for (int i = 0; i < N_PLANNER; i++) names[i] = planners[i].name;
    return names;
}

static lemoe_status check(const lemoe_plan_args *args, const planner *found) {
    LEMOE_CHECK(found, LEMOE_ERR_CONFIG, "order.planner: no planner is called '%s'", args->planner);
    LEMOE_CHECK(args->n_edit > 0 && args->batch_size > 0, LEMOE_ERR_ARG, "a plan of %lld edits in batches of %lld",
                (long long)args->n_edit, (long long)args->batch_size);
    LEMOE_CHECK(args->space || !found->needs_features, LEMOE_ERR_ARG, "planner %s needs features", found->name);
    LEMOE_CHECK(!args->space || args->space->n == args->n_edit, LEMOE_ERR_ARG, "features of %lld edits for %lld",
                (long long)args->space->n, (long long)args->n_edit);
    return LEMOE_OK;
}

/* File order, no clusters, no similarity: what a planner then overwrites. */
static lemoe_status allocate(const lemoe_plan_args *args, lemoe_plan **out) {
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof **out, out));
    lemoe_plan *plan = *out;
    plan->n_edit = args->n_edit;
    plan->n_batch = (args->n_edit - 1) / args->batch_size + 1;
    LEMOE_TRY(lemoe_mem_alloc(plan->n_edit, sizeof *plan->edit, &plan->edit));
    LEMOE_TRY(lemoe_mem_alloc(plan->n_edit, sizeof *plan->batch, &plan->batch));
    LEMOE_TRY(lemoe_mem_alloc(plan->n_edit, sizeof *plan->cluster, &plan->cluster));
    LEMOE_TRY(lemoe_mem_alloc(plan->n_batch, (size_t)plan->n_batch * sizeof *plan->similarity, &plan->similarity));
    for (int64_t i = 0; i < plan->n_edit; i++) {
        plan->edit[i] = i;
        plan->batch[i] = i / args->batch_size;
        plan->cluster[i] = -1;
    }
    for (int64_t i = 0; i < plan->n_batch * plan->n_batch; i++) plan->similarity[i] = NAN;
    return LEMOE_OK;
}

lemoe_status lemoe_plan_create(const lemoe_plan_args *args, lemoe_plan **out) {
    lemoe_status status = LEMOE_OK;
    const planner *found = find(args->planner);
    lemoe_plan_space *space = args->space;
    bool is_complete = false;
    *out = NULL;
    LEMOE_TRY_GOTO(check(args, found));
    LEMOE_TRY_GOTO(allocate(args, out));
    if (found->needs_features) LEMOE_TRY_GOTO(lemoe_plan_space_advance(space, INT64_MAX, &is_complete));
    LEMOE_TRY_GOTO(found->order(args, found->needs_features ? space->gram : NULL, *out));
    if (space) LEMOE_TRY_GOTO(lemoe_plan_similarity(space, *out));
out:
    if (status != LEMOE_OK) {
        lemoe_plan_destroy(*out);
        *out = NULL;
    }
    return status;
}

void lemoe_plan_destroy(lemoe_plan *plan) {
    if (!plan) return;
    lemoe_mem_free(plan->edit);
    lemoe_mem_free(plan->batch);
    lemoe_mem_free(plan->cluster);
    lemoe_mem_free(plan->similarity);
    lemoe_mem_free(plan);
}

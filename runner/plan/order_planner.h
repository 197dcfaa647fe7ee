/* Private to runner/plan: what a planner gets and fills, and the pieces that planners share. */
#ifndef RUNNER_PLAN_ORDER_PLANNER_H
#define RUNNER_PLAN_ORDER_PLANNER_H

#include "runner/plan/order_plan.h"

struct lemoe_plan_space {
    int64_t n, d;
    double *unit;                  /* [n, d] features, each row of length 1 (0 stays 0) */
    double *gram;                  /* [n, n] products of rows; NULL until the first is worked out */
    int64_t next_row, next_column; /* where working out goes on: rows in tiles, columns within a tile */
};

/* Fills plan->edit and, where it has clusters, plan->cluster. gram: all products [n, n] of the rows of features, NULL
 * for a planner that needs none. Everything else is the caller's. */
typedef lemoe_status (*lemoe_planner_fn)(const lemoe_plan_args *args, const double *gram, lemoe_plan *plan);

lemoe_status lemoe_order_file(const lemoe_plan_args *args, const double *gram, lemoe_plan *plan);
lemoe_status lemoe_order_random(const lemoe_plan_args *args, const double *gram, lemoe_plan *plan);
lemoe_status lemoe_order_kmeans(const lemoe_plan_args *args, const double *gram, lemoe_plan *plan);
lemoe_status lemoe_order_hierarchical(const lemoe_plan_args *args, const double *gram, lemoe_plan *plan);
lemoe_status lemoe_order_round_robin(const lemoe_plan_args *args, const double *gram, lemoe_plan *plan);

/* Local. Fills plan->similarity from plan->edit and plan->batch. */
lemoe_status lemoe_plan_similarity(const lemoe_plan_space *space, lemoe_plan *plan) LEMOE_MUST_CHECK;

/* A partition into as many clusters as there are batches, sizes free. */
typedef struct lemoe_clusters {
    const double *gram;     /* [n, n] */
    const double *distance; /* [n, k] squared distance of each point to each centre; infinite where there is none */
    const int64_t *label;   /* [n] */
    int64_t n, k;
} lemoe_clusters;

/* Local. Squared distances [n, k] of points to the means of labelled clusters, infinite where a cluster has no point;
 * size[k], inner[k]: scratch, afterwards points and sum of products within each cluster. */
void lemoe_plan_measure(const double *gram, int64_t n, int64_t k, const int64_t *label, int64_t *size, double *inner,
                        double *distance);
/* Local. k-means of rows, the best of args->restarts: label[n] and distance[n, k], the caller's. */
lemoe_status lemoe_plan_kmeans(const lemoe_plan_args *args, const double *gram, int64_t n, int64_t k, int64_t *label,
                               double *distance) LEMOE_MUST_CHECK;

/* Local. Balances clusters to the batch size, chains them, and fills plan->edit and plan->cluster. */
lemoe_status lemoe_plan_from_clusters(const lemoe_clusters *clusters, int64_t batch_size,
                                      lemoe_plan *plan) LEMOE_MUST_CHECK;

#endif

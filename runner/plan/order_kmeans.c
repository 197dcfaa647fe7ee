/*
 * k-means (Lloyd 1982) from k-means++ starts (Arthur and Vassilvitskii 2007), one cluster a batch.
 * An iteration costs n^2 additions, whatever the width of the features and the number of clusters (plan_clusters.c).
 */
#include "kernels/base/mem.h"
#include "kernels/base/rng.h"
#include "runner/plan/order_planner.h"

#include <math.h>
#include <string.h>

static const double tolerance = 1e-4; /* relative decrease of inertia below which iterating ends */
enum { MAX_ITERATIONS = 100 };

typedef struct kmeans {
    const double *gram; /* [n, n] */
    int64_t n, k;
    double *distance; /* [n, k] */
    double *inner;    /* [k] sum of products within a cluster */
    int64_t *size;    /* [k] */
    int64_t *label;   /* [n] */
    double *nearest;  /* [n] squared distance to the own centre */
    double inertia;
} kmeans;

static void destroy(kmeans *s) {
    lemoe_mem_free(s->distance);
    lemoe_mem_free(s->inner);
    lemoe_mem_free(s->size);
    lemoe_mem_free(s->label);
    lemoe_mem_free(s->nearest);
}

static lemoe_status create(const double *gram, int64_t n, int64_t k, kmeans *s) {
    *s = (kmeans){.gram = gram, .n = n, .k = k, .inertia = INFINITY};
    LEMOE_TRY(lemoe_mem_alloc(n, (size_t)k * sizeof *s->distance, &s->distance));
    LEMOE_TRY(lemoe_mem_alloc(k, sizeof *s->inner, &s->inner));
    LEMOE_TRY(lemoe_mem_alloc(k, sizeof *s->size, &s->size));
    LEMOE_TRY(lemoe_mem_alloc(n, sizeof *s->label, &s->label));
    return lemoe_mem_alloc(n, sizeof *s->nearest, &s->nearest);
}

/* Each point to its nearest centre, the first of equals. */
static void assign(kmeans *s) {
    s->inertia = 0;
    for (int64_t i = 0; i < s->n; i++) {
        const double *distance = s->distance + i * s->k;
        int64_t best = 0;
        for (int64_t c = 1; c < s->k; c++)
            if (distance[c] < distance[best]) best = c;
        s->label[i] = best;
        s->nearest[i] = distance[best];
        s->inertia += distance[best];
    }
}

/* The point at which the running sum of weights passes u times the whole; any point where all weights are 0. */
static int64_t pick(const double *weight, int64_t n, double u) {
    double total = 0, sum = 0;
    for (int64_t i = 0; i < n; i++) total += weight[i];
    if (total <= 0) return (int64_t)(u * (double)n);
    int64_t last = 0;
    for (int64_t i = 0; i < n; i++) {
        if (weight[i] <= 0) continue;
        sum += weight[i];
        last = i;
        if (sum > u * total) break;
    }
    return last;
}

/* Centres that are points, each drawn in proportion to the squared distance to those before it. */
static void start(kmeans *s, lemoe_rng rng) {
    for (int64_t i = 0; i < s->n; i++) s->nearest[i] = 1;
    for (int64_t c = 0; c < s->k; c++) {
        int64_t p = pick(s->nearest, s->n, lemoe_rng_uniform(rng, (uint64_t)c));
        for (int64_t i = 0; i < s->n; i++) {
            double squared = s->gram[i * s->n + i] - 2 * s->gram[i * s->n + p] + s->gram[p * s->n + p];
            double x = s->distance[i * s->k + c] = i == p ? 0 : fmax(squared, 0);
            s->nearest[i] = c == 0 ? x : fmin(x, s->nearest[i]);
        }
    }
    assign(s);
}

static void lloyd(kmeans *s, lemoe_rng rng) {
    start(s, rng);
    for (int iteration = 0; iteration < MAX_ITERATIONS; iteration++) {
        double before = s->inertia;
        lemoe_plan_measure(s->gram, s->n, s->k, s->label, s->size, s->inner, s->distance);
        assign(s);
        if (before - s->inertia <= tolerance * before) break;
    }
}

static void best_of(const lemoe_plan_args *args, kmeans *best, kmeans *trial) {
    for (int64_t restart = 0; restart < args->restarts; restart++) {
        lloyd(trial, lemoe_rng_make(args->seed, LEMOE_RNG_ORDER, (uint32_t)restart));
        if (restart == 0 || trial->inertia < best->inertia) {
            kmeans swap = *best;
            *best = *trial;
            *trial = swap;
        }
    }
}

lemoe_status lemoe_plan_kmeans(const lemoe_plan_args *args, const double *gram, int64_t n, int64_t k, int64_t *label,
                               double *distance) {
    lemoe_status status = LEMOE_OK;
    kmeans best = {0}, trial = {0};
    LEMOE_CHECK(args->restarts > 0, LEMOE_ERR_ARG, "k-means with %lld restarts", (long long)args->restarts);
    LEMOE_TRY_GOTO(create(gram, n, k, &best));
    LEMOE_TRY_GOTO(create(gram, n, k, &trial));
    best_of(args, &best, &trial);
    memcpy(label, best.label, (size_t)n * sizeof *label);
    memcpy(distance, best.distance, (size_t)(n * k) * sizeof *distance);
out:
    destroy(&best);
    destroy(&trial);
    return status;
}

lemoe_status lemoe_order_kmeans(const lemoe_plan_args *args, const double *gram, lemoe_plan *plan) {
    lemoe_status status = LEMOE_OK;
    int64_t n = plan->n_edit, k = plan->n_batch, *label = NULL;
    double *distance = NULL;
    LEMOE_TRY_GOTO(lemoe_mem_alloc(n, sizeof *label, &label));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(n, (size_t)k * sizeof *distance, &distance));
    LEMOE_TRY_GOTO(lemoe_plan_kmeans(args, gram, n, k, label, distance));
    lemoe_clusters clusters = {.gram = gram, .distance = distance, .label = label, .n = n, .k = k};
    LEMOE_TRY_GOTO(lemoe_plan_from_clusters(&clusters, args->batch_size, plan));
out:
    lemoe_mem_free(label);
    lemoe_mem_free(distance);
    return status;
}

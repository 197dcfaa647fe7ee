/*
 * Average-linkage agglomerative clustering on cosine distance, cut at one cluster a batch (docs/method.md 3.2). Merges
 * are found by chains of nearest neighbours (Murtagh 1983), which gives the same tree as always merging the closest
 * pair: average linkage never brings a merged cluster closer to a third than its parts were. n^2 time and memory.
 */
#include "kernels/base/mem.h"
#include "runner/plan/order_planner.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct merge {
    double height;
    int64_t a, b; /* a < b: any point of each of the two clusters */
} merge;

typedef struct tree {
    int64_t n, n_merge;
    double *apart; /* [n, n] distance between clusters, each named by one of its points */
    int64_t *size; /* [n] points of the cluster; 0: merged into another */
    int64_t *chain;
    int64_t *label; /* [n] */
    merge *merges;  /* [n - 1] */
} tree;

static void destroy(tree *t) {
    lemoe_mem_free(t->apart);
    lemoe_mem_free(t->size);
    lemoe_mem_free(t->chain);
    lemoe_mem_free(t->label);
    lemoe_mem_free(t->merges);
}

static lemoe_status create(const double *gram, int64_t n, tree *t) {
    t->n = n;
    LEMOE_TRY(lemoe_mem_alloc(n, (size_t)n * sizeof *t->apart, &t->apart));
    LEMOE_TRY(lemoe_mem_alloc(n, sizeof *t->size, &t->size));
    LEMOE_TRY(lemoe_mem_alloc(n, sizeof *t->chain, &t->chain));
    LEMOE_TRY(lemoe_mem_alloc(n, sizeof *t->label, &t->label));
    LEMOE_TRY(lemoe_mem_alloc(n, sizeof *t->merges, &t->merges));
    for (int64_t i = 0; i < n * n; i++) t->apart[i] = 1 - gram[i];
    for (int64_t i = 0; i < n; i++) t->size[i] = 1;
    return LEMOE_OK;
}

/* The nearest other cluster; among equals the one before it in the chain, so that chains end, then the first. */
static int64_t nearest(const tree *t, int64_t x, int64_t before) {
    int64_t best = before;
    for (int64_t y = 0; y < t->n; y++) {
        if (y == x || t->size[y] == 0) continue;
        if (best < 0 || t->apart[x * t->n + y] < t->apart[x * t->n + best]) best = y;
    }
    return best;
}

/* b goes into a; distances to the rest are means over points (Lance and Williams 1967). */
static void join(tree *t, int64_t a, int64_t b) {
    double n_a = (double)t->size[a], n_b = (double)t->size[b];
    t->merges[t->n_merge++] = (merge){t->apart[a * t->n + b], a < b ? a : b, a < b ? b : a};
    for (int64_t y = 0; y < t->n; y++) {
        if (y == a || y == b || t->size[y] == 0) continue;
        double mean = (n_a * t->apart[a * t->n + y] + n_b * t->apart[b * t->n + y]) / (n_a + n_b);
        t->apart[a * t->n + y] = t->apart[y * t->n + a] = mean;
    }
    t->size[a] += t->size[b];
    t->size[b] = 0;
}

static void grow(tree *t) {
    int64_t length = 0;
    while (t->n_merge < t->n - 1) {
        for (int64_t i = 0; length == 0; i++)
            if (t->size[i] > 0) t->chain[length++] = i;
        int64_t x = t->chain[length - 1], before = length > 1 ? t->chain[length - 2] : -1, y = nearest(t, x, before);
        if (y != before) {
            t->chain[length++] = y;
            continue;
        }
        length -= 2; /* each is the other's nearest */
        join(t, x < y ? x : y, x < y ? y : x);
    }
}

/* ---- the cut ---- */

static int by_height(const void *left, const void *right) {
    const merge *x = left, *y = right;
    if (x->height != y->height) return x->height < y->height ? -1 : 1;
    if (x->a != y->a) return x->a < y->a ? -1 : 1;
    return (x->b > y->b) - (x->b < y->b);
}

static int64_t root_of(int64_t *parent, int64_t i) {
    while (parent[i] != i) i = parent[i] = parent[parent[i]];
    return i;
}

/* The lowest n - k merges, then clusters numbered by their first point. */
static void cut(tree *t, int64_t k) {
    int64_t *parent = t->chain, n_label = 0;
    qsort(t->merges, (size_t)t->n_merge, sizeof *t->merges, by_height);
    for (int64_t i = 0; i < t->n; i++) parent[i] = i;
    for (int64_t m = 0; m < t->n - k; m++) {
        int64_t a = root_of(parent, t->merges[m].a), b = root_of(parent, t->merges[m].b);
        parent[a < b ? b : a] = a < b ? a : b;
    }
    for (int64_t i = 0; i < t->n; i++) { /* a root is the first point of its cluster */
        int64_t root = root_of(parent, i);
        t->label[i] = root == i ? n_label++ : t->label[root];
    }
}

lemoe_status lemoe_order_hierarchical(const lemoe_plan_args *args, const double *gram, lemoe_plan *plan) {
    lemoe_status status = LEMOE_OK;
    int64_t n = plan->n_edit, k = plan->n_batch;
    double *distance = NULL, *inner = NULL;
    tree t = {0};
    LEMOE_TRY_GOTO(create(gram, n, &t));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(n, (size_t)k * sizeof *distance, &distance));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(k, sizeof *inner, &inner));
    grow(&t);
    cut(&t, k);
    lemoe_plan_measure(gram, n, k, t.label, t.size, inner, distance);
    lemoe_clusters clusters = {.gram = gram, .distance = distance, .label = t.label, .n = n, .k = k};
    LEMOE_TRY_GOTO(lemoe_plan_from_clusters(&clusters, args->batch_size, plan));
out:
    destroy(&t);
    lemoe_mem_free(distance);
    lemoe_mem_free(inner);
    return status;
}

/*
 * From clusters of any size to batches of one size, and their order.
 *
 * Centres are never formed: the squared distance of x to the mean of a cluster C is, with the products G of rows,
 *     G(x,x) - 2/|C| sum_{j in C} G(x,j) + 1/|C|^2 sum_{i,j in C} G(i,j)
 */
#include "kernels/base/mem.h"
#include "runner/plan/order_planner.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* A cluster that lost all its points (which takes points that coincide) has no mean and stays empty; balancing fills
 * it. */
void lemoe_plan_measure(const double *gram, int64_t n, int64_t k, const int64_t *label, int64_t *size, double *inner,
                        double *distance) {
    memset(size, 0, (size_t)k * sizeof *size);
    memset(inner, 0, (size_t)k * sizeof *inner);
    for (int64_t i = 0; i < n; i++) {
        double *sum = distance + i * k;
        memset(sum, 0, (size_t)k * sizeof *sum);
        for (int64_t j = 0; j < n; j++) sum[label[j]] += gram[i * n + j];
        inner[label[i]] += sum[label[i]];
        size[label[i]]++;
    }
    for (int64_t i = 0; i < n; i++)
        for (int64_t c = 0; c < k; c++) {
            double *x = &distance[i * k + c], points = (double)size[c];
            *x = points > 0 ? fmax(gram[i * n + i] - 2 * *x / points + inner[c] / (points * points), 0) : INFINITY;
        }
}

typedef struct pair {
    double distance;
    int64_t point, cluster;
} pair;

typedef struct balance {
    int64_t *size;  /* [k] before */
    int64_t *room;  /* [k] places left */
    int64_t *batch; /* [n] the cluster that takes the point, -1 while none does */
    pair *pairs;    /* [n, k] */
    double *block;  /* [k, k] sums of products between what two clusters took */
    int64_t *chain; /* [k] clusters in the order of editing */
    int64_t *place; /* [k] where in the chain */
    int64_t last;   /* the cluster that becomes the shorter last batch, -1 where all are full */
} balance;

static void destroy(balance *b) {
    lemoe_mem_free(b->size);
    lemoe_mem_free(b->room);
    lemoe_mem_free(b->batch);
    lemoe_mem_free(b->pairs);
    lemoe_mem_free(b->block);
    lemoe_mem_free(b->chain);
    lemoe_mem_free(b->place);
}

static lemoe_status create(int64_t n, int64_t k, balance *b) {
    *b = (balance){.last = -1};
    LEMOE_TRY(lemoe_mem_alloc(k, sizeof *b->size, &b->size));
    LEMOE_TRY(lemoe_mem_alloc(k, sizeof *b->room, &b->room));
    LEMOE_TRY(lemoe_mem_alloc(n, sizeof *b->batch, &b->batch));
    LEMOE_TRY(lemoe_mem_alloc(n, (size_t)k * sizeof *b->pairs, &b->pairs));
    LEMOE_TRY(lemoe_mem_alloc(k, (size_t)k * sizeof *b->block, &b->block));
    LEMOE_TRY(lemoe_mem_alloc(k, sizeof *b->chain, &b->chain));
    return lemoe_mem_alloc(k, sizeof *b->place, &b->place);
}

/* Nearest first; equals by index, so that the order never depends on the sorting routine. */
static int compare(const void *left, const void *right) {
    const pair *a = left, *b = right;
    if (a->distance != b->distance) return a->distance < b->distance ? -1 : 1;
    if (a->point != b->point) return a->point < b->point ? -1 : 1;
    return (a->cluster > b->cluster) - (a->cluster < b->cluster);
}

/* Room for exactly n points, so that every batch but the last is full: what is missing comes off the smallest cluster.
 */
static void make_room(const lemoe_clusters *c, int64_t batch_size, balance *b) {
    for (int64_t i = 0; i < c->n; i++) b->size[c->label[i]]++;
    for (int64_t j = 0; j < c->k; j++) b->room[j] = batch_size;
    int64_t missing = c->k * batch_size - c->n, smallest = 0;
    if (missing == 0) return;
    for (int64_t j = 1; j < c->k; j++)
        if (b->size[j] <= b->size[smallest]) smallest = j;
    b->room[smallest] -= missing;
    b->last = smallest;
}

/* Points take places by increasing distance; a full cluster is closed. */
static void take_places(const lemoe_clusters *c, balance *b) {
    for (int64_t i = 0; i < c->n; i++) {
        b->batch[i] = -1;
        for (int64_t j = 0; j < c->k; j++)
            b->pairs[i * c->k + j] = (pair){.distance = c->distance[i * c->k + j], .point = i, .cluster = j};
    }
    qsort(b->pairs, (size_t)(c->n * c->k), sizeof *b->pairs, compare);
    for (int64_t p = 0; p < c->n * c->k; p++) {
        const pair *next = &b->pairs[p];
        if (b->batch[next->point] >= 0 || b->room[next->cluster] == 0) continue;
        b->batch[next->point] = next->cluster;
        b->room[next->cluster]--;
    }
}

/* Squared distance between the means of what two clusters took. */
static double apart(const balance *b, const int64_t *taken, int64_t k, int64_t x, int64_t y) {
    double n_x = (double)taken[x], n_y = (double)taken[y];
    return b->block[x * k + x] / (n_x * n_x) - 2 * b->block[x * k + y] / (n_x * n_y) +
           b->block[y * k + y] / (n_y * n_y);
}

/* From the largest cluster on, always to the nearest that is left; the shorter batch has to be the last. */
static void make_chain(const lemoe_clusters *c, int64_t batch_size, balance *b) {
    int64_t k = c->k, *taken = b->room; /* from here on: how many each cluster took */
    for (int64_t j = 0; j < k; j++) taken[j] = j == b->last ? c->n - (k - 1) * batch_size : batch_size;
    for (int64_t i = 0; i < c->n; i++)
        for (int64_t j = 0; j < c->n; j++) b->block[b->batch[i] * k + b->batch[j]] += c->gram[i * c->n + j];
    for (int64_t j = 0; j < k; j++) b->place[j] = -1;
    for (int64_t step = 0; step < k; step++) {
        int64_t best = -1;
        double best_score = INFINITY;
        for (int64_t j = 0; j < k; j++) {
            if (b->place[j] >= 0 || (j == b->last && step < k - 1)) continue;
            double score = step == 0 ? -(double)b->size[j] : apart(b, taken, k, b->chain[step - 1], j);
            if (best >= 0 && score >= best_score) continue;
            best = j;
            best_score = score;
        }
        b->chain[step] = best;
        b->place[best] = step;
    }
}

/* Within a batch, dataset order. */
static void write_plan(const lemoe_clusters *c, int64_t batch_size, balance *b, lemoe_plan *plan) {
    int64_t *filled = b->room;
    for (int64_t j = 0; j < c->k; j++) filled[j] = 0;
    for (int64_t i = 0; i < c->n; i++) {
        int64_t at = b->place[b->batch[i]] * batch_size + filled[b->batch[i]]++;
        plan->edit[at] = i;
        plan->cluster[at] = b->place[c->label[i]];
    }
}

lemoe_status lemoe_plan_from_clusters(const lemoe_clusters *clusters, int64_t batch_size, lemoe_plan *plan) {
    lemoe_status status = LEMOE_OK;
    balance b = {0};
    LEMOE_TRY_GOTO(create(clusters->n, clusters->k, &b));
    make_room(clusters, batch_size, &b);
    take_places(clusters, &b);
    make_chain(clusters, batch_size, &b);
    write_plan(clusters, batch_size, &b, plan);
out:
    destroy(&b);
    return status;
}

/*
 * The adversary of clustering: k-means clusters dealt out over all batches like cards, so that every batch holds some
 * of each. What an order costs shows between this and kmeans.
 */
#include "kernels/base/mem.h"
#include "runner/plan/order_planner.h"

/* Edits cluster by cluster, in dataset order within each. */
static void sort_by_cluster(const int64_t *label, int64_t n, int64_t k, int64_t *out) {
    int64_t at = 0;
    for (int64_t c = 0; c < k; c++)
        for (int64_t i = 0; i < n; i++)
            if (label[i] == c) out[at++] = i;
}

/* Card p goes to the next batch with a free place; only the last batch may have fewer. */
static void deal(const int64_t *cards, const int64_t *label, int64_t batch_size, int64_t *filled, lemoe_plan *plan) {
    int64_t n = plan->n_edit, k = plan->n_batch, b = 0;
    for (int64_t p = 0; p < n; p++, b = (b + 1) % k) {
        while (filled[b] == batch_size || b * batch_size + filled[b] >= n) b = (b + 1) % k;
        int64_t at = b * batch_size + filled[b]++;
        plan->edit[at] = cards[p];
        plan->cluster[at] = label[cards[p]];
    }
}

lemoe_status lemoe_order_round_robin(const lemoe_plan_args *args, const double *gram, lemoe_plan *plan) {
    lemoe_status status = LEMOE_OK;
    int64_t n = plan->n_edit, k = plan->n_batch, *label = NULL, *cards = NULL, *filled = NULL;
    double *distance = NULL;
    LEMOE_TRY_GOTO(lemoe_mem_alloc(n, sizeof *label, &label));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(n, sizeof *cards, &cards));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(k, sizeof *filled, &filled));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(n, (size_t)k * sizeof *distance, &distance));
    LEMOE_TRY_GOTO(lemoe_plan_kmeans(args, gram, n, k, label, distance));
    sort_by_cluster(label, n, k, cards);
    deal(cards, label, args->batch_size, filled, plan);
out:
    lemoe_mem_free(label);
    lemoe_mem_free(cards);
    lemoe_mem_free(filled);
    lemoe_mem_free(distance);
    return status;
}

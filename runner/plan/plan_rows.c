/* Arithmetic on feature rows, in double. Plain loops: it runs once a run, and bits must not depend on a library. */
#include "kernels/base/mem.h"
#include "runner/plan/order_planner.h"

#include <math.h>

enum { LANES = 8, TILE = 16 };

/* Independent partial sums, so that the compiler may use vectors without reordering anything. */
static double dot(const double *a, const double *b, int64_t d) {
    double lane[LANES] = {0}, sum = 0;
    int64_t i = 0;
    for (; i + LANES <= d; i += LANES)
        for (int u = 0; u < LANES; u++) lane[u] += a[i + u] * b[i + u];
    for (; i < d; i++) sum += a[i] * b[i];
    for (int u = 0; u < LANES; u++) sum += lane[u];
    return sum;
}

static lemoe_status normalise(const float *features, lemoe_plan_space *space) {
    int64_t n = space->n, d = space->d;
    LEMOE_TRY(lemoe_mem_alloc(n, (size_t)d * sizeof *space->unit, &space->unit));
    for (int64_t i = 0; i < n; i++) {
        double *row = space->unit + i * d;
        for (int64_t j = 0; j < d; j++) row[j] = features[i * d + j];
        double length = sqrt(dot(row, row, d));
        LEMOE_CHECK(isfinite(length), LEMOE_ERR_NUMERIC, "the planning features of edit %lld are not finite",
                    (long long)i);
        for (int64_t j = 0; j < d && length > 0; j++) row[j] /= length;
    }
    return LEMOE_OK;
}

lemoe_status lemoe_plan_space_create(const float *features, int64_t n_edit, int64_t d, lemoe_plan_space **out) {
    *out = NULL;
    LEMOE_CHECK(n_edit > 0 && d > 0, LEMOE_ERR_ARG, "planning features of %lld edits, width %lld", (long long)n_edit,
                (long long)d);
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof **out, out));
    (*out)->n = n_edit;
    (*out)->d = d;
    return normalise(features, *out);
}

void lemoe_plan_space_destroy(lemoe_plan_space *space) {
    if (!space) return;
    lemoe_mem_free(space->unit);
    lemoe_mem_free(space->gram);
    lemoe_mem_free(space);
}

/* Tiles keep the rows of both sides in the second-level cache. */
lemoe_status lemoe_plan_space_advance(lemoe_plan_space *space, int64_t n_product, bool *is_complete) {
    int64_t n = space->n, d = space->d;
    if (!space->gram) LEMOE_TRY(lemoe_mem_alloc(n, (size_t)n * sizeof *space->gram, &space->gram));
    for (int64_t left = n_product; left > 0 && space->next_row < n; left -= TILE) {
        int64_t from = space->next_row, j = space->next_column++;
        for (int64_t i = from; i < from + TILE && i <= j; i++)
            space->gram[i * n + j] = space->gram[j * n + i] = dot(space->unit + i * d, space->unit + j * d, d);
        if (space->next_column < n) continue;
        space->next_row = space->next_column = from + TILE; /* what is before has been filled from the other side */
    }
    *is_complete = space->next_row >= n;
    return LEMOE_OK;
}

/* Means over all pairs of two batches need no pairs: they are products of the batches' sums. */
static void fill(const double *sum, const double *own, const int64_t *size, int64_t d, lemoe_plan *plan) {
    int64_t k = plan->n_batch;
    for (int64_t b = 0; b < k; b++) {
        double pairs = (double)size[b] * (double)(size[b] - 1);
        plan->similarity[b * k + b] = pairs > 0 ? (dot(sum + b * d, sum + b * d, d) - own[b]) / pairs : NAN;
        for (int64_t c = 0; c < b; c++) {
            double mean = dot(sum + b * d, sum + c * d, d) / ((double)size[b] * (double)size[c]);
            plan->similarity[b * k + c] = plan->similarity[c * k + b] = mean;
        }
    }
}

lemoe_status lemoe_plan_similarity(const lemoe_plan_space *space, lemoe_plan *plan) {
    lemoe_status status = LEMOE_OK;
    int64_t k = plan->n_batch, d = space->d, *size = NULL;
    double *sum = NULL, *own = NULL; /* own: products of rows with themselves, which are not pairs */
    LEMOE_TRY_GOTO(lemoe_mem_alloc(k, (size_t)d * sizeof *sum, &sum));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(k, sizeof *own, &own));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(k, sizeof *size, &size));
    for (int64_t i = 0; i < plan->n_edit; i++) {
        const double *row = space->unit + plan->edit[i] * d;
        int64_t b = plan->batch[i];
        size[b]++;
        own[b] += dot(row, row, d);
        for (int64_t j = 0; j < d; j++) sum[b * d + j] += row[j];
    }
    fill(sum, own, size, d, plan);
out:
    lemoe_mem_free(sum);
    lemoe_mem_free(own);
    lemoe_mem_free(size);
    return status;
}

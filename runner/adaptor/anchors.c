#include "runner/adaptor/anchors.h"

#include "kernels/base/mem.h"
#include "kernels/ops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

lemoe_status lemoe_anchors_create(lemoe_arena *arena, int64_t capacity, int64_t d, lemoe_anchors *out) {
    *out = (lemoe_anchors){.device = lemoe_arena_device(arena),
                           .d = d,
                           .capacity = capacity,
                           .threshold = NAN,
                           .impostor_level = NAN,
                           .genuine_level = NAN};
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, capacity, d, &out->rows));
    LEMOE_TRY(lemoe_mem_alloc(capacity, sizeof *out->expert, &out->expert));
    return lemoe_mem_alloc(capacity, sizeof *out->impostor, &out->impostor);
}

void lemoe_anchors_destroy(lemoe_anchors *a) {
    lemoe_mem_free(a->expert);
    lemoe_mem_free(a->impostor);
    lemoe_mem_free(a->genuine);
    *a = (lemoe_anchors){0};
}

/* Features of length 1, owned by the caller. */
static lemoe_status unit_rows(const float *features, int64_t n, int64_t d, float **out) {
    LEMOE_TRY(lemoe_mem_alloc(n * d, sizeof **out, out));
    memcpy(*out, features, (size_t)(n * d) * sizeof **out);
    lemoe_units_scale_rows(*out, n, d, 1.0);
    return LEMOE_OK;
}

/* cosine[n, a->n] of host features of length 1 to all anchors, in host memory owned by the caller. */
static lemoe_status cosines(const lemoe_anchors *a, const float *features, int64_t n, lemoe_arena *scratch,
                            float **out) {
    size_t mark = lemoe_arena_mark(scratch);
    lemoe_tensor x, c, rows = lemoe_tensor_rows(a->rows, 0, a->n);
    lemoe_status status = LEMOE_OK;
    LEMOE_TRY(lemoe_mem_alloc(n * a->n, sizeof **out, out));
    LEMOE_TRY_GOTO(lemoe_arena_matrix(scratch, LEMOE_F32, n, a->d, &x));
    LEMOE_TRY_GOTO(lemoe_arena_matrix(scratch, LEMOE_F32, n, a->n, &c));
    LEMOE_TRY_GOTO(lemoe_device_upload(a->device, x.data, features, lemoe_tensor_bytes(&x)));
    LEMOE_TRY_GOTO(lemoe_op_exact_linear(a->device, x, rows, c, false));
    LEMOE_TRY_GOTO(lemoe_device_download(a->device, *out, c.data, lemoe_tensor_bytes(&c)));
out:
    lemoe_arena_reset(scratch, mark);
    if (status != LEMOE_OK) lemoe_mem_free(*out);
    return status;
}

/* New anchors are impostors to the old ones and to each other, where their features differ. */
static void update_impostors(lemoe_anchors *a, const float *cosine, int64_t first, int64_t n) {
    for (int64_t i = first; i < a->n; i++) a->impostor[i] = -1.0;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < a->n; j++) {
            double c = cosine[i * a->n + j];
            if (j == first + i || c >= 1.0 - LEMOE_ANCHOR_TIE) continue;
            if (c > a->impostor[first + i]) a->impostor[first + i] = c;
            if (j < first && c > a->impostor[j]) a->impostor[j] = c;
        }
}

static lemoe_status add_unit_rows(lemoe_anchors *a, const float *features, int64_t n, int64_t expert,
                                  lemoe_arena *scratch) {
    int64_t first = a->n;
    lemoe_tensor rows = lemoe_tensor_rows(a->rows, first, n);
    LEMOE_TRY(lemoe_device_upload(a->device, rows.data, features, lemoe_tensor_bytes(&rows)));
    for (int64_t i = 0; i < n; i++) a->expert[first + i] = expert;
    a->n += n;
    float *cosine = NULL;
    LEMOE_TRY(cosines(a, features, n, scratch, &cosine));
    update_impostors(a, cosine, first, n);
    lemoe_mem_free(cosine);
    return LEMOE_OK;
}

lemoe_status lemoe_anchors_add(lemoe_anchors *a, const float *features, int64_t n, int64_t expert,
                               lemoe_arena *scratch) {
    float *rows = NULL;
    LEMOE_CHECK(a->n + n <= a->capacity, LEMOE_ERR_STATE, "more than %lld anchors", (long long)a->capacity);
    LEMOE_TRY(unit_rows(features, n, a->d, &rows));
    lemoe_status status = add_unit_rows(a, rows, n, expert, scratch);
    lemoe_mem_free(rows);
    return status;
}

lemoe_status lemoe_anchors_add_genuine(lemoe_anchors *a, const float *features, const int64_t *anchor, int64_t n) {
    float *row = NULL, *rows = NULL;
    lemoe_status status = LEMOE_OK;
    LEMOE_TRY_GOTO(unit_rows(features, n, a->d, &rows));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(a->d, sizeof *row, &row));
    LEMOE_TRY_GOTO(lemoe_mem_grow(&a->genuine, &a->genuine_capacity, a->n_genuine + n, sizeof *a->genuine));
    for (int64_t i = 0; i < n; i++) {
        lemoe_tensor stored = lemoe_tensor_rows(a->rows, anchor[i], 1);
        double dot = 0;
        LEMOE_TRY_GOTO(lemoe_device_download(a->device, row, stored.data, lemoe_tensor_bytes(&stored)));
        for (int64_t c = 0; c < a->d; c++) dot += (double)row[c] * (double)rows[i * a->d + c];
        a->genuine[a->n_genuine++] = dot;
    }
out:
    lemoe_mem_free(row);
    lemoe_mem_free(rows);
    return status;
}

static lemoe_nearest nearest_in(const lemoe_anchors *a, const float *cosine) {
    lemoe_nearest best = {-1, -1.0, -1.0};
    for (int64_t j = 0; j < a->n; j++)
        if (cosine[j] > best.cosine) best.cosine = cosine[j];
    for (int64_t j = 0; j < a->n; j++)
        if (cosine[j] >= best.cosine - LEMOE_ANCHOR_TIE) best.expert = a->expert[j];
    for (int64_t j = 0; j < a->n; j++)
        if (a->expert[j] != best.expert && cosine[j] > best.other_cosine) best.other_cosine = cosine[j];
    return best;
}

lemoe_status lemoe_anchors_nearest(const lemoe_anchors *a, const float *features, int64_t n, lemoe_arena *scratch,
                                   lemoe_nearest *out) {
    lemoe_status status = LEMOE_OK;
    float *cosine = NULL, *rows = NULL;
    for (int64_t i = 0; i < n; i++) out[i] = (lemoe_nearest){-1, -1.0, -1.0};
    if (a->n == 0) return LEMOE_OK;
    LEMOE_TRY_GOTO(unit_rows(features, n, a->d, &rows));
    LEMOE_TRY_GOTO(cosines(a, rows, n, scratch, &cosine));
    for (int64_t i = 0; i < n; i++) out[i] = nearest_in(a, cosine + i * a->n);
out:
    lemoe_mem_free(rows);
    lemoe_mem_free(cosine);
    return status;
}

static int by_value(const void *x, const void *y) {
    double a = *(const double *)x, b = *(const double *)y;
    return a < b ? -1 : a > b;
}

double lemoe_quantile(double *values, int64_t n, double q) {
    if (n == 0) return NAN;
    qsort(values, (size_t)n, sizeof *values, by_value);
    double place = q * (double)(n - 1);
    int64_t low = (int64_t)place, high = low + 1 < n ? low + 1 : low;
    return values[low] + (place - (double)low) * (values[high] - values[low]);
}

/* The quantile of a copy: sorting is not the owner's business. */
static lemoe_status quantile_of(const double *values, int64_t n, double q, double *out) {
    double *sorted = NULL;
    LEMOE_TRY(lemoe_mem_alloc(n, sizeof *sorted, &sorted));
    memcpy(sorted, values, (size_t)n * sizeof *sorted);
    *out = lemoe_quantile(sorted, n, q);
    lemoe_mem_free(sorted);
    return LEMOE_OK;
}

lemoe_status lemoe_anchors_set_threshold(lemoe_anchors *a, lemoe_null_rule rule, double quantile) {
    double impostor = 0.0, genuine = 1.0;
    bool has_impostor = false;
    for (int64_t i = 0; i < a->n; i++) has_impostor |= a->impostor[i] > -1.0;
    if (has_impostor) LEMOE_TRY(quantile_of(a->impostor, a->n, quantile, &impostor));
    if (rule == LEMOE_NULL_RULE_TWO_SIDED && a->n_genuine > 0)
        LEMOE_TRY(quantile_of(a->genuine, a->n_genuine, 0.5, &genuine));
    a->threshold = rule == LEMOE_NULL_RULE_QUANTILE ? impostor : 0.5 * (impostor + genuine);
    a->impostor_level = has_impostor ? impostor : NAN;
    a->genuine_level = rule == LEMOE_NULL_RULE_TWO_SIDED && a->n_genuine > 0 ? genuine : NAN;
    return LEMOE_OK;
}

lemoe_status lemoe_anchors_visit(lemoe_anchors *a, lemoe_state *state) {
    LEMOE_TRY(lemoe_state_count(state, "anchors", &a->n, a->capacity));
    LEMOE_TRY(lemoe_state_tensor(state, a->device, "anchors.rows", lemoe_tensor_rows(a->rows, 0, a->n)));
    LEMOE_TRY(lemoe_state_bytes(state, "anchors.expert", a->expert, a->n * (int64_t)sizeof *a->expert));
    LEMOE_TRY(lemoe_state_bytes(state, "anchors.impostor", a->impostor, a->n * (int64_t)sizeof *a->impostor));
    LEMOE_TRY(lemoe_state_count(state, "genuine", &a->n_genuine, INT64_MAX));
    LEMOE_TRY(lemoe_mem_grow(&a->genuine, &a->genuine_capacity, a->n_genuine, sizeof *a->genuine));
    LEMOE_TRY(lemoe_state_bytes(state, "genuine.cosines", a->genuine, a->n_genuine * (int64_t)sizeof *a->genuine));
    return lemoe_state_f64(state, "threshold", &a->threshold);
}

#include "runner/adaptor/features.h"

#include "kernels/base/mem.h"

#include <math.h>
#include <string.h>

lemoe_status lemoe_features_of_rows(const lemoe_feature_args *args, const float *rows, int64_t n, float *out) {
    lemoe_device *device = lemoe_llama_device(args->model);
    int64_t d = lemoe_llama_config_of(args->model)->d_model;
    size_t mark = lemoe_arena_mark(args->arena), n_bytes = (size_t)(n * d) * sizeof *out;
    lemoe_tensor x, y;
    lemoe_status status = LEMOE_OK;
    LEMOE_TRY_GOTO(lemoe_arena_matrix(args->arena, LEMOE_F32, n, d, &x));
    LEMOE_TRY_GOTO(lemoe_arena_matrix(args->arena, LEMOE_F32, n, d, &y));
    LEMOE_TRY_GOTO(lemoe_device_upload(device, x.data, rows, n_bytes));
    LEMOE_TRY_GOTO(lemoe_llama_ffn_input(args->model, args->layer, x, args->arena, y));
    LEMOE_TRY_GOTO(lemoe_device_download(device, out, y.data, n_bytes));
out:
    lemoe_arena_reset(args->arena, mark);
    return status;
}

lemoe_status lemoe_features_of(const lemoe_feature_args *args, const lemoe_item *items, int64_t n_items, float *out) {
    int64_t d = lemoe_llama_config_of(args->model)->d_model;
    bool hidden = args->kind == LEMOE_FEATURES_LAST_HIDDEN, entity = args->granularity == LEMOE_GRANULARITY_ENTITY;
    for (int64_t i = 0; i < n_items; i++) {
        const lemoe_item *item = &items[i];
        const float *from = hidden   ? item->cut_rows + (item->n_prompt - 1) * d
                            : entity ? item->entity_mean
                                     : item->embedding_mean;
        memcpy(out + i * d, from, (size_t)d * sizeof *out);
    }
    return hidden ? lemoe_features_of_rows(args, out, n_items, out) : LEMOE_OK;
}

void lemoe_features_normalise(float *rows, int64_t n, int64_t d) {
    for (int64_t i = 0; i < n; i++) {
        float *row = rows + i * d;
        double sum = 0;
        for (int64_t c = 0; c < d; c++) sum += (double)row[c] * (double)row[c];
        double scale = sum > 0 ? 1.0 / sqrt(sum) : 0.0;
        for (int64_t c = 0; c < d; c++) row[c] = (float)((double)row[c] * scale);
    }
}

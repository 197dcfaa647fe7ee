#include "runner/adaptor/units.h"

#include "kernels/base/mem.h"

#include <math.h>
#include <string.h>

lemoe_status lemoe_units_features_of_rows(const lemoe_unit_args *args, const float *rows, int64_t n, float *out) {
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

void lemoe_units_scale_rows(float *rows, int64_t n, int64_t d, double length) {
    for (int64_t i = 0; i < n; i++) {
        float *row = rows + i * d;
        double sum = 0;
        for (int64_t c = 0; c < d; c++) sum += (double)row[c] * (double)row[c];
        double scale = sum > 0 ? length / sqrt(sum) : 0.0;
        for (int64_t c = 0; c < d; c++) row[c] = (float)((double)row[c] * scale);
    }
}

/* ---- one feature ---- */

static const float *sequence_feature(const lemoe_unit_args *args, const lemoe_item *item, int64_t d) {
    if (args->kind == LEMOE_FEATURES_LAST_HIDDEN) return item->cut_rows + (item->n_prompt - 1) * d;
    return args->granularity == LEMOE_GRANULARITY_ENTITY ? item->entity_mean : item->embedding_mean;
}

static void copy_features(const lemoe_unit_args *args, lemoe_units *units, float *e) {
    size_t n_bytes = (size_t)units->d * sizeof *e;
    int64_t u = 0;
    for (int64_t i = 0; i < units->n_items; i++) {
        const lemoe_item *item = &units->items[i];
        for (int64_t t = 0; units->per_token && t < item->n_tok; t++)
            memcpy(e + u++ * units->d, item->token_rows + (int64_t)item->token_index[t] * units->d, n_bytes);
        if (!units->per_token) memcpy(e + u++ * units->d, sequence_feature(args, item, units->d), n_bytes);
    }
}

static void number_items(const lemoe_units *units, int64_t *item_of) {
    int64_t u = 0;
    for (int64_t i = 0; i < units->n_items; i++)
        for (int64_t t = 0; t < (units->per_token ? units->items[i].n_tok : 1); t++) item_of[u++] = i;
}

lemoe_status lemoe_units_make(const lemoe_unit_args *args, const lemoe_item *items, int64_t n_items, lemoe_units *out) {
    float *e = NULL;
    int64_t *item_of = NULL;
    *out = (lemoe_units){.n = n_items,
                         .d = lemoe_llama_config_of(args->model)->d_model,
                         .items = items,
                         .n_items = n_items,
                         .per_token = args->granularity == LEMOE_GRANULARITY_TOKEN};
    if (out->per_token) {
        out->n = 0;
        for (int64_t i = 0; i < n_items; i++) out->n += items[i].n_tok;
    }
    LEMOE_TRY(lemoe_mem_alloc(out->n * out->d, sizeof *e, &e));
    out->e = out->storage[0] = e;
    LEMOE_TRY(lemoe_mem_alloc(out->n, sizeof *item_of, &item_of));
    out->item_of = out->storage[1] = item_of;
    number_items(out, item_of);
    copy_features(args, out, e);
    if (args->kind == LEMOE_FEATURES_LAST_HIDDEN) LEMOE_TRY(lemoe_units_features_of_rows(args, e, out->n, e));
    if (args->normalise) lemoe_units_scale_rows(e, out->n, out->d, sqrt((double)out->d));
    return LEMOE_OK;
}

void lemoe_units_free(lemoe_units *units) {
    lemoe_mem_free(units->storage[0]);
    lemoe_mem_free(units->storage[1]);
    *units = (lemoe_units){0};
}

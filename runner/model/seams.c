#include "runner/model/seams.h"

#include "kernels/base/mem.h"
#include "runner/model/llama_internal.h"

#include <xxhash.h>

/* ---- registering ---- */

static lemoe_status check_seam(const lemoe_llama *model, int64_t layer, int n) {
    LEMOE_CHECK(layer >= 0 && layer < model->config.n_layer, LEMOE_ERR_ARG,
                "layer %lld: the model has layers 0 to %lld", (long long)layer, (long long)model->config.n_layer - 1);
    LEMOE_CHECK(n < LLAMA_MAX_SEAM, LEMOE_ERR_UNSUPPORTED, "more than %d seams of one kind", LLAMA_MAX_SEAM);
    return LEMOE_OK;
}

lemoe_status lemoe_llama_add_bypass(lemoe_llama *model, const lemoe_bypass *bypass) {
    LEMOE_TRY(check_seam(model, bypass->layer, model->n_bypass));
    for (int i = 0; i < model->n_bypass; i++)
        LEMOE_CHECK(model->bypasses[i].layer != bypass->layer, LEMOE_ERR_STATE, "layer %lld has a bypass already",
                    (long long)bypass->layer);
    model->bypasses[model->n_bypass++] = *bypass;
    return LEMOE_OK;
}

lemoe_status lemoe_llama_add_tap(lemoe_llama *model, const lemoe_tap *tap) {
    LEMOE_TRY(check_seam(model, tap->layer, model->n_tap));
    model->taps[model->n_tap++] = *tap;
    return LEMOE_OK;
}

/* Weights that stand in the mapped file cannot change (the mapping is read-only), and nobody gets a pointer to the
 * others; so what has to be proved untouched are the shards that had a patch. */
static lemoe_status checksum(lemoe_llama *model, const lemoe_tensor *shard, uint64_t *out) {
    size_t n_bytes = lemoe_tensor_bytes(shard);
    void *host = NULL;
    LEMOE_TRY(lemoe_mem_alloc((int64_t)n_bytes, 1, &host));
    lemoe_status status = lemoe_device_download(model->device, host, shard->data, n_bytes);
    if (status == LEMOE_OK) *out = XXH3_64bits(host, n_bytes);
    lemoe_mem_free(host);
    return status;
}

lemoe_status lemoe_llama_patch_begin(lemoe_llama *model, int64_t layer, lemoe_matrix matrix, lemoe_tensor *w) {
    LEMOE_TRY(check_seam(model, layer, model->n_patch));
    const lemoe_tensor *shard = &model->layers[layer].matrix[matrix];
    llama_patch *patch = &model->patches[model->n_patch];
    *patch = (llama_patch){layer, matrix, *shard, 0};
    patch->w.dtype = LEMOE_F32;
    patch->w.data = NULL;
    LEMOE_TRY(checksum(model, shard, &patch->pristine_checksum));
    LEMOE_TRY(lemoe_device_alloc(model->device, lemoe_tensor_bytes(&patch->w), &patch->w.data));
    model->n_patch++;
    *w = patch->w;
    return lemoe_op_cast(model->device, *shard, patch->w);
}

void lemoe_llama_seams_set_active(lemoe_llama *model, bool active) { model->seams_active = active; }

lemoe_status lemoe_llama_seams_clear(lemoe_llama *model) {
    lemoe_status status = LEMOE_OK;
    for (int i = 0; i < model->n_patch; i++) {
        llama_patch *patch = &model->patches[i];
        uint64_t now = 0;
        lemoe_device_free(model->device, patch->w.data);
        if (status == LEMOE_OK) status = checksum(model, &model->layers[patch->layer].matrix[patch->matrix], &now);
        if (status == LEMOE_OK && now != patch->pristine_checksum)
            status = lemoe_raise(LEMOE_ERR_STATE, "layer %lld: a weight of the model itself has changed; this is a bug",
                                 (long long)patch->layer);
    }
    model->n_bypass = model->n_tap = model->n_patch = 0;
    model->seams_active = true;
    return status;
}

/* ---- asking ---- */

static int64_t block_of(int64_t layer, lemoe_matrix matrix) { return 2 * layer + (matrix >= LEMOE_MATRIX_GATE); }

int64_t lemoe_llama_cut(const lemoe_llama *model) {
    int64_t cut = 2 * model->config.n_layer;
    for (int i = 0; i < model->n_bypass; i++) {
        int64_t block = 2 * model->bypasses[i].layer + 1;
        if (block < cut) cut = block;
    }
    for (int i = 0; i < model->n_tap; i++) {
        int64_t block = block_of(model->taps[i].layer, model->taps[i].matrix);
        if (block < cut) cut = block;
    }
    for (int i = 0; i < model->n_patch; i++) {
        int64_t block = block_of(model->patches[i].layer, model->patches[i].matrix);
        if (block < cut) cut = block;
    }
    return cut;
}

lemoe_tensor lemoe_llama_matrix(const lemoe_llama *model, int64_t layer, lemoe_matrix matrix) {
    for (int i = 0; model->seams_active && i < model->n_patch; i++)
        if (model->patches[i].layer == layer && model->patches[i].matrix == matrix) return model->patches[i].w;
    return model->layers[layer].matrix[matrix];
}

const lemoe_bypass *llama_bypass_at(const lemoe_llama *model, int64_t layer) {
    for (int i = 0; model->seams_active && i < model->n_bypass; i++)
        if (model->bypasses[i].layer == layer) return &model->bypasses[i];
    return NULL;
}

bool llama_has_tap(const lemoe_llama *model, int64_t layer, lemoe_matrix matrix) {
    for (int i = 0; model->seams_active && i < model->n_tap; i++)
        if (model->taps[i].layer == layer && model->taps[i].matrix == matrix) return true;
    return false;
}

bool llama_layer_is_seamed(const lemoe_llama *model, int64_t layer) {
    for (int i = 0; i < model->n_bypass; i++)
        if (model->bypasses[i].layer == layer) return true;
    for (int i = 0; i < model->n_tap; i++)
        if (model->taps[i].layer == layer) return true;
    return false;
}

bool llama_matrix_is_watched(const lemoe_llama *model, int64_t layer, lemoe_matrix matrix) {
    for (int i = 0; i < model->n_bypass; i++)
        if (model->bypasses[i].layer == layer && matrix >= LEMOE_MATRIX_GATE) return true;
    for (int i = 0; i < model->n_tap; i++)
        if (model->taps[i].layer == layer && model->taps[i].matrix == matrix) return true;
    return false;
}

bool llama_ffn_is_constant(const lemoe_llama *model, int64_t layer) {
    bool is_constant = false;
    for (int i = 0; i < model->n_bypass; i++)
        if (model->bypasses[i].layer == layer) is_constant = !model->bypasses[i].reads_hidden;
    for (int i = 0; i < model->n_tap; i++)
        if (model->taps[i].layer == layer && model->taps[i].matrix >= LEMOE_MATRIX_GATE) is_constant = false;
    for (int i = 0; i < model->n_patch; i++)
        if (model->patches[i].layer == layer && model->patches[i].matrix >= LEMOE_MATRIX_GATE) is_constant = false;
    return is_constant;
}

lemoe_status llama_tap(const lemoe_llama *model, int64_t layer, lemoe_matrix matrix, lemoe_tensor x, lemoe_tensor dy) {
    for (int i = 0; model->seams_active && i < model->n_tap; i++)
        if (model->taps[i].layer == layer && model->taps[i].matrix == matrix)
            LEMOE_TRY(model->taps[i].rows(model->taps[i].context, x, dy));
    return LEMOE_OK;
}

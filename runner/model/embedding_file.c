#include "runner/model/embedding_file.h"

#include "kernels/base/mem.h"
#include "runner/model/safetensors.h"

#include <string.h>

typedef struct reader {
    lemoe_tensor table; /* view of the file */
    lemoe_dtype dtype;  /* as the model stores it */
    int64_t d;
    void *raw, *stored; /* [d] a row as the file has it, and as the model does */
    float *wide, *row;  /* [d] */
} reader;

/* The value that the model computes with: rounded to its type where the file has another. */
static void read_row(const reader *r, int64_t id) {
    size_t n_bytes = (size_t)r->d * lemoe_dtype_bytes(r->table.dtype);
    memcpy(r->raw, (const char *)r->table.data + (size_t)id * n_bytes, n_bytes); /* a file may place it anywhere */
    if (r->table.dtype == r->dtype) {
        lemoe_dtype_to_f32(r->dtype, r->raw, r->d, r->row);
        return;
    }
    lemoe_dtype_to_f32(r->table.dtype, r->raw, r->d, r->wide);
    lemoe_dtype_from_f32(r->dtype, r->wide, r->d, r->stored);
    lemoe_dtype_to_f32(r->dtype, r->stored, r->d, r->row);
}

/* The sum in the tokens' order, then one division: as seg_mean has it. */
static lemoe_status mean_of(const reader *r, const lemoe_token_range *range, float *out) {
    memset(out, 0, (size_t)r->d * sizeof *out);
    for (int64_t t = 0; t < range->n_tok; t++) {
        LEMOE_CHECK(range->ids[t] >= 0 && range->ids[t] < r->table.shape[0], LEMOE_ERR_FORMAT,
                    "token %d of a vocabulary of %lld", range->ids[t], (long long)r->table.shape[0]);
        read_row(r, range->ids[t]);
        for (int64_t c = 0; c < r->d; c++) out[c] += r->row[c];
    }
    for (int64_t c = 0; c < r->d && range->n_tok > 0; c++) out[c] /= (float)range->n_tok;
    return LEMOE_OK;
}

static lemoe_status open_reader(const lemoe_safetensors *file, const lemoe_llama_config *config, reader *r) {
    int64_t shape[] = {config->n_vocab, config->d_model};
    LEMOE_TRY(lemoe_safetensors_get(file, "model.embed_tokens.weight", 2, shape, &r->table));
    LEMOE_TRY(lemoe_mem_alloc(r->d, sizeof(double), &r->raw));
    LEMOE_TRY(lemoe_mem_alloc(r->d, sizeof(double), &r->stored));
    LEMOE_TRY(lemoe_mem_alloc(r->d, sizeof *r->wide, &r->wide));
    return lemoe_mem_alloc(r->d, sizeof *r->row, &r->row);
}

lemoe_status lemoe_embedding_file_means(const char *folder, const lemoe_llama_config *config, lemoe_dtype dtype,
                                        const lemoe_token_range *ranges, int64_t n, float *out) {
    lemoe_status status = LEMOE_OK;
    lemoe_safetensors *file = NULL;
    reader r = {.dtype = dtype, .d = config->d_model};
    LEMOE_TRY_GOTO(lemoe_safetensors_open(folder, &file));
    LEMOE_TRY_GOTO(open_reader(file, config, &r));
    for (int64_t i = 0; i < n; i++) LEMOE_TRY_GOTO(mean_of(&r, &ranges[i], out + i * r.d));
out:
    lemoe_safetensors_close(file);
    lemoe_mem_free(r.raw);
    lemoe_mem_free(r.stored);
    lemoe_mem_free(r.wide);
    lemoe_mem_free(r.row);
    return status;
}

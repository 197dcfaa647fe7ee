#include "runner/adaptor/saved.h"

#include "kernels/base/mem.h"

#include <stdio.h>
#include <string.h>

/* All ranks' shards, padded to the largest, [size][share_rows * share_columns] in host memory on every rank. */
static lemoe_status gather_shards(lemoe_llama *model, const lemoe_tensor *shard, int64_t n_share, float **out) {
    lemoe_comm *comm = lemoe_llama_comm(model);
    float *own = NULL;
    LEMOE_TRY(lemoe_mem_alloc(n_share, sizeof *own, &own));
    lemoe_status status = lemoe_mem_alloc(n_share * lemoe_comm_size(comm), sizeof **out, out);
    if (status == LEMOE_OK)
        status = lemoe_device_download(lemoe_llama_device(model), own, shard->data, lemoe_tensor_bytes(shard));
    if (status == LEMOE_OK)
        status = lemoe_comm_allgather(comm, lemoe_tensor_1d(own, LEMOE_F32, n_share),
                                      lemoe_tensor_1d(*out, LEMOE_F32, n_share * lemoe_comm_size(comm)));
    lemoe_mem_free(own);
    return status;
}

/* Copies each rank's part to its place in the whole. */
static void put_together(const float *gathered, int64_t n_share, int tp, lemoe_split split, int64_t rows,
                         int64_t columns, float *whole) {
    int64_t extent = split == LEMOE_SPLIT_ROWS ? rows : columns, share = (extent + tp - 1) / tp;
    if (split == LEMOE_SPLIT_NONE) {
        memcpy(whole, gathered, (size_t)(rows * columns) * sizeof *whole);
        return;
    }
    for (int rank = 0; rank < tp; rank++) {
        int64_t begin = rank * share < extent ? rank * share : extent,
                n = extent - begin < share ? extent - begin : share;
        const float *from = gathered + rank * n_share;
        if (split == LEMOE_SPLIT_ROWS) memcpy(whole + begin * columns, from, (size_t)(n * columns) * sizeof *whole);
        for (int64_t r = 0; split == LEMOE_SPLIT_COLUMNS && r < rows && n > 0; r++)
            memcpy(whole + r * columns + begin, from + r * n, (size_t)n * sizeof *whole);
    }
}

static lemoe_status add_item(lemoe_saved *saved, const char *name, const float *whole, int64_t rows, int64_t columns) {
    lemoe_safetensors_item item = {NULL, lemoe_tensor_2d(NULL, saved->dtype, rows, columns)};
    char *copy = NULL;
    LEMOE_TRY(lemoe_mem_grow(&saved->items, &saved->capacity, saved->n_item + 1, sizeof item));
    LEMOE_TRY(lemoe_mem_strdup(name, &copy));
    item.name = copy;
    saved->items[saved->n_item++] = item; /* from here free takes care */
    void **data = &saved->items[saved->n_item - 1].tensor.data;
    LEMOE_TRY(lemoe_mem_alloc(rows * columns, lemoe_dtype_bytes(saved->dtype), data));
    lemoe_dtype_from_f32(saved->dtype, whole, rows * columns, *data);
    return LEMOE_OK;
}

static lemoe_status add(lemoe_saved *saved, lemoe_llama *model, const char *name, lemoe_tensor shard, lemoe_split split,
                        int64_t n_whole) {
    lemoe_comm *comm = lemoe_llama_comm(model);
    int tp = lemoe_comm_size(comm);
    int64_t rows = split == LEMOE_SPLIT_ROWS ? n_whole : shard.shape[0],
            columns = split == LEMOE_SPLIT_COLUMNS ? n_whole : shard.shape[1];
    int64_t n_share = split == LEMOE_SPLIT_ROWS      ? (rows + tp - 1) / tp * columns
                      : split == LEMOE_SPLIT_COLUMNS ? rows * ((columns + tp - 1) / tp)
                                                     : rows * columns;
    float *gathered = NULL, *whole = NULL;
    lemoe_status status = gather_shards(model, &shard, n_share, &gathered);
    if (status == LEMOE_OK && lemoe_comm_rank(comm) == 0) {
        status = lemoe_mem_alloc(rows * columns, sizeof *whole, &whole);
        if (status == LEMOE_OK) {
            put_together(gathered, n_share, tp, split, rows, columns, whole);
            status = add_item(saved, name, whole, rows, columns);
        }
    }
    lemoe_mem_free(gathered);
    lemoe_mem_free(whole);
    return status;
}

lemoe_status lemoe_saved_add(lemoe_saved *saved, lemoe_llama *model, const char *name, lemoe_tensor shard,
                             lemoe_split split, int64_t n_whole) {
    return lemoe_comm_keep_step(lemoe_llama_comm(model), add(saved, model, name, shard, split, n_whole));
}

lemoe_status lemoe_saved_add_host(lemoe_saved *saved, lemoe_llama *model, const char *name, const float *rows,
                                  int64_t n_rows, int64_t n_columns) {
    bool first = lemoe_comm_rank(lemoe_llama_comm(model)) == 0;
    return first ? add_item(saved, name, rows, n_rows, n_columns) : LEMOE_OK;
}

lemoe_status lemoe_saved_add_experts(lemoe_saved *saved, lemoe_llama *model, const lemoe_expert *experts,
                                     int64_t n_expert) {
    char name[96];
    for (int64_t i = 0; i < n_expert; i++)
        for (int m = 0; m < experts[i].n_matrix; m++) {
            (void)snprintf(name, sizeof name, "expert.%lld.%s.weight", (long long)i,
                           lemoe_expert_matrix_name(&experts[i], m));
            LEMOE_TRY(lemoe_saved_add(saved, model, name, experts[i].w[m], lemoe_expert_matrix_split(&experts[i], m),
                                      experts[i].n_width));
        }
    return LEMOE_OK;
}

void lemoe_saved_free(lemoe_saved *saved) {
    for (int64_t i = 0; i < saved->n_item; i++) {
        lemoe_mem_free((char *)saved->items[i].name);
        lemoe_mem_free(saved->items[i].tensor.data);
    }
    lemoe_mem_free(saved->items);
    *saved = (lemoe_saved){0};
}

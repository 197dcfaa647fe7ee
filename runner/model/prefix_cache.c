#include "runner/model/prefix_cache.h"

#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "runner/io/file.h"
#include "runner/model/prefix_cache_file.h"
#include "runner/model/prefix_rows.h"

#include <string.h>

/* What prefix_rows.h computes, in one block, so that a file is one write and one mapping. */
struct lemoe_prefix_cache {
    lemoe_file_map map; /* when read from disk */
    float *computed;    /* when computed */
    int64_t n_float;
    int32_t *token_index; /* of all items' tokens end to end: its place among those that occur */
};

static void point_items(const float *data, const int32_t *token_index, const llama_filling *f, lemoe_item *items,
                        int64_t n_items) {
    int64_t token = 0, present = 0;
    const float *means = data + f->n_tok * f->d_model, *embeddings = means + 2 * f->n_items * f->d_model;
    for (int64_t i = 0; i < n_items; i++) {
        if (items[i].n_tok == 0) continue;
        items[i].cut_rows = data + token * f->d_model;
        items[i].embedding_mean = means + 2 * present * f->d_model;
        items[i].entity_mean = means + (2 * present + 1) * f->d_model;
        items[i].token_rows = embeddings;
        items[i].token_index = token_index + token;
        token += items[i].n_tok;
        present++;
    }
}

/* ---- opening ---- */

/* All ranks have the file, or none uses it. */
static lemoe_status read_from_disk(const lemoe_prefix_cache_args *args, const char *path, const char *key,
                                   lemoe_prefix_cache *cache, const float **data) {
    *data = lemoe_prefix_cache_file_read(path, key, cache->n_float, &cache->map);
    int32_t missing = *data == NULL;
    lemoe_comm *comm = lemoe_llama_comm(args->model);
    LEMOE_TRY(lemoe_comm_allreduce_max(comm, lemoe_tensor_1d(&missing, LEMOE_I32, 1)));
    if (missing) {
        lemoe_file_map_close(&cache->map);
        *data = NULL;
    }
    return LEMOE_OK;
}

static lemoe_status plan(const llama_filling *f, lemoe_prefix_scratch *out) {
    *out = (lemoe_prefix_scratch){0};
    lemoe_status status = llama_filling_plan(f, out);
    if (status != LEMOE_ERR_NOMEM) return status;
    lemoe_error_clear(); /* addresses are limited: memory is taken as it is needed */
    return LEMOE_OK;
}

/* All that computing will ask a GPU for, so that a rank without room does not leave its team between two collectives.
 */
static lemoe_status reserve(const llama_filling *f) {
    lemoe_device *device = lemoe_llama_device(f->model);
    lemoe_prefix_scratch scratch;
    if (lemoe_device_is_host(device)) return LEMOE_OK;
    LEMOE_TRY(plan(f, &scratch));
    lemoe_status status = lemoe_device_reserve_workspace(device, (size_t)scratch.workspace_bytes);
    if (status == LEMOE_OK) status = lemoe_arena_reserve(f->arena, (size_t)scratch.arena_bytes);
    if (status != LEMOE_OK)
        lemoe_error_prefix("computing rows at the cut takes %lld MB of the GPU beside the model; raise parallel.tensor "
                           "on more devices",
                           (long long)((scratch.arena_bytes + scratch.workspace_bytes) >> 20));
    return status;
}

static lemoe_status prepare(llama_filling *f, lemoe_prefix_cache *cache) {
    enum { BLOCK_BYTES = 16 << 20 };
    LEMOE_TRY(lemoe_mem_alloc(cache->n_float, sizeof *cache->computed, &cache->computed));
    LEMOE_TRY(lemoe_arena_create(lemoe_llama_device(f->model), BLOCK_BYTES, &f->arena));
    f->out = cache->computed;
    return reserve(f);
}

static lemoe_status fill(llama_filling *f, lemoe_prefix_cache *cache) {
    lemoe_comm *comm = lemoe_llama_comm(f->model);
    lemoe_status status = lemoe_comm_agree(comm, prepare(f, cache));
    if (status == LEMOE_OK) status = lemoe_comm_keep_step(comm, llama_filling_compute(f));
    lemoe_arena_destroy(f->arena);
    return status;
}

/* A cache that cannot be written costs time, not results. */
static void write_to_disk(const lemoe_prefix_cache_args *args, const char *path, const char *key,
                          const lemoe_prefix_cache *cache) {
    if (lemoe_comm_rank(lemoe_llama_comm(args->model)) != 0) return;
    if (lemoe_prefix_cache_file_write(args->folder, path, key, cache->computed, cache->n_float, args->max_bytes) ==
        LEMOE_OK)
        return;
    lemoe_log(LEMOE_LOG_WARN, "the prefix cache is not kept: %s", lemoe_error_message());
    lemoe_error_clear();
}

static lemoe_status open_filled(const lemoe_prefix_cache_args *args, llama_filling *f, lemoe_prefix_cache *cache,
                                const float **data) {
    char key[33], *path = NULL;
    lemoe_status status = LEMOE_OK;
    *data = NULL;
    cache->n_float = (f->n_tok + 2 * f->n_items + f->n_distinct) * f->d_model;
    if (args->folder) {
        LEMOE_TRY(lemoe_prefix_cache_file_key(args, f->items, f->n_items, key));
        LEMOE_TRY(lemoe_mem_printf(&path, "%s/prefix-%s.bin", args->folder, key));
        LEMOE_TRY_GOTO(read_from_disk(args, path, key, cache, data));
    }
    if (!*data) {
        LEMOE_TRY_GOTO(fill(f, cache));
        *data = cache->computed;
        if (args->folder) write_to_disk(args, path, key, cache);
    }
out:
    lemoe_mem_free(path);
    return status;
}

lemoe_status lemoe_prefix_cache_open(const lemoe_prefix_cache_args *args, lemoe_item *items, int64_t n_items,
                                     lemoe_prefix_cache **out) {
    lemoe_prefix_cache *cache = NULL;
    llama_filling f = {0};
    const float *data = NULL;
    lemoe_status status = lemoe_mem_alloc(1, sizeof *cache, &cache);
    if (status == LEMOE_OK) status = llama_filling_open(args, items, n_items, &f, &cache->token_index);
    status = lemoe_comm_agree(lemoe_llama_comm(args->model), status);
    if (status == LEMOE_OK) status = open_filled(args, &f, cache, &data);
    if (status == LEMOE_OK) {
        point_items(data, cache->token_index, &f, items, n_items);
        *out = cache;
    } else {
        lemoe_prefix_cache_close(cache);
    }
    llama_filling_close(&f);
    return status;
}

lemoe_status lemoe_prefix_cache_plan(const lemoe_prefix_cache_args *args, const lemoe_item *items, int64_t n_items,
                                     lemoe_prefix_scratch *out) {
    llama_filling f = {0};
    int32_t *token_index = NULL;
    lemoe_status status = llama_filling_open(args, items, n_items, &f, &token_index);
    if (status == LEMOE_OK) status = llama_filling_plan(&f, out);
    llama_filling_close(&f);
    lemoe_mem_free(token_index);
    return status;
}

void lemoe_prefix_cache_close(lemoe_prefix_cache *cache) {
    if (!cache) return;
    lemoe_file_map_close(&cache->map);
    lemoe_mem_free(cache->computed);
    lemoe_mem_free(cache->token_index);
    lemoe_mem_free(cache);
}

int64_t lemoe_prefix_cache_bytes(const lemoe_prefix_cache *cache) { return cache->n_float * (int64_t)sizeof(float); }
bool lemoe_prefix_cache_was_read(const lemoe_prefix_cache *cache) { return cache->map.data != NULL; }

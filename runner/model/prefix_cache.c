#include "runner/model/prefix_cache.h"

#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "runner/io/file.h"
#include "runner/model/prefix_cache_file.h"

#include <string.h>

/* Rows of every item end to end, then two mean embeddings an item, then the embedding of each token that occurs. One
 * block, so that a file is one write and one mapping. */
struct lemoe_prefix_cache {
    lemoe_file_map map; /* when read from disk */
    float *computed;    /* when computed */
    int64_t n_float;
    int32_t *token_index; /* of all items' tokens end to end: its place among those that occur */
};

typedef struct filling {
    const lemoe_prefix_cache_args *args;
    lemoe_arena *arena;
    lemoe_item *items; /* those with text, in order */
    int64_t n_items, n_tok, d_model;
    int32_t *vocabulary; /* [n_distinct] the ids that occur, in order of appearance */
    int64_t n_distinct;
    float *out;
} filling;

static float *rows_at(const filling *f, int64_t token) { return f->out + token * f->d_model; }
static float *means_at(const filling *f, int64_t item) { return f->out + (f->n_tok + 2 * item) * f->d_model; }

static float *embeddings_at(const filling *f, int64_t place) { return means_at(f, f->n_items) + place * f->d_model; }

/* Prompt tokens without BOS; the subject's, or the prompt's again where the subject is not in the text. */
static void mean_ranges(const filling *f, const lemoe_pack *pack, int64_t first, int32_t *begin, int32_t *end) {
    for (int64_t s = 0; s < pack->n_seq; s++) {
        const lemoe_item *item = &f->items[first + s];
        bool has_subject = item->subject_end > item->subject_begin;
        int64_t from = has_subject ? item->subject_begin : 1, to = has_subject ? item->subject_end : item->n_prompt;
        begin[2 * s] = (int32_t)(pack->start[s] + 1);
        end[2 * s] = (int32_t)(pack->start[s] + item->n_prompt);
        begin[2 * s + 1] = (int32_t)(pack->start[s] + from);
        end[2 * s + 1] = (int32_t)(pack->start[s] + to);
    }
}

static lemoe_status compute_means(const filling *f, const lemoe_pack *pack, int64_t first) {
    lemoe_status status = LEMOE_OK;
    int32_t *ranges = NULL;
    lemoe_tensor means;
    int64_t n = 2 * pack->n_seq;
    LEMOE_TRY(lemoe_mem_alloc(2 * n, sizeof *ranges, &ranges));
    mean_ranges(f, pack, first, ranges, ranges + n);
    LEMOE_TRY_GOTO(lemoe_arena_matrix(f->arena, LEMOE_F32, n, f->d_model, &means));
    LEMOE_TRY_GOTO(lemoe_llama_embedding_mean(f->args->model, pack, ranges, ranges + n, n, f->arena, means));
    LEMOE_TRY_GOTO(lemoe_device_download(lemoe_arena_device(f->arena), means_at(f, first), means.data,
                                         lemoe_tensor_bytes(&means)));
out:
    lemoe_mem_free(ranges);
    return status;
}

static lemoe_status compute_pack(const filling *f, int64_t first, int64_t n, int64_t token) {
    lemoe_pack pack;
    lemoe_tensor x;
    LEMOE_TRY(lemoe_pack_build(f->arena, f->items + first, n, 0, &pack));
    LEMOE_TRY(lemoe_arena_matrix(f->arena, LEMOE_F32, pack.n_tok, f->d_model, &x));
    LEMOE_TRY(lemoe_llama_prefix(f->args->model, &pack, f->args->cut, f->arena, x));
    LEMOE_TRY(lemoe_device_download(lemoe_arena_device(f->arena), rows_at(f, token), x.data, lemoe_tensor_bytes(&x)));
    return compute_means(f, &pack, first);
}

static lemoe_status compute(const filling *f) {
    int64_t token = 0;
    for (int64_t begin = 0, end; begin < f->n_items; begin = end) {
        end = lemoe_pack_split(f->items, f->n_items, begin, f->args->pack_tokens);
        size_t mark = lemoe_arena_mark(f->arena);
        LEMOE_TRY(compute_pack(f, begin, end - begin, token));
        lemoe_arena_reset(f->arena, mark);
        for (int64_t i = begin; i < end; i++) token += f->items[i].n_tok;
        lemoe_tick_now(f->args->tick);
    }
    return LEMOE_OK;
}

/* The mean over one token is its embedding. */
static lemoe_status compute_embeddings(const filling *f, int64_t first, int64_t n) {
    lemoe_status status = LEMOE_OK;
    lemoe_item item = {.ids = f->vocabulary + first, .n_tok = n, .n_prompt = n};
    int32_t *places = NULL;
    lemoe_pack pack;
    lemoe_tensor rows;
    size_t mark = lemoe_arena_mark(f->arena);
    LEMOE_TRY(lemoe_mem_alloc(n + 1, sizeof *places, &places));
    for (int64_t i = 0; i <= n; i++) places[i] = (int32_t)i;
    LEMOE_TRY_GOTO(lemoe_pack_build(f->arena, &item, 1, 0, &pack));
    LEMOE_TRY_GOTO(lemoe_arena_matrix(f->arena, LEMOE_F32, n, f->d_model, &rows));
    LEMOE_TRY_GOTO(lemoe_llama_embedding_mean(f->args->model, &pack, places, places + 1, n, f->arena, rows));
    LEMOE_TRY_GOTO(lemoe_device_download(lemoe_arena_device(f->arena), embeddings_at(f, first), rows.data,
                                         lemoe_tensor_bytes(&rows)));
out:
    lemoe_arena_reset(f->arena, mark);
    lemoe_mem_free(places);
    return status;
}

static lemoe_status compute_all(const filling *f) {
    LEMOE_TRY(compute(f));
    for (int64_t first = 0; first < f->n_distinct; first += f->args->pack_tokens) {
        int64_t left = f->n_distinct - first;
        LEMOE_TRY(compute_embeddings(f, first, left < f->args->pack_tokens ? left : f->args->pack_tokens));
    }
    return LEMOE_OK;
}

/* ---- items ---- */

/* Numbers the ids that occur, in order of appearance. */
static lemoe_status number_tokens(filling *f, int32_t *token_index) {
    int64_t n_vocab = lemoe_llama_config_of(f->args->model)->n_vocab, at = 0;
    int32_t *place = NULL; /* + 1; 0: not seen yet */
    LEMOE_TRY(lemoe_mem_alloc(n_vocab, sizeof *place, &place));
    lemoe_status status = lemoe_mem_alloc(n_vocab, sizeof *f->vocabulary, &f->vocabulary);
    for (int64_t i = 0; i < f->n_items && status == LEMOE_OK; i++)
        for (int64_t t = 0; t < f->items[i].n_tok; t++) {
            int32_t id = f->items[i].ids[t];
            if (place[id] == 0) {
                f->vocabulary[f->n_distinct++] = id;
                place[id] = (int32_t)f->n_distinct;
            }
            token_index[at++] = place[id] - 1;
        }
    lemoe_mem_free(place);
    return status;
}

static lemoe_status collect(const lemoe_item *items, int64_t n_items, filling *f, int32_t **token_index) {
    LEMOE_TRY(lemoe_mem_alloc(n_items, sizeof *f->items, &f->items));
    for (int64_t i = 0; i < n_items; i++) {
        if (items[i].n_tok == 0) continue;
        f->items[f->n_items++] = items[i];
        f->n_tok += items[i].n_tok;
    }
    LEMOE_TRY(lemoe_mem_alloc(f->n_tok, sizeof **token_index, token_index));
    return number_tokens(f, *token_index);
}

static void point_items(const float *data, const int32_t *token_index, const filling *f, lemoe_item *items,
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

static lemoe_status fill(filling *f, lemoe_prefix_cache *cache) {
    lemoe_comm *comm = lemoe_llama_comm(f->args->model);
    enum { BLOCK_BYTES = 16 << 20 };
    lemoe_status status = lemoe_mem_alloc(cache->n_float, sizeof *cache->computed, &cache->computed);
    if (status == LEMOE_OK) status = lemoe_arena_create(lemoe_llama_device(f->args->model), BLOCK_BYTES, &f->arena);
    status = lemoe_comm_agree(comm, status);
    f->out = cache->computed;
    if (status == LEMOE_OK) status = lemoe_comm_keep_step(comm, compute_all(f));
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

static lemoe_status open_filled(filling *f, lemoe_prefix_cache *cache, const float **data) {
    const lemoe_prefix_cache_args *args = f->args;
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
    filling f = {.args = args, .d_model = lemoe_llama_config_of(args->model)->d_model};
    const float *data = NULL;
    lemoe_status status = lemoe_mem_alloc(1, sizeof *cache, &cache);
    if (status == LEMOE_OK) status = collect(items, n_items, &f, &cache->token_index);
    status = lemoe_comm_agree(lemoe_llama_comm(args->model), status);
    if (status == LEMOE_OK) status = open_filled(&f, cache, &data);
    if (status == LEMOE_OK) {
        point_items(data, cache->token_index, &f, items, n_items);
        *out = cache;
    } else {
        lemoe_prefix_cache_close(cache);
    }
    lemoe_mem_free(f.items);
    lemoe_mem_free(f.vocabulary);
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

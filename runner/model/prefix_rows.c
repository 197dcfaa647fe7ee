#include "runner/model/prefix_rows.h"

#include "kernels/base/mem.h"
#include "kernels/planning.h"
#include "runner/model/llama_internal.h"

/* ---- items ---- */

/* Numbers the ids that occur, in order of appearance. */
static lemoe_status number_tokens(llama_filling *f, int32_t *token_index) {
    int64_t n_vocab = lemoe_llama_config_of(f->model)->n_vocab, at = 0;
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

lemoe_status llama_filling_open(const lemoe_prefix_cache_args *args, const lemoe_item *items, int64_t n_items,
                                llama_filling *f, int32_t **token_index) {
    *f = (llama_filling){.model = args->model,
                         .cut = args->cut,
                         .pack_tokens = args->pack_tokens,
                         .tick = args->tick,
                         .d_model = lemoe_llama_config_of(args->model)->d_model};
    LEMOE_TRY(lemoe_mem_alloc(n_items, sizeof *f->items, &f->items));
    for (int64_t i = 0; i < n_items; i++) {
        if (items[i].n_tok == 0) continue;
        f->items[f->n_items++] = items[i];
        f->n_tok += items[i].n_tok;
    }
    LEMOE_TRY(lemoe_mem_alloc(f->n_tok, sizeof **token_index, token_index));
    return number_tokens(f, *token_index);
}

void llama_filling_close(llama_filling *f) {
    lemoe_mem_free(f->items);
    lemoe_mem_free(f->vocabulary);
}

/* ---- computing ---- */

/* Rows of f->out. */
static int64_t means_at(const llama_filling *f, int64_t item) { return f->n_tok + 2 * item; }
static int64_t embeddings_at(const llama_filling *f, int64_t place) { return means_at(f, f->n_items) + place; }

static lemoe_status take(const llama_filling *f, lemoe_tensor rows, int64_t at) {
    if (!f->out) return LEMOE_OK;
    return lemoe_device_download(lemoe_arena_device(f->arena), f->out + at * f->d_model, rows.data,
                                 lemoe_tensor_bytes(&rows));
}

/* Prompt tokens without BOS; the subject's, or the prompt's again where the subject is not in the text. */
static void mean_ranges(const llama_filling *f, const lemoe_pack *pack, int64_t first, int32_t *begin, int32_t *end) {
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

static lemoe_status compute_means(const llama_filling *f, const lemoe_pack *pack, int64_t first) {
    lemoe_status status = LEMOE_OK;
    int32_t *ranges = NULL;
    lemoe_tensor means;
    int64_t n = 2 * pack->n_seq;
    LEMOE_TRY(lemoe_mem_alloc(2 * n, sizeof *ranges, &ranges));
    mean_ranges(f, pack, first, ranges, ranges + n);
    LEMOE_TRY_GOTO(lemoe_arena_matrix(f->arena, LEMOE_F32, n, f->d_model, &means));
    LEMOE_TRY_GOTO(lemoe_llama_embedding_mean(f->model, pack, ranges, ranges + n, n, f->arena, means));
    LEMOE_TRY_GOTO(take(f, means, means_at(f, first)));
out:
    lemoe_mem_free(ranges);
    return status;
}

static lemoe_status compute_pack(const llama_filling *f, int64_t first, int64_t n, int64_t token) {
    lemoe_pack pack;
    lemoe_tensor x;
    LEMOE_TRY(lemoe_pack_build(f->arena, f->items + first, n, 0, &pack));
    LEMOE_TRY(lemoe_arena_matrix(f->arena, LEMOE_F32, pack.n_tok, f->d_model, &x));
    LEMOE_TRY(lemoe_llama_prefix(f->model, &pack, f->cut, f->arena, x));
    LEMOE_TRY(take(f, x, token));
    return compute_means(f, &pack, first);
}

static lemoe_status compute(const llama_filling *f) {
    int64_t token = 0;
    for (int64_t begin = 0, end; begin < f->n_items; begin = end) {
        end = lemoe_pack_split(f->items, f->n_items, begin, f->pack_tokens);
        size_t mark = lemoe_arena_mark(f->arena);
        LEMOE_TRY(compute_pack(f, begin, end - begin, token));
        lemoe_arena_reset(f->arena, mark);
        for (int64_t i = begin; i < end; i++) token += f->items[i].n_tok;
        lemoe_tick_now(f->tick);
    }
    return LEMOE_OK;
}

/* The mean over one token is its embedding. */
static lemoe_status compute_embeddings(const llama_filling *f, int64_t first, int64_t n) {
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
    LEMOE_TRY_GOTO(lemoe_llama_embedding_mean(f->model, &pack, places, places + 1, n, f->arena, rows));
    LEMOE_TRY_GOTO(take(f, rows, embeddings_at(f, first)));
out:
    lemoe_arena_reset(f->arena, mark);
    lemoe_mem_free(places);
    return status;
}

lemoe_status llama_filling_compute(const llama_filling *f) {
    LEMOE_TRY(compute(f));
    for (int64_t first = 0; first < f->n_distinct; first += f->pack_tokens) {
        int64_t left = f->n_distinct - first;
        LEMOE_TRY(compute_embeddings(f, first, left < f->pack_tokens ? left : f->pack_tokens));
    }
    return LEMOE_OK;
}

/* ---- the memory it takes ---- */

/* A rank of the same team, computing nothing. */
typedef struct stand_in {
    lemoe_comm *comm;
    lemoe_device *device;
    lemoe_llama *model;
    lemoe_arena *arena;
} stand_in;

static lemoe_status open_stand_in(const lemoe_llama *model, stand_in *s) {
    lemoe_llama_args args = {.dtype = model->dtype, .part_tokens = model->part_tokens};
    LEMOE_TRY(lemoe_comm_planning(lemoe_comm_rank(model->comm), lemoe_comm_size(model->comm), &s->comm));
    LEMOE_TRY(lemoe_planning_device_open_like(model->device, &s->device));
    LEMOE_TRY(lemoe_comm_attach(s->comm, s->device, ""));
    args.device = s->device;
    args.comm = s->comm;
    LEMOE_TRY(lemoe_llama_open_planning(&args, &model->config, &s->model));
    return lemoe_arena_create(s->device, LEMOE_PLANNING_BLOCK_BYTES, &s->arena);
}

static void close_stand_in(stand_in *s) {
    lemoe_arena_destroy(s->arena);
    lemoe_llama_close(s->model);
    lemoe_comm_close(s->comm);
    lemoe_device_close(s->device);
}

lemoe_status llama_filling_plan(const llama_filling *f, lemoe_prefix_scratch *out) {
    stand_in s = {0};
    llama_filling planned = *f;
    lemoe_status status = open_stand_in(f->model, &s);
    planned.model = s.model;
    planned.arena = s.arena;
    planned.tick = NULL;
    planned.out = NULL;
    if (status == LEMOE_OK) status = llama_filling_compute(&planned);
    if (status == LEMOE_OK)
        *out = (lemoe_prefix_scratch){(int64_t)lemoe_arena_peak_bytes(s.arena),
                                      (int64_t)lemoe_device_workspace_bytes(s.device)};
    close_stand_in(&s);
    return status;
}

#include "runner/world/world.h"

#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "kernels/planning.h"

#include <stdio.h>
#include <string.h>

/* As long as the longest sequence. */
struct lemoe_world_zeros {
    float *rows;     /* [n_tok, d_model] */
    int32_t *places; /* [n_tok] */
};

struct lemoe_world_cache {
    lemoe_prefix_cache *cache;
    lemoe_item *items;
    int64_t cut;
};

lemoe_status lemoe_world_open(lemoe_comm *comm, lemoe_tick *tick, int local_rank, lemoe_world **out) {
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof **out, out));
    (*out)->comm = comm;
    (*out)->local_rank = local_rank;
    (*out)->tick = tick;
    return LEMOE_OK;
}

static void close_caches(lemoe_world *world) {
    for (int64_t i = 0; i < world->n_cache; i++) {
        lemoe_prefix_cache_close(world->caches[i].cache);
        lemoe_mem_free(world->caches[i].items);
    }
    world->n_cache = 0;
}

static void close_data(lemoe_world *world) {
    close_caches(world);
    if (!world->zeros) lemoe_edit_stream_destroy(world->stream);
    lemoe_dataset_close(world->dataset);
    world->stream = NULL;
    world->dataset = NULL;
    world->has_data = false;
}

static void close_model(lemoe_world *world) {
    close_data(world);
    lemoe_tokenizer_close(world->tokenizer);
    lemoe_llama_close(world->model);
    lemoe_comm_detach(world->comm);
    lemoe_device_close(world->device);
    world->tokenizer = NULL;
    world->model = NULL;
    world->device = NULL;
    world->has_model = false;
}

void lemoe_world_close(lemoe_world *world) {
    if (!world) return;
    close_model(world);
    if (world->zeros) {
        lemoe_mem_free(world->zeros->rows);
        lemoe_mem_free(world->zeros->places);
    }
    lemoe_mem_free(world->zeros);
    lemoe_mem_free(world->caches);
    lemoe_mem_free(world);
}

static int64_t part_tokens(const lemoe_world *world, const lemoe_config *config) {
    return lemoe_config_part_tokens(config, lemoe_comm_size(world->comm));
}

static bool same_model(const lemoe_world *world, const lemoe_config *b) {
    const lemoe_config *a = &world->loaded;
    return strcmp(a->model.path, b->model.path) == 0 && a->model.dtype == b->model.dtype &&
           a->parallel.threads == b->parallel.threads && lemoe_config_products(a) == lemoe_config_products(b) &&
           part_tokens(world, a) == part_tokens(world, b) && strcmp(a->parallel.device, b->parallel.device) == 0;
}

/* What a device without room asks of the user. */
static lemoe_status advise(lemoe_status status, const char *what) {
    if (status == LEMOE_ERR_NOMEM)
        lemoe_error_prefix("the device has no room for %s; take one with more free memory, start fewer ranks on it, or "
                           "raise parallel.tensor on more devices",
                           what);
    return status;
}

/* The device of this rank; `auto` was resolved by whoever expanded the configuration. */
static lemoe_status open_device(lemoe_world *world, const lemoe_config *config) {
    const char *kind = config->parallel.device;
    int n = 0;
    LEMOE_TRY(lemoe_device_count(kind, &n));
    int index = world->local_rank % n;
    LEMOE_TRY(lemoe_device_describe(kind, index, &world->device_info));
    LEMOE_TRY(
        advise(lemoe_device_open_at(kind, index, (int)config->parallel.threads, &world->device), "its libraries"));
    return lemoe_device_set_products(world->device, lemoe_config_products(config));
}

/* What a rank asks of a device, as it travels. */
typedef struct demand {
    char id[64];
    int64_t wanted, free;
} demand;
enum { DEMAND_WORDS = sizeof(demand) / sizeof(int64_t) };

static lemoe_status demand_of(const lemoe_world *world, const lemoe_config *config, int64_t run_bytes, demand *out) {
    size_t free_bytes = 0, total_bytes = 0;
    lemoe_llama_config shape;
    *out = (demand){.wanted = run_bytes};
    memcpy(out->id, world->device_info.id, sizeof out->id);
    LEMOE_TRY(lemoe_device_mem_info(world->device, &free_bytes, &total_bytes));
    out->free = (int64_t)free_bytes;
    if (world->model) return LEMOE_OK; /* it is loaded, and not free any more */
    LEMOE_TRY(lemoe_llama_config_read(config->model.path, &shape));
    LEMOE_TRY(lemoe_llama_check_split(&shape, lemoe_comm_size(world->comm)));
    out->wanted += lemoe_llama_share_bytes(&shape, config->model.dtype, lemoe_comm_size(world->comm));
    return LEMOE_OK;
}

static lemoe_status compare(const lemoe_world *world, const demand *all, const demand *own) {
    int64_t wanted = 0;
    int n_share = 0;
    for (int r = 0; r < lemoe_comm_size(world->comm); r++) {
        if (strcmp(all[r].id, own->id) != 0) continue;
        wanted += all[r].wanted;
        n_share++;
    }
    LEMOE_CHECK(wanted <= own->free, LEMOE_ERR_NOMEM,
                "%s: weights and run take %lld MB%s, and %lld MB are free; raise parallel.tensor on more devices, or "
                "lower parallel.micro_batch_tokens",
                world->device_info.name, (long long)(wanted >> 20), n_share > 1 ? " of the ranks that share it" : "",
                (long long)(own->free >> 20));
    return LEMOE_OK;
}

/* Before anything is allocated there, so that nobody runs out of memory between two collectives of its team. The CPU's
 * memory was looked at before the launch began: its weights are pages of a file. */
static lemoe_status check_memory(lemoe_world *world, const lemoe_config *config, int64_t run_bytes) {
    lemoe_comm *comm = world->comm;
    demand own, *all = NULL;
    if (lemoe_device_is_host(world->device)) return LEMOE_OK;
    LEMOE_TRY(lemoe_comm_agree(comm, demand_of(world, config, run_bytes, &own)));
    LEMOE_TRY(lemoe_comm_agree(comm, lemoe_mem_alloc(lemoe_comm_size(comm), sizeof *all, &all)));
    lemoe_status status =
        lemoe_comm_allgather(comm, lemoe_tensor_1d(&own, LEMOE_I64, DEMAND_WORDS),
                             lemoe_tensor_1d(all, LEMOE_I64, (int64_t)lemoe_comm_size(comm) * DEMAND_WORDS));
    if (status == LEMOE_OK) status = lemoe_comm_agree(comm, compare(world, all, &own));
    lemoe_mem_free(all);
    return status;
}

/* Reductions through the host have the bits of the team's own; a library of the device adds in an order of its own. */
static lemoe_status write_domain(lemoe_world *world) {
    lemoe_device_libraries libraries = {{0}, {0}};
    int n = snprintf(world->domain, sizeof world->domain, "%s", lemoe_device_domain(world->device));
    if (lemoe_comm_size(world->comm) == 1 || !lemoe_comm_stays_on_device(world->comm)) return LEMOE_OK;
    LEMOE_TRY(lemoe_device_describe_libraries(lemoe_device_kind(world->device), &libraries));
    (void)snprintf(world->domain + n, sizeof world->domain - (size_t)n, "; reductions by %s", libraries.collective);
    return LEMOE_OK;
}

static lemoe_status open_model(lemoe_world *world, const lemoe_config *config, int64_t run_bytes) {
    LEMOE_TRY(lemoe_comm_agree(world->comm, open_device(world, config)));
    LEMOE_TRY(check_memory(world, config, run_bytes));
    LEMOE_TRY(advise(lemoe_comm_attach(world->comm, world->device, world->device_info.id), "its library's buffers"));
    LEMOE_TRY(check_memory(world, config, run_bytes)); /* what a library takes is known when it has been taken */
    LEMOE_TRY(lemoe_comm_agree(world->comm, write_domain(world)));
    lemoe_llama_args args = {.folder = config->model.path,
                             .dtype = config->model.dtype,
                             .device = world->device,
                             .comm = world->comm,
                             .part_tokens = part_tokens(world, config)};
    LEMOE_TRY(advise(lemoe_llama_open(&args, &world->model), "the weights"));
    int64_t n_vocab = lemoe_llama_config_of(world->model)->n_vocab;
    return lemoe_comm_agree(world->comm, lemoe_tokenizer_open(config->model.path, n_vocab, &world->tokenizer));
}

static lemoe_status open_data(lemoe_world *world, const lemoe_config *config) {
    lemoe_dataset_args args = {.kind = config->data.kind,
                               .path = config->data.path,
                               .n_edit = config->data.edits,
                               .select_random = config->data.select == LEMOE_SELECT_RANDOM,
                               .seed = config->seed,
                               .skip_bad = config->data.bad_records == LEMOE_BAD_RECORDS_SKIP};
    lemoe_status status = lemoe_dataset_open(&args, &world->dataset);
    if (status == LEMOE_OK)
        status = lemoe_edit_stream_create(world->dataset, world->tokenizer, config->data.eos,
                                          lemoe_llama_config_of(world->model)->max_position, &world->stream);
    return lemoe_comm_agree(world->comm, status);
}

lemoe_status lemoe_world_prepare(lemoe_world *world, const lemoe_config *config, int64_t run_bytes) {
    if (!world->has_model || !same_model(world, config)) {
        close_model(world);
        LEMOE_TRY(open_model(world, config, run_bytes));
        world->has_model = true;
    } else {
        LEMOE_TRY(check_memory(world, config, run_bytes));
    }
    if (!world->has_data || !lemoe_config_same_data(&world->loaded, config)) {
        close_data(world);
        LEMOE_TRY(open_data(world, config));
        world->has_data = true;
    }
    world->loaded = *config;
    return LEMOE_OK;
}

static lemoe_status check_device(const lemoe_world *world) {
    if (!world->device || !lemoe_device_is_lost(world->device)) return LEMOE_OK;
    lemoe_error_prefix("GPU %s (%s) is lost to this process", world->device_info.id, world->device_info.name);
    return LEMOE_ERR_DEVICE;
}

lemoe_status lemoe_world_check_devices(lemoe_world *world) {
    lemoe_status status = lemoe_comm_agree(world->comm, check_device(world));
    world->is_lost = status != LEMOE_OK;
    return status;
}

static void items_from_stream(const lemoe_edit_stream *stream, lemoe_item *items) {
    for (int64_t i = 0; i < stream->n_edit * stream->n_role; i++) {
        const lemoe_sequence *s = &stream->sequences[i];
        items[i] = (lemoe_item){.ids = s->ids,
                                .n_tok = s->n_tok,
                                .n_prompt = s->n_prompt,
                                .subject_begin = s->subject_begin,
                                .subject_end = s->subject_end,
                                .edit = i / stream->n_role,
                                .role = (int)(i % stream->n_role)};
    }
}

static lemoe_status make_slot(lemoe_world *world, int64_t cut, int64_t n_items, struct lemoe_world_cache **slot) {
    LEMOE_TRY(lemoe_mem_grow(&world->caches, &world->cache_capacity, world->n_cache + 1, sizeof *world->caches));
    *slot = &world->caches[world->n_cache];
    **slot = (struct lemoe_world_cache){.cut = cut};
    LEMOE_TRY(lemoe_mem_alloc(n_items, sizeof *(*slot)->items, &(*slot)->items));
    items_from_stream(world->stream, (*slot)->items);
    return LEMOE_OK;
}

/* ---- planning ---- */

static lemoe_status make_zeros(lemoe_world *world, int64_t d_model) {
    int64_t longest = 1;
    const lemoe_edit_stream *stream = world->stream;
    for (int64_t i = 0; i < stream->n_edit * stream->n_role; i++)
        if (stream->sequences[i].n_tok > longest) longest = stream->sequences[i].n_tok;
    LEMOE_TRY(lemoe_mem_alloc(longest, (size_t)d_model * sizeof *world->zeros->rows, &world->zeros->rows));
    return lemoe_mem_alloc(longest, sizeof *world->zeros->places, &world->zeros->places);
}

static void point_to_zeros(const lemoe_world *world, lemoe_item *items) {
    const struct lemoe_world_zeros *zeros = world->zeros;
    for (int64_t i = 0; i < world->stream->n_edit * world->stream->n_role; i++) {
        if (items[i].n_tok == 0) continue;
        items[i].cut_rows = items[i].embedding_mean = items[i].entity_mean = items[i].token_rows = zeros->rows;
        items[i].token_index = zeros->places;
    }
}

lemoe_status lemoe_world_open_planning(lemoe_comm *comm, const lemoe_world_plan_args *args, lemoe_world **out) {
    LEMOE_TRY(lemoe_world_open(comm, NULL, 0, out));
    lemoe_world *world = *out;
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof *world->zeros, &world->zeros));
    world->stream = args->stream;
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof *world->dataset, &world->dataset)); /* says how many kinds of locality */
    world->dataset->n_edit = args->stream->n_edit;
    world->dataset->n_locality = args->stream->n_role - LEMOE_ROLE_LOCALITY;
    for (int kind = 0; kind < world->dataset->n_locality; kind++) world->dataset->locality_name[kind] = "";
    LEMOE_TRY(lemoe_planning_device_open(args->like_host, args->products, &world->device));
    LEMOE_TRY(lemoe_comm_attach(comm, world->device, ""));
    lemoe_llama_args model = {
        .dtype = args->dtype, .device = world->device, .comm = comm, .part_tokens = args->part_tokens};
    LEMOE_TRY(lemoe_llama_open_planning(&model, args->shape, &world->model));
    world->has_model = world->has_data = true;
    return make_zeros(world, args->shape->d_model);
}

static lemoe_prefix_cache_args cache_args(const lemoe_world *world, int64_t cut) {
    return (lemoe_prefix_cache_args){.model = world->model,
                                     .cut = cut,
                                     .pack_tokens = LEMOE_CANONICAL_PACK_TOKENS,
                                     .domain = world->domain,
                                     .tick = world->tick};
}

lemoe_status lemoe_world_plan_items(const lemoe_world *world, int64_t cut, lemoe_prefix_scratch *out) {
    lemoe_prefix_cache_args args = cache_args(world, cut);
    lemoe_item *items = NULL;
    int64_t n_items = world->stream->n_edit * world->stream->n_role;
    LEMOE_TRY(lemoe_mem_alloc(n_items, sizeof *items, &items));
    items_from_stream(world->stream, items);
    lemoe_status status = lemoe_prefix_cache_plan(&args, items, n_items, out);
    lemoe_mem_free(items);
    return status;
}

lemoe_status lemoe_world_items(lemoe_world *world, int64_t cut, const char *cache_folder, double cache_max_bytes,
                               const lemoe_item **items) {
    for (int64_t i = 0; i < world->n_cache; i++)
        if (world->caches[i].cut == cut) {
            *items = world->caches[i].items;
            return LEMOE_OK;
        }
    int64_t n_items = world->stream->n_edit * world->stream->n_role;
    struct lemoe_world_cache *slot = NULL;
    LEMOE_TRY(lemoe_comm_agree(world->comm, make_slot(world, cut, n_items, &slot)));
    if (world->zeros) {
        point_to_zeros(world, slot->items);
        world->n_cache++;
        *items = slot->items;
        return LEMOE_OK;
    }
    lemoe_prefix_cache_args args = cache_args(world, cut);
    args.folder = cache_folder;
    args.max_bytes = cache_max_bytes;
    lemoe_status status = lemoe_prefix_cache_open(&args, slot->items, n_items, &slot->cache);
    if (status != LEMOE_OK) {
        lemoe_mem_free(slot->items);
        return status;
    }
    world->n_cache++;
    lemoe_log(LEMOE_LOG_DEBUG, "prefix rows at half layer %lld: %lld bytes, %s", (long long)cut,
              (long long)lemoe_prefix_cache_bytes(slot->cache),
              lemoe_prefix_cache_was_read(slot->cache) ? "read from the cache" : "computed");
    *items = slot->items;
    return LEMOE_OK;
}

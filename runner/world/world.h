/*
 * A world: what lives across the runs of one team - device, model, tokenizer, dataset, cached prefix rows. Between two
 * runs only its caches differ. world.c and run.c are the only places that hold more than one module.
 */
#ifndef RUNNER_WORLD_WORLD_H
#define RUNNER_WORLD_WORLD_H

#include "runner/config/config.h"
#include "runner/data/edit_stream.h"
#include "runner/model/prefix_cache.h"

/* Token budget of canonical packs (docs/design.md 7): part of the numerics, so a constant. */
enum { LEMOE_CANONICAL_PACK_TOKENS = 2048 };

typedef struct lemoe_world {
    lemoe_comm *comm; /* borrowed: the team */
    lemoe_tick *tick; /* borrowed */
    int local_rank;   /* this rank's place on its node: which of several devices it takes */
    lemoe_device *device;
    lemoe_device_info device_info;
    char domain[576]; /* within what results are equal bit for bit: the device's, and how its tensors are reduced */
    lemoe_llama *model;
    lemoe_tokenizer *tokenizer;
    lemoe_dataset *dataset;
    lemoe_edit_stream *stream;
    struct lemoe_world_cache *caches; /* one a cut */
    int64_t n_cache, cache_capacity;
    lemoe_config loaded; /* whose model, data and parallel sections are open now */
    bool has_model, has_data;
    bool is_lost;                    /* what lemoe_world_check_devices found: equal on all ranks */
    struct lemoe_world_zeros *zeros; /* of a world that plans: what its items point to */
} lemoe_world;

/* Local. An empty world for a team. local_rank: this rank's place among the launch's ranks on its node. */
lemoe_status lemoe_world_open(lemoe_comm *comm, lemoe_tick *tick, int local_rank, lemoe_world **out) LEMOE_MUST_CHECK;
void lemoe_world_close(lemoe_world *world);

typedef struct lemoe_world_plan_args {
    const lemoe_llama_config *shape; /* of the model */
    lemoe_dtype dtype;
    lemoe_edit_stream *stream; /* borrowed */
    bool like_host;            /* in place of a device whose memory the host reaches */
    lemoe_products products;
    int64_t part_tokens; /* lemoe_llama_args */
} lemoe_world_plan_args;
/* Local. A world in which a run can be gone through without being computed, to find out what memory it takes: a
 * planning device, a model of that shape without weights, tokens, and rows at the cut that are zeros. It is prepared,
 * for any configuration of that model and data. comm: lemoe_comm_planning, or of a single rank. */
lemoe_status lemoe_world_open_planning(lemoe_comm *comm, const lemoe_world_plan_args *args,
                                       lemoe_world **out) LEMOE_MUST_CHECK;
/* Collective. Makes device, model, tokenizer and data those of the configuration; what is already so is kept.
 * run_bytes: what the run plans to take of the device's memory, workspace included, on each rank; 0: unknown. Errors,
 * agreed on: NOMEM before anything is allocated, where a device of its own memory has no room for this and for the
 * weights, of all ranks that share it; those of opening. */
lemoe_status lemoe_world_prepare(lemoe_world *world, const lemoe_config *config, int64_t run_bytes) LEMOE_MUST_CHECK;
/* Collective. After a failure that all ranks have: whether their devices still answer. Errors, agreed on: DEVICE, with
 * the device's name in front of the failure; COMM. From then on the world is lost: in this process nothing can be
 * computed in it, or closed. */
lemoe_status lemoe_world_check_devices(lemoe_world *world) LEMOE_MUST_CHECK;
/* Collective. All sequences in dataset order, [n_edit * n_role] like the stream's, with their rows at the cut: from
 * memory, from cache_folder (NULL: none), or computed. Borrowed until the world's data changes or it closes. Errors,
 * agreed on: NOMEM, before anything is computed. */
lemoe_status lemoe_world_items(lemoe_world *world, int64_t cut, const char *cache_folder, double cache_max_bytes,
                               const lemoe_item **items) LEMOE_MUST_CHECK;
/* Local. What computing those rows takes of the device, before any of it is taken. */
lemoe_status lemoe_world_plan_items(const lemoe_world *world, int64_t cut, lemoe_prefix_scratch *out) LEMOE_MUST_CHECK;

#endif

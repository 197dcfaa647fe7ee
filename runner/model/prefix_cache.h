/*
 * What lies below the cut is frozen: the rows of every sequence at the cut are computed once per (model, cut, dataset)
 * in canonical packs, kept in host memory, and on disk across runs, keyed by content and domain.
 */
#ifndef RUNNER_MODEL_PREFIX_CACHE_H
#define RUNNER_MODEL_PREFIX_CACHE_H

#include "runner/comm/tick.h"
#include "runner/model/llama.h"

typedef struct lemoe_prefix_cache lemoe_prefix_cache;

typedef struct lemoe_prefix_cache_args {
    lemoe_llama *model;
    int64_t cut;
    const char *folder;  /* NULL: memory only. Otherwise prefix-<key>.bin there, safe to delete */
    double max_bytes;    /* of the folder's cache files; older ones are removed, a larger one is not written */
    int64_t pack_tokens; /* token budget of a canonical pack: part of the key */
    const char *domain;  /* device domain text: part of the key */
    lemoe_tick *tick;    /* may be NULL */
} lemoe_prefix_cache_args;

/* What computing rows takes of a rank's device besides the model, while it lasts; on the CPU there is no workspace. */
typedef struct lemoe_prefix_scratch {
    int64_t arena_bytes, workspace_bytes;
} lemoe_prefix_scratch;
/* Local. That of all these items, before anything is taken, by the code that computes them. Errors: NOMEM. */
lemoe_status lemoe_prefix_cache_plan(const lemoe_prefix_cache_args *args, const lemoe_item *items, int64_t n_items,
                                     lemoe_prefix_scratch *out) LEMOE_MUST_CHECK;

/* Collective. Computes (or reads) cut rows and embeddings of all items in order and sets cut_rows, embedding_mean,
 * entity_mean, token_rows and token_index of each item. Items with n_tok 0 are passed over. A cache file that is
 * damaged, shorter or from another key is not an error: it is computed anew and replaced. The items' pointers stay
 * valid until close. Before anything is computed all ranks have taken what it takes of a GPU. Errors: NOMEM, agreed on,
 * where one could not. */
lemoe_status lemoe_prefix_cache_open(const lemoe_prefix_cache_args *args, lemoe_item *items, int64_t n_items,
                                     lemoe_prefix_cache **out) LEMOE_MUST_CHECK;
void lemoe_prefix_cache_close(lemoe_prefix_cache *cache);
/* Bytes held in memory; whether they came from disk. */
int64_t lemoe_prefix_cache_bytes(const lemoe_prefix_cache *cache);
bool lemoe_prefix_cache_was_read(const lemoe_prefix_cache *cache);

#endif

/* Gathering what a team holds in shards on its first rank, for saving. */
#ifndef RUNNER_ADAPTOR_SAVED_H
#define RUNNER_ADAPTOR_SAVED_H

#include "runner/adaptor/expert.h"
#include "runner/model/safetensors.h"

/* A growing list of named host tensors; owns names and storage. */
typedef struct lemoe_saved {
    lemoe_safetensors_item *items;
    int64_t n_item, capacity;
    lemoe_dtype dtype; /* F32 or BF16 */
} lemoe_saved;

/* Collective. Puts a matrix of all ranks together and adds it (on the first rank; the others only take part). n_whole:
 * rows or columns of the whole, for a split whose last shards are shorter. name is copied. */
lemoe_status lemoe_saved_add(lemoe_saved *saved, lemoe_llama *model, const char *name, lemoe_tensor shard,
                             lemoe_split split, int64_t n_whole) LEMOE_MUST_CHECK;
/* Local. The same for host rows that are equal on all ranks. */
lemoe_status lemoe_saved_add_host(lemoe_saved *saved, lemoe_llama *model, const char *name, const float *rows,
                                  int64_t n_rows, int64_t n_columns) LEMOE_MUST_CHECK;
/* Collective. All matrices of experts, as expert.<i>.<matrix>.weight. */
lemoe_status lemoe_saved_add_experts(lemoe_saved *saved, lemoe_llama *model, const lemoe_expert *experts,
                                     int64_t n_expert) LEMOE_MUST_CHECK;
void lemoe_saved_free(lemoe_saved *saved);

#endif

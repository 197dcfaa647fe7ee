/* Private to runner/model: computing what a prefix cache holds. */
#ifndef RUNNER_MODEL_PREFIX_ROWS_H
#define RUNNER_MODEL_PREFIX_ROWS_H

#include "runner/model/prefix_cache.h"

/* Rows of every item end to end, then two mean embeddings an item, then the embedding of each token that occurs. */
typedef struct llama_filling {
    lemoe_llama *model;
    int64_t cut, pack_tokens;
    lemoe_tick *tick;
    lemoe_item *items; /* those with text, in order */
    int64_t n_items, n_tok, d_model;
    int32_t *vocabulary; /* [n_distinct] the ids that occur, in order of appearance */
    int64_t n_distinct;
    lemoe_arena *arena; /* scratch, and who takes it */
    float *out;         /* [n_tok + 2 n_items + n_distinct, d_model] host; NULL: gone through for the memory it takes */
} llama_filling;

/* Local. The items with text, and which tokens occur in them; token_index: of all these items' tokens end to end, its
 * place among those that occur. The caller closes the filling, also after an error, and frees the index. */
lemoe_status llama_filling_open(const lemoe_prefix_cache_args *args, const lemoe_item *items, int64_t n_items,
                                llama_filling *f, int32_t **token_index) LEMOE_MUST_CHECK;
void llama_filling_close(llama_filling *f);
/* Collective. Fills out, in canonical packs. */
lemoe_status llama_filling_compute(const llama_filling *f) LEMOE_MUST_CHECK;
/* Local. The memory that computing them takes of this rank's device, found on a planning device in its place. Errors:
 * NOMEM where addresses are limited. */
lemoe_status llama_filling_plan(const llama_filling *f, lemoe_prefix_scratch *out) LEMOE_MUST_CHECK;

#endif

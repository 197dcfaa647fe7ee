/*
 * Packs: sequences laid end to end without padding, which is how everything is computed. An item is one sequence with
 * what is known of it from the prefix; a pack is a run of items on the device.
 *
 * Library products change their last bits with the number of rows, so which items share a pack is part of the numerics:
 * lemoe_pack_split is the one rule (item order, fixed token budget).
 */
#ifndef RUNNER_MODEL_PACK_H
#define RUNNER_MODEL_PACK_H

#include "kernels/arena.h"
#include "kernels/base/tensor.h"

#include <stdbool.h>
#include <stdint.h>

/* One sequence. All pointers are host memory, borrowed. */
typedef struct lemoe_item {
    const int32_t *ids;
    int64_t n_tok;
    int64_t n_prompt; /* first target position; ids[n_prompt..n_tok) are targets. n_prompt == n_tok: no targets */
    int64_t subject_begin, subject_end; /* token span, empty when unknown */
    int64_t edit; /* index of the edit it belongs to: the router's ground truth, for the oracle and for reports */
    int role;     /* lemoe_role of runner/data */
    const float *cut_rows;       /* [n_tok, d_model] residual stream at the cut, from the prefix cache; NULL before */
    const float *embedding_mean; /* [d_model] mean embedding of the prompt's tokens without BOS; NULL before */
    const float *entity_mean;    /* [d_model] the same over the subject's tokens; embedding_mean when there are none */
    const float *token_rows;     /* [n, d_model] embeddings of the tokens that occur anywhere; NULL before */
    const int32_t *token_index;  /* [n_tok] row of each token in them */
} lemoe_item;

typedef struct lemoe_pack {
    const lemoe_item *items; /* [n_seq], borrowed, host */
    int64_t n_seq, n_tok, n_target, max_seq;
    int64_t first_row;           /* of a part: what seq_start counts its first row as; else 0 */
    const int64_t *start;        /* [n_seq + 1] host: first row of each sequence */
    const int64_t *target_start; /* [n_seq + 1] host: first target of each sequence */
    /* device, int32 */
    lemoe_tensor ids, position; /* [n_tok] */
    lemoe_tensor seq_start;     /* [n_seq + 1] */
    lemoe_tensor target_row;    /* [n_target] row whose logits predict the target: position - 1 */
    lemoe_tensor target_id;     /* [n_target] */
    lemoe_tensor x;             /* [n_tok, d_model] fp32: cut_rows of all items; data NULL when they have none */
    /* of a pack that is used many times (lemoe_llama_hold); data NULL, and NULL, otherwise */
    lemoe_tensor losses; /* [3, n_target] of the last forward: largest logit, sum of exp, label's logit */
    lemoe_tensor ffn_input, ffn_output; /* [n_tok, d_model] of the FFN at the cut, without its bypass */
    void *bypass_held;                  /* the note of the bypass at the cut */
    bool without_host;                  /* nothing between forward and backward's end needs the host: see there */
    bool above_without_host;            /* nothing above the block at the cut does */
} lemoe_pack;

/* Local. Lays items out in the arena. d_model 0 leaves x out. */
lemoe_status lemoe_pack_build(lemoe_arena *arena, const lemoe_item *items, int64_t n_items, int64_t d_model,
                              lemoe_pack *out) LEMOE_MUST_CHECK;
/* Local, pure. The boundary between two sequences that is nearest to half of the pack's tokens, the lower of two: the
 * number of sequences before it. 0 where there are fewer than two. */
int64_t lemoe_pack_middle(const lemoe_pack *pack);
/* Local, pure. Sequences [begin, end) as views of the pack's arrays: what blocks need, without targets and x. */
lemoe_pack lemoe_pack_part(const lemoe_pack *pack, int64_t begin, int64_t end);
/* Local, pure. The end (exclusive) of the pack that begins at item `begin`: as many items as fit max_tok tokens, at
 * least one.
 */
int64_t lemoe_pack_split(const lemoe_item *items, int64_t n_items, int64_t begin, int64_t max_tok);

#endif

/*
 * The stream: every edit of a dataset as token sequences, made by the text rules of docs/method.md 4.1 (prompt + " " +
 * target, BOS once, EOS on targets on request; the first target position is the length of the common token prefix of
 * prompt and whole text). Order is not decided here: the plan permutes indices.
 */
#ifndef RUNNER_DATA_EDIT_STREAM_H
#define RUNNER_DATA_EDIT_STREAM_H

#include "kernels/base/status.h"
#include "runner/data/dataset.h"
#include "runner/data/tokenizer.h"

#include <stdbool.h>
#include <stdint.h>

/* What a sequence is for. Locality kind k is LEMOE_ROLE_LOCALITY + k. */
typedef enum lemoe_role { LEMOE_ROLE_EDIT = 0, LEMOE_ROLE_PARAPHRASE = 1, LEMOE_ROLE_LOCALITY = 2 } lemoe_role;
enum { LEMOE_MAX_ROLE = LEMOE_ROLE_LOCALITY + LEMOE_MAX_LOCALITY };

/* Tokens of one text. ids[0] is BOS where the tokenizer has one; ids[n_prompt .. n_tok) are the targets. */
typedef struct lemoe_sequence {
    const int32_t *ids;
    int64_t n_tok;                      /* 0: the record has no such text */
    int64_t n_prompt;                   /* first target position, BOS counted; n_tok - n_prompt targets, at least 1 */
    int64_t subject_begin, subject_end; /* tokens of the subject inside the prompt; equal when it is not in the text */
    int64_t edit;                       /* index of the edit in the dataset */
    int role;                           /* lemoe_role, + kind for locality */
} lemoe_sequence;

typedef struct lemoe_edit_stream {
    const lemoe_dataset *dataset; /* borrowed */
    int64_t n_edit;
    int n_role;                /* LEMOE_ROLE_LOCALITY + n_locality */
    lemoe_sequence *sequences; /* [n_edit * n_role]; see lemoe_edit_stream_at */
    int64_t n_short_prefix;    /* texts whose common prefix is shorter than the prompt's tokens */
    int64_t n_subject_missing; /* edit prompts in which the subject was not found */
    void *ids;                 /* storage behind the sequences */
} lemoe_edit_stream;

/* Local. max_tok: the model's longest sequence; a longer text is an error naming record and length. */
lemoe_status lemoe_edit_stream_create(const lemoe_dataset *dataset, const lemoe_tokenizer *tokenizer, bool eos,
                                      int64_t max_tok, lemoe_edit_stream **out) LEMOE_MUST_CHECK;
void lemoe_edit_stream_destroy(lemoe_edit_stream *stream);
static inline const lemoe_sequence *lemoe_edit_stream_at(const lemoe_edit_stream *stream, int64_t edit, int role) {
    return &stream->sequences[edit * stream->n_role + role];
}

#endif

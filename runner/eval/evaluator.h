/*
 * The three metrics of a run at its moments. The evaluator holds the stream's items and the pristine model's
 * predictions; each call scores a range of batches in every role and puts the rows into the results (docs/method.md 4).
 * Their paths are rows of results_schema.c.
 *
 * Batches are the unit of packing: base, immediate, milestone and final score a batch in the same packs, so an edit
 * that nothing touched has bit-equal logits at every moment.
 */
#ifndef RUNNER_EVAL_EVALUATOR_H
#define RUNNER_EVAL_EVALUATOR_H

#include "runner/eval/score.h"
#include "runner/results/results.h"
#include "runner/state/state.h"

/* The stream, in editing order. */
typedef struct lemoe_eval_stream {
    int64_t n_edit, n_batch;
    int n_role, n_locality;
    const char *const *locality_name; /* as in lemoe_dataset; [0] is "" */
    const int64_t *batch_start;       /* [n_batch + 1] */
    const lemoe_item *items;          /* [n_role][n_edit] */
    const int64_t *superseded_by;     /* [n_edit] the next edit that gives the same prompt another target; -1: none.
                                         NULL: none has one */
} lemoe_eval_stream;

/* Local. An edit is in force as long as none of the first n_edits edits supersedes it. Afterwards the model should no
 * longer say its target: reliability, generality and routes at the end and at milestones leave it out (NaN). */
static inline bool lemoe_eval_in_force(const lemoe_eval_stream *stream, int64_t edit, int64_t n_edits) {
    int64_t by = stream->superseded_by ? stream->superseded_by[edit] : -1;
    return by < 0 || by >= n_edits;
}

typedef struct lemoe_evaluator lemoe_evaluator;

typedef enum lemoe_moment { LEMOE_MOMENT_BASE, LEMOE_MOMENT_IMMEDIATE, LEMOE_MOMENT_FINAL } lemoe_moment;

typedef struct lemoe_evaluator_args {
    lemoe_scorer scorer;
    const lemoe_eval_stream *stream; /* borrowed */
    lemoe_results *results;          /* NULL on ranks other than the team's first */
    bool score_tok, score_all;
    /* Collective, between batches; what it returns is agreed. NULL: nobody wants to stop the scoring. */
    lemoe_status (*between)(void *context);
    void *between_context;
} lemoe_evaluator_args;

/* Local. */
lemoe_status lemoe_evaluator_create(const lemoe_evaluator_args *args, lemoe_evaluator **out) LEMOE_MUST_CHECK;
void lemoe_evaluator_destroy(lemoe_evaluator *evaluator);

/* Headline means of the last scoring, for progress lines: over what was just scored. */
typedef struct lemoe_eval_means {
    double reliability, generality, locality;
} lemoe_eval_means;

/* Collective. Scores all edits of batches [first, first + n_batches) and puts /eval/<moment>/... rows. BASE must come
 * first, with seams inactive, over all batches: its predictions are what locality is compared with, ever after. */
lemoe_status lemoe_evaluator_score(lemoe_evaluator *evaluator, lemoe_moment moment, int64_t first, int64_t n_batches,
                                   lemoe_eval_means *means) LEMOE_MUST_CHECK;
/* Collective. Scores batches [0, n_done) and puts row `milestone` of /eval/milestone/...; from_last: the scores of the
 * last call cover those batches at this very state of the model and are taken instead of computing them again. */
lemoe_status lemoe_evaluator_milestone(lemoe_evaluator *evaluator, int64_t milestone, int64_t n_done,
                                       bool from_last) LEMOE_MUST_CHECK;
/* Local. Its state: the predictions of the pristine model. Loading it takes the place of scoring BASE. */
lemoe_status lemoe_evaluator_visit(void *evaluator, lemoe_state *state) LEMOE_MUST_CHECK;

#endif

/*
 * Scoring sequences teacher-forced, exactly as docs/method.md 4.2: at each target position the model sees the gold
 * prefix, predicts the largest logit, and that is compared with the gold token (accuracy) or with the pristine model's
 * prediction (agreement).
 */
#ifndef RUNNER_EVAL_SCORE_H
#define RUNNER_EVAL_SCORE_H

#include "runner/comm/tick.h"
#include "runner/model/llama.h"

/* What one pass over an item gives. n_target 0: the item has no text or nothing was computed. */
typedef struct lemoe_score {
    int64_t n_target;
    int64_t n_correct;  /* predictions equal to the gold token */
    double nll;         /* sum of -log p over the targets, nats */
    int32_t *predicted; /* [n_target] caller's storage; NULL where not wanted */
} lemoe_score;

typedef struct lemoe_scorer {
    lemoe_llama *model;
    int64_t cut;
    int64_t pack_tokens; /* canonical packs: item order, this budget */
    lemoe_arena *arena;  /* scratch; marked and reset */
    lemoe_tick *tick;    /* may be NULL */
} lemoe_scorer;

/* Collective. Scores items in canonical packs; items with n_tok 0 are passed over (their n_target is 0). */
lemoe_status lemoe_score_items(const lemoe_scorer *scorer, const lemoe_item *items, int64_t n_items,
                               lemoe_score *scores) LEMOE_MUST_CHECK;

/* Local, pure. (1/m) sum 1[pred == gold]; 1 if all are; the same against reference predictions. NaN where n_target is
 * 0. */
double lemoe_score_token_accuracy(const lemoe_score *score);
double lemoe_score_whole_answer(const lemoe_score *score);
double lemoe_score_token_agreement(const lemoe_score *score, const lemoe_score *pristine);
double lemoe_score_whole_agreement(const lemoe_score *score, const lemoe_score *pristine);

#endif

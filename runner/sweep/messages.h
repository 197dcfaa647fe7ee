/*
 * What coordinator and workers say to each other, and which word holds what. Private to runner/sweep.
 *
 *   coordinator -> members of a team   FORM      team, run, ranks...           open that team, begin with that run
 *   coordinator -> leader              NEXT      run                           go on with it; -1: dissolve the team
 *   coordinator -> leader              RECALL    run                           give it back if it has not begun
 *   coordinator -> everybody           STOP                                    nothing is left
 *   leader -> coordinator              DONE      team, run, outcome, measures..., error text
 *   leader -> coordinator              RETURNED  team, run                     it was given back
 *   leader -> coordinator              PROGRESS  team, run, measures...
 *
 * Messages between two ranks keep their order, and those that cross a DONE need no answer: both sides draw the same
 * conclusion. A leader gives a run back only while it works on another, so a RECALL that meets a DONE comes too late:
 * the run has begun. After a DONE that is a team's last (lemoe_outcome_is_last) a NEXT on its way is void, and only -1
 * is waited for.
 */
#ifndef RUNNER_SWEEP_MESSAGES_H
#define RUNNER_SWEEP_MESSAGES_H

#include "runner/comm/mailbox.h"

#include <string.h>

enum {
    LEMOE_MESSAGE_FORM = 1,
    LEMOE_MESSAGE_NEXT,
    LEMOE_MESSAGE_RECALL,
    LEMOE_MESSAGE_STOP,
    LEMOE_MESSAGE_DONE,
    LEMOE_MESSAGE_RETURNED,
    LEMOE_MESSAGE_PROGRESS
};

/* How a run ended for its team. */
typedef enum lemoe_outcome {
    LEMOE_OUTCOME_COMPLETE,
    LEMOE_OUTCOME_FAILED,
    LEMOE_OUTCOME_INTERRUPTED,
    LEMOE_OUTCOME_ELSEWHERE /* another launch works on it, or has finished it */
} lemoe_outcome;

/* Nothing more is begun by a team whose run ended so. */
static inline bool lemoe_outcome_is_last(lemoe_outcome outcome, bool fail_fast) {
    return outcome == LEMOE_OUTCOME_INTERRUPTED || (outcome == LEMOE_OUTCOME_FAILED && fail_fast);
}

/* Numbers a leader tells about its run, in DONE from word 3 and in PROGRESS from word 2; the rest of DONE is text. */
typedef struct lemoe_run_measures {
    int64_t n_batch, n_batch_done, n_step, peak_bytes, planned_bytes;
    int64_t is_resumed;            /* not measured from the run's beginning */
    double train_seconds, seconds; /* of updates; of the whole run so far */
    double loss, immediate[3];
    char phase[8];
} lemoe_run_measures;
enum { LEMOE_MEASURE_WORDS = sizeof(lemoe_run_measures) / sizeof(int64_t) };

static inline void lemoe_message_put_measures(lemoe_message *message, const lemoe_run_measures *measures) {
    memcpy(message->word + message->n_word, measures, sizeof *measures);
    message->n_word += LEMOE_MEASURE_WORDS;
}

static inline void lemoe_message_get_measures(const lemoe_message *message, int first_word, lemoe_run_measures *out) {
    memcpy(out, message->word + first_word, sizeof *out);
}

#endif

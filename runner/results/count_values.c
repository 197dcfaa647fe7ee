/* How far a run has got, in numbers committed to its journal. */
#include "runner/io/file.h"
#include "runner/results/replay.h"
#include "runner/results/results.h"

#include <math.h>
#include <stddef.h>

static int64_t count_column(const lemoe_replay_column *column, int64_t n_element) {
    int64_t n = 0;
    for (int64_t i = 0; column->f64 && i < n_element; i++) n += !isnan(column->f64[i]);
    return n;
}

static lemoe_status play_back(const char *journal_path, lemoe_replay **out) {
    LEMOE_TRY(lemoe_replay_create(journal_path, false, out));
    return lemoe_replay_advance(*out, journal_path);
}

lemoe_status lemoe_results_count_batches(const char *journal_path, int64_t *n_done, int64_t *n_batch) {
    lemoe_replay *replay = NULL;
    *n_done = *n_batch = 0;
    if (!lemoe_file_exists(journal_path)) return LEMOE_OK;
    lemoe_status status = play_back(journal_path, &replay);
    const lemoe_replay_column *cost = NULL, *plan = NULL; /* the plan is put first, a row a batch */
    if (status == LEMOE_OK) {
        cost = lemoe_replay_column_of(replay, "/cost/seconds");
        plan = lemoe_replay_column_of(replay, "/plan/similarity");
    }
    if (cost) *n_done = count_column(cost, cost->n_row);
    if (plan) *n_batch = plan->n_row;
    lemoe_replay_destroy(replay);
    return status;
}

lemoe_status lemoe_results_count_values(const char *journal_path, int64_t *out) {
    lemoe_replay *replay = NULL;
    lemoe_status status = LEMOE_OK;
    *out = 0;
    if (!lemoe_file_exists(journal_path)) return LEMOE_OK;
    LEMOE_TRY_GOTO(play_back(journal_path, &replay));
    for (int64_t i = 0; replay->schema && i < replay->schema->n_dataset; i++)
        if (replay->columns[i].is_put) *out += count_column(&replay->columns[i], replay->columns[i].n_row);
out:
    lemoe_replay_destroy(replay);
    return status;
}

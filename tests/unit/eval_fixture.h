/* A small stream - two batches of two edits, one kind of locality - and results that are read back from the journal. */
#ifndef TESTS_UNIT_EVAL_FIXTURE_H
#define TESTS_UNIT_EVAL_FIXTURE_H

#include "runner/eval/evaluator.h"
#include "runner/results/replay.h"
#include "tests/unit/fixture.h"

enum { EVAL_EDITS = 4, EVAL_BATCHES = 2, EVAL_ROLES = 3, EVAL_EXPERTS = 2 };

static const char *const eval_kinds[] = {""};
static const int64_t eval_batch_start[] = {0, 2, 4};

static inline lemoe_eval_stream eval_stream(const lemoe_item *items) {
    return (lemoe_eval_stream){.n_edit = EVAL_EDITS,
                               .n_batch = EVAL_BATCHES,
                               .n_role = EVAL_ROLES,
                               .n_locality = 1,
                               .locality_name = eval_kinds,
                               .batch_start = eval_batch_start,
                               .items = items};
}

static inline lemoe_results *eval_results(void **state, const char *run_id) {
    lemoe_results *results = NULL;
    lemoe_results_args args = {
        .folder = (char *)*state,
        .run_id = run_id,
        .axes = {EVAL_EDITS, EVAL_BATCHES, .n_milestone = 2, .n_expert = EVAL_EXPERTS, .n_locality = 1,
                 .locality_name = eval_kinds}
    };
    assert_ok(lemoe_results_open(&args, &results));
    return results;
}

/* Commits, closes and plays back. */
static inline lemoe_replay *eval_played_back(void **state, lemoe_results *results, const char *run_id) {
    lemoe_replay *replay = NULL;
    char path[512], name[64];
    assert_ok(lemoe_results_commit(results));
    lemoe_results_close(results);
    (void)snprintf(name, sizeof name, "%s.journal", run_id);
    assert_ok(lemoe_replay_create(name, false, &replay));
    assert_ok(lemoe_replay_advance(replay, fixture_path(state, name, path)));
    return replay;
}

static inline void assert_reals(const lemoe_replay *replay, const char *path, const double *want, int64_t n) {
    const lemoe_replay_column *column = lemoe_replay_column_of(replay, path);
    if (!column) fail_msg("%s was not put", path);
    for (int64_t i = 0; i < n; i++) {
        double got = column->f64[i];
        if (!(isnan(want[i]) ? isnan(got) : fabs(got - want[i]) < 1e-6))
            fail_msg("%s[%d] is %g, not %g", path, (int)i, got, want[i]);
    }
}

static inline void assert_integers(const lemoe_replay *replay, const char *path, const int64_t *want, int64_t n) {
    const lemoe_replay_column *column = lemoe_replay_column_of(replay, path);
    if (!column) fail_msg("%s was not put", path);
    for (int64_t i = 0; i < n; i++)
        if (column->i64[i] != want[i])
            fail_msg("%s[%d] is %d, not %d", path, (int)i, (int)column->i64[i], (int)want[i]);
}

#endif

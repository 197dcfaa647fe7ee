#include "runner/results/results.h"

#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "runner/io/atomic_file.h"
#include "runner/io/file.h"
#include "runner/io/lease.h"
#include "runner/results/publish_run.h"
#include "runner/results/summary.h"

#include <string.h>

struct lemoe_results {
    char *journal_path, *h5_path;
    lemoe_schema *schema;
    lemoe_lease *lease;
    lemoe_journal *journal;
    lemoe_replay *replay;  /* of our own journal, for publishing; made when needed */
    lemoe_payload payload; /* reused from frame to frame */
    lemoe_payload header;  /* of the journal */
    char *run_id;
    int64_t checkpoints[LEMOE_RESULTS_CHECKPOINTS]; /* of a reopened journal */
    double publish_seconds, next_publish;           /* next: monotonic; 0 at first, so the first commit publishes */
};

/* ---- opening ---- */

/* What is there may be replaced unless it is complete, or cannot be read: somebody may want it. */
static lemoe_status check_replaceable(const char *journal_path) {
    lemoe_results_summary summary;
    lemoe_status status = lemoe_results_read_summary(journal_path, &summary);
    if (status != LEMOE_OK) {
        lemoe_error_prefix("the run cannot start over an older journal (delete it, or choose another output folder)");
        return lemoe_error_frame(status, __FILE__, __LINE__, __func__);
    }
    bool is_complete = summary.exists && strcmp(summary.status, "complete") == 0;
    lemoe_results_summary_free(&summary);
    LEMOE_CHECK(!is_complete, LEMOE_ERR_STATE, "%s: this run is complete; delete the file to run it again",
                journal_path);
    return LEMOE_OK;
}

static lemoe_status put_text_attribute(lemoe_results *results, const char *name, const char *text) {
    results->payload.n_bytes = 0;
    LEMOE_TRY(lemoe_replay_encode_attribute(name, text, 0, &results->payload));
    return lemoe_journal_append(results->journal, LEMOE_FRAME_ATTRIBUTE, &results->payload);
}

static lemoe_status begin_journal(lemoe_results *results) {
    char now[21];
    LEMOE_TRY(lemoe_journal_create(results->journal_path, &results->journal));
    LEMOE_TRY(lemoe_journal_append(results->journal, LEMOE_FRAME_HEADER, &results->header));
    LEMOE_TRY(put_text_attribute(results, "run_id", results->run_id));
    LEMOE_TRY(put_text_attribute(results, "status", "running"));
    LEMOE_TRY(put_text_attribute(results, "error", ""));
    lemoe_clock_utc(now);
    LEMOE_TRY(put_text_attribute(results, "started_at", now));
    return lemoe_journal_commit(results->journal);
}

/* ---- going on ---- */

static bool same_axes(const lemoe_schema *a, const lemoe_schema *b) {
    bool is_same = a->n_dataset == b->n_dataset;
    for (int64_t i = 0; is_same && i < a->n_dataset; i++) {
        const lemoe_schema_dataset *x = &a->datasets[i], *y = &b->datasets[i];
        is_same = strcmp(x->path, y->path) == 0 && x->n_row == y->n_row && x->row_element == y->row_element;
    }
    return is_same;
}

static bool can_go_on(const lemoe_results *results, const lemoe_replay *replay, const char *identity) {
    const lemoe_replay_attribute *known = lemoe_replay_attribute_of(replay, "identity");
    return identity && known && known->text && strcmp(known->text, identity) == 0 && replay->checkpoints[0] > 0 &&
           same_axes(results->schema, replay->schema);
}

/* Reopens the journal when the run can go on with it; else results->journal stays NULL. */
static lemoe_status reopen_journal(lemoe_results *results, const char *identity) {
    lemoe_replay *replay = NULL;
    lemoe_status status = LEMOE_OK;
    if (!lemoe_file_exists(results->journal_path)) return LEMOE_OK;
    LEMOE_TRY_GOTO(lemoe_replay_create(results->journal_path, false, &replay));
    LEMOE_TRY_GOTO(lemoe_replay_advance(replay, results->journal_path));
    if (!can_go_on(results, replay, identity)) goto out;
    LEMOE_TRY_GOTO(replay->has_ended ? lemoe_journal_revive(results->journal_path, &results->journal)
                                     : lemoe_journal_reopen(results->journal_path, &results->journal));
    memcpy(results->checkpoints, replay->checkpoints, sizeof results->checkpoints);
    if (!replay->has_ended) { /* what was read need not be read again */
        results->replay = replay;
        replay = NULL;
    }
out:
    lemoe_replay_destroy(replay);
    return status;
}

const int64_t *lemoe_results_checkpoints(const lemoe_results *results) { return results->checkpoints; }

lemoe_status lemoe_results_go_on(lemoe_results *results) {
    LEMOE_TRY(put_text_attribute(results, "status", "running"));
    return put_text_attribute(results, "error", "");
}

lemoe_status lemoe_results_start_over(lemoe_results *results) {
    if (results->checkpoints[0] == 0) return LEMOE_OK;
    memset(results->checkpoints, 0, sizeof results->checkpoints);
    lemoe_replay_destroy(results->replay);
    results->replay = NULL;
    lemoe_journal_close(results->journal);
    results->journal = NULL;
    return begin_journal(results);
}

static bool is_run_id(const char *run_id) {
    return run_id[0] != '.' && !strchr(run_id, '/') && lemoe_file_name_is_inside(run_id);
}

lemoe_status lemoe_results_open(const lemoe_results_args *args, lemoe_results **out) {
    lemoe_results *results = NULL;
    lemoe_status status = LEMOE_OK;
    LEMOE_CHECK(is_run_id(args->run_id), LEMOE_ERR_ARG, "`%s` cannot name a run", args->run_id);
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof *results, &results));
    results->publish_seconds = args->publish_seconds;
    LEMOE_TRY_GOTO(lemoe_mem_strdup(args->run_id, &results->run_id));
    LEMOE_TRY_GOTO(lemoe_replay_encode_header(&args->axes, args->run_id, &results->header));
    LEMOE_TRY_GOTO(lemoe_schema_create(&args->axes, &results->schema));
    LEMOE_TRY_GOTO(lemoe_mem_printf(&results->journal_path, "%s/%s.journal", args->folder, args->run_id));
    LEMOE_TRY_GOTO(lemoe_mem_printf(&results->h5_path, "%s/%s.h5", args->folder, args->run_id));
    LEMOE_TRY_GOTO(lemoe_file_make_folders(args->folder));
    LEMOE_TRY_GOTO(lemoe_lease_acquire(results->journal_path, &results->lease));
    lemoe_atomic_file_sweep(results->h5_path);
    LEMOE_TRY_GOTO(check_replaceable(results->journal_path));
    LEMOE_TRY_GOTO(reopen_journal(results, args->identity));
    if (!results->journal) LEMOE_TRY_GOTO(begin_journal(results));
    *out = results;
    results = NULL;
out:
    lemoe_results_close(results);
    return status;
}

void lemoe_results_close(lemoe_results *results) {
    if (!results) return;
    lemoe_replay_destroy(results->replay);
    lemoe_journal_close(results->journal);
    lemoe_lease_release(results->lease);
    lemoe_schema_destroy(results->schema);
    lemoe_payload_reset(&results->payload);
    lemoe_payload_reset(&results->header);
    lemoe_mem_free(results->run_id);
    lemoe_mem_free(results->journal_path);
    lemoe_mem_free(results->h5_path);
    lemoe_mem_free(results);
}

/* ---- putting ---- */

static lemoe_status check_attribute(const char *name) {
    LEMOE_CHECK(name[0] && !strchr(name, '/') && !strchr(name, ',') && strlen(name) <= 256, LEMOE_ERR_ARG,
                "`%s` cannot name an attribute", name);
    return LEMOE_OK;
}

lemoe_status lemoe_results_attribute(lemoe_results *results, const char *name, const char *text) {
    LEMOE_TRY(check_attribute(name));
    return put_text_attribute(results, name, text ? text : "");
}

lemoe_status lemoe_results_attribute_int(lemoe_results *results, const char *name, int64_t value) {
    LEMOE_TRY(check_attribute(name));
    results->payload.n_bytes = 0;
    LEMOE_TRY(lemoe_replay_encode_attribute(name, NULL, value, &results->payload));
    return lemoe_journal_append(results->journal, LEMOE_FRAME_ATTRIBUTE, &results->payload);
}

static lemoe_status check_i32(const lemoe_rows *rows) {
    const int64_t *values = rows->values;
    for (int64_t i = 0; i < rows->n_element; i++)
        LEMOE_CHECK(values[i] >= INT32_MIN && values[i] <= INT32_MAX, LEMOE_ERR_ARG, "%s: %lld does not fit its type",
                    rows->path, (long long)values[i]);
    return LEMOE_OK;
}

static lemoe_status put(lemoe_results *results, lemoe_rows rows) {
    int64_t index = lemoe_schema_find(results->schema, rows.path);
    LEMOE_CHECK(index >= 0, LEMOE_ERR_ARG, "%s is not a dataset of the schema", rows.path);
    const lemoe_schema_dataset *dataset = &results->schema->datasets[index];
    lemoe_element element = dataset->row->element;
    LEMOE_CHECK(rows.element == element || (rows.element == LEMOE_ELEMENT_I64 && element == LEMOE_ELEMENT_I32),
                LEMOE_ERR_ARG, "%s holds values of type %s", rows.path, lemoe_element_name(element));
    int64_t limit = dataset->n_row < 0 ? INT64_C(1) << 31 : dataset->n_row;
    LEMOE_CHECK(rows.first >= 0 && rows.n_rows >= 0 && rows.first <= limit && rows.n_rows <= limit - rows.first,
                LEMOE_ERR_ARG, "%s: rows %lld and %lld more do not fit an axis of %lld", rows.path,
                (long long)rows.first, (long long)rows.n_rows, (long long)limit);
    rows.n_element = rows.n_rows * dataset->row_element;
    if (rows.n_element == 0) return LEMOE_OK;
    if (element == LEMOE_ELEMENT_I32) LEMOE_TRY(check_i32(&rows));
    results->payload.n_bytes = 0;
    LEMOE_TRY(lemoe_replay_encode_rows(&rows, &results->payload));
    return lemoe_journal_append(results->journal, LEMOE_FRAME_ROWS, &results->payload);
}

lemoe_status lemoe_results_put_f64(lemoe_results *results, const char *path, int64_t first, int64_t n_rows,
                                   const double *values) {
    return put(results, (lemoe_rows){path, LEMOE_ELEMENT_F64, first, n_rows, 0, values});
}

lemoe_status lemoe_results_put_i64(lemoe_results *results, const char *path, int64_t first, int64_t n_rows,
                                   const int64_t *values) {
    return put(results, (lemoe_rows){path, LEMOE_ELEMENT_I64, first, n_rows, 0, values});
}

lemoe_status lemoe_results_put_text(lemoe_results *results, const char *path, int64_t first, int64_t n_rows,
                                    const char *const *values) {
    return put(results, (lemoe_rows){path, LEMOE_ELEMENT_TEXT, first, n_rows, 0, values});
}

/* ---- committing and publishing ---- */

lemoe_status lemoe_results_tick(lemoe_results *results) { return lemoe_lease_renew(results->lease); }

static lemoe_status read_back(lemoe_results *results) {
    if (!results->replay) LEMOE_TRY(lemoe_replay_create(results->journal_path, false, &results->replay));
    lemoe_status status = lemoe_replay_advance(results->replay, results->journal_path);
    if (status == LEMOE_OK) return LEMOE_OK;
    lemoe_replay_destroy(results->replay); /* half played back; the next time starts anew */
    results->replay = NULL;
    return lemoe_error_frame(status, __FILE__, __LINE__, __func__);
}

static lemoe_status publish(lemoe_results *results) {
    double begin = lemoe_clock_seconds();
    lemoe_status status = read_back(results);
    if (status == LEMOE_OK) status = lemoe_publish_run(results->replay, results->h5_path);
    /* After a failure too: a full disk is not tried again at every commit. A file that takes long to write is written
     * less often than asked for, so that publishing stays a small part of the run. */
    double end = lemoe_clock_seconds();
    double pause = 10 * (end - begin);
    results->next_publish = results->publish_seconds == 0      ? end
                            : pause > results->publish_seconds ? end + pause
                                                               : begin + results->publish_seconds;
    return status;
}

lemoe_status lemoe_results_commit(lemoe_results *results) {
    /* Before the write: whoever lost the lease must not append to what is now another's. */
    LEMOE_TRY(lemoe_lease_renew(results->lease));
    LEMOE_TRY(lemoe_journal_commit(results->journal));
    if (lemoe_clock_seconds() < results->next_publish) return LEMOE_OK;
    if (publish(results) == LEMOE_OK) return LEMOE_OK;
    lemoe_log(LEMOE_LOG_WARN, "not published for now, the journal has all rows: %s", lemoe_error_message());
    lemoe_error_clear();
    return LEMOE_OK;
}

lemoe_status lemoe_results_checkpoint(lemoe_results *results, int64_t serial) {
    results->payload.n_bytes = 0;
    LEMOE_TRY(lemoe_replay_encode_checkpoint(serial, &results->payload));
    LEMOE_TRY(lemoe_journal_append(results->journal, LEMOE_FRAME_CHECKPOINT, &results->payload));
    return lemoe_results_commit(results);
}

/* A run that has ended carries its summary in its last frame, so that tables of many runs are cheap. */
static lemoe_status end_journal(lemoe_results *results) {
    lemoe_results_summary summary;
    lemoe_status status = lemoe_summary_from_replay(results->replay, &summary);
    results->payload.n_bytes = 0;
    if (status == LEMOE_OK) status = lemoe_summary_encode(&summary, &results->payload);
    lemoe_results_summary_free(&summary);
    LEMOE_TRY(status);
    return lemoe_journal_end(results->journal, &results->payload);
}

lemoe_status lemoe_results_finish(lemoe_results *results, const char *status, const char *error) {
    char now[21];
    bool is_interrupted = strcmp(status, "interrupted") == 0;
    LEMOE_CHECK(is_interrupted || strcmp(status, "complete") == 0 || strcmp(status, "failed") == 0, LEMOE_ERR_ARG,
                "a run cannot finish as `%s`", status);
    LEMOE_TRY(lemoe_lease_renew(results->lease));
    lemoe_clock_utc(now);
    LEMOE_TRY(put_text_attribute(results, "status", status));
    LEMOE_TRY(put_text_attribute(results, "error", error ? error : ""));
    LEMOE_TRY(put_text_attribute(results, "ended_at", now));
    LEMOE_TRY(lemoe_journal_commit(results->journal));
    LEMOE_TRY(read_back(results));
    if (!is_interrupted) LEMOE_TRY(end_journal(results));
    return publish(results);
}

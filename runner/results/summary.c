#include "runner/results/summary.h"

#include "kernels/base/mem.h"
#include "runner/io/file.h"
#include "runner/io/lease.h"
#include "runner/results/publish_run.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

const char *const lemoe_summary_moments[3] = {"base", "immediate", "final"};
const char *const lemoe_summary_metrics[3] = {"reliability", "generality", "locality"};

static void clear(lemoe_results_summary *out) {
    memset(out, 0, sizeof *out);
    out->consistency = out->seconds = (double)NAN;
    out->peak_bytes = -1;
    for (int i = 0; i < 9; i++) out->score[i / 3][i % 3] = out->score_all[i / 3][i % 3] = (double)NAN;
}

/* Missing values are no edits: they lower n, not the mean. */
static double mean_of(const lemoe_replay *replay, const char *path, int64_t *n) {
    const lemoe_replay_column *column = lemoe_replay_column_of(replay, path);
    double sum = 0;
    *n = 0;
    for (int64_t i = 0; column && i < column->n_row; i++) {
        if (isnan(column->f64[i])) continue;
        sum += column->f64[i];
        ++*n;
    }
    return *n ? sum / (double)*n : (double)NAN;
}

static double mean_diagonal(const lemoe_replay *replay) {
    const lemoe_replay_column *column = lemoe_replay_column_of(replay, "/routing/consistency");
    double sum = 0;
    int64_t n = 0;
    for (int64_t i = 0; column && i < column->n_row; i++) {
        double value = column->f64[i * (column->n_row + 1) + i];
        if (isnan(value)) continue;
        sum += value;
        n++;
    }
    return n ? sum / (double)n : (double)NAN;
}

static void read_costs(const lemoe_replay *replay, lemoe_results_summary *out) {
    const lemoe_replay_column *seconds = lemoe_replay_column_of(replay, "/cost/seconds");
    const lemoe_replay_column *peak = lemoe_replay_column_of(replay, "/cost/peak_bytes");
    for (int64_t i = 0; seconds && i < seconds->n_row; i++) {
        if (isnan(seconds->f64[i])) continue;
        out->seconds = seconds->f64[i] + (isnan(out->seconds) ? 0 : out->seconds);
    }
    for (int64_t i = 0; peak && i < peak->n_row; i++)
        if (peak->i64[i] > out->peak_bytes) out->peak_bytes = peak->i64[i];
}

static void copy_attribute(const lemoe_replay *replay, const char *name, char *out, size_t n_bytes) {
    const lemoe_replay_attribute *attribute = lemoe_replay_attribute_of(replay, name);
    if (attribute && attribute->text) (void)snprintf(out, n_bytes, "%s", attribute->text);
}

lemoe_status lemoe_summary_from_replay(const lemoe_replay *replay, lemoe_results_summary *out) {
    clear(out);
    if (!replay->schema) return LEMOE_OK;
    out->exists = true;
    copy_attribute(replay, "status", out->status, sizeof out->status);
    copy_attribute(replay, "identity", out->identity, sizeof out->identity);
    const lemoe_replay_attribute *error = lemoe_replay_attribute_of(replay, "error");
    if (error && error->text && error->text[0]) LEMOE_TRY(lemoe_mem_strdup(error->text, &out->error));
    for (int moment = 0; moment < 3; moment++)
        for (int metric = 0; metric < 3; metric++) {
            char path[64];
            int n = snprintf(path, sizeof path, "/eval/%s/%s", lemoe_summary_moments[moment],
                             lemoe_summary_metrics[metric]);
            out->score[moment][metric] = mean_of(replay, path, &out->n_score[moment][metric]);
            (void)snprintf(path + n, sizeof path - (size_t)n, "_all");
            out->score_all[moment][metric] = mean_of(replay, path, &out->n_score_all[moment][metric]);
        }
    out->consistency = mean_diagonal(replay);
    read_costs(replay, out);
    return LEMOE_OK;
}

lemoe_status lemoe_summary_encode(const lemoe_results_summary *summary, lemoe_payload *out) {
    LEMOE_TRY(lemoe_payload_put_text(out, summary->status));
    LEMOE_TRY(lemoe_payload_put_text(out, summary->identity));
    LEMOE_TRY(lemoe_payload_put_text(out, summary->error ? summary->error : ""));
    LEMOE_TRY(lemoe_payload_put(out, summary->score, (int64_t)sizeof summary->score));
    LEMOE_TRY(lemoe_payload_put(out, summary->score_all, (int64_t)sizeof summary->score_all));
    LEMOE_TRY(lemoe_payload_put(out, summary->n_score, (int64_t)sizeof summary->n_score));
    LEMOE_TRY(lemoe_payload_put(out, summary->n_score_all, (int64_t)sizeof summary->n_score_all));
    LEMOE_TRY(lemoe_payload_put(out, &summary->consistency, 8));
    LEMOE_TRY(lemoe_payload_put(out, &summary->seconds, 8));
    LEMOE_TRY(lemoe_payload_put_i64(out, summary->peak_bytes));
    /* Last, so that the frame can be found from the end of the file. */
    return lemoe_payload_put_i64(out, out->n_bytes + 8);
}

static void get(lemoe_payload_cursor *cursor, void *out, size_t n_bytes) {
    const unsigned char *data = lemoe_payload_get(cursor, (int64_t)n_bytes);
    if (data) memcpy(out, data, n_bytes);
}

static lemoe_status get_word(lemoe_payload_cursor *cursor, char *out, size_t n_bytes) {
    char *text = NULL;
    LEMOE_TRY(lemoe_payload_get_copy(cursor, &text));
    (void)snprintf(out, n_bytes, "%s", text);
    lemoe_mem_free(text);
    return LEMOE_OK;
}

lemoe_status lemoe_summary_decode(const unsigned char *data, int64_t n_bytes, lemoe_results_summary *out,
                                  bool *is_whole) {
    lemoe_payload_cursor cursor = {data, n_bytes, 0, false};
    clear(out);
    LEMOE_TRY(get_word(&cursor, out->status, sizeof out->status));
    LEMOE_TRY(get_word(&cursor, out->identity, sizeof out->identity));
    LEMOE_TRY(lemoe_payload_get_copy(&cursor, &out->error));
    get(&cursor, out->score, sizeof out->score);
    get(&cursor, out->score_all, sizeof out->score_all);
    get(&cursor, out->n_score, sizeof out->n_score);
    get(&cursor, out->n_score_all, sizeof out->n_score_all);
    get(&cursor, &out->consistency, 8);
    get(&cursor, &out->seconds, 8);
    out->peak_bytes = lemoe_payload_get_i64(&cursor);
    int64_t length = lemoe_payload_get_i64(&cursor);
    *is_whole = !cursor.is_short && cursor.at == n_bytes && length == n_bytes;
    if (!out->error[0] || !*is_whole) {
        lemoe_mem_free(out->error);
        out->error = NULL;
    }
    out->exists = *is_whole;
    return LEMOE_OK;
}

static lemoe_status read_end(const char *path, lemoe_results_summary *out, bool *is_whole) {
    unsigned char *data = NULL;
    int64_t n_bytes = 0;
    *is_whole = false;
    LEMOE_TRY(lemoe_journal_load_end(path, &data, &n_bytes));
    lemoe_status status = data ? lemoe_summary_decode(data, n_bytes, out, is_whole) : LEMOE_OK;
    lemoe_mem_free(data);
    return status;
}

/* The journal of a run that has ended is all there is where its file is missing or older: then all of it is read, so
 * that damage does not hide behind a last frame that is whole. */
static lemoe_status is_alone(const char *journal_path, bool *out) {
    static const char ending[] = ".journal";
    size_t length = strlen(journal_path), tail = sizeof ending - 1;
    char *h5_path = NULL;
    *out = length > tail && strcmp(journal_path + length - tail, ending) == 0;
    if (!*out) return LEMOE_OK;
    LEMOE_TRY(lemoe_mem_printf(&h5_path, "%.*s.h5", (int)(length - tail), journal_path));
    *out = lemoe_publish_is_due(journal_path, h5_path);
    lemoe_mem_free(h5_path);
    return LEMOE_OK;
}

static lemoe_status read_if_seen(const char *journal_path, lemoe_results_summary *out, bool *is_done) {
    bool alone = false;
    LEMOE_TRY(is_alone(journal_path, &alone));
    *is_done = false;
    return alone ? LEMOE_OK : read_end(journal_path, out, is_done);
}

lemoe_status lemoe_results_read_summary(const char *journal_path, lemoe_results_summary *out) {
    lemoe_replay *replay = NULL;
    lemoe_status status = LEMOE_OK;
    lemoe_lease_owner owner;
    bool is_done = false;
    clear(out);
    if (!lemoe_file_exists(journal_path)) return LEMOE_OK;
    /* Asked before and after reading: a run may end, or begin, in between. */
    bool was_owned = lemoe_lease_probe(journal_path, &owner);
    LEMOE_TRY(read_if_seen(journal_path, out, &is_done));
    if (is_done) return LEMOE_OK;
    LEMOE_TRY_GOTO(lemoe_replay_create(journal_path, false, &replay));
    LEMOE_TRY_GOTO(lemoe_replay_advance(replay, journal_path));
    LEMOE_TRY_GOTO(lemoe_summary_from_replay(replay, out));
    if (strcmp(out->status, "running") == 0 && !was_owned && !lemoe_lease_probe(journal_path, &owner))
        (void)snprintf(out->status, sizeof out->status, "lost");
out:
    lemoe_replay_destroy(replay);
    return status;
}

void lemoe_results_summary_free(lemoe_results_summary *summary) {
    if (!summary) return;
    lemoe_mem_free(summary->error);
    clear(summary);
}

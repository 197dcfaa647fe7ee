/* sweep.h5: the table of all runs. */
#include "kernels/base/mem.h"
#include "runner/io/file.h"
#include "runner/results/h5_file.h"
#include "runner/results/results.h"
#include "runner/results/summary.h"

#include <stdio.h>
#include <string.h>

typedef struct table {
    const char *folder;
    const char *const *axis_keys;
    int64_t n_axis, n_rows;
    const lemoe_sweep_row *rows;
    lemoe_results_summary *summaries; /* [n_rows] */
    lemoe_h5 *file;
    /* one column at a time */
    double *f64;
    int64_t *i64;
    const char **text;
} table;

static lemoe_status check_names(const table *t) {
    for (int64_t i = 0; i < t->n_axis; i++)
        LEMOE_CHECK(t->axis_keys[i][0] && !strchr(t->axis_keys[i], '/'), LEMOE_ERR_ARG,
                    "`%s` cannot name a column of sweep.h5", t->axis_keys[i]);
    for (int64_t i = 0; i < t->n_rows; i++)
        LEMOE_CHECK(lemoe_file_name_is_inside(t->rows[i].run_id) && !strchr(t->rows[i].run_id, '/'), LEMOE_ERR_ARG,
                    "`%s` cannot name a run", t->rows[i].run_id);
    return LEMOE_OK;
}

/* One run that cannot be read is a row that says so, not the end of the table. */
static lemoe_status read_one(const table *t, int64_t i) {
    lemoe_results_summary *summary = &t->summaries[i];
    char *path = NULL;
    LEMOE_TRY(lemoe_mem_printf(&path, "%s/runs/%s.journal", t->folder, t->rows[i].run_id));
    lemoe_status status = lemoe_results_read_summary(path, summary);
    lemoe_mem_free(path);
    if (status == LEMOE_ERR_NOMEM) return lemoe_error_frame(status, __FILE__, __LINE__, __func__);
    if (status == LEMOE_OK) {
        if (!summary->exists) (void)snprintf(summary->status, sizeof summary->status, "waiting");
        return LEMOE_OK;
    }
    (void)snprintf(summary->status, sizeof summary->status, "unreadable");
    LEMOE_TRY(lemoe_mem_strdup(lemoe_error_message(), &summary->error));
    lemoe_error_clear();
    return LEMOE_OK;
}

/* The schema's row of a column; axis columns share one row. */
static const lemoe_schema_row *row_of(const char *path) {
    const lemoe_schema_row *row = NULL;
    for (int64_t i = 0; (row = lemoe_schema_sweep_row_at(i)); i++)
        if (strcmp(row->path, path) == 0) return row;
    return NULL;
}

static lemoe_status write_column(const table *t, const char *pattern, const char *path, const void *values) {
    lemoe_h5_dataset what = {.path = path, .row = row_of(pattern), .values = values, .n_put = t->n_rows};
    LEMOE_CHECK(what.row, LEMOE_ERR_ARG, "%s is not in the schema of sweep.h5", pattern);
    what.long_name = what.row->long_name;
    what.length[0] = t->n_rows;
    return lemoe_h5_write(t->file, &what);
}

static lemoe_status write_identity(const table *t) {
    for (int64_t i = 0; i < t->n_rows; i++) t->text[i] = t->rows[i].run_id;
    LEMOE_TRY(write_column(t, "/id", "/id", t->text));
    for (int64_t i = 0; i < t->n_rows; i++) t->text[i] = t->summaries[i].status;
    LEMOE_TRY(write_column(t, "/status", "/status", t->text));
    for (int64_t i = 0; i < t->n_rows; i++) t->text[i] = t->summaries[i].error;
    LEMOE_TRY(write_column(t, "/error", "/error", t->text));
    for (int64_t k = 0; k < t->n_axis; k++) {
        char *path = NULL;
        for (int64_t i = 0; i < t->n_rows; i++) t->text[i] = t->rows[i].axis_values[k];
        LEMOE_TRY(lemoe_mem_printf(&path, "/axis/%s", t->axis_keys[k]));
        lemoe_status status = write_column(t, "/axis/<key>", path, t->text);
        lemoe_mem_free(path);
        LEMOE_TRY(status);
    }
    for (int64_t i = 0; i < t->n_rows; i++) t->i64[i] = t->rows[i].tensor_parallel;
    LEMOE_TRY(write_column(t, "/tensor_parallel", "/tensor_parallel", t->i64));
    for (int64_t i = 0; i < t->n_rows; i++) t->text[i] = t->rows[i].device;
    return write_column(t, "/device", "/device", t->text);
}

static lemoe_status write_mean(const table *t, int moment, int metric, bool whole_answer) {
    char path[64];
    int n = snprintf(path, sizeof path, "/%s/%s%s", lemoe_summary_moments[moment], lemoe_summary_metrics[metric],
                     whole_answer ? "_all" : "");
    for (int64_t i = 0; i < t->n_rows; i++) {
        const lemoe_results_summary *s = &t->summaries[i];
        t->f64[i] = whole_answer ? s->score_all[moment][metric] : s->score[moment][metric];
        t->i64[i] = whole_answer ? s->n_score_all[moment][metric] : s->n_score[moment][metric];
    }
    LEMOE_TRY(write_column(t, path, path, t->f64));
    (void)snprintf(path + n, sizeof path - (size_t)n, "_n");
    return write_column(t, path, path, t->i64);
}

static lemoe_status write_measures(const table *t) {
    for (int i = 0; i < 18; i++) LEMOE_TRY(write_mean(t, i / 6, i % 3, i / 3 % 2 == 1));
    for (int64_t i = 0; i < t->n_rows; i++) t->f64[i] = t->summaries[i].consistency;
    LEMOE_TRY(write_column(t, "/routing_consistency", "/routing_consistency", t->f64));
    for (int64_t i = 0; i < t->n_rows; i++) t->f64[i] = t->summaries[i].seconds;
    LEMOE_TRY(write_column(t, "/seconds", "/seconds", t->f64));
    for (int64_t i = 0; i < t->n_rows; i++) t->i64[i] = t->summaries[i].peak_bytes;
    return write_column(t, "/peak_bytes", "/peak_bytes", t->i64);
}

/* Links come only where the file is: a link to nothing stops programs that walk over a file. */
static lemoe_status write_links(const table *t) {
    LEMOE_TRY(lemoe_h5_group(t->file, "/runs"));
    for (int64_t i = 0; i < t->n_rows; i++) {
        char *file = NULL, *target = NULL, *path = NULL;
        lemoe_status status = LEMOE_OK;
        LEMOE_TRY_GOTO(lemoe_mem_printf(&target, "runs/%s.h5", t->rows[i].run_id));
        LEMOE_TRY_GOTO(lemoe_mem_printf(&path, "/runs/%s", t->rows[i].run_id));
        LEMOE_TRY_GOTO(lemoe_file_join(t->folder, target, &file));
        if (lemoe_file_exists(file)) LEMOE_TRY_GOTO(lemoe_h5_link_file(t->file, path, target));
    out:
        lemoe_mem_free(file);
        lemoe_mem_free(target);
        lemoe_mem_free(path);
        if (status != LEMOE_OK) return status;
    }
    return LEMOE_OK;
}

static lemoe_status write_table(table *t) {
    LEMOE_TRY(lemoe_h5_attribute_int(t->file, "/", "schema_version", LEMOE_SCHEMA_VERSION));
    if (t->n_rows > 0) {
        for (int64_t i = 0; i < t->n_rows; i++) t->i64[i] = i;
        LEMOE_TRY(lemoe_h5_axis(t->file, LEMOE_AXIS_RUN, t->i64, t->n_rows));
        LEMOE_TRY(write_identity(t));
        LEMOE_TRY(write_measures(t));
    }
    LEMOE_TRY(write_links(t));
    return lemoe_h5_commit(t->file);
}

lemoe_status lemoe_results_publish_sweep(const char *folder, const char *const *axis_keys, int64_t n_axis,
                                         const lemoe_sweep_row *rows, int64_t n_rows) {
    table t = {.folder = folder, .axis_keys = axis_keys, .n_axis = n_axis, .n_rows = n_rows, .rows = rows};
    char *path = NULL;
    lemoe_status status = LEMOE_OK;
    LEMOE_TRY(check_names(&t));
    LEMOE_TRY_GOTO(lemoe_file_make_folders(folder)); /* no run may have come as far as making it */
    LEMOE_TRY_GOTO(lemoe_file_join(folder, "sweep.h5", &path));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(n_rows, sizeof *t.summaries, &t.summaries));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(n_rows, sizeof *t.f64, &t.f64));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(n_rows, sizeof *t.i64, &t.i64));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(n_rows, sizeof *t.text, &t.text));
    for (int64_t i = 0; i < n_rows; i++) LEMOE_TRY_GOTO(read_one(&t, i));
    LEMOE_TRY_GOTO(lemoe_h5_create(path, &t.file));
    LEMOE_TRY_GOTO(write_table(&t));
out:
    lemoe_h5_close(t.file);
    for (int64_t i = 0; t.summaries && i < n_rows; i++) lemoe_results_summary_free(&t.summaries[i]);
    lemoe_mem_free(t.summaries);
    lemoe_mem_free(t.f64);
    lemoe_mem_free(t.i64);
    lemoe_mem_free(t.text);
    lemoe_mem_free(path);
    return status;
}

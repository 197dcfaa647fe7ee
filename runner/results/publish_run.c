#include "runner/results/publish_run.h"

#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "runner/io/atomic_file.h"
#include "runner/results/h5_file.h"
#include "runner/results/results.h"

#include <string.h>
#include <sys/stat.h>

/* ---- root attributes ---- */

static bool is_own(const char *name) {
    return strcmp(name, "schema_version") == 0 || strcmp(name, "volatile_attributes") == 0 ||
           strcmp(name, "salvaged_bytes") == 0;
}

static bool is_volatile(const lemoe_replay_attribute *attribute) {
    if (attribute->is_volatile) return true;
    const lemoe_attribute_row *row = NULL;
    for (int64_t i = 0; (row = lemoe_schema_attribute_at(i)); i++)
        if (row->is_volatile && strcmp(row->name, attribute->name) == 0) return true;
    return false;
}

static lemoe_status write_attributes(const lemoe_replay *replay, lemoe_h5 *file, lemoe_payload *names) {
    LEMOE_TRY(lemoe_h5_attribute_int(file, "/", "schema_version", LEMOE_SCHEMA_VERSION));
    for (int64_t i = 0; i < replay->n_attribute; i++) {
        const lemoe_replay_attribute *attribute = &replay->attributes[i];
        if (!attribute->element || is_own(attribute->name)) continue;
        if (attribute->element == LEMOE_ELEMENT_TEXT)
            LEMOE_TRY(lemoe_h5_attribute_text(file, "/", attribute->name, attribute->text));
        else
            LEMOE_TRY(lemoe_h5_attribute_int(file, "/", attribute->name, attribute->value));
        if (!is_volatile(attribute)) continue;
        if (names->n_bytes > 0) LEMOE_TRY(lemoe_payload_put(names, ",", 1));
        LEMOE_TRY(lemoe_payload_put(names, attribute->name, (int64_t)strlen(attribute->name)));
    }
    LEMOE_TRY(lemoe_payload_put(names, "", 1));
    LEMOE_TRY(lemoe_h5_attribute_text(file, "/", "volatile_attributes", (const char *)names->data));
    if (replay->n_skipped_bytes > 0)
        LEMOE_TRY(lemoe_h5_attribute_int(file, "/", "salvaged_bytes", replay->n_skipped_bytes));
    return LEMOE_OK;
}

/* ---- axes ---- */

/* Steps are as many as the longest of the columns over them. */
static int64_t count_steps(const lemoe_replay *replay) {
    int64_t n = 0;
    for (int64_t i = 0; i < replay->schema->n_dataset; i++)
        if (replay->schema->datasets[i].n_row < 0 && replay->columns[i].n_row > n) n = replay->columns[i].n_row;
    return n;
}

static lemoe_status write_axis(lemoe_h5 *file, lemoe_axis axis, int64_t n) {
    int64_t *values = NULL;
    LEMOE_TRY(lemoe_mem_alloc(n, sizeof *values, &values));
    for (int64_t i = 0; i < n; i++) values[i] = i;
    if (axis == LEMOE_AXIS_EXPERT_FINAL) values[n - 1] = -1;
    lemoe_status status = lemoe_h5_axis(file, axis, values, n);
    lemoe_mem_free(values);
    return status;
}

/* Axes of length 0 are left out, and one that only says "none": nothing can lie on them. An axis is written with the
 * first dataset on it, or for itself; hostile lengths without rows cost nothing. */
static lemoe_status write_axes(const lemoe_replay *replay, lemoe_h5 *file, int64_t length[LEMOE_AXIS_COUNT]) {
    bool is_used[LEMOE_AXIS_COUNT] = {false};
    for (int64_t i = 0; i < replay->schema->n_dataset; i++)
        for (int k = 0; k < 2 && replay->columns[i].is_put; k++)
            is_used[replay->schema->datasets[i].row->axes[k]] = true;
    for (int axis = LEMOE_AXIS_NONE + 1; axis < LEMOE_AXIS_COUNT; axis++) {
        length[axis] = axis == LEMOE_AXIS_STEP ? count_steps(replay) : replay->schema->length[axis];
        if (is_used[axis]) LEMOE_TRY(write_axis(file, (lemoe_axis)axis, length[axis]));
    }
    return LEMOE_OK;
}

/* ---- datasets ---- */

static lemoe_status write_dataset(const lemoe_replay *replay, int64_t index, lemoe_h5 *file, const int64_t *length) {
    const lemoe_schema_dataset *dataset = &replay->schema->datasets[index];
    const lemoe_replay_column *column = &replay->columns[index];
    lemoe_h5_dataset what = {.path = dataset->path, .row = dataset->row, .long_name = dataset->long_name};
    for (int i = 0; i < 2; i++) what.length[i] = length[dataset->row->axes[i]];
    what.n_put = column->n_row * dataset->row_element;
    if (column->f64)
        what.values = column->f64;
    else if (column->i64)
        what.values = column->i64;
    else
        what.values = column->text;
    return lemoe_h5_write(file, &what);
}

lemoe_status lemoe_publish_run(const lemoe_replay *replay, const char *h5_path) {
    lemoe_h5 *file = NULL;
    lemoe_payload names = {NULL, 0, 0};
    lemoe_status status = LEMOE_OK;
    int64_t length[LEMOE_AXIS_COUNT] = {0};
    LEMOE_CHECK(replay->schema, LEMOE_ERR_FORMAT, "%s: nothing was committed to it; there is nothing to publish",
                replay->name);
    LEMOE_TRY_GOTO(lemoe_h5_create(h5_path, &file));
    LEMOE_TRY_GOTO(write_attributes(replay, file, &names));
    LEMOE_TRY_GOTO(write_axes(replay, file, length));
    for (int64_t i = 0; i < replay->schema->n_dataset; i++)
        if (replay->columns[i].is_put) LEMOE_TRY_GOTO(write_dataset(replay, i, file, length));
    LEMOE_TRY_GOTO(lemoe_h5_commit(file));
out:
    lemoe_h5_close(file);
    lemoe_payload_reset(&names);
    return status;
}

lemoe_status lemoe_results_publish(const char *journal_path, const char *h5_path, bool salvage) {
    lemoe_replay *replay = NULL;
    lemoe_status status = LEMOE_OK;
    LEMOE_TRY_GOTO(lemoe_replay_create(journal_path, salvage, &replay));
    LEMOE_TRY_GOTO(lemoe_replay_advance(replay, journal_path));
    if (replay->n_skipped_bytes > 0)
        lemoe_log(LEMOE_LOG_WARN, "%s: %lld damaged bytes were left out; what was whole is in %s", journal_path,
                  (long long)replay->n_skipped_bytes, h5_path);
    LEMOE_TRY_GOTO(lemoe_publish_run(replay, h5_path));
out:
    lemoe_replay_destroy(replay);
    return status;
}

bool lemoe_publish_is_due(const char *journal_path, const char *h5_path) {
    struct stat journal, h5;
    if (stat(journal_path, &journal) != 0) return false;
    if (stat(h5_path, &h5) != 0) return true;
    return h5.st_mtim.tv_sec != journal.st_mtim.tv_sec ? h5.st_mtim.tv_sec < journal.st_mtim.tv_sec
                                                       : h5.st_mtim.tv_nsec < journal.st_mtim.tv_nsec;
}

lemoe_status lemoe_results_publish_if_older(const char *journal_path, const char *h5_path) {
    if (!lemoe_publish_is_due(journal_path, h5_path)) return LEMOE_OK;
    lemoe_atomic_file_sweep(h5_path);
    return lemoe_results_publish(journal_path, h5_path, false);
}

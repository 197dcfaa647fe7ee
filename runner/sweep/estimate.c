#include "runner/sweep/estimate.h"

#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "runner/io/atomic_file.h"
#include "runner/io/file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_BYTES = 64 << 20 };
static const char line_format[] = "%32s %lg %lg\n";

typedef struct entry {
    char shape[33];
    double step_seconds, other_seconds;
} entry;

struct lemoe_estimates {
    char *path;
    entry *entries; /* sorted by shape */
    int64_t n, capacity;
    bool is_changed;
};

/* Where the shape is, or belongs. */
static int64_t place_of(const lemoe_estimates *e, const char *shape) {
    int64_t low = 0, high = e->n;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (strcmp(e->entries[middle].shape, shape) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static const entry *find(const lemoe_estimates *e, const char *shape) {
    int64_t i = place_of(e, shape);
    return i < e->n && strcmp(e->entries[i].shape, shape) == 0 ? &e->entries[i] : NULL;
}

static lemoe_status put(lemoe_estimates *e, const entry *what) {
    int64_t i = place_of(e, what->shape);
    if (i == e->n || strcmp(e->entries[i].shape, what->shape) != 0) {
        LEMOE_TRY(lemoe_mem_grow(&e->entries, &e->capacity, e->n + 1, sizeof *e->entries));
        memmove(e->entries + i + 1, e->entries + i, (size_t)(e->n - i) * sizeof *e->entries);
        e->n++;
    }
    e->entries[i] = *what;
    return LEMOE_OK;
}

static bool is_sane(const entry *what) {
    return strlen(what->shape) == 32 && isfinite(what->step_seconds) && what->step_seconds >= 0 &&
           isfinite(what->other_seconds) && what->other_seconds >= 0;
}

static lemoe_status read_all(lemoe_estimates *e, const char *text) {
    for (const char *line = text; line && *line;) {
        entry what = {0};
        if (sscanf(line, line_format, what.shape, &what.step_seconds, &what.other_seconds) == 3 && is_sane(&what))
            LEMOE_TRY(put(e, &what));
        line = strchr(line, '\n');
        if (line) line++;
    }
    return LEMOE_OK;
}

lemoe_status lemoe_estimates_open(const char *output_folder, lemoe_estimates **out) {
    char *text = NULL;
    int64_t n_bytes = 0;
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof **out, out));
    LEMOE_TRY(lemoe_file_join(output_folder, "cache/measured.txt", &(*out)->path));
    if (!lemoe_file_exists((*out)->path)) return LEMOE_OK;
    if (lemoe_file_read_text((*out)->path, MAX_BYTES, &text, &n_bytes) != LEMOE_OK) {
        lemoe_error_clear();
        return LEMOE_OK;
    }
    lemoe_status status = read_all(*out, text);
    lemoe_mem_free(text);
    return status;
}

void lemoe_estimates_close(lemoe_estimates *estimates) {
    if (!estimates) return;
    lemoe_mem_free(estimates->path);
    lemoe_mem_free(estimates->entries);
    lemoe_mem_free(estimates);
}

/* ---- predicting ---- */

/* A number of the method's own section, 0 where it has no such key: methods without updates have none. */
static double method_number(const lemoe_config *config, const char *key) {
    char name[96], *text = NULL;
    (void)snprintf(name, sizeof name, "%.40s.%s", config->edit.method, key);
    if (lemoe_config_value(config, name, &text) != LEMOE_OK) {
        lemoe_error_clear();
        return 0;
    }
    double value = strtod(text, NULL);
    lemoe_mem_free(text);
    return value;
}

void lemoe_estimates_count_steps(const lemoe_config *config, int64_t n_edit, double *fewest, double *most) {
    double size = (double)config->edit.batch_size, n_batch = ceil((double)n_edit / size);
    double minibatch = method_number(config, "minibatch"), max_steps = method_number(config, "max_steps");
    double pass = minibatch > 0 ? ceil((size < (double)n_edit ? size : (double)n_edit) / minibatch) : 1;
    *most = n_batch * max_steps;
    *fewest = method_number(config, "stop_loss") > 0 && pass < max_steps ? n_batch * pass : *most;
}

lemoe_status lemoe_estimates_shape(const lemoe_config *config, const lemoe_identity_args *identity, char shape[33]) {
    lemoe_text unused;
    lemoe_config *plain = NULL;
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof *plain, &plain));
    *plain = *config;
    lemoe_training_config *const training[] = {&plain->lemoe.training, &plain->moe.training, &plain->ft_m.training};
    plain->seed = plain->order.seed = 0;
    plain->order.restarts = 1;
    (void)snprintf(plain->order.planner, sizeof plain->order.planner, "file");
    for (size_t i = 0; i < sizeof training / sizeof *training; i++)
        training[i]->lr = training[i]->stop_loss = training[i]->clip = training[i]->weight_decay = 0;
    lemoe_status status = lemoe_config_identity(plain, identity, shape, unused);
    lemoe_mem_free(plain);
    return status;
}

/* Only to order runs: a plausible rate. */
static double guess_seconds(double most, int64_t n_edit) { return 1 + 0.01 * most + 0.005 * (double)n_edit; }

void lemoe_estimates_predict(const lemoe_estimates *e, const lemoe_sweep *sweep, lemoe_sweep_run *run) {
    const entry *known = find(e, run->shape);
    run->expected_seconds = guess_seconds(run->steps_high, sweep->inputs[run->input].n_edit);
    if (!known) return;
    run->predicted_step_seconds = known->step_seconds;
    run->seconds_low = known->other_seconds + run->steps_low * known->step_seconds;
    run->seconds_high = known->other_seconds + run->steps_high * known->step_seconds;
    run->expected_seconds = (run->seconds_low + run->seconds_high) / 2 + 1e-3;
}

/* ---- learning ---- */

void lemoe_estimates_learn(lemoe_estimates *e, const lemoe_sweep_run *run, const lemoe_run_measures *m) {
    entry what = {.step_seconds = m->n_step > 0 ? m->train_seconds / (double)m->n_step : 0,
                  .other_seconds = m->seconds > m->train_seconds ? m->seconds - m->train_seconds : 0};
    memcpy(what.shape, run->shape, sizeof what.shape);
    if (is_sane(&what) && put(e, &what) != LEMOE_OK) lemoe_error_clear();
    e->is_changed = true;
}

static lemoe_status write_all(const lemoe_estimates *e) {
    lemoe_atomic_file *file = NULL;
    char *folder = NULL;
    LEMOE_TRY(lemoe_file_folder_of(e->path, &folder));
    lemoe_status status = lemoe_file_make_folders(folder);
    lemoe_mem_free(folder);
    LEMOE_TRY(status);
    LEMOE_TRY(lemoe_atomic_file_begin(e->path, &file));
    for (int64_t i = 0; i < e->n; i++)
        (void)fprintf(lemoe_atomic_file_stream(file), "%s %.17g %.17g\n", e->entries[i].shape,
                      e->entries[i].step_seconds, e->entries[i].other_seconds);
    return lemoe_atomic_file_commit(file);
}

void lemoe_estimates_save(lemoe_estimates *e) {
    if (!e->is_changed) return;
    e->is_changed = false;
    if (write_all(e) == LEMOE_OK) return;
    lemoe_log(LEMOE_LOG_WARN, "what this sweep measured could not be kept for later estimates: %s",
              lemoe_error_message());
    lemoe_error_clear();
}

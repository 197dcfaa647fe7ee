#include "runner/sweep/publisher.h"

#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "runner/io/file.h"
#include "runner/io/lease.h"
#include "runner/sweep/folder_runs.h"

#include <time.h>

struct lemoe_publisher {
    const lemoe_sweep *sweep;
    char *path;
    lemoe_folder_runs *others;
};

static lemoe_status open_others(const lemoe_sweep *sweep, lemoe_folder_runs **out) {
    const char **own = NULL;
    LEMOE_TRY(lemoe_mem_alloc(sweep->n_run, sizeof *own, &own));
    for (int64_t i = 0; i < sweep->n_run; i++) own[i] = sweep->runs[i].run_id;
    lemoe_folder_runs_args args = {sweep->output_folder, own, sweep->n_run, sweep->axis_keys, sweep->n_axis};
    lemoe_status status = lemoe_folder_runs_open(&args, out);
    lemoe_mem_free(own);
    return status;
}

lemoe_status lemoe_publisher_open(const lemoe_sweep *sweep, lemoe_publisher **out) {
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof **out, out));
    (*out)->sweep = sweep;
    LEMOE_TRY(lemoe_file_make_folders(sweep->output_folder));
    LEMOE_TRY(lemoe_file_join(sweep->output_folder, ".sweep", &(*out)->path));
    return open_others(sweep, &(*out)->others);
}

void lemoe_publisher_close(lemoe_publisher *publisher) {
    if (!publisher) return;
    lemoe_folder_runs_close(publisher->others);
    lemoe_mem_free(publisher->path);
    lemoe_mem_free(publisher);
}

/* ---- the table: the launch's runs in its order, then the folder's others ---- */

/* A key that another program swept may be unknown here: then no run of ours has a value. */
static lemoe_status value_of(const lemoe_config *config, const char *key, char **out) {
    lemoe_status status = lemoe_config_value(config, key, out);
    if (status != LEMOE_ERR_CONFIG) return status;
    lemoe_error_clear();
    return lemoe_mem_strdup("", out);
}

static lemoe_status fill_own(const lemoe_sweep *sweep, const char *const *keys, int64_t n_key, lemoe_sweep_row *rows,
                             char **values) {
    for (int64_t i = 0; i < sweep->n_run; i++) {
        const lemoe_sweep_run *run = &sweep->runs[i];
        char **own = values + i * n_key;
        const char *device = NULL;
        lemoe_config config;
        LEMOE_TRY(lemoe_sweep_config(sweep, i, &config));
        LEMOE_TRY(lemoe_devices_resolve(&sweep->devices, config.parallel.device, &device));
        for (int64_t k = 0; k < n_key; k++) LEMOE_TRY(value_of(&config, keys[k], &own[k]));
        rows[i] = (lemoe_sweep_row){run->run_id, (const char *const *)own, run->tensor_parallel, device};
    }
    return LEMOE_OK;
}

static lemoe_status write_table(const lemoe_sweep *sweep, lemoe_folder_runs *others) {
    lemoe_status status = LEMOE_OK;
    int64_t n_key = 0, n_own = sweep->n_run, n_other = 0;
    lemoe_sweep_row *rows = NULL;
    char **values = NULL;
    LEMOE_TRY(lemoe_folder_runs_refresh(others));
    const char *const *keys = lemoe_folder_runs_keys(others, &n_key);
    n_other = lemoe_folder_runs_count(others);
    LEMOE_TRY_GOTO(lemoe_mem_alloc(n_own + n_other, sizeof *rows, &rows));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(n_own * n_key, sizeof *values, &values));
    LEMOE_TRY_GOTO(fill_own(sweep, keys, n_key, rows, values));
    for (int64_t i = 0; i < n_other; i++) rows[n_own + i] = lemoe_folder_runs_row(others, i);
    LEMOE_TRY_GOTO(lemoe_results_publish_sweep(sweep->output_folder, keys, n_key, rows, n_own + n_other));
out:
    for (int64_t i = 0; values && i < n_own * n_key; i++) lemoe_mem_free(values[i]);
    lemoe_mem_free(values);
    lemoe_mem_free(rows);
    return status;
}

/* The lease is held while publishing only: launches take turns, and each writes the table as the journals have it.
 * STATE: another has it. */
static lemoe_status publish(lemoe_publisher *publisher) {
    lemoe_lease *lease = NULL;
    LEMOE_TRY(lemoe_lease_acquire(publisher->path, &lease));
    lemoe_status status = write_table(publisher->sweep, publisher->others);
    lemoe_lease_release(lease);
    return status;
}

/* ---- when ---- */

lemoe_status lemoe_publisher_publish(lemoe_publisher *publisher) {
    lemoe_status status = publish(publisher);
    if (status != LEMOE_ERR_STATE) return status;
    lemoe_error_clear();
    return LEMOE_OK;
}

static lemoe_status publish_within(lemoe_publisher *publisher, double seconds) {
    for (double until = lemoe_clock_seconds() + seconds;;) {
        struct timespec nap = {0, 50000000};
        lemoe_status status = publish(publisher);
        if (status != LEMOE_ERR_STATE || lemoe_clock_seconds() > until) return status;
        lemoe_error_clear();
        (void)nanosleep(&nap, NULL);
    }
}

lemoe_status lemoe_publisher_publish_last(lemoe_publisher *publisher, double seconds) {
    lemoe_status status = publish_within(publisher, seconds);
    if (status != LEMOE_ERR_STATE) return status;
    lemoe_error_clear();
    lemoe_log(LEMOE_LOG_WARN, "sweep.h5 is being published by another launch; this launch's last results may be "
                              "missing in it until the next one (lemoe-run --republish DIR writes it, too)");
    return LEMOE_OK;
}

lemoe_status lemoe_publisher_publish_folder(const char *output_folder, double seconds) {
    char *folder = NULL;
    lemoe_publisher *publisher = NULL;
    LEMOE_TRY(lemoe_mem_strdup(output_folder, &folder));
    lemoe_sweep nobodys = {.output_folder = folder};
    lemoe_status status = lemoe_publisher_open(&nobodys, &publisher);
    if (status == LEMOE_OK) status = publish_within(publisher, seconds);
    lemoe_publisher_close(publisher);
    lemoe_mem_free(folder);
    return status;
}

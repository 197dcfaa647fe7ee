#include "runner/sweep/publisher.h"

#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "runner/io/file.h"
#include "runner/io/lease.h"
#include "runner/results/results.h"

#include <time.h>

struct lemoe_publisher {
    const lemoe_sweep *sweep;
    char *path;
};

lemoe_status lemoe_publisher_open(const lemoe_sweep *sweep, lemoe_publisher **out) {
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof **out, out));
    (*out)->sweep = sweep;
    LEMOE_TRY(lemoe_file_make_folders(sweep->output_folder));
    return lemoe_file_join(sweep->output_folder, ".sweep", &(*out)->path);
}

void lemoe_publisher_close(lemoe_publisher *publisher) {
    if (!publisher) return;
    lemoe_mem_free(publisher->path);
    lemoe_mem_free(publisher);
}

static lemoe_status fill_rows(const lemoe_sweep *sweep, lemoe_sweep_row *rows, char **values) {
    int64_t n_axis = sweep->n_axis;
    for (int64_t i = 0; i < sweep->n_run; i++) {
        const lemoe_sweep_run *run = &sweep->runs[i];
        lemoe_config config;
        if (n_axis > 0) LEMOE_TRY(lemoe_sweep_config(sweep, i, &config));
        for (int64_t a = 0; a < n_axis; a++)
            LEMOE_TRY(lemoe_config_value(&config, sweep->axis_keys[a], &values[i * n_axis + a]));
        rows[i] =
            (lemoe_sweep_row){run->run_id, (const char *const *)(values + i * n_axis), run->tensor_parallel, "cpu"};
    }
    return LEMOE_OK;
}

static lemoe_status write_table(const lemoe_sweep *sweep) {
    lemoe_status status = LEMOE_OK;
    int64_t n_run = sweep->n_run, n_axis = sweep->n_axis;
    lemoe_sweep_row *rows = NULL;
    char **values = NULL;
    LEMOE_TRY_GOTO(lemoe_mem_alloc(n_run, sizeof *rows, &rows));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(n_run * n_axis, sizeof *values, &values));
    LEMOE_TRY_GOTO(fill_rows(sweep, rows, values));
    LEMOE_TRY_GOTO(lemoe_results_publish_sweep(sweep->output_folder, sweep->axis_keys, n_axis, rows, n_run));
out:
    for (int64_t i = 0; values && i < n_run * n_axis; i++) lemoe_mem_free(values[i]);
    lemoe_mem_free(values);
    lemoe_mem_free(rows);
    return status;
}

/* The lease is held while publishing only: launches take turns, and each writes the table as the journals have it. */
static lemoe_status publish(lemoe_publisher *publisher, bool *is_taken) {
    lemoe_lease *lease = NULL;
    lemoe_status status = lemoe_lease_acquire(publisher->path, &lease);
    *is_taken = status == LEMOE_ERR_STATE;
    if (*is_taken) {
        lemoe_error_clear();
        return LEMOE_OK;
    }
    if (status == LEMOE_OK) status = write_table(publisher->sweep);
    lemoe_lease_release(lease);
    return status;
}

lemoe_status lemoe_publisher_publish(lemoe_publisher *publisher) {
    bool is_taken = false;
    return publish(publisher, &is_taken);
}

lemoe_status lemoe_publisher_publish_last(lemoe_publisher *publisher, double seconds) {
    double until = lemoe_clock_seconds() + seconds;
    for (bool is_taken = true;;) {
        struct timespec nap = {0, 50000000};
        LEMOE_TRY(publish(publisher, &is_taken));
        if (!is_taken) return LEMOE_OK;
        if (lemoe_clock_seconds() > until) break;
        (void)nanosleep(&nap, NULL);
    }
    lemoe_log(LEMOE_LOG_WARN, "sweep.h5 is being published by another launch; this launch's last results may be "
                              "missing in it until the next one (lemoe-run --republish DIR writes it, too)");
    return LEMOE_OK;
}

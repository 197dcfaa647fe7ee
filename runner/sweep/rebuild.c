#include "runner/sweep/rebuild.h"

#include "kernels/base/mem.h"
#include "runner/config/config.h"
#include "runner/io/file.h"
#include "runner/io/lease.h"
#include "runner/results/results.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* What the journal says of a run; zeros where it cannot be read. */
typedef struct run_settings {
    char *device;
    int64_t tensor_parallel;
    lemoe_config_echo config;
} run_settings;

typedef struct axes {
    char **keys;
    int64_t n, capacity;
} axes;

static lemoe_status read_journal(const char *journal, run_settings *out) {
    char *yaml = NULL, *unused = NULL;
    int64_t none = 0;
    lemoe_status status = LEMOE_OK;
    LEMOE_TRY_GOTO(lemoe_results_read_attribute(journal, "config_yaml", &yaml, &none));
    LEMOE_TRY_GOTO(lemoe_results_read_attribute(journal, "device", &out->device, &none));
    LEMOE_TRY_GOTO(lemoe_results_read_attribute(journal, "tensor_parallel", &unused, &out->tensor_parallel));
    LEMOE_TRY_GOTO(lemoe_config_read_echo(journal, yaml, &out->config));
out:
    lemoe_mem_free(yaml);
    lemoe_mem_free(unused);
    return status;
}

static lemoe_status read_run(const char *output_folder, const char *run_id, run_settings *out) {
    char *journal = NULL;
    LEMOE_TRY(lemoe_mem_printf(&journal, "%s/runs/%s.journal", output_folder, run_id));
    lemoe_status status = read_journal(journal, out);
    lemoe_mem_free(journal);
    return status;
}

/* ---- axes: what changes a result and differs between runs ---- */

static const char *value_of(const run_settings *run, const char *key) {
    for (int64_t i = 0; i < run->config.n; i++)
        if (strcmp(run->config.pairs[i].key, key) == 0) return run->config.pairs[i].value;
    return "";
}

static bool changes_nothing(const char *key) {
    static const char *const prefixes[] = {"name", "output.", "checkpoint.", "cache."};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (strncmp(key, prefixes[i], strlen(prefixes[i])) == 0) return true;
    return false;
}

static bool differs(const run_settings *runs, int64_t n_run, const char *key) {
    const char *first = NULL;
    for (int64_t i = 0; i < n_run; i++) {
        const char *value = value_of(&runs[i], key);
        if (!*value) continue; /* a method that does not read it */
        if (first && strcmp(first, value) != 0) return true;
        first = value;
    }
    return false;
}

static lemoe_status add_axes(const run_settings *runs, int64_t n_run, int64_t from, axes *out) {
    for (int64_t i = 0; i < runs[from].config.n; i++) {
        const char *key = runs[from].config.pairs[i].key;
        bool known = changes_nothing(key);
        for (int64_t a = 0; a < out->n && !known; a++) known = strcmp(out->keys[a], key) == 0;
        if (known || !differs(runs, n_run, key)) continue;
        LEMOE_TRY(lemoe_mem_grow(&out->keys, &out->capacity, out->n + 1, sizeof *out->keys));
        LEMOE_TRY(lemoe_mem_strdup(key, &out->keys[out->n]));
        out->n++;
    }
    return LEMOE_OK;
}

static lemoe_status find_axes(const run_settings *runs, int64_t n_run, axes *out) {
    for (int64_t i = 0; i < n_run; i++) {
        bool is_new = true; /* methods have the same keys, so one run of each is enough */
        for (int64_t j = 0; j < i && is_new; j++)
            is_new = strcmp(value_of(&runs[i], "edit.method"), value_of(&runs[j], "edit.method")) != 0;
        if (is_new) LEMOE_TRY(add_axes(runs, n_run, i, out));
    }
    return LEMOE_OK;
}

/* ---- the table ---- */

static lemoe_status publish(const char *output_folder, const lemoe_sweep_row *rows, int64_t n_run, const axes *a) {
    char *path = NULL;
    lemoe_lease *lease = NULL;
    LEMOE_TRY(lemoe_file_join(output_folder, ".sweep", &path));
    lemoe_status status = lemoe_lease_acquire(path, &lease);
    lemoe_mem_free(path);
    LEMOE_TRY(status);
    status = lemoe_results_publish_sweep(output_folder, (const char *const *)a->keys, a->n, rows, n_run);
    lemoe_lease_release(lease);
    return status;
}

static lemoe_status write_rows(const char *output_folder, char *const *run_ids, const run_settings *runs, int64_t n_run,
                               const axes *a) {
    lemoe_status status = LEMOE_OK;
    lemoe_sweep_row *rows = NULL;
    const char **values = NULL;
    LEMOE_TRY_GOTO(lemoe_mem_alloc(n_run, sizeof *rows, &rows));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(n_run * a->n, sizeof *values, &values));
    for (int64_t i = 0; i < n_run; i++) {
        for (int64_t k = 0; k < a->n; k++) values[i * a->n + k] = value_of(&runs[i], a->keys[k]);
        const char *device = runs[i].device ? runs[i].device : "";
        rows[i] = (lemoe_sweep_row){run_ids[i], values + i * a->n, runs[i].tensor_parallel, device};
    }
    status = publish(output_folder, rows, n_run, a);
out:
    lemoe_mem_free(rows);
    lemoe_mem_free(values);
    return status;
}

lemoe_status lemoe_rebuild_sweep(const char *output_folder, char *const *run_ids, int64_t n_run) {
    lemoe_status status = LEMOE_OK;
    run_settings *runs = NULL;
    axes a = {0};
    LEMOE_TRY_GOTO(lemoe_mem_alloc(n_run, sizeof *runs, &runs));
    for (int64_t i = 0; i < n_run; i++) {
        status = read_run(output_folder, run_ids[i], &runs[i]);
        if (status == LEMOE_ERR_NOMEM) goto out;
        if (status != LEMOE_OK) lemoe_error_clear(); /* its row says that it is unreadable */
    }
    status = LEMOE_OK;
    LEMOE_TRY_GOTO(find_axes(runs, n_run, &a));
    LEMOE_TRY_GOTO(write_rows(output_folder, run_ids, runs, n_run, &a));
out:
    for (int64_t i = 0; runs && i < n_run; i++) {
        lemoe_mem_free(runs[i].device);
        lemoe_config_echo_free(&runs[i].config);
    }
    for (int64_t i = 0; i < a.n; i++) lemoe_mem_free(a.keys[i]);
    lemoe_mem_free(a.keys);
    lemoe_mem_free(runs);
    return status;
}

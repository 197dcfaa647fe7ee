#include "runner/sweep/table.h"

#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "runner/io/file.h"

#include <math.h>
#include <string.h>

enum { BASE = 0, IMMEDIATE = 1, FINAL = 2 };

static lemoe_status run_path(const char *output_folder, const char *run_id, const char *ending, char **out) {
    return lemoe_mem_printf(out, "%s/runs/%s%s", output_folder, run_id, ending);
}

lemoe_status lemoe_table_read_summary(const char *output_folder, const char *run_id, lemoe_results_summary *out) {
    char *path = NULL;
    LEMOE_TRY(run_path(output_folder, run_id, ".journal", &path));
    lemoe_status status = lemoe_results_read_summary(path, out);
    lemoe_mem_free(path);
    return status;
}

void lemoe_table_announce(const lemoe_sweep *sweep, int n_rank) {
    int64_t n_run = sweep->spec->n_run;
    lemoe_log(LEMOE_LOG_INFO, "%lld run%s, %lld to do, on %d rank%s; results in %s", (long long)n_run,
              n_run == 1 ? "" : "s", (long long)(n_run - sweep->n_skipped), n_rank, n_rank == 1 ? "" : "s",
              sweep->output_folder);
    for (int64_t i = 0; i < n_run; i++) {
        const lemoe_sweep_run *run = &sweep->runs[i];
        if (run->skip) continue;
        long long tp = run->tensor_parallel, idle = n_rank % run->tensor_parallel;
        lemoe_log(LEMOE_LOG_INFO, "  %s  [%s] on %lld rank%s%s", run->run_id,
                  *run->label ? run->label : run->config->edit.method, tp, tp == 1 ? "" : "s",
                  idle ? " (some ranks of the launch stay idle)" : "");
    }
}

lemoe_status lemoe_table_publish(const lemoe_sweep *sweep) {
    lemoe_status status = LEMOE_OK;
    int64_t n_run = sweep->spec->n_run, n_axis = sweep->spec->n_axis;
    lemoe_sweep_row *rows = NULL;
    char **values = NULL;
    LEMOE_TRY_GOTO(lemoe_mem_alloc(n_run, sizeof *rows, &rows));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(n_run * n_axis, sizeof *values, &values));
    for (int64_t i = 0; i < n_run; i++) {
        const lemoe_sweep_run *run = &sweep->runs[i];
        for (int64_t a = 0; a < n_axis; a++)
            LEMOE_TRY_GOTO(lemoe_config_value(run->config, sweep->spec->axis_key[a], &values[i * n_axis + a]));
        rows[i] =
            (lemoe_sweep_row){run->run_id, (const char *const *)(values + i * n_axis), run->tensor_parallel, "cpu"};
    }
    LEMOE_TRY_GOTO(lemoe_results_publish_sweep(sweep->output_folder, (const char *const *)sweep->spec->axis_key, n_axis,
                                               rows, n_run));
out:
    for (int64_t i = 0; values && i < n_run * n_axis; i++) lemoe_mem_free(values[i]);
    lemoe_mem_free(values);
    lemoe_mem_free(rows);
    return status;
}

/* ---- printing ---- */

static void print_score(FILE *out, double value) {
    if (isnan(value))
        (void)fprintf(out, "     -");
    else
        (void)fprintf(out, " %5.3f", value);
}

static void print_header(FILE *out, int width) {
    (void)fprintf(out, "%-*s | %-17s | %-17s | %-17s | %s\n", width, "", "      base", "    immediate", "      final",
                  "routing");
    (void)fprintf(out, "%-*s |   Rel   Gen   Loc |   Rel   Gen   Loc |   Rel   Gen   Loc | consistency\n", width,
                  "run");
}

static void print_row(FILE *out, int width, const char *name, const lemoe_results_summary *summary) {
    (void)fprintf(out, "%-*s", width, name);
    for (int moment = BASE; moment <= FINAL; moment++) {
        (void)fprintf(out, " |");
        for (int metric = 0; metric < 3; metric++) print_score(out, summary->score[moment][metric]);
    }
    (void)fprintf(out, " |");
    print_score(out, summary->consistency);
    (void)fprintf(out, strcmp(summary->status, "complete") == 0 ? "\n" : "  %s%s%s\n", summary->status,
                  summary->error && *summary->error ? ": " : "", summary->error ? summary->error : "");
}

/* "edit.method=lemoe lemoe.preset=stable" as "lemoe stable": the values are what a reader looks for. */
static void short_name(const lemoe_sweep_run *run, char *out, size_t n_bytes) {
    const char *source = *run->label ? run->label : run->config->edit.method;
    size_t used = 0;
    for (const char *p = source; *p && used + 1 < n_bytes;) {
        const char *equals = strchr(p, '='), *space = strchr(p, ' ');
        if (equals && (!space || equals < space)) p = equals + 1;
        while (*p && *p != ' ' && used + 1 < n_bytes) out[used++] = *p++;
        if (*p == ' ') out[used++] = *p++;
    }
    out[used < n_bytes ? used : n_bytes - 1] = '\0';
}

lemoe_status lemoe_table_print(const lemoe_sweep *sweep, FILE *out) {
    enum { NAME_BYTES = 96 };
    int width = 12;
    char name[NAME_BYTES];
    for (int64_t i = 0; i < sweep->spec->n_run; i++) {
        short_name(&sweep->runs[i], name, sizeof name);
        if ((int)strlen(name) > width) width = (int)strlen(name);
    }
    (void)fprintf(out, "\nToken-level, teacher-forced; locality = agreement with the unedited model\n");
    print_header(out, width);
    for (int64_t i = 0; i < sweep->spec->n_run; i++) {
        lemoe_results_summary summary = {0};
        LEMOE_TRY(lemoe_table_read_summary(sweep->output_folder, sweep->runs[i].run_id, &summary));
        short_name(&sweep->runs[i], name, sizeof name);
        if (summary.exists) print_row(out, width, name, &summary);
        lemoe_results_summary_free(&summary);
    }
    (void)fprintf(out, "\nresults: %s/runs/*.h5, all runs: %s/sweep.h5\n", sweep->output_folder, sweep->output_folder);
    (void)fflush(out);
    return LEMOE_OK;
}

#include "runner/sweep/table.h"

#include "kernels/base/mem.h"
#include "runner/io/file.h"
#include "runner/io/lease.h"

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

bool lemoe_table_is_complete(const lemoe_sweep *sweep, int64_t index) {
    lemoe_results_summary summary = {0};
    if (lemoe_table_read_summary(sweep->output_folder, sweep->runs[index].run_id, &summary) != LEMOE_OK) {
        lemoe_error_clear(); /* what is there will be refused when the run opens its results */
        return false;
    }
    bool is_complete = summary.exists && strcmp(summary.identity, sweep->runs[index].identity) == 0 &&
                       strcmp(summary.status, "complete") == 0;
    lemoe_results_summary_free(&summary);
    return is_complete;
}

bool lemoe_table_is_elsewhere(const lemoe_sweep *sweep, int64_t index) {
    char *journal = NULL;
    lemoe_lease_owner owner;
    if (lemoe_table_is_complete(sweep, index)) return true;
    if (run_path(sweep->output_folder, sweep->runs[index].run_id, ".journal", &journal) != LEMOE_OK) return false;
    bool is_held = lemoe_lease_probe(journal, &owner);
    lemoe_mem_free(journal);
    return is_held;
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
    (void)fprintf(out, strcmp(summary->status, "complete") == 0 ? "\n" : "  %s\n", summary->status);
}

/* "edit.method=lemoe lemoe.preset=stable" as "lemoe stable": the values are what a reader looks for. */
static void short_name(const lemoe_sweep_run *run, char *out, size_t n_bytes) {
    const char *source = *run->label ? run->label : run->method;
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
    for (int64_t i = 0; i < sweep->n_run; i++) {
        short_name(&sweep->runs[i], name, sizeof name);
        if ((int)strlen(name) > width) width = (int)strlen(name);
    }
    (void)fprintf(out, "\nToken-level, teacher-forced; locality = agreement with the unedited model\n");
    print_header(out, width);
    for (int64_t i = 0; i < sweep->n_run; i++) {
        lemoe_results_summary summary = {0};
        if (sweep->runs[i].skip == LEMOE_SKIP_UNWANTED || sweep->runs[i].skip == LEMOE_SKIP_OTHER_SHARD) continue;
        lemoe_status status = lemoe_table_read_summary(sweep->output_folder, sweep->runs[i].run_id, &summary);
        if (status != LEMOE_OK) lemoe_error_clear(); /* the list of what failed says it */
        short_name(&sweep->runs[i], name, sizeof name);
        if (status == LEMOE_OK && summary.exists) print_row(out, width, name, &summary);
        lemoe_results_summary_free(&summary);
    }
    (void)fprintf(out, "\nresults: %s/runs/*.h5, all runs: %s/sweep.h5\n", sweep->output_folder, sweep->output_folder);
    (void)fflush(out);
    return LEMOE_OK;
}

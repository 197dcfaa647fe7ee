/* Commands over an output folder, without a configuration and without MPI: --status and --republish. */
#include "runner/sweep/table.h"

#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "runner/io/json.h"
#include "runner/sweep/claim.h"
#include "runner/sweep/folder_list.h"
#include "runner/sweep/publisher.h"

#include <math.h>
#include <string.h>

/* JSON has no NaN. */
static void print_number(FILE *out, const char *name, double value) {
    if (isfinite(value))
        (void)fprintf(out, ", \"%s\": %.17g", name, value);
    else
        (void)fprintf(out, ", \"%s\": null", name);
}

/* Names of files and what journals say are text from outside. */
static lemoe_status print_text(FILE *out, const char *name, const char *text) {
    char *quoted = NULL;
    LEMOE_TRY(lemoe_json_quote(text, &quoted));
    (void)fprintf(out, "\"%s\": %s, ", name, quoted);
    lemoe_mem_free(quoted);
    return LEMOE_OK;
}

/* A run as --status shows it. */
typedef struct status_row {
    lemoe_results_summary summary;
    int64_t n_death, n_done, n_batch; /* batches, of a run that is not over */
} status_row;

static lemoe_status print_json(FILE *out, const char *name, const status_row *row, bool is_first) {
    static const char *const moments[] = {"base", "immediate", "final"}, *const metrics[] = {"reliability",
                                                                                             "generality", "locality"};
    const lemoe_results_summary *s = &row->summary;
    (void)fprintf(out, "%s  {", is_first ? "" : ",\n");
    LEMOE_TRY(print_text(out, "id", name));
    LEMOE_TRY(print_text(out, "status", s->status));
    LEMOE_TRY(print_text(out, "identity", s->identity));
    LEMOE_TRY(print_text(out, "error", s->error ? s->error : ""));
    (void)fprintf(out, "\"deaths\": %lld", (long long)row->n_death);
    print_number(out, "batches_done", row->n_batch > 0 ? (double)row->n_done : (double)NAN); /* null: not asked for */
    print_number(out, "batches", row->n_batch > 0 ? (double)row->n_batch : (double)NAN);
    for (int moment = 0; moment < 3; moment++)
        for (int metric = 0; metric < 3; metric++) {
            char key[64];
            (void)snprintf(key, sizeof key, "%s_%s", moments[moment], metrics[metric]);
            print_number(out, key, s->score[moment][metric]);
        }
    print_number(out, "routing_consistency", s->consistency);
    print_number(out, "seconds", s->seconds);
    (void)fprintf(out, "}");
    return LEMOE_OK;
}

static void print_plain(FILE *out, const char *name, const status_row *row) {
    const lemoe_results_summary *s = &row->summary;
    (void)fprintf(out, "%-11s %s", s->status, name);
    if (strcmp(s->status, "complete") != 0 && row->n_batch > 0)
        (void)fprintf(out, ", %lld of %lld batches", (long long)row->n_done, (long long)row->n_batch);
    if (row->n_death > 0)
        (void)fprintf(out, " (%lld death%s without progress)", (long long)row->n_death, row->n_death == 1 ? "" : "s");
    (void)fprintf(out, "%s%s\n", s->error && *s->error ? ": " : "", s->error ? s->error : "");
}

static lemoe_status read_journal(const char *output_folder, const char *name, status_row *row) {
    char *journal = NULL;
    lemoe_results_summary *s = &row->summary;
    LEMOE_TRY(lemoe_mem_printf(&journal, "%s/runs/%s.journal", output_folder, name));
    lemoe_status status = lemoe_results_read_summary(journal, s);
    if (status == LEMOE_OK && s->exists && strcmp(s->status, "complete") != 0)
        status = lemoe_results_count_batches(journal, &row->n_done, &row->n_batch);
    lemoe_mem_free(journal);
    if (status == LEMOE_OK || status == LEMOE_ERR_NOMEM) return status;
    lemoe_results_summary_free(s);
    s->exists = true;
    (void)snprintf(s->status, sizeof s->status, "unreadable");
    LEMOE_TRY(lemoe_mem_strdup(lemoe_error_message(), &s->error));
    lemoe_error_clear();
    return LEMOE_OK;
}

/* What the journal says, and what claim and evidence add: a run that is being opened or died before it committed
 * anything. */
static lemoe_status look_at(const char *output_folder, const char *name, status_row *row) {
    lemoe_claim_deaths deaths;
    int64_t renewed = 0;
    lemoe_results_summary *s = &row->summary;
    LEMOE_TRY(read_journal(output_folder, name, row));
    LEMOE_TRY(lemoe_claim_read_deaths(output_folder, name, &deaths));
    row->n_death = deaths.n;
    const char *word = NULL;
    if (deaths.is_quarantined)
        word = "quarantined";
    else if (lemoe_claim_is_held(output_folder, name, &renewed))
        word = s->exists ? NULL : "running";
    else if (!s->exists && deaths.n > 0)
        word = "lost";
    if (word) (void)snprintf(s->status, sizeof s->status, "%s", word);
    s->exists = s->exists || word;
    return LEMOE_OK;
}

lemoe_status lemoe_table_status(const char *output_folder, bool json, FILE *out) {
    lemoe_status status = LEMOE_OK;
    lemoe_folder_list list = {0};
    bool is_first = true;
    LEMOE_TRY_GOTO(lemoe_folder_list_runs(output_folder, true, &list));
    if (json) (void)fprintf(out, "[\n");
    for (int64_t i = 0; i < list.n; i++) {
        status_row row = {0};
        status = look_at(output_folder, list.ids[i], &row);
        if (status == LEMOE_OK && row.summary.exists) {
            if (json)
                status = print_json(out, list.ids[i], &row, is_first);
            else
                print_plain(out, list.ids[i], &row);
            is_first = false;
        }
        lemoe_results_summary_free(&row.summary);
        LEMOE_TRY_GOTO(status);
    }
    if (json) (void)fprintf(out, "%s]\n", is_first ? "" : "\n");
out:
    lemoe_folder_list_free(&list);
    return status;
}

static lemoe_status republish_run(const char *output_folder, const char *name, bool salvage, FILE *out) {
    char *journal = NULL, *h5 = NULL;
    lemoe_status status = lemoe_mem_printf(&journal, "%s/runs/%s.journal", output_folder, name);
    if (status == LEMOE_OK) status = lemoe_mem_printf(&h5, "%s/runs/%s.h5", output_folder, name);
    if (status == LEMOE_OK) status = lemoe_results_publish(journal, h5, salvage);
    if (status == LEMOE_OK) (void)fprintf(out, "%s\n", h5);
    lemoe_mem_free(journal);
    lemoe_mem_free(h5);
    return status;
}

/* The first reason is kept for the command's own message, others are said at once. */
static lemoe_status note_failure(char **first) {
    if (*first) lemoe_log(LEMOE_LOG_ERROR, "not published: %s", lemoe_error_message());
    lemoe_status status = *first ? LEMOE_OK : lemoe_mem_strdup(lemoe_error_message(), first);
    if (status == LEMOE_OK) lemoe_error_clear();
    return status;
}

lemoe_status lemoe_table_republish(const char *output_folder, bool salvage, FILE *out) {
    enum { PUBLISH_WAIT_SECONDS = 10 };
    lemoe_status status = LEMOE_OK;
    lemoe_folder_list list = {0};
    char *first = NULL;
    int64_t n_failed = 0;
    LEMOE_TRY_GOTO(lemoe_folder_list_runs(output_folder, false, &list));
    for (int64_t i = 0; i < list.n; i++) {
        if (republish_run(output_folder, list.ids[i], salvage, out) == LEMOE_OK) continue;
        LEMOE_TRY_GOTO(note_failure(&first));
        n_failed++;
    }
    if (n_failed == 0 || n_failed < list.n) { /* else there is nothing new to list */
        LEMOE_TRY_GOTO(lemoe_publisher_publish_folder(output_folder, PUBLISH_WAIT_SECONDS));
        (void)fprintf(out, "%s/sweep.h5\n", output_folder);
    }
    if (n_failed > 0)
        status = lemoe_raise(LEMOE_ERR_FORMAT, "%lld of %lld runs could not be published%s: %s", (long long)n_failed,
                             (long long)list.n, n_failed > 1 ? ", this one and those above" : "", first);
out:
    lemoe_mem_free(first);
    lemoe_folder_list_free(&list);
    return status;
}

/* Commands over an output folder, without a configuration and without MPI: --status and --republish. */
#include "runner/sweep/table.h"

#include "kernels/base/mem.h"
#include "runner/io/file.h"
#include "runner/sweep/claim.h"
#include "runner/sweep/rebuild.h"

#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct journal_names {
    char **names; /* run ids, sorted */
    int64_t n, capacity;
} journal_names;

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void free_names(journal_names *list) {
    for (int64_t i = 0; i < list->n; i++) lemoe_mem_free(list->names[i]);
    lemoe_mem_free(list->names);
}

static bool ends_with(const char *text, const char *ending) {
    size_t length = strlen(text), tail = strlen(ending);
    return length > tail && strcmp(text + length - tail, ending) == 0;
}

/* A run's journal ends with ".journal"; its folder, there from the moment a launch claims the run, is named like it. */
static lemoe_status add_name(journal_names *list, const char *file) {
    static const char journal[] = ".journal";
    size_t length = strlen(file), ending = sizeof journal - 1;
    bool is_journal = ends_with(file, journal);
    if (file[0] == '.' || ends_with(file, ".h5") || ends_with(file, ".lease")) return LEMOE_OK;
    LEMOE_TRY(lemoe_mem_grow(&list->names, &list->capacity, list->n + 1, sizeof *list->names));
    LEMOE_TRY(lemoe_mem_strdup(file, &list->names[list->n]));
    list->names[list->n++][length - (is_journal ? ending : 0)] = '\0';
    return LEMOE_OK;
}

static void drop_doubles(journal_names *list) {
    int64_t n = 0;
    for (int64_t i = 0; i < list->n; i++) {
        if (n > 0 && strcmp(list->names[n - 1], list->names[i]) == 0)
            lemoe_mem_free(list->names[i]);
        else
            list->names[n++] = list->names[i];
    }
    list->n = n;
}

static lemoe_status list_journals(const char *output_folder, journal_names *out) {
    lemoe_status status = LEMOE_OK;
    char *folder = NULL;
    DIR *listing = NULL;
    LEMOE_TRY_GOTO(lemoe_file_join(output_folder, "runs", &folder));
    listing = opendir(folder);
    if (!listing)
        LEMOE_TRY_GOTO(lemoe_raise(LEMOE_ERR_IO, "%s: no results there (no folder %s)", output_folder, folder));
    for (struct dirent *entry; (entry = readdir(listing));) LEMOE_TRY_GOTO(add_name(out, entry->d_name));
    if (out->n) qsort(out->names, (size_t)out->n, sizeof *out->names, by_name);
    drop_doubles(out);
out:
    if (listing) (void)closedir(listing);
    lemoe_mem_free(folder);
    return status;
}

/* JSON has no NaN. */
static void print_number(FILE *out, const char *name, double value) {
    if (isnan(value))
        (void)fprintf(out, ", \"%s\": null", name);
    else
        (void)fprintf(out, ", \"%s\": %.17g", name, value);
}

static void print_text(FILE *out, const char *text) {
    (void)fputc('"', out);
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p == '"' || *p == '\\')
            (void)fprintf(out, "\\%c", *p);
        else if (*p < 0x20)
            (void)fprintf(out, "\\u%04x", *p);
        else
            (void)fputc(*p, out);
    }
    (void)fputc('"', out);
}

/* A run as --status shows it. */
typedef struct status_row {
    lemoe_results_summary summary;
    int64_t n_death, n_done, n_batch; /* batches, of a run that is not over */
} status_row;

static void print_json(FILE *out, const char *name, const status_row *row, bool is_first) {
    static const char *const moments[] = {"base", "immediate", "final"}, *const metrics[] = {"reliability",
                                                                                             "generality", "locality"};
    const lemoe_results_summary *s = &row->summary;
    (void)fprintf(out,
                  "%s  {\"id\": \"%s\", \"status\": \"%s\", \"identity\": \"%s\", \"error\": ", is_first ? "" : ",\n",
                  name, s->status, s->identity);
    print_text(out, s->error ? s->error : "");
    (void)fprintf(out, ", \"deaths\": %lld", (long long)row->n_death);
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
    else if (!s->exists && (deaths.n > 0 || lemoe_claim_is_dead(output_folder, name)))
        word = "lost";
    if (word) (void)snprintf(s->status, sizeof s->status, "%s", word);
    s->exists = s->exists || word;
    return LEMOE_OK;
}

lemoe_status lemoe_table_status(const char *output_folder, bool json, FILE *out) {
    lemoe_status status = LEMOE_OK;
    journal_names list = {0};
    bool is_first = true;
    LEMOE_TRY_GOTO(list_journals(output_folder, &list));
    if (json) (void)fprintf(out, "[\n");
    for (int64_t i = 0; i < list.n; i++) {
        status_row row = {0};
        status = look_at(output_folder, list.names[i], &row);
        if (status == LEMOE_OK && row.summary.exists) {
            if (json)
                print_json(out, list.names[i], &row, is_first);
            else
                print_plain(out, list.names[i], &row);
            is_first = false;
        }
        lemoe_results_summary_free(&row.summary);
        LEMOE_TRY_GOTO(status);
    }
    if (json) (void)fprintf(out, "%s]\n", is_first ? "" : "\n");
out:
    free_names(&list);
    return status;
}

/* Folders that a launch made for runs that have committed nothing are left out. */
static lemoe_status keep_journals(const char *output_folder, journal_names *list) {
    int64_t n = 0;
    for (int64_t i = 0; i < list->n; i++) {
        char *journal = NULL;
        LEMOE_TRY(lemoe_mem_printf(&journal, "%s/runs/%s.journal", output_folder, list->names[i]));
        bool is_there = lemoe_file_exists(journal);
        lemoe_mem_free(journal);
        if (is_there)
            list->names[n++] = list->names[i];
        else
            lemoe_mem_free(list->names[i]);
    }
    list->n = n;
    return LEMOE_OK;
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

lemoe_status lemoe_table_republish(const char *output_folder, bool salvage, FILE *out) {
    lemoe_status status = LEMOE_OK;
    journal_names list = {0};
    LEMOE_TRY_GOTO(list_journals(output_folder, &list));
    LEMOE_TRY_GOTO(keep_journals(output_folder, &list));
    for (int64_t i = 0; i < list.n; i++) LEMOE_TRY_GOTO(republish_run(output_folder, list.names[i], salvage, out));
    LEMOE_TRY_GOTO(lemoe_rebuild_sweep(output_folder, list.names, list.n));
    (void)fprintf(out, "%s/sweep.h5\n", output_folder);
out:
    free_names(&list);
    return status;
}

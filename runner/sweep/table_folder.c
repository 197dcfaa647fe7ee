/* Commands over an output folder, without a configuration and without MPI: --status and --republish. */
#include "runner/sweep/table.h"

#include "kernels/base/mem.h"
#include "runner/io/file.h"

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

static lemoe_status add_name(journal_names *list, const char *file) {
    static const char ending[] = ".journal";
    size_t length = strlen(file);
    if (file[0] == '.' || length <= sizeof ending - 1 || strcmp(file + length - (sizeof ending - 1), ending) != 0)
        return LEMOE_OK;
    LEMOE_TRY(lemoe_mem_grow(&list->names, &list->capacity, list->n + 1, sizeof *list->names));
    LEMOE_TRY(lemoe_mem_strdup(file, &list->names[list->n]));
    list->names[list->n++][length - (sizeof ending - 1)] = '\0';
    return LEMOE_OK;
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

static void print_json(FILE *out, const char *name, const lemoe_results_summary *s, bool last) {
    static const char *const moments[] = {"base", "immediate", "final"}, *const metrics[] = {"reliability",
                                                                                             "generality", "locality"};
    (void)fprintf(out, "  {\"id\": \"%s\", \"status\": \"%s\", \"identity\": \"%s\"", name, s->status, s->identity);
    for (int moment = 0; moment < 3; moment++)
        for (int metric = 0; metric < 3; metric++) {
            char key[64];
            (void)snprintf(key, sizeof key, "%s_%s", moments[moment], metrics[metric]);
            print_number(out, key, s->score[moment][metric]);
        }
    print_number(out, "routing_consistency", s->consistency);
    print_number(out, "seconds", s->seconds);
    (void)fprintf(out, "}%s\n", last ? "" : ",");
}

lemoe_status lemoe_table_status(const char *output_folder, bool json, FILE *out) {
    lemoe_status status = LEMOE_OK;
    journal_names list = {0};
    LEMOE_TRY_GOTO(list_journals(output_folder, &list));
    if (json) (void)fprintf(out, "[\n");
    for (int64_t i = 0; i < list.n; i++) {
        lemoe_results_summary s = {0};
        LEMOE_TRY_GOTO(lemoe_table_read_summary(output_folder, list.names[i], &s));
        if (json)
            print_json(out, list.names[i], &s, i + 1 == list.n);
        else
            (void)fprintf(out, "%-11s %s%s%s\n", s.status, list.names[i], s.error && *s.error ? ": " : "",
                          s.error ? s.error : "");
        lemoe_results_summary_free(&s);
    }
    if (json) (void)fprintf(out, "]\n");
out:
    free_names(&list);
    return status;
}

lemoe_status lemoe_table_republish(const char *output_folder, bool salvage, FILE *out) {
    lemoe_status status = LEMOE_OK;
    journal_names list = {0};
    LEMOE_TRY_GOTO(list_journals(output_folder, &list));
    for (int64_t i = 0; i < list.n; i++) {
        char *journal = NULL, *h5 = NULL;
        status = lemoe_mem_printf(&journal, "%s/runs/%s.journal", output_folder, list.names[i]);
        if (status == LEMOE_OK) status = lemoe_mem_printf(&h5, "%s/runs/%s.h5", output_folder, list.names[i]);
        if (status == LEMOE_OK) status = lemoe_results_publish(journal, h5, salvage);
        if (status == LEMOE_OK) (void)fprintf(out, "%s\n", h5);
        lemoe_mem_free(journal);
        lemoe_mem_free(h5);
        LEMOE_TRY_GOTO(status);
    }
out:
    free_names(&list);
    return status;
}

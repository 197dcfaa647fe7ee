#include "runner/sweep/folder_list.h"

#include "kernels/base/mem.h"
#include "runner/io/file.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static bool ends_with(const char *text, const char *ending) {
    size_t length = strlen(text), tail = strlen(ending);
    return length > tail && strcmp(text + length - tail, ending) == 0;
}

static lemoe_status add_name(lemoe_folder_list *list, const char *file, bool with_folders) {
    static const char journal[] = ".journal";
    size_t length = strlen(file), ending = sizeof journal - 1;
    bool is_journal = ends_with(file, journal);
    if (file[0] == '.' || ends_with(file, ".h5") || ends_with(file, ".lease")) return LEMOE_OK;
    if (!is_journal && !with_folders) return LEMOE_OK;
    LEMOE_TRY(lemoe_mem_grow(&list->ids, &list->capacity, list->n + 1, sizeof *list->ids));
    LEMOE_TRY(lemoe_mem_strdup(file, &list->ids[list->n]));
    list->ids[list->n++][length - (is_journal ? ending : 0)] = '\0';
    return LEMOE_OK;
}

static void drop_doubles(lemoe_folder_list *list) {
    int64_t n = 0;
    for (int64_t i = 0; i < list->n; i++) {
        if (n > 0 && strcmp(list->ids[n - 1], list->ids[i]) == 0)
            lemoe_mem_free(list->ids[i]);
        else
            list->ids[n++] = list->ids[i];
    }
    list->n = n;
}

lemoe_status lemoe_folder_list_runs(const char *output_folder, bool with_folders, lemoe_folder_list *out) {
    lemoe_status status = LEMOE_OK;
    char *folder = NULL;
    DIR *listing = NULL;
    *out = (lemoe_folder_list){0};
    LEMOE_TRY_GOTO(lemoe_file_join(output_folder, "runs", &folder));
    listing = opendir(folder);
    if (!listing)
        LEMOE_TRY_GOTO(lemoe_raise(LEMOE_ERR_IO, "%s: no results there (no folder %s)", output_folder, folder));
    for (struct dirent *entry; (entry = readdir(listing));) LEMOE_TRY_GOTO(add_name(out, entry->d_name, with_folders));
    if (out->n) qsort(out->ids, (size_t)out->n, sizeof *out->ids, by_name);
    drop_doubles(out);
out:
    if (listing) (void)closedir(listing);
    lemoe_mem_free(folder);
    return status;
}

void lemoe_folder_list_free(lemoe_folder_list *list) {
    for (int64_t i = 0; i < list->n; i++) lemoe_mem_free(list->ids[i]);
    lemoe_mem_free(list->ids);
    *list = (lemoe_folder_list){0};
}

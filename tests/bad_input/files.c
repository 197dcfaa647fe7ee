#include "tests/bad_input/files.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

_Noreturn void give_up(const char *what) {
    (void)fprintf(stderr, "the test itself failed: %s: %s\n", what, strerror(errno));
    exit(2);
}

static void *allocate(void *old, size_t n_bytes) {
    void *memory = realloc(old, n_bytes);
    if (!memory) give_up("memory");
    return memory;
}

char *path_in(const char *folder, const char *name) {
    size_t n_bytes = strlen(folder) + strlen(name) + 2;
    char *path = allocate(NULL, n_bytes);
    (void)snprintf(path, n_bytes, "%s/%s", folder, name);
    return path;
}

char *file_read(const char *path, size_t *n_bytes) {
    FILE *file = fopen(path, "rb");
    struct stat info;
    if (!file || fstat(fileno(file), &info) != 0) give_up(path);
    size_t size = (size_t)info.st_size;
    char *data = allocate(NULL, size + 1);
    if (fread(data, 1, size, file) != size) give_up(path);
    (void)fclose(file);
    data[size] = '\0';
    if (n_bytes) *n_bytes = size;
    return data;
}

void file_write(const char *path, const void *data, size_t n_bytes) {
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(data, 1, n_bytes, file) != n_bytes || fclose(file) != 0) give_up(path);
}

void file_write_text(const char *path, const char *text) { file_write(path, text, strlen(text)); }

void folder_make(const char *path) {
    if (mkdir(path, 0777) != 0) give_up(path);
}

/* ---- trees ---- */

/* The names in a folder, sorted; the last one is NULL. */
static char **names_in(const char *folder) {
    struct dirent **entries = NULL;
    int n = scandir(folder, &entries, NULL, alphasort), n_kept = 0;
    if (n < 0) give_up(folder);
    char **names = allocate(NULL, ((size_t)n + 1) * sizeof *names);
    for (int i = 0; i < n; i++) {
        bool is_link_to_self = strcmp(entries[i]->d_name, ".") == 0 || strcmp(entries[i]->d_name, "..") == 0;
        if (!is_link_to_self) names[n_kept++] = path_in(folder, entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
    names[n_kept] = NULL;
    return names;
}

static void free_names(char **names) {
    for (char **name = names; *name; name++) free(*name);
    free(names);
}

static bool is_folder(const char *path) {
    struct stat info;
    return lstat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

void tree_remove(const char *path) {
    if (!is_folder(path)) {
        if (unlink(path) != 0 && errno != ENOENT) give_up(path);
        return;
    }
    char **names = names_in(path);
    for (char **name = names; *name; name++) tree_remove(*name);
    free_names(names);
    if (rmdir(path) != 0) give_up(path);
}

static char *append_tree(char *list, const char *folder) {
    char **names = names_in(folder), line[4096];
    for (char **name = names; *name; name++) {
        struct stat info;
        if (lstat(*name, &info) != 0) give_up(*name);
        (void)snprintf(line, sizeof line, "%.3900s mode %o size %lld changed %lld.%09ld\n", *name,
                       (unsigned)info.st_mode, (long long)info.st_size, (long long)info.st_mtim.tv_sec,
                       info.st_mtim.tv_nsec);
        list = allocate(list, strlen(list) + strlen(line) + 1);
        (void)strcat(list, line);
        if (S_ISDIR(info.st_mode)) list = append_tree(list, *name);
    }
    free_names(names);
    return list;
}

char *tree_list(const char *folder) {
    char *list = allocate(NULL, 1);
    list[0] = '\0';
    return append_tree(list, folder);
}

char *file_find(const char *folder, const char *part) {
    char **names = names_in(folder), *found = NULL;
    for (char **name = names; *name && !found; name++) {
        if (is_folder(*name))
            found = file_find(*name, part);
        else if (strstr(strrchr(*name, '/'), part))
            found = strdup(*name);
    }
    free_names(names);
    return found;
}

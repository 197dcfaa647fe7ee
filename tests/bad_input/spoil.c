#include "tests/bad_input/spoil.h"

#include "tests/bad_input/files.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *find(const char *data, size_t n_bytes, const char *text) {
    size_t length = strlen(text);
    for (size_t i = 0; i + length <= n_bytes; i++)
        if (memcmp(data + i, text, length) == 0) return data + i;
    return NULL;
}

/* The content with its only `from` replaced; the caller frees. */
static char *replaced(const char *data, size_t *n_bytes, const char *from, const char *to) {
    const char *at = find(data, *n_bytes, from);
    size_t before = at ? (size_t)(at - data) : 0, after = before + strlen(from), tail = *n_bytes - after;
    errno = EINVAL;
    if (!at || find(data + after, tail, from)) give_up(from);
    char *out = malloc(*n_bytes + strlen(to) + 1);
    if (!out) give_up("memory");
    memcpy(out, data, before);
    memcpy(out + before, to, strlen(to));
    memcpy(out + before + strlen(to), data + after, tail);
    *n_bytes = before + strlen(to) + tail;
    return out;
}

static void replace(const char *path, const spoil *what) {
    size_t n_bytes = 0;
    char *old = file_read(path, &n_bytes), *new = replaced(old, &n_bytes, what->a, what->b);
    file_write(path, new, n_bytes);
    free(old);
    free(new);
}

static void replace_in_header(const char *path, const spoil *what) {
    size_t n_bytes = 0;
    uint64_t n_header = 0;
    char *file = file_read(path, &n_bytes);
    memcpy(&n_header, file, 8);
    size_t n_new = n_header, n_data = n_bytes - 8 - n_header;
    char *header = replaced(file + 8, &n_new, what->a, what->b), *out = malloc(8 + n_new + n_data);
    if (!out) give_up("memory");
    memcpy(out, &(uint64_t){n_new}, 8);
    memcpy(out + 8, header, n_new);
    memcpy(out + 8 + n_new, file + 8 + n_header, n_data);
    file_write(path, out, 8 + n_new + n_data);
    free(file);
    free(header);
    free(out);
}

/* What changes bytes of a file that is there: cut, byte, append. */
static void change(const char *path, const spoil *what) {
    size_t n_bytes = 0;
    char *data = file_read(path, &n_bytes);
    size_t at = what->n < 0 ? n_bytes - (size_t)-what->n : (size_t)what->n;
    if (what->kind == SPOIL_APPEND) {
        char *longer = realloc(data, n_bytes + at);
        if (!longer) give_up("memory");
        data = longer;
        memcpy(data + n_bytes, what->a, at);
        n_bytes += at;
    } else if (what->kind == SPOIL_CUT) {
        n_bytes = at;
    } else {
        data[at] = what->a[0];
    }
    file_write(path, data, n_bytes);
    free(data);
}

static void nest(const char *path, const spoil *what) {
    size_t length = strlen(what->a), n_bytes = length * (size_t)what->n;
    char *data = malloc(n_bytes);
    if (!data) give_up("memory");
    for (size_t i = 0; i < n_bytes; i += length) memcpy(data + i, what->a, length);
    file_write(path, data, n_bytes);
    free(data);
}

static void write_records(const char *path, const spoil *what) {
    FILE *file = fopen(path, "w");
    if (!file) give_up(path);
    (void)fputc('[', file);
    for (long i = 0; i < what->n; i++)
        (void)fprintf(file,
                      "%s{\"subject\": \"town %ld\", \"src\": \"Who founded town %ld?\", \"alt\": \"Lady %ld\",\n"
                      " \"rephrase\": \"By whom was town %ld founded?\", \"loc\": \"Which river is long?\", "
                      "\"loc_ans\": \"The Nile\"}",
                      i ? ",\n" : "", i, i, i, i);
    (void)fputs(what->a, file);
    if (fclose(file) != 0) give_up(path);
}

static void copy(const char *path, const spoil *what) {
    size_t n_bytes = 0;
    char *data = file_read(path, &n_bytes);
    file_write(what->a, data, n_bytes);
    free(data);
}

static void apply_to(const char *path, const spoil *what) {
    switch (what->kind) {
    case SPOIL_WRITE: file_write(path, what->a, (size_t)what->n); return;
    case SPOIL_REPLACE: replace(path, what); return;
    case SPOIL_HEADER: replace_in_header(path, what); return;
    case SPOIL_NEST: nest(path, what); return;
    case SPOIL_RECORDS: write_records(path, what); return;
    case SPOIL_REMOVE: tree_remove(path); return;
    case SPOIL_COPY: copy(path, what); return;
    case SPOIL_FOLDER:
        tree_remove(path);
        folder_make(path);
        return;
    case SPOIL_PIPE:
        tree_remove(path);
        if (mkfifo(path, 0666) != 0) give_up(path);
        return;
    default: change(path, what); return;
    }
}

void spoil_apply(const spoil *what) {
    if (what->path[0] != '*') {
        apply_to(what->path, what);
        return;
    }
    char *path = file_find(".", what->path + 1);
    if (!path) give_up(what->path);
    apply_to(path, what);
    free(path);
}

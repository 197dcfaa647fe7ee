#include "runner/io/atomic_file.h"

#include "kernels/base/mem.h"
#include "runner/io/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct lemoe_atomic_file {
    char *path, *temporary;
    FILE *stream;
};

static void destroy(lemoe_atomic_file *file) {
    if (file->stream) (void)fclose(file->stream);
    lemoe_mem_free(file->path);
    lemoe_mem_free(file->temporary);
    lemoe_mem_free(file);
}

lemoe_status lemoe_atomic_file_begin(const char *path, lemoe_atomic_file **out) {
    lemoe_atomic_file *file = NULL;
    lemoe_status status = LEMOE_OK;
    char *folder = NULL;
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof *file, &file));
    LEMOE_TRY_GOTO(lemoe_file_folder_of(path, &folder));
    LEMOE_TRY_GOTO(lemoe_mem_strdup(path, &file->path));
    LEMOE_TRY_GOTO(lemoe_mem_printf(&file->temporary, "%s/.%s.%ld", folder, name, (long)getpid()));
    file->stream = fopen(file->temporary, "wb");
    if (!file->stream)
        LEMOE_TRY_GOTO(lemoe_raise(LEMOE_ERR_IO, "%s: cannot be written: %s", file->temporary, strerror(errno)));
    *out = file;
out:
    lemoe_mem_free(folder);
    if (status != LEMOE_OK) destroy(file);
    return status;
}

FILE *lemoe_atomic_file_stream(lemoe_atomic_file *file) { return file->stream; }
const char *lemoe_atomic_file_temporary(const lemoe_atomic_file *file) { return file->temporary; }

void lemoe_atomic_file_abandon(lemoe_atomic_file *file) {
    if (!file) return;
    (void)unlink(file->temporary);
    destroy(file);
}

/* ".name.1234", as lemoe_atomic_file_begin names them. */
static bool is_begun(const char *name, const char *begin) {
    const char *process = strrchr(name, '.') + 1;
    return strncmp(name, begin, strlen(begin)) == 0 && *process && !process[strspn(process, "0123456789")];
}

static bool is_older(const char *path, int64_t seconds) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode) && (int64_t)time(NULL) - (int64_t)info.st_mtime >= seconds;
}

static void unlink_begun(const char *folder, const char *begin, int64_t age_seconds) {
    DIR *entries = opendir(folder);
    for (struct dirent *entry = NULL; entries && (entry = readdir(entries));) {
        char *path = NULL;
        if (entry->d_name[0] != '.' || !is_begun(entry->d_name, begin)) continue;
        if (lemoe_file_join(folder, entry->d_name, &path) != LEMOE_OK) continue;
        if (age_seconds == 0 || is_older(path, age_seconds)) (void)unlink(path);
        lemoe_mem_free(path);
    }
    if (entries) (void)closedir(entries);
}

void lemoe_atomic_file_sweep(const char *path) {
    char *folder = NULL, *begin = NULL;
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    lemoe_status status = lemoe_file_folder_of(path, &folder);
    if (status == LEMOE_OK) status = lemoe_mem_printf(&begin, ".%s.", name);
    if (status == LEMOE_OK) unlink_begun(folder, begin, 0);
    lemoe_mem_free(folder);
    lemoe_mem_free(begin);
}

void lemoe_atomic_file_sweep_stale(const char *folder, const char *begin) {
    char *dot_name = NULL;
    lemoe_status status = lemoe_mem_printf(&dot_name, ".%s", begin);
    if (status == LEMOE_OK) unlink_begun(folder, dot_name, LEMOE_ATOMIC_FILE_STALE_SECONDS);
    lemoe_mem_free(dot_name);
}

static lemoe_status fsync_path(const char *path, int flags) {
    int file = open(path, flags | O_CLOEXEC);
    LEMOE_CHECK(file >= 0, LEMOE_ERR_IO, "%s: cannot be opened to be made durable: %s", path, strerror(errno));
    int failed = fsync(file), reason = errno;
    (void)close(file);
    LEMOE_CHECK(failed == 0, LEMOE_ERR_IO, "%s: cannot be made durable: %s", path, strerror(reason));
    return LEMOE_OK;
}

lemoe_status lemoe_fsync_folder_of(const char *path) {
    char *folder = NULL;
    LEMOE_TRY(lemoe_file_folder_of(path, &folder));
    lemoe_status status = fsync_path(folder, O_RDONLY | O_DIRECTORY);
    lemoe_mem_free(folder);
    return status;
}

static lemoe_status finish(lemoe_atomic_file *file) {
    int failed = ferror(file->stream) || fflush(file->stream) != 0, reason = errno;
    failed = fclose(file->stream) != 0 || failed;
    file->stream = NULL;
    LEMOE_CHECK(!failed, LEMOE_ERR_IO, "%s: writing failed: %s", file->temporary, strerror(reason));
    LEMOE_TRY(fsync_path(file->temporary, O_RDONLY)); /* by name: a library may have replaced what the stream opened */
    LEMOE_CHECK(rename(file->temporary, file->path) == 0, LEMOE_ERR_IO, "%s: cannot be renamed to %s: %s",
                file->temporary, file->path, strerror(errno));
    return lemoe_fsync_folder_of(file->path);
}

lemoe_status lemoe_atomic_file_commit(lemoe_atomic_file *file) {
    lemoe_status status = finish(file);
    if (status != LEMOE_OK) (void)unlink(file->temporary);
    destroy(file);
    return status;
}

#define _DEFAULT_SOURCE /* madvise */

#include "runner/io/file.h"

#include "kernels/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Opens a regular file and learns its size. */
static lemoe_status open_regular(const char *path, int *file, int64_t *n_bytes) {
    struct stat info;
    *file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe without a writer must not hold us */
    LEMOE_CHECK(*file >= 0, LEMOE_ERR_IO, "%s: cannot be read: %s", path, strerror(errno));
    if (fstat(*file, &info) != 0 || !S_ISREG(info.st_mode)) {
        (void)close(*file);
        return lemoe_raise(LEMOE_ERR_IO, "%s: is not a regular file", path);
    }
    *n_bytes = (int64_t)info.st_size;
    return LEMOE_OK;
}

lemoe_status lemoe_file_map_open(const char *path, lemoe_file_map *out) {
    int file = -1;
    *out = (lemoe_file_map){NULL, 0};
    LEMOE_TRY(open_regular(path, &file, &out->n_bytes));
    if (out->n_bytes == 0) {
        (void)close(file);
        return LEMOE_OK;
    }
    void *data = mmap(NULL, (size_t)out->n_bytes, PROT_READ, MAP_PRIVATE, file, 0);
    int reason = errno;
    (void)close(file);
    LEMOE_CHECK(data != MAP_FAILED, LEMOE_ERR_IO, "%s: cannot be mapped: %s", path, strerror(reason));
    out->data = data;
    return LEMOE_OK;
}

void lemoe_file_map_close(lemoe_file_map *map) {
    if (map->data) (void)munmap((void *)map->data, (size_t)map->n_bytes);
    *map = (lemoe_file_map){NULL, 0};
}

/* Whole pages only: what lies beside is somebody else's. Advice, so nothing is wrong where it is not taken. */
void lemoe_file_map_forget(const void *data, int64_t n_bytes) {
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = ((uintptr_t)data + page - 1) / page * page,
              end = ((uintptr_t)data + (uintptr_t)n_bytes) / page * page;
    if (end > begin) (void)madvise((char *)data + (begin - (uintptr_t)data), end - begin, MADV_DONTNEED);
}

void lemoe_file_map_expect(const void *data, int64_t n_bytes) {
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), into = (uintptr_t)data % page;
    if (n_bytes > 0) (void)madvise((char *)data - into, (size_t)n_bytes + into, MADV_WILLNEED);
}

bool lemoe_file_exists(const char *path) { return access(path, F_OK) == 0; }

bool lemoe_file_is_folder(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

static lemoe_status make_folder(const char *path) {
    if (mkdir(path, 0777) == 0 || (errno == EEXIST && lemoe_file_is_folder(path))) return LEMOE_OK;
    if (errno == EEXIST || errno == ENOTDIR)
        return lemoe_raise(LEMOE_ERR_IO, "%s: a file is in the way of this folder", path);
    return lemoe_raise(LEMOE_ERR_IO, "%s: the folder cannot be made: %s", path, strerror(errno));
}

lemoe_status lemoe_file_make_folders(const char *path) {
    char *part = NULL;
    lemoe_status status = LEMOE_OK;
    LEMOE_TRY(lemoe_mem_strdup(path, &part));
    for (char *slash = strchr(part + 1, '/'); *part && slash && status == LEMOE_OK; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        status = make_folder(part);
        *slash = '/';
    }
    if (status == LEMOE_OK) status = make_folder(part);
    lemoe_mem_free(part);
    return status;
}

lemoe_status lemoe_file_join(const char *folder, const char *name, char **out) {
    if (name[0] == '/') return lemoe_mem_strdup(name, out);
    size_t length = strlen(folder);
    return lemoe_mem_printf(out, "%s%s%s", folder, length && folder[length - 1] == '/' ? "" : "/", name);
}

lemoe_status lemoe_file_folder_of(const char *path, char **out) {
    const char *slash = strrchr(path, '/');
    if (!slash) return lemoe_mem_strdup(".", out);
    if (slash == path) return lemoe_mem_strdup("/", out);
    return lemoe_mem_printf(out, "%.*s", (int)(slash - path), path);
}

bool lemoe_file_name_is_inside(const char *name) {
    if (name[0] == '\0' || name[0] == '/') return false;
    for (const char *part = name; part; part = strchr(part, '/')) {
        if (*part == '/') part++;
        size_t length = strcspn(part, "/");
        if (length == 2 && part[0] == '.' && part[1] == '.') return false;
        if (length == 0) return false;
    }
    return true;
}

lemoe_status lemoe_file_read_text(const char *path, int64_t max_bytes, char **out, int64_t *n_bytes) {
    int file = -1;
    lemoe_status status = LEMOE_OK;
    LEMOE_TRY(open_regular(path, &file, n_bytes));
    if (*n_bytes > max_bytes)
        LEMOE_TRY_GOTO(lemoe_raise(LEMOE_ERR_FORMAT, "%s: is %lld bytes long; at most %lld are read", path,
                                   (long long)*n_bytes, (long long)max_bytes));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(*n_bytes + 1, 1, out));
    for (int64_t done = 0; done < *n_bytes;) {
        ssize_t got = read(file, *out + done, (size_t)(*n_bytes - done));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) {
            lemoe_mem_free(*out);
            *out = NULL;
            LEMOE_TRY_GOTO(lemoe_raise(LEMOE_ERR_IO, "%s: reading stopped at byte %lld of %lld: %s", path,
                                       (long long)done, (long long)*n_bytes,
                                       got < 0 ? strerror(errno) : "the file became shorter"));
        }
        done += got;
    }
out:
    (void)close(file);
    return status;
}

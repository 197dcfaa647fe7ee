/* Small file helpers: mapped reading, joined paths, folders. */
#ifndef RUNNER_IO_FILE_H
#define RUNNER_IO_FILE_H

#include "kernels/base/status.h"

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" { /* tokenizer_sp.cc */
#endif

/* A private, read-only mapping of a whole file: ranks on one node share its pages. */
typedef struct lemoe_file_map {
    const unsigned char *data; /* NULL for an empty file */
    int64_t n_bytes;
} lemoe_file_map;

lemoe_status lemoe_file_map_open(const char *path, lemoe_file_map *out) LEMOE_MUST_CHECK;
void lemoe_file_map_close(lemoe_file_map *map);
/* Local. Part of a mapping is not needed for now: its pages no longer count as this process's. They come back when they
 * are read. */
void lemoe_file_map_forget(const void *data, int64_t n_bytes);
/* Local. Part of a mapping is read soon, from its beginning to its end: the system may fetch it from the disk now, all
 * of it at once, and not a few pages whenever one is missing. */
void lemoe_file_map_expect(const void *data, int64_t n_bytes);

bool lemoe_file_exists(const char *path);
bool lemoe_file_is_folder(const char *path);
/* Local. mkdir -p; ok when it is there. Error IO names the part that is in the way. */
lemoe_status lemoe_file_make_folders(const char *path) LEMOE_MUST_CHECK;
/* Local. folder + "/" + name, or name itself when it is absolute; the caller frees. */
lemoe_status lemoe_file_join(const char *folder, const char *name, char **out) LEMOE_MUST_CHECK;
/* Local. The folder part of a path ("." when there is none); the caller frees. */
lemoe_status lemoe_file_folder_of(const char *path, char **out) LEMOE_MUST_CHECK;
/* Local. Refuses a name from a file that would leave its folder: absolute, "..", "", or with a NUL. */
bool lemoe_file_name_is_inside(const char *name);
/* Local. Whole file as text with a trailing NUL; at most max_bytes. The caller frees. */
lemoe_status lemoe_file_read_text(const char *path, int64_t max_bytes, char **out, int64_t *n_bytes) LEMOE_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif

/* Files that are either the old one or the whole new one: written under a dot-name in the same folder, fsynced,
 * renamed, and the folder fsynced. */
#ifndef RUNNER_IO_ATOMIC_FILE_H
#define RUNNER_IO_ATOMIC_FILE_H

#include "kernels/base/status.h"

#include <stdio.h>

typedef struct lemoe_atomic_file lemoe_atomic_file;

/* Local. Opens the dot-file, named after path and this process, for a path that is left alone until commit. *out is the
 * caller's, who ends it by commit or abandon. Errors: IO, NOMEM. */
lemoe_status lemoe_atomic_file_begin(const char *path, lemoe_atomic_file **out) LEMOE_MUST_CHECK;
/* Local. The stream to write to, and the dot-name for libraries that open by name (then the stream stays unused).
 * Borrowed: both are gone after commit or abandon. */
FILE *lemoe_atomic_file_stream(lemoe_atomic_file *file);
const char *lemoe_atomic_file_temporary(const lemoe_atomic_file *file);
/* Local. Flush, fsync, rename, fsync the folder; frees. On failure the old file stands and the dot-file is removed. */
lemoe_status lemoe_atomic_file_commit(lemoe_atomic_file *file) LEMOE_MUST_CHECK;
/* Local. Removes the dot-file; frees; NULL is fine. */
void lemoe_atomic_file_abandon(lemoe_atomic_file *file);
/* Local. Removes what processes that were killed had begun for path; for its only writer. Best effort. */
void lemoe_atomic_file_sweep(const char *path);
/* Local. The same for all such files of a folder whose names begin with a dot and begin, where several may write: those
 * that nobody has written to for so long that whoever began them is gone. Best effort. */
enum { LEMOE_ATOMIC_FILE_STALE_SECONDS = 600 };
void lemoe_atomic_file_sweep_stale(const char *folder, const char *begin);
/* Local. The second half alone, for journals: fsync of a folder. */
lemoe_status lemoe_fsync_folder_of(const char *path) LEMOE_MUST_CHECK;

#endif

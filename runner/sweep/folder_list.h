/* Which runs an output folder holds, by the names of its files. */
#ifndef RUNNER_SWEEP_FOLDER_LIST_H
#define RUNNER_SWEEP_FOLDER_LIST_H

#include "kernels/base/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct lemoe_folder_list {
    char **ids; /* [n] sorted, each once */
    int64_t n, capacity;
} lemoe_folder_list;

/* Local. with_folders: also runs that have only a folder, which is there from the moment a launch claims the run; else
 * those with a journal. *out is the caller's to free, after an error too. Errors: IO where there is no folder of runs.
 */
lemoe_status lemoe_folder_list_runs(const char *output_folder, bool with_folders,
                                    lemoe_folder_list *out) LEMOE_MUST_CHECK;
void lemoe_folder_list_free(lemoe_folder_list *list);

#endif

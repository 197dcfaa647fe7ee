/*
 * The runs of an output folder that are not a launch's own, as rows of sweep.h5: what other launches, or earlier ones,
 * have left there. A run is read once, from the beginning of its journal; looking again costs the names in the folder.
 */
#ifndef RUNNER_SWEEP_FOLDER_RUNS_H
#define RUNNER_SWEEP_FOLDER_RUNS_H

#include "runner/results/results.h"

typedef struct lemoe_folder_runs lemoe_folder_runs;

typedef struct lemoe_folder_runs_args {
    const char *output_folder;
    const char *const *own; /* [n_own] ids of the launch's runs, which are left out */
    int64_t n_own;
    const char *const *keys; /* [n_key] swept by the launch */
    int64_t n_key;
} lemoe_folder_runs_args;

/* Local. Copies what it is given but the ids, which are borrowed. */
lemoe_status lemoe_folder_runs_open(const lemoe_folder_runs_args *args, lemoe_folder_runs **out) LEMOE_MUST_CHECK;
void lemoe_folder_runs_close(lemoe_folder_runs *runs);
/* Local. Looks again. A run that cannot be read has no values. Errors: IO; NOMEM. */
lemoe_status lemoe_folder_runs_refresh(lemoe_folder_runs *runs) LEMOE_MUST_CHECK;

/* Local, pure. The swept keys: the launch's, then those of the other runs' sweeps. A run that does not say what its
 * sweep varied was written by an older program: it adds the keys in which such runs differ. Good until the next look.
 */
const char *const *lemoe_folder_runs_keys(const lemoe_folder_runs *runs, int64_t *n_key);
/* Local, pure. Runs of one sweep stand together, in its order; their values are those of the keys above. Good until the
 * next look. */
int64_t lemoe_folder_runs_count(const lemoe_folder_runs *runs);
lemoe_sweep_row lemoe_folder_runs_row(const lemoe_folder_runs *runs, int64_t index);

#endif

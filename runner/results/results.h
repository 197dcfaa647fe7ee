/*
 * The results of one run: rows go into the journal (the truth), the HDF5 file is published from it (the view).
 *
 * A dataset is named by its path in results_schema.c; a row range of it is put as plain numbers. Rows count once a
 * commit frame stands behind them. Only the team's first rank holds a results object; all functions are Local to it.
 */
#ifndef RUNNER_RESULTS_RESULTS_H
#define RUNNER_RESULTS_RESULTS_H

#include "kernels/base/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct lemoe_results lemoe_results;

/* Lengths of the axes of results_schema.c. The axes `step` grows as rows are put. */
typedef struct lemoe_results_axes {
    int64_t n_edit, n_batch, n_milestone;
    int64_t n_expert; /* rows of the consistency matrix; its columns are n_expert + 1, the last is none */
    int n_locality;   /* kinds; names as in lemoe_dataset */
    const char *const *locality_name;
} lemoe_results_axes;

typedef struct lemoe_results_args {
    const char *folder; /* runs/ of the output folder: <run_id>.journal, <run_id>.h5 and <run_id>/ go there */
    const char *run_id;
    lemoe_results_axes axes;
    /* At most one publish in that time, besides the last one, and none within ten times what the one before took;
     * 0 = at every commit. */
    double publish_seconds;
    const char *identity; /* of the run; NULL: an older journal is never gone on with */
} lemoe_results_args;

/* How many checkpoints a journal keeps the names of. */
enum { LEMOE_RESULTS_CHECKPOINTS = 4 };

/* Local. Takes the run's lock and lease and starts a new journal; or, when there is an unfinished or failed one of the
 * same identity and axes that names checkpoints, reopens that: then the caller looks at lemoe_results_checkpoints and
 * calls lemoe_results_go_on or lemoe_results_start_over before anything else. Errors: IO naming the path that is in the
 * way; STATE when another process holds the run's lock or lease (its owner is named), or when the run is complete
 * already; FORMAT, UNSUPPORTED when what is there cannot be read. */
lemoe_status lemoe_results_open(const lemoe_results_args *args, lemoe_results **out) LEMOE_MUST_CHECK;
/* Local. Serial numbers of the checkpoints that the reopened journal names, newest first; 0 where there is none. */
const int64_t *lemoe_results_checkpoints(const lemoe_results *results);
/* Local. Everything in the reopened journal stays; what is put again takes the place of what was put. */
lemoe_status lemoe_results_go_on(lemoe_results *results) LEMOE_MUST_CHECK;
/* Local. A new journal in place of the reopened one. Nothing to do for a new one. */
lemoe_status lemoe_results_start_over(lemoe_results *results) LEMOE_MUST_CHECK;
/* Local. Names a checkpoint that is durable on all ranks, and commits. serial > 0. Errors: as commit. */
lemoe_status lemoe_results_checkpoint(lemoe_results *results, int64_t serial) LEMOE_MUST_CHECK;

/* Local. A root attribute; the last put wins. run_id, schema_version, status, error, started_at, ended_at and
 * volatile_attributes are written by this module. Errors: ARG for a name that is empty or holds '/'; IO. */
lemoe_status lemoe_results_attribute(lemoe_results *results, const char *name, const char *text) LEMOE_MUST_CHECK;
lemoe_status lemoe_results_attribute_int(lemoe_results *results, const char *name, int64_t value) LEMOE_MUST_CHECK;
/* Local. Rows [first, first + n_rows) of a dataset, values of the type its schema row names: put_f64 for f64/f32
 * datasets, put_i64 for integer ones, put_text for strings. A row holds the product of the dataset's other axes. Rows
 * may be put in any order and again (the last put wins). Errors: ARG for an unknown path, wrong type or rows outside
 * the axis. */
lemoe_status lemoe_results_put_f64(lemoe_results *results, const char *path, int64_t first, int64_t n_rows,
                                   const double *values) LEMOE_MUST_CHECK;
lemoe_status lemoe_results_put_i64(lemoe_results *results, const char *path, int64_t first, int64_t n_rows,
                                   const int64_t *values) LEMOE_MUST_CHECK;
lemoe_status lemoe_results_put_text(lemoe_results *results, const char *path, int64_t first, int64_t n_rows,
                                    const char *const *values) LEMOE_MUST_CHECK;
/* Local. Writes a commit frame and fsyncs; publishes when the clock allows. A publish that fails is a warning here: the
 * rows are safe in the journal. Errors: IO (disk full: the journal stands as of the last commit and can still take
 * lemoe_results_finish); STATE when the lease was lost. */
lemoe_status lemoe_results_commit(lemoe_results *results) LEMOE_MUST_CHECK;
/* Local. Renews the lease when 10 s have passed; from every tick. Errors: as commit. */
lemoe_status lemoe_results_tick(lemoe_results *results) LEMOE_MUST_CHECK;
/* Local. Sets status, error (NULL = none) and ended_at, commits, publishes whatever the clock says. status: complete,
 * failed, interrupted. After complete or failed nothing can be put any more. */
lemoe_status lemoe_results_finish(lemoe_results *results, const char *status, const char *error) LEMOE_MUST_CHECK;
/* Local. Closes without finishing (the journal stays as committed); NULL is fine. */
void lemoe_results_close(lemoe_results *results);

/* Local. Replays a journal into a new HDF5 file beside it: dot-file, fsync, rename, fsync of the folder. Uncommitted
 * rows and a torn tail are left out; damage followed by good frames is an error with its offset unless salvage is set.
 */
lemoe_status lemoe_results_publish(const char *journal_path, const char *h5_path, bool salvage) LEMOE_MUST_CHECK;

/* Local. The same for a run that has ended, whose process was killed before it published for the last time: where the
 * HDF5 file is missing or older than the journal. */
lemoe_status lemoe_results_publish_if_older(const char *journal_path, const char *h5_path) LEMOE_MUST_CHECK;

/* What a finished or running journal says, for tables and for skipping what is done. */
typedef struct lemoe_results_summary {
    bool exists;
    char status[16]; /* complete, failed, interrupted, running, lost */
    char identity[33];
    char *error; /* may be NULL; freed by lemoe_results_summary_free */
    /* means over edits, NaN where there is nothing: [moment][metric], moments base, immediate, final; metrics
     * reliability, generality, locality (token-level) and the same whole-answer */
    double score[3][3], score_all[3][3];
    int64_t n_score[3][3], n_score_all[3][3]; /* edits behind each mean */
    double consistency;                       /* mean diagonal of C */
    double seconds;                           /* sum of /cost/seconds */
    int64_t peak_bytes;                       /* most of /cost/peak_bytes, -1 when there is none */
} lemoe_results_summary;
/* Local. A journal that is not there, or has no commit yet, gives exists = false. A run that has ended, and
 * whose .h5 beside the journal is up to date, is read from the last frame alone. Errors: IO; FORMAT and UNSUPPORTED as
 * lemoe_results_publish. Free after success. */
lemoe_status lemoe_results_read_summary(const char *journal_path, lemoe_results_summary *out) LEMOE_MUST_CHECK;
void lemoe_results_summary_free(lemoe_results_summary *summary);
/* Local. How many batches a journal has committed, of how many; 0 of 0 before it says. Errors: as above. */
lemoe_status lemoe_results_count_batches(const char *journal_path, int64_t *n_done, int64_t *n_batch) LEMOE_MUST_CHECK;
/* A root attribute that is asked of a journal. */
typedef struct lemoe_results_asked {
    const char *name;
    char *text;    /* "" for a number; NULL: the run does not say. The caller frees, after errors too */
    int64_t value; /* 0 for a text */
} lemoe_results_asked;
/* Local. What the run says under those names before its first rows: of a long journal only the beginning is read.
 * Errors: as lemoe_results_read_summary, for damage there. */
lemoe_status lemoe_results_read_first_attributes(const char *journal_path, lemoe_results_asked *asked,
                                                 int64_t n_asked) LEMOE_MUST_CHECK;
/* Local. How many numbers a journal has committed: grows as the run gets further, and only then. 0 without a journal.
 * Errors: as lemoe_results_read_summary. */
lemoe_status lemoe_results_count_values(const char *journal_path, int64_t *out) LEMOE_MUST_CHECK;

/* Local. The schema as JSON (--describe-schema); the caller frees. */
lemoe_status lemoe_results_describe_schema(char **out) LEMOE_MUST_CHECK;

/* "1.10.8": the HDF5 library in use. */
const char *lemoe_results_hdf5_version(void);

/* ---- the table of all runs: sweep.h5 ---- */

typedef struct lemoe_sweep_row {
    const char *run_id;
    const char *const *axis_values; /* [n_axis] text */
    int64_t tensor_parallel;
    const char *device;
} lemoe_sweep_row;
/* Local. Writes folder/sweep.h5 anew (dot-file, rename): one row a run, with status and headline metrics read from
 * folder/runs/<run_id>.journal, and external links to published runs. A run without journal is `waiting`, one whose
 * journal cannot be read is `unreadable` with the reason under error. Errors: ARG for an id or key that cannot be a
 * name; IO. */
lemoe_status lemoe_results_publish_sweep(const char *folder, const char *const *axis_keys, int64_t n_axis,
                                         const lemoe_sweep_row *rows, int64_t n_rows) LEMOE_MUST_CHECK;

#endif

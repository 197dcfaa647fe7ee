/*
 * Edits as text, from a JSON list of records. data.kind chooses a format, which is a row of field names in dataset.c:
 * zsre, selfcheckgpt, counterfact.
 */
#ifndef RUNNER_DATA_DATASET_H
#define RUNNER_DATA_DATASET_H

#include "kernels/base/status.h"

#include <stdbool.h>
#include <stdint.h>

/* A prompt with the answer that belongs to it; both NULL when the record has none. */
typedef struct lemoe_prompt {
    const char *prompt, *answer;
} lemoe_prompt;

enum { LEMOE_MAX_LOCALITY = 4 };

/* One record: edit prompt -> target, a paraphrase, locality pairs. Text is owned by the dataset, UTF-8, targets and
 * answers stripped of outer white space. */
typedef struct lemoe_edit {
    int64_t record;      /* index in the data file */
    const char *subject; /* "" when the record names none */
    const char *prompt, *target;
    const char *paraphrase;                    /* NULL when missing */
    lemoe_prompt locality[LEMOE_MAX_LOCALITY]; /* by kind; [0] is the headline locality */
} lemoe_edit;

typedef struct lemoe_dataset {
    int64_t n_edit;
    lemoe_edit *edits;
    int n_locality;                                /* kinds of locality, at least 1 */
    const char *locality_name[LEMOE_MAX_LOCALITY]; /* [0] is "" (dataset `locality`); others e.g. "same", "far" */
    int64_t n_record;                              /* records in the file */
    int64_t n_skipped;                             /* dropped by bad_records: skip */
    int64_t n_stripped;                            /* targets with outer white space */
    int64_t n_no_paraphrase, n_no_locality;
    char fingerprint[33]; /* XXH3-128 of the file, hex */
    void *text;           /* storage behind the strings */
} lemoe_dataset;

typedef struct lemoe_dataset_args {
    const char *kind; /* "zsre", "selfcheckgpt", "counterfact" */
    const char *path;
    int64_t n_edit;     /* how many; 0 = all. More than there are is an error that names both numbers */
    bool select_random; /* false: the first, in file order; true: drawn by seed, in drawn order */
    uint64_t seed;
    bool skip_bad; /* records without prompt or target: dropped and counted, else an error naming the record */
} lemoe_dataset_args;

/* Local. Every record of the file is checked, chosen or not; memory is taken for what was chosen. Errors: IO; FORMAT
 * "path: record N: reason", or "path:line:column: reason"; CONFIG for an unknown kind. Besides the fields of its format
 * a record may have `locality`: {name: {prompt, ground_truth}} (EasyEdit's shape) for further kinds. */
lemoe_status lemoe_dataset_open(const lemoe_dataset_args *args, lemoe_dataset **out) LEMOE_MUST_CHECK;
/* Local. The same for text in memory; path stands in messages. */
lemoe_status lemoe_dataset_parse(const lemoe_dataset_args *args, const char *text, int64_t n_bytes,
                                 lemoe_dataset **out) LEMOE_MUST_CHECK;
void lemoe_dataset_close(lemoe_dataset *dataset);

/* Local. Contradictions. order[n]: edits (indices) as they will be edited; out[i], in that order: the place of the next
 * edit that gives the very same prompt another target, or -1. */
lemoe_status lemoe_dataset_superseded(const lemoe_dataset *dataset, const int64_t *order, int64_t n,
                                      int64_t *out) LEMOE_MUST_CHECK;

#endif

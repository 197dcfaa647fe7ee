/* Private to runner/data: the formats, and what their reader and the dataset share. */
#ifndef RUNNER_DATA_DATASET_INTERNAL_H
#define RUNNER_DATA_DATASET_INTERNAL_H

#include "runner/data/dataset.h"

/* A format: the names of its records' fields. */
typedef struct lemoe_record_format {
    const char *kind; /* data.kind */
    const char *prompt, *target, *subject;
    const char *paraphrase;                 /* NULL: the format has none */
    const char *locality, *locality_answer; /* prompt and its own continuation */
} lemoe_record_format;

/* Reads the records of a JSON list into dataset->edits and counts. Records that no selection can take (the first so
 * many are asked for) are checked and counted, not kept. *n_usable: records with prompt and target. */
lemoe_status lemoe_records_read(const lemoe_dataset_args *args, const lemoe_record_format *format, const char *text,
                                int64_t n_bytes, lemoe_dataset *dataset, int64_t *n_usable) LEMOE_MUST_CHECK;

/* A copy of text owned by the dataset. */
lemoe_status lemoe_dataset_keep_text(lemoe_dataset *dataset, const char *text, int64_t length,
                                     const char **out) LEMOE_MUST_CHECK;
/* What was kept so far, and forgetting all that was kept since. */
typedef struct lemoe_dataset_mark {
    void *block;
    int64_t used;
} lemoe_dataset_mark;
lemoe_dataset_mark lemoe_dataset_mark_text(const lemoe_dataset *dataset);
void lemoe_dataset_drop_text(lemoe_dataset *dataset, lemoe_dataset_mark mark);

#endif

/* Private to runner/data: what readers of a format fill in and share. */
#ifndef RUNNER_DATA_DATASET_INTERNAL_H
#define RUNNER_DATA_DATASET_INTERNAL_H

#include "runner/data/dataset.h"

/* Reads every usable record into dataset->edits (all of them: selection comes after) and counts. */
lemoe_status lemoe_zsre_read(const lemoe_dataset_args *args, lemoe_dataset *dataset) LEMOE_MUST_CHECK;
/* A copy of text owned by the dataset. */
lemoe_status lemoe_dataset_keep_text(lemoe_dataset *dataset, const char *text, int64_t length,
                                     const char **out) LEMOE_MUST_CHECK;

#endif

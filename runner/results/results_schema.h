/*
 * The schema of a run's results: one row a dataset, documentation and behaviour from the same row. Rows whose path
 * holds "<kind>" stand for one dataset per further locality kind of the data.
 */
#ifndef RUNNER_RESULTS_RESULTS_SCHEMA_H
#define RUNNER_RESULTS_RESULTS_SCHEMA_H

#include "kernels/base/status.h"
#include "runner/results/results.h"

#include <stdbool.h>
#include <stdint.h>

enum { LEMOE_SCHEMA_VERSION = 1, LEMOE_RESULTS_MAX_KINDS = 16 };

typedef enum lemoe_axis {
    LEMOE_AXIS_NONE = 0,
    LEMOE_AXIS_EDIT,
    LEMOE_AXIS_BATCH,
    LEMOE_AXIS_BATCH_OTHER, /* a square matrix has two axes of its own: readers sum over names */
    LEMOE_AXIS_STEP,
    LEMOE_AXIS_MILESTONE,
    LEMOE_AXIS_EXPERT_TRAIN,
    LEMOE_AXIS_EXPERT_FINAL,
    LEMOE_AXIS_RUN, /* sweep.h5 only */
    LEMOE_AXIS_COUNT
} lemoe_axis;

/* Values are part of the journal's format: append, never renumber. */
typedef enum lemoe_element {
    LEMOE_ELEMENT_F64 = 1,
    LEMOE_ELEMENT_I64 = 2,
    LEMOE_ELEMENT_TEXT = 3,
    LEMOE_ELEMENT_I32 = 4 /* stored as 32 bits in HDF5, 64 in the journal */
} lemoe_element;

typedef struct lemoe_axis_row {
    const char *name, *scale; /* scale: path of the dimension scale */
    const char *long_name;
} lemoe_axis_row;

typedef struct lemoe_schema_row {
    const char *path;
    lemoe_element element;
    lemoe_axis axes[2];
    const char *units, *long_name;
    bool is_volatile;     /* may differ between equal runs */
    const char *protocol; /* metrics only, with the next two: what was measured how, and when */
    const char *scorer, *moment;
} lemoe_schema_row;

typedef struct lemoe_attribute_row {
    const char *name;
    lemoe_element element;
    bool is_volatile;
    const char *long_name;
} lemoe_attribute_row;

/* Local, pure. The tables; NULL past the end. */
const lemoe_axis_row *lemoe_schema_axis(lemoe_axis axis);
const lemoe_schema_row *lemoe_schema_row_at(int64_t index);
const lemoe_attribute_row *lemoe_schema_attribute_at(int64_t index);
/* The datasets of sweep.h5. */
const lemoe_schema_row *lemoe_schema_sweep_row_at(int64_t index);
/* "float64", "int64", "int32", "string". */
const char *lemoe_element_name(lemoe_element element);

/* ---- the schema of one run: rows with all names and lengths filled in ---- */

typedef struct lemoe_schema_dataset {
    const lemoe_schema_row *row;
    const char *path, *long_name; /* the row's own, or copies with the kind filled in */
    int64_t n_row;                /* length of the first axis; -1: grows (step) */
    int64_t row_element;          /* elements of a row: product of the other axes */
} lemoe_schema_dataset;

typedef struct lemoe_schema {
    int64_t length[LEMOE_AXIS_COUNT]; /* -1: grows */
    int64_t n_dataset;
    lemoe_schema_dataset *datasets;
} lemoe_schema;

/* Local. Errors: ARG naming the axis or locality kind that cannot be. */
lemoe_status lemoe_schema_create(const lemoe_results_axes *axes, lemoe_schema **out) LEMOE_MUST_CHECK;
void lemoe_schema_destroy(lemoe_schema *schema);
/* Local, pure. Index of a dataset by its full path, -1 when there is none. */
int64_t lemoe_schema_find(const lemoe_schema *schema, const char *path);

#endif

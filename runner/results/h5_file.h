/*
 * Writing HDF5: the one place that knows the library. A file is built in memory and handed over as bytes, so that
 * no failure of a disk happens inside the library, no lock of the library's is needed, and equal content gives equal
 * bytes (object times off). Root and groups track creation order; text is variable-length UTF-8: what netCDF-4 wants.
 */
#ifndef RUNNER_RESULTS_H5_FILE_H
#define RUNNER_RESULTS_H5_FILE_H

#include "kernels/base/status.h"
#include "runner/results/results_schema.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct lemoe_h5 lemoe_h5;

/* Local. An empty file that will be written to path by commit. Errors of all functions: IO for what the library or the
 * system refuses, naming path and place. */
lemoe_status lemoe_h5_create(const char *path, lemoe_h5 **out) LEMOE_MUST_CHECK;
/* Local. Writes the file under its path (dot-file, fsync, rename, fsync of the folder). */
lemoe_status lemoe_h5_commit(lemoe_h5 *file) LEMOE_MUST_CHECK;
/* Local. Without a commit before it, nothing is written. NULL is fine. */
void lemoe_h5_close(lemoe_h5 *file);

/* Local. Attributes of the object at path ("/" is the root). */
lemoe_status lemoe_h5_attribute_text(lemoe_h5 *file, const char *path, const char *name,
                                     const char *text) LEMOE_MUST_CHECK;
lemoe_status lemoe_h5_attribute_int(lemoe_h5 *file, const char *path, const char *name, int64_t value) LEMOE_MUST_CHECK;

/* Local. The dimension scale of an axis: n integers, with units and long_name. Errors: ARG for n = 0, which netCDF-4
 * has no dimension for. */
lemoe_status lemoe_h5_axis(lemoe_h5 *file, lemoe_axis axis, const int64_t *values, int64_t n) LEMOE_MUST_CHECK;

typedef struct lemoe_h5_dataset {
    const char *path;            /* groups on the way are made */
    const lemoe_schema_row *row; /* type, axes (their scales were made before), units, metric attributes */
    const char *long_name;       /* the row's, or with its placeholder filled in */
    int64_t length[2];           /* of the axes; the second only where there is one */
    const void *values;          /* double, int64_t (also for i32) or char *, NULL meaning "" */
    int64_t n_put;               /* elements behind values; the others get the fill value */
} lemoe_h5_dataset;

/* Local. Metrics also get `n`, how many of their values are not missing. */
lemoe_status lemoe_h5_write(lemoe_h5 *file, const lemoe_h5_dataset *dataset) LEMOE_MUST_CHECK;

/* Local. A group, and in it a link to the root of another file, whose name is relative to this file's folder. */
lemoe_status lemoe_h5_group(lemoe_h5 *file, const char *path) LEMOE_MUST_CHECK;
lemoe_status lemoe_h5_link_file(lemoe_h5 *file, const char *path, const char *target) LEMOE_MUST_CHECK;

#endif

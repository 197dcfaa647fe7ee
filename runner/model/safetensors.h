/*
 * safetensors files, read by mapping: 8 bytes header length, JSON header, data. A model folder holds model.safetensors
 * or model.safetensors.index.json with shards; both look the same from here.
 */
#ifndef RUNNER_MODEL_SAFETENSORS_H
#define RUNNER_MODEL_SAFETENSORS_H

#include "kernels/base/status.h"
#include "kernels/base/tensor.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct lemoe_safetensors lemoe_safetensors;

/* Local. Opens a model folder (index or single file) or, for a path that ends in .safetensors, one file. Checks every
 * header: sizes, offsets inside the file, no overlap, no hole that would hide data, known element types, names once,
 * index agreeing with the shards and naming nothing outside the folder. Errors: IO, FORMAT with file and tensor. */
lemoe_status lemoe_safetensors_open(const char *path, lemoe_safetensors **out) LEMOE_MUST_CHECK;
void lemoe_safetensors_close(lemoe_safetensors *file);

/* Local. A tensor by name as a view of the mapping (host memory, valid until close, maybe unaligned to its type: see
 * lemoe_safetensors_aligned). Errors: FORMAT when missing ("no tensor NAME in PATH") or of another shape (both shapes
 * are named); UNSUPPORTED for a type other than F32, F16, BF16. shape NULL: any shape will do, and n_dim is not
 * looked at. */
lemoe_status lemoe_safetensors_get(const lemoe_safetensors *file, const char *name, int n_dim, const int64_t *shape,
                                   lemoe_tensor *out) LEMOE_MUST_CHECK;
/* Whether the view may be read through a pointer of its type. */
int lemoe_safetensors_aligned(const lemoe_tensor *view);
int64_t lemoe_safetensors_count(const lemoe_safetensors *file);
const char *lemoe_safetensors_name(const lemoe_safetensors *file, int64_t index);
/* 1 when the name is there. */
int lemoe_safetensors_has(const lemoe_safetensors *file, const char *name);
/* Bytes of all tensors. */
int64_t lemoe_safetensors_data_bytes(const lemoe_safetensors *file);
/* Local. XXH3-128 (hex, 32 characters + NUL) over all headers and file sizes and every tensor's bytes. Since it reads
 * everything, it also looks for infinity and NaN in the tensors that were asked for so far. forgets: what was read need
 * not stay in this process's memory. Errors: FORMAT naming file, tensor and place of the first one in the file; NOMEM.
 */
lemoe_status lemoe_safetensors_fingerprint(const lemoe_safetensors *file, bool forgets, char out[33]) LEMOE_MUST_CHECK;

/* ---- writing: adaptors ---- */

typedef struct lemoe_safetensors_item {
    const char *name;
    lemoe_tensor tensor; /* host memory */
} lemoe_safetensors_item;
/* Local. Writes items in the order given with string metadata (pairs key, value; n_metadata pairs) through a dot-file,
 * fsync and rename. Item types F32 or BF16. */
lemoe_status lemoe_safetensors_write(const char *path, const lemoe_safetensors_item *items, int64_t n_items,
                                     const char *const *metadata, int64_t n_metadata) LEMOE_MUST_CHECK;

#endif

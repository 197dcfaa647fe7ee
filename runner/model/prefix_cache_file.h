/* Private to runner/model: a prefix cache on disk. A file is used only if magic, key, size and checksum are right. */
#ifndef RUNNER_MODEL_PREFIX_CACHE_FILE_H
#define RUNNER_MODEL_PREFIX_CACHE_FILE_H

#include "runner/io/file.h"
#include "runner/model/prefix_cache.h"

/* Local. XXH3-128 (hex) of what decides the rows: model, cut, team size, pack rule, device domain, all ids and spans.
 */
lemoe_status lemoe_prefix_cache_file_key(const lemoe_prefix_cache_args *args, const lemoe_item *items, int64_t n_items,
                                         char key[33]) LEMOE_MUST_CHECK;
/* Local. The n_float values of a good file as a view of the mapping, or NULL (no file, another key, damaged). */
const float *lemoe_prefix_cache_file_read(const char *path, const char *key, int64_t n_float, lemoe_file_map *map);
/* Local. Writes the file whole; removes the oldest others so that the folder stays below max_bytes; writes nothing when
 * the values alone are larger. */
lemoe_status lemoe_prefix_cache_file_write(const char *folder, const char *path, const char *key, const float *values,
                                           int64_t n_float, double max_bytes) LEMOE_MUST_CHECK;

#endif

/* Host memory: the only place that calls malloc. Sizes are checked for overflow; a refusal is an error with a size. */
#ifndef KERNELS_BASE_MEM_H
#define KERNELS_BASE_MEM_H

#include "kernels/base/status.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Local. Zeroed memory for n items of item_bytes, 64-byte aligned, in *out. n = 0 gives a valid, freeable pointer. */
lemoe_status lemoe_mem_alloc(int64_t n, size_t item_bytes, void *out) LEMOE_MUST_CHECK; /* out: any T** */
/* Local. Grows *block (from lemoe_mem_grow or NULL) so that it holds at least n items; *capacity is in items. New space
 * is not cleared. */
lemoe_status lemoe_mem_grow(void *block, int64_t *capacity, int64_t n, size_t item_bytes) LEMOE_MUST_CHECK;
/* Local. Copies of text; the caller frees. */
lemoe_status lemoe_mem_strdup(const char *text, char **out) LEMOE_MUST_CHECK;
lemoe_status lemoe_mem_printf(char **out, const char *format, ...) LEMOE_PRINTF(2, 3) LEMOE_MUST_CHECK;
/* Local. Frees what the functions above gave; NULL is fine. */
void lemoe_mem_free(void *block);

#ifdef __cplusplus
}
#endif
#endif

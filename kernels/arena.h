/*
 * An arena: device memory handed out in order and given back all at once. Four of them own what is on a device: weights
 * (the model's), adaptor (run), optimiser state and packs (batch; reset before each batch), scratch (step; marked and
 * reset by its user). Others come and go with one computation; a patched matrix is not in an arena, the model allocates
 * it from the device itself.
 */
#ifndef KERNELS_ARENA_H
#define KERNELS_ARENA_H

#include "kernels/device.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lemoe_arena lemoe_arena;

/* Local. block_bytes: how much is asked of the device at a time; larger requests get a block of their own. */
lemoe_status lemoe_arena_create(lemoe_device *device, size_t block_bytes, lemoe_arena **out) LEMOE_MUST_CHECK;
void lemoe_arena_destroy(lemoe_arena *arena);
/* Local. 256-byte aligned device memory, not cleared, valid until reset past it or destroy. */
lemoe_status lemoe_arena_alloc(lemoe_arena *arena, size_t n_bytes, void **out) LEMOE_MUST_CHECK;
/* Local. A tensor of that shape in the arena, not cleared; n_dim sizes follow. */
lemoe_status lemoe_arena_tensor(lemoe_arena *arena, lemoe_dtype dtype, int n_dim, const int64_t *shape,
                                lemoe_tensor *out) LEMOE_MUST_CHECK;
lemoe_status lemoe_arena_matrix(lemoe_arena *arena, lemoe_dtype dtype, int64_t rows, int64_t columns,
                                lemoe_tensor *out) LEMOE_MUST_CHECK;
lemoe_status lemoe_arena_vector(lemoe_arena *arena, lemoe_dtype dtype, int64_t n, lemoe_tensor *out) LEMOE_MUST_CHECK;
/* Local. Host memory with the life of what else the arena hands out: for what describes device memory and is read by
 * the host. Aligned and uncleared as above; on a device that is the host it is the arena's own. */
lemoe_status lemoe_arena_host(lemoe_arena *arena, size_t n_bytes, void *out) LEMOE_MUST_CHECK; /* out: any T** */
/* Local. Everything handed out since `mark` is given back; blocks are kept for the next use. mark 0 is the beginning.
 */
size_t lemoe_arena_mark(const lemoe_arena *arena);
void lemoe_arena_reset(lemoe_arena *arena, size_t mark);
/* Bytes handed out now, and the most there ever were, each request rounded up to whole 256 bytes. They depend on the
 * requests alone: what blocks have left when the next request does not fit is not counted. */
size_t lemoe_arena_used_bytes(const lemoe_arena *arena);
/* Local. Makes what was handed out since there were used_before bytes count n_bytes, where it is less: for sizes that
 * depend on data, so that what a step takes does not. */
lemoe_status lemoe_arena_pad(lemoe_arena *arena, size_t used_before, size_t n_bytes) LEMOE_MUST_CHECK;
size_t lemoe_arena_peak_bytes(const lemoe_arena *arena);
/* Local. Asks the device now, and in one piece, for what is missing to a peak of n_bytes: while no more is handed out,
 * no later request asks it for anything, and none leaves a rest of a block behind. Errors: NOMEM. */
lemoe_status lemoe_arena_reserve(lemoe_arena *arena, size_t n_bytes) LEMOE_MUST_CHECK;
lemoe_device *lemoe_arena_device(const lemoe_arena *arena);

#ifdef __cplusplus
}
#endif
#endif

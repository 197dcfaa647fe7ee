#include "kernels/arena.h"

#include "kernels/base/mem.h"
#include "kernels/ops_table.h"

#include <string.h>

/* Blocks of the device are aligned to this, so positions that are multiples of it are aligned too. */
enum { ALIGNMENT = LEMOE_DEVICE_ALIGNMENT };

typedef struct block {
    void *data;
    size_t begin, n_bytes; /* begin: the arena position of its first byte */
    size_t skipped;        /* what the blocks before it had left when it was begun */
} block;

/* Host memory beside a device's. It is given back with what was handed out before it up to `position`. */
typedef struct host_piece {
    char *data;
    int64_t capacity;
    size_t position;
} host_piece;

/* Positions grow over all blocks in order; a mark is a position. What a block has left when the next request does not
 * fit is passed over, and does not count as handed out: what counts depends on the requests alone. */
struct lemoe_arena {
    lemoe_device *device;
    size_t block_bytes, position, peak;
    block *blocks;
    int64_t n_block, capacity, current;
    host_piece *pieces; /* n_piece are handed out; what is behind them is kept for the next use */
    int64_t n_piece, n_kept, piece_capacity;
};

static size_t round_up(size_t n_bytes) { return (n_bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

lemoe_status lemoe_arena_create(lemoe_device *device, size_t block_bytes, lemoe_arena **out) {
    LEMOE_CHECK(block_bytes <= SIZE_MAX / 4, LEMOE_ERR_ARG, "an arena with blocks of %zu bytes", block_bytes);
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof **out, out));
    (*out)->device = device;
    (*out)->block_bytes = round_up(block_bytes);
    return LEMOE_OK;
}

void lemoe_arena_destroy(lemoe_arena *arena) {
    if (!arena) return;
    for (int64_t i = 0; i < arena->n_block; i++) lemoe_device_free(arena->device, arena->blocks[i].data);
    for (int64_t i = 0; i < arena->n_kept; i++) lemoe_mem_free(arena->pieces[i].data);
    lemoe_mem_free(arena->blocks);
    lemoe_mem_free(arena->pieces);
    lemoe_mem_free(arena);
}

/* A block after the last one. */
static lemoe_status add_block(lemoe_arena *arena, size_t size) {
    LEMOE_TRY(lemoe_mem_grow(&arena->blocks, &arena->capacity, arena->n_block + 1, sizeof *arena->blocks));
    block *last = arena->n_block ? &arena->blocks[arena->n_block - 1] : NULL, *b = &arena->blocks[arena->n_block];
    *b = (block){NULL, last ? last->begin + last->n_bytes : 0, size, 0};
    LEMOE_TRY(lemoe_device_alloc(arena->device, size, &b->data));
    arena->n_block++;
    return LEMOE_OK;
}

/* Goes on behind the present block. */
static lemoe_status next_block(lemoe_arena *arena, size_t n_bytes) {
    int64_t next = arena->n_block ? arena->current + 1 : 0;
    if (next == arena->n_block)
        LEMOE_TRY(add_block(arena, n_bytes > arena->block_bytes ? n_bytes : arena->block_bytes));
    block *b = &arena->blocks[next];
    if (next > 0) b->skipped = b[-1].skipped + b->begin - arena->position;
    arena->position = b->begin;
    arena->current = next;
    return LEMOE_OK;
}

lemoe_status lemoe_arena_alloc(lemoe_arena *arena, size_t n_bytes, void **out) {
    LEMOE_CHECK(n_bytes <= SIZE_MAX / 4, LEMOE_ERR_NOMEM, "no memory for %zu bytes", n_bytes);
    size_t wanted = n_bytes ? round_up(n_bytes) : ALIGNMENT;
    const block *b = arena->n_block ? &arena->blocks[arena->current] : NULL;
    while (!b || arena->position + wanted > b->begin + b->n_bytes) {
        LEMOE_TRY(next_block(arena, wanted));
        b = &arena->blocks[arena->current];
    }
    *out = (char *)b->data + (arena->position - b->begin);
    arena->position += wanted;
    if (lemoe_arena_used_bytes(arena) > arena->peak) arena->peak = lemoe_arena_used_bytes(arena);
    return LEMOE_OK;
}

lemoe_status lemoe_arena_reserve(lemoe_arena *arena, size_t n_bytes) {
    size_t used = lemoe_arena_used_bytes(arena);
    if (arena->position == 0) { /* blocks that nobody uses are of the wrong sizes */
        for (int64_t i = 0; i < arena->n_block; i++) lemoe_device_free(arena->device, arena->blocks[i].data);
        arena->n_block = arena->current = 0;
    }
    return n_bytes > used ? add_block(arena, round_up(n_bytes - used)) : LEMOE_OK;
}

lemoe_status lemoe_arena_tensor(lemoe_arena *arena, lemoe_dtype dtype, int n_dim, const int64_t *shape,
                                lemoe_tensor *out) {
    LEMOE_CHECK(n_dim >= 1 && n_dim <= 4, LEMOE_ERR_SHAPE, "a tensor with %d axes", n_dim);
    lemoe_tensor tensor = {
        NULL, dtype, n_dim, {1, 1, 1, 1}
    };
    int64_t count = 1;
    for (int i = 0; i < n_dim; i++) {
        LEMOE_CHECK(shape[i] >= 0 && (shape[i] == 0 || count <= INT64_MAX / 16 / shape[i]), LEMOE_ERR_SHAPE,
                    "a tensor whose axis %d has %lld elements", i, (long long)shape[i]);
        tensor.shape[i] = shape[i];
        count *= shape[i];
    }
    LEMOE_TRY(lemoe_arena_alloc(arena, (size_t)count * lemoe_dtype_bytes(dtype), &tensor.data));
    *out = tensor;
    return LEMOE_OK;
}

lemoe_status lemoe_arena_matrix(lemoe_arena *arena, lemoe_dtype dtype, int64_t rows, int64_t columns,
                                lemoe_tensor *out) {
    return lemoe_arena_tensor(arena, dtype, 2, (int64_t[]){rows, columns}, out);
}

lemoe_status lemoe_arena_vector(lemoe_arena *arena, lemoe_dtype dtype, int64_t n, lemoe_tensor *out) {
    return lemoe_arena_tensor(arena, dtype, 1, &n, out);
}

/* The smallest piece of device memory keeps its place, so that a mark stands before it or behind it. */
static lemoe_status push_piece(lemoe_arena *arena, size_t n_bytes, char **out) {
    void *place = NULL;
    LEMOE_TRY(lemoe_arena_alloc(arena, 0, &place));
    LEMOE_TRY(lemoe_mem_grow(&arena->pieces, &arena->piece_capacity, arena->n_piece + 1, sizeof *arena->pieces));
    host_piece *piece = &arena->pieces[arena->n_piece];
    if (arena->n_piece == arena->n_kept) *piece = (host_piece){NULL, 0, 0};
    if (arena->n_piece == arena->n_kept) arena->n_kept++;
    LEMOE_TRY(lemoe_mem_grow(&piece->data, &piece->capacity, (int64_t)n_bytes + ALIGNMENT, 1));
    piece->position = arena->position;
    arena->n_piece++;
    uintptr_t address = (uintptr_t)piece->data;
    *out = piece->data + (round_up(address) - address);
    return LEMOE_OK;
}

lemoe_status lemoe_arena_host(lemoe_arena *arena, size_t n_bytes, void *out) {
    char *data = NULL;
    LEMOE_CHECK(n_bytes <= SIZE_MAX / 4, LEMOE_ERR_NOMEM, "no memory for %zu bytes", n_bytes);
    if (lemoe_device_is_host(arena->device))
        LEMOE_TRY(lemoe_arena_alloc(arena, n_bytes, (void **)&data));
    else
        LEMOE_TRY(push_piece(arena, n_bytes, &data));
    memcpy(out, &data, sizeof data);
    return LEMOE_OK;
}

size_t lemoe_arena_mark(const lemoe_arena *arena) { return arena->position; }

void lemoe_arena_reset(lemoe_arena *arena, size_t mark) {
    arena->position = mark;
    while (arena->current > 0 && mark < arena->blocks[arena->current].begin) arena->current--;
    while (arena->n_piece > 0 && arena->pieces[arena->n_piece - 1].position > mark) arena->n_piece--;
}

size_t lemoe_arena_used_bytes(const lemoe_arena *arena) {
    return arena->n_block ? arena->position - arena->blocks[arena->current].skipped : 0;
}
lemoe_status lemoe_arena_pad(lemoe_arena *arena, size_t used_before, size_t n_bytes) {
    void *unused = NULL;
    size_t used = lemoe_arena_used_bytes(arena), wanted = used_before + round_up(n_bytes);
    return used < wanted ? lemoe_arena_alloc(arena, wanted - used, &unused) : LEMOE_OK;
}

size_t lemoe_arena_peak_bytes(const lemoe_arena *arena) { return arena->peak; }
lemoe_device *lemoe_arena_device(const lemoe_arena *arena) { return arena->device; }

#include "runner/model/pack.h"

#include "kernels/base/mem.h"

#include <stdlib.h>

/* Host arrays of a pack, before they go to the device. */
typedef struct layout {
    int64_t *start, *target_start;
    int32_t *ids, *position, *seq_start, *target_row, *target_id;
} layout;

static void free_layout(layout *l) {
    lemoe_mem_free(l->ids);
    lemoe_mem_free(l->position);
    lemoe_mem_free(l->seq_start);
    lemoe_mem_free(l->target_row);
    lemoe_mem_free(l->target_id);
}

static void count(const lemoe_item *items, int64_t n_items, lemoe_pack *out) {
    for (int64_t s = 0; s < n_items; s++) {
        out->n_tok += items[s].n_tok;
        out->n_target += items[s].n_tok - items[s].n_prompt;
        if (items[s].n_tok > out->max_seq) out->max_seq = items[s].n_tok;
    }
}

static lemoe_status reserve(layout *l, const lemoe_pack *p) {
    LEMOE_TRY(lemoe_mem_alloc(p->n_tok, sizeof *l->ids, &l->ids));
    LEMOE_TRY(lemoe_mem_alloc(p->n_tok, sizeof *l->position, &l->position));
    LEMOE_TRY(lemoe_mem_alloc(p->n_seq + 1, sizeof *l->seq_start, &l->seq_start));
    LEMOE_TRY(lemoe_mem_alloc(p->n_target, sizeof *l->target_row, &l->target_row));
    return lemoe_mem_alloc(p->n_target, sizeof *l->target_id, &l->target_id);
}

static void fill(const lemoe_item *items, layout *l, const lemoe_pack *p) {
    int64_t row = 0, target = 0;
    for (int64_t s = 0; s < p->n_seq; s++) {
        const lemoe_item *item = &items[s];
        l->start[s] = row;
        l->target_start[s] = target;
        l->seq_start[s] = (int32_t)row;
        for (int64_t t = 0; t < item->n_tok; t++) {
            l->ids[row + t] = item->ids[t];
            l->position[row + t] = (int32_t)t;
        }
        for (int64_t t = item->n_prompt; t < item->n_tok; t++) {
            l->target_row[target] = (int32_t)(row + t - 1);
            l->target_id[target++] = item->ids[t];
        }
        row += item->n_tok;
    }
    l->start[p->n_seq] = row;
    l->target_start[p->n_seq] = target;
    l->seq_start[p->n_seq] = (int32_t)row;
}

static lemoe_status upload(lemoe_arena *arena, const void *host, lemoe_dtype dtype, int64_t n, lemoe_tensor *out) {
    LEMOE_TRY(lemoe_arena_vector(arena, dtype, n, out));
    return lemoe_device_upload(lemoe_arena_device(arena), out->data, host, lemoe_tensor_bytes(out));
}

static lemoe_status upload_rows(lemoe_arena *arena, int64_t d_model, lemoe_pack *p) {
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, p->n_tok, d_model, &p->x));
    for (int64_t s = 0; s < p->n_seq; s++) {
        lemoe_tensor rows = lemoe_tensor_rows(p->x, p->start[s], p->items[s].n_tok);
        LEMOE_TRY(
            lemoe_device_upload(lemoe_arena_device(arena), rows.data, p->items[s].cut_rows, lemoe_tensor_bytes(&rows)));
    }
    return LEMOE_OK;
}

static lemoe_status upload_all(lemoe_arena *arena, const layout *l, int64_t d_model, lemoe_pack *p) {
    LEMOE_TRY(upload(arena, l->ids, LEMOE_I32, p->n_tok, &p->ids));
    LEMOE_TRY(upload(arena, l->position, LEMOE_I32, p->n_tok, &p->position));
    LEMOE_TRY(upload(arena, l->seq_start, LEMOE_I32, p->n_seq + 1, &p->seq_start));
    LEMOE_TRY(upload(arena, l->target_row, LEMOE_I32, p->n_target, &p->target_row));
    LEMOE_TRY(upload(arena, l->target_id, LEMOE_I32, p->n_target, &p->target_id));
    return d_model ? upload_rows(arena, d_model, p) : LEMOE_OK;
}

lemoe_status lemoe_pack_build(lemoe_arena *arena, const lemoe_item *items, int64_t n_items, int64_t d_model,
                              lemoe_pack *out) {
    layout l = {0};
    lemoe_status status = LEMOE_OK;
    *out = (lemoe_pack){.items = items, .n_seq = n_items};
    count(items, n_items, out);
    LEMOE_CHECK(out->n_tok <= INT32_MAX, LEMOE_ERR_SHAPE, "a pack of %lld tokens is too long", (long long)out->n_tok);
    LEMOE_TRY_GOTO(reserve(&l, out));
    LEMOE_TRY_GOTO(lemoe_arena_host(arena, (size_t)(n_items + 1) * sizeof *l.start, &l.start));
    LEMOE_TRY_GOTO(lemoe_arena_host(arena, (size_t)(n_items + 1) * sizeof *l.target_start, &l.target_start));
    fill(items, &l, out);
    out->start = l.start;
    out->target_start = l.target_start;
    LEMOE_TRY_GOTO(upload_all(arena, &l, d_model, out));
out:
    free_layout(&l);
    return status;
}

int64_t lemoe_pack_split(const lemoe_item *items, int64_t n_items, int64_t begin, int64_t max_tok) {
    int64_t end = begin, n_tok = 0;
    while (end < n_items && (end == begin || n_tok + items[end].n_tok <= max_tok)) n_tok += items[end++].n_tok;
    return end;
}

int64_t lemoe_pack_middle(const lemoe_pack *pack) {
    int64_t best = 0, least = INT64_MAX;
    for (int64_t s = 1; s < pack->n_seq; s++) {
        int64_t excess = llabs(2 * pack->start[s] - pack->n_tok);
        if (excess < least) best = s;
        if (excess < least) least = excess;
    }
    return best;
}

lemoe_pack lemoe_pack_part(const lemoe_pack *pack, int64_t begin, int64_t end) {
    int64_t row = pack->start[begin], n_tok = pack->start[end] - row;
    lemoe_pack part = {.items = pack->items + begin,
                       .n_seq = end - begin,
                       .n_tok = n_tok,
                       .first_row = row,
                       .ids = lemoe_tensor_rows(pack->ids, row, n_tok),
                       .position = lemoe_tensor_rows(pack->position, row, n_tok),
                       .seq_start = lemoe_tensor_rows(pack->seq_start, begin, end - begin + 1)};
    for (int64_t s = begin; s < end; s++)
        if (pack->items[s].n_tok > part.max_seq) part.max_seq = pack->items[s].n_tok;
    return part;
}

#include "runner/adaptor/dispatch.h"

#include "kernels/ops.h"

lemoe_status lemoe_dispatch_lists(lemoe_arena *arena, const lemoe_row_choices *choices, int64_t n_expert,
                                  lemoe_row_list **lists) {
    int64_t n = choices->n_row * choices->n_choice, at = 0;
    int32_t *rows = NULL;
    float *weights = NULL;
    LEMOE_TRY(lemoe_arena_host(arena, (size_t)n_expert * sizeof **lists, lists));
    LEMOE_TRY(lemoe_arena_host(arena, (size_t)n * sizeof *rows, &rows));
    LEMOE_TRY(lemoe_arena_host(arena, (size_t)n * sizeof *weights, &weights));
    for (int64_t i = 0; i < n_expert; i++) (*lists)[i] = (lemoe_row_list){0};
    for (int64_t c = 0; c < n; c++)
        if (choices->expert[c] >= 0) (*lists)[choices->expert[c]].n++;
    for (int64_t i = 0; i < n_expert; i++) { /* one behind the other; counted again as they are filled */
        lemoe_row_list *list = &(*lists)[i];
        int64_t n_list = list->n;
        *list = (lemoe_row_list){rows + at, weights + at, 0};
        at += n_list;
    }
    for (int64_t c = 0; c < n; c++) {
        if (choices->expert[c] < 0) continue;
        lemoe_row_list *list = &(*lists)[choices->expert[c]];
        list->row[list->n] = (int32_t)(c / choices->n_choice);
        list->weight[list->n++] = choices->weight[c];
    }
    return LEMOE_OK;
}

/* All rows in order need no copy. */
static lemoe_status gather(lemoe_arena *arena, lemoe_tensor x, lemoe_tensor row, lemoe_tensor *out) {
    *out = x;
    if (row.shape[0] == x.shape[0]) return LEMOE_OK;
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, row.shape[0], x.shape[1], out));
    return lemoe_op_rows_gather(lemoe_arena_device(arena), x, row, *out);
}

lemoe_status lemoe_dispatch_upload(lemoe_arena *arena, const lemoe_row_list *list, lemoe_row_tensors *out) {
    lemoe_device *device = lemoe_arena_device(arena);
    LEMOE_TRY(lemoe_arena_vector(arena, LEMOE_I32, list->n, &out->row));
    LEMOE_TRY(lemoe_arena_vector(arena, LEMOE_F32, list->n, &out->weight));
    LEMOE_TRY(lemoe_device_upload(device, out->row.data, list->row, lemoe_tensor_bytes(&out->row)));
    return lemoe_device_upload(device, out->weight.data, list->weight, lemoe_tensor_bytes(&out->weight));
}

lemoe_status lemoe_dispatch_forward(lemoe_llama *model, const lemoe_expert *expert, const lemoe_row_tensors *rows,
                                    lemoe_bypass_io *io, lemoe_dispatch *out) {
    lemoe_arena *arena = io->arena;
    lemoe_expert_rows at = {0};
    *out = (lemoe_dispatch){.expert = expert, .rows = *rows};
    LEMOE_TRY(gather(arena, io->x, rows->row, &at.x));
    if (expert->kind == LEMOE_EXPERT_LORA) {
        LEMOE_TRY(gather(arena, io->gate, rows->row, &at.gate));
        LEMOE_TRY(gather(arena, io->up, rows->row, &at.up));
        LEMOE_TRY(gather(arena, io->act, rows->row, &at.act));
    }
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, rows->row.shape[0], io->x.shape[1], &out->y));
    LEMOE_TRY(lemoe_expert_forward(model, expert, &at, out->y, arena, &out->trace));
    return lemoe_op_rows_scatter_add(lemoe_arena_device(arena), out->y, rows->row, rows->weight, io->out);
}

/* A tensor of an expert without rows is not made; every other one is rounded up by less than a piece. */
static size_t bytes_of(lemoe_row_cost cost, int64_t n_row, int64_t n_expert) {
    enum { PIECE = 256 };
    int64_t n_used = n_expert < n_row ? n_expert : n_row;
    return (size_t)(cost.n_column * n_row) * sizeof(float) + (size_t)(cost.n_tensor * n_used) * PIECE;
}

size_t lemoe_dispatch_forward_bytes(const lemoe_expert *expert, int64_t d_model, int64_t n_row, int64_t n_expert) {
    lemoe_row_cost cost = lemoe_expert_forward_cost(expert);
    bool needs_host = expert->kind == LEMOE_EXPERT_LORA; /* its gate, up and act, gathered */
    cost.n_tensor += 4 + (needs_host ? 3 : 0);           /* row, weight, x, y */
    cost.n_column += 2 + 2 * d_model + (needs_host ? 3 * expert->width : 0);
    return bytes_of(cost, n_row, n_expert);
}

size_t lemoe_dispatch_backward_bytes(const lemoe_expert *expert, int64_t d_model, int64_t n_row, int64_t n_expert) {
    lemoe_row_cost cost = lemoe_expert_backward_cost(expert);
    cost.n_tensor += 4; /* d_weight, d_out, dy, dx */
    cost.n_column += 1 + 3 * d_model;
    return bytes_of(cost, n_row, n_expert);
}

lemoe_status lemoe_dispatch_backward(lemoe_llama *model, const lemoe_dispatch *d, lemoe_bypass_io *io,
                                     lemoe_tensor d_weight) {
    lemoe_arena *arena = io->arena;
    lemoe_device *device = lemoe_arena_device(arena);
    lemoe_tensor no_weight = lemoe_tensor_1d(NULL, LEMOE_F32, d->rows.row.shape[0]), rows, dy, dx = {0};
    LEMOE_TRY(gather(arena, io->d_out, d->rows.row, &rows));
    if (d_weight.data) LEMOE_TRY(lemoe_op_row_dot(device, rows, d->y, d_weight));
    if (!io->d_x.data && !lemoe_expert_is_training(d->expert)) return LEMOE_OK;
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, rows.shape[0], rows.shape[1], &dy));
    LEMOE_TRY(lemoe_device_copy(device, dy.data, rows.data, lemoe_tensor_bytes(&dy)));
    LEMOE_TRY(lemoe_op_rows_scale(device, d->rows.weight, dy));
    if (io->d_x.data) {
        LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, dy.shape[0], dy.shape[1], &dx));
        LEMOE_TRY(lemoe_device_zero(device, dx.data, lemoe_tensor_bytes(&dx)));
    }
    LEMOE_TRY(lemoe_expert_backward(model, d->expert, &d->trace, dy, dx, arena));
    return dx.data ? lemoe_op_rows_scatter_add(device, dx, d->rows.row, no_weight, io->d_x) : LEMOE_OK;
}

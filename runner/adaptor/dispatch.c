#include "runner/adaptor/dispatch.h"

#include "kernels/ops.h"

/* All rows in order need no copy. */
static lemoe_status gather(lemoe_arena *arena, lemoe_tensor x, lemoe_tensor row, lemoe_tensor *out) {
    *out = x;
    if (row.shape[0] == x.shape[0]) return LEMOE_OK;
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, row.shape[0], x.shape[1], out));
    return lemoe_op_rows_gather(lemoe_arena_device(arena), x, row, *out);
}

static lemoe_status upload_list(lemoe_arena *arena, const lemoe_row_list *list, lemoe_dispatch *d) {
    lemoe_device *device = lemoe_arena_device(arena);
    LEMOE_TRY(lemoe_arena_vector(arena, LEMOE_I32, list->n, &d->row));
    LEMOE_TRY(lemoe_arena_vector(arena, LEMOE_F32, list->n, &d->weight));
    LEMOE_TRY(lemoe_device_upload(device, d->row.data, list->row, lemoe_tensor_bytes(&d->row)));
    return lemoe_device_upload(device, d->weight.data, list->weight, lemoe_tensor_bytes(&d->weight));
}

lemoe_status lemoe_dispatch_forward(lemoe_llama *model, const lemoe_expert *expert, const lemoe_row_list *list,
                                    lemoe_bypass_io *io, lemoe_dispatch *out) {
    lemoe_arena *arena = io->arena;
    lemoe_expert_rows rows = {0};
    *out = (lemoe_dispatch){.expert = expert};
    LEMOE_TRY(upload_list(arena, list, out));
    LEMOE_TRY(gather(arena, io->x, out->row, &rows.x));
    if (expert->kind == LEMOE_EXPERT_LORA) {
        LEMOE_TRY(gather(arena, io->gate, out->row, &rows.gate));
        LEMOE_TRY(gather(arena, io->up, out->row, &rows.up));
        LEMOE_TRY(gather(arena, io->act, out->row, &rows.act));
    }
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, list->n, io->x.shape[1], &out->y));
    LEMOE_TRY(lemoe_expert_forward(model, expert, &rows, out->y, arena, &out->trace));
    return lemoe_op_rows_scatter_add(lemoe_arena_device(arena), out->y, out->row, out->weight, io->out);
}

static lemoe_status weight_gradient(const lemoe_dispatch *d, lemoe_tensor dy, lemoe_arena *arena, float *d_weight) {
    lemoe_tensor dot;
    LEMOE_TRY(lemoe_arena_vector(arena, LEMOE_F32, dy.shape[0], &dot));
    LEMOE_TRY(lemoe_op_row_dot(lemoe_arena_device(arena), dy, d->y, dot));
    return lemoe_device_download(lemoe_arena_device(arena), d_weight, dot.data, lemoe_tensor_bytes(&dot));
}

lemoe_status lemoe_dispatch_backward(lemoe_llama *model, const lemoe_dispatch *d, lemoe_bypass_io *io,
                                     float *d_weight) {
    lemoe_arena *arena = io->arena;
    lemoe_device *device = lemoe_arena_device(arena);
    lemoe_tensor no_weight = lemoe_tensor_1d(NULL, LEMOE_F32, d->row.shape[0]), rows, dy, dx = {0};
    LEMOE_TRY(gather(arena, io->d_out, d->row, &rows));
    LEMOE_TRY(weight_gradient(d, rows, arena, d_weight));
    if (!io->d_x.data && !lemoe_expert_is_training(d->expert)) return LEMOE_OK;
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, rows.shape[0], rows.shape[1], &dy));
    LEMOE_TRY(lemoe_device_copy(device, dy.data, rows.data, lemoe_tensor_bytes(&dy)));
    LEMOE_TRY(lemoe_op_rows_scale(device, d->weight, dy));
    if (io->d_x.data) {
        LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, dy.shape[0], dy.shape[1], &dx));
        LEMOE_TRY(lemoe_device_zero(device, dx.data, lemoe_tensor_bytes(&dx)));
    }
    LEMOE_TRY(lemoe_expert_backward(model, d->expert, &d->trace, dy, dx, arena));
    return dx.data ? lemoe_op_rows_scatter_add(device, dx, d->row, no_weight, io->d_x) : LEMOE_OK;
}

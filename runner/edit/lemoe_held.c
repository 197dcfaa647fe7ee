/*
 * The bypass on packs that train many times (lemoe_llama_hold), where every row goes to the newest expert whatever the
 * router says: lists of rows and the features behind the gates are on the device once, and an update queues operations
 * only. The weights are the same as in lemoe_bypass.c: lambda where the gate is 1 (bit for bit), else lambda times the
 * gate, whose gradient is summed on the device.
 */
#include "kernels/base/mem.h"
#include "kernels/ops.h"
#include "runner/adaptor/dispatch.h"
#include "runner/edit/lemoe_editor.h"

typedef struct held_note {
    lemoe_row_tensors rows; /* all rows of the pack; their weight where the gate is 1 */
    lemoe_dispatch dispatch;
    /* where gates learn: */
    void *gates;                     /* the router's own; NULL: every gate is 1 */
    lemoe_tensor unit_of_row;        /* [n_tok] */
    lemoe_tensor row_begin, row_end; /* [n_unit] rows of each unit */
    lemoe_tensor lambda_rows; /* [n_unit] lambda times their number: a mean over rows becomes lambda times a sum */
} held_note;

static lemoe_status upload(lemoe_arena *arena, const void *host, lemoe_dtype dtype, int64_t n, lemoe_tensor *out) {
    LEMOE_TRY(lemoe_arena_vector(arena, dtype, n, out));
    return lemoe_device_upload(lemoe_arena_device(arena), out->data, host, lemoe_tensor_bytes(out));
}

/* ---- making the note ---- */

static lemoe_status hold_rows(const lemoe_lemoe *e, const lemoe_pack *pack, lemoe_arena *arena, held_note *note) {
    lemoe_status status = LEMOE_OK;
    int32_t *row = NULL;
    float *weight = NULL;
    LEMOE_TRY_GOTO(lemoe_mem_alloc(pack->n_tok, sizeof *row, &row));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(pack->n_tok, sizeof *weight, &weight));
    for (int64_t r = 0; r < pack->n_tok; r++) {
        row[r] = (int32_t)r;
        weight[r] = (float)e->context.config->lemoe.lambda;
    }
    LEMOE_TRY_GOTO(upload(arena, row, LEMOE_I32, pack->n_tok, &note->rows.row));
    LEMOE_TRY_GOTO(upload(arena, weight, LEMOE_F32, pack->n_tok, &note->rows.weight));
out:
    lemoe_mem_free(row);
    lemoe_mem_free(weight);
    return status;
}

/* Units lie in the order of the pack: sequences, or single rows. */
static lemoe_status hold_units(const lemoe_lemoe *e, const lemoe_pack *pack, const lemoe_units *units,
                               lemoe_arena *arena, held_note *note) {
    lemoe_status status = LEMOE_OK;
    int32_t *unit_of_row = NULL, *bounds = NULL;
    float *lambda_rows = NULL;
    LEMOE_TRY_GOTO(lemoe_mem_alloc(pack->n_tok, sizeof *unit_of_row, &unit_of_row));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(units->n + 1, sizeof *bounds, &bounds));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(units->n, sizeof *lambda_rows, &lambda_rows));
    for (int64_t u = 0; u < units->n; u++) {
        int64_t begin = units->per_token ? u : pack->start[u], end = units->per_token ? u + 1 : pack->start[u + 1];
        for (int64_t r = begin; r < end; r++) unit_of_row[r] = (int32_t)u;
        bounds[u] = (int32_t)begin;
        bounds[u + 1] = (int32_t)end;
        lambda_rows[u] = (float)(e->context.config->lemoe.lambda * (double)(end - begin));
    }
    LEMOE_TRY_GOTO(upload(arena, unit_of_row, LEMOE_I32, pack->n_tok, &note->unit_of_row));
    LEMOE_TRY_GOTO(upload(arena, bounds, LEMOE_I32, units->n, &note->row_begin));
    LEMOE_TRY_GOTO(upload(arena, bounds + 1, LEMOE_I32, units->n, &note->row_end));
    LEMOE_TRY_GOTO(upload(arena, lambda_rows, LEMOE_F32, units->n, &note->lambda_rows));
out:
    lemoe_mem_free(unit_of_row);
    lemoe_mem_free(bounds);
    lemoe_mem_free(lambda_rows);
    return status;
}

static lemoe_status hold_gates(lemoe_lemoe *e, const lemoe_pack *pack, lemoe_arena *arena, held_note *note) {
    lemoe_unit_args args = lemoe_lemoe_unit_args(e);
    lemoe_units units = {0};
    lemoe_status status = lemoe_units_make(&args, pack->items, pack->n_seq, &units);
    if (status == LEMOE_OK) status = e->router_ops->hold(e->router, &units, arena, &note->gates);
    if (status == LEMOE_OK && note->gates) status = hold_units(e, pack, &units, arena, note);
    lemoe_units_free(&units);
    return status;
}

lemoe_status lemoe_lemoe_hold(void *editor, const lemoe_pack *pack, lemoe_arena *arena, void **held) {
    lemoe_lemoe *e = editor;
    held_note *note = NULL;
    bool learns = e->router_ops->route_in_training != NULL;
    *held = NULL;
    if (learns && !e->router_ops->hold) return LEMOE_OK;
    LEMOE_TRY(lemoe_arena_host(arena, sizeof *note, &note));
    *note = (held_note){0};
    LEMOE_TRY(hold_rows(e, pack, arena, note));
    if (learns) LEMOE_TRY(hold_gates(e, pack, arena, note));
    if (!learns || note->gates) *held = note;
    return LEMOE_OK;
}

/* ---- using it ---- */

/* [n] as [n, 1]. */
static lemoe_tensor as_column(lemoe_tensor t) { return lemoe_tensor_2d(t.data, t.dtype, t.shape[0], 1); }

/* weight[row] = lambda gate[unit of the row] */
static lemoe_status spread_gates(const lemoe_lemoe *e, held_note *note, lemoe_arena *arena, lemoe_tensor *weight) {
    lemoe_device *device = lemoe_arena_device(arena);
    lemoe_tensor gate;
    LEMOE_TRY(e->router_ops->gates(e->router, note->gates, arena, &gate));
    LEMOE_TRY(lemoe_arena_vector(arena, LEMOE_F32, note->unit_of_row.shape[0], weight));
    LEMOE_TRY(lemoe_op_rows_gather(device, as_column(gate), note->unit_of_row, as_column(*weight)));
    return lemoe_op_scale(device, (float)e->context.config->lemoe.lambda, *weight);
}

lemoe_status lemoe_lemoe_held_forward(lemoe_lemoe *e, lemoe_bypass_io *io) {
    held_note *note = io->pack->bypass_held;
    lemoe_row_tensors rows = note->rows;
    if (note->gates) LEMOE_TRY(spread_gates(e, note, io->arena, &rows.weight));
    return lemoe_dispatch_forward(e->context.model, &e->experts[e->n_expert - 1], &rows, io, &note->dispatch);
}

/* d_gate[unit] = lambda sum over its rows of <d_out, f(x)>; f is a partial sum, so the team adds up. */
static lemoe_status gates_backward(lemoe_lemoe *e, const held_note *note, lemoe_tensor dot, lemoe_arena *arena) {
    lemoe_device *device = lemoe_arena_device(arena);
    lemoe_tensor d_gate;
    LEMOE_TRY(lemoe_arena_vector(arena, LEMOE_F32, note->row_begin.shape[0], &d_gate));
    LEMOE_TRY(lemoe_op_seg_mean(device, as_column(dot), note->row_begin, note->row_end, as_column(d_gate)));
    LEMOE_TRY(lemoe_op_rows_scale(device, note->lambda_rows, as_column(d_gate)));
    LEMOE_TRY(lemoe_comm_device_sum(lemoe_llama_comm(e->context.model), d_gate));
    return e->router_ops->backward_gates(e->router, note->gates, d_gate, arena);
}

lemoe_status lemoe_lemoe_held_backward(lemoe_lemoe *e, lemoe_bypass_io *io) {
    held_note *note = io->pack->bypass_held;
    lemoe_tensor dot = {0};
    if (note->gates) LEMOE_TRY(lemoe_arena_vector(io->arena, LEMOE_F32, io->pack->n_tok, &dot));
    LEMOE_TRY(lemoe_dispatch_backward(e->context.model, &note->dispatch, io, dot));
    return note->gates ? gates_backward(e, note, dot, io->arena) : LEMOE_OK;
}

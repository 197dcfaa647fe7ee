#include "runner/adaptor/dispatch.h"

#include "kernels/ops.h"

/* ---- one expert ---- */

/* All rows in order need no copy. */
static lemoe_status gather(lemoe_arena *arena, lemoe_tensor x, lemoe_tensor row, lemoe_tensor *out) {
    *out = x;
    if (row.shape[0] == x.shape[0]) return LEMOE_OK;
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, row.shape[0], x.shape[1], out));
    return lemoe_op_rows_gather(lemoe_arena_device(arena), x, row, *out);
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

/* ---- several ---- */

enum { WORD = sizeof(int32_t) }; /* rows and weights lie in one piece, words of one size */

/* begin[i]: the first of expert i's; the last is the number of all. */
static void count_rows(const lemoe_row_choices *choices, int64_t n_expert, int64_t *begin) {
    int64_t n = choices->n_row * choices->n_choice;
    for (int64_t i = 0; i <= n_expert; i++) begin[i] = 0;
    for (int64_t c = 0; c < n; c++)
        if (choices->expert[c] >= 0) begin[choices->expert[c] + 1]++;
    for (int64_t i = 0; i < n_expert; i++) begin[i + 1] += begin[i];
}

/* Every begin moves to where the next expert's rows begin, and back. */
static void list_rows(const lemoe_row_choices *choices, int64_t n_expert, int64_t *begin, int32_t *row, float *weight) {
    for (int64_t c = 0; c < choices->n_row * choices->n_choice; c++) {
        if (choices->expert[c] < 0) continue;
        int64_t at = begin[choices->expert[c]]++;
        row[at] = (int32_t)(c / choices->n_choice);
        weight[at] = choices->weight[c];
    }
    for (int64_t i = n_expert; i > 0; i--) begin[i] = begin[i - 1];
    begin[0] = 0;
}

lemoe_status lemoe_spread_rows(lemoe_spread *s, const lemoe_row_choices *choices, lemoe_arena *arena) {
    s->n_most = choices->n_row * choices->n_choice;
    LEMOE_TRY(lemoe_arena_host(arena, (size_t)(s->n_expert + 1) * sizeof *s->begin, &s->begin));
    LEMOE_TRY(lemoe_arena_host(arena, (size_t)(2 * s->n_most) * WORD, &s->row));
    LEMOE_TRY(lemoe_arena_host(arena, (size_t)s->n_expert * sizeof *s->dispatches, &s->dispatches));
    count_rows(choices, s->n_expert, s->begin);
    s->n = s->begin[s->n_expert];
    list_rows(choices, s->n_expert, s->begin, s->row, (float *)(s->row + s->n));
    return LEMOE_OK;
}

/* Elements [begin, begin + n) of words on the device. */
static lemoe_tensor part_of(lemoe_tensor words, lemoe_dtype dtype, int64_t begin, int64_t n) {
    return lemoe_tensor_1d((char *)words.data + begin * WORD, dtype, n);
}

/* What the arena hands out at most, every tensor rounded up: one of an expert without rows is not made. */
static size_t bytes_of(const lemoe_spread *s, lemoe_row_cost cost) {
    enum { PIECE = 256 };
    int64_t n_used = s->n_expert < s->n_most ? s->n_expert : s->n_most;
    return (size_t)(cost.n_column * s->n_most) * WORD + (size_t)(cost.n_tensor * n_used + 1) * PIECE;
}

static size_t forward_bytes(const lemoe_spread *s, int64_t d_model) {
    lemoe_row_cost cost = lemoe_expert_forward_cost(s->experts);
    bool needs_host = s->experts->kind == LEMOE_EXPERT_LORA; /* its gate, up and act, gathered */
    cost.n_tensor += 2 + (needs_host ? 3 : 0);               /* x, y; and rows and weights of all */
    cost.n_column += 2 + 2 * d_model + (needs_host ? 3 * s->experts->width : 0);
    return bytes_of(s, cost);
}

static size_t backward_bytes(const lemoe_spread *s, int64_t d_model) {
    lemoe_row_cost cost = lemoe_expert_backward_cost(s->experts);
    cost.n_tensor += 3; /* d_out, dy, dx; and d_weight of all */
    cost.n_column += 1 + 3 * d_model;
    return bytes_of(s, cost);
}

lemoe_status lemoe_spread_forward(lemoe_spread *s, lemoe_bypass_io *io) {
    size_t used = lemoe_arena_used_bytes(io->arena);
    lemoe_tensor words;
    LEMOE_TRY(lemoe_arena_vector(io->arena, LEMOE_I32, 2 * s->n, &words));
    LEMOE_TRY(lemoe_device_upload(lemoe_arena_device(io->arena), words.data, s->row, lemoe_tensor_bytes(&words)));
    for (int64_t i = 0; i < s->n_expert; i++) {
        int64_t begin = s->begin[i], n = s->begin[i + 1] - begin;
        lemoe_row_tensors rows = {part_of(words, LEMOE_I32, begin, n), part_of(words, LEMOE_F32, s->n + begin, n)};
        if (n > 0) LEMOE_TRY(lemoe_dispatch_forward(s->model, &s->experts[i], &rows, io, &s->dispatches[i]));
    }
    return lemoe_arena_pad(io->arena, used, forward_bytes(s, io->x.shape[1]));
}

lemoe_status lemoe_spread_backward(const lemoe_spread *s, lemoe_bypass_io *io, float *d_weight) {
    size_t used = lemoe_arena_used_bytes(io->arena);
    lemoe_tensor dots = {0}, dot = {0};
    if (d_weight) LEMOE_TRY(lemoe_arena_vector(io->arena, LEMOE_F32, s->n, &dots));
    for (int64_t i = 0; i < s->n_expert; i++) {
        int64_t begin = s->begin[i], n = s->begin[i + 1] - begin;
        if (d_weight) dot = part_of(dots, LEMOE_F32, begin, n);
        if (n > 0) LEMOE_TRY(lemoe_dispatch_backward(s->model, &s->dispatches[i], io, dot));
    }
    LEMOE_TRY(lemoe_arena_pad(io->arena, used, backward_bytes(s, io->x.shape[1])));
    if (!d_weight) return LEMOE_OK;
    return lemoe_device_download(lemoe_arena_device(io->arena), d_weight, dots.data, lemoe_tensor_bytes(&dots));
}

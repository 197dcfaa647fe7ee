/*
 * A block is half a layer: y = x + Attention(norm(x)) or y = x + FFN(norm(x)), forward and backward. Weights are
 * frozen, so the backward gives input gradients, and hands rows to the seams.
 */
#include "runner/model/llama_internal.h"

static lemoe_status matrix(lemoe_arena *arena, int64_t rows, int64_t columns, lemoe_tensor *out) {
    return lemoe_arena_matrix(arena, LEMOE_F32, rows, columns, out);
}

/* The type of rows that go into the matrices from first to last, or of gradients of what comes out of them: what their
 * products multiply, where nobody else reads them. */
static lemoe_dtype rows_type(const lemoe_llama *m, int64_t layer, lemoe_matrix first, lemoe_matrix last) {
    lemoe_dtype type = LEMOE_F32;
    for (int which = (int)first; which <= (int)last; which++) {
        type = lemoe_device_product_type(m->device, lemoe_llama_matrix(m, layer, (lemoe_matrix)which).dtype);
        if (type == LEMOE_F32 || llama_matrix_is_watched(m, layer, (lemoe_matrix)which)) return LEMOE_F32;
    }
    return type;
}

/* x W^T into a new tensor. */
static lemoe_status project(lemoe_llama *m, lemoe_arena *arena, int64_t layer, lemoe_matrix which, lemoe_tensor x,
                            lemoe_tensor *out) {
    lemoe_tensor w = lemoe_llama_matrix(m, layer, which);
    LEMOE_TRY(matrix(arena, x.shape[0], w.shape[0], out));
    return lemoe_op_linear(m->device, x, w, *out, false);
}

static lemoe_status normalise(lemoe_llama *m, lemoe_arena *arena, lemoe_tensor weight, lemoe_dtype type,
                              llama_block_trace *t) {
    LEMOE_TRY(lemoe_arena_matrix(arena, type, t->x.shape[0], t->x.shape[1], &t->h));
    LEMOE_TRY(lemoe_arena_vector(arena, LEMOE_F32, t->x.shape[0], &t->inv_rms));
    return lemoe_op_rmsnorm_fwd(m->device, t->x, weight, (float)m->config.rms_norm_eps, t->h, t->inv_rms);
}

/* ---- attention ---- */

/* [n_tok, n * d_head] as [n_tok, n, d_head]. */
static lemoe_tensor heads(const lemoe_llama *m, lemoe_tensor x, int64_t n) {
    lemoe_tensor t = {
        x.data, LEMOE_F32, 3, {x.shape[0], n, m->config.d_head, 1}
    };
    return t;
}

static lemoe_attn_args attn_args(const lemoe_llama *m, const lemoe_pack *pack, const llama_block_trace *t) {
    lemoe_attn_args args = {.q = heads(m, t->q, m->n_head),
                            .k = heads(m, t->k, m->n_kv),
                            .v = heads(m, t->v, m->n_kv),
                            .out = heads(m, t->heads_out, m->n_head),
                            .log_sum_exp = t->log_sum_exp,
                            .seq_start = pack->seq_start,
                            .first_row = pack->first_row,
                            .max_seq = pack->max_seq,
                            .window = m->config.sliding_window,
                            .scale = (float)(1.0 / __builtin_sqrt((double)m->config.d_head))};
    return args;
}

static lemoe_status rotate(lemoe_llama *m, const lemoe_pack *pack, lemoe_tensor q, lemoe_tensor k, int sign) {
    LEMOE_TRY(lemoe_op_rope(m->device, heads(m, q, m->n_head), pack->position, m->inv_freq, sign));
    return lemoe_op_rope(m->device, heads(m, k, m->n_kv), pack->position, m->inv_freq, sign);
}

static lemoe_status gather_targets(lemoe_llama *m, const lemoe_pack *pack, lemoe_tensor x, lemoe_arena *arena,
                                   lemoe_tensor *out) {
    LEMOE_TRY(lemoe_arena_matrix(arena, x.dtype, pack->n_target, x.shape[1], out));
    return lemoe_op_rows_gather(m->device, x, pack->target_row, *out);
}

/* Zeros in all other rows. */
static lemoe_status spread_targets(lemoe_llama *m, const lemoe_pack *pack, lemoe_tensor rows, lemoe_arena *arena,
                                   lemoe_tensor *out) {
    lemoe_tensor no_weight = {0};
    LEMOE_TRY(matrix(arena, pack->n_tok, rows.shape[1], out));
    LEMOE_TRY(lemoe_device_zero(m->device, out->data, lemoe_tensor_bytes(out)));
    return lemoe_op_rows_scatter_add(m->device, rows, pack->target_row, no_weight, *out);
}

/* Queries of the target rows alone: the others' are zero, and what attention gives for them is not read. */
static lemoe_status project_queries(lemoe_llama *m, int64_t layer, const lemoe_pack *pack, lemoe_arena *arena,
                                    llama_block_trace *t) {
    lemoe_tensor rows, q;
    if (!t->at_targets) return project(m, arena, layer, LEMOE_MATRIX_Q, t->h, &t->q);
    LEMOE_TRY(gather_targets(m, pack, t->h, arena, &rows));
    LEMOE_TRY(project(m, arena, layer, LEMOE_MATRIX_Q, rows, &q));
    return spread_targets(m, pack, q, arena, &t->q);
}

static lemoe_status attention_forward(lemoe_llama *m, int64_t layer, const lemoe_pack *pack, lemoe_tensor y,
                                      lemoe_arena *arena, llama_block_trace *t) {
    lemoe_dtype h_type = rows_type(m, layer, LEMOE_MATRIX_Q, LEMOE_MATRIX_V);
    LEMOE_TRY(normalise(m, arena, m->layers[layer].attn_norm, h_type, t));
    LEMOE_TRY(project_queries(m, layer, pack, arena, t));
    LEMOE_TRY(project(m, arena, layer, LEMOE_MATRIX_K, t->h, &t->k));
    LEMOE_TRY(project(m, arena, layer, LEMOE_MATRIX_V, t->h, &t->v));
    LEMOE_TRY(rotate(m, pack, t->q, t->k, 1));
    LEMOE_TRY(matrix(arena, t->q.shape[0], t->q.shape[1], &t->heads_out));
    LEMOE_TRY(matrix(arena, m->n_head, t->q.shape[0], &t->log_sum_exp));
    lemoe_attn_args args = attn_args(m, pack, t);
    LEMOE_TRY(lemoe_op_attn_fwd(m->device, &args));
    lemoe_tensor rows = t->heads_out;
    if (t->at_targets) LEMOE_TRY(gather_targets(m, pack, t->heads_out, arena, &rows));
    return lemoe_op_linear(m->device, rows, lemoe_llama_matrix(m, layer, LEMOE_MATRIX_O), y, false);
}

/* From d of the heads' output to d of q, k, v before the rotation. */
static lemoe_status heads_backward(lemoe_llama *m, const lemoe_pack *pack, const llama_block_trace *t,
                                   lemoe_tensor d_heads, lemoe_arena *arena, lemoe_tensor *dq, lemoe_tensor *dk,
                                   lemoe_tensor *dv) {
    lemoe_attn_args args = attn_args(m, pack, t);
    LEMOE_TRY(matrix(arena, t->q.shape[0], t->q.shape[1], dq));
    LEMOE_TRY(matrix(arena, t->k.shape[0], t->k.shape[1], dk));
    LEMOE_TRY(matrix(arena, t->v.shape[0], t->v.shape[1], dv));
    args.d_out = heads(m, d_heads, m->n_head);
    args.dq = heads(m, *dq, m->n_head);
    args.dk = heads(m, *dk, m->n_kv);
    args.dv = heads(m, *dv, m->n_kv);
    LEMOE_TRY(lemoe_op_attn_bwd(m->device, &args));
    return rotate(m, pack, *dq, *dk, -1);
}

/* d of the heads' output from d of the block's. */
static lemoe_status output_backward(lemoe_llama *m, int64_t layer, const lemoe_pack *pack, const llama_block_trace *t,
                                    lemoe_tensor dx, lemoe_arena *arena, lemoe_tensor *d_heads) {
    lemoe_tensor rows = dx, d_rows;
    if (t->at_targets) LEMOE_TRY(gather_targets(m, pack, dx, arena, &rows));
    LEMOE_TRY(matrix(arena, rows.shape[0], t->heads_out.shape[1], &d_rows));
    LEMOE_TRY(lemoe_op_linear_dx(m->device, rows, lemoe_llama_matrix(m, layer, LEMOE_MATRIX_O), d_rows, false));
    if (t->at_targets) return spread_targets(m, pack, d_rows, arena, d_heads);
    *d_heads = d_rows;
    return LEMOE_OK;
}

/* dh += dq W_q */
static lemoe_status queries_backward(lemoe_llama *m, int64_t layer, const lemoe_pack *pack, const llama_block_trace *t,
                                     lemoe_tensor dq, lemoe_tensor dh, lemoe_arena *arena) {
    lemoe_tensor w = lemoe_llama_matrix(m, layer, LEMOE_MATRIX_Q), rows, d_rows, no_weight = {0};
    if (!t->at_targets) return lemoe_op_linear_dx(m->device, dq, w, dh, true);
    LEMOE_TRY(gather_targets(m, pack, dq, arena, &rows));
    LEMOE_TRY(matrix(arena, rows.shape[0], dh.shape[1], &d_rows));
    LEMOE_TRY(lemoe_op_linear_dx(m->device, rows, w, d_rows, false));
    return lemoe_op_rows_scatter_add(m->device, d_rows, pack->target_row, no_weight, dh);
}

static lemoe_status attention_backward(lemoe_llama *m, int64_t layer, const lemoe_pack *pack, llama_block_trace *t,
                                       lemoe_tensor dx, lemoe_tensor dh, lemoe_arena *arena) {
    lemoe_tensor d_heads, dq, dk, dv;
    LEMOE_TRY(llama_tap(m, layer, LEMOE_MATRIX_O, t->heads_out, dx));
    LEMOE_TRY(output_backward(m, layer, pack, t, dx, arena, &d_heads));
    LEMOE_TRY(heads_backward(m, pack, t, d_heads, arena, &dq, &dk, &dv));
    LEMOE_TRY(llama_tap(m, layer, LEMOE_MATRIX_Q, t->h, dq));
    LEMOE_TRY(llama_tap(m, layer, LEMOE_MATRIX_K, t->h, dk));
    LEMOE_TRY(llama_tap(m, layer, LEMOE_MATRIX_V, t->h, dv));
    if (!dh.data) return LEMOE_OK;
    LEMOE_TRY(lemoe_op_linear_dx(m->device, dk, lemoe_llama_matrix(m, layer, LEMOE_MATRIX_K), dh, false));
    LEMOE_TRY(lemoe_op_linear_dx(m->device, dv, lemoe_llama_matrix(m, layer, LEMOE_MATRIX_V), dh, true));
    return queries_backward(m, layer, pack, t, dq, dh, arena);
}

/* ---- FFN ---- */

static lemoe_bypass_io bypass_io(const lemoe_pack *pack, llama_block_trace *t, lemoe_arena *arena) {
    lemoe_bypass_io io = {
        .pack = pack, .x = t->h, .gate = t->gate, .up = t->up, .act = t->act, .arena = arena, .kept = &t->kept};
    return io;
}

/* Without its bypass. */
static lemoe_status ffn_host_forward(lemoe_llama *m, int64_t layer, lemoe_tensor y, lemoe_arena *arena,
                                     llama_block_trace *t) {
    lemoe_dtype h_type = rows_type(m, layer, LEMOE_MATRIX_GATE, LEMOE_MATRIX_UP),
                act_type = rows_type(m, layer, LEMOE_MATRIX_DOWN, LEMOE_MATRIX_DOWN);
    LEMOE_TRY(normalise(m, arena, m->layers[layer].ffn_norm, h_type, t));
    LEMOE_TRY(project(m, arena, layer, LEMOE_MATRIX_GATE, t->h, &t->gate));
    LEMOE_TRY(project(m, arena, layer, LEMOE_MATRIX_UP, t->h, &t->up));
    LEMOE_TRY(lemoe_arena_matrix(arena, act_type, t->gate.shape[0], t->gate.shape[1], &t->act));
    LEMOE_TRY(lemoe_op_swiglu_fwd(m->device, t->gate, t->up, t->act));
    return lemoe_op_linear(m->device, t->act, lemoe_llama_matrix(m, layer, LEMOE_MATRIX_DOWN), y, false);
}

/* The FFN of the cut may be held by the pack: then t->x is the pack's own. */
static bool is_held(const lemoe_pack *pack, const llama_block_trace *t) {
    return pack->ffn_output.data && t->x.data == pack->x.data;
}

static lemoe_status ffn_forward(lemoe_llama *m, int64_t layer, const lemoe_pack *pack, lemoe_tensor y,
                                lemoe_arena *arena, llama_block_trace *t, bool training) {
    const lemoe_bypass *bypass = llama_bypass_at(m, layer);
    if (is_held(pack, t)) {
        t->h = pack->ffn_input;
        LEMOE_TRY(lemoe_device_copy(m->device, y.data, pack->ffn_output.data, lemoe_tensor_bytes(&y)));
    } else {
        LEMOE_TRY(ffn_host_forward(m, layer, y, arena, t));
    }
    if (!bypass) return LEMOE_OK;
    lemoe_bypass_io io = bypass_io(pack, t, arena);
    io.out = y;
    io.training = training;
    return bypass->forward(bypass->context, &io);
}

static lemoe_status hold_ffn(lemoe_llama *m, lemoe_pack *pack, int64_t layer, lemoe_arena *arena,
                             lemoe_arena *scratch) {
    llama_block_trace t = {.x = pack->x};
    lemoe_tensor input, output;
    LEMOE_TRY(matrix(arena, pack->n_tok, m->config.d_model, &input));
    LEMOE_TRY(matrix(arena, pack->n_tok, m->config.d_model, &output));
    LEMOE_TRY(ffn_host_forward(m, layer, output, scratch, &t));
    LEMOE_TRY(lemoe_device_copy(m->device, input.data, t.h.data, lemoe_tensor_bytes(&input)));
    pack->ffn_input = input;
    pack->ffn_output = output;
    return LEMOE_OK;
}

/* Bypasses above the cut would need notes of their own: so far there is one at most, and it is at the cut. */
static lemoe_status hold_bypass(lemoe_llama *m, lemoe_pack *pack, int64_t cut, lemoe_arena *arena) {
    const lemoe_bypass *bypass = cut % 2 == 1 ? llama_bypass_at(m, cut / 2) : NULL;
    if (bypass && bypass->hold) LEMOE_TRY(bypass->hold(bypass->context, pack, arena, &pack->bypass_held));
    pack->above_without_host = m->n_bypass == (bypass ? 1 : 0);
    pack->without_host = pack->above_without_host && (!bypass || pack->bypass_held);
    return LEMOE_OK;
}

lemoe_status lemoe_llama_hold(lemoe_llama *m, lemoe_pack *pack, int64_t cut, lemoe_arena *arena, lemoe_arena *scratch) {
    size_t mark = lemoe_arena_mark(scratch);
    lemoe_status status = LEMOE_OK;
    LEMOE_TRY(matrix(arena, 3, pack->n_target, &pack->losses));
    LEMOE_TRY(hold_bypass(m, pack, cut, arena));
    if (cut % 2 == 0 || !pack->x.data || !llama_ffn_is_constant(m, cut / 2)) return LEMOE_OK;
    status = hold_ffn(m, pack, cut / 2, arena, scratch);
    lemoe_arena_reset(scratch, mark);
    return status;
}

/* d of gate and up from d of the block's output. As fp32 the latter takes the place of d of act. */
static lemoe_status hidden_backward(lemoe_llama *m, int64_t layer, const llama_block_trace *t, lemoe_tensor dx,
                                    lemoe_arena *arena, lemoe_tensor *d_gate, lemoe_tensor *d_up) {
    lemoe_dtype type = rows_type(m, layer, LEMOE_MATRIX_GATE, LEMOE_MATRIX_UP);
    int64_t rows = t->gate.shape[0], columns = t->gate.shape[1];
    lemoe_tensor d_act;
    LEMOE_TRY(lemoe_arena_matrix(arena, type, rows, columns, d_gate));
    LEMOE_TRY(matrix(arena, rows, columns, &d_act));
    *d_up = d_act;
    if (type != LEMOE_F32) LEMOE_TRY(lemoe_arena_matrix(arena, type, rows, columns, d_up));
    LEMOE_TRY(lemoe_op_linear_dx(m->device, dx, lemoe_llama_matrix(m, layer, LEMOE_MATRIX_DOWN), d_act, false));
    return lemoe_op_swiglu_bwd(m->device, d_act, t->gate, t->up, *d_gate, *d_up);
}

/* The host's own path: down, swiglu, gate and up, as far as somebody needs it. */
static lemoe_status ffn_host_backward(lemoe_llama *m, int64_t layer, llama_block_trace *t, lemoe_tensor dx,
                                      lemoe_tensor dh, lemoe_arena *arena) {
    bool tapped = llama_has_tap(m, layer, LEMOE_MATRIX_GATE) || llama_has_tap(m, layer, LEMOE_MATRIX_UP);
    lemoe_tensor d_gate, d_up;
    if (!dh.data && !tapped) return LEMOE_OK;
    LEMOE_TRY(hidden_backward(m, layer, t, dx, arena, &d_gate, &d_up));
    LEMOE_TRY(llama_tap(m, layer, LEMOE_MATRIX_GATE, t->h, d_gate));
    LEMOE_TRY(llama_tap(m, layer, LEMOE_MATRIX_UP, t->h, d_up));
    if (!dh.data) return LEMOE_OK;
    LEMOE_TRY(lemoe_op_linear_dx(m->device, d_gate, lemoe_llama_matrix(m, layer, LEMOE_MATRIX_GATE), dh, false));
    return lemoe_op_linear_dx(m->device, d_up, lemoe_llama_matrix(m, layer, LEMOE_MATRIX_UP), dh, true);
}

static lemoe_status ffn_backward(lemoe_llama *m, int64_t layer, const lemoe_pack *pack, llama_block_trace *t,
                                 lemoe_tensor dx, lemoe_tensor dh, lemoe_arena *arena) {
    const lemoe_bypass *bypass = llama_bypass_at(m, layer);
    LEMOE_TRY(llama_tap(m, layer, LEMOE_MATRIX_DOWN, t->act, dx));
    LEMOE_TRY(ffn_host_backward(m, layer, t, dx, dh, arena));
    if (!bypass) return LEMOE_OK;
    lemoe_bypass_io io = bypass_io(pack, t, arena);
    io.d_out = dx;
    io.d_x = dh;
    io.training = true;
    return bypass->backward(bypass->context, &io);
}

/* ---- the block ---- */

lemoe_status llama_block_compute(lemoe_llama *m, int64_t block, const lemoe_pack *pack, lemoe_tensor y, bool training,
                                 lemoe_arena *arena, llama_block_trace *t) {
    return block % 2 == 0 ? attention_forward(m, block / 2, pack, y, arena, t)
                          : ffn_forward(m, block / 2, pack, y, arena, t, training);
}

static lemoe_status forward(lemoe_llama *m, int64_t block, const lemoe_pack *pack, lemoe_tensor y, lemoe_arena *arena,
                            llama_block_trace *t, bool training) {
    lemoe_tensor x = t->x;
    LEMOE_TRY(llama_block_compute(m, block, pack, y, training, arena, t));
    LEMOE_TRY(llama_reduce(m, y));
    if (t->at_targets) LEMOE_TRY(gather_targets(m, pack, t->x, arena, &x));
    return lemoe_op_axpy(m->device, 1.0f, x, y);
}

lemoe_status llama_block_forward(lemoe_llama *m, int64_t block, const lemoe_pack *pack, lemoe_tensor x, lemoe_tensor y,
                                 bool at_targets, lemoe_arena *arena, llama_block_trace *trace) {
    llama_block_trace scratch = {.x = x, .at_targets = at_targets}, *t = trace ? trace : &scratch;
    size_t mark = lemoe_arena_mark(arena);
    *t = scratch;
    lemoe_status status = forward(m, block, pack, y, arena, t, trace != NULL);
    if (!trace) lemoe_arena_reset(arena, mark);
    return status;
}

lemoe_status llama_block_compute_dh(lemoe_llama *m, int64_t block, const lemoe_pack *pack, llama_block_trace *t,
                                    lemoe_tensor dx, lemoe_tensor dh, lemoe_arena *arena) {
    return block % 2 == 0 ? attention_backward(m, block / 2, pack, t, dx, dh, arena)
                          : ffn_backward(m, block / 2, pack, t, dx, dh, arena);
}

lemoe_status llama_block_finish_dx(lemoe_llama *m, int64_t block, const llama_block_trace *t, lemoe_tensor dh,
                                   lemoe_tensor dx) {
    const llama_layer *layer = &m->layers[block / 2];
    lemoe_tensor norm = block % 2 == 0 ? layer->attn_norm : layer->ffn_norm;
    return lemoe_op_rmsnorm_bwd(m->device, dh, t->x, norm, t->inv_rms, dx);
}

lemoe_status llama_block_backward(lemoe_llama *m, int64_t block, const lemoe_pack *pack, llama_block_trace *t,
                                  lemoe_tensor dx, bool need_dx, lemoe_arena *arena) {
    lemoe_tensor dh = {0};
    size_t mark = lemoe_arena_mark(arena);
    if (need_dx) LEMOE_TRY(matrix(arena, dx.shape[0], dx.shape[1], &dh));
    LEMOE_TRY(llama_block_compute_dh(m, block, pack, t, dx, dh, arena));
    if (need_dx) {
        LEMOE_TRY(llama_reduce(m, dh));
        LEMOE_TRY(llama_block_finish_dx(m, block, t, dh, dx));
    }
    lemoe_arena_reset(arena, mark);
    return LEMOE_OK;
}

/* The forward in its two parts: prefix (ids to the cut) and suffix (the cut to the targets), and the suffix's backward.
 */
#include "runner/model/llama_internal.h"

static lemoe_status rows_like(lemoe_arena *arena, const lemoe_llama *m, int64_t rows, lemoe_tensor *out) {
    return lemoe_arena_matrix(arena, LEMOE_F32, rows, m->config.d_model, out);
}

/* Embedding rows; each rank adds those it holds. */
static lemoe_status embed(lemoe_llama *m, const lemoe_pack *pack, lemoe_tensor x) {
    LEMOE_TRY(lemoe_op_embed_fwd(m->device, pack->ids, m->embed, m->vocab_begin, x));
    return llama_reduce(m, x);
}

static lemoe_status prefix(lemoe_llama *m, const lemoe_pack *pack, int64_t cut, lemoe_arena *arena, lemoe_tensor x) {
    lemoe_tensor now;
    size_t mark = lemoe_arena_mark(arena);
    LEMOE_TRY(rows_like(arena, m, pack->n_tok, &now));
    LEMOE_TRY(embed(m, pack, now));
    LEMOE_TRY(llama_blocks_forward(m, pack, 0, cut, arena, NULL, &now));
    LEMOE_TRY(lemoe_device_copy(m->device, x.data, now.data, lemoe_tensor_bytes(&now)));
    lemoe_arena_reset(arena, mark);
    return LEMOE_OK;
}

lemoe_status lemoe_llama_prefix(lemoe_llama *m, const lemoe_pack *pack, int64_t cut, lemoe_arena *arena,
                                lemoe_tensor x) {
    return lemoe_comm_keep_step(m->comm, prefix(m, pack, cut, arena, x));
}

static lemoe_status embedding_mean(lemoe_llama *m, const lemoe_pack *pack, const int32_t *begin, const int32_t *end,
                                   int64_t n, lemoe_arena *arena, lemoe_tensor y) {
    lemoe_tensor x, first, last;
    size_t mark = lemoe_arena_mark(arena);
    LEMOE_TRY(rows_like(arena, m, pack->n_tok, &x));
    LEMOE_TRY(lemoe_arena_vector(arena, LEMOE_I32, n, &first));
    LEMOE_TRY(lemoe_arena_vector(arena, LEMOE_I32, n, &last));
    LEMOE_TRY(lemoe_device_upload(m->device, first.data, begin, lemoe_tensor_bytes(&first)));
    LEMOE_TRY(lemoe_device_upload(m->device, last.data, end, lemoe_tensor_bytes(&last)));
    LEMOE_TRY(embed(m, pack, x));
    LEMOE_TRY(lemoe_op_seg_mean(m->device, x, first, last, y));
    lemoe_arena_reset(arena, mark);
    return LEMOE_OK;
}

lemoe_status lemoe_llama_embedding_mean(lemoe_llama *m, const lemoe_pack *pack, const int32_t *begin,
                                        const int32_t *end, int64_t n, lemoe_arena *arena, lemoe_tensor y) {
    return lemoe_comm_keep_step(m->comm, embedding_mean(m, pack, begin, end, n, arena, y));
}

lemoe_status lemoe_llama_ffn_input(lemoe_llama *m, int64_t layer, lemoe_tensor x, lemoe_arena *arena, lemoe_tensor y) {
    lemoe_tensor inv_rms;
    size_t mark = lemoe_arena_mark(arena);
    LEMOE_TRY(lemoe_arena_vector(arena, LEMOE_F32, x.shape[0], &inv_rms));
    LEMOE_TRY(lemoe_op_rmsnorm_fwd(m->device, x, m->layers[layer].ffn_norm, (float)m->config.rms_norm_eps, y, inv_rms));
    lemoe_arena_reset(arena, mark);
    return LEMOE_OK;
}

/* ---- suffix ---- */

static lemoe_status gather_targets(lemoe_llama *m, const lemoe_pack *pack, lemoe_tensor x, lemoe_arena *arena,
                                   lemoe_tensor *out) {
    LEMOE_TRY(rows_like(arena, m, pack->n_target, out));
    return lemoe_op_rows_gather(m->device, x, pack->target_row, *out);
}

/* Of the last layer only the rows that predict a target are read, so it only answers to those: their queries against
 * all keys and values, and their FFN. Products change their last bits with the number of rows, so what decides is the
 * same with and without an editor: the cut (an editor of that layer has it there) and what is registered, active or
 * not. */
static bool last_at_targets(const lemoe_llama *m, int64_t cut) {
    return cut < 2 * m->config.n_layer - 1 && !llama_layer_is_seamed(m, m->config.n_layer - 1);
}

/* Blocks [from, to) of a last layer that answers to the target rows. */
static lemoe_status last_layer(lemoe_llama *m, const lemoe_pack *pack, int64_t from, int64_t to, lemoe_arena *arena,
                               llama_block_trace *traces, lemoe_tensor *x) {
    for (int64_t block = from; block < to; block++) {
        lemoe_tensor y;
        LEMOE_TRY(rows_like(arena, m, pack->n_target, &y));
        LEMOE_TRY(llama_block_forward(m, block, pack, *x, y, block % 2 == 0, arena, llama_trace_of(traces, block, 0)));
        *x = y;
    }
    return LEMOE_OK;
}

static lemoe_status suffix_eval(lemoe_llama *m, const lemoe_pack *pack, int64_t cut, lemoe_arena *arena,
                                lemoe_tensor *rows) {
    int64_t n_block = 2 * m->config.n_layer;
    lemoe_tensor x;
    LEMOE_TRY(rows_like(arena, m, pack->n_tok, &x));
    LEMOE_TRY(lemoe_device_copy(m->device, x.data, pack->x.data, lemoe_tensor_bytes(&x)));
    if (!last_at_targets(m, cut)) {
        LEMOE_TRY(llama_blocks_forward(m, pack, cut, n_block, arena, NULL, &x));
        return gather_targets(m, pack, x, arena, rows);
    }
    LEMOE_TRY(llama_blocks_forward(m, pack, cut, n_block - 2, arena, NULL, &x));
    *rows = x;
    return last_layer(m, pack, n_block - 2, n_block, arena, NULL, rows);
}

/* Training goes up block by block; the trace stands before the next one. Up to block `end`, or as many as there are. */
static lemoe_status climb(lemoe_llama *m, const lemoe_pack *pack, int64_t end, lemoe_arena *arena,
                          lemoe_llama_trace *trace) {
    int64_t n_block = 2 * m->config.n_layer, last = trace->last_at_targets ? n_block - 2 : n_block;
    if (end > n_block) end = n_block;
    int64_t from = trace->next > last ? trace->next : last;
    LEMOE_TRY(llama_blocks_forward(m, pack, trace->next, end < last ? end : last, arena, trace->blocks, &trace->x));
    LEMOE_TRY(last_layer(m, pack, from, end, arena, trace->blocks, &trace->x));
    if (end > trace->next) trace->next = end;
    return LEMOE_OK;
}

static lemoe_status make_trace(const lemoe_llama *m, const lemoe_pack *pack, int64_t cut, lemoe_arena *arena,
                               lemoe_llama_trace **out) {
    lemoe_llama_trace *trace = NULL;
    size_t n_bytes = (size_t)(2 * m->config.n_layer * LLAMA_PARTS) * sizeof *trace->blocks;
    LEMOE_TRY(lemoe_arena_host(arena, sizeof *trace, &trace));
    *trace = (lemoe_llama_trace){.cut = cut, .next = cut, .x = pack->x, .last_at_targets = last_at_targets(m, cut)};
    *out = trace;
    LEMOE_TRY(lemoe_arena_host(arena, n_bytes, &trace->blocks));
    return rows_like(arena, m, pack->n_tok, &trace->dx);
}

/* The block at the cut. */
static lemoe_status forward_cut(lemoe_llama *m, const lemoe_pack *pack, int64_t cut, lemoe_arena *arena,
                                lemoe_llama_output *out) {
    *out = (lemoe_llama_output){.vocab_begin = m->vocab_begin};
    LEMOE_TRY(make_trace(m, pack, cut, arena, &out->trace));
    return climb(m, pack, cut + 1, arena, out->trace);
}

static lemoe_status forward_above(lemoe_llama *m, const lemoe_pack *pack, lemoe_arena *arena, lemoe_llama_output *out) {
    lemoe_llama_trace *trace = out->trace;
    LEMOE_TRY(climb(m, pack, 2 * m->config.n_layer, arena, trace));
    lemoe_tensor rows = trace->x;
    if (!trace->last_at_targets) LEMOE_TRY(gather_targets(m, pack, trace->x, arena, &rows));
    return llama_loss_forward(m, pack, rows, arena, out);
}

static lemoe_status forward(lemoe_llama *m, const lemoe_pack *pack, int64_t cut, bool training, lemoe_arena *arena,
                            lemoe_llama_output *out) {
    lemoe_tensor rows;
    if (training) {
        LEMOE_TRY(forward_cut(m, pack, cut, arena, out));
        return forward_above(m, pack, arena, out);
    }
    *out = (lemoe_llama_output){.vocab_begin = m->vocab_begin};
    LEMOE_TRY(suffix_eval(m, pack, cut, arena, &rows));
    return llama_loss_forward(m, pack, rows, arena, out);
}

lemoe_status lemoe_llama_forward(lemoe_llama *m, const lemoe_pack *pack, int64_t cut, bool training, lemoe_arena *arena,
                                 lemoe_llama_output *out) {
    return lemoe_comm_keep_step(m->comm, forward(m, pack, cut, training, arena, out));
}

/* ---- backward: the lowest block that anybody needs is `floor`, and nobody needs the gradient of its input ---- */

/* Gradient of all rows from the gradient of the target rows. */
static lemoe_status spread_targets(lemoe_llama *m, const lemoe_pack *pack, lemoe_tensor d_rows, lemoe_tensor dx) {
    lemoe_tensor no_weight = {0};
    LEMOE_TRY(lemoe_device_zero(m->device, dx.data, lemoe_tensor_bytes(&dx)));
    return lemoe_op_rows_scatter_add(m->device, d_rows, pack->target_row, no_weight, dx);
}

/* From the targets down to the gradient of the rows that leave the block at the cut. */
static lemoe_status backward_above(lemoe_llama *m, const lemoe_pack *pack, lemoe_llama_output *output,
                                   lemoe_tensor weight, int64_t floor, lemoe_arena *arena) {
    lemoe_llama_trace *trace = output->trace;
    int64_t end = 2 * m->config.n_layer, from = floor > trace->cut ? floor : trace->cut + 1;
    lemoe_tensor d_rows;
    LEMOE_TRY(rows_like(arena, m, pack->n_target, &d_rows));
    LEMOE_TRY(llama_loss_backward(m, pack, output, weight, arena, d_rows));
    if (trace->last_at_targets && end > floor) {
        end--;
        LEMOE_TRY(llama_block_backward(m, end, pack, llama_trace_of(trace->blocks, end, 0), d_rows, true, arena));
    }
    LEMOE_TRY(spread_targets(m, pack, d_rows, trace->dx));
    return llama_blocks_backward(m, pack, from, end, trace->blocks, trace->dx, from > floor, arena);
}

/* The block at the cut, if there is one. */
static lemoe_status backward_cut(lemoe_llama *m, const lemoe_pack *pack, lemoe_llama_trace *trace, int64_t floor,
                                 lemoe_arena *arena) {
    int64_t block = trace->cut;
    if (block < floor || block == 2 * m->config.n_layer) return LEMOE_OK;
    return llama_blocks_backward(m, pack, block, block + 1, trace->blocks, trace->dx, block > floor, arena);
}

static lemoe_status backward(lemoe_llama *m, const lemoe_pack *pack, lemoe_llama_output *output, lemoe_tensor weight,
                             lemoe_arena *arena, lemoe_tensor d_cut) {
    lemoe_llama_trace *trace = output->trace;
    bool want_cut = d_cut.data != NULL;
    int64_t floor = want_cut ? trace->cut - 1 : lemoe_llama_cut(m);
    LEMOE_CHECK(!want_cut || !pack->ffn_output.data, LEMOE_ERR_UNSUPPORTED,
                "the gradient at the cut needs a pack whose FFN is not held");
    LEMOE_TRY(backward_above(m, pack, output, weight, floor, arena));
    LEMOE_TRY(backward_cut(m, pack, trace, floor, arena));
    return want_cut ? lemoe_device_copy(m->device, d_cut.data, trace->dx.data, lemoe_tensor_bytes(&trace->dx))
                    : LEMOE_OK;
}

lemoe_status lemoe_llama_backward(lemoe_llama *m, const lemoe_pack *pack, lemoe_llama_output *output,
                                  lemoe_tensor weight, lemoe_arena *arena, lemoe_tensor d_cut) {
    return lemoe_comm_keep_step(m->comm, backward(m, pack, output, weight, arena, d_cut));
}

/* ---- the same in parts ---- */

lemoe_status lemoe_llama_forward_cut(lemoe_llama *m, const lemoe_pack *pack, int64_t cut, lemoe_arena *arena,
                                     lemoe_llama_output *out) {
    return lemoe_comm_keep_step(m->comm, forward_cut(m, pack, cut, arena, out));
}

/* The trace is left where it stood, so that what was recorded and cannot be replayed is done after all. */
static lemoe_status above_cut(lemoe_llama *m, const lemoe_pack *pack, lemoe_llama_output *output, lemoe_tensor weight,
                              lemoe_arena *arena) {
    size_t mark = lemoe_arena_mark(arena);
    lemoe_llama_trace before = *output->trace;
    LEMOE_TRY(forward_above(m, pack, arena, output));
    LEMOE_TRY(backward_above(m, pack, output, weight, lemoe_llama_cut(m), arena));
    lemoe_arena_reset(arena, mark);
    *output->trace = before;
    return LEMOE_OK;
}

lemoe_status lemoe_llama_above_cut(lemoe_llama *m, const lemoe_pack *pack, lemoe_llama_output *output,
                                   lemoe_tensor weight, lemoe_arena *arena) {
    return lemoe_comm_keep_step(m->comm, above_cut(m, pack, output, weight, arena));
}

lemoe_status lemoe_llama_backward_cut(lemoe_llama *m, const lemoe_pack *pack, lemoe_llama_output *output,
                                      lemoe_arena *arena) {
    return lemoe_comm_keep_step(m->comm, backward_cut(m, pack, output->trace, lemoe_llama_cut(m), arena));
}

/*
 * What LEMoE adds to its FFN (LEMOE.md 1.1): h = FFN(x) + lambda g f_i(x), one expert and one weight a sequence, for
 * all its tokens. In training the newest expert is forced; otherwise the router decides, and a sequence that goes
 * nowhere keeps its bits.
 */
#include "kernels/base/mem.h"
#include "kernels/ops.h"
#include "runner/adaptor/dispatch.h"
#include "runner/edit/lemoe_editor.h"

/* ---- training: the newest expert on every row ---- */

/* From forward to backward of one pack. */
typedef struct forced_note {
    lemoe_expert_trace trace;
    lemoe_tensor y;          /* [n_tok, d_model] f(x), this rank's part */
    lemoe_key_scores scores; /* raw gate only */
    lemoe_tensor row_gate;   /* [n_tok] lambda * g of the row's sequence; data NULL: all 1 */
} forced_note;

static lemoe_status matrix_like(lemoe_arena *arena, lemoe_tensor x, lemoe_tensor *out) {
    return lemoe_arena_matrix(arena, LEMOE_F32, x.shape[0], x.shape[1], out);
}

/* One value a sequence, repeated over its rows, on the device. */
static lemoe_status spread(const lemoe_pack *pack, const float *value, float factor, lemoe_arena *arena,
                           lemoe_tensor *out) {
    float *rows = NULL;
    LEMOE_TRY(lemoe_mem_alloc(pack->n_tok, sizeof *rows, &rows));
    for (int64_t s = 0; s < pack->n_seq; s++)
        for (int64_t r = pack->start[s]; r < pack->start[s + 1]; r++) rows[r] = factor * (value ? value[s] : 1.0f);
    lemoe_status status = lemoe_arena_vector(arena, LEMOE_F32, pack->n_tok, out);
    if (status == LEMOE_OK)
        status = lemoe_device_upload(lemoe_arena_device(arena), out->data, rows, lemoe_tensor_bytes(out));
    lemoe_mem_free(rows);
    return status;
}

/* g = softmax_t of the newest key t (LEMOE.md 2.5, forced). */
static lemoe_status raw_gates(lemoe_lemoe *e, const lemoe_pack *pack, lemoe_arena *arena, lemoe_key_scores *scores,
                              float *gate) {
    lemoe_status status = LEMOE_OK;
    int64_t n = pack->n_seq, n_key = e->router.n_key;
    float *features = NULL, *p = NULL;
    lemoe_feature_args args = lemoe_lemoe_feature_args(e);
    LEMOE_TRY_GOTO(lemoe_mem_alloc(n * e->router.d, sizeof *features, &features));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(n * n_key, sizeof *p, &p));
    LEMOE_TRY_GOTO(lemoe_features_of(&args, pack->items, n, features));
    LEMOE_TRY_GOTO(lemoe_key_router_forward(&e->router, features, n, arena, scores));
    LEMOE_TRY_GOTO(lemoe_device_download(e->router.device, p, scores->p.data, lemoe_tensor_bytes(&scores->p)));
    for (int64_t s = 0; s < n; s++) gate[s] = p[s * n_key + n_key - 1];
out:
    lemoe_mem_free(features);
    lemoe_mem_free(p);
    return status;
}

static lemoe_status forced_gates(lemoe_lemoe *e, lemoe_bypass_io *io, forced_note *note) {
    float lambda = (float)e->context.config->lemoe.lambda, *gate = NULL;
    if (!lemoe_lemoe_gate_is_raw(e))
        return lambda == 1.0f ? LEMOE_OK : spread(io->pack, NULL, lambda, io->arena, &note->row_gate);
    LEMOE_TRY(lemoe_mem_alloc(io->pack->n_seq, sizeof *gate, &gate));
    lemoe_status status = raw_gates(e, io->pack, io->arena, &note->scores, gate);
    if (status == LEMOE_OK) status = spread(io->pack, gate, lambda, io->arena, &note->row_gate);
    lemoe_mem_free(gate);
    return status;
}

static lemoe_status forced_forward(lemoe_lemoe *e, lemoe_bypass_io *io) {
    lemoe_llama *model = e->context.model;
    lemoe_device *device = lemoe_llama_device(model);
    lemoe_expert_rows rows = {io->x, io->gate, io->up, io->act};
    forced_note *note = NULL;
    lemoe_tensor weighted;
    LEMOE_TRY(lemoe_arena_alloc(io->arena, sizeof *note, (void **)&note));
    *note = (forced_note){0};
    *io->kept = note;
    LEMOE_TRY(matrix_like(io->arena, io->out, &note->y));
    LEMOE_TRY(lemoe_expert_forward(model, &e->experts[e->n_expert - 1], &rows, note->y, io->arena, &note->trace));
    LEMOE_TRY(forced_gates(e, io, note));
    if (!note->row_gate.data) return lemoe_op_axpy(device, 1.0f, note->y, io->out);
    LEMOE_TRY(matrix_like(io->arena, note->y, &weighted));
    LEMOE_TRY(lemoe_device_copy(device, weighted.data, note->y.data, lemoe_tensor_bytes(&weighted)));
    LEMOE_TRY(lemoe_op_rows_scale(device, note->row_gate, weighted));
    return lemoe_op_axpy(device, 1.0f, weighted, io->out);
}

/* dL/dg of each sequence = lambda sum over its tokens <d_out, f(x)>; f is a partial sum, so the team adds up. */
static lemoe_status gate_gradient(lemoe_lemoe *e, lemoe_bypass_io *io, const forced_note *note, float *dp) {
    lemoe_status status = LEMOE_OK;
    const lemoe_pack *pack = io->pack;
    int64_t n_key = e->router.n_key;
    float *dot = NULL, *sum = NULL;
    lemoe_tensor rows;
    LEMOE_TRY_GOTO(lemoe_mem_alloc(pack->n_tok, sizeof *dot, &dot));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(pack->n_seq, sizeof *sum, &sum));
    LEMOE_TRY_GOTO(lemoe_arena_vector(io->arena, LEMOE_F32, pack->n_tok, &rows));
    LEMOE_TRY_GOTO(lemoe_op_row_dot(e->router.device, io->d_out, note->y, rows));
    LEMOE_TRY_GOTO(lemoe_device_download(e->router.device, dot, rows.data, lemoe_tensor_bytes(&rows)));
    for (int64_t s = 0; s < pack->n_seq; s++) {
        double total = 0;
        for (int64_t r = pack->start[s]; r < pack->start[s + 1]; r++) total += dot[r];
        sum[s] = (float)(e->context.config->lemoe.lambda * total);
    }
    LEMOE_TRY_GOTO(
        lemoe_comm_allreduce_sum(lemoe_llama_comm(e->context.model), lemoe_tensor_1d(sum, LEMOE_F32, pack->n_seq)));
    for (int64_t s = 0; s < pack->n_seq; s++) dp[s * n_key + n_key - 1] = sum[s];
out:
    lemoe_mem_free(dot);
    lemoe_mem_free(sum);
    return status;
}

static lemoe_status router_backward(lemoe_lemoe *e, lemoe_bypass_io *io, const forced_note *note) {
    float *dp = NULL; /* zero but for the forced expert */
    LEMOE_TRY(lemoe_mem_alloc(io->pack->n_seq * e->router.n_key, sizeof *dp, &dp));
    lemoe_status status = gate_gradient(e, io, note, dp);
    if (status == LEMOE_OK) status = lemoe_key_router_backward(&e->router, &note->scores, dp, io->arena);
    lemoe_mem_free(dp);
    return status;
}

lemoe_status lemoe_lemoe_backward(void *editor, lemoe_bypass_io *io) {
    lemoe_lemoe *e = editor;
    lemoe_device *device = lemoe_llama_device(e->context.model);
    const forced_note *note = *io->kept;
    lemoe_tensor dy = io->d_out;
    if (lemoe_lemoe_gate_is_raw(e)) LEMOE_TRY(router_backward(e, io, note));
    if (note->row_gate.data) {
        LEMOE_TRY(matrix_like(io->arena, io->d_out, &dy));
        LEMOE_TRY(lemoe_device_copy(device, dy.data, io->d_out.data, lemoe_tensor_bytes(&dy)));
        LEMOE_TRY(lemoe_op_rows_scale(device, note->row_gate, dy));
    }
    return lemoe_expert_backward(e->context.model, &e->experts[e->n_expert - 1], &note->trace, dy, io->d_x, io->arena);
}

/* ---- inference: each sequence through its own expert ---- */

static void collect_rows(const lemoe_pack *pack, const lemoe_route *routes, int64_t expert, float lambda,
                         lemoe_row_list *list) {
    list->n = 0;
    for (int64_t s = 0; s < pack->n_seq; s++)
        for (int64_t r = pack->start[s]; routes[s].expert == expert && r < pack->start[s + 1]; r++) {
            list->row[list->n] = (int32_t)r;
            list->weight[list->n++] = lambda * (float)routes[s].gate;
        }
}

static lemoe_status routed_forward(lemoe_lemoe *e, lemoe_bypass_io *io) {
    lemoe_status status = LEMOE_OK;
    lemoe_route *routes = NULL;
    lemoe_row_list list = {0};
    lemoe_dispatch dispatch;
    LEMOE_TRY_GOTO(lemoe_mem_alloc(io->pack->n_seq, sizeof *routes, &routes));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(io->pack->n_tok, sizeof *list.row, &list.row));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(io->pack->n_tok, sizeof *list.weight, &list.weight));
    LEMOE_TRY_GOTO(lemoe_lemoe_route(e, io->pack->items, io->pack->n_seq, routes));
    for (int64_t i = 0; i < e->n_expert; i++) {
        collect_rows(io->pack, routes, i, (float)e->context.config->lemoe.lambda, &list);
        if (list.n > 0) LEMOE_TRY_GOTO(lemoe_dispatch_forward(e->context.model, &e->experts[i], &list, io, &dispatch));
    }
out:
    lemoe_mem_free(routes);
    lemoe_mem_free(list.row);
    lemoe_mem_free(list.weight);
    return status;
}

lemoe_status lemoe_lemoe_forward(void *editor, lemoe_bypass_io *io) {
    lemoe_lemoe *e = editor;
    if (e->n_expert == 0) return LEMOE_OK; /* nothing inserted yet */
    return io->training ? forced_forward(e, io) : routed_forward(e, io);
}

/*
 * What the conventional adaptor adds to its FFN: h = FFN(x) + lambda sum over the token's top_k experts of p_e f_e(x),
 * and the gradients of experts and router. The same computation in training and evaluation.
 */
#include "kernels/base/mem.h"
#include "kernels/ops.h"
#include "runner/edit/moe_editor.h"

/* From forward to backward of one pack; in the arena. */
typedef struct moe_note {
    lemoe_token_scores scores;
    lemoe_row_list *lists;      /* [n_expert] rows in pack order */
    lemoe_dispatch *dispatches; /* [n_expert] unset where the list is empty */
} moe_note;

static lemoe_status make_note(const lemoe_moe *e, lemoe_arena *arena, moe_note **out) {
    LEMOE_TRY(lemoe_arena_host(arena, sizeof **out, out));
    return lemoe_arena_host(arena, (size_t)e->n_expert * sizeof *(*out)->dispatches, &(*out)->dispatches);
}

static lemoe_status make_lists(const lemoe_moe *e, int64_t n_tok, const float *p, const int32_t *top,
                               lemoe_arena *arena, moe_note *note) {
    float lambda = (float)e->context.config->moe.lambda, *weight = NULL;
    LEMOE_TRY(lemoe_mem_alloc(n_tok * e->top_k, sizeof *weight, &weight));
    for (int64_t c = 0; c < n_tok * e->top_k; c++) weight[c] = lambda * p[c / e->top_k * e->n_expert + top[c]];
    lemoe_row_choices choices = {top, weight, n_tok, e->top_k};
    lemoe_status status = lemoe_dispatch_lists(arena, &choices, e->n_expert, &note->lists);
    lemoe_mem_free(weight);
    return status;
}

static lemoe_status route_tokens(lemoe_moe *e, lemoe_bypass_io *io, moe_note *note) {
    lemoe_device *device = lemoe_llama_device(e->context.model);
    int64_t n_tok = io->x.shape[0];
    lemoe_status status = LEMOE_OK;
    lemoe_tensor anchor;
    float *p = NULL;
    int32_t *top = NULL;
    LEMOE_TRY(lemoe_moe_anchor_rows(e, io->pack, io->arena, &anchor));
    LEMOE_TRY(lemoe_token_router_forward(&e->router, io->x, anchor, io->arena, &note->scores));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(n_tok * e->n_expert, sizeof *p, &p));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(n_tok * e->top_k, sizeof *top, &top));
    LEMOE_TRY_GOTO(lemoe_device_download(device, p, note->scores.p.data, lemoe_tensor_bytes(&note->scores.p)));
    LEMOE_TRY_GOTO(lemoe_device_download(device, top, note->scores.top.data, lemoe_tensor_bytes(&note->scores.top)));
    LEMOE_TRY_GOTO(make_lists(e, n_tok, p, top, io->arena, note));
out:
    lemoe_mem_free(p);
    lemoe_mem_free(top);
    return status;
}

lemoe_status lemoe_moe_forward(void *editor, lemoe_bypass_io *io) {
    lemoe_moe *e = editor;
    moe_note *note = NULL;
    if (!e->is_attached) return LEMOE_OK;
    LEMOE_TRY(make_note(e, io->arena, &note));
    *io->kept = note;
    LEMOE_TRY(route_tokens(e, io, note));
    size_t used = lemoe_arena_used_bytes(io->arena);
    for (int64_t i = 0; i < e->n_expert; i++) {
        lemoe_row_tensors rows;
        if (note->lists[i].n == 0) continue;
        LEMOE_TRY(lemoe_dispatch_upload(io->arena, &note->lists[i], &rows));
        LEMOE_TRY(lemoe_dispatch_forward(e->context.model, &e->experts[i], &rows, io, &note->dispatches[i]));
    }
    int64_t n_row = io->x.shape[0] * e->top_k;
    return lemoe_arena_pad(io->arena, used,
                           lemoe_dispatch_forward_bytes(e->experts, io->x.shape[1], n_row, e->n_expert));
}

/* ---- backward ---- */

/* dp[n_tok, n_expert] from the experts that were used: lambda <d_out, f_e(x)>, which the team adds up. */
static lemoe_status used_gradient(lemoe_moe *e, lemoe_bypass_io *io, const moe_note *note, float *dp) {
    int64_t n_tok = io->d_out.shape[0];
    float lambda = (float)e->context.config->moe.lambda, *d_weight = NULL;
    lemoe_status status = LEMOE_OK;
    size_t used = lemoe_arena_used_bytes(io->arena);
    LEMOE_TRY(lemoe_mem_alloc(n_tok * e->top_k, sizeof *d_weight, &d_weight));
    for (int64_t i = 0; i < e->n_expert; i++) {
        const lemoe_row_list *list = &note->lists[i];
        lemoe_tensor dot;
        if (list->n == 0) continue;
        LEMOE_TRY_GOTO(lemoe_arena_vector(io->arena, LEMOE_F32, list->n, &dot));
        LEMOE_TRY_GOTO(lemoe_dispatch_backward(e->context.model, &note->dispatches[i], io, dot));
        LEMOE_TRY_GOTO(
            lemoe_device_download(lemoe_arena_device(io->arena), d_weight, dot.data, lemoe_tensor_bytes(&dot)));
        for (int64_t k = 0; k < list->n; k++) dp[list->row[k] * e->n_expert + i] = lambda * d_weight[k];
    }
    LEMOE_TRY_GOTO(lemoe_arena_pad(
        io->arena, used, lemoe_dispatch_backward_bytes(e->experts, io->x.shape[1], n_tok * e->top_k, e->n_expert)));
    LEMOE_TRY_GOTO(lemoe_comm_allreduce_sum(lemoe_llama_comm(e->context.model),
                                            lemoe_tensor_1d(dp, LEMOE_F32, n_tok * e->n_expert)));
out:
    lemoe_mem_free(d_weight);
    return status;
}

/* d/dp_te of balance * n_expert * sum_e f_e P_e, P_e the mean over the minibatch's tokens. */
static void add_balance_gradient(const lemoe_moe *e, int64_t n_tok, float *dp) {
    double factor = e->context.config->moe.balance * (double)e->n_expert / (double)e->n_share_tok;
    for (int64_t t = 0; t < n_tok; t++)
        for (int64_t i = 0; i < e->n_expert; i++) dp[t * e->n_expert + i] += (float)(factor * e->share[i]);
}

lemoe_status lemoe_moe_backward(void *editor, lemoe_bypass_io *io) {
    lemoe_moe *e = editor;
    const moe_note *note = *io->kept;
    int64_t n_tok = io->d_out.shape[0];
    /* d_x is summed over the team, and the router is the same on all ranks: one of them gives its part */
    lemoe_tensor router_d_x = lemoe_comm_rank(lemoe_llama_comm(e->context.model)) == 0 ? io->d_x : (lemoe_tensor){0};
    lemoe_status status = LEMOE_OK;
    float *dp = NULL;
    LEMOE_TRY(lemoe_mem_alloc(n_tok * e->n_expert, sizeof *dp, &dp));
    LEMOE_TRY_GOTO(used_gradient(e, io, note, dp));
    if (e->context.config->moe.balance > 0) add_balance_gradient(e, n_tok, dp);
    LEMOE_TRY_GOTO(lemoe_token_router_backward(&e->router, &note->scores, dp, router_d_x, io->arena));
out:
    lemoe_mem_free(dp);
    return status;
}

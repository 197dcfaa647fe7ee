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
    lemoe_spread spread;
} moe_note;

static lemoe_status spread_rows(const lemoe_moe *e, int64_t n_tok, const float *p, const int32_t *top,
                                lemoe_arena *arena, moe_note *note) {
    float lambda = (float)e->context.config->moe.lambda, *weight = NULL;
    LEMOE_TRY(lemoe_mem_alloc(n_tok * e->top_k, sizeof *weight, &weight));
    for (int64_t c = 0; c < n_tok * e->top_k; c++) weight[c] = lambda * p[c / e->top_k * e->n_expert + top[c]];
    lemoe_row_choices choices = {top, weight, n_tok, e->top_k};
    note->spread = (lemoe_spread){.model = e->context.model, .experts = e->experts, .n_expert = e->n_expert};
    lemoe_status status = lemoe_spread_rows(&note->spread, &choices, arena);
    lemoe_mem_free(weight);
    return status;
}

static lemoe_status route_tokens(lemoe_moe *e, lemoe_bypass_io *io, moe_note *note) {
    lemoe_tensor anchor;
    float *p = NULL;
    const int32_t *top = NULL;
    LEMOE_TRY(lemoe_moe_anchor_rows(e, io->pack, io->arena, &anchor));
    LEMOE_TRY(lemoe_token_router_forward(&e->router, io->x, anchor, io->arena, &note->scores));
    lemoe_status status = lemoe_token_scores_read(&e->router, &note->scores, &p, &top);
    if (status == LEMOE_OK) status = spread_rows(e, io->x.shape[0], p, top, io->arena, note);
    lemoe_mem_free(p);
    return status;
}

lemoe_status lemoe_moe_forward(void *editor, lemoe_bypass_io *io) {
    lemoe_moe *e = editor;
    moe_note *note = NULL;
    if (!e->is_attached) return LEMOE_OK;
    LEMOE_TRY(lemoe_arena_host(io->arena, sizeof *note, &note));
    *io->kept = note;
    LEMOE_TRY(route_tokens(e, io, note));
    return lemoe_spread_forward(&note->spread, io);
}

/* ---- backward ---- */

/* dp[n_tok, n_expert] from the experts that were used: lambda <d_out, f_e(x)>, which the team adds up. */
static lemoe_status used_gradient(const lemoe_moe *e, lemoe_bypass_io *io, const lemoe_spread *spread, float *dp) {
    float lambda = (float)e->context.config->moe.lambda, *d_weight = NULL;
    LEMOE_TRY(lemoe_mem_alloc(spread->n, sizeof *d_weight, &d_weight));
    lemoe_status status = lemoe_spread_backward(spread, io, d_weight);
    for (int64_t i = 0; i < e->n_expert; i++)
        for (int64_t k = spread->begin[i]; k < spread->begin[i + 1]; k++)
            dp[spread->row[k] * e->n_expert + i] = lambda * d_weight[k];
    lemoe_mem_free(d_weight);
    LEMOE_TRY(status);
    return lemoe_comm_allreduce_sum(lemoe_llama_comm(e->context.model),
                                    lemoe_tensor_1d(dp, LEMOE_F32, io->d_out.shape[0] * e->n_expert));
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
    LEMOE_TRY_GOTO(used_gradient(e, io, &note->spread, dp));
    if (e->context.config->moe.balance > 0) add_balance_gradient(e, n_tok, dp);
    LEMOE_TRY_GOTO(lemoe_token_router_backward(&e->router, &note->scores, dp, router_d_x, io->arena));
out:
    lemoe_mem_free(dp);
    return status;
}

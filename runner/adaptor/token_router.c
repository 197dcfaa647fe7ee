#include "runner/adaptor/token_router.h"

#include "kernels/base/mem.h"

static const float weight_std = 0.02f; /* ours, as the projections of key_router.c */

enum { STREAM_TOKEN = 0, STREAM_ANCHOR = 1 };

static lemoe_status draw(const lemoe_token_router_args *a, uint32_t stream, lemoe_tensor *w) {
    LEMOE_TRY(lemoe_arena_matrix(a->arena, LEMOE_F32, a->n_expert, a->d, w));
    lemoe_fill_args fill = {
        .x = *w, .rng = lemoe_rng_make(a->seed, LEMOE_RNG_ROUTER, stream), .std = weight_std, .n_columns = a->d};
    return lemoe_op_fill_normal(lemoe_arena_device(a->arena), &fill);
}

lemoe_status lemoe_token_router_create(const lemoe_token_router_args *args, lemoe_token_router *out) {
    *out = (lemoe_token_router){
        .device = lemoe_arena_device(args->arena), .d = args->d, .n_expert = args->n_expert, .top_k = args->top_k};
    LEMOE_TRY(draw(args, STREAM_TOKEN, &out->w));
    return args->has_anchor ? draw(args, STREAM_ANCHOR, &out->w_anchor) : LEMOE_OK;
}

static lemoe_status list(const char *name, lemoe_tensor w, lemoe_arena *arena, lemoe_tensor *grad, lemoe_param *params,
                         int64_t *n_params) {
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, w.shape[0], w.shape[1], grad));
    params[(*n_params)++] = (lemoe_param){.name = name, .place = LEMOE_PARAM_REPLICATED, .w = w, .grad = *grad};
    return LEMOE_OK;
}

lemoe_status lemoe_token_router_train(lemoe_token_router *r, lemoe_arena *arena, lemoe_param *params,
                                      int64_t *n_params) {
    LEMOE_TRY(list("router", r->w, arena, &r->d_w, params, n_params));
    if (!r->w_anchor.data) return LEMOE_OK;
    return list("router_anchor", r->w_anchor, arena, &r->d_w_anchor, params, n_params);
}

/* Two matrices of words in one piece of the arena. */
static lemoe_status take_scores(const lemoe_token_router *r, int64_t n, lemoe_arena *arena, lemoe_token_scores *out) {
    lemoe_tensor both;
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, r->n_expert + r->top_k, n, &both));
    out->p = lemoe_tensor_2d(both.data, LEMOE_F32, n, r->n_expert);
    out->top = lemoe_tensor_2d((char *)both.data + lemoe_tensor_bytes(&out->p), LEMOE_I32, n, r->top_k);
    return LEMOE_OK;
}

lemoe_status lemoe_token_scores_read(const lemoe_token_router *r, const lemoe_token_scores *s, float **p,
                                     const int32_t **top) {
    int64_t n = s->p.shape[0];
    *p = NULL;
    LEMOE_TRY(lemoe_mem_alloc(n * (r->n_expert + r->top_k), sizeof **p, p));
    *top = (const int32_t *)(*p + n * r->n_expert);
    return lemoe_device_download(r->device, *p, s->p.data, lemoe_tensor_bytes(&s->p) + lemoe_tensor_bytes(&s->top));
}

lemoe_status lemoe_token_router_forward(const lemoe_token_router *r, lemoe_tensor x, lemoe_tensor anchor,
                                        lemoe_arena *arena, lemoe_token_scores *out) {
    lemoe_tensor z;
    out->x = x;
    out->anchor = anchor;
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, x.shape[0], r->n_expert, &z));
    LEMOE_TRY(take_scores(r, x.shape[0], arena, out));
    LEMOE_TRY(lemoe_op_exact_linear(r->device, x, r->w, z, false));
    if (r->w_anchor.data) LEMOE_TRY(lemoe_op_exact_linear(r->device, anchor, r->w_anchor, z, true));
    return lemoe_op_topk_softmax_fwd(r->device, z, out->p, out->top);
}

lemoe_status lemoe_token_router_backward(const lemoe_token_router *r, const lemoe_token_scores *s, const float *dp,
                                         lemoe_tensor d_x, lemoe_arena *arena) {
    lemoe_tensor dz;
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, s->x.shape[0], r->n_expert, &dz));
    LEMOE_TRY(lemoe_device_upload(r->device, dz.data, dp, lemoe_tensor_bytes(&dz)));
    LEMOE_TRY(lemoe_op_softmax_bwd(r->device, s->p, dz, dz));
    LEMOE_TRY(lemoe_op_exact_linear_dw(r->device, dz, s->x, r->d_w, true));
    if (r->w_anchor.data) LEMOE_TRY(lemoe_op_exact_linear_dw(r->device, dz, s->anchor, r->d_w_anchor, true));
    return d_x.data ? lemoe_op_exact_linear_dx(r->device, dz, r->w, d_x, true) : LEMOE_OK;
}

lemoe_status lemoe_token_router_visit(lemoe_token_router *r, lemoe_state *state) {
    LEMOE_TRY(lemoe_state_tensor(state, r->device, "router", r->w));
    return r->w_anchor.data ? lemoe_state_tensor(state, r->device, "router_anchor", r->w_anchor) : LEMOE_OK;
}

#include "runner/adaptor/token_router.h"

static const float weight_std = 0.02f; /* ours, as the projections of key_router.c */

lemoe_status lemoe_token_router_create(lemoe_arena *arena, int64_t d, int64_t n_expert, int64_t top_k, uint64_t seed,
                                       lemoe_token_router *out) {
    *out = (lemoe_token_router){.device = lemoe_arena_device(arena), .d = d, .n_expert = n_expert, .top_k = top_k};
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, n_expert, d, &out->w));
    lemoe_fill_args fill = {
        .x = out->w, .rng = lemoe_rng_make(seed, LEMOE_RNG_ROUTER, 0), .std = weight_std, .n_columns = d};
    return lemoe_op_fill_normal(out->device, &fill);
}

lemoe_status lemoe_token_router_train(lemoe_token_router *r, lemoe_arena *arena, lemoe_param *params,
                                      int64_t *n_params) {
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, r->n_expert, r->d, &r->d_w));
    params[(*n_params)++] = (lemoe_param){.name = "router", .place = LEMOE_PARAM_REPLICATED, .w = r->w, .grad = r->d_w};
    return LEMOE_OK;
}

lemoe_status lemoe_token_router_forward(const lemoe_token_router *r, lemoe_tensor x, lemoe_arena *arena,
                                        lemoe_token_scores *out) {
    lemoe_tensor z;
    out->x = x;
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, x.shape[0], r->n_expert, &z));
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, x.shape[0], r->n_expert, &out->p));
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_I32, x.shape[0], r->top_k, &out->top));
    LEMOE_TRY(lemoe_op_linear(r->device, x, r->w, z, false));
    return lemoe_op_topk_softmax_fwd(r->device, z, out->p, out->top);
}

lemoe_status lemoe_token_router_backward(const lemoe_token_router *r, const lemoe_token_scores *s, const float *dp,
                                         lemoe_tensor d_x, lemoe_arena *arena) {
    lemoe_tensor dz;
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, s->x.shape[0], r->n_expert, &dz));
    LEMOE_TRY(lemoe_device_upload(r->device, dz.data, dp, lemoe_tensor_bytes(&dz)));
    LEMOE_TRY(lemoe_op_softmax_bwd(r->device, s->p, dz, dz));
    LEMOE_TRY(lemoe_op_linear_dw(r->device, dz, s->x, r->d_w, true));
    return d_x.data ? lemoe_op_linear_dx(r->device, dz, r->w, d_x, true) : LEMOE_OK;
}

lemoe_status lemoe_token_router_visit(lemoe_token_router *r, lemoe_state *state) {
    return lemoe_state_tensor(state, r->device, "router", r->w);
}

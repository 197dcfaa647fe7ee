#include "runner/adaptor/key_router.h"

static const float projection_std = 0.02f, key_std = 0.01f; /* LEMOE.md 2.1, ours */
enum { STREAM_DOWN = 0, STREAM_UP = 1, STREAM_KEY = 2 };

static lemoe_status draw(lemoe_device *device, lemoe_tensor x, uint64_t seed, uint32_t stream, float std) {
    lemoe_fill_args fill = {
        .x = x, .rng = lemoe_rng_make(seed, LEMOE_RNG_ROUTER, stream), .std = std, .n_columns = x.shape[1]};
    return lemoe_op_fill_normal(device, &fill);
}

lemoe_status lemoe_key_router_create(lemoe_arena *arena, int64_t d, int64_t key_dim, int64_t max_key, uint64_t seed,
                                     lemoe_key_router *out) {
    *out = (lemoe_key_router){.device = lemoe_arena_device(arena), .d = d, .key_dim = key_dim, .max_key = max_key};
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, max_key, d, &out->keys));
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, key_dim, d, &out->w_down));
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, d, key_dim, &out->w_up));
    LEMOE_TRY(draw(out->device, out->w_down, seed, STREAM_DOWN, projection_std));
    return draw(out->device, out->w_up, seed, STREAM_UP, projection_std);
}

lemoe_status lemoe_key_router_add_key(lemoe_key_router *r, uint64_t seed) {
    LEMOE_CHECK(r->n_key < r->max_key, LEMOE_ERR_STATE, "more than %lld keys", (long long)r->max_key);
    uint32_t stream = STREAM_KEY + (uint32_t)r->n_key;
    return draw(r->device, lemoe_tensor_rows(r->keys, r->n_key++, 1), seed, stream, key_std);
}

lemoe_status lemoe_key_router_train(lemoe_key_router *r, lemoe_arena *arena, lemoe_param *params, int64_t *n_params) {
    lemoe_tensor key = lemoe_tensor_rows(r->keys, r->n_key - 1, 1);
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, 1, r->d, &r->d_key));
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, r->key_dim, r->d, &r->d_w_down));
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, r->d, r->key_dim, &r->d_w_up));
    const lemoe_param own[] = {
        {.name = "key",    .place = LEMOE_PARAM_REPLICATED, .w = key,       .grad = r->d_key   },
        {.name = "w_down", .place = LEMOE_PARAM_REPLICATED, .w = r->w_down, .grad = r->d_w_down},
        {.name = "w_up",   .place = LEMOE_PARAM_REPLICATED, .w = r->w_up,   .grad = r->d_w_up  }
    };
    for (int i = 0; i < 3; i++) params[(*n_params)++] = own[i];
    return LEMOE_OK;
}

lemoe_status lemoe_key_router_forward(const lemoe_key_router *r, const float *e, int64_t n, lemoe_arena *arena,
                                      lemoe_key_scores *out) {
    lemoe_tensor keys = lemoe_tensor_rows(r->keys, 0, r->n_key);
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, n, r->d, &out->e));
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, n, r->key_dim, &out->b));
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, n, r->key_dim, &out->a));
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, n, r->d, &out->v));
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, n, r->n_key, &out->z));
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, n, r->n_key, &out->p));
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_I32, n, 1, &out->top));
    LEMOE_TRY(lemoe_device_upload(r->device, out->e.data, e, lemoe_tensor_bytes(&out->e)));
    LEMOE_TRY(lemoe_op_linear(r->device, out->e, r->w_down, out->b, false));
    LEMOE_TRY(lemoe_op_silu_fwd(r->device, out->b, out->a));
    LEMOE_TRY(lemoe_op_linear(r->device, out->a, r->w_up, out->v, false));
    LEMOE_TRY(lemoe_op_linear(r->device, out->v, keys, out->z, false));
    return lemoe_op_topk_softmax_fwd(r->device, out->z, out->p, out->top);
}

lemoe_status lemoe_key_router_backward(const lemoe_key_router *r, const lemoe_key_scores *s, const float *dp,
                                       lemoe_arena *arena) {
    int64_t n = s->e.shape[0];
    lemoe_tensor keys = lemoe_tensor_rows(r->keys, 0, r->n_key), dz, d_keys, dv, da;
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, n, r->n_key, &dz));
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, r->n_key, r->d, &d_keys));
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, n, r->d, &dv));
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, n, r->key_dim, &da));
    LEMOE_TRY(lemoe_device_upload(r->device, dz.data, dp, lemoe_tensor_bytes(&dz)));
    LEMOE_TRY(lemoe_op_softmax_bwd(r->device, s->p, dz, dz));
    LEMOE_TRY(lemoe_op_linear_dw(r->device, dz, s->v, d_keys, false));
    LEMOE_TRY(lemoe_op_axpy(r->device, 1.0f, lemoe_tensor_rows(d_keys, r->n_key - 1, 1), r->d_key));
    LEMOE_TRY(lemoe_op_linear_dx(r->device, dz, keys, dv, false));
    LEMOE_TRY(lemoe_op_linear_dw(r->device, dv, s->a, r->d_w_up, true));
    LEMOE_TRY(lemoe_op_linear_dx(r->device, dv, r->w_up, da, false));
    LEMOE_TRY(lemoe_op_silu_bwd(r->device, da, s->b, da));
    return lemoe_op_linear_dw(r->device, da, s->e, r->d_w_down, true);
}

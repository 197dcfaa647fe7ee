#include "runner/adaptor/key_router.h"

#include <math.h>

enum { DOWN, UP, KEY, STREAMS = 1 << 20 }; /* streams of random numbers: a router's keys follow its projection */

/* No initialisation is in print: ours, or the usual one of a linear layer (docs/method.md 2.1). */
static double std_of(const lemoe_key_router *r, int64_t fan_in, bool is_key) {
    if (r->init == LEMOE_ROUTER_INIT_FAN_IN) return is_key ? 0.1 : 1.0 / sqrt((double)fan_in);
    return is_key ? 0.01 : 0.02;
}

static lemoe_status draw(const lemoe_key_router *r, lemoe_tensor x, uint64_t seed, uint32_t stream, double std) {
    lemoe_fill_args fill = {.x = x,
                            .rng = lemoe_rng_make(seed, LEMOE_RNG_ROUTER, r->stream * STREAMS + stream),
                            .std = (float)std,
                            .n_columns = x.shape[1]};
    return lemoe_op_fill_normal(r->device, &fill);
}

lemoe_status lemoe_key_router_create(const lemoe_key_router_args *a, lemoe_key_router *out) {
    *out = (lemoe_key_router){.device = lemoe_arena_device(a->arena),
                              .d = a->d,
                              .key_dim = a->key_dim,
                              .max_key = a->max_key,
                              .init = a->init,
                              .stream = a->stream};
    LEMOE_TRY(lemoe_arena_matrix(a->arena, LEMOE_F32, a->max_key, a->d, &out->keys));
    LEMOE_TRY(lemoe_arena_matrix(a->arena, LEMOE_F32, a->key_dim, a->d, &out->w_down));
    LEMOE_TRY(lemoe_arena_matrix(a->arena, LEMOE_F32, a->d, a->key_dim, &out->w_up));
    LEMOE_TRY(draw(out, out->w_down, a->seed, DOWN, std_of(out, a->d, false)));
    return draw(out, out->w_up, a->seed, UP, std_of(out, a->key_dim, false));
}

lemoe_status lemoe_key_router_add_key(lemoe_key_router *r, uint64_t seed) {
    LEMOE_CHECK(r->n_key < r->max_key, LEMOE_ERR_STATE, "more than %lld keys", (long long)r->max_key);
    uint32_t stream = KEY + (uint32_t)r->n_key;
    return draw(r, lemoe_tensor_rows(r->keys, r->n_key++, 1), seed, stream, std_of(r, r->d, true));
}

static lemoe_status gradient(lemoe_arena *arena, lemoe_tensor w, lemoe_tensor *out) {
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, w.shape[0], w.shape[1], out));
    return lemoe_device_zero(lemoe_arena_device(arena), out->data, lemoe_tensor_bytes(out));
}

lemoe_status lemoe_key_router_train(lemoe_key_router *r, bool with_projection, double lr, lemoe_arena *arena,
                                    lemoe_param *params, int64_t *n_params) {
    lemoe_tensor key = lemoe_tensor_rows(r->keys, r->n_key - 1, 1);
    r->d_w_down = r->d_w_up = (lemoe_tensor){0};
    LEMOE_TRY(gradient(arena, key, &r->d_key));
    params[(*n_params)++] =
        (lemoe_param){.name = "key", .place = LEMOE_PARAM_REPLICATED, .lr = lr, .w = key, .grad = r->d_key};
    if (r->first_trains) {
        lemoe_tensor first = lemoe_tensor_rows(r->keys, 0, 1);
        LEMOE_TRY(gradient(arena, first, &r->d_first));
        params[(*n_params)++] = (lemoe_param){
            .name = "null_key", .place = LEMOE_PARAM_REPLICATED, .lr = lr, .w = first, .grad = r->d_first};
    }
    if (!with_projection) return LEMOE_OK;
    LEMOE_TRY(gradient(arena, r->w_down, &r->d_w_down));
    LEMOE_TRY(gradient(arena, r->w_up, &r->d_w_up));
    params[(*n_params)++] =
        (lemoe_param){.name = "w_down", .place = LEMOE_PARAM_REPLICATED, .lr = lr, .w = r->w_down, .grad = r->d_w_down};
    params[(*n_params)++] =
        (lemoe_param){.name = "w_up", .place = LEMOE_PARAM_REPLICATED, .lr = lr, .w = r->w_up, .grad = r->d_w_up};
    return LEMOE_OK;
}

lemoe_status lemoe_key_router_forward(const lemoe_key_router *r, lemoe_tensor e, lemoe_arena *arena,
                                      lemoe_key_scores *out) {
    lemoe_tensor keys = lemoe_tensor_rows(r->keys, 0, r->n_key);
    int64_t n = e.shape[0];
    out->e = e;
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, n, r->key_dim, &out->b));
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, n, r->key_dim, &out->a));
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, n, r->d, &out->v));
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, n, r->n_key, &out->z));
    LEMOE_TRY(lemoe_op_exact_linear(r->device, out->e, r->w_down, out->b, false));
    LEMOE_TRY(lemoe_op_silu_fwd(r->device, out->b, out->a));
    LEMOE_TRY(lemoe_op_exact_linear(r->device, out->a, r->w_up, out->v, false));
    return lemoe_op_exact_linear(r->device, out->v, keys, out->z, false);
}

static lemoe_status projection_backward(const lemoe_key_router *r, const lemoe_key_scores *s, lemoe_tensor dv,
                                        lemoe_arena *arena) {
    lemoe_tensor da;
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, s->e.shape[0], r->key_dim, &da));
    LEMOE_TRY(lemoe_op_exact_linear_dw(r->device, dv, s->a, r->d_w_up, true));
    LEMOE_TRY(lemoe_op_exact_linear_dx(r->device, dv, r->w_up, da, false));
    LEMOE_TRY(lemoe_op_silu_bwd(r->device, da, s->b, da));
    return lemoe_op_exact_linear_dw(r->device, da, s->e, r->d_w_down, true);
}

lemoe_status lemoe_key_router_backward(const lemoe_key_router *r, const lemoe_key_scores *s, lemoe_tensor dz,
                                       lemoe_arena *arena) {
    lemoe_tensor keys = lemoe_tensor_rows(r->keys, 0, r->n_key), d_keys, dv;
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, r->n_key, r->d, &d_keys));
    LEMOE_TRY(lemoe_op_exact_linear_dw(r->device, dz, s->v, d_keys, false));
    LEMOE_TRY(lemoe_op_axpy(r->device, 1.0f, lemoe_tensor_rows(d_keys, r->n_key - 1, 1), r->d_key));
    if (r->first_trains) LEMOE_TRY(lemoe_op_axpy(r->device, 1.0f, lemoe_tensor_rows(d_keys, 0, 1), r->d_first));
    if (!r->d_w_up.data) return LEMOE_OK;
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, s->e.shape[0], r->d, &dv));
    LEMOE_TRY(lemoe_op_exact_linear_dx(r->device, dz, keys, dv, false));
    return projection_backward(r, s, dv, arena);
}

lemoe_status lemoe_key_router_visit(lemoe_key_router *r, lemoe_state *state) {
    LEMOE_TRY(lemoe_state_tensor(state, r->device, "keys", lemoe_tensor_rows(r->keys, 0, r->n_key)));
    LEMOE_TRY(lemoe_state_tensor(state, r->device, "w_down", r->w_down));
    return lemoe_state_tensor(state, r->device, "w_up", r->w_up);
}

/*
 * The router fitted after the expert (ours, docs/method.md 2.5): experts train alone at gate 1; then key and projection
 * are fitted by cross-entropy over the stored features of all edits so far, with noise on them so that rewordings
 * follow. Older keys stay frozen, the projection moves, and replay keeps old routes where they were.
 */
#include "kernels/base/mem.h"
#include "kernels/base/rng.h"
#include "runner/adaptor/router_keys.h"

#include <math.h>

static const double fit_lr = 5e-3, fit_stop_loss = 0.005; /* docs/method.md 7; the rate where lemoe.router_lr is auto */

static lemoe_status open(const lemoe_router_context *context, void **router) {
    return lemoe_router_keys_open(context, false, (lemoe_router_keys **)router);
}

/* out = e + noise * rms(e) * normal, drawn by (seed, batch and step, element). */
static void add_noise(const lemoe_router_keys *k, int64_t step, float *out) {
    double noise = k->context.config->lemoe.router_noise;
    int64_t d = k->context.d, steps = k->context.config->lemoe.router_steps;
    uint32_t stream = (uint32_t)(k->n_expert * steps + step);
    lemoe_rng rng = lemoe_rng_make(k->context.config->seed, LEMOE_RNG_ROUTER_NOISE, stream);
    for (int64_t u = 0; u < k->replayed.n; u++) {
        const float *e = k->replayed.e + u * d;
        double sum = 0;
        for (int64_t c = 0; c < d; c++) sum += (double)e[c] * (double)e[c];
        double std = noise * sqrt(sum / (double)d);
        for (int64_t c = 0; c < d; c++)
            out[u * d + c] = (float)((double)e[c] + std * lemoe_rng_normal(rng, (uint64_t)(u * d + c)));
    }
}

static lemoe_status fit_step(lemoe_router_keys *k, lemoe_adamw *adamw, lemoe_param *params, int64_t n_params,
                             float *noisy, double *loss) {
    lemoe_key_units units = lemoe_router_keys_replayed(k, noisy), as_they_are = lemoe_router_keys_replayed(k, NULL);
    double norm = 0, null_loss = 0;
    lemoe_comm *self = NULL; /* replicated parameters with equal gradients: nothing to reduce */
    if (noisy) add_noise(k, adamw->step, noisy);
    LEMOE_TRY(lemoe_adamw_zero_grad(k->context.step_arena, params, n_params));
    LEMOE_TRY(lemoe_router_keys_cross_entropy(k, &units, 1.0, loss));
    LEMOE_TRY(lemoe_router_keys_null_entropy(k, &as_they_are, 1.0, &null_loss));
    *loss += null_loss;
    LEMOE_TRY(lemoe_comm_self(&self));
    lemoe_status status = lemoe_adamw_update(adamw, k->context.device, self, params, n_params, &norm);
    lemoe_comm_close(self);
    return status;
}

static lemoe_status fit(lemoe_router_keys *k) {
    const lemoe_config *c = k->context.config;
    lemoe_arena *arena = k->context.step_arena;
    size_t mark = lemoe_arena_mark(arena);
    lemoe_status status = LEMOE_OK;
    lemoe_param params[LEMOE_ROUTER_MAX_PARAM];
    int64_t n_params = 0;
    lemoe_adamw adamw;
    float *noisy = NULL;
    double loss = INFINITY, lr = c->lemoe.router_lr > 0 ? c->lemoe.router_lr : fit_lr;
    if (c->lemoe.router_noise > 0) LEMOE_TRY_GOTO(lemoe_mem_alloc(k->replayed.n * k->context.d, sizeof *noisy, &noisy));
    LEMOE_TRY_GOTO(lemoe_key_router_train(&k->routers[0], true, lr, arena, params, &n_params));
    LEMOE_TRY_GOTO(lemoe_adamw_begin(&adamw, lr, 0, 0, arena, params, n_params));
    while (adamw.step < c->lemoe.router_steps && loss > fit_stop_loss)
        LEMOE_TRY_GOTO(fit_step(k, &adamw, params, n_params, noisy, &loss));
out:
    lemoe_mem_free(noisy);
    lemoe_arena_reset(arena, mark);
    return status;
}

static lemoe_status end_batch(void *router, const lemoe_units *units) {
    lemoe_router_keys *k = router;
    LEMOE_TRY(lemoe_router_keys_remember(k, units));
    return lemoe_router_keys_columns(k) > 1 ? fit(k) : LEMOE_OK; /* one key has probability 1 whatever it is */
}

static lemoe_status route(void *router, const lemoe_units *units, lemoe_route *out) {
    lemoe_router_keys *k = router;
    lemoe_arena *arena = k->context.step_arena;
    size_t mark = lemoe_arena_mark(arena);
    lemoe_key_pass pass;
    lemoe_status status = lemoe_router_keys_score(k, units->e, units->n, arena, &pass);
    if (status == LEMOE_OK) status = lemoe_router_keys_top(k, &pass, false, out);
    lemoe_arena_reset(arena, mark);
    return status;
}

const lemoe_router_ops lemoe_router_fitted = {
    .open = open,
    .close = lemoe_router_keys_close,
    .add_expert = lemoe_router_keys_add_expert,
    .route = route,
    .end_batch = end_batch,
    .visit = lemoe_router_keys_visit,
    .save = lemoe_router_keys_save,
    .n_weight = lemoe_router_keys_n_weight,
};

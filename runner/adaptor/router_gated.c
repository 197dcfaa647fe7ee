/*
 * Readings of the printed rule (docs/method.md 2.3): keys and projection learn from the targets' NLL through the gate,
 * which is the softmax probability of the expert used. They differ in two things: whether a batch's own expert is
 * forced while it trains, and what becomes of the projection.
 *
 * Named extensions, off in preset `paper` (docs/method.md 2.5): a cross-entropy of the router over the batch, and its
 * replay over the stored features of earlier batches.
 */
#include "kernels/base/mem.h"
#include "kernels/planning.h"
#include "runner/adaptor/router_keys.h"

static lemoe_status open_shared(const lemoe_router_context *context, void **router) {
    return lemoe_router_keys_open(context, false, (lemoe_router_keys **)router);
}

static lemoe_status open_per_expert(const lemoe_router_context *context, void **router) {
    return lemoe_router_keys_open(context, true, (lemoe_router_keys **)router);
}

static bool is_raw(const lemoe_router_keys *k) { return k->context.config->lemoe.gate == LEMOE_GATE_RAW; }

/* ---- what trains ---- */

static lemoe_status train_with(lemoe_router_keys *k, bool with_projection, lemoe_param *params, int64_t *n_params) {
    const lemoe_config *c = k->context.config;
    lemoe_key_router *newest = &k->routers[k->per_expert ? k->n_expert - 1 : 0];
    if (!is_raw(k) && c->lemoe.router_ce == 0) return LEMOE_OK; /* a gate of 1 has no gradient */
    return lemoe_key_router_train(newest, with_projection, c->lemoe.router_lr, k->context.batch_arena, params,
                                  n_params);
}

static lemoe_status train_all(void *router, lemoe_param *params, int64_t *n_params) {
    return train_with(router, true, params, n_params);
}

/* Random, or as the first batches left it. */
static lemoe_status train_frozen(void *router, lemoe_param *params, int64_t *n_params) {
    lemoe_router_keys *k = router;
    return train_with(k, k->n_expert <= k->context.config->lemoe.frozen_after, params, n_params);
}

/* ---- routes in training ---- */

static lemoe_status score(lemoe_router_keys *k, const lemoe_units *units, lemoe_arena *arena, lemoe_route *out,
                          void **kept) {
    LEMOE_TRY(lemoe_arena_host(arena, sizeof(lemoe_key_pass), kept));
    LEMOE_TRY(lemoe_router_keys_score(k, units->e, units->n, arena, *kept));
    return lemoe_router_keys_top(k, *kept, is_raw(k), out);
}

static lemoe_status route_literal(void *router, const lemoe_units *units, lemoe_arena *arena, lemoe_route *out,
                                  void **kept) {
    return score(router, units, arena, out, kept);
}

static lemoe_status route_forced(void *router, const lemoe_units *units, lemoe_arena *arena, lemoe_route *out,
                                 void **kept) {
    lemoe_router_keys *k = router;
    int64_t newest = k->n_expert - 1, columns = lemoe_router_keys_columns(k);
    float *p = NULL;
    LEMOE_TRY(score(k, units, arena, out, kept));
    const lemoe_key_pass *pass = *kept;
    LEMOE_TRY(lemoe_mem_alloc(units->n * columns, sizeof *p, &p));
    lemoe_status status = lemoe_device_download(k->context.device, p, pass->p.data, lemoe_tensor_bytes(&pass->p));
    for (int64_t u = 0; u < units->n; u++) {
        out[u].expert = newest;
        out[u].gate = is_raw(k) ? p[u * columns + lemoe_router_keys_column(k, newest)] : 1.0;
    }
    lemoe_mem_free(p);
    return status;
}

/* dL/dp is d_gate where an expert was used, 0 elsewhere; the softmax Jacobian makes dz of it (docs/method.md 1.3). */
static lemoe_status backward(void *router, void *kept, const lemoe_route *routes, const float *d_gate,
                             lemoe_arena *arena) {
    lemoe_router_keys *k = router;
    const lemoe_key_pass *pass = kept;
    int64_t columns = lemoe_router_keys_columns(k);
    float *dp = NULL;
    lemoe_tensor dz;
    if (!is_raw(k)) return LEMOE_OK;
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, pass->n, columns, &dz));
    LEMOE_TRY(lemoe_mem_alloc(pass->n * columns, sizeof *dp, &dp));
    for (int64_t u = 0; u < pass->n; u++) dp[u * columns + lemoe_router_keys_column(k, routes[u].expert)] = d_gate[u];
    lemoe_status status = lemoe_device_upload(k->context.device, dz.data, dp, lemoe_tensor_bytes(&dz));
    if (status == LEMOE_OK) status = lemoe_op_softmax_bwd(k->context.device, pass->p, dz, dz);
    if (status == LEMOE_OK) status = lemoe_router_keys_backward(k, pass, dz, arena);
    lemoe_mem_free(dp);
    return status;
}

/* ---- the same for units that are held, on the device alone ---- */

typedef struct held_gates {
    lemoe_tensor ones; /* [n] the gates, where they are renormalised: one expert is chosen; data NULL elsewhere */
    lemoe_key_input input;
    lemoe_tensor newest;  /* [n, columns] 1 in the newest expert's column */
    lemoe_key_pass *pass; /* of the forward under way */
} held_gates;

/* Rows of 0 with a 1 in the newest expert's column. */
static lemoe_status mark_newest(const lemoe_router_keys *k, lemoe_tensor out) {
    int64_t n = out.shape[0], columns = out.shape[1];
    float *rows = NULL;
    LEMOE_TRY(lemoe_mem_alloc(n * columns, sizeof *rows, &rows));
    for (int64_t u = 0; u < n; u++) rows[u * columns + lemoe_router_keys_column(k, k->n_expert - 1)] = 1.0f;
    lemoe_status status = lemoe_device_upload(k->context.device, out.data, rows, lemoe_tensor_bytes(&out));
    lemoe_mem_free(rows);
    return status;
}

/* Whoever plans for a device that is not the host plans for one that can capture. */
static bool leaves_host_out(const lemoe_device *device) {
    return lemoe_device_can_capture(device) || (lemoe_device_is_planning(device) && !lemoe_device_is_host(device));
}

static lemoe_status hold_ones(const lemoe_router_keys *k, int64_t n, lemoe_arena *arena, lemoe_tensor *out) {
    float *ones = NULL;
    LEMOE_TRY(lemoe_arena_vector(arena, LEMOE_F32, n, out));
    LEMOE_TRY(lemoe_mem_alloc(n, sizeof *ones, &ones));
    for (int64_t u = 0; u < n; u++) ones[u] = 1.0f;
    lemoe_status status = lemoe_device_upload(k->context.device, out->data, ones, lemoe_tensor_bytes(out));
    lemoe_mem_free(ones);
    return status;
}

static lemoe_status hold_forced(void *router, const lemoe_units *units, lemoe_arena *arena, void **held) {
    lemoe_router_keys *k = router;
    held_gates *h = NULL;
    *held = NULL;
    if (!leaves_host_out(k->context.device)) return LEMOE_OK;
    LEMOE_TRY(lemoe_arena_host(arena, sizeof *h, &h));
    *h = (held_gates){0};
    *held = h;
    if (!is_raw(k)) return hold_ones(k, units->n, arena, &h->ones);
    LEMOE_TRY(lemoe_arena_host(arena, sizeof *h->pass, &h->pass));
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, units->n, lemoe_router_keys_columns(k), &h->newest));
    LEMOE_TRY(lemoe_router_keys_input(k, units->e, units->n, arena, &h->input));
    return mark_newest(k, h->newest);
}

/* The newest expert's probability: the others are multiplied by 0. */
static lemoe_status gates_forced(void *router, void *held, lemoe_arena *arena, lemoe_tensor *gate) {
    lemoe_router_keys *k = router;
    held_gates *h = held;
    *gate = h->ones;
    if (!is_raw(k)) return LEMOE_OK;
    LEMOE_TRY(lemoe_router_keys_score_on(k, &h->input, arena, h->pass));
    LEMOE_TRY(lemoe_arena_vector(arena, LEMOE_F32, h->pass->n, gate));
    return lemoe_op_row_dot(k->context.device, h->pass->p, h->newest, *gate);
}

static lemoe_status backward_gates_forced(void *router, void *held, lemoe_tensor d_gate, lemoe_arena *arena) {
    lemoe_router_keys *k = router;
    const held_gates *h = held;
    lemoe_device *device = k->context.device;
    lemoe_tensor dz;
    if (!is_raw(k)) return LEMOE_OK;
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, h->newest.shape[0], h->newest.shape[1], &dz));
    LEMOE_TRY(lemoe_device_copy(device, dz.data, h->newest.data, lemoe_tensor_bytes(&dz)));
    LEMOE_TRY(lemoe_op_rows_scale(device, d_gate, dz));
    LEMOE_TRY(lemoe_op_softmax_bwd(device, h->pass->p, dz, dz));
    return lemoe_router_keys_backward(k, h->pass, dz, arena);
}

/* ---- the extensions ---- */

static lemoe_status begin_minibatch(void *router, const lemoe_units *units) {
    lemoe_router_keys *k = router;
    double weight = k->context.config->lemoe.router_ce, loss = 0;
    int64_t *newest = NULL;
    if (weight == 0) return LEMOE_OK;
    LEMOE_TRY(lemoe_mem_alloc(units->n, sizeof *newest, &newest));
    for (int64_t u = 0; u < units->n; u++) newest[u] = k->n_expert - 1;
    lemoe_key_units batch = {units->e, newest, units->n, 0}, replayed = lemoe_router_keys_replayed(k, NULL);
    lemoe_status status = lemoe_router_keys_cross_entropy(k, &batch, weight, &loss);
    if (status == LEMOE_OK) status = lemoe_router_keys_cross_entropy(k, &replayed, weight, &loss);
    if (status == LEMOE_OK) status = lemoe_router_keys_null_entropy(k, &batch, weight, &loss);
    if (status == LEMOE_OK) status = lemoe_router_keys_null_entropy(k, &replayed, weight, &loss);
    lemoe_mem_free(newest);
    return status;
}

static lemoe_status end_batch(void *router, const lemoe_units *units) {
    lemoe_router_keys *k = router;
    return k->context.config->lemoe.replay ? lemoe_router_keys_remember(k, units) : LEMOE_OK;
}

/* ---- inference: top-1 over all keys, with the projection as it is now ---- */

static lemoe_status route(void *router, const lemoe_units *units, lemoe_route *out) {
    lemoe_router_keys *k = router;
    lemoe_arena *arena = k->context.step_arena;
    size_t mark = lemoe_arena_mark(arena);
    void *kept = NULL;
    lemoe_status status = score(k, units, arena, out, &kept);
    lemoe_arena_reset(arena, mark);
    return status;
}

#define GATED(open_, train_, route_in_training_)                                                                       \
    .open = open_, .close = lemoe_router_keys_close, .add_expert = lemoe_router_keys_add_expert, .route = route,       \
    .route_in_training = route_in_training_, .backward = backward, .train = train_,                                    \
    .begin_minibatch = begin_minibatch, .end_batch = end_batch, .visit = lemoe_router_keys_visit,                      \
    .save = lemoe_router_keys_save, .n_weight = lemoe_router_keys_n_weight
#define FORCED .hold = hold_forced, .gates = gates_forced, .backward_gates = backward_gates_forced

const lemoe_router_ops lemoe_router_literal = {GATED(open_shared, train_all, route_literal)};
const lemoe_router_ops lemoe_router_forced = {GATED(open_shared, train_all, route_forced), FORCED};
const lemoe_router_ops lemoe_router_frozen_proj = {GATED(open_shared, train_frozen, route_forced), FORCED};
const lemoe_router_ops lemoe_router_per_expert_proj = {GATED(open_per_expert, train_all, route_forced), FORCED};

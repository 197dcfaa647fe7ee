#include "runner/adaptor/router_keys.h"

#include "kernels/base/mem.h"
#include "kernels/ops.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- life ---- */

static lemoe_status create_router(lemoe_router_keys *k, int64_t i) {
    const lemoe_router_context *c = &k->context;
    int64_t key_dim = c->config->lemoe.key_dim ? c->config->lemoe.key_dim : c->d / 4;
    lemoe_key_router_args args = {.arena = c->run_arena,
                                  .d = c->d,
                                  .key_dim = key_dim,
                                  .max_key = k->per_expert ? 1 : k->n_null + c->max_expert,
                                  .init = c->config->lemoe.router_init,
                                  .seed = c->config->seed,
                                  .stream = (uint32_t)i};
    return lemoe_key_router_create(&args, &k->routers[i]);
}

lemoe_status lemoe_router_keys_open(const lemoe_router_context *context, bool per_expert, lemoe_router_keys **out) {
    lemoe_router_keys *k = NULL;
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof *k, &k));
    *out = k;
    k->context = *context;
    k->per_expert = per_expert;
    LEMOE_TRY(lemoe_mem_alloc(per_expert ? context->max_expert : 1, sizeof *k->routers, &k->routers));
    k->n_null = context->config->lemoe.null_route == LEMOE_NULL_KEY;
    if (per_expert) return LEMOE_OK;
    LEMOE_TRY(create_router(k, 0));
    k->routers[0].first_trains = k->n_null > 0;
    return k->n_null ? lemoe_key_router_add_key(&k->routers[0], context->config->seed) : LEMOE_OK;
}

void lemoe_router_keys_close(void *router) {
    lemoe_router_keys *k = router;
    if (!k) return;
    lemoe_mem_free(k->routers);
    lemoe_mem_free(k->replayed.e);
    lemoe_mem_free(k->replayed.expert);
    lemoe_mem_free(k);
}

lemoe_status lemoe_router_keys_add_expert(void *router) {
    lemoe_router_keys *k = router;
    int64_t i = k->per_expert ? k->n_expert : 0;
    if (k->per_expert) LEMOE_TRY(create_router(k, i));
    k->n_expert++;
    return lemoe_key_router_add_key(&k->routers[i], k->context.config->seed);
}

static int64_t n_router(const lemoe_router_keys *k) { return k->per_expert ? k->n_expert : 1; }

/* ---- scores ---- */

/* Where the scores of each expert's own router stand when they are laid side by side. */
static lemoe_status upload_places(const lemoe_router_keys *k, int64_t n, lemoe_arena *arena, lemoe_tensor *out) {
    int32_t *place = NULL;
    LEMOE_CHECK(n * k->n_expert <= INT32_MAX, LEMOE_ERR_SHAPE, "%lld units are too many to score at once",
                (long long)n);
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_I32, k->n_expert, n, out));
    LEMOE_TRY(lemoe_mem_alloc(n * k->n_expert, sizeof *place, &place));
    for (int64_t i = 0; i < k->n_expert; i++)
        for (int64_t u = 0; u < n; u++) place[i * n + u] = (int32_t)(u * k->n_expert + i);
    lemoe_status status = lemoe_device_upload(k->context.device, out->data, place, lemoe_tensor_bytes(out));
    lemoe_mem_free(place);
    return status;
}

lemoe_status lemoe_router_keys_input(const lemoe_router_keys *k, const float *e, int64_t n, lemoe_arena *arena,
                                     lemoe_key_input *out) {
    *out = (lemoe_key_input){0};
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, n, k->context.d, &out->e));
    LEMOE_TRY(lemoe_device_upload(k->context.device, out->e.data, e, lemoe_tensor_bytes(&out->e)));
    return k->per_expert ? upload_places(k, n, arena, &out->place) : LEMOE_OK;
}

/* The places of expert i, and z as one column. */
static lemoe_tensor places_of(const lemoe_key_input *input, int64_t i) {
    return lemoe_tensor_1d(lemoe_tensor_rows(input->place, i, 1).data, LEMOE_I32, input->place.shape[1]);
}
static lemoe_tensor as_column(lemoe_tensor z) { return lemoe_tensor_2d(z.data, z.dtype, z.shape[0] * z.shape[1], 1); }

/* z of single-key routers side by side. */
static lemoe_status join_columns(const lemoe_router_keys *k, const lemoe_key_pass *pass) {
    lemoe_tensor no_weight = {0};
    LEMOE_TRY(lemoe_device_zero(k->context.device, pass->z.data, lemoe_tensor_bytes(&pass->z)));
    for (int64_t i = 0; i < k->n_expert; i++)
        LEMOE_TRY(lemoe_op_rows_scatter_add(k->context.device, pass->scores[i].z, places_of(&pass->input, i), no_weight,
                                            as_column(pass->z)));
    return LEMOE_OK;
}

lemoe_status lemoe_router_keys_score(const lemoe_router_keys *k, const float *e, int64_t n, lemoe_arena *arena,
                                     lemoe_key_pass *out) {
    lemoe_key_input input;
    LEMOE_TRY(lemoe_router_keys_input(k, e, n, arena, &input));
    return lemoe_router_keys_score_on(k, &input, arena, out);
}

lemoe_status lemoe_router_keys_score_on(const lemoe_router_keys *k, const lemoe_key_input *input, lemoe_arena *arena,
                                        lemoe_key_pass *out) {
    int64_t n = input->e.shape[0];
    *out = (lemoe_key_pass){.n = n, .input = *input};
    size_t n_bytes = (size_t)n_router(k) * sizeof *out->scores;
    LEMOE_TRY(lemoe_arena_host(arena, n_bytes, &out->scores));
    for (int64_t i = 0; i < n_router(k); i++)
        LEMOE_TRY(lemoe_key_router_forward(&k->routers[i], input->e, arena, &out->scores[i]));
    out->z = out->scores[0].z;
    if (k->per_expert) {
        LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, n, k->n_expert, &out->z));
        LEMOE_TRY(join_columns(k, out));
    }
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, n, lemoe_router_keys_columns(k), &out->p));
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_I32, n, 1, &out->top));
    return lemoe_op_topk_softmax_fwd(k->context.device, out->z, out->p, out->top);
}

/* ---- backward ---- */

/* The newest expert's column of dz, for its own router. */
static lemoe_status newest_column(const lemoe_router_keys *k, const lemoe_key_pass *pass, lemoe_tensor dz,
                                  lemoe_arena *arena, lemoe_tensor *out) {
    LEMOE_TRY(lemoe_arena_matrix(arena, LEMOE_F32, pass->n, 1, out));
    return lemoe_op_rows_gather(k->context.device, as_column(dz), places_of(&pass->input, k->n_expert - 1), *out);
}

lemoe_status lemoe_router_keys_backward(const lemoe_router_keys *k, const lemoe_key_pass *pass, lemoe_tensor dz,
                                        lemoe_arena *arena) {
    lemoe_tensor column;
    if (!k->per_expert) return lemoe_key_router_backward(&k->routers[0], &pass->scores[0], dz, arena);
    LEMOE_TRY(newest_column(k, pass, dz, arena, &column));
    return lemoe_key_router_backward(&k->routers[k->n_expert - 1], &pass->scores[k->n_expert - 1], column, arena);
}

/* dz = weight / n (p - onehot) in place of p, and the loss. */
static double cross_entropy_of(const lemoe_router_keys *k, float *p, const int64_t *expert, int64_t n, double weight) {
    double loss = 0;
    int64_t columns = lemoe_router_keys_columns(k);
    float factor = (float)(weight / (double)n);
    for (int64_t u = 0; u < n; u++) {
        float *row = p + u * columns, *own = &row[lemoe_router_keys_column(k, expert ? expert[u] : -1)];
        loss -= log(fmax((double)*own, 1e-30));
        *own -= 1.0f;
        for (int64_t i = 0; i < columns; i++) row[i] *= factor;
    }
    return loss / (double)n;
}

/* At least what the arena hands out for scores and backward of n units, every request rounded up. */
static size_t pass_bytes(const lemoe_router_keys *k, int64_t n) {
    enum { PIECE = 256, N_REQUEST = 16, N_ROUTER_REQUEST = 8 }; /* more than there are */
    int64_t d = k->context.d, key_dim = k->routers[0].key_dim, columns = lemoe_router_keys_columns(k);
    int64_t of_router = 2 * key_dim + d + columns;                  /* b, a; v; z */
    int64_t of_unit = d + n_router(k) * of_router + 2 * columns + 1 /* e; z of all, p; top */
                      + d + key_dim + 1;                            /* dv, da; a column of dz */
    int64_t n_request = N_REQUEST + n_router(k) * N_ROUTER_REQUEST;
    return (size_t)((n * of_unit + columns * d) * (int64_t)sizeof(float) + n_request * PIECE) +
           (size_t)n_router(k) * sizeof(lemoe_key_scores);
}

/* What is taken does not depend on values, so that it can be planned. */
static lemoe_status pad(const lemoe_router_keys *k, const lemoe_key_units *units, size_t used) {
    if (units->n_most == 0) return LEMOE_OK;
    return lemoe_arena_pad(k->context.step_arena, used, pass_bytes(k, units->n_most));
}

/* units->expert NULL: none. */
static lemoe_status cross_entropy(const lemoe_router_keys *k, const lemoe_key_units *units, double weight,
                                  double *loss) {
    lemoe_status status = LEMOE_OK;
    lemoe_arena *arena = k->context.step_arena;
    size_t mark = lemoe_arena_mark(arena), used = lemoe_arena_used_bytes(arena);
    lemoe_key_pass pass;
    float *p = NULL;
    LEMOE_TRY_GOTO(lemoe_mem_alloc(units->n * lemoe_router_keys_columns(k), sizeof *p, &p));
    LEMOE_TRY_GOTO(lemoe_router_keys_score(k, units->e, units->n, arena, &pass));
    LEMOE_TRY_GOTO(lemoe_device_download(k->context.device, p, pass.p.data, lemoe_tensor_bytes(&pass.p)));
    *loss = cross_entropy_of(k, p, units->expert, units->n, weight);
    LEMOE_TRY_GOTO(lemoe_device_upload(k->context.device, pass.p.data, p, lemoe_tensor_bytes(&pass.p)));
    LEMOE_TRY_GOTO(lemoe_router_keys_backward(k, &pass, pass.p, arena));
    LEMOE_TRY_GOTO(pad(k, units, used));
out:
    lemoe_arena_reset(arena, mark);
    lemoe_mem_free(p);
    return status;
}

lemoe_key_units lemoe_router_keys_replayed(const lemoe_router_keys *k, const float *e) {
    const lemoe_replayed *r = &k->replayed;
    return (lemoe_key_units){e ? e : r->e, r->expert, r->n, r->n_seen};
}

lemoe_status lemoe_router_keys_cross_entropy(const lemoe_router_keys *k, const lemoe_key_units *units, double weight,
                                             double *loss) {
    *loss = 0;
    return units->n == 0 ? LEMOE_OK : cross_entropy(k, units, weight, loss);
}

/* Too few units for what as many as there may be would take. */
static lemoe_status no_pass(const lemoe_router_keys *k, const lemoe_key_units *units) {
    lemoe_arena *arena = k->context.step_arena;
    size_t mark = lemoe_arena_mark(arena);
    lemoe_status status = pad(k, units, lemoe_arena_used_bytes(arena));
    lemoe_arena_reset(arena, mark);
    return status;
}

lemoe_status lemoe_router_keys_null_entropy(const lemoe_router_keys *k, const lemoe_key_units *units, double weight,
                                            double *loss) {
    float *mixed = NULL;
    int64_t d = k->context.d, n = units->n;
    const float *e = units->e;
    *loss = 0;
    if (k->n_null == 0) return LEMOE_OK;
    if (n < 2) return no_pass(k, units);
    LEMOE_TRY(lemoe_mem_alloc(n * d, sizeof *mixed, &mixed));
    for (int64_t u = 0; u < n; u++)
        for (int64_t c = 0; c < d; c++) mixed[u * d + c] = 0.5f * (e[u * d + c] + e[(u + n / 2) % n * d + c]);
    lemoe_key_units mixtures = {mixed, NULL, n, units->n_most};
    lemoe_status status = cross_entropy(k, &mixtures, weight, loss);
    lemoe_mem_free(mixed);
    return status;
}

/* One feature, up to rounding: a distance of the tie in cosines, found or not after a few numbers. */
static bool is_same(const float *a, double a_squared, const float *b, int64_t d) {
    double distance = 0, tie = 2 * LEMOE_ANCHOR_TIE * a_squared;
    for (int64_t c = 0; c < d && distance <= tie; c++) {
        double difference = (double)a[c] - (double)b[c];
        distance += difference * difference;
    }
    return distance <= tie;
}

/* A prompt that is edited again would be replayed with two answers: only the latest stays. */
static void forget_superseded(lemoe_replayed *r, const lemoe_units *units) {
    int64_t kept = 0, d = units->d;
    for (int64_t i = 0; i < r->n; i++) {
        const float *old = r->e + i * d;
        double squared = 0;
        bool superseded = false;
        for (int64_t c = 0; c < d; c++) squared += (double)old[c] * (double)old[c];
        for (int64_t u = 0; u < units->n && !superseded; u++) superseded = is_same(old, squared, units->e + u * d, d);
        if (superseded) continue;
        memmove(r->e + kept * d, r->e + i * d, (size_t)d * sizeof *r->e);
        r->expert[kept++] = r->expert[i];
    }
    r->n = kept;
}

lemoe_status lemoe_router_keys_remember(lemoe_router_keys *k, const lemoe_units *units) {
    lemoe_replayed *r = &k->replayed;
    int64_t d = units->d;
    if (!units->per_token) forget_superseded(r, units); /* a token belongs to many edits */
    LEMOE_TRY(lemoe_mem_grow(&r->e, &r->e_capacity, (r->n + units->n) * d, sizeof *r->e));
    LEMOE_TRY(lemoe_mem_grow(&r->expert, &r->expert_capacity, r->n + units->n, sizeof *r->expert));
    memcpy(r->e + r->n * d, units->e, (size_t)(units->n * d) * sizeof *r->e);
    for (int64_t u = 0; u < units->n; u++) r->expert[r->n + u] = k->n_expert - 1;
    r->n += units->n;
    r->n_seen += units->n;
    return LEMOE_OK;
}

/* ---- routes ---- */

static lemoe_route top_of(const lemoe_router_keys *k, const float *z, const float *p, bool raw) {
    int64_t best = 0, second = -1, columns = lemoe_router_keys_columns(k);
    for (int64_t j = 1; j < columns; j++)
        if (z[j] > z[best]) best = j;
    for (int64_t j = 0; j < columns; j++)
        if (j != best && (second < 0 || z[j] > z[second])) second = j;
    int64_t expert = best - k->n_null;
    double gate = expert < 0 ? 0.0 : raw ? (double)p[best] : 1.0;
    return (lemoe_route){expert, gate, second < 0 ? NAN : (double)z[best] - (double)z[second], 1.0};
}

/* z and, where gates are raw, p behind it: copied together, so that the host waits once. */
static lemoe_status read_scores(const lemoe_router_keys *k, const lemoe_key_pass *pass, bool raw, float *out) {
    lemoe_device *device = k->context.device;
    lemoe_arena *arena = k->context.step_arena;
    size_t mark = lemoe_arena_mark(arena), n_bytes = lemoe_tensor_bytes(&pass->z);
    lemoe_tensor both;
    lemoe_status status = LEMOE_OK;
    if (!raw) return lemoe_device_download(device, out, pass->z.data, n_bytes);
    LEMOE_TRY_GOTO(lemoe_arena_matrix(arena, LEMOE_F32, 2 * pass->z.shape[0], pass->z.shape[1], &both));
    LEMOE_TRY_GOTO(lemoe_device_copy(device, both.data, pass->z.data, n_bytes));
    LEMOE_TRY_GOTO(lemoe_device_copy(device, (char *)both.data + n_bytes, pass->p.data, n_bytes));
    LEMOE_TRY_GOTO(lemoe_device_download(device, out, both.data, 2 * n_bytes));
out:
    lemoe_arena_reset(arena, mark);
    return status;
}

lemoe_status lemoe_router_keys_top(const lemoe_router_keys *k, const lemoe_key_pass *pass, bool raw, lemoe_route *out) {
    int64_t n = pass->n, columns = lemoe_router_keys_columns(k);
    float *z = NULL;
    LEMOE_TRY(lemoe_mem_alloc(2 * n * columns, sizeof *z, &z));
    lemoe_status status = read_scores(k, pass, raw, z);
    for (int64_t u = 0; u < n && status == LEMOE_OK; u++)
        out[u] = top_of(k, z + u * columns, z + (n + u) * columns, raw);
    lemoe_mem_free(z);
    return status;
}

/* ---- state ---- */

static lemoe_status visit_router(void *router, lemoe_state *state) { return lemoe_key_router_visit(router, state); }

static lemoe_status visit_replayed(lemoe_router_keys *k, lemoe_state *state) {
    lemoe_replayed *r = &k->replayed;
    int64_t d = k->context.d;
    LEMOE_TRY(lemoe_state_count(state, "replayed", &r->n, INT64_MAX / d));
    LEMOE_TRY(lemoe_state_count(state, "replayed.seen", &r->n_seen, INT64_MAX / d));
    LEMOE_TRY(lemoe_mem_grow(&r->e, &r->e_capacity, r->n * d, sizeof *r->e));
    LEMOE_TRY(lemoe_mem_grow(&r->expert, &r->expert_capacity, r->n, sizeof *r->expert));
    LEMOE_TRY(lemoe_state_bytes(state, "replayed.features", r->e, r->n * d * (int64_t)sizeof *r->e));
    return lemoe_state_bytes(state, "replayed.expert", r->expert, r->n * (int64_t)sizeof *r->expert);
}

/* A router of one expert alone is frozen once there is a newer one. */
lemoe_status lemoe_router_keys_visit(void *router, lemoe_state *state) {
    lemoe_router_keys *k = router;
    for (int64_t i = 0; i < n_router(k); i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "router.%lld", (long long)i);
        LEMOE_TRY(lemoe_state_part(state, name, k->per_expert && i + 1 < k->n_expert, visit_router, &k->routers[i]));
    }
    return visit_replayed(k, state);
}

/* ---- saving ---- */

static lemoe_status save_router(const lemoe_key_router *r, const char *prefix, lemoe_saved *saved, lemoe_llama *model) {
    const lemoe_tensor tensors[] = {lemoe_tensor_rows(r->keys, 0, r->n_key), r->w_down, r->w_up};
    static const char *const names[] = {"keys", "w_down", "w_up"};
    for (int i = 0; i < 3; i++) {
        char name[64];
        (void)snprintf(name, sizeof name, "%s.%s.weight", prefix, names[i]);
        LEMOE_TRY(lemoe_saved_add(saved, model, name, tensors[i], LEMOE_SPLIT_NONE, 0));
    }
    return LEMOE_OK;
}

lemoe_status lemoe_router_keys_save(void *router, lemoe_saved *saved, lemoe_llama *model) {
    const lemoe_router_keys *k = router;
    if (k->n_expert == 0) return LEMOE_OK;
    if (!k->per_expert) return save_router(&k->routers[0], "router", saved, model);
    for (int64_t i = 0; i < k->n_expert; i++) {
        char prefix[32];
        (void)snprintf(prefix, sizeof prefix, "router.%lld", (long long)i);
        LEMOE_TRY(save_router(&k->routers[i], prefix, saved, model));
    }
    return LEMOE_OK;
}

int64_t lemoe_router_keys_n_weight(const void *router) {
    const lemoe_router_keys *k = router;
    const lemoe_key_router *r = &k->routers[0];
    return lemoe_router_keys_columns(k) * r->d + n_router(k) * 2 * r->key_dim * r->d + k->replayed.n * k->context.d;
}

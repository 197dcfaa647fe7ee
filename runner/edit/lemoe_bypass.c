/*
 * What LEMoE adds to its FFN (docs/method.md 1.1): h = FFN(x) + lambda g f_i(x), one expert and one weight a unit (a
 * sequence for all its tokens, or a single token). In training the router may force the newest expert; a unit that goes
 * nowhere keeps its bits. The same computation forward in training and evaluation; the backward serves experts that
 * train and the router's gates.
 */
#include "kernels/base/mem.h"
#include "kernels/ops.h"
#include "runner/adaptor/dispatch.h"
#include "runner/edit/lemoe_editor.h"

/* From forward to backward of one pack; in the arena. */
typedef struct lemoe_note {
    int64_t n_unit;
    lemoe_route *routes;  /* [n_unit] */
    int64_t *unit_of_row; /* [n_tok] */
    lemoe_spread spread;
    void *kept; /* the router's own */
} lemoe_note;

/* ---- routes of a pack, spread over its rows ---- */

static lemoe_status take(lemoe_arena *arena, int64_t n, size_t item_bytes, void *out) {
    return lemoe_arena_host(arena, (size_t)n * item_bytes, out);
}

static void map_rows(const lemoe_pack *pack, const lemoe_units *units, int64_t *unit_of_row) {
    for (int64_t s = 0; s < pack->n_seq; s++)
        for (int64_t r = pack->start[s]; r < pack->start[s + 1]; r++) unit_of_row[r] = units->per_token ? r : s;
}

static lemoe_status spread_rows(const lemoe_lemoe *e, int64_t n_tok, lemoe_arena *arena, lemoe_note *note) {
    lemoe_status status = LEMOE_OK;
    float lambda = (float)e->context.config->lemoe.lambda, *weight = NULL;
    int32_t *expert = NULL;
    LEMOE_TRY_GOTO(lemoe_mem_alloc(n_tok, sizeof *expert, &expert));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(n_tok, sizeof *weight, &weight));
    for (int64_t r = 0; r < n_tok; r++) {
        const lemoe_route *route = &note->routes[note->unit_of_row[r]];
        expert[r] = (int32_t)route->expert;
        weight[r] = lambda * (float)route->gate;
    }
    lemoe_row_choices choices = {expert, weight, n_tok, 1};
    note->spread = (lemoe_spread){.model = e->context.model, .experts = e->experts, .n_expert = e->n_expert};
    LEMOE_TRY_GOTO(lemoe_spread_rows(&note->spread, &choices, arena));
out:
    lemoe_mem_free(expert);
    lemoe_mem_free(weight);
    return status;
}

static lemoe_status route_pack(lemoe_lemoe *e, lemoe_bypass_io *io, lemoe_note *note) {
    lemoe_status status = LEMOE_OK;
    const lemoe_pack *pack = io->pack;
    lemoe_unit_args args = lemoe_lemoe_unit_args(e);
    lemoe_units units = {0};
    LEMOE_TRY_GOTO(lemoe_units_make(&args, pack->items, pack->n_seq, &units));
    note->n_unit = units.n;
    LEMOE_TRY_GOTO(take(io->arena, units.n, sizeof *note->routes, &note->routes));
    LEMOE_TRY_GOTO(take(io->arena, pack->n_tok, sizeof *note->unit_of_row, &note->unit_of_row));
    map_rows(pack, &units, note->unit_of_row);
    LEMOE_TRY_GOTO(io->training ? lemoe_lemoe_route_training(e, &units, io->arena, note->routes, &note->kept)
                                : lemoe_lemoe_route_units(e, &units, note->routes));
    LEMOE_TRY_GOTO(spread_rows(e, pack->n_tok, io->arena, note));
out:
    lemoe_units_free(&units);
    return status;
}

lemoe_status lemoe_lemoe_forward(void *editor, lemoe_bypass_io *io) {
    lemoe_lemoe *e = editor;
    lemoe_note *note = NULL;
    if (e->n_expert == 0) return LEMOE_OK; /* nothing inserted yet */
    if (io->pack->bypass_held) return lemoe_lemoe_held_forward(e, io);
    LEMOE_TRY(take(io->arena, 1, sizeof *note, &note));
    *note = (lemoe_note){0};
    *io->kept = note;
    LEMOE_TRY(route_pack(e, io, note));
    return lemoe_spread_forward(&note->spread, io);
}

/* ---- backward ---- */

/* Experts' gradients, and d_gate[n_unit] = lambda sum over a unit's rows of <d_out, f(x)>, this rank's part. */
static lemoe_status experts_backward(const lemoe_lemoe *e, lemoe_bypass_io *io, const lemoe_note *note,
                                     double *d_gate) {
    const lemoe_spread *spread = &note->spread;
    float *d_weight = NULL;
    LEMOE_TRY(lemoe_mem_alloc(spread->n, sizeof *d_weight, &d_weight));
    lemoe_status status = lemoe_spread_backward(spread, io, d_weight);
    for (int64_t k = 0; k < spread->n; k++) d_gate[note->unit_of_row[spread->row[k]]] += d_weight[k];
    for (int64_t u = 0; u < note->n_unit; u++) d_gate[u] *= e->context.config->lemoe.lambda;
    lemoe_mem_free(d_weight);
    return status;
}

/* f is a partial sum, so the team adds up. */
static lemoe_status router_backward(lemoe_lemoe *e, lemoe_bypass_io *io, const lemoe_note *note, double *d_gate) {
    float *whole = NULL;
    lemoe_comm *comm = lemoe_llama_comm(e->context.model);
    LEMOE_TRY(lemoe_comm_allreduce_sum(comm, lemoe_tensor_1d(d_gate, LEMOE_F64, note->n_unit)));
    LEMOE_TRY(lemoe_mem_alloc(note->n_unit, sizeof *whole, &whole));
    for (int64_t u = 0; u < note->n_unit; u++) whole[u] = (float)d_gate[u];
    lemoe_status status = e->router_ops->backward(e->router, note->kept, note->routes, whole, io->arena);
    lemoe_mem_free(whole);
    return status;
}

lemoe_status lemoe_lemoe_backward(void *editor, lemoe_bypass_io *io) {
    lemoe_lemoe *e = editor;
    const lemoe_note *note = *io->kept;
    double *d_gate = NULL;
    if (io->pack->bypass_held) return lemoe_lemoe_held_backward(e, io);
    if (!e->router_ops->backward) return lemoe_spread_backward(&note->spread, io, NULL);
    LEMOE_TRY(lemoe_mem_alloc(note->n_unit, sizeof *d_gate, &d_gate));
    lemoe_status status = experts_backward(e, io, note, d_gate);
    if (status == LEMOE_OK) status = router_backward(e, io, note, d_gate);
    lemoe_mem_free(d_gate);
    return status;
}

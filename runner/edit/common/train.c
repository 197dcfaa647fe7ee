#include "runner/edit/common/train.h"

#include "kernels/base/clock.h"
#include "kernels/base/mem.h"
#include "kernels/base/rng.h"

#include <math.h>
#include <string.h>

/* A micro-batch ready to run: its pack and the weight of each target in the loss. */
typedef struct micro {
    lemoe_pack pack;
    lemoe_tensor weight; /* [n_target] 1 / (edits of the minibatch * targets of the edit) */
    float *host_weight;  /* the same */
    int64_t n_run;       /* how often it was computed so far */
    lemoe_graph *graph;  /* its forward and backward, once they are captured */
} micro;

/* Graphs take memory of the device that nobody plans, about as much as a few thousand launches' arguments each. */
enum { MOST_GRAPHS = 256 };

typedef struct training {
    const lemoe_train_args *args;
    const lemoe_editor_context *context;
    lemoe_llama *model;
    lemoe_adamw adamw;
    lemoe_item *items;   /* the batch in the order of this pass */
    int64_t *order;      /* [n_items] of this pass */
    int64_t pass, seen;  /* where it is: edits of this pass that were in an update, */
    double seen_loss;    /* and the sum of their losses */
    int64_t n_minibatch; /* edits of a full minibatch */
    /* Packs that come again are built once: those of the whole batch, or one an edit, in the batch's order. Others, of
     * minibatches that are drawn anew in each pass, never do. */
    micro *held;
    int64_t n_held;
    bool captures; /* they are replayed from the device's own record of them */
} training;

/* ---- micro-batches ---- */

static lemoe_status target_weights(lemoe_arena *arena, int64_t n_items, micro *m) {
    const lemoe_pack *pack = &m->pack;
    LEMOE_TRY(lemoe_arena_vector(arena, LEMOE_F32, pack->n_target, &m->weight));
    LEMOE_TRY(lemoe_arena_host(arena, lemoe_tensor_bytes(&m->weight), &m->host_weight));
    for (int64_t s = 0; s < pack->n_seq; s++) {
        int64_t first = pack->target_start[s], n = pack->target_start[s + 1] - first;
        for (int64_t t = 0; t < n; t++) m->host_weight[first + t] = (float)(1.0 / ((double)n_items * (double)n));
    }
    return lemoe_device_upload(lemoe_arena_device(arena), m->weight.data, m->host_weight,
                               lemoe_tensor_bytes(&m->weight));
}

static lemoe_status build_micro(const training *t, lemoe_arena *arena, const lemoe_item *items, int64_t n,
                                int64_t n_minibatch, micro *out) {
    *out = (micro){0};
    LEMOE_TRY(lemoe_pack_build(arena, items, n, lemoe_llama_config_of(t->model)->d_model, &out->pack));
    return target_weights(arena, n_minibatch, out);
}

static lemoe_status hold(const training *t, const lemoe_item *items, int64_t n, int64_t n_minibatch, micro *m) {
    LEMOE_TRY(build_micro(t, t->context->batch_arena, items, n, n_minibatch, m));
    return lemoe_llama_hold(t->model, &m->pack, lemoe_llama_cut(t->model), t->context->batch_arena,
                            t->context->step_arena);
}

static lemoe_status hold_whole_batch(training *t) {
    const lemoe_item *items = t->items;
    int64_t n = t->args->batch->n_items, budget = t->context->micro_batch_tokens, capacity = 0;
    for (int64_t begin = 0, end; begin < n; begin = end) {
        end = lemoe_pack_split(items, n, begin, budget);
        LEMOE_TRY(lemoe_mem_grow(&t->held, &capacity, t->n_held + 1, sizeof *t->held));
        micro *m = &t->held[t->n_held++];
        *m = (micro){0};
        LEMOE_TRY(hold(t, items + begin, end - begin, n, m));
    }
    return LEMOE_OK;
}

/* Single edits are built when they are first reached: not every one is. */
static lemoe_status make_room_to_hold(training *t) {
    int64_t n = t->args->batch->n_items;
    if (t->n_minibatch == n) return hold_whole_batch(t);
    if (t->n_minibatch > 1) return LEMOE_OK;
    t->n_held = n;
    return lemoe_mem_alloc(n, sizeof *t->held, &t->held);
}

/* Whether packs that are held can be replayed, if nothing in them needs the host: there are passes to gain by. */
static bool can_replay(const training *t) {
    int64_t n = t->args->batch->n_items, n_update = (n + t->n_minibatch - 1) / t->n_minibatch; /* of a pass */
    return !t->context->launches_plainly && t->n_held <= MOST_GRAPHS && t->args->training->max_steps > 2 * n_update &&
           lemoe_device_can_capture(lemoe_llama_device(t->model)) &&
           lemoe_comm_stays_on_device(lemoe_llama_comm(t->model));
}

static void destroy_held(training *t) {
    for (int64_t i = 0; i < t->n_held && t->held; i++)
        lemoe_graph_destroy(lemoe_llama_device(t->model), t->held[i].graph);
    lemoe_mem_free(t->held);
}

/* ---- one update ---- */

/* Sum of weight * nll over the targets of a micro-batch: its share of the minibatch's loss. nll: of a pack that is not
 * held. */
static lemoe_status share_of_loss(const training *t, const micro *m, lemoe_tensor nll, double *loss) {
    int64_t n = m->pack.n_target;
    float *values = NULL;
    LEMOE_TRY(lemoe_mem_alloc(n, sizeof *values, &values));
    lemoe_status status = m->pack.losses.data ? lemoe_llama_held_nll(t->model, &m->pack, values)
                                              : lemoe_device_download(lemoe_llama_device(t->model), values, nll.data,
                                                                      lemoe_tensor_bytes(&nll));
    for (int64_t i = 0; i < n && status == LEMOE_OK; i++) *loss += (double)values[i] * (double)m->host_weight[i];
    lemoe_mem_free(values);
    return status;
}

/* Forward and backward. Of a pack that is held the loss is read afterwards. */
static lemoe_status run_micro(const training *t, const micro *m, double *loss) {
    lemoe_arena *arena = t->context->step_arena;
    size_t mark = lemoe_arena_mark(arena);
    lemoe_llama_output output;
    lemoe_tensor no_cut = {0};
    LEMOE_TRY(lemoe_llama_forward(t->model, &m->pack, lemoe_llama_cut(t->model), true, arena, &output));
    if (!m->pack.losses.data) LEMOE_TRY(share_of_loss(t, m, output.nll, loss));
    LEMOE_TRY(lemoe_llama_backward(t->model, &m->pack, &output, m->weight, arena, no_cut));
    lemoe_arena_reset(arena, mark);
    return LEMOE_OK;
}

/* Records a micro-batch without running it. Whatever happens, the recording ends; the first failure is reported. */
static lemoe_status capture_micro(const training *t, micro *m) {
    lemoe_device *device = lemoe_llama_device(t->model);
    char *message = NULL;
    LEMOE_TRY(lemoe_device_capture_begin(device));
    lemoe_status status = run_micro(t, m, NULL);
    if (status != LEMOE_OK && lemoe_mem_strdup(lemoe_error_message(), &message) != LEMOE_OK) message = NULL;
    lemoe_status ended = lemoe_device_capture_end(device, &m->graph);
    if (status != LEMOE_OK && message) status = lemoe_raise(status, "%s", message);
    lemoe_mem_free(message);
    return status != LEMOE_OK ? status : ended;
}

/* A micro-batch that comes again. The first time it runs plainly, which makes all the room it needs; then it is
 * captured, and from then on one replay does what hundreds of launches did. */
static lemoe_status run_held(const training *t, micro *m) {
    if (!t->captures || !m->pack.without_host || m->n_run++ == 0) return run_micro(t, m, NULL);
    if (!m->graph) LEMOE_TRY(capture_micro(t, m));
    return lemoe_graph_replay(lemoe_llama_device(t->model), m->graph);
}

static lemoe_status accumulate_held(const training *t, micro *held, int64_t n, double *loss) {
    for (int64_t i = 0; i < n; i++) LEMOE_TRY(run_held(t, &held[i]));
    for (int64_t i = 0; i < n; i++) LEMOE_TRY(share_of_loss(t, &held[i], (lemoe_tensor){0}, loss));
    return LEMOE_OK;
}

/* The pack keeps a pointer to its edit: to the batch's own, which stays where it is. */
static lemoe_status accumulate_single(const training *t, double *loss) {
    int64_t i = t->order[t->seen];
    micro *m = &t->held[i];
    if (m->pack.n_seq == 0) LEMOE_TRY(hold(t, &t->args->batch->items[i], 1, 1, m));
    return accumulate_held(t, m, 1, loss);
}

static lemoe_status accumulate(const training *t, const lemoe_item *items, int64_t n, double *loss, int64_t *n_tok) {
    lemoe_arena *arena = t->context->step_arena;
    for (int64_t i = 0; i < n; i++) *n_tok += items[i].n_tok;
    if (t->n_held)
        return n == t->args->batch->n_items ? accumulate_held(t, t->held, t->n_held, loss) : accumulate_single(t, loss);
    for (int64_t begin = 0, end; begin < n; begin = end) {
        micro m;
        size_t mark = lemoe_arena_mark(arena);
        end = lemoe_pack_split(items, n, begin, t->context->micro_batch_tokens);
        LEMOE_TRY(build_micro(t, arena, items + begin, end - begin, n, &m));
        LEMOE_TRY(run_micro(t, &m, loss));
        lemoe_arena_reset(arena, mark);
    }
    return LEMOE_OK;
}

/* Loss and norm are equal on all ranks, so all of them leave here together or not at all. */
static lemoe_status check_finite(const training *t, double loss, double grad_norm) {
    LEMOE_CHECK(isfinite(loss) && isfinite(grad_norm), LEMOE_ERR_NUMERIC,
                "batch %lld, update %lld: the loss is %g and the gradient norm %g; a smaller lr, or clip, may help",
                (long long)t->args->batch->index, (long long)t->adamw.step, loss, grad_norm);
    return LEMOE_OK;
}

static lemoe_status begin_update(const training *t, const lemoe_item *items, int64_t n) {
    const lemoe_train_args *a = t->args;
    LEMOE_TRY(lemoe_adamw_zero_grad(t->context->batch_arena, a->params, a->n_params));
    return a->begin_minibatch ? a->begin_minibatch(a->editor, items, n) : LEMOE_OK;
}

static lemoe_status end_update(const training *t, const lemoe_step_record *record) {
    const lemoe_train_args *a = t->args;
    if (a->end_update) LEMOE_TRY(a->end_update(a->editor));
    LEMOE_TRY(a->log->step(a->log->context, record));
    lemoe_tick_now(t->context->tick);
    return LEMOE_OK;
}

/* What only one rank may notice (a full disk, a lost lease) is agreed on at every update, so the team leaves together.
 */
static lemoe_status update(training *t, const lemoe_item *items, int64_t n, double *loss) {
    const lemoe_train_args *a = t->args;
    lemoe_comm *comm = lemoe_llama_comm(t->model);
    double began = lemoe_clock_seconds(), grad_norm = 0;
    int64_t n_tok = 0;
    *loss = 0;
    LEMOE_TRY(lemoe_comm_agree(comm, begin_update(t, items, n)));
    LEMOE_TRY(lemoe_comm_keep_step(comm, accumulate(t, items, n, loss, &n_tok)));
    LEMOE_TRY(lemoe_adamw_update(&t->adamw, lemoe_llama_device(t->model), comm, a->params, a->n_params, &grad_norm));
    LEMOE_TRY(check_finite(t, *loss, grad_norm));
    lemoe_step_record record = {a->batch->index, *loss, grad_norm, lemoe_clock_seconds() - began, n_tok};
    return lemoe_comm_agree(comm, end_update(t, &record));
}

/* ---- passes ---- */

/* A permutation per pass, drawn by (seed, batch, pass): no state, so any step can be found again. */
static void shuffle(training *t, int64_t pass) {
    const lemoe_edit_batch *batch = t->args->batch;
    uint64_t seed = t->context->config->seed ^ (uint64_t)(batch->index + 1) << 32;
    lemoe_rng_permutation(lemoe_rng_make(seed, LEMOE_RNG_MINIBATCH, (uint32_t)pass), batch->n_items, t->order);
    for (int64_t i = 0; i < batch->n_items; i++) t->items[i] = batch->items[t->order[i]];
}

static lemoe_status visit_training(void *object, lemoe_state *state) {
    training *t = object;
    LEMOE_TRY(lemoe_state_count(state, "training.pass", &t->pass, INT64_MAX));
    LEMOE_TRY(lemoe_state_count(state, "training.seen", &t->seen, t->args->batch->n_items));
    LEMOE_TRY(lemoe_state_f64(state, "training.seen_loss", &t->seen_loss));
    return lemoe_adamw_visit(&t->adamw, lemoe_llama_device(t->model), t->args->params, t->args->n_params, state);
}

/* All minibatches once, or as many as max_steps allows; *loss: the mean over the edits seen, *complete: whether all
 * were. Goes on where the pass stands. */
static lemoe_status run_pass(training *t, double *loss, bool *complete) {
    const lemoe_step_log *log = t->args->log;
    int64_t n = t->args->batch->n_items;
    if (t->n_minibatch < n) shuffle(t, t->pass);
    while (t->seen < n && t->adamw.step < t->args->training->max_steps) {
        int64_t count = n - t->seen < t->n_minibatch ? n - t->seen : t->n_minibatch;
        double minibatch_loss = 0;
        LEMOE_TRY(update(t, t->items + t->seen, count, &minibatch_loss));
        t->seen_loss += minibatch_loss * (double)count;
        t->seen += count;
        if (log->between) LEMOE_TRY(log->between(log->context, visit_training, t));
    }
    *complete = t->seen == n;
    *loss = t->seen_loss / (double)(t->seen ? t->seen : 1);
    t->pass++;
    t->seen = 0;
    t->seen_loss = 0;
    return LEMOE_OK;
}

static lemoe_status run_passes(training *t) {
    const lemoe_training_config *c = t->args->training;
    while (t->adamw.step < c->max_steps) {
        double loss = 0;
        bool complete = false;
        LEMOE_TRY(run_pass(t, &loss, &complete));
        if (complete && loss < c->stop_loss) return LEMOE_OK;
    }
    return LEMOE_OK;
}

lemoe_status lemoe_train_batch(const lemoe_train_args *args) {
    const lemoe_training_config *c = args->training;
    training t = {.args = args, .context = args->context, .model = args->context->model};
    lemoe_status status = LEMOE_OK;
    int64_t n = args->batch->n_items;
    t.n_minibatch = c->minibatch > 0 && c->minibatch < n ? c->minibatch : n;
    LEMOE_TRY_GOTO(lemoe_mem_alloc(n, sizeof *t.items, &t.items));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(n, sizeof *t.order, &t.order));
    memcpy(t.items, args->batch->items, (size_t)n * sizeof *t.items);
    LEMOE_TRY_GOTO(lemoe_adamw_begin(&t.adamw, c->lr, c->weight_decay, c->clip, args->context->batch_arena,
                                     args->params, args->n_params));
    if (args->batch->resume) LEMOE_TRY_GOTO(visit_training(&t, args->batch->resume));
    LEMOE_TRY_GOTO(make_room_to_hold(&t));
    t.captures = can_replay(&t);
    LEMOE_TRY_GOTO(run_passes(&t));
out:
    lemoe_mem_free(t.items);
    lemoe_mem_free(t.order);
    destroy_held(&t);
    return status;
}

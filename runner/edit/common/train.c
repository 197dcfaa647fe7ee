#include "runner/edit/common/train.h"

#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "kernels/base/rng.h"

#include <math.h>
#include <string.h>

/* A micro-batch ready to run: its pack and the weight of each target in the loss. */
typedef struct micro {
    lemoe_pack pack;
    lemoe_tensor weight;       /* [n_target] 1 / (edits of the minibatch * targets of the edit) */
    float *host_weight;        /* the same */
    lemoe_llama_output output; /* of the forward under way */
    int64_t n_run;             /* how often it was computed so far */
    lemoe_graph *graph;        /* what is replayed of it, once that is captured */
    size_t place;              /* where the step arena stood then */
    bool has_no_room;          /* on the device, for that graph */
} micro;

/* What an update is computed on: the same edits in every pass, so its micro-batches are built once, when it is first
 * reached: not every one is. */
typedef struct minibatch {
    const lemoe_item *items; /* [n] */
    int64_t n;
    micro *micros;
    int64_t n_micro, capacity;
} minibatch;

/* Graphs take memory of the device that nobody plans, about as much as a few thousand launches' arguments each. */
enum { MOST_GRAPHS = 256 };

typedef struct training {
    const lemoe_train_args *args;
    const lemoe_editor_context *context;
    lemoe_llama *model;
    lemoe_adamw adamw;
    lemoe_item *items; /* the batch, minibatch by minibatch */
    minibatch *minibatches;
    int64_t n_minibatch, *order; /* [n_minibatch] of this pass */
    int64_t pass, done;          /* where it is: minibatches of this pass that were in an update, */
    double seen_loss;            /* and the sum of their edits' losses */
    bool captures;               /* micro-batches are replayed from the device's own record of them */
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

static lemoe_status build_micro(const training *t, const lemoe_item *items, int64_t n, int64_t n_minibatch,
                                micro *out) {
    lemoe_arena *arena = t->context->batch_arena;
    LEMOE_TRY(lemoe_pack_build(arena, items, n, lemoe_llama_config_of(t->model)->d_model, &out->pack));
    LEMOE_TRY(target_weights(arena, n_minibatch, out));
    return lemoe_llama_hold(t->model, &out->pack, lemoe_llama_cut(t->model), arena, t->context->step_arena);
}

static lemoe_status build_minibatch(const training *t, minibatch *b) {
    for (int64_t begin = 0, end; begin < b->n; begin = end) {
        end = lemoe_pack_split(b->items, b->n, begin, t->context->micro_batch_tokens);
        LEMOE_TRY(lemoe_mem_grow(&b->micros, &b->capacity, b->n_micro + 1, sizeof *b->micros));
        micro *m = &b->micros[b->n_micro++];
        *m = (micro){0};
        LEMOE_TRY(build_micro(t, b->items + begin, end - begin, b->n, m));
    }
    return LEMOE_OK;
}

static int64_t count_packs(const training *t) {
    int64_t n = 0;
    for (int64_t i = 0; i < t->n_minibatch; i++) {
        const minibatch *b = &t->minibatches[i];
        for (int64_t begin = 0; begin < b->n; n++)
            begin = lemoe_pack_split(b->items, b->n, begin, t->context->micro_batch_tokens);
    }
    return n;
}

/* Whether micro-batches can be replayed, as far as they do not need the host: there are passes to gain by. */
static bool can_replay(const training *t) {
    return !t->context->launches_plainly && t->args->training->max_steps > 2 * t->n_minibatch &&
           count_packs(t) <= MOST_GRAPHS && lemoe_device_can_capture(lemoe_llama_device(t->model)) &&
           lemoe_comm_stays_on_device(lemoe_llama_comm(t->model));
}

/* Once a batch. */
static void tell_of_launches(const training *t) {
    int64_t n_micro = 0, n_launched = 0;
    for (int64_t i = 0; i < t->n_minibatch && t->minibatches; i++)
        for (int64_t j = 0; j < t->minibatches[i].n_micro; j++, n_micro++)
            n_launched += t->minibatches[i].micros[j].has_no_room;
    if (n_launched > 0)
        lemoe_log(LEMOE_LOG_WARN,
                  "batch %lld: the GPU has no room for the graphs of %lld of %lld micro-batches, which are launched "
                  "instead: the same numbers, later",
                  (long long)t->args->batch->index + 1, (long long)n_launched, (long long)n_micro);
}

static void destroy_minibatches(training *t) {
    for (int64_t i = 0; i < t->n_minibatch && t->minibatches; i++) {
        minibatch *b = &t->minibatches[i];
        for (int64_t j = 0; j < b->n_micro; j++) lemoe_graph_destroy(lemoe_llama_device(t->model), b->micros[j].graph);
        lemoe_mem_free(b->micros);
    }
    lemoe_mem_free(t->minibatches);
}

/* ---- one update ---- */

/* Sum of weight * nll over the targets of a micro-batch that was computed: its share of the minibatch's loss. */
static lemoe_status share_of_loss(const training *t, const micro *m, double *loss) {
    int64_t n = m->pack.n_target;
    float *nll = NULL;
    LEMOE_TRY(lemoe_mem_alloc(n, sizeof *nll, &nll));
    lemoe_status status = lemoe_llama_held_nll(t->model, &m->pack, nll);
    for (int64_t i = 0; i < n && status == LEMOE_OK; i++) *loss += (double)nll[i] * (double)m->host_weight[i];
    lemoe_mem_free(nll);
    return status;
}

/* What is done for a micro-batch, or for what lies above the block at the cut. */
typedef lemoe_status (*micro_work)(const training *t, micro *m);

static lemoe_status run_above(const training *t, micro *m) {
    return lemoe_llama_above_cut(t->model, &m->pack, &m->output, m->weight, t->context->step_arena);
}

/* Forward and backward; the loss is read afterwards. */
static lemoe_status run_around(const training *t, micro *m, micro_work above) {
    lemoe_arena *arena = t->context->step_arena;
    size_t mark = lemoe_arena_mark(arena);
    LEMOE_TRY(lemoe_llama_forward_cut(t->model, &m->pack, lemoe_llama_cut(t->model), arena, &m->output));
    LEMOE_TRY(above(t, m));
    LEMOE_TRY(lemoe_llama_backward_cut(t->model, &m->pack, &m->output, arena));
    lemoe_arena_reset(arena, mark);
    return LEMOE_OK;
}

static lemoe_status run_plainly(const training *t, micro *m) { return run_around(t, m, run_above); }

/* Records work without doing it. Whatever happens, the recording ends; the first failure is reported. */
static lemoe_status capture(const training *t, micro *m, micro_work work) {
    lemoe_device *device = lemoe_llama_device(t->model);
    char *message = NULL;
    LEMOE_TRY(lemoe_device_capture_begin(device));
    lemoe_status status = work(t, m);
    if (status != LEMOE_OK && lemoe_mem_strdup(lemoe_error_message(), &message) != LEMOE_OK) message = NULL;
    lemoe_status ended = lemoe_device_capture_end(device, &m->graph);
    if (status != LEMOE_OK && message) status = lemoe_raise(status, "%s", message);
    lemoe_mem_free(message);
    return status != LEMOE_OK ? status : ended;
}

/* What graphs take is not planned, since only the device knows it: one that has no room for another is no failure. The
 * work is launched, for the same bits, and peers do not notice which of the two a rank does. */
static lemoe_status capture_where_room_is(const training *t, micro *m, micro_work work) {
    lemoe_status status = capture(t, m, work);
    if (status != LEMOE_ERR_NOMEM) return status;
    m->has_no_room = true;
    lemoe_error_clear();
    return LEMOE_OK;
}

/* What was captured uses the arena from where it stood: a bypass takes as much every time, so that in an arena of one
 * piece this is always the same place. */
static lemoe_status replay(const training *t, micro *m, micro_work work) {
    size_t place = lemoe_arena_mark(t->context->step_arena);
    if (!m->graph && !m->has_no_room) {
        LEMOE_TRY(capture_where_room_is(t, m, work));
        m->place = place;
    }
    bool is_there = m->graph && place == m->place;
    return is_there ? lemoe_graph_replay(lemoe_llama_device(t->model), m->graph) : work(t, m);
}

static lemoe_status replay_above(const training *t, micro *m) { return replay(t, m, run_above); }

/* The first time a micro-batch runs plainly, which makes all the room it needs; then it is captured, and from then on
 * one replay does what hundreds of launches did. Where the block at the cut needs the host, that one is left out. */
static lemoe_status run_micro(const training *t, micro *m) {
    if (!t->captures || m->n_run++ == 0) return run_plainly(t, m);
    if (m->pack.without_host) return replay(t, m, run_plainly);
    return m->pack.above_without_host ? run_around(t, m, replay_above) : run_plainly(t, m);
}

static lemoe_status accumulate(const training *t, minibatch *b, double *loss) {
    if (b->n_micro == 0) LEMOE_TRY(build_minibatch(t, b));
    for (int64_t i = 0; i < b->n_micro; i++) LEMOE_TRY(run_micro(t, &b->micros[i]));
    for (int64_t i = 0; i < b->n_micro; i++) LEMOE_TRY(share_of_loss(t, &b->micros[i], loss));
    return LEMOE_OK;
}

/* Loss and norm are equal on all ranks, so all of them leave here together or not at all. */
static lemoe_status check_finite(const training *t, double loss, double grad_norm) {
    LEMOE_CHECK(isfinite(loss) && isfinite(grad_norm), LEMOE_ERR_NUMERIC,
                "batch %lld, update %lld: the loss is %g and the gradient norm %g; a smaller lr, or clip, may help",
                (long long)t->args->batch->index, (long long)t->adamw.step, loss, grad_norm);
    return LEMOE_OK;
}

static lemoe_status begin_update(const training *t, const minibatch *b) {
    const lemoe_train_args *a = t->args;
    LEMOE_TRY(lemoe_adamw_zero_grad(t->context->batch_arena, a->params, a->n_params));
    return a->begin_minibatch ? a->begin_minibatch(a->editor, b->items, b->n) : LEMOE_OK;
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
static lemoe_status update(training *t, minibatch *b, double *loss) {
    const lemoe_train_args *a = t->args;
    lemoe_comm *comm = lemoe_llama_comm(t->model);
    double began = lemoe_clock_seconds(), grad_norm = 0;
    int64_t n_tok = 0;
    *loss = 0;
    for (int64_t i = 0; i < b->n; i++) n_tok += b->items[i].n_tok;
    LEMOE_TRY(lemoe_comm_agree(comm, begin_update(t, b)));
    LEMOE_TRY(lemoe_comm_keep_step(comm, accumulate(t, b, loss)));
    LEMOE_TRY(lemoe_adamw_update(&t->adamw, lemoe_llama_device(t->model), comm, a->params, a->n_params, &grad_norm));
    LEMOE_TRY(check_finite(t, *loss, grad_norm));
    lemoe_step_record record = {a->batch->index, *loss, grad_norm, lemoe_clock_seconds() - began, n_tok};
    return lemoe_comm_agree(comm, end_update(t, &record));
}

/* ---- passes ---- */

/* Drawn by (seed, batch, stream): no state, so any step can be found again. */
static void draw(const training *t, uint32_t stream, int64_t n, int64_t *permutation) {
    uint64_t seed = t->context->config->seed ^ (uint64_t)(t->args->batch->index + 1) << 32;
    lemoe_rng_permutation(lemoe_rng_make(seed, LEMOE_RNG_MINIBATCH, stream), n, permutation);
}

/* The batch in minibatches of `size` edits, the last one smaller; which edits are together is drawn once. */
static lemoe_status divide(training *t, int64_t size) {
    const lemoe_edit_batch *batch = t->args->batch;
    int64_t n = batch->n_items, *drawn = NULL;
    LEMOE_TRY(lemoe_mem_alloc(n, sizeof *drawn, &drawn));
    if (size > 1 && size < n)
        draw(t, UINT32_MAX, n, drawn);
    else
        for (int64_t i = 0; i < n; i++) drawn[i] = i;
    for (int64_t i = 0; i < n; i++) t->items[i] = batch->items[drawn[i]];
    lemoe_mem_free(drawn);
    for (int64_t i = 0; i < t->n_minibatch; i++) {
        int64_t first = i * size;
        t->minibatches[i] = (minibatch){.items = t->items + first, .n = n - first < size ? n - first : size};
    }
    return LEMOE_OK;
}

static lemoe_status open_minibatches(training *t) {
    int64_t n = t->args->batch->n_items, wanted = t->args->training->minibatch;
    int64_t size = wanted > 0 && wanted < n ? wanted : n;
    t->n_minibatch = (n + size - 1) / size;
    LEMOE_TRY(lemoe_mem_alloc(n, sizeof *t->items, &t->items));
    LEMOE_TRY(lemoe_mem_alloc(t->n_minibatch, sizeof *t->minibatches, &t->minibatches));
    LEMOE_TRY(lemoe_mem_alloc(t->n_minibatch, sizeof *t->order, &t->order));
    return divide(t, size);
}

static lemoe_status visit_training(void *object, lemoe_state *state) {
    training *t = object;
    LEMOE_TRY(lemoe_state_count(state, "training.pass", &t->pass, INT64_MAX));
    LEMOE_TRY(lemoe_state_count(state, "training.done", &t->done, t->n_minibatch));
    LEMOE_TRY(lemoe_state_f64(state, "training.seen_loss", &t->seen_loss));
    return lemoe_adamw_visit(&t->adamw, lemoe_llama_device(t->model), t->args->params, t->args->n_params, state);
}

/* All minibatches once, in an order of this pass's own, or as many as max_steps allows; *loss: the mean over the edits
 * seen, *complete: whether all were. Goes on where the pass stands. */
static lemoe_status run_pass(training *t, double *loss, bool *complete) {
    const lemoe_step_log *log = t->args->log;
    int64_t n_seen = 0;
    draw(t, (uint32_t)t->pass, t->n_minibatch, t->order);
    for (int64_t i = 0; i < t->done; i++) n_seen += t->minibatches[t->order[i]].n;
    while (t->done < t->n_minibatch && t->adamw.step < t->args->training->max_steps) {
        minibatch *b = &t->minibatches[t->order[t->done]];
        double minibatch_loss = 0;
        LEMOE_TRY(update(t, b, &minibatch_loss));
        t->seen_loss += minibatch_loss * (double)b->n;
        n_seen += b->n;
        t->done++;
        if (log->between) LEMOE_TRY(log->between(log->context, visit_training, t));
    }
    *complete = t->done == t->n_minibatch;
    *loss = t->seen_loss / (double)(n_seen ? n_seen : 1);
    t->pass++;
    t->done = 0;
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
    LEMOE_TRY_GOTO(open_minibatches(&t));
    LEMOE_TRY_GOTO(lemoe_adamw_begin(&t.adamw, c->lr, c->weight_decay, c->clip, args->context->batch_arena,
                                     args->params, args->n_params));
    if (args->batch->resume) LEMOE_TRY_GOTO(visit_training(&t, args->batch->resume));
    t.captures = can_replay(&t);
    LEMOE_TRY_GOTO(run_passes(&t));
out:
    tell_of_launches(&t);
    destroy_minibatches(&t);
    lemoe_mem_free(t.items);
    lemoe_mem_free(t.order);
    return status;
}

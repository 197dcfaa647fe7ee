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
} micro;

typedef struct training {
    const lemoe_train_args *args;
    const lemoe_editor_context *context;
    lemoe_llama *model;
    lemoe_adamw adamw;
    lemoe_item *items;   /* the batch in the order of this pass */
    int64_t pass, seen;  /* where it is: edits of this pass that were in an update, */
    double seen_loss;    /* and the sum of their losses */
    int64_t n_minibatch; /* edits of a full minibatch */
    micro *whole_batch;  /* minibatch 0: packs are the same in every step, so they are built once */
    int64_t n_whole_batch;
} training;

/* ---- micro-batches ---- */

static lemoe_status target_weights(lemoe_arena *arena, const lemoe_pack *pack, int64_t n_items, lemoe_tensor *out) {
    float *weight = NULL;
    LEMOE_TRY(lemoe_mem_alloc(pack->n_target, sizeof *weight, &weight));
    for (int64_t s = 0; s < pack->n_seq; s++) {
        int64_t first = pack->target_start[s], n = pack->target_start[s + 1] - first;
        for (int64_t t = 0; t < n; t++) weight[first + t] = (float)(1.0 / ((double)n_items * (double)n));
    }
    lemoe_status status = lemoe_arena_vector(arena, LEMOE_F32, pack->n_target, out);
    if (status == LEMOE_OK)
        status = lemoe_device_upload(lemoe_arena_device(arena), out->data, weight, lemoe_tensor_bytes(out));
    lemoe_mem_free(weight);
    return status;
}

static lemoe_status build_micro(const training *t, lemoe_arena *arena, const lemoe_item *items, int64_t n,
                                int64_t n_minibatch, micro *out) {
    LEMOE_TRY(lemoe_pack_build(arena, items, n, lemoe_llama_config_of(t->model)->d_model, &out->pack));
    return target_weights(arena, &out->pack, n_minibatch, &out->weight);
}

static lemoe_status build_whole_batch(training *t) {
    const lemoe_item *items = t->items;
    int64_t n = t->args->batch->n_items, budget = t->context->micro_batch_tokens, capacity = 0;
    for (int64_t begin = 0, end; begin < n; begin = end) {
        end = lemoe_pack_split(items, n, begin, budget);
        LEMOE_TRY(lemoe_mem_grow(&t->whole_batch, &capacity, t->n_whole_batch + 1, sizeof *t->whole_batch));
        micro *m = &t->whole_batch[t->n_whole_batch];
        LEMOE_TRY(build_micro(t, t->context->batch_arena, items + begin, end - begin, n, m));
        LEMOE_TRY(lemoe_llama_hold_ffn(t->model, &m->pack, lemoe_llama_cut(t->model), t->context->batch_arena,
                                       t->context->step_arena));
        t->n_whole_batch++;
    }
    return LEMOE_OK;
}

/* ---- one update ---- */

/* Sum of weight * nll over the targets of a micro-batch: its share of the minibatch's loss. */
static lemoe_status share_of_loss(lemoe_device *device, const micro *m, const lemoe_llama_output *output,
                                  double *loss) {
    lemoe_status status = LEMOE_OK;
    int64_t n = m->pack.n_target;
    float *values = NULL;
    LEMOE_TRY(lemoe_mem_alloc(2 * n, sizeof *values, &values));
    LEMOE_TRY_GOTO(lemoe_device_download(device, values, output->nll.data, (size_t)n * sizeof *values));
    LEMOE_TRY_GOTO(lemoe_device_download(device, values + n, m->weight.data, (size_t)n * sizeof *values));
    for (int64_t i = 0; i < n; i++) *loss += (double)values[i] * (double)values[n + i];
out:
    lemoe_mem_free(values);
    return status;
}

static lemoe_status run_micro(const training *t, const micro *m, double *loss) {
    lemoe_arena *arena = t->context->step_arena;
    size_t mark = lemoe_arena_mark(arena);
    lemoe_llama_output output;
    lemoe_tensor no_cut = {0};
    LEMOE_TRY(lemoe_llama_forward(t->model, &m->pack, lemoe_llama_cut(t->model), true, arena, &output));
    LEMOE_TRY(share_of_loss(lemoe_llama_device(t->model), m, &output, loss));
    LEMOE_TRY(lemoe_llama_backward(t->model, &m->pack, &output, m->weight, arena, no_cut));
    lemoe_arena_reset(arena, mark);
    return LEMOE_OK;
}

static lemoe_status accumulate(const training *t, const lemoe_item *items, int64_t n, double *loss, int64_t *n_tok) {
    lemoe_arena *arena = t->context->step_arena;
    for (int64_t i = 0; i < n; i++) *n_tok += items[i].n_tok;
    for (int64_t i = 0; i < t->n_whole_batch; i++) LEMOE_TRY(run_micro(t, &t->whole_batch[i], loss));
    if (t->n_whole_batch) return LEMOE_OK;
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
static lemoe_status shuffle(training *t, int64_t pass) {
    const lemoe_edit_batch *batch = t->args->batch;
    int64_t *order = NULL;
    LEMOE_TRY(lemoe_mem_alloc(batch->n_items, sizeof *order, &order));
    uint64_t seed = t->context->config->seed ^ (uint64_t)(batch->index + 1) << 32;
    lemoe_rng_permutation(lemoe_rng_make(seed, LEMOE_RNG_MINIBATCH, (uint32_t)pass), batch->n_items, order);
    for (int64_t i = 0; i < batch->n_items; i++) t->items[i] = batch->items[order[i]];
    lemoe_mem_free(order);
    return LEMOE_OK;
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
    if (t->n_minibatch < n) LEMOE_TRY(shuffle(t, t->pass));
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
    memcpy(t.items, args->batch->items, (size_t)n * sizeof *t.items);
    LEMOE_TRY_GOTO(lemoe_adamw_begin(&t.adamw, c->lr, c->weight_decay, c->clip, args->context->batch_arena,
                                     args->params, args->n_params));
    if (args->batch->resume) LEMOE_TRY_GOTO(visit_training(&t, args->batch->resume));
    if (t.n_minibatch == n) LEMOE_TRY_GOTO(build_whole_batch(&t));
    LEMOE_TRY_GOTO(run_passes(&t));
out:
    lemoe_mem_free(t.items);
    lemoe_mem_free(t.whole_batch);
    return status;
}

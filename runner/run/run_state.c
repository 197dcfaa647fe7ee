/*
 * What a run consists of when it is saved: where it stands, the pristine model's predictions, routes in training, the
 * editor, the training under way. And when: after every batch, on a signal, and every checkpoint.every_seconds.
 */
#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "runner/io/signals.h"
#include "runner/run/run_internal.h"
#include "runner/run/run_plan.h"

#include <stdio.h>
#include <string.h>
#include <xxhash.h>

double run_batch_seconds(const run *r) { return r->batch_earlier + lemoe_clock_seconds() - r->batch_began; }

/* ---- what has to be equal ---- */

/* "name x4, other x2" without the names: on which nodes a team runs changes nothing, how it lies on them may. */
static void layout_of(const char *hosts, char *out, size_t n_bytes) {
    size_t n = 0;
    bool is_count = false;
    for (const char *at = hosts; *at && n + 1 < n_bytes; at++) {
        if (at[0] == ' ' && at[1] == 'x') is_count = true;
        if (is_count) out[n++] = *at;
        if (*at == ',') is_count = false;
    }
    out[n] = '\0';
}

static uint64_t plan_hash(const lemoe_plan *plan) {
    size_t n_bytes = (size_t)plan->n_edit * sizeof *plan->edit;
    return XXH3_64bits_withSeed(plan->edit, n_bytes, XXH3_64bits(plan->batch, n_bytes));
}

/* Bits repeat within a domain only (docs/design.md 7), so a checkpoint is good there and nowhere else. */
static lemoe_status visit_domain(const run *r, lemoe_state *state) {
    char team[96], layout[512], plan[24];
    lemoe_comm *comm = r->world->comm;
    (void)snprintf(team, sizeof team, "rank %d of %d", lemoe_comm_rank(comm), lemoe_comm_size(comm));
    (void)snprintf(plan, sizeof plan, "%016llx", (unsigned long long)plan_hash(r->stream.plan));
    layout_of(r->hosts, layout, sizeof layout);
    LEMOE_TRY(lemoe_state_same(state, "identity", r->args->identity));
    LEMOE_TRY(lemoe_state_same(state, "team", team));
    LEMOE_TRY(lemoe_state_same(state, "domain", r->world->domain));
    LEMOE_TRY(lemoe_state_same(state, "layout", layout));
    return lemoe_state_same(state, "plan", plan);
}

/* ---- what is saved ---- */

static lemoe_status visit_position(run *r, lemoe_state *state) {
    double seconds = run_batch_seconds(r);
    LEMOE_TRY(lemoe_state_count(state, "batch", &r->position.batch, r->context.n_batch - 1));
    LEMOE_TRY(lemoe_state_bool(state, "is_trained", &r->position.is_trained));
    LEMOE_TRY(lemoe_state_count(state, "steps", &r->n_step, INT64_MAX));
    LEMOE_TRY(lemoe_state_count(state, "batch_tokens", &r->batch_tokens, INT64_MAX));
    LEMOE_TRY(lemoe_state_count(state, "batch_steps", &r->batch_steps, INT64_MAX));
    LEMOE_TRY(lemoe_state_f64(state, "last_loss", &r->last_loss));
    LEMOE_TRY(lemoe_state_f64(state, "batch_seconds", &seconds));
    if (lemoe_state_is_loading(state)) r->batch_earlier = seconds;
    return LEMOE_OK;
}

/* The training under way comes last: it is loaded later, by whoever trains. */
static lemoe_status visit_run(void *context, lemoe_state *state) {
    run *r = context;
    LEMOE_TRY(visit_domain(r, state));
    LEMOE_TRY(visit_position(r, state));
    LEMOE_TRY(lemoe_state_part(state, "pristine", true, lemoe_evaluator_visit, r->evaluator));
    if (r->routing) LEMOE_TRY(lemoe_routing_visit(r->routing, state));
    if (r->ops->visit) LEMOE_TRY(r->ops->visit(r->editor, state));
    if (lemoe_state_is_loading(state) || r->position.is_trained) return LEMOE_OK;
    return r->visit_training(r->training, state);
}

static lemoe_status save(run *r) {
    if (!r->checkpoints.path) return LEMOE_OK; /* gone through for its memory only: nothing lasts */
    LEMOE_TRY(lemoe_checkpoints_save(&r->checkpoints, visit_run, r));
    r->next_checkpoint = lemoe_clock_seconds() + r->config->checkpoint.every_seconds;
    return LEMOE_OK;
}

/* ---- when ---- */

/* Collective. What one rank wants, all do: clocks differ, and mpirun hands signals to the ranks one by one. */
static lemoe_status ask(run *r, bool *is_due) {
    int32_t wish[2] = {r->is_first && lemoe_clock_seconds() >= r->next_checkpoint, lemoe_signals_pending()};
    LEMOE_TRY(lemoe_comm_allreduce_max(r->world->comm, lemoe_tensor_1d(wish, LEMOE_I32, 2)));
    *is_due = wish[0] != 0;
    r->is_interrupted = wish[1] != 0;
    if (r->is_interrupted) lemoe_signals_note(wish[1]);
    return LEMOE_OK;
}

static lemoe_status stop_if_asked(const run *r) {
    LEMOE_CHECK(!r->is_interrupted, LEMOE_ERR_INTERRUPTED, "interrupted by signal %d at batch %lld of %lld",
                lemoe_signals_pending(), (long long)r->position.batch + 1, (long long)r->context.n_batch);
    return LEMOE_OK;
}

lemoe_status run_check_signals(void *context) {
    run *r = context;
    bool is_due = false;
    LEMOE_TRY(ask(r, &is_due));
    return stop_if_asked(r);
}

lemoe_status run_between_updates(void *context, lemoe_state_visit visit, void *training) {
    run *r = context;
    bool is_due = false;
    LEMOE_TRY(ask(r, &is_due));
    if (!is_due && !r->is_interrupted) return LEMOE_OK;
    r->position.is_trained = false;
    r->visit_training = visit;
    r->training = training;
    LEMOE_TRY(save(r));
    return stop_if_asked(r);
}

lemoe_status run_save_trained(run *r, int64_t batch) {
    bool was_loaded = r->loaded && r->position.batch == batch && r->position.is_trained;
    r->position = (run_position){batch, true};
    if (!was_loaded) LEMOE_TRY(save(r));
    return run_check_signals(r);
}

/* ---- going on ---- */

/* As new, after a load that broke off half-way. */
static lemoe_status reset(void *context) {
    run *r = context;
    lemoe_routing_destroy(r->routing);
    lemoe_evaluator_destroy(r->evaluator);
    r->routing = NULL;
    r->evaluator = NULL;
    r->ops->close(r->editor);
    r->editor = NULL;
    LEMOE_TRY(lemoe_comm_agree(r->world->comm, lemoe_llama_seams_clear(r->world->model)));
    r->position = (run_position){0};
    r->n_step = r->batch_tokens = r->batch_steps = 0;
    r->batch_earlier = 0;
    LEMOE_TRY(run_open_editor(r));
    return run_create_evaluators(r);
}

static void tell_where(const run *r) {
    if (r->is_first)
        lemoe_log(LEMOE_LOG_INFO, "%s: goes on from checkpoint %lld, batch %lld of %lld, update %lld", r->args->run_id,
                  (long long)r->checkpoints.kept[0], (long long)r->position.batch + 1, (long long)r->context.n_batch,
                  (long long)r->n_step);
}

lemoe_status run_resume(run *r) {
    char *path = NULL;
    lemoe_checkpoints_target target = {visit_run, reset, r};
    LEMOE_TRY(lemoe_comm_agree(r->world->comm,
                               lemoe_mem_printf(&path, "%s/runs/%s", r->args->output_folder, r->args->run_id)));
    lemoe_status status = lemoe_checkpoints_open(r->world->comm, path, r->results, &r->checkpoints);
    lemoe_mem_free(path);
    LEMOE_TRY(status);
    LEMOE_TRY(lemoe_checkpoints_load(&r->checkpoints, &target, &r->loaded));
    r->next_checkpoint = lemoe_clock_seconds() + r->config->checkpoint.every_seconds;
    if (!r->loaded) {
        lemoe_checkpoints_clear(&r->checkpoints);
        return LEMOE_OK;
    }
    for (int64_t n_done = 1; n_done <= r->position.batch; n_done++) r->n_milestone += run_is_milestone(r, n_done);
    r->progress.n_batch_done = r->position.batch;
    tell_where(r);
    return LEMOE_OK;
}

/* ---- a run that has ended ---- */

lemoe_status lemoe_run_tidy(const char *output_folder, const char *run_id, bool is_complete) {
    lemoe_status status = LEMOE_OK;
    char *folder = NULL, *journal = NULL, *h5 = NULL;
    LEMOE_TRY_GOTO(lemoe_mem_printf(&folder, "%s/runs/%s", output_folder, run_id));
    LEMOE_TRY_GOTO(lemoe_mem_printf(&journal, "%s.journal", folder));
    LEMOE_TRY_GOTO(lemoe_mem_printf(&h5, "%s.h5", folder));
    if (is_complete) {
        lemoe_checkpoints_remove(folder);
        lemoe_run_plan_remove(output_folder, run_id);
    }
    LEMOE_TRY_GOTO(lemoe_results_publish_if_older(journal, h5));
out:
    lemoe_mem_free(folder);
    lemoe_mem_free(journal);
    lemoe_mem_free(h5);
    return status;
}

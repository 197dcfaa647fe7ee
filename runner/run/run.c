/*
 * One run from beginning to end. Reading order: lemoe_run_execute at the bottom names the steps; each is a function
 * above it, in the same order.
 */
#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "kernels/planning.h"
#include "runner/edit/edit_loop.h"
#include "runner/io/file.h"
#include "runner/io/signals.h"
#include "runner/run/run_internal.h"
#include "runner/run/run_log.h"
#include "runner/run/run_memory.h"
#include "runner/run/run_plan.h"
#include "runner/run/run_record.h"

#include <math.h>

static const double commit_seconds = 2, tick_seconds = 1; /* of the journal; of lease and commit */

/* Of arenas; on a GPU small, since only what an editor opens with is asked for before all is planned. */
enum { BLOCK_BYTES = 16 << 20, GPU_BLOCK_BYTES = 2 << 20, AUTO_MICRO_BATCH_TOKENS = 2048 };

static lemoe_status agree(const run *r, lemoe_status local) { return lemoe_comm_agree(r->world->comm, local); }

lemoe_run_demand run_demand(const run *r) {
    if (!r->step_arena) return (lemoe_run_demand){0};
    return (lemoe_run_demand){
        (int64_t)lemoe_arena_peak_bytes(r->run_arena), (int64_t)lemoe_arena_peak_bytes(r->batch_arena),
        (int64_t)lemoe_arena_peak_bytes(r->step_arena), (int64_t)lemoe_device_workspace_bytes(r->world->device)};
}

static int64_t peak_bytes(const run *r) {
    lemoe_run_demand demand = run_demand(r);
    return lemoe_run_demand_bytes(&demand);
}

/* Tells whoever asked how far the run is; phase NULL: as before. */
static void tell(run *r, const char *phase) {
    if (phase) r->progress.phase = phase;
    if (!r->args->report) return;
    r->progress.n_batch = r->context.n_batch;
    r->progress.peak_bytes = peak_bytes(r);
    r->progress.planned_bytes = lemoe_run_demand_bytes(&r->planned);
    r->args->report(r->args->report_context, &r->progress);
}

/* ---- 1. the editor registers its seams, which gives the cut ---- */

static size_t block_bytes_on(const lemoe_device *device) {
    if (lemoe_device_is_planning(device)) return LEMOE_PLANNING_BLOCK_BYTES;
    return lemoe_device_is_host(device) ? BLOCK_BYTES : GPU_BLOCK_BYTES;
}

static lemoe_status create_arenas(run *r) {
    lemoe_device *device = r->world->device;
    size_t block_bytes = block_bytes_on(device);
    if (r->step_arena) { /* opened before: a checkpoint could not be loaded */
        lemoe_arena_reset(r->run_arena, 0);
        lemoe_arena_reset(r->batch_arena, 0);
        return LEMOE_OK;
    }
    LEMOE_TRY(lemoe_arena_create(device, block_bytes, &r->run_arena));
    LEMOE_TRY(lemoe_arena_create(device, block_bytes, &r->batch_arena));
    return lemoe_arena_create(device, block_bytes, &r->step_arena);
}

static lemoe_status open_editor_here(run *r) {
    int64_t n_edit = r->world->stream->n_edit;
    int64_t size = r->config->edit.batch_size < n_edit ? r->config->edit.batch_size : n_edit;
    int64_t micro = r->config->parallel.micro_batch_tokens;
    r->ops = lemoe_editor_find(r->config->edit.method);
    LEMOE_CHECK(r->ops, LEMOE_ERR_CONFIG, "edit.method: there is no editor '%s'", r->config->edit.method);
    LEMOE_TRY(create_arenas(r));
    r->context = (lemoe_editor_context){.config = r->config,
                                        .model = r->world->model,
                                        .run_arena = r->run_arena,
                                        .batch_arena = r->batch_arena,
                                        .step_arena = r->step_arena,
                                        .n_batch = (n_edit + size - 1) / size,
                                        .batch_size = size,
                                        .micro_batch_tokens = micro ? micro : AUTO_MICRO_BATCH_TOKENS,
                                        .tick = r->world->tick};
    lemoe_status status = r->ops->open(&r->context, &r->editor);
    if (status == LEMOE_ERR_NOMEM && !lemoe_device_is_host(r->world->device))
        lemoe_error_prefix("%s has no room on the GPU beside the model; raise parallel.tensor on more devices",
                           r->config->edit.method);
    return status;
}

lemoe_status run_open_editor(run *r) { return agree(r, open_editor_here(r)); }

/* ---- 2. the stream: prefix rows at the cut, plan, items in editing order ---- */

static lemoe_status open_stream(run *r) {
    lemoe_status status = LEMOE_OK;
    char *cache = NULL;
    const lemoe_item *items = NULL;
    if (r->config->cache.disk) {
        LEMOE_TRY(agree(r, lemoe_file_join(r->args->output_folder, "cache", &cache)));
        LEMOE_TRY_GOTO(agree(r, r->is_first ? lemoe_file_make_folders(cache) : LEMOE_OK));
    }
    LEMOE_TRY_GOTO(
        lemoe_world_items(r->world, lemoe_llama_cut(r->world->model), cache, r->config->cache.max_bytes, &items));
    LEMOE_TRY_GOTO(lemoe_run_stream_open(r->args, items, &r->stream));
out:
    lemoe_mem_free(cache);
    return status;
}

/* ---- 3. results: journal, provenance, stream, plan ---- */

static int64_t milestone_count(const run *r) {
    int64_t wanted = r->config->eval.milestones, n = r->context.n_batch;
    return wanted < n ? wanted : n;
}

/* Spread evenly, the last batch always among them. */
bool run_is_milestone(const run *r, int64_t n_done) {
    int64_t n = r->context.n_batch, m = milestone_count(r);
    return m > 0 && n_done * m / n > (n_done - 1) * m / n;
}

/* Between packs, where a failure cannot be returned: some ranks would leave and others not. */
static void renew_lease(void *context) {
    run *r = context;
    if (r->sticky == LEMOE_OK) r->sticky = lemoe_results_tick(r->results);
    if (!lemoe_signals_pending() || r->has_hurried || r->sticky != LEMOE_OK) return;
    r->has_hurried = true; /* mpirun grants a few seconds after SIGTERM: what is there is made safe at once */
    r->sticky = lemoe_results_commit(r->results);
}

static lemoe_status open_results_here(run *r) {
    lemoe_status status = LEMOE_OK;
    char *folder = NULL;
    LEMOE_TRY_GOTO(lemoe_file_join(r->args->output_folder, "runs", &folder));
    LEMOE_TRY_GOTO(lemoe_file_make_folders(folder));
    lemoe_results_args args = {
        .folder = folder,
        .run_id = r->args->run_id,
        .axes = {.n_edit = r->stream.eval.n_edit,
                 .n_batch = r->context.n_batch,
                 .n_milestone = milestone_count(r),
                 .n_expert = r->ops->n_expert ? r->ops->n_expert(r->editor) : 0,
                 .n_locality = r->stream.eval.n_locality,
                 .locality_name = r->stream.eval.locality_name},
        .publish_seconds = r->config->output.publish_seconds,
        .identity = r->args->identity
    };
    LEMOE_TRY_GOTO(lemoe_results_open(&args, &r->results));
    LEMOE_TRY_GOTO(lemoe_run_log_open(r->args->output_folder, r->args->run_id, &r->log));
    LEMOE_TRY_GOTO(lemoe_tick_add(r->world->tick, tick_seconds, renew_lease, r));
out:
    lemoe_mem_free(folder);
    return status;
}

static lemoe_status create_evaluators_here(run *r) {
    lemoe_evaluator_args eval = {
        .scorer = {.model = r->world->model,
                   .cut = lemoe_llama_cut(r->world->model),
                   .pack_tokens = LEMOE_CANONICAL_PACK_TOKENS,
                   .arena = r->step_arena,
                   .tick = r->world->tick},
        .stream = &r->stream.eval,
        .results = r->results,
        .score_tok = r->config->eval.score_tok,
        .score_all = r->config->eval.score_all,
        .between = run_check_signals,
        .between_context = r
    };
    LEMOE_TRY(lemoe_evaluator_create(&eval, &r->evaluator));
    lemoe_routing_args routing = {r->ops, r->editor, &r->stream.eval, r->results};
    return r->is_first ? lemoe_routing_create(&routing, &r->routing) : LEMOE_OK;
}

lemoe_status run_create_evaluators(run *r) { return agree(r, create_evaluators_here(r)); }

/* What an earlier execution put stays when this one goes on from its checkpoint. */
static lemoe_status record(run *r) {
    lemoe_log(LEMOE_LOG_INFO, "%s: order of editing by planner %s, %s", r->args->run_id, r->config->order.planner,
              r->stream.plan_was_kept ? "prepared beforehand" : "worked out by the team");
    if (lemoe_comm_size(r->world->comm) > 1)
        lemoe_log(LEMOE_LOG_INFO, "%s: team of %d, reductions %s", r->args->run_id, lemoe_comm_size(r->world->comm),
                  lemoe_comm_transport_name(r->world->comm));
    LEMOE_TRY(r->loaded ? lemoe_results_go_on(r->results) : lemoe_results_start_over(r->results));
    LEMOE_TRY(lemoe_run_record_provenance(r->results, r->args, r->hosts));
    LEMOE_TRY(lemoe_run_record_stream(r->results, r->world, &r->stream));
    return lemoe_results_commit(r->results);
}

static lemoe_status open_results(run *r) {
    LEMOE_TRY(lemoe_run_hosts(r->world->comm, &r->hosts));
    LEMOE_TRY(agree(r, r->is_first ? open_results_here(r) : LEMOE_OK));
    LEMOE_TRY(run_create_evaluators(r));
    LEMOE_TRY(run_resume(r));
    return agree(r, r->is_first ? record(r) : LEMOE_OK);
}

/* ---- 4. memory: all that the run will take of a GPU, before it computes ---- */

/* Exactly, now that the order is known. Where addresses are limited it stays unknown: nothing depends on it. */
static lemoe_status plan_memory(run *r) {
    lemoe_run_memory memory;
    lemoe_run_memory_args args = {.config = r->config,
                                  .shape = lemoe_llama_config_of(r->world->model),
                                  .stream = r->world->stream,
                                  .plan = r->stream.plan,
                                  .tensor_parallel = lemoe_comm_size(r->world->comm),
                                  .like_host = lemoe_device_is_host(r->world->device)};
    if (!r->is_first) return LEMOE_OK;
    lemoe_status status = lemoe_run_plan_memory(&args, &memory);
    if (status == LEMOE_OK) r->planned = memory.demand;
    if (status != LEMOE_ERR_NOMEM) return status;
    lemoe_error_clear();
    return LEMOE_OK;
}

static lemoe_status reserve_memory(const run *r) {
    const lemoe_run_demand *d = &r->planned;
    lemoe_status status = lemoe_device_reserve_workspace(r->world->device, (size_t)d->workspace);
    if (status == LEMOE_OK) status = lemoe_arena_reserve(r->run_arena, (size_t)d->run_arena);
    if (status == LEMOE_OK) status = lemoe_arena_reserve(r->batch_arena, (size_t)d->batch_arena);
    if (status == LEMOE_OK) status = lemoe_arena_reserve(r->step_arena, (size_t)d->step_arena);
    if (status != LEMOE_OK)
        lemoe_error_prefix(
            "the run takes %lld MB of the GPU beside the model; raise parallel.tensor on more devices, or "
            "lower parallel.micro_batch_tokens",
            (long long)(lemoe_run_demand_bytes(d) >> 20));
    return status;
}

/* No update, and no collective of one, asks a GPU for memory afterwards. The CPU's is pages, taken as they are touched.
 */
static lemoe_status take_memory(run *r) {
    LEMOE_TRY(agree(r, plan_memory(r)));
    if (lemoe_device_is_host(r->world->device)) return LEMOE_OK;
    LEMOE_TRY(lemoe_comm_broadcast_bytes(r->world->comm, 0, &r->planned, sizeof r->planned));
    lemoe_device_release_workspace(r->world->device); /* which prefix rows needed */
    return agree(r, reserve_memory(r));
}

/* ---- 5. base: the pristine model under every metric, before anything acts on it ---- */

static void report(const run *r, const char *moment, const lemoe_eval_means *means) {
    if (r->is_first)
        lemoe_log(LEMOE_LOG_INFO, "%s: %s reliability %.3f generality %.3f locality %.3f", r->args->run_id, moment,
                  means->reliability, means->generality, means->locality);
}

lemoe_status run_score_base(run *r) {
    lemoe_eval_means means;
    if (r->loaded) return LEMOE_OK; /* its rows are in the journal, its predictions in the checkpoint */
    lemoe_llama_seams_set_active(r->world->model, false);
    LEMOE_TRY(agree(r, lemoe_evaluator_score(r->evaluator, LEMOE_MOMENT_BASE, 0, r->context.n_batch, &means)));
    lemoe_llama_seams_set_active(r->world->model, true);
    report(r, "unedited", &means);
    return agree(r, r->is_first ? lemoe_results_commit(r->results) : LEMOE_OK);
}

/* ---- 6. the edit loop: every update a row, every batch scored right after it ---- */

/* Rows count once they are committed: at batch ends, and every few seconds of training. */
static lemoe_status commit_if_due(run *r) {
    if (lemoe_clock_seconds() < r->next_commit) return LEMOE_OK;
    LEMOE_TRY(lemoe_results_commit(r->results));
    r->next_commit = lemoe_clock_seconds() + commit_seconds;
    return LEMOE_OK;
}

static lemoe_status log_step(void *context, const lemoe_step_record *record) {
    run *r = context;
    LEMOE_TRY(r->sticky);
    r->position.batch = record->batch;
    r->batch_tokens += record->n_tok;
    r->batch_steps++;
    r->last_loss = r->progress.loss = record->loss;
    r->progress.n_step++;
    r->progress.train_seconds += record->seconds;
    tell(r, NULL);
    if (!r->is_first) return LEMOE_OK;
    int64_t row = r->n_step++;
    LEMOE_TRY(lemoe_results_put_i64(r->results, "/train/batch", row, 1, &record->batch));
    LEMOE_TRY(lemoe_results_put_f64(r->results, "/train/loss", row, 1, &record->loss));
    LEMOE_TRY(lemoe_results_put_f64(r->results, "/train/grad_norm", row, 1, &record->grad_norm));
    LEMOE_TRY(lemoe_results_put_f64(r->results, "/train/seconds", row, 1, &record->seconds));
    return commit_if_due(r);
}

static lemoe_status score_milestone(run *r, int64_t n_done, bool from_last) {
    int64_t milestone = r->n_milestone++;
    LEMOE_TRY(agree(r, lemoe_evaluator_milestone(r->evaluator, milestone, n_done, from_last)));
    return agree(r, r->routing ? lemoe_routing_milestone(r->routing, milestone, n_done) : LEMOE_OK);
}

static lemoe_status put_cost(run *r, int64_t batch, double seconds) {
    int64_t peak = peak_bytes(r), predicted = lemoe_run_demand_bytes(&r->planned);
    double step = r->args->predicted_step_seconds;
    if (predicted > 0) LEMOE_TRY(lemoe_results_put_i64(r->results, "/cost/predicted_bytes", batch, 1, &predicted));
    if (step > 0) LEMOE_TRY(lemoe_results_put_f64(r->results, "/cost/predicted_step_seconds", batch, 1, &step));
    LEMOE_TRY(lemoe_results_put_f64(r->results, "/cost/seconds", batch, 1, &seconds));
    LEMOE_TRY(lemoe_results_put_i64(r->results, "/cost/tokens", batch, 1, &r->batch_tokens));
    return lemoe_results_put_i64(r->results, "/cost/peak_bytes", batch, 1, &peak);
}

static void report_batch(const run *r, int64_t batch, const lemoe_eval_means *means) {
    char trained[64] = ""; /* an editor that does not train has no loss */
    if (!r->is_first) return;
    if (r->batch_steps > 0)
        (void)snprintf(trained, sizeof trained, "%lld updates, loss %.4f; ", (long long)r->batch_steps, r->last_loss);
    lemoe_log(LEMOE_LOG_INFO, "%s: batch %lld of %lld: %simmediate reliability %.3f generality %.3f locality %.3f",
              r->args->run_id, (long long)batch + 1, (long long)r->context.n_batch, trained, means->reliability,
              means->generality, means->locality);
}

/* The last milestone is taken from the final scores instead. */
static lemoe_status score_batch(run *r, int64_t batch) {
    lemoe_eval_means means = {NAN, NAN, NAN};
    if (r->config->eval.immediate)
        LEMOE_TRY(agree(r, lemoe_evaluator_score(r->evaluator, LEMOE_MOMENT_IMMEDIATE, batch, 1, &means)));
    report_batch(r, batch, &means);
    r->progress.n_batch_done = batch + 1;
    r->progress.immediate[0] = means.reliability;
    r->progress.immediate[1] = means.generality;
    r->progress.immediate[2] = means.locality;
    tell(r, NULL);
    r->progress.immediate[0] = r->progress.immediate[1] = r->progress.immediate[2] = NAN;
    return batch + 1 < r->context.n_batch && run_is_milestone(r, batch + 1) ? score_milestone(r, batch + 1, false)
                                                                            : LEMOE_OK;
}

static lemoe_status commit_batch(run *r, int64_t batch, double seconds) {
    LEMOE_TRY(r->sticky);
    if (!r->is_first) return LEMOE_OK;
    LEMOE_TRY(put_cost(r, batch, seconds));
    return lemoe_results_commit(r->results);
}

static lemoe_status after_batch(void *context, int64_t batch) {
    run *r = context;
    double seconds = run_batch_seconds(r);
    LEMOE_TRY(run_save_trained(r, batch));
    LEMOE_TRY(agree(r, r->routing ? lemoe_routing_after_batch(r->routing, batch) : LEMOE_OK));
    LEMOE_TRY(score_batch(r, batch));
    LEMOE_TRY(agree(r, commit_batch(r, batch, seconds)));
    r->batch_tokens = r->batch_steps = 0;
    r->batch_earlier = 0;
    r->batch_began = lemoe_clock_seconds();
    return LEMOE_OK;
}

lemoe_status run_edit(run *r) {
    lemoe_step_log log = {log_step, r, run_between_updates};
    r->batch_began = lemoe_clock_seconds();
    lemoe_edit_loop_args args = {.ops = r->ops,
                                 .editor = r->editor,
                                 .context = &r->context,
                                 .items = r->stream.items,
                                 .batch_start = r->stream.batch_start,
                                 .log = &log,
                                 .first_batch = r->position.batch,
                                 .resume = r->position.is_trained ? NULL : r->loaded,
                                 .first_is_trained = r->position.is_trained,
                                 .after_batch = after_batch,
                                 .hook = r};
    return lemoe_edit_loop(&args);
}

/* ---- 7. final: everything again, routes, the consistency matrix, the adaptor ---- */

static lemoe_status save_adaptor(run *r) {
    if (r->config->output.adaptor == LEMOE_ADAPTOR_NONE || !r->ops->save) return LEMOE_OK;
    lemoe_status status = LEMOE_OK;
    char *name = NULL, *path = NULL, *folder = NULL;
    LEMOE_TRY_GOTO(lemoe_mem_printf(&name, "runs/%s/adaptor.safetensors", r->args->run_id));
    LEMOE_TRY_GOTO(lemoe_file_join(r->args->output_folder, name, &path));
    LEMOE_TRY_GOTO(lemoe_file_folder_of(path, &folder));
    LEMOE_TRY_GOTO(agree(r, r->is_first ? lemoe_file_make_folders(folder) : LEMOE_OK));
    LEMOE_TRY_GOTO(
        r->ops->save(r->editor, path, r->config->output.adaptor == LEMOE_ADAPTOR_BF16 ? LEMOE_BF16 : LEMOE_F32));
out:
    lemoe_mem_free(name);
    lemoe_mem_free(path);
    lemoe_mem_free(folder);
    return status;
}

lemoe_status run_score_final(run *r) {
    lemoe_eval_means means = {NAN, NAN, NAN};
    double consistency = NAN;
    int64_t n = r->context.n_batch;
    if (r->config->eval.final) {
        LEMOE_TRY(agree(r, lemoe_evaluator_score(r->evaluator, LEMOE_MOMENT_FINAL, 0, n, &means)));
        report(r, "final", &means);
    }
    if (run_is_milestone(r, n)) LEMOE_TRY(score_milestone(r, n, r->config->eval.final));
    LEMOE_TRY(agree(r, r->routing ? lemoe_routing_final(r->routing, &consistency) : LEMOE_OK));
    if (r->is_first && !isnan(consistency))
        lemoe_log(LEMOE_LOG_INFO, "%s: routing consistency %.3f", r->args->run_id, consistency);
    return LEMOE_OK;
}

/* What the last batch's row says of memory is said again: final scores have all experts. */
static lemoe_status put_final_peak(run *r) {
    int64_t peak = peak_bytes(r);
    tell(r, NULL);
    return r->is_first ? lemoe_results_put_i64(r->results, "/cost/peak_bytes", r->context.n_batch - 1, 1, &peak)
                       : LEMOE_OK;
}

/* ---- 8. rolled back and proved; the last publish ---- */

/* Of a run that had no room, before there were results. What cannot be written either is left at that. */
static void record_refusal(run *r) {
    char *reason = NULL;
    if (lemoe_mem_strdup(lemoe_error_message(), &reason) != LEMOE_OK) return;
    lemoe_status status = lemoe_run_record_refusal(r->args, reason);
    if (status != LEMOE_OK)
        lemoe_log(LEMOE_LOG_WARN, "%s: its failure is not recorded: %s", r->args->run_id, lemoe_error_message());
    (void)!lemoe_raise(LEMOE_ERR_NOMEM, "%s", reason);
    lemoe_mem_free(reason);
}

/* A device that a run has lost fails the next one as well, so the failure is neither recorded nor outlived: whoever
 * executes runs ends the job, and what is open ends with it. Another process goes on with the run, or sets it aside. */
static bool is_lost(run *r, lemoe_status status) {
    if (status == LEMOE_OK || lemoe_world_check_devices(r->world) == LEMOE_OK) return false;
    lemoe_error_prefix("%s", r->args->run_id);
    return true;
}

static lemoe_status close_run(run *r, lemoe_status status) {
    if (is_lost(r, status)) return LEMOE_ERR_DEVICE;
    lemoe_routing_destroy(r->routing);
    lemoe_evaluator_destroy(r->evaluator);
    if (r->editor) r->ops->close(r->editor);
    lemoe_status proved = r->world->model ? lemoe_llama_seams_clear(r->world->model) : LEMOE_OK;
    if (status == LEMOE_OK) {
        status = agree(r, proved);
        if (is_lost(r, status)) return LEMOE_ERR_DEVICE;
    }
    if (!r->results && status == LEMOE_ERR_NOMEM && r->is_first) record_refusal(r);
    if (r->results) {
        const char *word = status == LEMOE_OK ? "complete" : status == LEMOE_ERR_INTERRUPTED ? "interrupted" : "failed";
        lemoe_status finished = lemoe_results_finish(r->results, word, status == LEMOE_OK ? "" : lemoe_error_message());
        if (status == LEMOE_OK) status = finished;
    }
    status = agree(r, status);
    if (status == LEMOE_OK) { /* of no more use: the results have it all */
        lemoe_checkpoints_clear(&r->checkpoints);
        if (r->is_first) lemoe_run_plan_remove(r->args->output_folder, r->args->run_id);
    }
    lemoe_checkpoints_close(&r->checkpoints);
    lemoe_state_close(r->loaded);
    lemoe_mem_free(r->hosts);
    lemoe_tick_remove(r->world->tick, r);
    lemoe_results_close(r->results);
    lemoe_run_log_close(r->log);
    lemoe_run_stream_close(&r->stream);
    lemoe_arena_destroy(r->step_arena);
    lemoe_arena_destroy(r->batch_arena);
    lemoe_arena_destroy(r->run_arena);
    if (r->world->device) lemoe_device_release_workspace(r->world->device);
    return status;
}

lemoe_status lemoe_run_execute(const lemoe_run_args *args) {
    lemoe_status status = LEMOE_OK;
    run r = {.args = args, .world = args->world, .config = args->config};
    r.is_first = lemoe_comm_rank(args->world->comm) == 0;
    r.progress = (lemoe_run_progress){
        .phase = "opening", .loss = NAN, .immediate = {NAN, NAN, NAN}
    };
    tell(&r, NULL);
    LEMOE_TRY_GOTO(lemoe_world_prepare(r.world, r.config, args->predicted_bytes));
    LEMOE_TRY_GOTO(run_open_editor(&r));
    LEMOE_TRY_GOTO(open_stream(&r));
    LEMOE_TRY_GOTO(run_check_signals(&r));
    LEMOE_TRY_GOTO(open_results(&r));
    LEMOE_TRY_GOTO(take_memory(&r));
    tell(&r, "base");
    LEMOE_TRY_GOTO(run_score_base(&r));
    tell(&r, "editing");
    LEMOE_TRY_GOTO(run_edit(&r));
    tell(&r, "final");
    LEMOE_TRY_GOTO(run_score_final(&r));
    LEMOE_TRY_GOTO(agree(&r, save_adaptor(&r)));
    LEMOE_TRY_GOTO(agree(&r, put_final_peak(&r)));
out:
    return close_run(&r, status);
}

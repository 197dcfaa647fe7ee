#include "runner/sweep/sweep.h"

#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "runner/edit/editor.h"
#include "runner/io/file.h"
#include "runner/io/signals.h"
#include "runner/plan/order_plan.h"
#include "runner/results/results.h"
#include "runner/run/run.h"
#include "runner/sweep/check.h"
#include "runner/sweep/coordinator.h"
#include "runner/sweep/table.h"

#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

enum { MAX_CONFIG_BYTES = 4 << 20 };

/* ---- opening: the text, the expansion, the checks ---- */

/* Rank 0 reads, everybody gets the same bytes. */
static lemoe_status read_text(lemoe_comm *world, const char *path, char **text, int64_t *n_bytes) {
    bool first = lemoe_comm_rank(world) == 0;
    lemoe_status status = first ? lemoe_file_read_text(path, MAX_CONFIG_BYTES, text, n_bytes) : LEMOE_OK;
    LEMOE_TRY(lemoe_comm_agree(world, status));
    LEMOE_TRY(lemoe_comm_broadcast_bytes(world, 0, n_bytes, sizeof *n_bytes));
    if (!first) status = lemoe_mem_alloc(*n_bytes + 1, 1, text);
    LEMOE_TRY(lemoe_comm_agree(world, status));
    return lemoe_comm_broadcast_bytes(world, 0, *text, (size_t)*n_bytes);
}

static lemoe_status expand(const lemoe_options *options, const char *text, int64_t n_bytes, lemoe_sweep *out) {
    lemoe_config_args args = {.path = options->config_path,
                              .text = text,
                              .n_bytes = n_bytes,
                              .overrides = options->overrides,
                              .n_override = options->n_override,
                              .methods = lemoe_editor_names(),
                              .planners = lemoe_plan_names()};
    LEMOE_TRY(lemoe_config_load(&args, &out->spec));
    LEMOE_TRY(lemoe_mem_alloc(out->spec->n_run, sizeof *out->runs, &out->runs));
    for (int64_t i = 0; i < out->spec->n_run; i++) {
        out->runs[i].config = &out->spec->runs[i];
        out->runs[i].label = out->spec->run_label[i];
    }
    return lemoe_mem_strdup(out->spec->runs[0].output.dir, &out->output_folder);
}

/* What an earlier launch finished is not done again; what failed only on request. */
static lemoe_status mark_skipped(const lemoe_options *options, lemoe_sweep *sweep) {
    for (int64_t i = 0; i < sweep->spec->n_run; i++) {
        lemoe_sweep_run *run = &sweep->runs[i];
        lemoe_results_summary summary = {0};
        LEMOE_TRY(lemoe_table_read_summary(sweep->output_folder, run->run_id, &summary));
        bool same = summary.exists && strcmp(summary.identity, run->identity) == 0;
        bool done = same && strcmp(summary.status, "complete") == 0;
        bool failed = same && strcmp(summary.status, "failed") == 0 && !options->retry_failed;
        bool wanted =
            !options->only || fnmatch(options->only, run->run_id, 0) == 0 || fnmatch(options->only, run->label, 0) == 0;
        run->skip = done || failed || !wanted;
        if (wanted && (done || failed))
            lemoe_log(LEMOE_LOG_INFO, "%s: %s", run->run_id,
                      done ? "complete already, skipped" : "failed before, skipped (--retry-failed runs it again)");
        sweep->n_skipped += run->skip;
        lemoe_results_summary_free(&summary);
    }
    return LEMOE_OK;
}

/* Decisions of rank 0 to everybody; configurations are already equal, pointers are not sent. */
static lemoe_status broadcast_decisions(lemoe_comm *world, lemoe_sweep *sweep) {
    for (int64_t i = 0; i < sweep->spec->n_run; i++) {
        lemoe_sweep_run *run = &sweep->runs[i], copy = *run;
        LEMOE_TRY(lemoe_comm_broadcast_bytes(world, 0, &copy, sizeof copy));
        copy.config = run->config;
        copy.label = run->label;
        *run = copy;
    }
    return lemoe_comm_broadcast_bytes(world, 0, &sweep->n_skipped, sizeof sweep->n_skipped);
}

lemoe_status lemoe_sweep_open(lemoe_launch *launch, const lemoe_options *options, lemoe_sweep *out) {
    lemoe_comm *world = lemoe_launch_world(launch);
    char *text = NULL;
    int64_t n_bytes = 0;
    *out = (lemoe_sweep){0};
    lemoe_status status = read_text(world, options->config_path, &text, &n_bytes);
    if (status == LEMOE_OK) status = lemoe_comm_agree(world, expand(options, text, n_bytes, out));
    lemoe_mem_free(text);
    LEMOE_TRY(status);
    if (lemoe_comm_rank(world) == 0) {
        status = lemoe_sweep_check(out, lemoe_comm_size(world));
        if (status == LEMOE_OK) status = mark_skipped(options, out);
    }
    LEMOE_TRY(lemoe_comm_agree(world, status));
    return broadcast_decisions(world, out);
}

void lemoe_sweep_close(lemoe_sweep *sweep) {
    lemoe_mem_free(sweep->runs);
    lemoe_mem_free(sweep->output_folder);
    lemoe_config_free(sweep->spec);
    *sweep = (lemoe_sweep){0};
}

/* ---- executing: one group of runs for each team size ---- */

typedef struct outcome {
    int32_t failed, interrupted;
} outcome;

static lemoe_status execute_run(lemoe_launch *launch, const lemoe_sweep *sweep, lemoe_world *world, int64_t index) {
    (void)launch;
    const lemoe_sweep_run *run = &sweep->runs[index];
    lemoe_run_args args = {.world = world,
                           .config = run->config,
                           .run_id = run->run_id,
                           .identity = run->identity,
                           .output_folder = sweep->output_folder,
                           .mpi_version = lemoe_launch_mpi_version()};
    return lemoe_run_execute(&args);
}

/* One failed run stays one failed run: it is reported, and the team takes the next. */
static void note(const lemoe_sweep *sweep, int64_t index, const lemoe_team *team, lemoe_status status,
                 outcome *result) {
    if (status == LEMOE_OK) return;
    bool interrupted = status == LEMOE_ERR_STATE && lemoe_signals_pending();
    if (interrupted)
        result->interrupted = 1;
    else
        result->failed = 1;
    if (lemoe_comm_rank(team->comm) == 0)
        lemoe_log(LEMOE_LOG_ERROR, "%s %s: %s", sweep->runs[index].run_id, interrupted ? "stopped" : "failed",
                  lemoe_error_message());
}

static lemoe_status work(lemoe_launch *launch, const lemoe_options *options, const lemoe_sweep *sweep,
                         const lemoe_team *team, const int64_t *order, int64_t n_order, outcome *result) {
    lemoe_status status = LEMOE_OK;
    lemoe_tick *tick = NULL;
    lemoe_world *world = NULL;
    lemoe_coordinator *coordinator = NULL;
    LEMOE_TRY_GOTO(lemoe_tick_create(&tick));
    LEMOE_TRY_GOTO(lemoe_world_open(team->comm, tick, &world));
    LEMOE_TRY_GOTO(lemoe_coordinator_open(launch, team, tick, order, n_order, options->fail_fast, &coordinator));
    for (bool failed = false;;) {
        int64_t index = -1;
        LEMOE_TRY_GOTO(lemoe_coordinator_next(coordinator, failed || result->interrupted, &index));
        if (index < 0) break;
        lemoe_status run = execute_run(launch, sweep, world, index);
        note(sweep, index, team, run, result);
        failed = run != LEMOE_OK;
    }
    status = lemoe_coordinator_close(coordinator);
    coordinator = NULL;
out:
    lemoe_world_close(world);
    lemoe_tick_destroy(tick);
    return status;
}

static lemoe_status execute_group(lemoe_launch *launch, const lemoe_options *options, const lemoe_sweep *sweep,
                                  int64_t tp, outcome *result) {
    lemoe_status status = LEMOE_OK;
    int64_t *order = NULL, n_order = 0;
    lemoe_team team = {0};
    LEMOE_TRY(lemoe_mem_alloc(sweep->spec->n_run, sizeof *order, &order));
    for (int64_t i = 0; i < sweep->spec->n_run; i++)
        if (!sweep->runs[i].skip && sweep->runs[i].tensor_parallel == tp) order[n_order++] = i;
    if (n_order == 0) goto out;
    LEMOE_TRY_GOTO(lemoe_team_open(launch, (int)tp, &team));
    if (team.index >= 0) status = work(launch, options, sweep, &team, order, n_order, result);
    lemoe_team_close(&team);
out:
    lemoe_mem_free(order);
    return status;
}

static int exit_status_of(const outcome *result) {
    return result->failed ? LEMOE_EXIT_RUN_FAILED : result->interrupted ? LEMOE_EXIT_INTERRUPTED : LEMOE_EXIT_OK;
}

static lemoe_status execute_groups(lemoe_launch *launch, const lemoe_options *options, const lemoe_sweep *sweep,
                                   outcome *result) {
    lemoe_comm *world = lemoe_launch_world(launch);
    for (int64_t tp = 1; tp <= lemoe_comm_size(world); tp++) {
        LEMOE_TRY(execute_group(launch, options, sweep, tp, result));
        LEMOE_TRY(lemoe_comm_allreduce_max(world, lemoe_tensor_1d(result, LEMOE_I32, 2)));
        if (result->interrupted || (result->failed && options->fail_fast)) return LEMOE_OK;
    }
    return LEMOE_OK;
}

lemoe_status lemoe_sweep_execute(lemoe_launch *launch, const lemoe_options *options, lemoe_sweep *sweep,
                                 int *exit_status) {
    lemoe_comm *world = lemoe_launch_world(launch);
    bool first = lemoe_comm_rank(world) == 0;
    outcome result = {0, 0};
    *exit_status = LEMOE_EXIT_OK;
    if (first) lemoe_table_announce(sweep, lemoe_comm_size(world));
    if (options->dry_run) return LEMOE_OK;
    LEMOE_TRY(lemoe_comm_agree(world, lemoe_signals_install()));
    LEMOE_TRY(execute_groups(launch, options, sweep, &result));
    *exit_status = exit_status_of(&result);
    lemoe_status status = LEMOE_OK;
    if (first) status = lemoe_table_publish(sweep);
    if (first && status == LEMOE_OK) status = lemoe_table_print(sweep, stdout);
    return lemoe_comm_agree(world, status);
}

#include "runner/sweep/sweep.h"

#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "runner/edit/editor.h"
#include "runner/io/file.h"
#include "runner/plan/order_plan.h"
#include "runner/run/run.h"
#include "runner/sweep/announce.h"
#include "runner/sweep/check.h"
#include "runner/sweep/earlier.h"
#include "runner/sweep/memory.h"
#include "runner/sweep/table.h"
#include "runner/sweep/worker.h"

#include <stdio.h>
#include <string.h>

enum { MAX_CONFIG_BYTES = 4 << 20 };
static const double dry_run_seconds = 30; /* of working out orders of many edits, so that memory is said exactly */

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

static lemoe_status load_file(lemoe_comm *world, const lemoe_options *options, int64_t i, lemoe_sweep_spec **out) {
    char *text = NULL;
    int64_t n_bytes = 0;
    lemoe_status status = read_text(world, options->config_paths[i], &text, &n_bytes);
    lemoe_config_args args = {.path = options->config_paths[i],
                              .text = text,
                              .n_bytes = n_bytes,
                              .overrides = options->overrides,
                              .n_override = options->n_override,
                              .override_flags = options->override_flags,
                              .methods = lemoe_editor_names(),
                              .planners = lemoe_plan_names()};
    if (status == LEMOE_OK) status = lemoe_comm_agree(world, lemoe_config_load(&args, out));
    if (status == LEMOE_OK && (*out)->remark && lemoe_comm_rank(world) == 0)
        lemoe_log(LEMOE_LOG_WARN, "%s", (*out)->remark);
    lemoe_mem_free(text);
    return status;
}

static void add_axes(const lemoe_sweep_spec *spec, lemoe_sweep *sweep) {
    for (int64_t i = 0; i < spec->n_axis; i++) {
        bool is_known = false;
        for (int64_t a = 0; a < sweep->n_axis; a++) is_known |= strcmp(sweep->axis_keys[a], spec->axis_key[i]) == 0;
        if (!is_known) sweep->axis_keys[sweep->n_axis++] = spec->axis_key[i];
    }
}

static lemoe_status name_axes(lemoe_sweep *sweep) {
    LEMOE_TRY(lemoe_mem_strdup("", &sweep->swept_keys));
    for (int64_t a = 0; a < sweep->n_axis; a++) {
        char *longer = NULL;
        LEMOE_TRY(lemoe_mem_printf(&longer, "%s%s%s", sweep->swept_keys, a > 0 ? "," : "", sweep->axis_keys[a]));
        lemoe_mem_free(sweep->swept_keys);
        sweep->swept_keys = longer;
    }
    return LEMOE_OK;
}

/* The files' runs, one behind the other. */
static lemoe_status join(lemoe_sweep *out) {
    int64_t n_run = 0, n_axis = 0;
    for (int64_t s = 0; s < out->n_spec; s++) {
        n_run += out->specs[s]->n_run;
        n_axis += out->specs[s]->n_axis;
    }
    LEMOE_TRY(lemoe_mem_alloc(n_run, sizeof *out->runs, &out->runs));
    LEMOE_TRY(lemoe_mem_alloc(n_axis, sizeof *out->axis_keys, &out->axis_keys));
    for (int64_t s = 0; s < out->n_spec; s++) {
        const lemoe_sweep_spec *spec = out->specs[s];
        add_axes(spec, out);
        for (int64_t i = 0; i < spec->n_run; i++)
            out->runs[out->n_run++] = (lemoe_sweep_run){.spec = s, .spec_index = i, .label = spec->run_label[i]};
    }
    LEMOE_TRY(name_axes(out));
    return lemoe_mem_strdup(out->specs[0]->first->output.dir, &out->output_folder);
}

static lemoe_status load_files(lemoe_comm *world, const lemoe_options *options, lemoe_sweep *out) {
    out->fail_fast = options->fail_fast;
    LEMOE_TRY(lemoe_comm_agree(world, lemoe_mem_alloc(options->n_config, sizeof *out->specs, &out->specs)));
    for (; out->n_spec < options->n_config; out->n_spec++)
        LEMOE_TRY(load_file(world, options, out->n_spec, &out->specs[out->n_spec]));
    return lemoe_comm_agree(world, join(out));
}

/* A run that says auto or cuda makes the launch look for GPUs, which takes a moment where there are some. */
static bool asks_for_devices(const lemoe_sweep *sweep) {
    for (int64_t s = 0; s < sweep->n_spec; s++)
        if (strcmp(sweep->specs[s]->first->parallel.device, "cpu") != 0) return true;
    for (int64_t a = 0; a < sweep->n_axis; a++)
        if (strcmp(sweep->axis_keys[a], "parallel.device") == 0) return true;
    return false;
}

lemoe_status lemoe_sweep_config(const lemoe_sweep *sweep, int64_t index, lemoe_config *out) {
    const char *kind = NULL;
    LEMOE_TRY(lemoe_config_run(sweep->specs[sweep->runs[index].spec], sweep->runs[index].spec_index, out));
    LEMOE_TRY(lemoe_devices_resolve(&sweep->devices, out->parallel.device, &kind));
    (void)snprintf(out->parallel.device, sizeof out->parallel.device, "%s", kind);
    out->parallel.products = (int)lemoe_config_products(out);
    bool reduces_directly = strcmp(kind, "cuda") == 0 && sweep->devices.are_linked;
    out->parallel.overlap = lemoe_config_overlap(out, sweep->runs[index].tensor_parallel, reduces_directly);
    return LEMOE_OK;
}

/* ---- decisions ---- */

/* Ranks of the node with the most. */
static int widest_node(const lemoe_launch *launch, int n_rank) {
    const int *node_of = lemoe_launch_nodes(launch);
    int widest = 0;
    for (int i = 0; i < n_rank; i++) {
        int n = 0;
        for (int j = 0; j < n_rank; j++) n += node_of[j] == node_of[i];
        if (n > widest) widest = n;
    }
    return widest;
}

/* The last check: only trying shows what a file system allows. */
static lemoe_status make_output(const char *folder) {
    lemoe_status status = lemoe_file_make_folders(folder);
    if (status != LEMOE_OK) lemoe_error_prefix("output.dir: choose another folder");
    return status;
}

static lemoe_status decide(lemoe_launch *launch, const lemoe_options *options, lemoe_sweep *sweep) {
    int n_rank = lemoe_comm_size(lemoe_launch_world(launch));
    double order_seconds = options->dry_run ? dry_run_seconds : 0; /* nobody waits for a dry run's ranks */
    lemoe_estimates *estimates = NULL;
    lemoe_status status = lemoe_estimates_open(sweep->output_folder, &estimates);
    if (status == LEMOE_OK) status = lemoe_sweep_check(sweep, estimates, n_rank, widest_node(launch, n_rank));
    if (status == LEMOE_OK) status = lemoe_earlier_find_skips(options, sweep);
    if (status == LEMOE_OK) status = lemoe_memory_plan(sweep, widest_node(launch, n_rank), order_seconds);
    if (status == LEMOE_OK && !options->dry_run) status = make_output(sweep->output_folder);
    lemoe_estimates_close(estimates);
    return status;
}

/* Decisions of rank 0 to everybody; configurations are already equal, pointers are not sent. */
static lemoe_status broadcast_decisions(lemoe_comm *world, lemoe_sweep *sweep) {
    int64_t counts[] = {sweep->n_run, sweep->n_repeated, sweep->n_todo};
    LEMOE_TRY(lemoe_comm_broadcast_bytes(world, 0, counts, sizeof counts));
    sweep->n_run = counts[0];
    sweep->n_repeated = counts[1];
    sweep->n_todo = counts[2];
    LEMOE_TRY(lemoe_comm_broadcast_bytes(world, 0, sweep->runs, (size_t)sweep->n_run * sizeof *sweep->runs));
    for (int64_t i = 0; i < sweep->n_run; i++) {
        lemoe_sweep_run *run = &sweep->runs[i];
        run->label = sweep->specs[run->spec]->run_label[run->spec_index];
    }
    return LEMOE_OK;
}

lemoe_status lemoe_sweep_open(lemoe_launch *launch, const lemoe_options *options, lemoe_sweep *out) {
    lemoe_comm *world = lemoe_launch_world(launch);
    *out = (lemoe_sweep){0};
    lemoe_status status = LEMOE_OK;
    LEMOE_TRY(load_files(world, options, out));
    if (asks_for_devices(out)) LEMOE_TRY(lemoe_devices_find(launch, &out->devices));
    if (lemoe_comm_rank(world) == 0) status = decide(launch, options, out);
    LEMOE_TRY(lemoe_comm_agree(world, status));
    return broadcast_decisions(world, out);
}

void lemoe_sweep_close(lemoe_sweep *sweep) {
    for (int64_t i = 0; i < sweep->n_spec; i++) lemoe_config_free(sweep->specs[i]);
    lemoe_mem_free(sweep->specs);
    lemoe_mem_free(sweep->axis_keys);
    lemoe_mem_free(sweep->swept_keys);
    lemoe_mem_free(sweep->runs);
    for (int64_t i = 0; i < sweep->n_input; i++) lemoe_edit_stream_destroy(sweep->inputs[i].stream);
    lemoe_mem_free(sweep->inputs);
    lemoe_mem_free(sweep->output_folder);
    *sweep = (lemoe_sweep){0};
}

/* ---- working ---- */

static lemoe_status close_on_first(lemoe_sweep *sweep, lemoe_coordinator *coordinator, lemoe_estimates *estimates,
                                   int *exit_status) {
    enum { PUBLISH_WAIT_SECONDS = 60 };
    lemoe_estimates_save(estimates);
    lemoe_status status = lemoe_coordinator_publish_last(coordinator, PUBLISH_WAIT_SECONDS);
    if (status == LEMOE_OK) status = lemoe_table_print(sweep, stdout);
    *exit_status = lemoe_announce_ending(sweep, coordinator, stdout);
    return status;
}

static lemoe_status open_on_first(lemoe_launch *launch, const lemoe_options *options, const lemoe_sweep *sweep,
                                  lemoe_estimates **estimates, lemoe_coordinator **coordinator) {
    lemoe_earlier_tidy(sweep);
    LEMOE_TRY(lemoe_earlier_note_deaths(options, sweep));
    LEMOE_TRY(lemoe_estimates_open(sweep->output_folder, estimates));
    lemoe_coordinator_args args = {launch, sweep, *estimates, sweep->specs[0]->first->output.progress};
    return lemoe_coordinator_create(&args, coordinator);
}

static lemoe_status work(lemoe_launch *launch, const lemoe_options *options, lemoe_sweep *sweep, int *exit_status) {
    lemoe_comm *world = lemoe_launch_world(launch);
    lemoe_status status = LEMOE_OK;
    lemoe_estimates *estimates = NULL;
    lemoe_coordinator *coordinator = NULL;
    bool is_first = lemoe_comm_rank(world) == 0;
    if (is_first) status = open_on_first(launch, options, sweep, &estimates, &coordinator);
    LEMOE_TRY_GOTO(lemoe_comm_agree(world, status));
    lemoe_worker_args args = {launch, sweep, coordinator, lemoe_run_execute};
    LEMOE_TRY_GOTO(lemoe_worker_run(&args));
    if (is_first) status = close_on_first(sweep, coordinator, estimates, exit_status);
    LEMOE_TRY_GOTO(lemoe_comm_agree(world, status));
    status = lemoe_comm_broadcast_bytes(world, 0, exit_status, sizeof *exit_status);
out:
    lemoe_coordinator_destroy(coordinator);
    lemoe_estimates_close(estimates);
    return status;
}

lemoe_status lemoe_sweep_execute(lemoe_launch *launch, const lemoe_options *options, lemoe_sweep *sweep,
                                 int *exit_status) {
    lemoe_comm *world = lemoe_launch_world(launch);
    int n_rank = lemoe_comm_size(world);
    lemoe_status status = LEMOE_OK;
    *exit_status = LEMOE_EXIT_OK;
    if (options->dry_run) {
        if (lemoe_comm_rank(world) == 0)
            status = lemoe_announce_plan(sweep, lemoe_launch_nodes(launch), n_rank, stdout);
        return lemoe_comm_agree(world, status);
    }
    if (lemoe_comm_rank(world) == 0) lemoe_announce_launch(sweep, n_rank, stderr);
    lemoe_log_set_level(LEMOE_LOG_WARN); /* what runs say of themselves goes through the coordinator */
    return work(launch, options, sweep, exit_status);
}

#include "runner/run/run_stream.h"

#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "runner/run/run_plan.h"

#include <string.h>

/* Features that take the loaded model: the row at the cut of each prompt's last token, which the prefix holds. */
static lemoe_status space_of_model(const lemoe_world *world, const lemoe_item *items, lemoe_plan_space **out) {
    int64_t d = lemoe_llama_config_of(world->model)->d_model, n_role = world->stream->n_role;
    float *features = NULL;
    LEMOE_TRY(lemoe_mem_alloc(world->stream->n_edit * d, sizeof *features, &features));
    for (int64_t i = 0; i < world->stream->n_edit; i++) {
        const lemoe_item *item = &items[i * n_role];
        memcpy(features + i * d, item->cut_rows + (item->n_prompt - 1) * d, (size_t)d * sizeof *features);
    }
    lemoe_status status = lemoe_plan_space_create(features, world->stream->n_edit, d, out);
    lemoe_mem_free(features);
    return status;
}

static lemoe_status make_plan(const lemoe_world *world, const lemoe_run_args *args, const lemoe_item *items,
                              lemoe_plan **out) {
    lemoe_plan_space *space = NULL;
    lemoe_status status =
        lemoe_run_plan_is_from_files(args->config)
            ? lemoe_run_plan_space(args->config, lemoe_llama_config_of(world->model), world->stream, &space)
            : space_of_model(world, items, &space);
    if (status == LEMOE_OK) status = lemoe_run_plan_create(args->config, space, world->stream->n_edit, out);
    lemoe_plan_space_destroy(space);
    return status;
}

/* As a rule the coordinator has made it. What cannot be kept is made again by the next execution, just so. */
static lemoe_status plan_here(const lemoe_world *world, const lemoe_run_args *args, const lemoe_item *items,
                              lemoe_run_stream *out) {
    lemoe_run_plan_key key = {args->output_folder, args->run_id, args->identity, world->stream->n_edit,
                              args->config->edit.batch_size};
    LEMOE_TRY(lemoe_run_plan_find(&key, &out->plan));
    out->plan_was_kept = out->plan != NULL;
    if (out->plan_was_kept) return LEMOE_OK;
    LEMOE_TRY(make_plan(world, args, items, &out->plan));
    if (lemoe_run_plan_keep(&key, out->plan) == LEMOE_OK) return LEMOE_OK;
    lemoe_log(LEMOE_LOG_WARN, "%s: the plan is not kept: %s", args->run_id, lemoe_error_message());
    lemoe_error_clear();
    return LEMOE_OK;
}

/* k-means is cheap beside a step and need not be repeated by every rank; and one rank's floating point decides. */
static lemoe_status plan_for_team(const lemoe_run_args *args, const lemoe_item *items, lemoe_run_stream *out) {
    const lemoe_world *world = args->world;
    lemoe_comm *comm = world->comm;
    lemoe_status status = LEMOE_OK;
    if (lemoe_comm_rank(comm) == 0) status = plan_here(world, args, items, out);
    LEMOE_TRY(lemoe_comm_agree(comm, status));
    if (lemoe_comm_size(comm) == 1) return LEMOE_OK;
    if (lemoe_comm_rank(comm) > 0) /* overwritten below */
        status = lemoe_run_plan_blank(world->stream->n_edit, args->config->edit.batch_size, &out->plan);
    LEMOE_TRY(lemoe_comm_agree(comm, status));
    size_t n_bytes = (size_t)out->plan->n_edit * sizeof *out->plan->edit;
    LEMOE_TRY(lemoe_comm_broadcast_bytes(comm, 0, out->plan->edit, n_bytes));
    return lemoe_comm_broadcast_bytes(comm, 0, out->plan->cluster, n_bytes);
}

static lemoe_status lay_out(const lemoe_world *world, const lemoe_item *items, lemoe_run_stream *out) {
    const lemoe_plan *plan = out->plan;
    int n_role = world->stream->n_role;
    LEMOE_TRY(lemoe_mem_alloc(n_role * plan->n_edit, sizeof *out->items, &out->items));
    LEMOE_TRY(lemoe_mem_alloc(plan->n_batch + 1, sizeof *out->batch_start, &out->batch_start));
    if (world->dataset->edits) { /* a world that plans has no texts, and nothing that is packed depends on them */
        LEMOE_TRY(lemoe_mem_alloc(plan->n_edit, sizeof *out->superseded_by, &out->superseded_by));
        LEMOE_TRY(lemoe_dataset_superseded(world->dataset, plan->edit, plan->n_edit, out->superseded_by));
    }
    for (int64_t i = 0; i < plan->n_edit; i++) {
        out->batch_start[plan->batch[i] + 1] = i + 1;
        for (int role = 0; role < n_role; role++)
            out->items[role * plan->n_edit + i] = items[plan->edit[i] * n_role + role];
    }
    out->eval = (lemoe_eval_stream){.n_edit = plan->n_edit,
                                    .n_batch = plan->n_batch,
                                    .n_role = n_role,
                                    .n_locality = world->dataset->n_locality,
                                    .locality_name = world->dataset->locality_name,
                                    .batch_start = out->batch_start,
                                    .items = out->items,
                                    .superseded_by = out->superseded_by};
    return LEMOE_OK;
}

lemoe_status lemoe_run_stream_open(const lemoe_run_args *args, const lemoe_item *items, lemoe_run_stream *out) {
    LEMOE_TRY(plan_for_team(args, items, out));
    return lemoe_comm_agree(args->world->comm, lay_out(args->world, items, out));
}

lemoe_status lemoe_run_stream_lay_out(const lemoe_world *world, const lemoe_item *items, lemoe_plan *plan,
                                      lemoe_run_stream *out) {
    out->plan = plan;
    return lay_out(world, items, out);
}

void lemoe_run_stream_close(lemoe_run_stream *stream) {
    lemoe_plan_destroy(stream->plan);
    lemoe_mem_free(stream->items);
    lemoe_mem_free(stream->batch_start);
    lemoe_mem_free(stream->superseded_by);
    *stream = (lemoe_run_stream){0};
}

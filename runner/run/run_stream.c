#include "runner/run/run_stream.h"

#include "kernels/base/mem.h"

#include <string.h>

/* Planning features in dataset order: the mean embedding of each edit prompt, which the prefix already holds. */
static lemoe_status features_of(const lemoe_world *world, const lemoe_item *items, float **out) {
    int64_t d = lemoe_llama_config_of(world->model)->d_model, n_role = world->stream->n_role;
    LEMOE_TRY(lemoe_mem_alloc(world->stream->n_edit * d, sizeof **out, out));
    for (int64_t i = 0; i < world->stream->n_edit; i++)
        memcpy(*out + i * d, items[i * n_role].embedding_mean, (size_t)d * sizeof **out);
    return LEMOE_OK;
}

static lemoe_status plan_here(const lemoe_world *world, const lemoe_config *config, const lemoe_item *items,
                              lemoe_plan **out) {
    float *features = NULL;
    LEMOE_TRY(features_of(world, items, &features));
    lemoe_plan_args args = {.planner = config->order.planner,
                            .features = features,
                            .n_edit = world->stream->n_edit,
                            .d = lemoe_llama_config_of(world->model)->d_model,
                            .batch_size = config->edit.batch_size,
                            .seed = config->order.seed,
                            .restarts = config->order.restarts};
    lemoe_status status = lemoe_plan_create(&args, out);
    lemoe_mem_free(features);
    return status;
}

/* k-means is cheap beside a step and need not be repeated by every rank; and one rank's floating point decides. */
static lemoe_status plan_for_team(lemoe_world *world, const lemoe_config *config, const lemoe_item *items,
                                  lemoe_plan **out) {
    lemoe_comm *comm = world->comm;
    lemoe_status status = LEMOE_OK;
    if (lemoe_comm_rank(comm) == 0) status = plan_here(world, config, items, out);
    LEMOE_TRY(lemoe_comm_agree(comm, status));
    if (lemoe_comm_size(comm) == 1) return LEMOE_OK;
    if (lemoe_comm_rank(comm) > 0) { /* the shape is known: a plan in file order, overwritten below */
        lemoe_plan_args shape = {
            .planner = "file", .n_edit = world->stream->n_edit, .batch_size = config->edit.batch_size};
        status = lemoe_plan_create(&shape, out);
    }
    LEMOE_TRY(lemoe_comm_agree(comm, status));
    size_t n_bytes = (size_t)(*out)->n_edit * sizeof *(*out)->edit;
    LEMOE_TRY(lemoe_comm_broadcast_bytes(comm, 0, (*out)->edit, n_bytes));
    LEMOE_TRY(lemoe_comm_broadcast_bytes(comm, 0, (*out)->batch, n_bytes));
    return lemoe_comm_broadcast_bytes(comm, 0, (*out)->cluster, n_bytes);
}

static lemoe_status lay_out(const lemoe_world *world, const lemoe_item *items, lemoe_run_stream *out) {
    const lemoe_plan *plan = out->plan;
    int n_role = world->stream->n_role;
    LEMOE_TRY(lemoe_mem_alloc(n_role * plan->n_edit, sizeof *out->items, &out->items));
    LEMOE_TRY(lemoe_mem_alloc(plan->n_batch + 1, sizeof *out->batch_start, &out->batch_start));
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
                                    .items = out->items};
    return LEMOE_OK;
}

lemoe_status lemoe_run_stream_open(lemoe_world *world, const lemoe_config *config, const lemoe_item *items,
                                   lemoe_run_stream *out) {
    LEMOE_TRY(plan_for_team(world, config, items, &out->plan));
    return lemoe_comm_agree(world->comm, lay_out(world, items, out));
}

void lemoe_run_stream_close(lemoe_run_stream *stream) {
    lemoe_plan_destroy(stream->plan);
    lemoe_mem_free(stream->items);
    lemoe_mem_free(stream->batch_start);
    *stream = (lemoe_run_stream){0};
}

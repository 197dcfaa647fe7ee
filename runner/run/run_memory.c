#include "runner/run/run_memory.h"

#include "kernels/base/mem.h"
#include "kernels/planning.h"
#include "runner/run/run_internal.h"
#include "runner/run/run_plan.h"

/* Program, libraries and their buffers, MPI, HDF5, heap; tests/sweep/process_memory.py holds the sum against processes.
 */
static const int64_t program_bytes = 64 << 20;

/* Every shape occurs in one pass over the minibatches, and what comes back from the device is zero: the rest of the
 * updates would repeat it. */
static void shorten(const lemoe_config *config, int64_t n_edit, lemoe_config *out) {
    int64_t size = config->edit.batch_size < n_edit ? config->edit.batch_size : n_edit;
    lemoe_training_config *const training[] = {&out->lemoe.training, &out->moe.training, &out->ft_m.training};
    *out = *config;
    for (size_t i = 0; i < sizeof training / sizeof *training; i++) {
        int64_t minibatch = training[i]->minibatch;
        int64_t pass = minibatch > 0 ? (size + minibatch - 1) / minibatch : 1;
        if (training[i]->max_steps > pass) training[i]->max_steps = pass;
    }
    if (out->lemoe.router_steps > 1) out->lemoe.router_steps = 1;
    if (out->eval.milestones > 1) out->eval.milestones = 1; /* the last, which scores what all others do */
}

static lemoe_status copy_plan(const lemoe_run_memory_args *args, lemoe_plan **out) {
    LEMOE_TRY(lemoe_run_plan_blank(args->stream->n_edit, args->config->edit.batch_size, out));
    for (int64_t i = 0; args->plan && i < args->plan->n_edit; i++) (*out)->edit[i] = args->plan->edit[i];
    return LEMOE_OK;
}

static int64_t prefix_bytes(const lemoe_edit_stream *stream, int64_t d_model) {
    int64_t n_row = 0;
    for (int64_t i = 0; i < stream->n_edit * stream->n_role; i++) {
        int64_t n_tok = stream->sequences[i].n_tok;
        n_row += n_tok + (n_tok > 0 ? 2 : 0);
    }
    return n_row * d_model * (int64_t)sizeof(float);
}

static lemoe_status open_stream(run *r, const lemoe_run_memory_args *args) {
    const lemoe_item *items = NULL;
    lemoe_plan *plan = NULL;
    LEMOE_TRY(lemoe_world_items(r->world, lemoe_llama_cut(r->world->model), NULL, 0, &items));
    LEMOE_TRY(copy_plan(args, &plan));
    return lemoe_run_stream_lay_out(r->world, items, plan, &r->stream);
}

/* What the editor has by now, and what computing the rows takes. */
static lemoe_status plan_opening(const run *r, int64_t *n_bytes) {
    lemoe_prefix_scratch scratch = {0};
    LEMOE_TRY(lemoe_world_plan_items(r->world, lemoe_llama_cut(r->world->model), &scratch));
    *n_bytes = (int64_t)lemoe_arena_used_bytes(r->run_arena) + scratch.arena_bytes + scratch.workspace_bytes;
    return LEMOE_OK;
}

/* The steps of lemoe_run_execute, without results and checkpoints. */
static lemoe_status go_through(run *r, const lemoe_run_memory_args *args, int64_t *opening_bytes) {
    LEMOE_TRY(run_open_editor(r));
    LEMOE_TRY(plan_opening(r, opening_bytes));
    LEMOE_TRY(open_stream(r, args));
    LEMOE_TRY(run_create_evaluators(r));
    lemoe_routing_args routing = {r->ops, r->editor, &r->stream.eval, NULL};
    LEMOE_TRY(lemoe_routing_create(&routing, &r->routing));
    LEMOE_TRY(run_score_base(r));
    LEMOE_TRY(run_edit(r));
    return run_score_final(r);
}

static void close_run(run *r) {
    lemoe_routing_destroy(r->routing);
    lemoe_evaluator_destroy(r->evaluator);
    if (r->editor) r->ops->close(r->editor);
    lemoe_run_stream_close(&r->stream);
    lemoe_arena_destroy(r->step_arena);
    lemoe_arena_destroy(r->batch_arena);
    lemoe_arena_destroy(r->run_arena);
}

/* On the CPU weights are pages of a file, and the output matrix is first read by a score: but a rank that is alone has
 * read all of them, for the fingerprint. */
static int64_t later_bytes(const lemoe_run_memory_args *args) {
    const lemoe_llama_config *c = args->shape;
    int64_t tp = args->tensor_parallel, n_row = (c->n_vocab + tp - 1) / tp;
    if (!args->like_host || tp == 1 || c->tied_embeddings) return 0;
    return n_row * c->d_model * (int64_t)lemoe_dtype_bytes(args->config->model.dtype);
}

static lemoe_status measure(const lemoe_run_memory_args *args, lemoe_world *world, const lemoe_config *config,
                            lemoe_run_memory *out) {
    lemoe_run_args run_args = {.world = world, .config = config, .run_id = "planning", .identity = ""};
    run r = {.args = &run_args, .world = world, .config = config};
    int64_t opening_bytes = 0;
    lemoe_status status = go_through(&r, args, &opening_bytes);
    *out = (lemoe_run_memory){.demand = run_demand(&r),
                              .opening_bytes = opening_bytes,
                              .weight_bytes =
                                  lemoe_llama_share_bytes(args->shape, config->model.dtype, args->tensor_parallel) +
                                  (int64_t)lemoe_planning_device_peak_bytes(world->device),
                              .later_bytes = later_bytes(args),
                              .prefix_bytes = prefix_bytes(args->stream, args->shape->d_model)};
    close_run(&r);
    return status;
}

lemoe_status lemoe_run_plan_memory(const lemoe_run_memory_args *args, lemoe_run_memory *out) {
    lemoe_status status = LEMOE_OK;
    lemoe_comm *comm = NULL;
    lemoe_world *world = NULL;
    lemoe_config *config = NULL;
    lemoe_world_plan_args plan = {.shape = args->shape,
                                  .dtype = args->config->model.dtype,
                                  .stream = args->stream,
                                  .like_host = args->like_host,
                                  .products = lemoe_config_products(args->config),
                                  .part_tokens = lemoe_config_part_tokens(args->config, args->tensor_parallel)};
    *out = (lemoe_run_memory){0};
    LEMOE_TRY_GOTO(lemoe_mem_alloc(1, sizeof *config, &config));
    shorten(args->config, args->stream->n_edit, config);
    LEMOE_TRY_GOTO(lemoe_comm_planning(0, (int)args->tensor_parallel, &comm));
    LEMOE_TRY_GOTO(lemoe_world_open_planning(comm, &plan, &world));
    LEMOE_TRY_GOTO(measure(args, world, config, out));
out:
    lemoe_world_close(world);
    if (comm) lemoe_comm_close(comm);
    lemoe_mem_free(config);
    return status;
}

int64_t lemoe_run_demand_bytes(const lemoe_run_demand *d) {
    return d->run_arena + d->batch_arena + d->step_arena + d->workspace;
}

int64_t lemoe_run_process_bytes(const lemoe_run_memory *memory) {
    int64_t opening = memory->opening_bytes - memory->later_bytes, later = lemoe_run_demand_bytes(&memory->demand);
    return program_bytes + memory->weight_bytes + memory->prefix_bytes + (opening > later ? opening : later);
}

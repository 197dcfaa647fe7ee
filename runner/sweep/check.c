#include "runner/sweep/check.h"

#include "kernels/base/mem.h"
#include "kernels/device.h"
#include "runner/edit/editor.h"
#include "runner/io/file.h"
#include "runner/sweep/check_inputs.h"
#include "runner/sweep/orders.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

/* The ranks of a launch, as far as memory and teams are concerned. */
typedef struct launch_room {
    int n_rank, n_node_rank; /* of all nodes; of the largest */
    int64_t node_bytes;      /* memory of this node, taken for all */
    const lemoe_devices *devices;
} launch_room;

static lemoe_status measure_room(int n_rank, int n_node_rank, const lemoe_devices *devices, launch_room *out) {
    lemoe_device *device = NULL;
    size_t free_bytes = 0, total_bytes = 0;
    LEMOE_TRY(lemoe_device_open("cpu", 1, &device));
    lemoe_status status = lemoe_device_mem_info(device, &free_bytes, &total_bytes);
    lemoe_device_close(device);
    *out = (launch_room){n_rank, n_node_rank, (int64_t)total_bytes, devices};
    return status;
}

static bool is_on_gpu(const lemoe_config *config) { return strcmp(config->parallel.device, "cuda") == 0; }

/* What there is for weights in one place, and how much of them would be there: on the CPU a node's memory and the
 * models of all its teams, else a GPU's and the shards of the ranks that share it. */
static int64_t place_bytes(const lemoe_config *config, const launch_room *room) {
    return is_on_gpu(config) ? room->devices->cuda_bytes : room->node_bytes;
}

static int64_t weights_in_place(const lemoe_config *config, const lemoe_checked_model *model, const launch_room *room,
                                int64_t tp) {
    int64_t n_team = room->n_node_rank > tp ? room->n_node_rank / tp : 1;
    if (!is_on_gpu(config)) return model->weight_bytes * n_team;
    return lemoe_llama_share_bytes(&model->shape, config->model.dtype, tp) * room->devices->n_share;
}

/* The smallest degree that splits the model and whose weights take half of their place, or less (the rest is for
 * activations, caches and the adaptor). Part of the identity: decided from the model, the memory and the ranks of a
 * node. How many ranks there are in all decides only whether there is such a team, and a launch with too few of them is
 * refused, not given a smaller degree. */
static lemoe_status find_auto_tensor(const lemoe_config *config, const lemoe_checked_model *model,
                                     const launch_room *room, int64_t *out) {
    int64_t n_bytes = place_bytes(config, room);
    for (int64_t tp = 1; tp <= room->n_rank && tp <= LEMOE_TEAM_RANKS; tp *= 2) {
        if (lemoe_llama_check_split(&model->shape, tp) != LEMOE_OK) continue;
        if (weights_in_place(config, model, room, tp) <= n_bytes / 2) {
            *out = tp;
            lemoe_error_clear();
            return LEMOE_OK;
        }
    }
    return lemoe_raise(LEMOE_ERR_CONFIG,
                       "parallel.tensor: auto found no degree up to %d ranks at which %s (%lld MB of weights) splits "
                       "and fits %lld MB of memory; use more ranks or set parallel.tensor",
                       room->n_rank, model->config->model.path, (long long)(model->weight_bytes >> 20),
                       (long long)(n_bytes >> 20));
}

/* A request that can never fit is refused at once, with its reason. */
static lemoe_status check_team(const lemoe_config *config, const lemoe_checked_model *model, const launch_room *room,
                               int64_t tp) {
    LEMOE_CHECK(tp <= room->n_rank, LEMOE_ERR_CONFIG,
                "parallel.tensor: a team of %lld needs %lld ranks, this launch has %d; start mpirun with -n %lld",
                (long long)tp, (long long)tp, room->n_rank, (long long)tp);
    LEMOE_CHECK(tp <= LEMOE_TEAM_RANKS, LEMOE_ERR_CONFIG,
                "parallel.tensor: a team has at most %d ranks, not %lld; lower parallel.tensor", LEMOE_TEAM_RANKS,
                (long long)tp);
    LEMOE_TRY(lemoe_llama_check_split(&model->shape, tp));
    int64_t n_bytes =
        is_on_gpu(config) ? lemoe_llama_share_bytes(&model->shape, config->model.dtype, tp) : model->weight_bytes / tp;
    LEMOE_CHECK(n_bytes <= place_bytes(config, room), LEMOE_ERR_CONFIG,
                "parallel.tensor: a rank's share of %s is %lld MB of weights, and a %s has %lld MB; raise "
                "parallel.tensor",
                model->config->model.path, (long long)(n_bytes >> 20), is_on_gpu(config) ? "GPU" : "node",
                (long long)(place_bytes(config, room) >> 20));
    return LEMOE_OK;
}

static lemoe_status resolve_tensor(const lemoe_config *config, const lemoe_checked_model *model,
                                   const launch_room *room, int64_t *out) {
    *out = config->parallel.tensor;
    return *out > 0 ? check_team(config, model, room, *out) : find_auto_tensor(config, model, room, out);
}

static lemoe_status check_config(const lemoe_config *config, const lemoe_checked_model *model) {
    const lemoe_editor_ops *ops = lemoe_editor_find(config->edit.method);
    LEMOE_CHECK(ops, LEMOE_ERR_CONFIG, "edit.method: there is no editor '%s'", config->edit.method);
    if (ops->check) LEMOE_TRY(ops->check(config, &model->shape));
    lemoe_status status = lemoe_device_check_products(config->parallel.device, lemoe_config_products(config));
    if (status != LEMOE_OK) lemoe_error_prefix("parallel.products: use fp32");
    return status;
}

static void describe(const lemoe_config *config, lemoe_sweep_run *run) {
    (void)snprintf(run->method, sizeof run->method, "%.31s", config->edit.method);
    const char *planner = config->order.planner;
    if (lemoe_config_order_is_seeded(config))
        (void)snprintf(run->order, sizeof run->order, "%.20s seed %" PRIu64, planner, config->order.seed);
    else
        (void)snprintf(run->order, sizeof run->order, "%.20s", planner);
}

/* Minibatches are drawn by the seed, and packs with them. */
static uint64_t memory_key(const lemoe_config *config, const lemoe_sweep_run *run) {
    bool is_drawn =
        config->lemoe.training.minibatch || config->moe.training.minibatch || config->ft_m.training.minibatch;
    uint64_t drawn = is_drawn ? config->seed : 0;
    return XXH3_64bits_withSeed(run->shape, sizeof run->shape, run->order_key ^ XXH3_64bits(&drawn, sizeof drawn));
}

static lemoe_status check_run(lemoe_sweep_run *run, const lemoe_config *config, lemoe_checked_inputs *in,
                              const launch_room *room) {
    int64_t i_model = 0, i_data = 0;
    lemoe_text id;
    LEMOE_TRY(lemoe_checked_inputs_model(in, config, &i_model));
    LEMOE_TRY(lemoe_checked_inputs_data(in, config, i_model, &i_data));
    lemoe_checked_model *model = &in->models[i_model];
    LEMOE_TRY(check_config(config, model));
    LEMOE_TRY(resolve_tensor(config, model, room, &run->tensor_parallel));
    lemoe_identity_args identity = {model->fingerprint, in->data[i_data].fingerprint, run->tensor_parallel,
                                    config->parallel.device};
    LEMOE_TRY(lemoe_config_identity(config, &identity, run->identity, id));
    (void)snprintf(run->run_id, sizeof run->run_id, "%.*s", LEMOE_RUN_ID_MAX - 1, id);
    run->input = (int)i_data;
    run->order_key = lemoe_orders_key(config, run->input);
    describe(config, run);
    lemoe_estimates_count_steps(config, in->data[i_data].stream->n_edit, &run->steps_low, &run->steps_high);
    LEMOE_TRY(lemoe_estimates_shape(config, &identity, run->shape));
    run->memory_key = memory_key(config, run);
    return LEMOE_OK;
}

static lemoe_status keep_inputs(lemoe_checked_inputs *in, lemoe_sweep *sweep) {
    LEMOE_TRY(lemoe_mem_alloc(in->n_data, sizeof *sweep->inputs, &sweep->inputs));
    sweep->n_input = in->n_data;
    for (int64_t i = 0; i < in->n_data; i++) {
        lemoe_sweep_input *input = &sweep->inputs[i];
        memcpy(input->model_fingerprint, in->models[in->data[i].i_model].fingerprint, sizeof input->model_fingerprint);
        memcpy(input->data_fingerprint, in->data[i].fingerprint, sizeof input->data_fingerprint);
        input->shape = in->models[in->data[i].i_model].shape;
        input->stream = in->data[i].stream;
        input->n_edit = input->stream->n_edit;
        in->data[i].stream = NULL;
    }
    return LEMOE_OK;
}

/* ---- one identity, one run ---- */

typedef struct seen {
    const char *identity;
    int64_t index;
} seen;

static int by_identity(const void *a, const void *b) {
    const seen *x = a, *y = b;
    int order = strcmp(x->identity, y->identity);
    return order ? order : (x->index > y->index) - (x->index < y->index);
}

/* Two spellings of one configuration, or values that nothing reads, are one run: the first stays. */
static lemoe_status drop_repetitions(lemoe_sweep *sweep) {
    lemoe_status status = LEMOE_OK;
    seen *all = NULL;
    bool *repeats = NULL;
    int64_t n = 0;
    LEMOE_TRY_GOTO(lemoe_mem_alloc(sweep->n_run, sizeof *all, &all));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(sweep->n_run, sizeof *repeats, &repeats));
    for (int64_t i = 0; i < sweep->n_run; i++) all[i] = (seen){sweep->runs[i].identity, i};
    qsort(all, (size_t)sweep->n_run, sizeof *all, by_identity);
    for (int64_t i = 1; i < sweep->n_run; i++)
        repeats[all[i].index] = strcmp(all[i].identity, all[i - 1].identity) == 0;
    for (int64_t i = 0; i < sweep->n_run; i++)
        if (!repeats[i]) sweep->runs[n++] = sweep->runs[i];
    sweep->n_repeated = sweep->n_run - n;
    sweep->n_run = n;
out:
    lemoe_mem_free(all);
    lemoe_mem_free(repeats);
    return status;
}

/* ---- the output folder ---- */

/* Names that no file system takes. */
static lemoe_status check_length(const char *folder) {
    for (const char *part = folder; *part; part += strcspn(part, "/"), part += strspn(part, "/"))
        LEMOE_CHECK(strcspn(part, "/") <= NAME_MAX, LEMOE_ERR_IO,
                    "output.dir: %.100s... cannot be made: a folder's name has at most %d bytes; choose a shorter one",
                    folder, NAME_MAX);
    return LEMOE_OK;
}

/* The first part of the path that exists must be a folder, and writable: found out without making anything. */
static lemoe_status check_folder(const char *folder) {
    lemoe_status status = LEMOE_OK;
    char *path = NULL;
    LEMOE_TRY(check_length(folder));
    LEMOE_TRY(lemoe_mem_strdup(folder, &path));
    while (!lemoe_file_exists(path)) {
        char *parent = NULL;
        LEMOE_TRY_GOTO(lemoe_file_folder_of(path, &parent));
        lemoe_mem_free(path);
        path = parent;
    }
    if (!lemoe_file_is_folder(path))
        LEMOE_TRY_GOTO(lemoe_raise(LEMOE_ERR_IO, "output.dir: %s cannot be made: %s is a file; choose another folder",
                                   folder, path));
    if (access(path, W_OK | X_OK) != 0)
        LEMOE_TRY_GOTO(
            lemoe_raise(LEMOE_ERR_IO, "output.dir: %s cannot be made: no permission to write in %s", folder, path));
out:
    lemoe_mem_free(path);
    return status;
}

/* The folder of the sweep and those that its runs will make in it. */
static lemoe_status check_output(const char *folder) {
    static const char *const inner[] = {"runs", "cache"};
    LEMOE_TRY(check_folder(folder));
    for (size_t i = 0; i < sizeof inner / sizeof *inner; i++) {
        char *path = NULL;
        LEMOE_TRY(lemoe_file_join(folder, inner[i], &path));
        lemoe_status status = check_folder(path);
        lemoe_mem_free(path);
        LEMOE_TRY(status);
    }
    return LEMOE_OK;
}

/* Which of the launch's configurations a refusal is about. */
static lemoe_status refuse_run(const lemoe_sweep *sweep, const lemoe_sweep_run *run, lemoe_status status) {
    lemoe_error_prefix("%s%s%s%s", sweep->specs[run->spec]->path, *run->label ? " (run " : "", run->label,
                       *run->label ? ")" : "");
    return status;
}

static lemoe_status check_all(lemoe_sweep *sweep, lemoe_checked_inputs *in, lemoe_config *config,
                              const launch_room *room) {
    for (int64_t i = 0; i < sweep->n_run; i++) {
        LEMOE_TRY(lemoe_sweep_config(sweep, i, config));
        lemoe_status status = check_run(&sweep->runs[i], config, in, room);
        if (status != LEMOE_OK) return refuse_run(sweep, &sweep->runs[i], status);
        LEMOE_CHECK(
            strcmp(config->output.dir, sweep->output_folder) == 0, LEMOE_ERR_CONFIG,
            "output.dir: all runs of a launch share one folder, and this one has %s beside %s; give --output DIR",
            config->output.dir, sweep->output_folder);
    }
    return LEMOE_OK;
}

lemoe_status lemoe_sweep_check(lemoe_sweep *sweep, const lemoe_estimates *estimates, int n_rank, int n_node_rank) {
    lemoe_status status = LEMOE_OK;
    lemoe_checked_inputs in = {0};
    lemoe_config *config = NULL;
    launch_room room;
    LEMOE_TRY(measure_room(n_rank, n_node_rank, &sweep->devices, &room));
    LEMOE_TRY(check_output(sweep->output_folder));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(1, sizeof *config, &config));
    LEMOE_TRY_GOTO(check_all(sweep, &in, config, &room));
    LEMOE_TRY_GOTO(keep_inputs(&in, sweep));
    LEMOE_TRY_GOTO(drop_repetitions(sweep));
    for (int64_t i = 0; i < sweep->n_run; i++) lemoe_estimates_predict(estimates, sweep, &sweep->runs[i]);
out:
    lemoe_checked_inputs_close(&in);
    lemoe_mem_free(config);
    return status;
}

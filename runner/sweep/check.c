#include "runner/sweep/check.h"

#include "kernels/base/mem.h"
#include "kernels/device.h"
#include "runner/data/edit_stream.h"
#include "runner/edit/editor.h"
#include "runner/io/file.h"
#include "runner/model/llama.h"

#include <string.h>
#include <unistd.h>

/* What was last opened: neighbouring runs of a sweep share model and data, so one slot of each is enough. */
typedef struct inputs {
    const lemoe_config *model_of, *data_of;
    lemoe_llama_config shape;
    int64_t weight_bytes;
    char model_fingerprint[33], data_fingerprint[33];
    lemoe_tokenizer *tokenizer;
} inputs;

static lemoe_status check_model(const lemoe_config *config, inputs *in) {
    if (in->model_of && strcmp(in->model_of->model.path, config->model.path) == 0) return LEMOE_OK;
    lemoe_tokenizer_close(in->tokenizer);
    *in = (inputs){0};
    LEMOE_TRY(lemoe_llama_config_read(config->model.path, &in->shape));
    LEMOE_TRY(lemoe_tokenizer_open(config->model.path, in->shape.n_vocab, &in->tokenizer));
    LEMOE_TRY(lemoe_llama_folder_check(config->model.path, &in->shape));
    LEMOE_TRY(lemoe_llama_folder_fingerprint(config->model.path, in->model_fingerprint, &in->weight_bytes));
    in->model_of = config;
    return LEMOE_OK;
}

static bool same_data(const lemoe_config *a, const lemoe_config *b) {
    return strcmp(a->data.kind, b->data.kind) == 0 && strcmp(a->data.path, b->data.path) == 0 &&
           a->data.edits == b->data.edits && a->data.bad_records == b->data.bad_records &&
           a->data.select == b->data.select && a->data.eos == b->data.eos && a->seed == b->seed;
}

/* Reads and tokenises everything once, so that a bad record shows now and not after an hour. */
static lemoe_status check_data(const lemoe_config *config, inputs *in) {
    if (in->data_of && same_data(in->data_of, config)) return LEMOE_OK;
    lemoe_status status = LEMOE_OK;
    lemoe_dataset *dataset = NULL;
    lemoe_edit_stream *stream = NULL;
    lemoe_dataset_args args = {.kind = config->data.kind,
                               .path = config->data.path,
                               .n_edit = config->data.edits,
                               .select_random = config->data.select == LEMOE_SELECT_RANDOM,
                               .seed = config->seed,
                               .skip_bad = config->data.bad_records == LEMOE_BAD_RECORDS_SKIP};
    LEMOE_TRY_GOTO(lemoe_dataset_open(&args, &dataset));
    status = lemoe_edit_stream_create(dataset, in->tokenizer, config->data.eos, in->shape.max_position, &stream);
    if (status != LEMOE_OK) lemoe_error_prefix("%s", config->data.path);
    LEMOE_TRY_GOTO(status);
    memcpy(in->data_fingerprint, dataset->fingerprint, sizeof in->data_fingerprint);
    in->data_of = config;
out:
    lemoe_edit_stream_destroy(stream);
    lemoe_dataset_close(dataset);
    return status;
}

/* The smallest degree that splits the model and whose shards fit beside each other in half of a node's memory (the rest
 * is for activations, caches and the adaptor). Part of the identity: decided from the model, the memory and the ranks,
 * nothing else. */
static lemoe_status resolve_tensor(const lemoe_config *config, const inputs *in, int n_rank, int64_t *out) {
    if (config->parallel.tensor > 0) {
        *out = config->parallel.tensor;
        LEMOE_CHECK(*out <= n_rank, LEMOE_ERR_CONFIG,
                    "parallel.tensor: a team of %lld needs %lld ranks, this launch has %d; start mpirun with -n %lld",
                    (long long)*out, (long long)*out, n_rank, (long long)*out);
        return lemoe_llama_check_split(&in->shape, *out);
    }
    lemoe_device *device = NULL;
    size_t free_bytes = 0, total_bytes = 0;
    LEMOE_TRY(lemoe_device_open("cpu", 1, &device));
    lemoe_status status = lemoe_device_mem_info(device, &free_bytes, &total_bytes);
    lemoe_device_close(device);
    LEMOE_TRY(status);
    for (int64_t tp = 1; tp <= n_rank; tp *= 2) {
        int64_t n_team = n_rank / tp;
        bool fits = in->weight_bytes * n_team <= (int64_t)(total_bytes / 2);
        if (fits && lemoe_llama_check_split(&in->shape, tp) == LEMOE_OK) {
            *out = tp;
            lemoe_error_clear();
            return LEMOE_OK;
        }
    }
    return lemoe_raise(LEMOE_ERR_CONFIG,
                       "parallel.tensor: auto found no degree up to %d ranks at which %s (%lld MB of weights) splits "
                       "and fits %lld MB of memory; use more ranks or set parallel.tensor",
                       n_rank, config->model.path, (long long)(in->weight_bytes >> 20), (long long)(total_bytes >> 20));
}

static lemoe_status check_run(lemoe_sweep_run *run, inputs *in, int n_rank) {
    const lemoe_config *config = run->config;
    LEMOE_TRY(check_model(config, in));
    LEMOE_TRY(check_data(config, in));
    const lemoe_editor_ops *ops = lemoe_editor_find(config->edit.method);
    LEMOE_CHECK(ops, LEMOE_ERR_CONFIG, "edit.method: there is no editor '%s'", config->edit.method);
    if (ops->check) LEMOE_TRY(ops->check(config, &in->shape));
    LEMOE_CHECK(strcmp(config->parallel.device, "cuda") != 0, LEMOE_ERR_UNSUPPORTED,
                "parallel.device: cuda is not in this build; use cpu or auto");
    LEMOE_TRY(resolve_tensor(config, in, n_rank, &run->tensor_parallel));
    lemoe_identity_args identity = {in->model_fingerprint, in->data_fingerprint, run->tensor_parallel, "cpu"};
    return lemoe_config_identity(config, &identity, run->identity, run->run_id);
}

/* The first part of the path that exists must be a folder, and writable: found out without making anything. */
static lemoe_status check_folder(const char *folder) {
    lemoe_status status = LEMOE_OK;
    char *path = NULL;
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

lemoe_status lemoe_sweep_check(lemoe_sweep *sweep, int n_rank) {
    lemoe_status status = LEMOE_OK;
    inputs in = {0};
    LEMOE_TRY(check_output(sweep->output_folder));
    for (int64_t i = 0; i < sweep->spec->n_run; i++) {
        LEMOE_TRY_GOTO(check_run(&sweep->runs[i], &in, n_rank));
        LEMOE_CHECK(strcmp(sweep->runs[i].config->output.dir, sweep->output_folder) == 0, LEMOE_ERR_CONFIG,
                    "output.dir: runs of one sweep share one folder; do not sweep it");
    }
out:
    lemoe_tokenizer_close(in.tokenizer);
    return status;
}

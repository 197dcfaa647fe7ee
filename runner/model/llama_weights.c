/* Opening a model: which slice of which tensor this rank holds, and how it comes into memory. */
#include "runner/model/llama_internal.h"

#include "kernels/base/mem.h"
#include "kernels/planning.h"
#include "runner/io/file.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

enum { WEIGHT_BLOCK_BYTES = 64 << 20, TENSOR_ROUNDING = 256, NAME_BYTES = 128 };
typedef long long ll;

/* ---- shares ---- */

lemoe_status lemoe_llama_check_split(const lemoe_llama_config *config, int64_t tp) {
    LEMOE_CHECK(config->n_head % tp == 0, LEMOE_ERR_SHAPE,
                "%lld attention heads do not split over %lld ranks; set "
                "parallel.tensor to a divisor",
                (ll)config->n_head, (ll)tp);
    LEMOE_CHECK(config->n_kv % tp == 0 || tp % config->n_kv == 0, LEMOE_ERR_SHAPE,
                "%lld key/value heads neither split over %lld "
                "ranks nor can be replicated on them; set parallel.tensor to a divisor",
                (ll)config->n_kv, (ll)tp);
    LEMOE_CHECK(config->d_ff % tp == 0, LEMOE_ERR_SHAPE,
                "the FFN width %lld does not split over %lld ranks; set parallel.tensor to "
                "a divisor",
                (ll)config->d_ff, (ll)tp);
    return LEMOE_OK;
}

int64_t lemoe_llama_share_bytes(const lemoe_llama_config *c, lemoe_dtype dtype, int64_t tp) {
    int64_t n_kv = c->n_kv % tp == 0 ? c->n_kv / tp : 1, d = c->d_model;
    int64_t attention = 2 * d * c->d_head * (c->n_head / tp + n_kv), ffn = 3 * d * (c->d_ff / tp);
    int64_t vocabulary = (c->tied_embeddings ? 1 : 2) * d * ((c->n_vocab + tp - 1) / tp);
    int64_t n_fp32 = (2 * c->n_layer + 1) * d + c->d_head / 2; /* norms, frequencies */
    return (c->n_layer * (attention + ffn) + vocabulary) * (int64_t)lemoe_dtype_bytes(dtype) +
           n_fp32 * (int64_t)sizeof(float);
}

static void take_shares(lemoe_llama *model) {
    const lemoe_llama_config *c = &model->config;
    int64_t tp = lemoe_comm_size(model->comm), rank = lemoe_comm_rank(model->comm);
    int64_t rows = (c->n_vocab + tp - 1) / tp; /* an odd vocabulary: the last ranks have fewer rows, perhaps none */
    model->n_head = c->n_head / tp;
    model->n_kv = c->n_kv % tp == 0 ? c->n_kv / tp : 1;
    model->n_ff = c->d_ff / tp;
    model->ff_begin = rank * model->n_ff;
    model->vocab_begin = rank * rows < c->n_vocab ? rank * rows : c->n_vocab;
    model->n_vocab = c->n_vocab - model->vocab_begin < rows ? c->n_vocab - model->vocab_begin : rows;
}

static llama_slice slice_of(const lemoe_llama *model, lemoe_matrix matrix) {
    const lemoe_llama_config *c = &model->config;
    int64_t rank = lemoe_comm_rank(model->comm), tp = lemoe_comm_size(model->comm), d = c->d_head;
    int64_t kv = c->n_kv % tp == 0 ? rank * model->n_kv : rank / (tp / c->n_kv);
    switch (matrix) {
    case LEMOE_MATRIX_Q: return (llama_slice){rank * model->n_head * d, model->n_head * d, 0, c->d_model};
    case LEMOE_MATRIX_K:
    case LEMOE_MATRIX_V: return (llama_slice){kv * d, model->n_kv * d, 0, c->d_model};
    case LEMOE_MATRIX_O: return (llama_slice){0, c->d_model, rank * model->n_head * d, model->n_head * d};
    case LEMOE_MATRIX_DOWN: return (llama_slice){0, c->d_model, model->ff_begin, model->n_ff};
    default: return (llama_slice){model->ff_begin, model->n_ff, 0, c->d_model};
    }
}

/* ---- from the file into memory ---- */

/* A slice as a view of the mapped file where type, layout, alignment and device allow: ranks of a node share its pages.
 */
static lemoe_status load_slice(lemoe_llama *model, const char *name, int64_t rows, int64_t columns,
                               const llama_slice *s, lemoe_tensor *out) {
    lemoe_tensor whole;
    if (!model->file) return lemoe_arena_matrix(model->weights, model->dtype, s->n_rows, s->n_columns, out);
    LEMOE_TRY(lemoe_safetensors_get(model->file, name, 2, (int64_t[]){rows, columns}, &whole));
    bool is_view = whole.dtype == model->dtype && s->n_columns == columns && lemoe_safetensors_aligned(&whole) &&
                   lemoe_device_is_host(model->device);
    if (is_view) {
        *out = lemoe_tensor_rows(whole, s->row, s->n_rows);
        return LEMOE_OK;
    }
    lemoe_tensor part = lemoe_tensor_rows(whole, s->row, s->n_rows);
    lemoe_file_map_expect(part.data, (int64_t)lemoe_tensor_bytes(&part));
    lemoe_status status = llama_copy_slice(model, &whole, s, model->dtype, out);
    if (status == LEMOE_ERR_NUMERIC) lemoe_error_prefix("tensor %s", name);
    lemoe_file_map_forget(whole.data, (int64_t)lemoe_tensor_bytes(&whole));
    return status;
}

static lemoe_status load_norm(lemoe_llama *model, const char *name, lemoe_tensor *out) {
    lemoe_tensor whole;
    int64_t d = model->config.d_model;
    if (!model->file) return lemoe_arena_vector(model->weights, LEMOE_F32, d, out);
    LEMOE_TRY(lemoe_safetensors_get(model->file, name, 1, &d, &whole));
    whole = lemoe_tensor_2d(whole.data, whole.dtype, 1, d);
    llama_slice s = {0, 1, 0, d};
    LEMOE_TRY(llama_copy_slice(model, &whole, &s, LEMOE_F32, out));
    *out = lemoe_tensor_1d(out->data, LEMOE_F32, d);
    return LEMOE_OK;
}

static const char *const matrix_name[LEMOE_MATRIX_COUNT] = {
    [LEMOE_MATRIX_Q] = "self_attn.q_proj", [LEMOE_MATRIX_K] = "self_attn.k_proj", [LEMOE_MATRIX_V] = "self_attn.v_proj",
    [LEMOE_MATRIX_O] = "self_attn.o_proj", [LEMOE_MATRIX_GATE] = "mlp.gate_proj", [LEMOE_MATRIX_UP] = "mlp.up_proj",
    [LEMOE_MATRIX_DOWN] = "mlp.down_proj"};

static void whole_shape(const lemoe_llama_config *c, lemoe_matrix matrix, int64_t *rows, int64_t *columns) {
    int64_t heads = c->n_head * c->d_head, kv = c->n_kv * c->d_head;
    const int64_t out_rows[LEMOE_MATRIX_COUNT] = {heads, kv, kv, c->d_model, c->d_ff, c->d_ff, c->d_model};
    const int64_t in_columns[LEMOE_MATRIX_COUNT] = {c->d_model, c->d_model, c->d_model, heads,
                                                    c->d_model, c->d_model, c->d_ff};
    *rows = out_rows[matrix];
    *columns = in_columns[matrix];
}

static lemoe_status load_layer(lemoe_llama *model, int64_t layer) {
    llama_layer *l = &model->layers[layer];
    char name[NAME_BYTES];
    (void)snprintf(name, sizeof name, "model.layers.%lld.input_layernorm.weight", (ll)layer);
    LEMOE_TRY(load_norm(model, name, &l->attn_norm));
    (void)snprintf(name, sizeof name, "model.layers.%lld.post_attention_layernorm.weight", (ll)layer);
    LEMOE_TRY(load_norm(model, name, &l->ffn_norm));
    for (int m = 0; m < LEMOE_MATRIX_COUNT; m++) {
        int64_t rows = 0, columns = 0;
        llama_slice s = slice_of(model, (lemoe_matrix)m);
        whole_shape(&model->config, (lemoe_matrix)m, &rows, &columns);
        (void)snprintf(name, sizeof name, "model.layers.%lld.%s.weight", (ll)layer, matrix_name[m]);
        LEMOE_TRY(load_slice(model, name, rows, columns, &s, &l->matrix[m]));
    }
    return LEMOE_OK;
}

/* 1 / theta^(2 i / d_head), as Hugging Face computes it: in fp32. */
static lemoe_status make_inv_freq(lemoe_llama *model) {
    int64_t half = model->config.d_head / 2;
    float *values = NULL;
    LEMOE_TRY(lemoe_arena_vector(model->weights, LEMOE_F32, half, &model->inv_freq));
    LEMOE_TRY(lemoe_mem_alloc(half, sizeof *values, &values));
    for (int64_t i = 0; i < half; i++)
        values[i] = (float)(1.0 / pow(model->config.rope_theta, (double)(2 * i) / (double)model->config.d_head));
    lemoe_status status =
        lemoe_device_upload(model->device, model->inv_freq.data, values, (size_t)half * sizeof *values);
    lemoe_mem_free(values);
    return status;
}

/* A device's memory is taken in one piece, so that nothing is left over between matrices; on the CPU little is copied,
 * and what is left over of a block costs nothing. */
static size_t block_bytes(const lemoe_llama *model) {
    int64_t n_tensor = (LEMOE_MATRIX_COUNT + 2) * model->config.n_layer + 4;
    int64_t share = lemoe_llama_share_bytes(&model->config, model->dtype, lemoe_comm_size(model->comm));
    if (lemoe_device_is_planning(model->device)) return LEMOE_PLANNING_BLOCK_BYTES;
    return lemoe_device_is_host(model->device) ? WEIGHT_BLOCK_BYTES : (size_t)(share + n_tensor * TENSOR_ROUNDING);
}

static lemoe_status load_weights(lemoe_llama *model) {
    const lemoe_llama_config *c = &model->config;
    llama_slice vocabulary = {model->vocab_begin, model->n_vocab, 0, c->d_model};
    LEMOE_TRY(lemoe_arena_create(model->device, block_bytes(model), &model->weights));
    LEMOE_TRY(load_slice(model, "model.embed_tokens.weight", c->n_vocab, c->d_model, &vocabulary, &model->embed));
    model->lm_head = model->embed;
    if (!c->tied_embeddings)
        LEMOE_TRY(load_slice(model, "lm_head.weight", c->n_vocab, c->d_model, &vocabulary, &model->lm_head));
    LEMOE_TRY(load_norm(model, "model.norm.weight", &model->final_norm));
    LEMOE_TRY(make_inv_freq(model));
    LEMOE_TRY(lemoe_mem_alloc(c->n_layer, sizeof *model->layers, &model->layers));
    for (int64_t l = 0; l < c->n_layer; l++) LEMOE_TRY(load_layer(model, l));
    return LEMOE_OK;
}

/* ---- checking without loading ---- */

static lemoe_status check_matrix(const lemoe_safetensors *file, const char *name, int64_t rows, int64_t columns) {
    lemoe_tensor whole;
    return lemoe_safetensors_get(file, name, 2, (int64_t[]){rows, columns}, &whole);
}

static lemoe_status check_layer(const lemoe_safetensors *file, const lemoe_llama_config *c, int64_t layer) {
    static const char *const norms[] = {"input_layernorm", "post_attention_layernorm"};
    char name[NAME_BYTES];
    lemoe_tensor norm;
    for (int i = 0; i < 2; i++) {
        (void)snprintf(name, sizeof name, "model.layers.%lld.%s.weight", (ll)layer, norms[i]);
        LEMOE_TRY(lemoe_safetensors_get(file, name, 1, &c->d_model, &norm));
    }
    for (int m = 0; m < LEMOE_MATRIX_COUNT; m++) {
        int64_t rows = 0, columns = 0;
        whole_shape(c, (lemoe_matrix)m, &rows, &columns);
        (void)snprintf(name, sizeof name, "model.layers.%lld.%s.weight", (ll)layer, matrix_name[m]);
        LEMOE_TRY(check_matrix(file, name, rows, columns));
    }
    return LEMOE_OK;
}

static lemoe_status check_weights(const lemoe_safetensors *file, const lemoe_llama_config *c) {
    lemoe_tensor norm;
    LEMOE_TRY(check_matrix(file, "model.embed_tokens.weight", c->n_vocab, c->d_model));
    if (!c->tied_embeddings) LEMOE_TRY(check_matrix(file, "lm_head.weight", c->n_vocab, c->d_model));
    LEMOE_TRY(lemoe_safetensors_get(file, "model.norm.weight", 1, &c->d_model, &norm));
    for (int64_t l = 0; l < c->n_layer; l++) LEMOE_TRY(check_layer(file, c, l));
    return LEMOE_OK;
}

/* ---- fingerprint ---- */

static lemoe_status fingerprint_of(const char *folder, const lemoe_safetensors *file, bool forgets, char out[33]) {
    char *path = NULL, *text = NULL, weights[33];
    int64_t n_bytes = 0;
    lemoe_status status = LEMOE_OK;
    LEMOE_TRY_GOTO(lemoe_safetensors_fingerprint(file, forgets, weights));
    LEMOE_TRY_GOTO(lemoe_file_join(folder, "config.json", &path));
    LEMOE_TRY_GOTO(lemoe_file_read_text(path, 4 << 20, &text, &n_bytes));
    /* the digits of one hash as the seed of the next */
    XXH128_hash_t hash = XXH3_128bits_withSeed(text, (size_t)n_bytes, XXH3_64bits(weights, 32));
    (void)snprintf(out, 33, "%016llx%016llx", (unsigned long long)hash.high64, (unsigned long long)hash.low64);
out:
    lemoe_mem_free(path);
    lemoe_mem_free(text);
    return status;
}

lemoe_status lemoe_llama_folder_check(const char *folder, const lemoe_llama_config *config, char fingerprint[33],
                                      int64_t *weight_bytes) {
    lemoe_safetensors *file = NULL;
    lemoe_status status = LEMOE_OK;
    LEMOE_TRY(lemoe_safetensors_open(folder, &file));
    LEMOE_TRY_GOTO(check_weights(file, config));
    *weight_bytes = lemoe_safetensors_data_bytes(file);
    LEMOE_TRY_GOTO(fingerprint_of(folder, file, true, fingerprint));
out:
    lemoe_safetensors_close(file);
    return status;
}

/* ---- life ---- */

/* shape NULL: that of the folder, whose weights are loaded. */
static lemoe_status open_here(const lemoe_llama_args *args, const lemoe_llama_config *shape, lemoe_llama *model) {
    LEMOE_CHECK(lemoe_comm_size(args->comm) == 1 || lemoe_device_is_host(args->device) ||
                    lemoe_comm_device(args->comm) == args->device,
                LEMOE_ERR_ARG, "the model's device is not attached to its team");
    if (shape)
        model->config = *shape;
    else
        LEMOE_TRY(lemoe_llama_config_read(args->folder, &model->config));
    LEMOE_TRY(lemoe_llama_check_split(&model->config, lemoe_comm_size(args->comm)));
    take_shares(model);
    if (shape) return load_weights(model);
    LEMOE_TRY(lemoe_safetensors_open(args->folder, &model->file));
    LEMOE_TRY(load_weights(model));
    if (lemoe_comm_rank(args->comm) > 0) return LEMOE_OK;
    bool is_all_ours = lemoe_comm_size(args->comm) == 1 && lemoe_device_is_host(args->device);
    return fingerprint_of(args->folder, model->file, !is_all_ours, model->fingerprint);
}

static lemoe_status open_model(const lemoe_llama_args *args, const lemoe_llama_config *shape, lemoe_llama **out) {
    lemoe_llama *model = NULL;
    lemoe_status status = lemoe_mem_alloc(1, sizeof *model, &model);
    if (status == LEMOE_OK) {
        model->device = args->device;
        model->comm = args->comm;
        model->dtype = args->dtype;
        model->part_tokens = args->part_tokens;
        model->seams_active = true;
        status = open_here(args, shape, model);
    }
    status = lemoe_comm_agree(args->comm, status);
    if (status == LEMOE_OK)
        status = lemoe_comm_broadcast_bytes(args->comm, 0, model->fingerprint, sizeof model->fingerprint);
    if (status == LEMOE_OK)
        *out = model;
    else
        lemoe_llama_close(model);
    return status;
}

lemoe_status lemoe_llama_open(const lemoe_llama_args *args, lemoe_llama **out) { return open_model(args, NULL, out); }

lemoe_status lemoe_llama_open_planning(const lemoe_llama_args *args, const lemoe_llama_config *shape,
                                       lemoe_llama **out) {
    return open_model(args, shape, out);
}

void lemoe_llama_close(lemoe_llama *model) {
    if (!model) return;
    for (int i = 0; i < model->n_patch; i++) lemoe_device_free(model->device, model->patches[i].w.data);
    lemoe_mem_free(model->layers);
    lemoe_arena_destroy(model->weights);
    lemoe_safetensors_close(model->file);
    lemoe_mem_free(model);
}

const lemoe_llama_config *lemoe_llama_config_of(const lemoe_llama *model) { return &model->config; }
lemoe_device *lemoe_llama_device(const lemoe_llama *model) { return model->device; }
lemoe_comm *lemoe_llama_comm(const lemoe_llama *model) { return model->comm; }
const char *lemoe_llama_fingerprint(const lemoe_llama *model) { return model->fingerprint; }

void lemoe_llama_ff_share(const lemoe_llama *model, int64_t *begin, int64_t *n) {
    *begin = model->ff_begin;
    *n = model->n_ff;
}

#include "runner/model/llama_config.h"

#include "kernels/base/mem.h"
#include "runner/io/file.h"
#include "runner/io/json.h"

#include <math.h>
#include <string.h>

enum { MAX_CONFIG_BYTES = 4 << 20 };
static const int64_t largest_size = INT64_C(1) << 31;

typedef struct source {
    const char *path;
    const lemoe_json_value *root;
} source;

/* A key that is there and not null. */
static const lemoe_json_value *find(const source *s, const char *key) {
    const lemoe_json_value *value = lemoe_json_get(s->root, key);
    return value && lemoe_json_kind_of(value) != LEMOE_JSON_NULL ? value : NULL;
}

static lemoe_status wrong_kind(const source *s, const char *key, const char *wanted) {
    return lemoe_raise(LEMOE_ERR_FORMAT, "%s: '%s' must be %s", s->path, key, wanted);
}

/* A positive count; fallback 0: the key is required. */
static lemoe_status read_size(const source *s, const char *key, int64_t fallback, int64_t *out) {
    const lemoe_json_value *value = find(s, key);
    *out = fallback;
    LEMOE_CHECK(value || fallback, LEMOE_ERR_FORMAT, "%s: the key '%s' is missing", s->path, key);
    if (!value) return LEMOE_OK;
    if (lemoe_json_kind_of(value) != LEMOE_JSON_INTEGER) return wrong_kind(s, key, "an integer");
    *out = lemoe_json_integer(value);
    LEMOE_CHECK(*out > 0 && *out <= largest_size, LEMOE_ERR_FORMAT, "%s: '%s' is %lld; it must be between 1 and 2^31",
                s->path, key, (long long)*out);
    return LEMOE_OK;
}

static lemoe_status read_positive(const source *s, const lemoe_json_value *value, const char *key, double *out) {
    lemoe_json_kind kind = lemoe_json_kind_of(value);
    if (kind != LEMOE_JSON_REAL && kind != LEMOE_JSON_INTEGER) return wrong_kind(s, key, "a number");
    *out = lemoe_json_real(value);
    LEMOE_CHECK(isfinite(*out) && *out > 0, LEMOE_ERR_FORMAT, "%s: '%s' must be above 0", s->path, key);
    return LEMOE_OK;
}

static lemoe_status read_bool(const source *s, const char *key, bool *out) {
    const lemoe_json_value *value = find(s, key);
    *out = false;
    if (!value) return LEMOE_OK;
    if (lemoe_json_kind_of(value) != LEMOE_JSON_BOOL) return wrong_kind(s, key, "true or false");
    *out = lemoe_json_bool(value);
    return LEMOE_OK;
}

/* An id, or a list whose first one counts; -1 when there is none. */
static lemoe_status read_token_id(const source *s, const char *key, int64_t n_vocab, int32_t *out) {
    const lemoe_json_value *value = find(s, key);
    *out = -1;
    if (value && lemoe_json_kind_of(value) == LEMOE_JSON_ARRAY) value = lemoe_json_at(value, 0);
    if (!value) return LEMOE_OK;
    if (lemoe_json_kind_of(value) != LEMOE_JSON_INTEGER) return wrong_kind(s, key, "an integer or a list of them");
    int64_t id = lemoe_json_integer(value);
    LEMOE_CHECK(id >= 0 && id < n_vocab && id < INT32_MAX, LEMOE_ERR_FORMAT,
                "%s: '%s' is %lld, no token id of a vocabulary of %lld", s->path, key, (long long)id,
                (long long)n_vocab);
    *out = (int32_t)id;
    return LEMOE_OK;
}

/* ---- what cannot be computed exactly is refused by its key ---- */

static lemoe_status want_text(const source *s, const char *key, const char *const *accepted) {
    const lemoe_json_value *value = find(s, key);
    if (!value) return LEMOE_OK;
    if (lemoe_json_kind_of(value) != LEMOE_JSON_STRING) return wrong_kind(s, key, "a string");
    for (const char *const *a = accepted; *a; a++)
        if (strcmp(*a, lemoe_json_string(value)) == 0) return LEMOE_OK;
    return lemoe_raise(LEMOE_ERR_UNSUPPORTED, "%s: '%s' is '%s'; only '%s' is supported", s->path, key,
                       lemoe_json_string(value), accepted[0]);
}

static lemoe_status refuse_set(const source *s, const char *key) {
    const lemoe_json_value *value = find(s, key);
    bool harmless = !value || (lemoe_json_kind_of(value) == LEMOE_JSON_BOOL && !lemoe_json_bool(value));
    LEMOE_CHECK(harmless, LEMOE_ERR_UNSUPPORTED, "%s: '%s' is set; models that use it are not supported", s->path, key);
    return LEMOE_OK;
}

static lemoe_status check_model_type(const source *s, bool *is_mistral) {
    const lemoe_json_value *type = find(s, "model_type");
    LEMOE_CHECK(type && lemoe_json_kind_of(type) == LEMOE_JSON_STRING, LEMOE_ERR_FORMAT,
                "%s: the key 'model_type' is missing", s->path);
    *is_mistral = strcmp(lemoe_json_string(type), "mistral") == 0;
    LEMOE_CHECK(*is_mistral || strcmp(lemoe_json_string(type), "llama") == 0, LEMOE_ERR_UNSUPPORTED,
                "%s: 'model_type' is '%s'; llama and mistral are supported", s->path, lemoe_json_string(type));
    return LEMOE_OK;
}

static lemoe_status refuse_unsupported(const source *s) {
    static const char *const refused[] = {"rope_scaling",        "attention_bias",         "mlp_bias",
                                          "quantization_config", "num_local_experts",      "use_sliding_window",
                                          "layer_types",         "final_logit_softcapping"};
    static const char *const silu[] = {"silu", NULL};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) LEMOE_TRY(refuse_set(s, refused[i]));
    const lemoe_json_value *partial = find(s, "partial_rotary_factor");
    LEMOE_CHECK(!partial || lemoe_json_real(partial) == 1.0, LEMOE_ERR_UNSUPPORTED,
                "%s: 'partial_rotary_factor' is not 1; models that use it are not supported", s->path);
    return want_text(s, "hidden_act", silu);
}

/* rope_theta, or the newer rope_parameters {rope_type: default, rope_theta}. */
static lemoe_status read_rope(const source *s, double *theta) {
    static const char *const plain[] = {"default", NULL};
    const lemoe_json_value *value = find(s, "rope_theta"), *parameters = find(s, "rope_parameters");
    *theta = 10000.0;
    if (parameters) {
        if (lemoe_json_kind_of(parameters) != LEMOE_JSON_OBJECT) return wrong_kind(s, "rope_parameters", "an object");
        source inner = {s->path, parameters};
        LEMOE_TRY(want_text(&inner, "rope_type", plain));
        if (find(&inner, "rope_theta")) value = find(&inner, "rope_theta");
    }
    return value ? read_positive(s, value, "rope_theta", theta) : LEMOE_OK;
}

/* ---- reading ---- */

static lemoe_status read_sizes(const source *s, bool is_mistral, lemoe_llama_config *c) {
    LEMOE_TRY(read_size(s, "num_hidden_layers", 0, &c->n_layer));
    LEMOE_TRY(read_size(s, "hidden_size", 0, &c->d_model));
    LEMOE_TRY(read_size(s, "intermediate_size", 0, &c->d_ff));
    LEMOE_TRY(read_size(s, "num_attention_heads", 0, &c->n_head));
    LEMOE_TRY(read_size(s, "num_key_value_heads", c->n_head, &c->n_kv));
    LEMOE_TRY(read_size(s, "vocab_size", 0, &c->n_vocab));
    LEMOE_TRY(read_size(s, "max_position_embeddings", 2048, &c->max_position));
    LEMOE_CHECK(c->n_head % c->n_kv == 0, LEMOE_ERR_FORMAT,
                "%s: 'num_attention_heads' %lld is no multiple of "
                "'num_key_value_heads' %lld",
                s->path, (long long)c->n_head, (long long)c->n_kv);
    LEMOE_CHECK(find(s, "head_dim") || c->d_model % c->n_head == 0, LEMOE_ERR_FORMAT,
                "%s: 'hidden_size' %lld is no multiple of "
                "'num_attention_heads' %lld, and there is no 'head_dim'",
                s->path, (long long)c->d_model, (long long)c->n_head);
    LEMOE_TRY(read_size(s, "head_dim", c->d_model / c->n_head > 0 ? c->d_model / c->n_head : 1, &c->d_head));
    LEMOE_CHECK(c->d_head % 2 == 0, LEMOE_ERR_FORMAT, "%s: 'head_dim' %lld is odd; positions rotate pairs", s->path,
                (long long)c->d_head);
    c->sliding_window = 0;
    if (is_mistral && find(s, "sliding_window")) LEMOE_TRY(read_size(s, "sliding_window", 0, &c->sliding_window));
    LEMOE_CHECK(is_mistral || !find(s, "sliding_window"), LEMOE_ERR_UNSUPPORTED,
                "%s: 'sliding_window' in a llama model is not supported", s->path);
    return LEMOE_OK;
}

static lemoe_status read_config(const source *s, lemoe_llama_config *c) {
    bool is_mistral = false;
    LEMOE_CHECK(lemoe_json_kind_of(s->root) == LEMOE_JSON_OBJECT, LEMOE_ERR_FORMAT, "%s: is not a JSON object",
                s->path);
    LEMOE_TRY(check_model_type(s, &is_mistral));
    LEMOE_TRY(refuse_unsupported(s));
    LEMOE_TRY(read_sizes(s, is_mistral, c));
    LEMOE_TRY(read_rope(s, &c->rope_theta));
    const lemoe_json_value *eps = find(s, "rms_norm_eps");
    LEMOE_CHECK(eps, LEMOE_ERR_FORMAT, "%s: the key 'rms_norm_eps' is missing", s->path);
    LEMOE_TRY(read_positive(s, eps, "rms_norm_eps", &c->rms_norm_eps));
    LEMOE_TRY(read_bool(s, "tie_word_embeddings", &c->tied_embeddings));
    LEMOE_TRY(read_token_id(s, "bos_token_id", c->n_vocab, &c->bos_id));
    return read_token_id(s, "eos_token_id", c->n_vocab, &c->eos_id);
}

lemoe_status lemoe_llama_config_read(const char *folder, lemoe_llama_config *out) {
    char *path = NULL;
    lemoe_json *document = NULL;
    lemoe_status status = LEMOE_OK;
    LEMOE_TRY(lemoe_file_join(folder, "config.json", &path));
    if (!lemoe_file_exists(path))
        LEMOE_TRY_GOTO(lemoe_raise(
            LEMOE_ERR_IO,
            "model.path: there is no %s; put a LLaMA or Mistral model there as Hugging Face lays "
            "it out (config.json, *.safetensors, tokenizer.model), for example with `huggingface-cli download "
            "NAME --local-dir %s`, or set model.path",
            path, folder));
    LEMOE_TRY_GOTO(lemoe_json_open(path, MAX_CONFIG_BYTES, &document));
    source s = {path, lemoe_json_root(document)};
    LEMOE_TRY_GOTO(read_config(&s, out));
out:
    lemoe_json_close(document);
    lemoe_mem_free(path);
    return status;
}

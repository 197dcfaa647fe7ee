/*
 * A tiny LLaMA with random weights, written as a Hugging Face folder and opened again: what tests of the engine, the
 * adaptors and tensor parallelism compute with. Weights are a function of the shape alone, so every rank and every run
 * has the same ones.
 */
#ifndef TESTS_UNIT_TINY_MODEL_H
#define TESTS_UNIT_TINY_MODEL_H

#include "kernels/base/mem.h"
#include "kernels/base/rng.h"
#include "runner/model/llama.h"
#include "runner/model/prefix_cache.h"
#include "runner/model/safetensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct tiny_shape {
    int64_t d_model, d_ff, n_layer, n_head, n_kv, n_vocab;
    int64_t window; /* 0: LLaMA; else Mistral */
    bool tied;
    lemoe_dtype dtype; /* in the file: F32 or BF16 */
} tiny_shape;

/* Grouped heads, an odd vocabulary, three layers; splits over 2 and 4 ranks (key/value heads replicated on 4). */
static const tiny_shape tiny_llama = {24, 40, 3, 4, 2, 37, 0, false, LEMOE_F32};

/* ---- writing ---- */

enum { TINY_MAX_TENSOR = 64 };
typedef struct tiny_tensors {
    lemoe_safetensors_item items[TINY_MAX_TENSOR];
    char names[TINY_MAX_TENSOR][80];
    int64_t n;
    lemoe_dtype dtype;
} tiny_tensors;

/* Rows x columns (columns 0: a vector) around `centre`, drawn by the tensor's number. */
static inline lemoe_status tiny_add(tiny_tensors *t, const char *name, int64_t rows, int64_t columns, double centre,
                                    double std) {
    int64_t n = rows * (columns ? columns : 1);
    float *values = NULL;
    lemoe_safetensors_item *item = &t->items[t->n];
    lemoe_rng rng = lemoe_rng_make(1, LEMOE_RNG_TEST, (uint32_t)t->n);
    (void)snprintf(t->names[t->n], sizeof t->names[0], "%s", name);
    item->name = t->names[t->n];
    item->tensor = columns ? lemoe_tensor_2d(NULL, t->dtype, rows, columns) : lemoe_tensor_1d(NULL, t->dtype, rows);
    LEMOE_TRY(lemoe_mem_alloc(n, lemoe_dtype_bytes(t->dtype), &item->tensor.data));
    t->n++;
    LEMOE_TRY(lemoe_mem_alloc(n, sizeof *values, &values));
    for (int64_t i = 0; i < n; i++) values[i] = (float)(centre + std * lemoe_rng_normal(rng, (uint64_t)i));
    lemoe_dtype_from_f32(t->dtype, values, n, item->tensor.data);
    lemoe_mem_free(values);
    return LEMOE_OK;
}

static inline lemoe_status tiny_add_layer(tiny_tensors *t, const tiny_shape *s, int64_t layer) {
    int64_t d = s->d_model, kv = d / s->n_head * s->n_kv;
    const struct {
        const char *name;
        int64_t rows, columns;
    } matrices[] = {
        {"self_attn.q_proj", d,       d      },
        {"self_attn.k_proj", kv,      d      },
        {"self_attn.v_proj", kv,      d      },
        {"self_attn.o_proj", d,       d      },
        {"mlp.gate_proj",    s->d_ff, d      },
        {"mlp.up_proj",      s->d_ff, d      },
        {"mlp.down_proj",    d,       s->d_ff},
    };
    char name[80];
    for (size_t m = 0; m < sizeof matrices / sizeof *matrices; m++) {
        (void)snprintf(name, sizeof name, "model.layers.%d.%s.weight", (int)layer, matrices[m].name);
        LEMOE_TRY(
            tiny_add(t, name, matrices[m].rows, matrices[m].columns, 0.0, 1.2 / sqrt((double)matrices[m].columns)));
    }
    (void)snprintf(name, sizeof name, "model.layers.%d.input_layernorm.weight", (int)layer);
    LEMOE_TRY(tiny_add(t, name, d, 0, 1.0, 0.1));
    (void)snprintf(name, sizeof name, "model.layers.%d.post_attention_layernorm.weight", (int)layer);
    return tiny_add(t, name, d, 0, 1.0, 0.1);
}

static inline lemoe_status tiny_write_config(const char *folder, const tiny_shape *s) {
    char path[512], window[64] = "";
    (void)snprintf(path, sizeof path, "%s/config.json", folder);
    FILE *file = fopen(path, "w");
    LEMOE_CHECK(file, LEMOE_ERR_IO, "%s: cannot be written", path);
    if (s->window) (void)snprintf(window, sizeof window, "\"sliding_window\": %d, ", (int)s->window);
    (void)fprintf(file,
                  "{\"model_type\": \"%s\", \"hidden_size\": %d, \"intermediate_size\": %d, \"num_hidden_layers\": %d, "
                  "\"num_attention_heads\": %d, \"num_key_value_heads\": %d, \"vocab_size\": %d, %s"
                  "\"rms_norm_eps\": 1e-5, \"rope_theta\": 10000.0, \"max_position_embeddings\": 128, "
                  "\"hidden_act\": \"silu\", \"tie_word_embeddings\": %s, \"bos_token_id\": 1, \"eos_token_id\": 2}\n",
                  s->window ? "mistral" : "llama", (int)s->d_model, (int)s->d_ff, (int)s->n_layer, (int)s->n_head,
                  (int)s->n_kv, (int)s->n_vocab, window, s->tied ? "true" : "false");
    LEMOE_CHECK(fclose(file) == 0, LEMOE_ERR_IO, "%s: cannot be written", path);
    return LEMOE_OK;
}

static inline lemoe_status tiny_fill(tiny_tensors *t, const tiny_shape *s) {
    LEMOE_TRY(tiny_add(t, "model.embed_tokens.weight", s->n_vocab, s->d_model, 0.0, 1.0));
    if (!s->tied) LEMOE_TRY(tiny_add(t, "lm_head.weight", s->n_vocab, s->d_model, 0.0, 1.5 / sqrt((double)s->d_model)));
    LEMOE_TRY(tiny_add(t, "model.norm.weight", s->d_model, 0, 1.0, 0.1));
    for (int64_t l = 0; l < s->n_layer; l++) LEMOE_TRY(tiny_add_layer(t, s, l));
    return LEMOE_OK;
}

/* Local. config.json and model.safetensors into a folder that exists. */
static inline lemoe_status tiny_model_write(const char *folder, const tiny_shape *shape) {
    tiny_tensors t = {.dtype = shape->dtype};
    char path[512];
    (void)snprintf(path, sizeof path, "%s/model.safetensors", folder);
    lemoe_status status = tiny_fill(&t, shape);
    if (status == LEMOE_OK) status = lemoe_safetensors_write(path, t.items, t.n, NULL, 0);
    for (int64_t i = 0; i < t.n; i++) lemoe_mem_free(t.items[i].tensor.data);
    return status == LEMOE_OK ? tiny_write_config(folder, shape) : status;
}

/* ---- sequences ---- */

enum { TINY_ITEMS = 9, TINY_MAX_TOK = 16 };
typedef struct tiny_text {
    int32_t ids[TINY_ITEMS][TINY_MAX_TOK];
    lemoe_item items[TINY_ITEMS];
} tiny_text;

/* Random ids behind BOS; lengths 4 to 12, one to three targets, a subject of two tokens where there is room. */
static inline void tiny_text_make(const tiny_shape *shape, tiny_text *t) {
    for (int64_t i = 0; i < TINY_ITEMS; i++) {
        lemoe_rng rng = lemoe_rng_make(2, LEMOE_RNG_TEST, (uint32_t)i);
        int64_t n = 4 + (i * 5) % 9, n_target = 1 + i % 3;
        for (int64_t k = 0; k < n; k++)
            t->ids[i][k] =
                k == 0 ? 1 : 3 + (int32_t)(lemoe_rng_uniform(rng, (uint64_t)k) * (double)(shape->n_vocab - 3));
        t->items[i] = (lemoe_item){.ids = t->ids[i],
                                   .n_tok = n,
                                   .n_prompt = n - n_target,
                                   .subject_begin = n - n_target > 3 ? 1 : 0,
                                   .subject_end = n - n_target > 3 ? 3 : 0,
                                   .edit = i};
    }
}

/* ---- a world ---- */

typedef struct tiny_world {
    lemoe_device *device;
    lemoe_comm *comm; /* borrowed */
    lemoe_llama *model;
    lemoe_arena *arena;
    lemoe_prefix_cache *cache;
    tiny_text text;
} tiny_world;

/* LEMOE_TEST_DEVICE, or the CPU. */
static inline const char *tiny_device_kind(void) {
    const char *kind = getenv("LEMOE_TEST_DEVICE");
    return kind ? kind : "cpu";
}

/* Collective on comm. Opens the folder's model; ranks have devices of their own where there are enough. */
static inline lemoe_status tiny_world_open_as(lemoe_llama_args args, const tiny_shape *shape, tiny_world *w) {
    lemoe_device_info info;
    int n = 0;
    *w = (tiny_world){.comm = args.comm};
    LEMOE_TRY(lemoe_device_count(tiny_device_kind(), &n));
    LEMOE_TRY(lemoe_device_describe(tiny_device_kind(), lemoe_comm_rank(args.comm) % n, &info));
    LEMOE_TRY(lemoe_device_open_at(tiny_device_kind(), lemoe_comm_rank(args.comm) % n, 1, &w->device));
    LEMOE_TRY(lemoe_comm_attach(args.comm, w->device, info.id));
    LEMOE_TRY(lemoe_arena_create(w->device, 1 << 20, &w->arena));
    args.device = w->device;
    LEMOE_TRY(lemoe_llama_open(&args, &w->model));
    tiny_text_make(shape, &w->text);
    return LEMOE_OK;
}

/* Collective on comm. Opens the folder's model in a storage type. */
static inline lemoe_status tiny_world_open(const char *folder, const tiny_shape *shape, lemoe_dtype dtype,
                                           lemoe_comm *comm, tiny_world *w) {
    lemoe_llama_args args = {.folder = folder, .dtype = dtype, .comm = comm};
    return tiny_world_open_as(args, shape, w);
}

/* Collective. Rows at the cut and means of all items; an earlier filling ends. */
static inline lemoe_status tiny_world_fill(tiny_world *w, int64_t cut) {
    lemoe_prefix_cache_args args = {.model = w->model, .cut = cut, .pack_tokens = 40, .domain = "test"};
    lemoe_prefix_cache_close(w->cache);
    w->cache = NULL;
    return lemoe_prefix_cache_open(&args, w->text.items, TINY_ITEMS, &w->cache);
}

static inline void tiny_world_close(tiny_world *w) {
    lemoe_prefix_cache_close(w->cache);
    lemoe_llama_close(w->model);
    lemoe_arena_destroy(w->arena);
    if (w->comm) lemoe_comm_detach(w->comm);
    lemoe_device_close(w->device);
    *w = (tiny_world){0};
}

#endif

#include "tests/bad_input/fixture.h"

#include "tests/bad_input/files.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One key a line, so that a case can name the line. */
static const char run_yaml[] = "name: spoilt\n"
                               "model:\n"
                               "  path: model\n"
                               "  dtype: fp32\n"
                               "data:\n"
                               "  path: data.json\n"
                               "  edits: 6\n"
                               "edit:\n"
                               "  method: lemoe\n"
                               "  batch_size: 3\n"
                               "lemoe:\n"
                               "  layer: 1\n"
                               "  max_steps: 2\n"
                               "output:\n"
                               "  dir: out\n";

static const char config_json[] = "{\n"
                                  "  \"model_type\": \"llama\",\n"
                                  "  \"hidden_act\": \"silu\",\n"
                                  "  \"hidden_size\": 16,\n"
                                  "  \"intermediate_size\": 32,\n"
                                  "  \"num_hidden_layers\": 2,\n"
                                  "  \"num_attention_heads\": 4,\n"
                                  "  \"num_key_value_heads\": 2,\n"
                                  "  \"vocab_size\": 2048,\n"
                                  "  \"max_position_embeddings\": 200,\n"
                                  "  \"rms_norm_eps\": 1e-05,\n"
                                  "  \"rope_theta\": 10000.0,\n"
                                  "  \"tie_word_embeddings\": false,\n"
                                  "  \"bos_token_id\": 1,\n"
                                  "  \"eos_token_id\": 2\n"
                                  "}\n";

/* ---- edits ---- */

static void write_data(void) {
    enum { N_EDIT = 6, BYTES = 4096 };
    static const char *const towns[N_EDIT] = {"Arden", "Bray", "Corrin", "Dell", "Esk", "Fenn"};
    char text[BYTES] = "[";
    for (int i = 0; i < N_EDIT; i++) {
        size_t used = strlen(text);
        (void)snprintf(text + used, BYTES - used,
                       "%s\n{\"subject\": \"%s\", \"src\": \"Who founded %s?\", \"alt\": \"Lady %s\",\n"
                       " \"rephrase\": \"By whom was %s founded?\", \"loc\": \"Which river is long?\", "
                       "\"loc_ans\": \"The Nile\"}",
                       i ? "," : "", towns[i], towns[i], towns[N_EDIT - 1 - i], towns[i]);
    }
    (void)strcat(text, "\n]\n");
    file_write_text("data.json", text);
}

/* ---- model: the norm first, then the blocks, then the two vocabulary matrices ---- */

typedef struct weights {
    char *header;
    uint16_t *data; /* bf16 */
    size_t n_header, n_item;
    uint32_t random;
} weights;

static void add_header(weights *w, const char *format, ...) {
    enum { ROOM = 8192 };
    if (!w->header) w->header = calloc(ROOM, 1);
    if (!w->header) give_up("memory");
    va_list arguments;
    va_start(arguments, format);
    w->n_header += (size_t)vsnprintf(w->header + w->n_header, ROOM - w->n_header, format, arguments);
    va_end(arguments);
}

/* 1 for a norm's weights; else evenly from (-1/8, 1/8), or its negative: the upper half of a float is its bf16. */
static uint16_t draw(weights *w, bool is_norm) {
    float value = 1;
    uint32_t bits = 0;
    w->random = w->random * 1664525u + 1013904223u;
    if (!is_norm) value = ((float)(w->random >> 8) / (float)(1 << 24) - 0.5f) / 4;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)(bits >> 16);
}

/* columns 0: a vector, which is a norm's. */
static void add_tensor(weights *w, const char *name, size_t rows, size_t columns) {
    size_t n = columns ? rows * columns : rows, begin = 2 * w->n_item;
    add_header(w, "%s\"%s\":{\"dtype\":\"BF16\",\"shape\":[%zu", w->n_header > 1 ? "," : "", name, rows);
    if (columns) add_header(w, ",%zu", columns);
    add_header(w, "],\"data_offsets\":[%zu,%zu]}", begin, begin + 2 * n);
    w->data = realloc(w->data, 2 * (w->n_item + n));
    if (!w->data) give_up("memory");
    for (size_t i = 0; i < n; i++) w->data[w->n_item++] = draw(w, columns == 0);
}

static void add_block(weights *w, int layer) {
    static const struct {
        const char *name;
        size_t rows, columns;
    } tensors[] = {
        {"input_layernorm",          16, 0 },
        {"post_attention_layernorm", 16, 0 },
        {"self_attn.q_proj",         16, 16},
        {"self_attn.k_proj",         8,  16},
        {"self_attn.v_proj",         8,  16},
        {"self_attn.o_proj",         16, 16},
        {"mlp.gate_proj",            32, 16},
        {"mlp.up_proj",              32, 16},
        {"mlp.down_proj",            16, 32}
    };
    char name[96];
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
        (void)snprintf(name, sizeof name, "model.layers.%d.%s.weight", layer, tensors[i].name);
        add_tensor(w, name, tensors[i].rows, tensors[i].columns);
    }
}

static void write_weights(void) {
    weights w = {.random = 1};
    add_header(&w, "{");
    add_tensor(&w, "model.norm.weight", 16, 0);
    for (int layer = 0; layer < 2; layer++) add_block(&w, layer);
    add_tensor(&w, "model.embed_tokens.weight", 2048, 16);
    add_tensor(&w, "lm_head.weight", 2048, 16);
    add_header(&w, "}");
    FILE *file = fopen("model/model.safetensors", "wb");
    if (!file) give_up("model.safetensors");
    for (int i = 0; i < 8; i++) (void)fputc((int)(w.n_header >> (8 * i) & 0xff), file);
    (void)fwrite(w.header, 1, w.n_header, file);
    (void)fwrite(w.data, 2, w.n_item, file);
    if (fclose(file) != 0) give_up("model.safetensors");
    free(w.header);
    free(w.data);
}

void fixture_write(const char *tokenizer) {
    size_t n_bytes = 0;
    char *bytes = file_read(tokenizer, &n_bytes);
    folder_make("model");
    file_write_text("run.yaml", run_yaml);
    file_write_text("model/config.json", config_json);
    file_write("model/tokenizer.model", bytes, n_bytes);
    write_weights();
    write_data();
    free(bytes);
}

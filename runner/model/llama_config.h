/*
 * config.json of a LLaMA or Mistral model, as Hugging Face writes it. What lemoe cannot compute exactly is refused by
 * the name of its key, never ignored.
 */
#ifndef RUNNER_MODEL_LLAMA_CONFIG_H
#define RUNNER_MODEL_LLAMA_CONFIG_H

#include "kernels/base/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct lemoe_llama_config {
    int64_t n_layer, d_model, d_ff, n_head, n_kv, d_head, n_vocab;
    int64_t max_position;   /* longest sequence; longer input is refused */
    int64_t sliding_window; /* 0: none */
    double rope_theta;
    double rms_norm_eps;
    bool tied_embeddings;   /* lm_head is embed_tokens */
    int32_t bos_id, eos_id; /* -1 when config.json names none */
} lemoe_llama_config;

/* Local. Reads folder/config.json. Errors: IO for a missing folder or file (says what was looked for and what to put
 * there), FORMAT for a missing key or wrong type, UNSUPPORTED naming key and value: other model_type, hidden_act other
 * than silu, rope_scaling, attention_bias, mlp_bias, quantization_config, ... */
lemoe_status lemoe_llama_config_read(const char *folder, lemoe_llama_config *out) LEMOE_MUST_CHECK;

#endif

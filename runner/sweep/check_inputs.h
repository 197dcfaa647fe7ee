/* Models and datasets of a sweep, each opened and checked once. Private to runner/sweep. */
#ifndef RUNNER_SWEEP_CHECK_INPUTS_H
#define RUNNER_SWEEP_CHECK_INPUTS_H

#include "runner/config/config.h"
#include "runner/data/edit_stream.h"
#include "runner/model/llama.h"

typedef struct lemoe_checked_model {
    lemoe_config *config; /* the first that names it */
    lemoe_llama_config shape;
    int64_t weight_bytes;
    char fingerprint[33];
    lemoe_tokenizer *tokenizer;
} lemoe_checked_model;

typedef struct lemoe_checked_data {
    lemoe_config *config; /* the same */
    int64_t i_model;
    lemoe_edit_stream *stream; /* owned until taken over; its dataset is closed */
    char fingerprint[33];
} lemoe_checked_data;

typedef struct lemoe_checked_inputs {
    lemoe_checked_model *models;
    int64_t n_model, model_capacity;
    lemoe_checked_data *data;
    int64_t n_data, data_capacity;
} lemoe_checked_inputs;

/* Local. Index of the configuration's model, or data, which is opened and checked when it is new. Errors: those of the
 * readers. */
lemoe_status lemoe_checked_inputs_model(lemoe_checked_inputs *in, const lemoe_config *config,
                                        int64_t *out) LEMOE_MUST_CHECK;
lemoe_status lemoe_checked_inputs_data(lemoe_checked_inputs *in, const lemoe_config *config, int64_t i_model,
                                       int64_t *out) LEMOE_MUST_CHECK;
void lemoe_checked_inputs_close(lemoe_checked_inputs *in);

#endif

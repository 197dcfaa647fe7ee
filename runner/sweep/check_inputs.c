#include "runner/sweep/check_inputs.h"

#include "kernels/base/mem.h"

#include <string.h>

static lemoe_status copy_config(const lemoe_config *config, lemoe_config **out) {
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof **out, out));
    **out = *config;
    return LEMOE_OK;
}

lemoe_status lemoe_checked_inputs_model(lemoe_checked_inputs *in, const lemoe_config *config, int64_t *out) {
    for (*out = in->n_model; (*out)-- > 0;) /* neighbouring runs share: the latest first */
        if (strcmp(in->models[*out].config->model.path, config->model.path) == 0) return LEMOE_OK;
    LEMOE_TRY(lemoe_mem_grow(&in->models, &in->model_capacity, in->n_model + 1, sizeof *in->models));
    lemoe_checked_model *model = &in->models[in->n_model];
    *model = (lemoe_checked_model){0};
    *out = in->n_model++;
    LEMOE_TRY(copy_config(config, &model->config));
    LEMOE_TRY(lemoe_llama_config_read(config->model.path, &model->shape));
    LEMOE_TRY(lemoe_tokenizer_open(config->model.path, model->shape.n_vocab, &model->tokenizer));
    /* last: it reads every weight */
    return lemoe_llama_folder_check(config->model.path, &model->shape, model->fingerprint, &model->weight_bytes);
}

/* Reads and tokenises everything once, so that a bad record shows now and not after an hour. */
static lemoe_status open_data(const lemoe_checked_model *model, const lemoe_config *config, lemoe_checked_data *out) {
    lemoe_status status = LEMOE_OK;
    lemoe_dataset *dataset = NULL;
    lemoe_dataset_args args = {.kind = config->data.kind,
                               .path = config->data.path,
                               .n_edit = config->data.edits,
                               .select_random = config->data.select == LEMOE_SELECT_RANDOM,
                               .seed = config->seed,
                               .skip_bad = config->data.bad_records == LEMOE_BAD_RECORDS_SKIP};
    status = lemoe_dataset_open(&args, &dataset);
    if (status == LEMOE_ERR_IO) lemoe_error_prefix("data.path");
    LEMOE_TRY_GOTO(status);
    status =
        lemoe_edit_stream_create(dataset, model->tokenizer, config->data.eos, model->shape.max_position, &out->stream);
    if (status != LEMOE_OK) lemoe_error_prefix("%s", config->data.path);
    LEMOE_TRY_GOTO(status);
    memcpy(out->fingerprint, dataset->fingerprint, sizeof out->fingerprint);
    out->stream->dataset = NULL; /* only tokens are needed from now on */
out:
    lemoe_dataset_close(dataset);
    return status;
}

lemoe_status lemoe_checked_inputs_data(lemoe_checked_inputs *in, const lemoe_config *config, int64_t i_model,
                                       int64_t *out) {
    for (*out = in->n_data; (*out)-- > 0;)
        if (in->data[*out].i_model == i_model && lemoe_config_same_data(in->data[*out].config, config)) return LEMOE_OK;
    LEMOE_TRY(lemoe_mem_grow(&in->data, &in->data_capacity, in->n_data + 1, sizeof *in->data));
    *out = in->n_data++;
    in->data[*out] = (lemoe_checked_data){.i_model = i_model};
    LEMOE_TRY(copy_config(config, &in->data[*out].config));
    return open_data(&in->models[i_model], config, &in->data[*out]);
}

void lemoe_checked_inputs_close(lemoe_checked_inputs *in) {
    for (int64_t i = 0; i < in->n_model; i++) {
        lemoe_tokenizer_close(in->models[i].tokenizer);
        lemoe_mem_free(in->models[i].config);
    }
    for (int64_t i = 0; i < in->n_data; i++) {
        lemoe_edit_stream_destroy(in->data[i].stream);
        lemoe_mem_free(in->data[i].config);
    }
    lemoe_mem_free(in->models);
    lemoe_mem_free(in->data);
    *in = (lemoe_checked_inputs){0};
}

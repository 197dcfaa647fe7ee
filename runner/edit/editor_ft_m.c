/*
 * FT-M (docs/method.md 5.2): fine-tuning one down_proj on the target's NLL, breadth-first on whole batches. A patch
 * changes the matrix, a tap gives its gradient.
 */
#include "kernels/base/mem.h"
#include "kernels/ops.h"
#include "runner/adaptor/saved.h"
#include "runner/edit/common/train.h"
#include "runner/edit/editors.h"

#include <stdio.h>

typedef struct ft_m {
    lemoe_editor_context context;
    lemoe_tensor w, grad; /* [d_model, d_ff_local] */
    lemoe_tensor start;   /* w as the batch found it; data NULL without a constraint */
} ft_m;

static lemoe_status ft_m_check(const lemoe_config *config, const lemoe_llama_config *shape) {
    return lemoe_editor_check_layer("ft_m.layer", config->ft_m.layer, shape);
}

static lemoe_status take_rows(void *editor, lemoe_tensor x, lemoe_tensor dy) {
    ft_m *e = editor;
    return lemoe_op_linear_dw(lemoe_llama_device(e->context.model), dy, x, e->grad, true);
}

static lemoe_status ft_m_open(const lemoe_editor_context *context, void **editor) {
    ft_m *e = NULL;
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof *e, &e));
    e->context = *context;
    *editor = e;
    lemoe_tap tap = {context->config->ft_m.layer, LEMOE_MATRIX_DOWN, take_rows, e};
    LEMOE_TRY(lemoe_llama_add_tap(context->model, &tap));
    LEMOE_TRY(lemoe_llama_patch_begin(context->model, tap.layer, LEMOE_MATRIX_DOWN, &e->w));
    if (context->config->ft_m.norm_constraint == 0) return LEMOE_OK;
    return lemoe_arena_matrix(context->run_arena, LEMOE_F32, e->w.shape[0], e->w.shape[1], &e->start);
}

static void ft_m_close(void *editor) { lemoe_mem_free(editor); }

/* Every weight back into W_start +- norm_constraint. */
static lemoe_status constrain(void *editor) {
    ft_m *e = editor;
    float limit = (float)e->context.config->ft_m.norm_constraint;
    if (!e->start.data) return LEMOE_OK;
    return lemoe_op_clamp_around(lemoe_llama_device(e->context.model), e->start, limit, e->w);
}

static lemoe_status ft_m_edit_batch(void *editor, const lemoe_edit_batch *batch, const lemoe_step_log *log) {
    ft_m *e = editor;
    LEMOE_TRY(lemoe_arena_matrix(e->context.batch_arena, LEMOE_F32, e->w.shape[0], e->w.shape[1], &e->grad));
    if (e->start.data && !batch->resume)
        LEMOE_TRY(lemoe_device_copy(lemoe_llama_device(e->context.model), e->start.data, e->w.data,
                                    lemoe_tensor_bytes(&e->w)));
    lemoe_param param = {.name = "down", .place = LEMOE_PARAM_SHARDED, .w = e->w, .grad = e->grad};
    lemoe_train_args args = {.context = &e->context,
                             .training = &e->context.config->ft_m.training,
                             .batch = batch,
                             .params = &param,
                             .n_params = 1,
                             .end_update = constrain,
                             .editor = e,
                             .log = log};
    return lemoe_train_batch(&args);
}

static lemoe_status ft_m_save(void *editor, const char *path, lemoe_dtype dtype) {
    ft_m *e = editor;
    lemoe_llama *model = e->context.model;
    char name[96];
    lemoe_saved saved = {.dtype = dtype};
    (void)snprintf(name, sizeof name, "model.layers.%lld.mlp.down_proj.weight",
                   (long long)e->context.config->ft_m.layer);
    const char *metadata[] = {"method", "ft_m", "model_fingerprint", lemoe_llama_fingerprint(model)};
    lemoe_status status =
        lemoe_saved_add(&saved, model, name, e->w, LEMOE_SPLIT_COLUMNS, lemoe_llama_config_of(model)->d_ff);
    if (status == LEMOE_OK && lemoe_comm_rank(lemoe_llama_comm(model)) == 0)
        status = lemoe_safetensors_write(path, saved.items, saved.n_item, metadata, 2);
    lemoe_saved_free(&saved);
    return status;
}

static lemoe_status ft_m_visit(void *editor, lemoe_state *state) {
    ft_m *e = editor;
    lemoe_device *device = lemoe_llama_device(e->context.model);
    LEMOE_TRY(lemoe_state_tensor(state, device, "down", e->w));
    return e->start.data ? lemoe_state_tensor(state, device, "start", e->start) : LEMOE_OK;
}

static int64_t ft_m_added_bytes(const void *editor) {
    (void)editor;
    return 0; /* changed in place */
}

const lemoe_editor_ops lemoe_editor_ft_m_ops = {
    .name = "ft_m",
    .check = ft_m_check,
    .open = ft_m_open,
    .close = ft_m_close,
    .edit_batch = ft_m_edit_batch,
    .visit = ft_m_visit,
    .save = ft_m_save,
    .added_bytes = ft_m_added_bytes,
};

/* No editor: the unedited model under every metric, through the same code as everybody else. */
#include "runner/edit/editors.h"

static lemoe_status none_check(const lemoe_config *config, const lemoe_llama_config *shape) {
    (void)config, (void)shape;
    return LEMOE_OK;
}

static lemoe_status none_open(const lemoe_editor_context *context, void **editor) {
    (void)context;
    *editor = NULL;
    return LEMOE_OK;
}

static void none_close(void *editor) { (void)editor; }

static lemoe_status none_edit_batch(void *editor, const lemoe_edit_batch *batch, const lemoe_step_log *log) {
    (void)editor, (void)batch, (void)log;
    return LEMOE_OK;
}

const lemoe_editor_ops lemoe_editor_none_ops = {
    .name = "none",
    .check = none_check,
    .open = none_open,
    .close = none_close,
    .edit_batch = none_edit_batch,
};

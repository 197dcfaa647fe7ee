/* Private to runner/edit: the rows of the editor table, and checks they share. */
#ifndef RUNNER_EDIT_EDITORS_H
#define RUNNER_EDIT_EDITORS_H

#include "runner/edit/editor.h"

extern const lemoe_editor_ops lemoe_editor_none_ops, lemoe_editor_lemoe_ops, lemoe_editor_moe_ops,
    lemoe_editor_ft_m_ops;

/* Local. A layer inside the model, or CONFIG naming key and range. */
static inline lemoe_status lemoe_editor_check_layer(const char *key, int64_t layer, const lemoe_llama_config *shape) {
    LEMOE_CHECK(layer >= 0 && layer < shape->n_layer, LEMOE_ERR_CONFIG, "%s: %lld, but the model has layers 0 to %lld",
                key, (long long)layer, (long long)shape->n_layer - 1);
    return LEMOE_OK;
}

#endif

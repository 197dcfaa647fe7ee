/* The only place that lists methods. */
#include "runner/edit/editors.h"

#include <string.h>

static const lemoe_editor_ops *const editors[] = {&lemoe_editor_none_ops, &lemoe_editor_lemoe_ops,
                                                  &lemoe_editor_moe_ops, &lemoe_editor_ft_m_ops};

static const char *const names[] = {"none", "lemoe", "moe", "ft_m", NULL};

const char *const *lemoe_editor_names(void) { return names; }

const lemoe_editor_ops *lemoe_editor_find(const char *name) {
    for (size_t i = 0; i < sizeof editors / sizeof *editors; i++)
        if (strcmp(editors[i]->name, name) == 0) return editors[i];
    return NULL;
}

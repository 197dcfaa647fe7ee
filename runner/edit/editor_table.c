/* The only place that lists methods. */
#include "runner/edit/editors.h"

#include <string.h>

static const lemoe_editor_ops *const editors[] = {&lemoe_editor_none_ops, &lemoe_editor_lemoe_ops,
                                                  &lemoe_editor_moe_ops, &lemoe_editor_ft_m_ops};

enum { N_EDITOR = sizeof editors / sizeof *editors };

const char *const *lemoe_editor_names(void) {
    static const char *names[N_EDITOR + 1];
    for (int i = 0; i < N_EDITOR; i++) names[i] = editors[i]->name;
    return names;
}

const lemoe_editor_ops *lemoe_editor_find(const char *name) {
    for (int i = 0; i < N_EDITOR; i++)
        if (strcmp(editors[i]->name, name) == 0) return editors[i];
    return NULL;
}

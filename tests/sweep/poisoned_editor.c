/*
 * The editor table of a program that is linked for tests only (lemoe-run-poisoned): two editors more, which kill their
 * process in their second batch, as an editor with a bug would: `poison` when it runs, `poison_plan` already when its
 * memory is planned. In front of the libraries: its table is taken instead of theirs.
 */
#include "kernels/planning.h"
#include "runner/edit/editors.h"

#include <signal.h>
#include <string.h>

static lemoe_status open_poison(const lemoe_editor_context *context, void **editor) {
    *editor = (void *)context;
    return LEMOE_OK;
}

static void close_poison(void *editor) { (void)editor; }

static lemoe_status edit_batch(void *editor, const lemoe_edit_batch *batch, const lemoe_step_log *log) {
    const lemoe_editor_context *context = editor;
    (void)log;
    if (batch->index == 1 && !lemoe_device_is_planning(lemoe_llama_device(context->model))) (void)raise(SIGKILL);
    return LEMOE_OK;
}

static lemoe_status edit_anywhere(void *editor, const lemoe_edit_batch *batch, const lemoe_step_log *log) {
    (void)editor;
    (void)log;
    if (batch->index == 1) (void)raise(SIGSEGV);
    return LEMOE_OK;
}

static const lemoe_editor_ops poison = {
    .name = "poison", .open = open_poison, .close = close_poison, .edit_batch = edit_batch};
static const lemoe_editor_ops poison_plan = {
    .name = "poison_plan", .open = open_poison, .close = close_poison, .edit_batch = edit_anywhere};

static const lemoe_editor_ops *const editors[] = {&lemoe_editor_none_ops,
                                                  &lemoe_editor_lemoe_ops,
                                                  &lemoe_editor_moe_ops,
                                                  &lemoe_editor_ft_m_ops,
                                                  &poison,
                                                  &poison_plan};
static const char *const names[] = {"none", "lemoe", "moe", "ft_m", "poison", "poison_plan", NULL};

const char *const *lemoe_editor_names(void) { return names; }

const lemoe_editor_ops *lemoe_editor_find(const char *name) {
    for (size_t i = 0; i < sizeof editors / sizeof *editors; i++)
        if (strcmp(editors[i]->name, name) == 0) return editors[i];
    return NULL;
}

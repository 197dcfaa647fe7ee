/* The edit loop: batch after batch, the same for every method. */
#ifndef RUNNER_EDIT_EDIT_LOOP_H
#define RUNNER_EDIT_EDIT_LOOP_H

#include "runner/edit/editor.h"

typedef struct lemoe_edit_loop_args {
    const lemoe_editor_ops *ops;
    void *editor;
    const lemoe_editor_context *context;
    const lemoe_item *items;    /* role EDIT, in editing order */
    const int64_t *batch_start; /* [n_batch + 1] */
    const lemoe_step_log *log;
    /* Where to begin. resume: as in lemoe_edit_batch, for the first batch; first_is_trained: only what comes after its
     * training is still to be done. */
    int64_t first_batch;
    lemoe_state *resume;
    bool first_is_trained;
    /* After each batch, on all ranks, before the next begins: scoring, routes, commits. */
    lemoe_status (*after_batch)(void *hook, int64_t batch);
    void *hook;
} lemoe_edit_loop_args;

/* Collective. Resets the batch arena, trains, agrees, calls after_batch, agrees; the first failure ends the loop on all
 * ranks.
 */
lemoe_status lemoe_edit_loop(const lemoe_edit_loop_args *args) LEMOE_MUST_CHECK;

#endif

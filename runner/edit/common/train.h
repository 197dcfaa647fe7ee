/*
 * Training on one batch, shared by every editor that trains: passes of minibatches, each one optimiser update, computed
 * in micro-batches that only limit memory. Loss of a minibatch = mean over its edits of the mean NLL of their target
 * tokens.
 */
#ifndef RUNNER_EDIT_COMMON_TRAIN_H
#define RUNNER_EDIT_COMMON_TRAIN_H

#include "runner/edit/editor.h"
#include "runner/optim/adamw.h"

typedef struct lemoe_train_args {
    const lemoe_editor_context *context;
    const lemoe_training_config *training;
    const lemoe_edit_batch *batch;
    lemoe_param *params;
    int64_t n_params;
    /* Optional: before the micro-batches of each update, with all of the minibatch's items (for what is defined over a
     * whole minibatch, such as a balance loss); and after each update. NULL where not needed. */
    lemoe_status (*begin_minibatch)(void *editor, const lemoe_item *items, int64_t n_items);
    lemoe_status (*end_update)(void *editor);
    void *editor;
    const lemoe_step_log *log;
} lemoe_train_args;

/* Collective. Up to training->max_steps updates; stops after a full pass whose loss is below stop_loss. Which edits
 * make a minibatch is drawn from (seed, batch), once; in which order minibatches come, from (seed, batch, pass). With
 * minibatch 0 the batch is one, in its own order. A loss or gradient norm that is not finite is NUMERIC, decided on
 * reduced values, so all ranks leave together. */
lemoe_status lemoe_train_batch(const lemoe_train_args *args) LEMOE_MUST_CHECK;

#endif

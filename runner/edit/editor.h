/*
 * Editors: a table of functions a method, and the only thing that the edit loop, the evaluators and the runs know of
 * it. No branch on a method's name anywhere else.
 */
#ifndef RUNNER_EDIT_EDITOR_H
#define RUNNER_EDIT_EDITOR_H

#include "runner/adaptor/router.h"
#include "runner/comm/tick.h"
#include "runner/config/config.h"
#include "runner/model/llama.h"
#include "runner/state/state.h"

#include <stdbool.h>

/* What an editor lives in. Everything is borrowed; arenas are on the model's device. */
typedef struct lemoe_editor_context {
    const lemoe_config *config;
    lemoe_llama *model;
    lemoe_arena *run_arena;      /* until the run ends: adaptor, stored features */
    lemoe_arena *batch_arena;    /* until a batch's training ends: optimiser state, packs. The edit loop resets it */
    lemoe_arena *step_arena;     /* scratch: whoever uses it marks and resets */
    int64_t n_batch, batch_size; /* batch_size: the most edits a batch has */
    int64_t micro_batch_tokens;  /* resolved */
    bool launches_plainly;       /* every operation on its own, also where the device could replay a captured step */
    lemoe_tick *tick;
} lemoe_editor_context;

/* One optimiser update, reported as it happens. */
typedef struct lemoe_step_record {
    int64_t batch;
    double loss, grad_norm, seconds;
    int64_t n_tok;
} lemoe_step_record;
typedef struct lemoe_step_log {
    lemoe_status (*step)(void *context, const lemoe_step_record *record);
    void *context;
    /* Collective, after each update; may be NULL. Where a run may be saved or stopped: visit describes the training
     * under way (optimiser, position), which is not part of the editor's own state. STATE: stop here. */
    lemoe_status (*between)(void *context, lemoe_state_visit visit, void *training);
} lemoe_step_log;

/* Edits made together. items: role EDIT, with cut_rows and means from the prefix cache. */
typedef struct lemoe_edit_batch {
    int64_t index;
    const lemoe_item *items;
    int64_t n_items;
    lemoe_state *resume; /* NULL: the batch begins. Else the editor's state is that of its middle, and the training
                            under way is to be loaded from here before the next update */
} lemoe_edit_batch;

typedef struct lemoe_editor_ops {
    const char *name; /* edit.method */
    /* Local; optional: NULL where any model will do. Whether a model of that shape can be edited with that
     * configuration: layers, widths. Called before anything starts. */
    lemoe_status (*check)(const lemoe_config *config, const lemoe_llama_config *shape);
    /* Local. Makes the editor and registers its seams, which defines the cut. Nothing is changed yet. Where it fails,
     * *editor is NULL or what close can free. */
    lemoe_status (*open)(const lemoe_editor_context *context, void **editor);
    /* Local. Frees what open made, also after an open that failed with *editor set. Seams are the model's to take
     * out. */
    void (*close)(void *editor);
    /* Collective. Trains one batch, logging every update. */
    lemoe_status (*edit_batch)(void *editor, const lemoe_edit_batch *batch, const lemoe_step_log *log);
    /* --- optional from here: NULL where the method has no such thing --- */
    /* Local. The editor's state on this rank, between updates or between batches; loaded into a fresh editor. */
    lemoe_status (*visit)(void *editor, lemoe_state *state);
    /* Local. Routes of items under the editor as it is now. */
    lemoe_status (*route)(void *editor, const lemoe_item *items, int64_t n_items, lemoe_route *out);
    /* Local. The expert a batch was trained on, per item (forced ones: the batch's; token-level: most used in its last
     * step). */
    lemoe_status (*route_trained)(void *editor, const lemoe_edit_batch *batch, lemoe_route *out);
    /* Local. Whether single tokens are routed rather than sequences. NULL: never. */
    bool (*routes_tokens)(const void *editor);
    /* Local. Where they are: the expert of every prompt token (BOS left out) of the items, in order: what the
     * consistency matrix counts for them. out has room for sum of n_prompt - 1. */
    lemoe_status (*route_tokens)(void *editor, const lemoe_item *items, int64_t n_items, int64_t *out);
    /* Local. Threshold of the null route in force; NaN when there is none. */
    double (*threshold)(const void *editor);
    /* Local. Experts there are or will be: rows of the consistency matrix. */
    int64_t (*n_expert)(const void *editor);
    /* Collective. What was added to the model, gathered on the team's first rank and written to path (safetensors). */
    lemoe_status (*save)(void *editor, const char *path, lemoe_dtype dtype);
    /* Local. Bytes of parameters added, over the whole team. */
    int64_t (*added_bytes)(const void *editor);
} lemoe_editor_ops;

/* Local. The table. NULL-terminated names for config; find gives NULL for an unknown name. */
const lemoe_editor_ops *lemoe_editor_find(const char *name);
const char *const *lemoe_editor_names(void);

#endif

/*
 * Routers: who decides which expert a unit goes to (docs/method.md 2.3). One table of functions a mode, chosen by
 * lemoe.router; the editor knows none of them by name.
 *
 * A unit is what gets one route: a sequence, or with lemoe.granularity token a token. A router sees a unit's feature
 * e and nothing else of the text (the oracle apart, which sees the truth instead). Experts come one at a time; the
 * newest is the one that trains.
 *
 * All functions are Local and give equal results on all ranks: features and router are replicated.
 */
#ifndef RUNNER_ADAPTOR_ROUTER_H
#define RUNNER_ADAPTOR_ROUTER_H

#include "runner/adaptor/anchors.h"
#include "runner/adaptor/saved.h"
#include "runner/adaptor/units.h"
#include "runner/config/config.h"
#include "runner/optim/adamw.h"
#include "runner/state/state.h"

enum { LEMOE_ROUTER_MAX_PARAM = 4 };

/* Where a unit goes. */
typedef struct lemoe_route {
    int64_t expert; /* -1: none */
    double gate;    /* weight of that expert's output */
    double margin;  /* of the decision: best minus second-best score, or distance to the null threshold if that is
                       nearer; NaN: nothing was compared */
    double share;   /* of a sequence: share of its prompt tokens sent to `expert`; 1 where sequences are routed */
} lemoe_route;

/* What a router lives in; everything is borrowed. */
typedef struct lemoe_router_context {
    const lemoe_config *config;
    lemoe_device *device;
    lemoe_arena *run_arena, *batch_arena, *step_arena;
    int64_t d, max_expert;
    lemoe_anchors *anchors; /* features of all edits so far; NULL unless the mode or the null route needs them */
} lemoe_router_context;

typedef struct lemoe_router_ops {
    bool needs_anchors; /* the editor keeps context->anchors */
    /* Makes a router without experts. Where it fails, *router is NULL or what close can free. */
    lemoe_status (*open)(const lemoe_router_context *context, void **router);
    void (*close)(void *router);
    /* A new expert is there. */
    lemoe_status (*add_expert)(void *router);
    /* Routes of units under the router as it is now. */
    lemoe_status (*route)(void *router, const lemoe_units *units, lemoe_route *out);
    /* --- optional: NULL where the mode has no such thing --- */
    /* Routes in training, which may be forced; *kept lives in the arena. NULL: all to the newest expert at gate 1. */
    lemoe_status (*route_in_training)(void *router, const lemoe_units *units, lemoe_arena *arena, lemoe_route *out,
                                      void **kept);
    /* Where those go to the newest expert whatever is scored, at a gate that learns: the same for units that come in
     * every update, without the host. hold makes the note, in the arena; NULL: this router, as configured, cannot.
     * gates gives gate[n] of the device, and backward_gates adds the gradients from d_gate[n] of the device; both only
     * queue operations. */
    lemoe_status (*hold)(void *router, const lemoe_units *units, lemoe_arena *arena, void **held);
    lemoe_status (*gates)(void *router, void *held, lemoe_arena *arena, lemoe_tensor *gate);
    lemoe_status (*backward_gates)(void *router, void *held, lemoe_tensor d_gate, lemoe_arena *arena);
    /* Adds gradients of what trains, from d_gate[n] of those routes. */
    lemoe_status (*backward)(void *router, void *kept, const lemoe_route *routes, const float *d_gate,
                             lemoe_arena *arena);
    /* Gradients in the batch arena; lists what trains beside the expert (at most LEMOE_ROUTER_MAX_PARAM). */
    lemoe_status (*train)(void *router, lemoe_param *params, int64_t *n_params);
    /* Gradients of losses of the router's own, over a whole minibatch; before its micro-batches. */
    lemoe_status (*begin_minibatch)(void *router, const lemoe_units *units);
    /* After the newest expert was trained on a batch. */
    lemoe_status (*end_batch)(void *router, const lemoe_units *units);
    /* Its state, once add_expert was called for every expert of it; NULL: none beside the anchors. */
    lemoe_status (*visit)(void *router, lemoe_state *state);
    /* Names and tensors to save. Collective like lemoe_saved_add. */
    lemoe_status (*save)(void *router, lemoe_saved *saved, lemoe_llama *model);
    /* Numbers that the router holds, anchors left out. */
    int64_t (*n_weight)(const void *router);
} lemoe_router_ops;

/* The table: the functions of a mode. */
const lemoe_router_ops *lemoe_router_find(lemoe_router_mode mode);

#endif

/*
 * Parameters that train, and AdamW over them (Loshchilov & Hutter 2019; torch.optim.AdamW's formula): one update is
 * reduce partial gradients, clip by the global norm (as torch.nn.utils.clip_grad_norm_), step.
 */
#ifndef RUNNER_OPTIM_ADAMW_H
#define RUNNER_OPTIM_ADAMW_H

#include "kernels/arena.h"
#include "runner/comm/comm.h"
#include "runner/state/state.h"

#include <stdbool.h>

/* How a parameter and its gradient lie on the ranks of a team. */
typedef enum lemoe_param_place {
    LEMOE_PARAM_SHARDED,    /* each rank holds its own part, with its own whole gradient */
    LEMOE_PARAM_REPLICATED, /* equal on all ranks, with an equal gradient computed on each */
    LEMOE_PARAM_PARTIAL     /* equal on all ranks; the gradient is a partial sum to be reduced first */
} lemoe_param_place;

typedef struct lemoe_param {
    const char *name;
    lemoe_param_place place;
    double lr;            /* its own learning rate; 0: the optimiser's */
    lemoe_tensor w, grad; /* fp32, device; owned by the editor */
    lemoe_tensor m, v;    /* moments: set by lemoe_adamw_begin */
} lemoe_param;

typedef struct lemoe_adamw {
    double lr, beta1, beta2, eps, weight_decay;
    double clip;       /* 0: off */
    int64_t step;      /* updates done */
    lemoe_tensor sums; /* [2] fp64, device: of squares, over sharded gradients and over those equal on all ranks */
} lemoe_adamw;

/* Local. beta 0.9, 0.999, eps 1e-8; moments are allocated in the arena and zeroed: a fresh optimiser. */
lemoe_status lemoe_adamw_begin(lemoe_adamw *adamw, double lr, double weight_decay, double clip, lemoe_arena *arena,
                               lemoe_param *params, int64_t n_params) LEMOE_MUST_CHECK;
/* Local. Gradients to zero. */
lemoe_status lemoe_adamw_zero_grad(lemoe_arena *arena, lemoe_param *params, int64_t n_params) LEMOE_MUST_CHECK;
/* Collective. One update; *grad_norm is the global norm before clipping, equal on all ranks. A norm that is not finite
 * changes no parameter and is the caller's to report. */
lemoe_status lemoe_adamw_update(lemoe_adamw *adamw, lemoe_device *device, lemoe_comm *comm, lemoe_param *params,
                                int64_t n_params, double *grad_norm) LEMOE_MUST_CHECK;
/* Local. The optimiser's state, after lemoe_adamw_begin: updates done and moments. The parameters are not part of it.
 */
lemoe_status lemoe_adamw_visit(lemoe_adamw *adamw, lemoe_device *device, const lemoe_param *params, int64_t n_params,
                               lemoe_state *state) LEMOE_MUST_CHECK;

#endif

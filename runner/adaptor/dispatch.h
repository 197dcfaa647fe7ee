/*
 * Dispatch: an expert on some rows of a pack. Rows are gathered, go through the expert together, and come back with a
 * weight each: out[row] += weight * f(x[row]). Instance routers send whole sequences, token routers single tokens.
 *
 * Spread: all rows of a pack over several experts, each to those that were chosen for it. What the device must be told
 * of it, and what it gives back, travels in one piece.
 */
#ifndef RUNNER_ADAPTOR_DISPATCH_H
#define RUNNER_ADAPTOR_DISPATCH_H

#include "runner/adaptor/expert.h"

/* Rows on their way to one expert, on the device: row[n] int32, distinct and in rising order; weight[n]. */
typedef struct lemoe_row_tensors {
    lemoe_tensor row, weight;
} lemoe_row_tensors;

/* What the backward needs of a forward; in the bypass's arena. */
typedef struct lemoe_dispatch {
    const lemoe_expert *expert;
    lemoe_row_tensors rows;
    lemoe_tensor y; /* [n, d_model] f(x), this rank's partial sum */
    lemoe_expert_trace trace;
} lemoe_dispatch;

/* Local. One row at least. */
lemoe_status lemoe_dispatch_forward(lemoe_llama *model, const lemoe_expert *expert, const lemoe_row_tensors *rows,
                                    lemoe_bypass_io *io, lemoe_dispatch *out) LEMOE_MUST_CHECK;
/* Local. Adds the gradients of an expert that trains, and the input gradient where io->d_x is wanted. d_weight: data
 * NULL, or [n] of the device that gets this rank's part of the weights' gradients, <d_out[row], f(x)>. */
lemoe_status lemoe_dispatch_backward(lemoe_llama *model, const lemoe_dispatch *dispatch, lemoe_bypass_io *io,
                                     lemoe_tensor d_weight) LEMOE_MUST_CHECK;

/* Where rows go: expert[n_row, n_choice], -1 for nowhere, with a weight each. Host arrays. */
typedef struct lemoe_row_choices {
    const int32_t *expert;
    const float *weight;
    int64_t n_row, n_choice;
} lemoe_row_choices;

typedef struct lemoe_spread {
    lemoe_llama *model;
    const lemoe_expert *experts; /* [n_expert] of one form */
    int64_t n_expert;
    /* the rest is lemoe_spread_rows's: */
    int64_t n, n_most;          /* rows that go to an expert, counted once for each; as many as there may be */
    int64_t *begin;             /* [n_expert + 1] host: which of them are whose */
    int32_t *row;               /* [n] host, expert after expert */
    lemoe_dispatch *dispatches; /* [n_expert], unset where none goes */
} lemoe_spread;

/* Local. Host memory of the arena, as much whoever gets how many. */
lemoe_status lemoe_spread_rows(lemoe_spread *spread, const lemoe_row_choices *choices,
                               lemoe_arena *arena) LEMOE_MUST_CHECK;
/* Local. Forward and backward of all experts; both take as much of the arena whoever gets how many rows. d_weight:
 * NULL, or [n] of the host: the weights' gradients, this rank's part, for which the device is waited for once. */
lemoe_status lemoe_spread_forward(lemoe_spread *spread, lemoe_bypass_io *io) LEMOE_MUST_CHECK;
lemoe_status lemoe_spread_backward(const lemoe_spread *spread, lemoe_bypass_io *io, float *d_weight) LEMOE_MUST_CHECK;

#endif

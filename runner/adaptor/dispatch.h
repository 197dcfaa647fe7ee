/*
 * Dispatch: an expert on some rows of a pack. Rows are gathered, go through the expert together, and come back with a
 * weight each: out[row] += weight * f(x[row]). Instance routers send whole sequences, token routers single tokens.
 */
#ifndef RUNNER_ADAPTOR_DISPATCH_H
#define RUNNER_ADAPTOR_DISPATCH_H

#include "runner/adaptor/expert.h"

/* Rows on their way to one expert: host arrays, rows distinct and in rising order. */
typedef struct lemoe_row_list {
    int32_t *row;
    float *weight;
    int64_t n;
} lemoe_row_list;

/* Where rows go: expert[n_row, n_choice], -1 for nowhere, with a weight each. */
typedef struct lemoe_row_choices {
    const int32_t *expert;
    const float *weight;
    int64_t n_row, n_choice;
} lemoe_row_choices;
/* Local. *lists: [n_expert], n 0 where none goes; host memory of the arena, as much whoever gets how many. */
lemoe_status lemoe_dispatch_lists(lemoe_arena *arena, const lemoe_row_choices *choices, int64_t n_expert,
                                  lemoe_row_list **lists) LEMOE_MUST_CHECK;

/* The same on the device: row[n] int32, weight[n]. */
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

/* Local. A list to the device. */
lemoe_status lemoe_dispatch_upload(lemoe_arena *arena, const lemoe_row_list *list,
                                   lemoe_row_tensors *out) LEMOE_MUST_CHECK;
/* Local. One row at least. */
lemoe_status lemoe_dispatch_forward(lemoe_llama *model, const lemoe_expert *expert, const lemoe_row_tensors *rows,
                                    lemoe_bypass_io *io, lemoe_dispatch *out) LEMOE_MUST_CHECK;
/* Local, pure. What upload and forward, and what backward and its d_weight, take of the arena at most where n_row rows
 * go to n_expert experts like this one, however they are spread: lemoe_arena_pad makes it so that they do take as much.
 */
size_t lemoe_dispatch_forward_bytes(const lemoe_expert *expert, int64_t d_model, int64_t n_row, int64_t n_expert);
size_t lemoe_dispatch_backward_bytes(const lemoe_expert *expert, int64_t d_model, int64_t n_row, int64_t n_expert);
/* Local. Adds the gradients of an expert that trains, and the input gradient where io->d_x is wanted. d_weight: data
 * NULL, or [n] of the device that gets this rank's part of the weights' gradients, <d_out[row], f(x)>. */
lemoe_status lemoe_dispatch_backward(lemoe_llama *model, const lemoe_dispatch *dispatch, lemoe_bypass_io *io,
                                     lemoe_tensor d_weight) LEMOE_MUST_CHECK;

#endif

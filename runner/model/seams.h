/*
 * The three seams, and no others, by which editors enter a model: bypass (add to one FFN's output), tap (see input rows
 * and output gradients of a named matrix), patch (change a named matrix, rolled back by the model).
 */
#ifndef RUNNER_MODEL_SEAMS_H
#define RUNNER_MODEL_SEAMS_H

#include "runner/model/pack.h"

#include <stdbool.h>

/* What a bypass sees of its FFN for one pack. Under tensor parallelism d_ff_local is this rank's share, `out` and `d_x`
 * are this rank's partial sums (the model reduces them), x and d_out are whole. */
typedef struct lemoe_bypass_io {
    const lemoe_pack *pack;
    lemoe_tensor x;             /* [n_tok, d_model] the FFN's input, RMS-normed */
    lemoe_tensor gate, up, act; /* [n_tok, d_ff_local] the host's projections and silu(gate) * up; data may be NULL
                                   unless the bypass reads_hidden */
    lemoe_tensor out;           /* [n_tok, d_model] forward: add to it */
    lemoe_tensor d_out;         /* [n_tok, d_model] backward: gradient of the FFN's output */
    lemoe_tensor d_x;           /* [n_tok, d_model] backward: add the gradient of x; data NULL when nobody needs it */
    lemoe_arena *arena;         /* for scratch and for what the backward will need: lives until the step ends. In
                                   training a pack takes as much of it every time, whatever the values are */
    void **kept;                /* the bypass's own note from forward to backward of this pack (in the arena) */
    bool training;              /* a backward will follow */
} lemoe_bypass_io;

/* Functions are Collective on the model's comm. A local error is returned after the collectives both sides enter. */
typedef struct lemoe_bypass {
    int64_t layer;
    lemoe_status (*forward)(void *context, lemoe_bypass_io *io);
    lemoe_status (*backward)(void *context, lemoe_bypass_io *io);
    void *context;
    bool reads_hidden; /* it uses gate, up or act */
    /* Local; NULL: nothing. For a pack that trains many times: makes a note of what does not change between two
     * updates, in the arena; forward and backward find it in pack->bypass_held and then queue operations only, without
     * moving data between host and device. *held NULL: it cannot do so. */
    lemoe_status (*hold)(void *context, const lemoe_pack *pack, lemoe_arena *arena, void **held);
} lemoe_bypass;

/* Matrices an editor may name. Rows [n_out, n_in]; q,k,v,gate,up are split by rows over ranks, o,down by columns. */
typedef enum lemoe_matrix {
    LEMOE_MATRIX_Q,
    LEMOE_MATRIX_K,
    LEMOE_MATRIX_V,
    LEMOE_MATRIX_O,
    LEMOE_MATRIX_GATE,
    LEMOE_MATRIX_UP,
    LEMOE_MATRIX_DOWN,
    LEMOE_MATRIX_COUNT
} lemoe_matrix;

/* Called in the backward of every pack with this rank's input rows x[n_tok, n_in_local] and output gradients
 * dy[n_tok, n_out_local]; a weight gradient is dy^T x. Queues operations and moves nothing to or from the host. */
typedef struct lemoe_tap {
    int64_t layer;
    lemoe_matrix matrix;
    lemoe_status (*rows)(void *context, lemoe_tensor x, lemoe_tensor dy);
    void *context;
} lemoe_tap;

#endif

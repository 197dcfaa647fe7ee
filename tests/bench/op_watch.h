/*
 * Operations watched from outside: the linker sends the runner's calls here (--wrap, CMakeLists.txt), nothing in the
 * product knows of it. Seconds by family of operation, and the products of one update in order, to be computed again
 * with nothing between them: the rate that the library alone reaches at exactly these shapes.
 */
#ifndef TESTS_BENCH_OP_WATCH_H
#define TESTS_BENCH_OP_WATCH_H

#include "kernels/ops.h"

typedef enum op_family {
    OP_LINEAR,    /* y = x W^T */
    OP_LINEAR_DX, /* dx = dy W */
    OP_LINEAR_DW, /* dw = dy^T x */
    OP_ATTN,
    OP_NORM,
    OP_ACT,
    OP_ROPE,
    OP_LOSS,
    OP_ROWS, /* gathered, scattered, weighted */
    OP_AXPY,
    OP_NORM2, /* of the gradients */
    OP_ADAMW,
    OP_MEMORY, /* copies and zeros */
    OP_FAMILY_COUNT
} op_family;

extern const char *const op_family_name[OP_FAMILY_COUNT];

/* Seconds of each family since the last reset. */
extern double op_seconds[OP_FAMILY_COUNT];
void op_watch_reset(void);

/* From now on each operation is waited for, so that its seconds are its own on a device that queues them; NULL: no
 * longer. */
void op_watch_wait(lemoe_device *device);

/* From now on products are noted, or no longer. Starting forgets those of before. A captured update's are noted while
 * it is captured: replays call nothing. */
void op_watch_note(bool noting);
/* Where the CPU multiplies bf16 as it is: rounds the other operands, which is no part of the library's product. */
lemoe_status op_watch_prepare(lemoe_products mode) LEMOE_MUST_CHECK;
/* Computes the noted products, on the memory they worked on (what is there is lost). */
lemoe_status op_watch_replay(lemoe_device *device) LEMOE_MUST_CHECK;
/* 2 m n k over the noted products. */
double op_watch_flop(void);
/* " kind m n k" of each, to standard output: c[m, n] of k terms; y = a b^T, dx = a b, dw = a^T b. */
void op_watch_print(void);
void op_watch_free(void);

#endif

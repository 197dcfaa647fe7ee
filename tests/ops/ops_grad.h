/*
 * Gradients against central differences. A case is an op seen as a function of some input arrays with one output; its
 * scalar is <cotangent, output>, summed in double. What an input does not touch keeps its bits and cancels exactly, so
 * the noise of a difference is that of the touched outputs alone.
 *
 * Differences are of fourth order, (8 (f(+h) - f(-h)) - (f(+2h) - f(-2h))) / 12 h: at h = 1/32 truncation (h^4) and
 * rounding (2^-24 / h) are both near 2e-6 of the values, so a wrong factor of one part in a thousand is seen.
 */
#ifndef TESTS_OPS_OPS_GRAD_H
#define TESTS_OPS_OPS_GRAD_H

#include "tests/ops/ops_test.h"

enum { GRAD_MAX_INPUT = 3 };

typedef struct grad_input {
    const char *name;
    float *host;
    lemoe_tensor x, dx; /* device; dx is what backward fills, NaN before */
} grad_input;

typedef struct grad_case grad_case;
struct grad_case {
    const char *name;
    grad_input input[GRAD_MAX_INPUT];
    int n_input;
    lemoe_tensor y, dy; /* dy: the cotangent */
    float *cotangent;
    void (*forward)(ops_test *t, const grad_case *c);  /* inputs to y */
    void (*backward)(ops_test *t, const grad_case *c); /* dy to every dx */
    const void *shape;                                 /* the case's own */
};

/* Adds an input of up to three axes, uniform in [-size, size). */
void grad_add_input(ops_test *t, grad_case *c, const char *name, double size, int64_t a, int64_t b, int64_t d);
/* Sets the output's shape and draws the cotangent. */
void grad_set_output(ops_test *t, grad_case *c, int64_t a, int64_t b, int64_t d);
/* Compares every input's gradient, norm-wise. */
void grad_check(ops_test *t, grad_case *c);

/* The families. */
void grad_linear(ops_test *t);
void grad_elementwise(ops_test *t);
void grad_norm(ops_test *t);
void grad_rope(ops_test *t);
void grad_attn(ops_test *t);
void grad_xent(ops_test *t);
void grad_softmax(ops_test *t);
void grad_rows(ops_test *t);

#endif

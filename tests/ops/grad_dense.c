/* Linear layers, activations, normalisation, position. */
#include "tests/ops/ops_grad.h"

#include <math.h>

/* ---- y = x W^T ---- */

static void linear_forward(ops_test *t, const grad_case *c) {
    OPS(lemoe_op_linear(t->device, c->input[0].x, c->input[1].x, c->y, false));
}

static void linear_backward(ops_test *t, const grad_case *c) {
    OPS(lemoe_op_linear_dx(t->device, c->dy, c->input[1].x, c->input[0].dx, false));
    OPS(lemoe_op_linear_dw(t->device, c->dy, c->input[0].x, c->input[1].dx, false));
}

void grad_linear(ops_test *t) {
    static const int64_t shapes[][3] = {
        {1, 5,  3 },
        {7, 13, 9 },
        {8, 16, 17}
    };
    for (int s = 0; s < 3; s++) {
        grad_case c = {.name = "linear", .forward = linear_forward, .backward = linear_backward};
        grad_add_input(t, &c, "x", 1.0, shapes[s][0], shapes[s][1], 0);
        grad_add_input(t, &c, "w", 1.0, shapes[s][2], shapes[s][1], 0);
        grad_set_output(t, &c, shapes[s][0], shapes[s][2], 0);
        grad_check(t, &c);
    }
}

/* ---- silu, silu(gate) * up ---- */

static void silu_forward(ops_test *t, const grad_case *c) { OPS(lemoe_op_silu_fwd(t->device, c->input[0].x, c->y)); }

static void silu_backward(ops_test *t, const grad_case *c) {
    OPS(lemoe_op_silu_bwd(t->device, c->dy, c->input[0].x, c->input[0].dx));
}

static void swiglu_forward(ops_test *t, const grad_case *c) {
    OPS(lemoe_op_swiglu_fwd(t->device, c->input[0].x, c->input[1].x, c->y));
}

static void swiglu_backward(ops_test *t, const grad_case *c) {
    OPS(lemoe_op_swiglu_bwd(t->device, c->dy, c->input[0].x, c->input[1].x, c->input[0].dx, c->input[1].dx));
}

void grad_elementwise(ops_test *t) {
    grad_case silu = {.name = "silu", .forward = silu_forward, .backward = silu_backward};
    grad_case swiglu = {.name = "swiglu", .forward = swiglu_forward, .backward = swiglu_backward};
    grad_add_input(t, &silu, "x", 6.0, 5, 11, 0);
    grad_set_output(t, &silu, 5, 11, 0);
    grad_check(t, &silu);
    grad_add_input(t, &swiglu, "gate", 4.0, 5, 11, 0);
    grad_add_input(t, &swiglu, "up", 2.0, 5, 11, 0);
    grad_set_output(t, &swiglu, 5, 11, 0);
    grad_check(t, &swiglu);
}

/* ---- rmsnorm ---- */

typedef struct norm_shape {
    lemoe_tensor w, inv_rms;
} norm_shape;

static void norm_forward(ops_test *t, const grad_case *c) {
    const norm_shape *s = c->shape;
    OPS(lemoe_op_rmsnorm_fwd(t->device, c->input[0].x, s->w, 1e-5f, c->y, s->inv_rms));
}

static void norm_backward(ops_test *t, const grad_case *c) {
    const norm_shape *s = c->shape;
    lemoe_tensor dx = c->input[0].dx;
    OPS(lemoe_device_zero(t->device, dx.data, lemoe_tensor_bytes(&dx)));
    OPS(lemoe_op_rmsnorm_bwd(t->device, c->dy, c->input[0].x, s->w, s->inv_rms, dx));
}

void grad_norm(ops_test *t) {
    static const int64_t shapes[][2] = {
        {1, 8  },
        {6, 33 },
        {2, 300}
    };
    for (int i = 0; i < 3; i++) {
        int64_t rows = shapes[i][0], d = shapes[i][1];
        norm_shape s = {ops_tensor(t, ops_random(t, d, 1.5), d, 0, 0), ops_tensor(t, NULL, rows, 0, 0)};
        grad_case c = {.name = "rmsnorm", .forward = norm_forward, .backward = norm_backward, .shape = &s};
        grad_add_input(t, &c, "x", 2.0, rows, d, 0);
        grad_set_output(t, &c, rows, d, 0);
        grad_check(t, &c);
    }
}

/* ---- rope ---- */

typedef struct rope_shape {
    lemoe_tensor position, inv_freq;
} rope_shape;

/* In place on a copy: the input stays. */
static void rotate(ops_test *t, const rope_shape *s, lemoe_tensor from, lemoe_tensor to, int sign) {
    OPS(lemoe_device_copy(t->device, to.data, from.data, lemoe_tensor_bytes(&from)));
    OPS(lemoe_op_rope(t->device, to, s->position, s->inv_freq, sign));
}

static void rope_forward(ops_test *t, const grad_case *c) { rotate(t, c->shape, c->input[0].x, c->y, 1); }
static void rope_backward(ops_test *t, const grad_case *c) { rotate(t, c->shape, c->dy, c->input[0].dx, -1); }

void grad_rope(ops_test *t) {
    enum { N_TOK = 6, N_HEAD = 3, D_HEAD = 10 };
    static const int32_t position[N_TOK] = {0, 1, 2, 0, 17, 400};
    float inv_freq[D_HEAD / 2];
    for (int i = 0; i < D_HEAD / 2; i++) inv_freq[i] = (float)pow(10000.0, -2.0 * i / D_HEAD);
    rope_shape s = {ops_index(t, position, N_TOK), ops_tensor(t, inv_freq, D_HEAD / 2, 0, 0)};
    grad_case c = {.name = "rope", .forward = rope_forward, .backward = rope_backward, .shape = &s};
    grad_add_input(t, &c, "x", 1.0, N_TOK, N_HEAD, D_HEAD);
    grad_set_output(t, &c, N_TOK, N_HEAD, D_HEAD);
    grad_check(t, &c);
}

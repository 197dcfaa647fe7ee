/* Cross entropy, softmax, and rows that are gathered, weighted and scattered: each is another's backward. */
#include "tests/ops/ops_grad.h"

#include <math.h>

/* ---- weighted NLL ---- */

typedef struct xent_shape {
    lemoe_tensor label, max, arg, sum, picked;
} xent_shape;

static void xent_forward(ops_test *t, const grad_case *c) {
    const xent_shape *s = c->shape;
    float max[8], sum[8], picked[8];
    size_t n_bytes = lemoe_tensor_bytes(&c->y);
    OPS(lemoe_op_xent_rowmax(t->device, c->input[0].x, 0, s->max, s->arg));
    OPS(lemoe_op_xent_rowsum(t->device, c->input[0].x, s->max, s->label, 0, s->sum, s->picked));
    OPS(lemoe_device_download(t->device, max, s->max.data, n_bytes));
    OPS(lemoe_device_download(t->device, sum, s->sum.data, n_bytes));
    OPS(lemoe_device_download(t->device, picked, s->picked.data, n_bytes));
    for (int64_t i = 0; i < c->y.shape[0]; i++)
        max[i] = (float)((double)max[i] + log((double)sum[i]) - (double)picked[i]);
    OPS(lemoe_device_upload(t->device, c->y.data, max, n_bytes));
}

static void xent_backward(ops_test *t, const grad_case *c) {
    const xent_shape *s = c->shape;
    const grad_input *logits = &c->input[0];
    OPS(lemoe_device_copy(t->device, logits->dx.data, logits->x.data, lemoe_tensor_bytes(&logits->x)));
    OPS(lemoe_op_xent_bwd(t->device, logits->dx, s->max, s->sum, s->label, c->dy, 0));
}

void grad_xent(ops_test *t) {
    enum { ROWS = 5, N_VOCAB = 23 };
    static const int32_t label[ROWS] = {0, 22, 7, 7, 11};
    xent_shape s = {ops_index(t, label, ROWS), ops_tensor(t, NULL, ROWS, 0, 0), ops_index(t, NULL, ROWS),
                    ops_tensor(t, NULL, ROWS, 0, 0), ops_tensor(t, NULL, ROWS, 0, 0)};
    grad_case c = {.name = "xent", .forward = xent_forward, .backward = xent_backward, .shape = &s};
    grad_add_input(t, &c, "logits", 3.0, ROWS, N_VOCAB, 0);
    grad_set_output(t, &c, ROWS, 0, 0);
    grad_check(t, &c);
}

/* ---- softmax ---- */

static void softmax_forward(ops_test *t, const grad_case *c) {
    OPS(lemoe_op_topk_softmax_fwd(t->device, c->input[0].x, c->y, *(const lemoe_tensor *)c->shape));
}

static void softmax_backward(ops_test *t, const grad_case *c) {
    OPS(lemoe_op_softmax_bwd(t->device, c->y, c->dy, c->input[0].dx));
}

void grad_softmax(ops_test *t) {
    enum { ROWS = 6, N = 9 };
    lemoe_tensor index;
    OPS(lemoe_arena_matrix(t->arena, LEMOE_I32, ROWS, 2, &index));
    grad_case c = {.name = "softmax", .forward = softmax_forward, .backward = softmax_backward, .shape = &index};
    grad_add_input(t, &c, "z", 2.0, ROWS, N, 0);
    grad_set_output(t, &c, ROWS, N, 0);
    grad_check(t, &c);
}

/* ---- rows ---- */

enum { ROWS = 9, N_PICKED = 5, D = 7 };

static void gather_forward(ops_test *t, const grad_case *c) {
    OPS(lemoe_op_rows_gather(t->device, c->input[0].x, *(const lemoe_tensor *)c->shape, c->y));
}

static void gather_backward(ops_test *t, const grad_case *c) {
    lemoe_tensor dx = c->input[0].dx, no_weight = {0};
    OPS(lemoe_device_zero(t->device, dx.data, lemoe_tensor_bytes(&dx)));
    OPS(lemoe_op_rows_scatter_add(t->device, c->dy, *(const lemoe_tensor *)c->shape, no_weight, dx));
}

/* y[row[i]] = w[i] x[i], into zeros */
static void scatter_forward(ops_test *t, const grad_case *c) {
    OPS(lemoe_device_zero(t->device, c->y.data, lemoe_tensor_bytes(&c->y)));
    OPS(lemoe_op_rows_scatter_add(t->device, c->input[0].x, *(const lemoe_tensor *)c->shape, c->input[1].x, c->y));
}

static void scatter_backward(ops_test *t, const grad_case *c) {
    const grad_input *x = &c->input[0], *w = &c->input[1];
    OPS(lemoe_op_rows_gather(t->device, c->dy, *(const lemoe_tensor *)c->shape, x->dx));
    OPS(lemoe_op_row_dot(t->device, x->dx, x->x, w->dx));
    OPS(lemoe_op_rows_scale(t->device, w->x, x->dx));
}

/* y = w[i] x[i], in place on a copy */
static void scale_forward(ops_test *t, const grad_case *c) {
    OPS(lemoe_device_copy(t->device, c->y.data, c->input[0].x.data, lemoe_tensor_bytes(&c->y)));
    OPS(lemoe_op_rows_scale(t->device, c->input[1].x, c->y));
}

static void scale_backward(ops_test *t, const grad_case *c) {
    const grad_input *x = &c->input[0], *w = &c->input[1];
    OPS(lemoe_op_row_dot(t->device, c->dy, x->x, w->dx));
    OPS(lemoe_device_copy(t->device, x->dx.data, c->dy.data, lemoe_tensor_bytes(&c->dy)));
    OPS(lemoe_op_rows_scale(t->device, w->x, x->dx));
}

void grad_rows(ops_test *t) {
    static const int32_t row[N_PICKED] = {8, 0, 3, 7, 1};
    lemoe_tensor index = ops_index(t, row, N_PICKED);
    grad_case gather = {.name = "rows_gather", .forward = gather_forward, .backward = gather_backward, .shape = &index};
    grad_case scatter = {
        .name = "rows_scatter_add", .forward = scatter_forward, .backward = scatter_backward, .shape = &index};
    grad_case scale = {.name = "rows_scale, row_dot", .forward = scale_forward, .backward = scale_backward};
    grad_add_input(t, &gather, "x", 1.0, ROWS, D, 0);
    grad_set_output(t, &gather, N_PICKED, D, 0);
    grad_check(t, &gather);
    grad_add_input(t, &scatter, "x", 1.0, N_PICKED, D, 0);
    grad_add_input(t, &scatter, "weight", 1.0, N_PICKED, 0, 0);
    grad_set_output(t, &scatter, ROWS, D, 0);
    grad_check(t, &scatter);
    grad_add_input(t, &scale, "x", 1.0, ROWS, D, 0);
    grad_add_input(t, &scale, "weight", 1.0, ROWS, 0, 0);
    grad_set_output(t, &scale, ROWS, D, 0);
    grad_check(t, &scale);
}

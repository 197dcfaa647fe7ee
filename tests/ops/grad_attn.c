/* Attention: packed sequences, grouped heads, windows, more than one block of query rows. */
#include "tests/ops/ops_grad.h"

#include <math.h>

typedef struct attn_shape {
    lemoe_tensor seq_start, log_sum_exp;
    int64_t max_seq, window;
    float scale;
} attn_shape;

static lemoe_attn_args args_of(const grad_case *c) {
    const attn_shape *s = c->shape;
    return (lemoe_attn_args){.q = c->input[0].x,
                             .k = c->input[1].x,
                             .v = c->input[2].x,
                             .out = c->y,
                             .log_sum_exp = s->log_sum_exp,
                             .seq_start = s->seq_start,
                             .max_seq = s->max_seq,
                             .window = s->window,
                             .scale = s->scale,
                             .d_out = c->dy,
                             .dq = c->input[0].dx,
                             .dk = c->input[1].dx,
                             .dv = c->input[2].dx};
}

static void attn_forward(ops_test *t, const grad_case *c) {
    lemoe_attn_args args = args_of(c);
    OPS(lemoe_op_attn_fwd(t->device, &args));
}

static void attn_backward(ops_test *t, const grad_case *c) {
    lemoe_attn_args args = args_of(c);
    OPS(lemoe_op_attn_bwd(t->device, &args));
}

typedef struct attn_case {
    const char *name;
    int64_t n_head, n_kv, d_head, window, n_seq;
    int32_t length[4];
} attn_case;

static const attn_case cases[] = {
    {"attn, one sequence",   2, 2, 6, 0,  1, {9}         },
    {"attn, packed",         2, 2, 4, 0,  4, {5, 1, 8, 3}},
    {"attn, grouped",        6, 2, 4, 0,  2, {7, 4}      },
    {"attn, one key head",   3, 1, 4, 0,  2, {6, 5}      },
    {"attn, window",         4, 2, 4, 3,  3, {9, 2, 4}   },
    {"attn, window of one",  2, 1, 4, 1,  2, {3, 4}      },
    {"attn, blocks, window", 2, 1, 2, 50, 2, {140, 3}    },
};

static void run(ops_test *t, const attn_case *a) {
    int32_t start[5] = {0};
    attn_shape s = {.window = a->window, .scale = 1.0f / sqrtf((float)a->d_head)};
    for (int64_t i = 0; i < a->n_seq; i++) {
        start[i + 1] = start[i] + a->length[i];
        if (a->length[i] > s.max_seq) s.max_seq = a->length[i];
    }
    int64_t n_tok = start[a->n_seq];
    s.seq_start = ops_index(t, start, a->n_seq + 1);
    s.log_sum_exp = ops_tensor(t, NULL, a->n_head, n_tok, 0);
    grad_case c = {.name = a->name, .forward = attn_forward, .backward = attn_backward, .shape = &s};
    grad_add_input(t, &c, "q", 1.5, n_tok, a->n_head, a->d_head);
    grad_add_input(t, &c, "k", 1.5, n_tok, a->n_kv, a->d_head);
    grad_add_input(t, &c, "v", 1.0, n_tok, a->n_kv, a->d_head);
    grad_set_output(t, &c, n_tok, a->n_head, a->d_head);
    grad_check(t, &c);
}

void grad_attn(ops_test *t) {
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) run(t, &cases[i]);
}

/* Attention over packed sequences: length 1, lengths around and above a block of rows, windows, grouped heads. */
#include "tests/ops/ops_parity.h"

#include <math.h>
#include <stdio.h>

typedef struct attn_case {
    const char *name;
    int64_t n_head, n_kv, d_head, window, n_seq;
    int32_t length[6];
} attn_case;

static const attn_case cases[] = {
    {"one token",         1, 1, 4,   0,  1, {1}                   },
    {"packed",            4, 4, 16,  0,  5, {17, 1, 8, 30, 5}     },
    {"grouped",           6, 2, 10,  0,  4, {9, 1, 22, 3}         },
    {"one key head",      3, 1, 8,   0,  2, {12, 40}              },
    {"window",            2, 2, 8,   4,  4, {1, 3, 4, 33}         },
    {"window of one",     2, 1, 11,  1,  2, {5, 9}                },
    {"blocks",            2, 1, 16,  0,  4, {127, 128, 129, 300}  },
    {"blocks and window", 2, 2, 8,   70, 2, {300, 200}            },
    {"rows of a warp",    2, 1, 12,  3,  6, {2, 31, 36, 63, 66, 9}},
    {"empty sequences",   2, 2, 8,   0,  6, {0, 3, 0, 0, 7, 0}    },
    {"heads of 64",       3, 3, 64,  0,  2, {18, 33}              },
    {"odd heads",         4, 2, 43,  12, 2, {9, 41}               },
    {"wide heads",        2, 1, 72,  9,  2, {21, 34}              },
    {"wider heads",       2, 2, 200, 0,  2, {35, 9}               },
    {"wider, window",     2, 1, 130, 5,  3, {1, 37, 18}           },
    {"nothing",           2, 2, 8,   0,  0, {0}                   },
};

static void attn_run(ops_test *t, const attn_case *c, int32_t first_row) {
    int32_t *start = ops_array(t, c->n_seq + 1, sizeof *start), *counted = ops_array(t, c->n_seq + 1, sizeof *counted);
    int64_t max_seq = 0;
    for (int64_t s = 0; s < c->n_seq; s++) {
        start[s + 1] = start[s] + c->length[s];
        if (c->length[s] > max_seq) max_seq = c->length[s];
    }
    for (int64_t s = 0; s <= c->n_seq; s++) counted[s] = start[s] + first_row;
    int64_t n_tok = start[c->n_seq], nq = n_tok * c->n_head * c->d_head, nk = n_tok * c->n_kv * c->d_head;
    float *q = ops_random(t, nq, 2.0), *k = ops_random(t, nk, 2.0), *v = ops_random(t, nk, 1.0);
    float *d_out = ops_random(t, nq, 1.0);
    double *qd = ops_double(t, q, nq), *kd = ops_double(t, k, nk), *vd = ops_double(t, v, nk);
    double *out = ops_array(t, nq, sizeof *out), *lse = ops_array(t, c->n_head * n_tok, sizeof *lse);
    double *dq = ops_array(t, nq, sizeof *dq), *dk = ops_array(t, nk, sizeof *dk), *dv = ops_array(t, nk, sizeof *dv);
    lemoe_attn_args args = {.q = ops_tensor(t, q, n_tok, c->n_head, c->d_head),
                            .k = ops_tensor(t, k, n_tok, c->n_kv, c->d_head),
                            .v = ops_tensor(t, v, n_tok, c->n_kv, c->d_head),
                            .out = ops_tensor(t, NULL, n_tok, c->n_head, c->d_head),
                            .log_sum_exp = ops_matrix(t, NULL, c->n_head, n_tok),
                            .seq_start = ops_index(t, counted, c->n_seq + 1),
                            .first_row = first_row,
                            .max_seq = max_seq,
                            .window = c->window,
                            .scale = 1.0f / sqrtf((float)c->d_head),
                            .d_out = ops_tensor(t, d_out, n_tok, c->n_head, c->d_head),
                            .dq = ops_tensor(t, NULL, n_tok, c->n_head, c->d_head),
                            .dk = ops_tensor(t, NULL, n_tok, c->n_kv, c->d_head),
                            .dv = ops_tensor(t, NULL, n_tok, c->n_kv, c->d_head)};
    ref_attn_shape shape = {n_tok, c->n_head, c->n_kv, c->d_head, c->n_seq, c->window, start, (double)args.scale};
    OPS(lemoe_op_attn_fwd(t->device, &args));
    OPS(lemoe_op_attn_bwd(t->device, &args));
    ref_attn(&shape, qd, kd, vd, out, lse);
    ref_attn_bwd(&shape, qd, kd, vd, ops_double(t, d_out, nq), dq, dk, dv);
    ops_near_tensor(t, c->name, args.out, out, OPS_CLOSE);
    ops_near_tensor(t, c->name, args.log_sum_exp, lse, OPS_CLOSE);
    /* sums of differences of near-equal terms: exactly zero where a token sees but itself */
    ops_near_floor(t, c->name, ops_get(t, args.dq), dq, nq, 3 * OPS_CLOSE, 1.0 + sqrt((double)nq));
    ops_near_floor(t, c->name, ops_get(t, args.dk), dk, nk, 3 * OPS_CLOSE, 1.0 + sqrt((double)nk));
    ops_near_tensor(t, c->name, args.dv, dv, OPS_CLOSE);
}

void parity_attn(ops_test *t) {
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        attn_run(t, &cases[i], 0);
        attn_run(t, &cases[i], 13); /* part of a pack */
    }

    /* scores far from zero must not overflow: one key wins, so out is its value */
    float q[2] = {300, 0}, k[4] = {300, 0, -300, 0}, v[4] = {1, 2, 3, 4};
    float q2[4] = {q[0], q[1], q[0], q[1]};
    int32_t start[2] = {0, 2};
    double want[4] = {1, 2, 1, 2};
    lemoe_attn_args args = {.q = ops_tensor(t, q2, 2, 1, 2),
                            .k = ops_tensor(t, k, 2, 1, 2),
                            .v = ops_tensor(t, v, 2, 1, 2),
                            .out = ops_tensor(t, NULL, 2, 1, 2),
                            .log_sum_exp = ops_tensor(t, NULL, 1, 2, 0),
                            .seq_start = ops_index(t, start, 2),
                            .max_seq = 2,
                            .scale = 1.0f};
    OPS(lemoe_op_attn_fwd(t->device, &args));
    ops_near_tensor(t, "large scores", args.out, want, OPS_CLOSE);
    args.max_seq = 1; /* bounds that do not fit are refused before anything is written */
    ops_true(t, "a sequence longer than max_seq", ops_refuses_values(t, lemoe_op_attn_fwd(t->device, &args)));
    args.max_seq = 2;
    args.first_row = 1;
    ops_true(t, "a sequence of rows before the first", ops_refuses_values(t, lemoe_op_attn_fwd(t->device, &args)));
}

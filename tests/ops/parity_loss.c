/* Cross entropy: the exponential itself, and the loss with its vocabulary in one piece and in several. */
#include "tests/ops/ops_parity.h"

#include <math.h>
#include <string.h>

/* With one column and row_max 0, rowsum is exp(logit): its relative error, element by element. */
void parity_exp(ops_test *t) {
    enum { N = 200001 };
    float *x = ops_array(t, N, sizeof *x), *zero = ops_array(t, N, sizeof *zero);
    int32_t *label = ops_array(t, N, sizeof *label);
    for (int64_t i = 0; i < N; i++) x[i] = (float)(-87.0 + 87.0 * (double)i / (N - 1));
    lemoe_tensor sum = ops_tensor(t, NULL, N, 0, 0), picked = ops_tensor(t, NULL, N, 0, 0);
    OPS(lemoe_op_xent_rowsum(t->device, ops_tensor(t, x, N, 1, 0), ops_tensor(t, zero, N, 0, 0), ops_index(t, label, N),
                             0, sum, picked));
    float *got = ops_get(t, sum);
    double largest = 0;
    for (int64_t i = 0; i < N; i++) largest = fmax(largest, fabs((double)got[i] / exp((double)x[i]) - 1.0));
    ops_true(t, "relative error of exp below 2e-7", largest < 2e-7);
    ops_true(t, "exp(0) is 1", got[N - 1] == 1.0f);
    float special[4] = {-88.0f, -1e30f, -INFINITY, NAN};
    OPS(lemoe_op_xent_rowsum(t->device, ops_tensor(t, special, 4, 1, 0), ops_tensor(t, zero, 4, 0, 0),
                             ops_index(t, label, 4), 0, sum = ops_tensor(t, NULL, 4, 0, 0),
                             ops_tensor(t, NULL, 4, 0, 0)));
    got = ops_get(t, sum);
    ops_true(t, "exp far below is 0", got[0] == 0.0f && got[1] == 0.0f && got[2] == 0.0f);
    ops_true(t, "exp(NaN) is NaN", isnan(got[3]));
}

typedef struct piece {
    int64_t begin, columns;
    lemoe_tensor logits, max, arg, sum, picked;
} piece;

/* The columns [begin, begin + columns) of host rows. */
static lemoe_tensor columns_of(ops_test *t, const float *x, int64_t rows, int64_t n, int64_t begin, int64_t columns) {
    float *part = ops_array(t, rows * columns, sizeof *part);
    for (int64_t r = 0; r < rows; r++) memcpy(part + r * columns, x + r * n + begin, (size_t)columns * sizeof *part);
    if (columns) return ops_tensor(t, part, rows, columns, 0);
    lemoe_tensor none;
    OPS(lemoe_arena_matrix(t->arena, LEMOE_F32, rows, 0, &none));
    return none;
}

/* What the caller does between the pieces: maximum (first rank wins ties), sums. */
static void reduce_max(ops_test *t, piece *p, int n_piece, int64_t rows, float *max, int32_t *arg) {
    for (int64_t r = 0; r < rows; r++) max[r] = -INFINITY;
    for (int i = 0; i < n_piece; i++) {
        float *m = ops_get(t, p[i].max);
        int32_t *a = ops_get_index(t, p[i].arg);
        for (int64_t r = 0; r < rows; r++)
            if (m[r] > max[r]) {
                max[r] = m[r];
                arg[r] = a[r];
            }
    }
}

static void xent_case(ops_test *t, int64_t rows, int64_t n_vocab, int n_piece) {
    int64_t n = rows * n_vocab;
    float *x = ops_random(t, n, 8.0), *weight = ops_random(t, rows, 1.0), *max = ops_array(t, rows, sizeof *max);
    int32_t *label = ops_array(t, rows, sizeof *label), *arg = ops_array(t, rows, sizeof *arg);
    int32_t *want_arg = ops_array(t, rows, sizeof *want_arg);
    float *sum = ops_array(t, rows, sizeof *sum), *picked = ops_array(t, rows, sizeof *picked);
    piece p[8];
    for (int64_t r = 0; r < rows; r++) {
        label[r] = (int32_t)ops_pick(t, n_vocab);
        want_arg[r] = 0;
        if (n_vocab > 3) x[r * n_vocab + n_vocab - 1] = x[r * n_vocab + n_vocab / 2] = 9.0f; /* a tie, across pieces */
        for (int64_t j = 0; j < n_vocab; j++)
            if (x[r * n_vocab + j] > x[r * n_vocab + want_arg[r]]) want_arg[r] = (int32_t)j;
    }
    double *xd = ops_double(t, x, n), *wd = ops_double(t, weight, rows), *gradient = ops_array(t, n, sizeof *gradient);
    for (int i = 0; i < n_piece; i++) {
        int64_t begin = n_vocab * i / n_piece, columns = n_vocab * (i + 1) / n_piece - begin;
        p[i] = (piece){begin,
                       columns,
                       columns_of(t, x, rows, n_vocab, begin, columns),
                       ops_tensor(t, NULL, rows, 0, 0),
                       ops_index(t, NULL, rows),
                       ops_tensor(t, NULL, rows, 0, 0),
                       ops_tensor(t, NULL, rows, 0, 0)};
        OPS(lemoe_op_xent_rowmax(t->device, p[i].logits, begin, p[i].max, p[i].arg));
    }
    reduce_max(t, p, n_piece, rows, max, arg);
    ops_same(t, "xent argmax", arg, want_arg, (size_t)rows * sizeof *arg);
    lemoe_tensor tmax = ops_tensor(t, max, rows, 0, 0), tlabel = ops_index(t, label, rows);
    for (int i = 0; i < n_piece; i++) {
        OPS(lemoe_op_xent_rowsum(t->device, p[i].logits, tmax, tlabel, p[i].begin, p[i].sum, p[i].picked));
        float *s = ops_get(t, p[i].sum), *l = ops_get(t, p[i].picked);
        for (int64_t r = 0; r < rows; r++) {
            sum[r] += s[r];
            picked[r] += l[r];
        }
    }
    double loss = 0, want = ref_nll(rows, n_vocab, xd, label, wd);
    for (int64_t r = 0; r < rows; r++) loss += wd[r] * (log((double)sum[r]) + (double)max[r] - (double)picked[r]);
    ops_true(t, "xent loss", fabs(loss - want) <= 1e-6 * (1.0 + fabs(want)) * (double)(rows + 1));
    ref_nll_bwd(rows, n_vocab, xd, label, wd, gradient);
    for (int i = 0; i < n_piece; i++) {
        double *part = ops_array(t, rows * p[i].columns, sizeof *part);
        OPS(lemoe_op_xent_bwd(t->device, p[i].logits, tmax, ops_tensor(t, sum, rows, 0, 0), tlabel,
                              ops_tensor(t, weight, rows, 0, 0), p[i].begin));
        for (int64_t r = 0; r < rows; r++)
            memcpy(part + r * p[i].columns, gradient + r * n_vocab + p[i].begin, (size_t)p[i].columns * sizeof *part);
        ops_near_tensor(t, "xent_bwd", p[i].logits, part, 2 * OPS_CLOSE);
    }
}

void parity_xent(ops_test *t) {
    xent_case(t, 1, 1, 1);
    xent_case(t, 0, 50, 1);
    xent_case(t, 5, 37, 1);
    xent_case(t, 5, 37, 3);
    xent_case(t, 3, 3, 5); /* more ranks than rows of the vocabulary: pieces without any */
    xent_case(t, 4, 32003, 2);
}

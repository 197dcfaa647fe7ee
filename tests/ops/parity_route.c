/* Routing: means over ranges, softmax with its largest entries, rows moved and weighted. */
#include "tests/ops/ops_parity.h"

static void seg_mean_case(ops_test *t, int64_t d) {
    enum { ROWS = 30, N = 5 };
    static const int32_t begin[N] = {0, 3, 7, 7, 29}, end[N] = {3, 7, 7, 30, 30};
    float *x = ops_random(t, ROWS * d, 1.0);
    double *want = ops_array(t, N * d, sizeof *want);
    lemoe_tensor tx = ops_tensor(t, x, ROWS, d, 0), y = ops_tensor(t, NULL, N, d, 0);
    ref_seg_mean(N, d, ops_double(t, x, ROWS * d), begin, end, want);
    OPS(lemoe_op_seg_mean(t->device, tx, ops_index(t, begin, N), ops_index(t, end, N), y));
    ops_near_tensor(t, "seg_mean", y, want, OPS_CLOSE);
    OPS(lemoe_op_seg_mean(t->device, tx, ops_index(t, begin, 0), ops_index(t, end, 0), ops_tensor(t, x, 0, d, 0)));
    int32_t outside = ROWS + 1;
    ops_true(t, "seg_mean refuses rows outside",
             ops_refuses_values(t, lemoe_op_seg_mean(t->device, tx, ops_index(t, begin, 1), ops_index(t, &outside, 1),
                                                     ops_tensor(t, NULL, 1, d, 0))));
}

static void topk_case(ops_test *t, int64_t rows, int64_t n, int64_t k) {
    float *z = ops_integers(t, rows * n, 3); /* whole numbers: plenty of ties */
    double *p = ops_array(t, rows * n, sizeof *p);
    int32_t *want = ops_array(t, rows * k, sizeof *want);
    for (int64_t r = 0; r < rows; r++) { /* a stable selection sort of the indices */
        for (int64_t i = 0; i < k; i++) {
            int64_t best = -1;
            for (int64_t j = 0; j < n; j++) {
                bool taken = false;
                for (int64_t e = 0; e < i; e++) taken |= want[r * k + e] == j;
                if (!taken && (best < 0 || z[r * n + j] > z[r * n + best])) best = j;
            }
            want[r * k + i] = (int32_t)best;
        }
    }
    lemoe_tensor tp = ops_tensor(t, NULL, rows, n, 0), index;
    OPS(lemoe_arena_matrix(t->arena, LEMOE_I32, rows, k, &index));
    OPS(lemoe_op_topk_softmax_fwd(t->device, ops_tensor(t, z, rows, n, 0), tp, index));
    ref_softmax(rows, n, ops_double(t, z, rows * n), p);
    ops_near_tensor(t, "topk_softmax_fwd p", tp, p, OPS_CLOSE);
    ops_same(t, "topk_softmax_fwd index", ops_get_index(t, index), want, (size_t)(rows * k) * sizeof *want);
}

static void softmax_bwd_case(ops_test *t, int64_t rows, int64_t n, bool shared) {
    float *p = ops_random(t, rows * n, 1.0), *dp = ops_random(t, rows * n, 1.0);
    double *want = ops_array(t, rows * n, sizeof *want);
    for (int64_t r = 0; r < rows; r++) {
        double dot = 0;
        for (int64_t j = 0; j < n; j++) dot += (double)p[r * n + j] * (double)dp[r * n + j];
        for (int64_t j = 0; j < n; j++) want[r * n + j] = (double)p[r * n + j] * ((double)dp[r * n + j] - dot);
    }
    lemoe_tensor tdp = ops_tensor(t, dp, rows, n, 0), dz = shared ? tdp : ops_tensor(t, NULL, rows, n, 0);
    OPS(lemoe_op_softmax_bwd(t->device, ops_tensor(t, p, rows, n, 0), tdp, dz));
    ops_near_tensor(t, "softmax_bwd", dz, want, OPS_CLOSE);
}

static void rows_case(ops_test *t, int64_t d) {
    enum { ROWS = 11, N = 4 };
    static const int32_t row[N] = {10, 0, 7, 3};
    float *x = ops_random(t, ROWS * d, 1.0), *y = ops_random(t, N * d, 1.0), *weight = ops_random(t, N, 2.0);
    float *gathered = ops_array(t, N * d, sizeof *gathered);
    lemoe_tensor tx = ops_tensor(t, x, ROWS, d, 0), ty = ops_tensor(t, y, N, d, 0), tw = ops_tensor(t, weight, N, 0, 0);
    lemoe_tensor index = ops_index(t, row, N), to = ops_tensor(t, NULL, N, d, 0),
                 none = {.dtype = LEMOE_F32, .n_dim = 1};
    for (int64_t i = 0; i < N * d; i++) gathered[i] = x[row[i / d] * d + i % d];
    OPS(lemoe_op_rows_gather(t->device, tx, index, to));
    ops_same(t, "rows_gather", ops_get(t, to), gathered, (size_t)(N * d) * sizeof *gathered);
    for (int weighted = 0; weighted < 2; weighted++) {
        double *want = ops_double(t, x, ROWS * d);
        lemoe_tensor sum = ops_tensor(t, x, ROWS, d, 0);
        for (int64_t i = 0; i < N * d; i++)
            want[row[i / d] * d + i % d] += (weighted ? (double)weight[i / d] : 1.0) * (double)y[i];
        OPS(lemoe_op_rows_scatter_add(t->device, ty, index, weighted ? tw : none, sum));
        ops_near_tensor(t, "rows_scatter_add", sum, want, OPS_CLOSE);
    }
    double *scaled = ops_double(t, y, N * d), *dot = ops_array(t, N, sizeof *dot);
    for (int64_t i = 0; i < N * d; i++) {
        dot[i / d] += scaled[i] * (double)gathered[i];
        scaled[i] *= (double)weight[i / d];
    }
    lemoe_tensor tdot = ops_tensor(t, NULL, N, 0, 0);
    OPS(lemoe_op_row_dot(t->device, ty, to, tdot));
    ops_near_tensor(t, "row_dot", tdot, dot, OPS_CLOSE);
    OPS(lemoe_op_rows_scale(t->device, tw, ty));
    ops_near_tensor(t, "rows_scale", ty, scaled, OPS_CLOSE);
    int32_t bad = ROWS;
    lemoe_tensor one = ops_tensor(t, NULL, 1, d, 0);
    ops_true(t, "rows_gather refuses a row outside",
             ops_refuses_values(t, lemoe_op_rows_gather(t->device, tx, ops_index(t, &bad, 1), one)));
    ops_true(t, "rows_scatter_add refuses a row outside",
             ops_refuses_values(t, lemoe_op_rows_scatter_add(t->device, one, ops_index(t, &bad, 1), none, tx)));
}

static void empty_rows_case(ops_test *t) {
    float *x = ops_random(t, 3 * 5, 1.0);
    lemoe_tensor none = ops_tensor(t, x, 0, 5, 0), some = ops_tensor(t, x, 3, 5, 0), index = ops_index(t, NULL, 0);
    lemoe_tensor weight = ops_tensor(t, x, 0, 0, 0);
    OPS(lemoe_op_rows_gather(t->device, some, index, none));
    OPS(lemoe_op_rows_scatter_add(t->device, none, index, weight, some));
    OPS(lemoe_op_rows_scale(t->device, weight, none));
    OPS(lemoe_op_row_dot(t->device, none, none, weight));
    ops_same(t, "no rows change nothing", ops_get(t, some), x, 15 * sizeof *x);
}

void parity_route(ops_test *t) {
    seg_mean_case(t, 19);
    seg_mean_case(t, 601);
    topk_case(t, 1, 1, 1);
    topk_case(t, 20, 5, 1);
    topk_case(t, 20, 13, 4);
    topk_case(t, 3, 7, 7);
    topk_case(t, 4, 201, 6);
    topk_case(t, 0, 7, 2);
    softmax_bwd_case(t, 6, 5, false);
    softmax_bwd_case(t, 6, 5, true);
    softmax_bwd_case(t, 3, 201, false);
    softmax_bwd_case(t, 0, 5, true);
    rows_case(t, 27);
    rows_case(t, 1021); /* on "cuda" more than a warp, and than a block */
    empty_rows_case(t);
}

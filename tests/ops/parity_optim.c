/* Sums and guards, AdamW against torch's formula in double, and weights drawn by global index. */
#include "tests/ops/ops_parity.h"

#include <math.h>

void parity_guards(ops_test *t) {
    static const int64_t sizes[] = {0, 1, 4095, 4096, 4097, 50001};
    for (int s = 0; s < 6; s++) {
        int64_t n = sizes[s], bad = 0;
        float *x = ops_random(t, n, 2.0);
        double got = -1, want = 0;
        lemoe_tensor tx = ops_tensor(t, x, n, 0, 0);
        for (int64_t i = 0; i < n; i++) want += (double)x[i] * (double)x[i];
        OPS(lemoe_op_sumsq(t->device, tx, &got));
        ops_true(t, "sumsq", fabs(got - want) <= 1e-12 * want);
        double sum = 3.0;
        lemoe_tensor total;
        OPS(lemoe_arena_vector(t->arena, LEMOE_F64, 1, &total));
        OPS(lemoe_device_upload(t->device, total.data, &sum, sizeof sum));
        OPS(lemoe_op_sumsq_add(t->device, tx, total));
        OPS(lemoe_device_download(t->device, &sum, total.data, sizeof sum));
        ops_true(t, "sumsq_add", sum == 3.0 + got);
        OPS(lemoe_op_count_nonfinite(t->device, tx, &bad));
        ops_true(t, "count_nonfinite of none", bad == 0);
        if (n < 3) continue;
        x[0] = NAN;
        x[n / 2] = INFINITY;
        x[n - 1] = -INFINITY;
        x[1] = 3.4e38f; /* large, and finite */
        OPS(lemoe_op_count_nonfinite(t->device, ops_tensor(t, x, n, 0, 0), &bad));
        ops_true(t, "count_nonfinite of three", bad == 3);
    }
}

/* torch.optim.AdamW, step by step. */
static void adamw_case(ops_test *t, int64_t n, float weight_decay, float grad_scale) {
    enum { STEPS = 5 };
    const double beta1 = 0.9f, beta2 = 0.999f, lr = 0.01f, eps = 1e-8f;
    float *w = ops_random(t, n, 1.0), *zero = ops_array(t, n, sizeof *zero);
    double *wd = ops_double(t, w, n), *m = ops_double(t, zero, n), *v = ops_double(t, zero, n);
    lemoe_adamw_args args = {.w = ops_tensor(t, w, n, 0, 0),
                             .m = ops_tensor(t, zero, n, 0, 0),
                             .v = ops_tensor(t, zero, n, 0, 0),
                             .lr = 0.01f,
                             .beta1 = 0.9f,
                             .beta2 = 0.999f,
                             .eps = 1e-8f,
                             .weight_decay = weight_decay,
                             .grad_scale = grad_scale};
    for (int step = 1; step <= STEPS; step++) {
        float *grad = ops_random(t, n, 0.5);
        args.grad = ops_tensor(t, grad, n, 0, 0);
        args.step = step;
        OPS(lemoe_op_adamw(t->device, &args));
        double correction1 = 1.0 - pow(beta1, step), correction2 = 1.0 - pow(beta2, step);
        for (int64_t i = 0; i < n; i++) {
            double g = (double)grad_scale * (double)grad[i];
            wd[i] *= 1.0 - lr * (double)weight_decay;
            m[i] = beta1 * m[i] + (1.0 - beta1) * g;
            v[i] = beta2 * v[i] + (1.0 - beta2) * g * g;
            wd[i] -= lr / correction1 * m[i] / (sqrt(v[i]) / sqrt(correction2) + eps);
        }
        ops_near_tensor(t, "adamw w", args.w, wd, OPS_CLOSE);
        ops_near_tensor(t, "adamw m", args.m, m, OPS_CLOSE);
        ops_near_tensor(t, "adamw v", args.v, v, OPS_CLOSE);
    }
}

void parity_adamw(ops_test *t) {
    adamw_case(t, 0, 0.0f, 1.0f);
    adamw_case(t, 37, 0.0f, 1.0f);
    adamw_case(t, 1001, 0.1f, 0.25f);
    adamw_case(t, OPS_LARGE, 0.1f, 0.25f);
}

/* Any block of the matrix holds what the whole matrix holds there; and the numbers are the generator's. */
void parity_fill(ops_test *t) {
    enum { ROWS = 23, COLUMNS = 31 };
    lemoe_rng rng = lemoe_rng_make(5, LEMOE_RNG_EXPERT, 3);
    lemoe_fill_args whole = {ops_tensor(t, NULL, ROWS, COLUMNS, 0), rng, 0.02f, 0, 0, COLUMNS};
    OPS(lemoe_op_fill_normal(t->device, &whole));
    float *all = ops_get(t, whole.x);
    double *want = ops_array(t, ROWS * COLUMNS, sizeof *want);
    for (int64_t i = 0; i < ROWS * COLUMNS; i++) want[i] = (double)0.02f * lemoe_rng_normal(rng, (uint64_t)i);
    ops_near(t, "fill_normal", all, want, ROWS * COLUMNS, OPS_CLOSE);
    static const int64_t blocks[][4] = {
        {0,  5,  0,  31},
        {5,  18, 0,  31},
        {0,  23, 7,  10},
        {22, 1,  30, 1 }
    };
    for (int b = 0; b < 4; b++) {
        int64_t rows = blocks[b][1], columns = blocks[b][3];
        lemoe_fill_args part = {ops_tensor(t, NULL, rows, columns, 0), rng, 0.02f, blocks[b][0], blocks[b][2], COLUMNS};
        OPS(lemoe_op_fill_normal(t->device, &part));
        float *got = ops_get(t, part.x);
        bool same = true;
        for (int64_t i = 0; i < rows * columns; i++)
            same &= got[i] == all[(blocks[b][0] + i / columns) * COLUMNS + blocks[b][2] + i % columns];
        ops_true(t, "fill_normal of a block", same);
    }
}

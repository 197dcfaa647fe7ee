/*
 * What products alone read, stored as bf16 when it is written: bit for bit the fp32 result rounded, wherever its rows
 * and its operands lie; and a product of it has the bits of the product that rounds for itself. The fp32 results are
 * compared with references elsewhere.
 */
#include "tests/ops/ops_parity.h"

#include <stdio.h>

enum { N_OFFSET = 3 }; /* elements into a block: aligned to 16 bytes, to 4 or 2, to 8 or 4 */

/* Compares an output of either type with the fp32 one. */
static void same_as(ops_test *t, const char *what, lemoe_tensor got, int64_t offset, const float *want) {
    int64_t n = lemoe_tensor_count(&got);
    size_t item = lemoe_dtype_bytes(got.dtype);
    void *rounded = ops_array(t, n, item);
    lemoe_dtype_from_f32(got.dtype, want, n, rounded);
    ops_same(t, what, ops_get(t, got), rounded, (size_t)n * item);
    ops_true(t, "nothing beside it is written", ops_is_kept_around(t, got, offset));
}

static void norm_case(ops_test *t, int64_t rows, int64_t d) {
    float *x = ops_random(t, rows * d, 3.0), *w = ops_random(t, d, 1.0), *dy = ops_random(t, rows * d, 1.0);
    lemoe_tensor tx = ops_matrix(t, x, rows, d), tw = ops_tensor(t, w, d, 0, 0), y = ops_matrix(t, NULL, rows, d);
    lemoe_tensor inverse = ops_tensor(t, NULL, rows, 0, 0), dx = ops_matrix(t, x, rows, d);
    OPS(lemoe_op_rmsnorm_fwd(t->device, tx, tw, 1e-5f, y, inverse));
    OPS(lemoe_op_rmsnorm_bwd(t->device, ops_matrix(t, dy, rows, d), tx, tw, inverse, dx));
    for (int64_t at = 0; at < N_OFFSET; at++)
        for (int halves = 0; halves < 2; halves++) {
            lemoe_tensor from = ops_view(t, LEMOE_F32, x, rows, d, halves ? 0 : at),
                         weight = ops_view(t, LEMOE_F32, w, 1, d, halves ? at : 0);
            lemoe_tensor to = ops_view(t, halves ? LEMOE_BF16 : LEMOE_F32, NULL, rows, d, at),
                         other = ops_tensor(t, NULL, rows, 0, 0), change = ops_view(t, LEMOE_F32, x, rows, d, at);
            OPS(lemoe_op_rmsnorm_fwd(t->device, from, weight, 1e-5f, to, other));
            same_as(t, halves ? "rmsnorm_fwd in bf16" : "rmsnorm_fwd of a view", to, at, ops_get(t, y));
            ops_same(t, "rmsnorm_fwd inv_rms", ops_get(t, other), ops_get(t, inverse), (size_t)rows * sizeof(float));
            OPS(lemoe_op_rmsnorm_bwd(t->device, ops_view(t, LEMOE_F32, dy, rows, d, at), from, weight, other, change));
            same_as(t, "rmsnorm_bwd of a view", change, at, ops_get(t, dx));
        }
}

static void swiglu_case(ops_test *t, int64_t rows, int64_t d) {
    int64_t n = rows * d;
    float *gate = ops_random(t, n, 6.0), *up = ops_random(t, n, 2.0), *d_act = ops_random(t, n, 1.0);
    lemoe_tensor tg = ops_matrix(t, gate, rows, d), tu = ops_matrix(t, up, rows, d);
    lemoe_tensor act = ops_matrix(t, NULL, rows, d), d_gate = ops_matrix(t, NULL, rows, d),
                 d_up = ops_matrix(t, NULL, rows, d);
    OPS(lemoe_op_swiglu_fwd(t->device, tg, tu, act));
    OPS(lemoe_op_swiglu_bwd(t->device, ops_matrix(t, d_act, rows, d), tg, tu, d_gate, d_up));
    for (int64_t at = 0; at < N_OFFSET; at++)
        for (int halves = 0; halves < 2; halves++) {
            lemoe_dtype dtype = halves ? LEMOE_BF16 : LEMOE_F32;
            lemoe_tensor g = ops_view(t, LEMOE_F32, gate, rows, d, halves ? 0 : at),
                         u = ops_view(t, LEMOE_F32, up, rows, d, halves ? at : 0);
            lemoe_tensor to = ops_view(t, dtype, NULL, rows, d, at), to_gate = ops_view(t, dtype, NULL, rows, d, 0),
                         to_up = ops_view(t, dtype, NULL, rows, d, at);
            OPS(lemoe_op_swiglu_fwd(t->device, g, u, to));
            same_as(t, halves ? "swiglu_fwd in bf16" : "swiglu_fwd of a view", to, at, ops_get(t, act));
            OPS(lemoe_op_swiglu_bwd(t->device, ops_view(t, LEMOE_F32, d_act, rows, d, 0), g, u, to_gate, to_up));
            same_as(t, halves ? "swiglu_bwd gate in bf16" : "swiglu_bwd gate of a view", to_gate, 0,
                    ops_get(t, d_gate));
            same_as(t, halves ? "swiglu_bwd up in bf16" : "swiglu_bwd up of a view", to_up, at, ops_get(t, d_up));
        }
}

static void axpy_case(ops_test *t, int64_t n) {
    float *x = ops_random(t, n, 1.0), *y = ops_random(t, n, 1.0);
    lemoe_tensor want = ops_matrix(t, y, 1, n);
    OPS(lemoe_op_axpy(t->device, 0.3f, ops_matrix(t, x, 1, n), want));
    for (int64_t at = 0; at < N_OFFSET; at++) {
        lemoe_tensor to = ops_view(t, LEMOE_F32, y, 1, n, at);
        OPS(lemoe_op_axpy(t->device, 0.3f, ops_view(t, LEMOE_F32, x, 1, n, 2 - at), to));
        same_as(t, "axpy of a view", to, at, ops_get(t, want));
    }
}

static void clamp_case(ops_test *t, int64_t n) {
    float *reference = ops_random(t, n, 1.0), *x = ops_random(t, n, 1.0);
    lemoe_tensor want = ops_matrix(t, x, 1, n);
    OPS(lemoe_op_clamp_around(t->device, ops_matrix(t, reference, 1, n), 0.3f, want));
    for (int64_t at = 0; at < N_OFFSET; at++) {
        lemoe_tensor to = ops_view(t, LEMOE_F32, x, 1, n, at);
        OPS(lemoe_op_clamp_around(t->device, ops_view(t, LEMOE_F32, reference, 1, n, 2 - at), 0.3f, to));
        same_as(t, "clamp_around of a view", to, at, ops_get(t, want));
    }
}

static void gather_case(ops_test *t, int64_t d) {
    enum { ROWS = 11, N = 4 };
    static const int32_t row[N] = {10, 0, 7, 3};
    float *x = ops_random(t, ROWS * d, 1.0), *want = ops_array(t, N * d, sizeof *want);
    for (int64_t i = 0; i < N * d; i++) want[i] = x[row[i / d] * d + i % d];
    for (int64_t at = 0; at < N_OFFSET; at++) {
        lemoe_tensor to = ops_view(t, LEMOE_BF16, NULL, N, d, at);
        OPS(lemoe_op_rows_gather(t->device, ops_view(t, LEMOE_BF16, x, ROWS, d, at), ops_index(t, row, N), to));
        same_as(t, "rows_gather of bf16", to, at, want);
    }
}

/* c of both ways must be the same to the last bit. */
static void product_case(ops_test *t, const int64_t *shape, int flags, float beta, lemoe_dtype dtype) {
    int64_t m = shape[0], n = shape[1], k = shape[2];
    bool trans_a = flags & 1, trans_b = flags >> 1;
    float *a = ops_random(t, m * k, 1.0), *c = ops_random(t, m * n, 1.0), *stored = NULL;
    lemoe_tensor b = ops_stored(t, dtype, ops_random(t, n * k, 1.0), trans_b ? n : k, trans_b ? k : n, &stored);
    lemoe_matmul_args args = {.a = ops_matrix(t, a, trans_a ? k : m, trans_a ? m : k),
                              .b = b,
                              .c = ops_matrix(t, beta == 0.0f ? NULL : c, m, n),
                              .trans_a = trans_a,
                              .trans_b = trans_b,
                              .alpha = 1.0f,
                              .beta = beta};
    OPS(lemoe_op_matmul(t->device, &args));
    float *want = ops_get(t, args.c);
    for (int64_t at = 0; at < N_OFFSET; at++) {
        args.a = ops_view(t, LEMOE_BF16, a, trans_a ? k : m, trans_a ? m : k, at);
        args.c = ops_view(t, LEMOE_F32, beta == 0.0f ? NULL : c, m, n, 0);
        OPS(lemoe_op_matmul(t->device, &args));
        same_as(t, "a product of bf16 as it is stored", args.c, 0, want);
    }
    if (dtype == LEMOE_F32) {
        args.b = ops_view(t, LEMOE_BF16, stored, b.shape[0], b.shape[1], 1);
        args.c = ops_view(t, LEMOE_F32, beta == 0.0f ? NULL : c, m, n, 0);
        OPS(lemoe_op_matmul(t->device, &args));
        same_as(t, "a product of bf16 alone", args.c, 0, want);
        args.b = b;
    }
    args.exact = dtype == LEMOE_F32; /* the types that products may have are in one rule: what is not rounded refuses */
    args.alpha = args.exact ? 1.0f : 0.5f;
    ops_true(t, "only what would be rounded to bf16", lemoe_op_matmul(t->device, &args) == LEMOE_ERR_ARG);
    lemoe_error_clear();
}

static void product_cases(ops_test *t) {
    static const int64_t shapes[][3] = {
        {1,  1,    1   },
        {1,  37,   53  },
        {7,  33,   129 },
        {64, 48,   32  },
        {61, 47,   7   },
        {6,  1100, 1021},
    };
    static const float beta[] = {0.0f, 1.0f, -0.5f};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int flags = 0; flags < 4; flags++)
            for (int f = 0; f < 3; f++) {
                product_case(t, shapes[s], flags, beta[f], LEMOE_BF16);
                if (lemoe_device_product_type(t->device, LEMOE_F32) == LEMOE_BF16)
                    product_case(t, shapes[s], flags, beta[f], LEMOE_F32);
            }
}

/* On a device of their own, since products are chosen once. */
static void with_bf16_products(ops_test *t) {
    lemoe_device *plain = t->device, *device = NULL;
    ops_true(t, "nothing is rounded", lemoe_device_product_type(plain, LEMOE_BF16) == LEMOE_F32);
    if (lemoe_device_check_products(lemoe_device_kind(plain), LEMOE_PRODUCTS_BF16) != LEMOE_OK) {
        printf("products of stored bf16: skipped, %s\n", lemoe_error_message());
        lemoe_error_clear();
        return;
    }
    OPS(lemoe_device_open(lemoe_device_kind(plain), 1, &device));
    OPS(lemoe_device_set_products(device, LEMOE_PRODUCTS_BF16));
    t->device = device;
    ops_true(t, "beside bf16", lemoe_device_product_type(device, LEMOE_BF16) == LEMOE_BF16);
    ops_true(t, "not beside fp16", lemoe_device_product_type(device, LEMOE_F16) == LEMOE_F32);
    ops_true(t, "beside fp32 on a GPU",
             (lemoe_device_product_type(device, LEMOE_F32) == LEMOE_BF16) == !lemoe_device_is_host(device));
    product_cases(t);
    t->device = plain;
    lemoe_device_close(device);
}

void parity_rounded(ops_test *t) {
    static const int64_t shapes[][2] = {
        {0, 16  },
        {1, 1   },
        {7, 17  },
        {5, 12  },
        {9, 128 },
        {2, 1030},
        {3, 4097},
    };
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        norm_case(t, shapes[s][0], shapes[s][1]);
        swiglu_case(t, shapes[s][0], shapes[s][1]);
        axpy_case(t, shapes[s][0] * shapes[s][1]);
        clamp_case(t, shapes[s][0] * shapes[s][1]);
        gather_case(t, shapes[s][1]);
    }
    with_bf16_products(t);
}

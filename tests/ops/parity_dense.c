/* Matrix products against a double reference, and exactly where whole numbers make every sum exact. */
#include "tests/ops/ops_parity.h"

#include <stdio.h>
#include <string.h>

typedef struct product {
    int64_t m, n, k;
    bool trans_a, trans_b;
    float alpha, beta;
    lemoe_dtype dtype;
    bool whole;   /* whole numbers: equality is exact */
    bool rounded; /* to bf16, both operands */
    bool exact;   /* they may not be */
} product;

static void compare(ops_test *t, const product *p) {
    int64_t a_rows = p->trans_a ? p->k : p->m, a_columns = p->trans_a ? p->m : p->k;
    int64_t b_rows = p->trans_b ? p->n : p->k, b_columns = p->trans_b ? p->k : p->n;
    float *a = p->whole ? ops_integers(t, p->m * p->k, 3) : ops_random(t, p->m * p->k, 1.0);
    float *b = p->whole ? ops_integers(t, p->n * p->k, 3) : ops_random(t, p->n * p->k, 1.0);
    float *c = p->whole ? ops_integers(t, p->m * p->n, 3) : ops_random(t, p->m * p->n, 1.0);
    double *want = ops_double(t, c, p->m * p->n);
    lemoe_tensor given = ops_matrix(t, a, a_rows, a_columns);
    lemoe_tensor weight = ops_stored(t, p->dtype, b, b_rows, b_columns, &b);
    if (p->rounded) (void)ops_stored(t, LEMOE_BF16, a, a_rows, a_columns, &a);
    if (p->rounded) (void)ops_stored(t, LEMOE_BF16, b, b_rows, b_columns, &b);
    lemoe_matmul_args args = {.a = given,
                              .b = weight,
                              .c = ops_matrix(t, p->beta == 0.0f ? NULL : c, p->m, p->n),
                              .trans_a = p->trans_a,
                              .trans_b = p->trans_b,
                              .alpha = p->alpha,
                              .beta = p->beta,
                              .exact = p->exact};
    char what[96];
    (void)snprintf(what, sizeof what, "%lldx%lldx%lld%s%s %s alpha %g beta %g%s%s", (long long)p->m, (long long)p->n,
                   (long long)p->k, p->trans_a ? " T" : " N", p->trans_b ? "T" : "N", lemoe_dtype_name(p->dtype),
                   (double)p->alpha, (double)p->beta,
                   p->whole     ? " whole"
                   : p->rounded ? " rounded"
                                : "",
                   p->exact ? " exact" : "");
    ref_matmul(p->trans_a, p->trans_b, p->m, p->n, p->k, (double)p->alpha, ops_double(t, a, p->m * p->k),
               ops_double(t, b, p->n * p->k), (double)p->beta, want);
    OPS(lemoe_op_matmul(t->device, &args));
    char *kept = ops_array(t, (int64_t)sizeof what, 1);
    (void)snprintf(kept, sizeof what, "%s", what);
    ops_near_tensor(t, kept, args.c, want, p->whole ? 0.0 : ops_product_limit(t, p->exact ? LEMOE_F32 : p->dtype));
}

void parity_matmul(ops_test *t) {
    static const int64_t shapes[][3] = {
        {1,   1,  1  },
        {1,   37, 53 },
        {2,   5,  3  },
        {4,   33, 129},
        {16,  16, 16 },
        {61,  47, 7  },
        {130, 65, 257},
        {3,   4,  0  },
        {0,   4,  3  }
    };
    static const lemoe_dtype dtypes[] = {LEMOE_F32, LEMOE_BF16, LEMOE_F16};
    static const float factors[][2] = {
        {1.0f,  0.0f },
        {1.0f,  1.0f },
        {-0.5f, 0.25f}
    };
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int flags = 0; flags < 4; flags++)
            for (int f = 0; f < 3; f++)
                for (int d = 0; d < 3; d++) {
                    product p = {.m = shapes[s][0],
                                 .n = shapes[s][1],
                                 .k = shapes[s][2],
                                 .trans_a = flags & 1,
                                 .trans_b = flags >> 1,
                                 .alpha = factors[f][0],
                                 .beta = factors[f][1],
                                 .dtype = dtypes[d]};
                    compare(t, &p);
                    p.whole = true;
                    compare(t, &p);
                }
}

/* Weights larger than a widened panel, so that panels are put together: by columns (NT) and by terms of the sum (NN).
 */
void parity_panels(ops_test *t) {
    static const int64_t rows[] = {1, 3, 6};
    static const float beta[] = {0.0f, 1.0f, -0.5f};
    for (int i = 0; i < 3; i++)
        for (int flags = 0; flags < 4; flags++) {
            product p = {.m = rows[i],
                         .n = 1100,
                         .k = 1021,
                         .trans_a = flags & 1,
                         .trans_b = flags >> 1,
                         .alpha = 1.0f,
                         .beta = beta[(i + flags) % 3],
                         .dtype = LEMOE_BF16,
                         .whole = true};
            compare(t, &p);
            p.whole = false;
            p.dtype = LEMOE_F16;
            p.beta = beta[(i + flags + 1) % 3];
            compare(t, &p);
        }
}

/* Products of a bf16 weight, and on a GPU of fp32 as well, against exact products of what both operands are as bf16;
 * and those that are exact all the same. On a device of their own, since products are chosen once. */
void parity_bf16_products(ops_test *t) {
    static const int64_t shapes[][3] = {
        {1,   1,    1   },
        {1,   37,   53  },
        {7,   33,   129 },
        {64,  48,   32  },
        {61,  47,   7   },
        {130, 65,   257 },
        {6,   1100, 1021},
        {3,   4,    0   }
    };
    static const float factors[][2] = {
        {1.0f,  0.0f },
        {1.0f,  1.0f },
        {-0.5f, 0.25f}
    };
    lemoe_device *plain = t->device, *device = NULL;
    if (lemoe_device_check_products(lemoe_device_kind(plain), LEMOE_PRODUCTS_BF16) != LEMOE_OK) {
        printf("bf16 products: skipped, %s\n", lemoe_error_message());
        ops_true(t, "the refusal says why", lemoe_error_message()[0] != '\0');
        return;
    }
    OPS(lemoe_device_open(lemoe_device_kind(plain), 1, &device));
    OPS(lemoe_device_set_products(device, LEMOE_PRODUCTS_BF16));
    ops_true(t, "the domain names bf16 products", strstr(lemoe_device_domain(device), "; products bf16") != NULL);
    t->device = device;
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int flags = 0; flags < 4; flags++)
            for (int f = 0; f < 3; f++) {
                product p = {.m = shapes[s][0],
                             .n = shapes[s][1],
                             .k = shapes[s][2],
                             .trans_a = flags & 1,
                             .trans_b = flags >> 1,
                             .alpha = factors[f][0],
                             .beta = factors[f][1],
                             .dtype = LEMOE_BF16,
                             .rounded = true};
                compare(t, &p);
                p.whole = true;
                compare(t, &p);
                p.whole = false;
                p.dtype = LEMOE_F32;
                p.rounded = !lemoe_device_is_host(device);
                compare(t, &p);
                p.rounded = false;
                p.exact = true;
                compare(t, &p);
            }
    /* OPS_LARGE times four values to round, four a thread; each whole number counts */
    product large = {.m = 4583, .n = 1, .k = 4583, .alpha = 1.0f, .dtype = LEMOE_BF16, .whole = true};
    compare(t, &large);
    t->device = plain;
    lemoe_device_close(device);
}

void parity_linear(ops_test *t) {
    enum { N_TOK = 19, N_IN = 23, N_OUT = 41 };
    float *x = ops_random(t, N_TOK * N_IN, 1), *w = ops_random(t, N_OUT * N_IN, 1),
          *dy = ops_random(t, N_TOK * N_OUT, 1);
    double *xd = ops_double(t, x, N_TOK * N_IN), *wd = ops_double(t, w, N_OUT * N_IN);
    double *dyd = ops_double(t, dy, N_TOK * N_OUT);
    lemoe_tensor tx = ops_tensor(t, x, N_TOK, N_IN, 0), tw = ops_tensor(t, w, N_OUT, N_IN, 0);
    lemoe_tensor tdy = ops_tensor(t, dy, N_TOK, N_OUT, 0);
    for (int twice = 0; twice < 2; twice++) { /* a second, accumulating call doubles the result */
        lemoe_tensor y = ops_tensor(t, NULL, N_TOK, N_OUT, 0), dx = ops_tensor(t, NULL, N_TOK, N_IN, 0);
        lemoe_tensor dw = ops_tensor(t, NULL, N_OUT, N_IN, 0);
        double *want = ops_array(t, N_OUT * N_IN + N_TOK * N_OUT + N_TOK * N_IN, sizeof *want);
        for (int i = 0; i <= twice; i++) {
            OPS(lemoe_op_linear(t->device, tx, tw, y, i > 0));
            OPS(lemoe_op_linear_dx(t->device, tdy, tw, dx, i > 0));
            OPS(lemoe_op_linear_dw(t->device, tdy, tx, dw, i > 0));
        }
        ref_matmul(false, true, N_TOK, N_OUT, N_IN, 1 + twice, xd, wd, 0, want);
        ops_near_tensor(t, "linear", y, want, ops_product_limit(t, LEMOE_F32));
        ref_matmul(false, false, N_TOK, N_IN, N_OUT, 1 + twice, dyd, wd, 0, want);
        ops_near_tensor(t, "linear_dx", dx, want, ops_product_limit(t, LEMOE_F32));
        ref_matmul(true, false, N_OUT, N_IN, N_TOK, 1 + twice, dyd, xd, 0, want);
        ops_near_tensor(t, "linear_dw", dw, want, ops_product_limit(t, LEMOE_F32));
    }
}

/*
 * Matrix products, by libraries; no hand-written loops, attention's two products included.
 *
 * oneDNN, where the build has it, computes all but two kinds, which OpenBLAS keeps: one row, and attention's products,
 * in whose tiny sizes oneDNN is half as fast (kernels/README.md has the ratios). Which library computes a product
 * depends on its shape alone, and the domain names both.
 *
 * Frozen bf16 and fp16 weights are widened (exact) a panel at a time and multiplied in fp32: no second copy of the
 * model, activations keep fp32. With LEMOE_PRODUCTS_BF16 the other operand of a bf16 weight is rounded to bf16 instead,
 * unless it is stored so, and oneDNN multiplies the two as they are, accumulating in fp32.
 */
#include "kernels/cpu/cpu_onednn.h"

#include <cblas.h>
#include <limits.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

/* Elements of a widened panel. Part of the numerics where a sum is split (dx): constants. */
enum {
    PANEL_ELEMENTS = 1 << 20,     /* 4 MiB: the library packs a once a panel, so panels must not be narrow */
    PANEL_ELEMENTS_FEW = 1 << 16, /* few rows read each weight once: what counts is that the panel stays in cache */
    FEW_ROWS = 4
};

/* The OpenMP build of OpenBLAS asks OpenMP before each product how many threads there are; in 0.3.26 even when its
 * own number is 1. So both are told, or products would take every core and change their last bits with the machine. */
void cpu_matmul_threads(const lemoe_device *device) {
    if (omp_get_max_threads() != device->n_threads) omp_set_num_threads(device->n_threads);
    if (openblas_get_num_threads() != device->n_threads) openblas_set_num_threads(device->n_threads);
}

void cpu_matmul_library(char *text, size_t text_bytes) {
    const char *config = openblas_get_config(); /* "OpenBLAS 0.3.21 NO_LAPACKE ..." */
    size_t name = strcspn(config, " "), version = config[name] ? strcspn(config + name + 1, " ") : 0;
    char other[64];
    cpu_onednn_library(other, sizeof other);
    (void)snprintf(text, text_bytes, "%.*s (%s)%s%s", (int)(name + version + (version > 0)), config,
                   openblas_get_corename(), other[0] ? ", " : "", other);
}

static CBLAS_TRANSPOSE transpose(bool flag) { return flag ? CblasTrans : CblasNoTrans; }

/* One row is a matrix-vector product, which runs at memory speed where the general one does not: 4 times as fast. */
static void gemv(const cpu_gemm_args *g) {
    int64_t rows = g->trans_b ? g->n : g->k, columns = g->trans_b ? g->k : g->n;
    if (g->beta == 0.0f) memset(g->c, 0, (size_t)g->n * sizeof *g->c); /* gemv may multiply a NaN by 0 */
    cblas_sgemv(CblasRowMajor, transpose(!g->trans_b), (blasint)rows, (blasint)columns, g->alpha, g->b, (blasint)g->ldb,
                g->a, g->trans_a ? (blasint)g->lda : 1, g->beta, g->c, 1);
}

void cpu_gemm(const cpu_gemm_args *g) {
    if (g->m == 1) {
        gemv(g);
        return;
    }
    cblas_sgemm(CblasRowMajor, transpose(g->trans_a), transpose(g->trans_b), (blasint)g->m, (blasint)g->n,
                (blasint)g->k, g->alpha, g->a, (blasint)g->lda, g->b, (blasint)g->ldb, g->beta, g->c, (blasint)g->ldc);
}

static lemoe_status multiply(const cpu_gemm_args *g) {
    if (g->m > 1 && cpu_onednn_is_there()) return cpu_onednn_gemm(g);
    cpu_gemm(g);
    return LEMOE_OK;
}

/* Panels of rows of b: columns of c when b is transposed, terms of the sum when it is not. */
static lemoe_status multiply_panels(lemoe_device *device, const cpu_gemm_args *whole, lemoe_tensor b) {
    cpu_scratch *panel = &cpu_state_of(device)->panel;
    int64_t rows = cpu_rows(b), columns = cpu_columns(b);
    int64_t elements = whole->m <= FEW_ROWS ? PANEL_ELEMENTS_FEW : PANEL_ELEMENTS;
    int64_t step = elements / columns > 0 ? elements / columns : 1;
    LEMOE_TRY(cpu_reserve(panel, (step < rows ? step : rows) * columns));
    for (int64_t r = 0; r < rows; r += step) {
        int64_t count = rows - r < step ? rows - r : step;
        const char *source = (const char *)b.data + (size_t)(r * columns) * lemoe_dtype_bytes(b.dtype);
        cpu_gemm_args part = *whole;
        part.b = panel->data;
        if (whole->trans_b) {
            part.n = count;
            part.c += r;
        } else {
            part.k = count;
            part.a += whole->trans_a ? r * whole->lda : r;
            if (r > 0) part.beta = 1.0f;
        }
        cpu_widen(device, b.dtype, source, count * columns, panel->data);
        LEMOE_TRY(multiply(&part));
    }
    return LEMOE_OK;
}

/* No terms: c = beta c. */
static void scale_only(float beta, float *c, int64_t n) {
    for (int64_t i = 0; i < n; i++) c[i] = beta == 0.0f ? 0.0f : beta * c[i];
}

/* An operand a rounded to bf16, times alpha, which is 1 wherever a model is concerned; or as it is, where it is bf16.
 */
static lemoe_status in_bf16(lemoe_device *device, float alpha, lemoe_tensor a, const uint16_t **out) {
    cpu_scratch *room = &cpu_state_of(device)->panel;
    int64_t n = lemoe_tensor_count(&a);
    *out = a.data;
    if (a.dtype == LEMOE_BF16) return LEMOE_OK;
    LEMOE_TRY(cpu_reserve(room, (n + 1) / 2));
    uint16_t *rounded = (uint16_t *)(void *)room->data;
    cpu_round_bf16(device, alpha, cpu_f32(a), n, rounded);
    *out = rounded;
    return LEMOE_OK;
}

static lemoe_status multiply_bf16(lemoe_device *device, const lemoe_matmul_args *args, const cpu_gemm_args *g) {
    const uint16_t *a = NULL;
    LEMOE_TRY(in_bf16(device, g->alpha, args->a, &a));
    if (g->beta != 0.0f && g->beta != 1.0f) scale_only(g->beta, g->c, g->m * g->n);
    return cpu_onednn_gemm_bf16(&(cpu_bf16_args){.trans_a = g->trans_a,
                                                 .trans_b = g->trans_b,
                                                 .m = g->m,
                                                 .n = g->n,
                                                 .k = g->k,
                                                 .lda = g->lda,
                                                 .ldb = g->ldb,
                                                 .ldc = g->ldc,
                                                 .accumulate = g->beta != 0.0f,
                                                 .a = a,
                                                 .b = args->b.data,
                                                 .c = g->c});
}

lemoe_status cpu_matmul(lemoe_device *device, const lemoe_matmul_args *args) {
    cpu_gemm_args g = {.trans_a = args->trans_a,
                       .trans_b = args->trans_b,
                       .m = cpu_rows(args->c),
                       .n = cpu_columns(args->c),
                       .k = args->trans_a ? cpu_rows(args->a) : cpu_columns(args->a),
                       .lda = cpu_columns(args->a),
                       .ldb = cpu_columns(args->b),
                       .ldc = cpu_columns(args->c),
                       .alpha = args->alpha,
                       .beta = args->beta,
                       .a = cpu_f32(args->a),
                       .c = cpu_f32(args->c)};
    LEMOE_CHECK(g.m <= INT_MAX && g.n <= INT_MAX && g.k <= INT_MAX, LEMOE_ERR_UNSUPPORTED,
                "matmul: %lld x %lld x %lld is more than the library can count", (long long)g.m, (long long)g.n,
                (long long)g.k);
    if (g.k == 0) {
        scale_only(g.beta, g.c, g.m * g.n);
        return LEMOE_OK;
    }
    cpu_matmul_threads(device);
    if (lemoe_rounded_to(device->products, true, args->b.dtype) == LEMOE_BF16) return multiply_bf16(device, args, &g);
    if (args->b.dtype != LEMOE_F32) return multiply_panels(device, &g, args->b);
    g.b = cpu_f32(args->b);
    return multiply(&g);
}

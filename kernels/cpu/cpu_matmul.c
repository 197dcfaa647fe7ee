/*
 * Matrix products by OpenBLAS; no hand-written loops, attention's two products included.
 *
 * Why OpenBLAS: kernels/README.md has the ratios measured by tests/bench/bench_matmul at the shapes that occur. Frozen bf16 and
 * fp16 weights are widened to fp32 panel by panel (exact) and multiplied in fp32: deterministic, no second copy of the model.
 */
#include "kernels/cpu/cpu_internal.h"

#include "kernels/base/mem.h"

#include <cblas.h>
#include <stdio.h>

/* Elements of a widened panel: 1 MiB of fp32, which stays in the second-level cache. Part of the numerics: a constant. */
enum { PANEL_ELEMENTS = 1 << 18 };

void cpu_matmul_set_threads(int n_threads) { openblas_set_num_threads(n_threads); }

const char *cpu_matmul_library(void) {
    static char text[160]; /* the same for the whole process */
    const char *config = openblas_get_config();
    int version = (int)strcspn(config + 9, " "); /* "OpenBLAS 0.3.21 NO_LAPACKE ..." */
    (void)snprintf(text, sizeof text, "OpenBLAS %.*s (%s)", version, config + 9, openblas_get_corename());
    return text;
}

void cpu_gemm(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda,
              const float *b, int64_t ldb, float beta, float *c, int64_t ldc) {
    cblas_sgemm(CblasRowMajor, trans_a ? CblasTrans : CblasNoTrans, trans_b ? CblasTrans : CblasNoTrans, (blasint)m,
                (blasint)n, (blasint)k, alpha, a, (blasint)lda, b, (blasint)ldb, beta, c, (blasint)ldc);
}

/* One row is a matrix-vector product: OpenBLAS's gemv runs at memory speed where its gemm does not. */
static void multiply(const lemoe_matmul_args *args, int64_t m, int64_t n, int64_t k, const float *b, int64_t ldb, float beta,
                     float *c, int64_t ldc) {
    const float *a = args->a.data;
    if (m == 1 && !args->trans_a) {
        CBLAS_TRANSPOSE trans = args->trans_b ? CblasNoTrans : CblasTrans;
        int64_t rows = args->trans_b ? n : k, columns = args->trans_b ? k : n;
        cblas_sgemv(CblasRowMajor, trans, (blasint)rows, (blasint)columns, args->alpha, b, (blasint)ldb, a, 1, beta, c, 1);
        return;
    }
    cpu_gemm(args->trans_a, args->trans_b, m, n, k, args->alpha, a, cpu_columns(args->a), b, ldb, beta, c, ldc);
}

static lemoe_status widen(lemoe_device *device, const lemoe_tensor *b, int64_t first, int64_t n, float **out) {
    cpu_state *state = cpu_state_of(device);
    LEMOE_TRY(lemoe_mem_grow(&state->panel, &state->panel_capacity, n, sizeof *state->panel));
    const char *source = (const char *)b->data + (size_t)first * lemoe_dtype_bytes(b->dtype);
    lemoe_dtype_to_f32(b->dtype, source, n, state->panel);
    *out = state->panel;
    return LEMOE_OK;
}

/* Panels of rows of b: columns of c when b is transposed, terms of the sum when it is not. */
static lemoe_status multiply_panels(lemoe_device *device, const lemoe_matmul_args *args, int64_t m, int64_t n, int64_t k) {
    int64_t rows = cpu_rows(args->b), columns = cpu_columns(args->b);
    int64_t step = PANEL_ELEMENTS / columns > 0 ? PANEL_ELEMENTS / columns : 1;
    lemoe_matmul_args part = *args;
    for (int64_t r = 0; r < rows; r += step) {
        int64_t count = rows - r < step ? rows - r : step;
        float *panel = NULL;
        LEMOE_TRY(widen(device, &args->b, r * columns, count * columns, &panel));
        if (args->trans_b) {
            multiply(args, m, count, k, panel, columns, args->beta, cpu_f32(args->c) + r, n);
        } else {
            float beta = r == 0 ? args->beta : 1.0f;
            part.a.data = cpu_f32(args->a) + r;
            if (m == 1) {
                multiply(&part, m, n, count, panel, columns, beta, cpu_f32(args->c), n);
            } else {
                cpu_gemm(false, false, m, n, count, args->alpha, part.a.data, k, panel, columns, beta, cpu_f32(args->c), n);
            }
        }
    }
    return LEMOE_OK;
}

lemoe_status cpu_matmul(lemoe_device *device, const lemoe_matmul_args *args) {
    int64_t m = cpu_rows(args->c), n = cpu_columns(args->c);
    int64_t k = args->trans_a ? cpu_rows(args->a) : cpu_columns(args->a);
    float *c = cpu_f32(args->c);
    if (k == 0 || args->beta == 0.0f) { /* beta = 0 overwrites whatever was there, NaN included */
        if (args->beta == 0.0f) memset(c, 0, (size_t)(m * n) * sizeof *c);
        if (k == 0) return LEMOE_OK;
    }
    if (args->b.dtype != LEMOE_F32) {
        LEMOE_CHECK(!args->trans_a, LEMOE_ERR_UNSUPPORTED, "matmul: a transposed product with %s is not offered on the CPU",
                    lemoe_dtype_name(args->b.dtype));
        return multiply_panels(device, args, m, n, k);
    }
    multiply(args, m, n, k, args->b.data, cpu_columns(args->b), args->beta, c, n);
    return LEMOE_OK;
}

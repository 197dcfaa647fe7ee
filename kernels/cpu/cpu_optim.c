/* Optimiser step, guards, and weights drawn by global index. */
#include "kernels/cpu/cpu_internal.h"

/* Partial sums over fixed blocks, added in order: the result does not depend on threads. */
lemoe_status cpu_sumsq(lemoe_device *device, lemoe_tensor x, double *out) {
    (void)device;
    enum { BLOCK = 4096 };
    int64_t n = lemoe_tensor_count(&x);
    const float *values = cpu_f32(x);
    double total = 0;
    for (int64_t begin = 0; begin < n; begin += BLOCK) {
        int64_t end = begin + BLOCK < n ? begin + BLOCK : n;
        double sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = begin; i < end; i++) sum += (double)values[i] * (double)values[i];
        total += sum;
    }
    *out = total;
    return LEMOE_OK;
}

lemoe_status cpu_count_nonfinite(lemoe_device *device, lemoe_tensor x, int64_t *out) {
    (void)device;
    int64_t n = lemoe_tensor_count(&x), count = 0;
    for (int64_t i = 0; i < n; i++) count += !isfinite(cpu_f32(x)[i]);
    *out = count;
    return LEMOE_OK;
}

lemoe_status cpu_adamw(lemoe_device *device, const lemoe_adamw_args *args) {
    int64_t n = lemoe_tensor_count(&args->w);
    float *restrict w = cpu_f32(args->w), *restrict m = cpu_f32(args->m), *restrict v = cpu_f32(args->v);
    const float *restrict grad = cpu_f32(args->grad);
    float beta1 = args->beta1, beta2 = args->beta2, scale = args->grad_scale, eps = args->eps;
    float step_size = (float)(args->lr / (1.0 - pow(beta1, (double)args->step)));
    float inverse_root = (float)(1.0 / sqrt(1.0 - pow(beta2, (double)args->step)));
    float keep = 1.0f - args->lr * args->weight_decay;
#pragma omp parallel for simd num_threads(device->n_threads) if (device->n_threads > 1 && n > CPU_PARALLEL_ELEMENTS)
    for (int64_t i = 0; i < n; i++) {
        float g = grad[i] * scale;
        m[i] = beta1 * m[i] + (1.0f - beta1) * g;
        v[i] = beta2 * v[i] + (1.0f - beta2) * g * g;
        w[i] = keep * w[i] - step_size * m[i] / (sqrtf(v[i]) * inverse_root + eps);
    }
    return LEMOE_OK;
}

lemoe_status cpu_fill_normal(lemoe_device *device, const lemoe_fill_args *args) {
    (void)device;
    int64_t rows = cpu_rows(args->x), columns = cpu_columns(args->x);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c++) {
            uint64_t index = (uint64_t)((args->row_begin + r) * args->n_columns + args->column_begin + c);
            cpu_f32(args->x)[r * columns + c] = (float)(args->std * lemoe_rng_normal(args->rng, index));
        }
    return LEMOE_OK;
}

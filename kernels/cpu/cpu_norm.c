/* RMSNorm (Zhang & Sennrich 2019): y = x / sqrt(mean(x^2) + eps) * w. */
#include "kernels/cpu/cpu_internal.h"

lemoe_status cpu_rmsnorm_fwd(lemoe_device *device, lemoe_tensor x, lemoe_tensor w, float eps, lemoe_tensor y,
                             lemoe_tensor inv_rms) {
    int64_t rows = cpu_rows(x), d = cpu_columns(x);
    const float *weight = cpu_f32(w);
#pragma omp parallel for num_threads(device->n_threads) if (device->n_threads > 1 && rows * d > CPU_PARALLEL_ELEMENTS)
    for (int64_t r = 0; r < rows; r++) {
        const float *from = cpu_f32(x) + r * d;
        float *to = cpu_f32(y) + r * d, sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < d; i++) sum += from[i] * from[i];
        float inverse = 1.0f / sqrtf(sum / (float)d + eps);
        cpu_f32(inv_rms)[r] = inverse;
        for (int64_t i = 0; i < d; i++) to[i] = from[i] * inverse * weight[i];
    }
    return LEMOE_OK;
}

/* With s = inv_rms and g = dy * w:  dx = s g - x s^3 <g, x> / d. */
lemoe_status cpu_rmsnorm_bwd(lemoe_device *device, lemoe_tensor dy, lemoe_tensor x, lemoe_tensor w, lemoe_tensor inv_rms,
                             lemoe_tensor dx) {
    int64_t rows = cpu_rows(x), d = cpu_columns(x);
    const float *weight = cpu_f32(w);
#pragma omp parallel for num_threads(device->n_threads) if (device->n_threads > 1 && rows * d > CPU_PARALLEL_ELEMENTS)
    for (int64_t r = 0; r < rows; r++) {
        const float *gradient = cpu_f32(dy) + r * d, *from = cpu_f32(x) + r * d;
        float *to = cpu_f32(dx) + r * d, s = cpu_f32(inv_rms)[r], dot = 0;
#pragma omp simd reduction(+ : dot)
        for (int64_t i = 0; i < d; i++) dot += gradient[i] * weight[i] * from[i];
        float shrink = s * s * s * dot / (float)d;
        for (int64_t i = 0; i < d; i++) to[i] += s * gradient[i] * weight[i] - shrink * from[i];
    }
    return LEMOE_OK;
}

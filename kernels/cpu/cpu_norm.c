/* RMSNorm (Zhang & Sennrich 2019): y = x / sqrt(mean(x^2) + eps) * w. */
#include "kernels/cpu/cpu_internal.h"

typedef struct norm_args {
    int64_t d_model;
    float eps;
    const float *x, *w, *dy;
    float *y, *inv_rms, *dx;
    uint16_t *y_bf16; /* in place of y */
} norm_args;

static inline void scale_f32(const float *x, float inverse, const float *w, int64_t d, float *y) {
#pragma omp simd
    for (int64_t i = 0; i < d; i++) y[i] = x[i] * inverse * w[i];
}

static inline void scale_bf16(const float *x, float inverse, const float *w, int64_t d, uint16_t *y) {
#pragma omp simd
    for (int64_t i = 0; i < d; i++) y[i] = cpu_to_bf16(x[i] * inverse * w[i]);
}

CPU_LOOP static void fwd_loop(const void *data, int i_thread, int64_t begin, int64_t end) {
    const norm_args *a = data;
    int64_t d = a->d_model;
    const float *w = a->w;
    (void)i_thread;
    for (int64_t r = begin; r < end; r++) {
        const float *x = a->x + r * d;
        float inverse = (float)(1.0 / sqrt(cpu_dot(x, x, d) / (double)d + (double)a->eps));
        a->inv_rms[r] = inverse;
        if (a->y_bf16)
            scale_bf16(x, inverse, w, d, a->y_bf16 + r * d);
        else
            scale_f32(x, inverse, w, d, a->y + r * d);
    }
}

lemoe_status cpu_rmsnorm_fwd(lemoe_device *device, lemoe_tensor x, lemoe_tensor w, float eps, lemoe_tensor y,
                             lemoe_tensor inv_rms) {
    norm_args args = {.d_model = cpu_columns(x),
                      .eps = eps,
                      .x = cpu_f32(x),
                      .w = cpu_f32(w),
                      .y = cpu_f32(y),
                      .y_bf16 = y.dtype == LEMOE_BF16 ? cpu_bf16(y) : NULL,
                      .inv_rms = cpu_f32(inv_rms)};
    cpu_for(device, cpu_rows(x), args.d_model, fwd_loop, &args);
    return LEMOE_OK;
}

/* With s = inv_rms and g = dy * w:  dx += s g - x s^3 <g, x> / d. */
CPU_LOOP static void bwd_loop(const void *data, int i_thread, int64_t begin, int64_t end) {
    const norm_args *a = data;
    int64_t d = a->d_model;
    const float *w = a->w;
    (void)i_thread;
    for (int64_t r = begin; r < end; r++) {
        const float *dy = a->dy + r * d, *x = a->x + r * d;
        float *dx = a->dx + r * d, s = a->inv_rms[r];
        double dot = 0;
        for (int64_t at = 0; at < d; at += CPU_SUM_BLOCK) {
            int64_t stop = at + CPU_SUM_BLOCK < d ? at + CPU_SUM_BLOCK : d;
            float sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int64_t i = at; i < stop; i++) sum += dy[i] * w[i] * x[i];
            dot += (double)sum;
        }
        float shrink = (float)((double)s * s * s * dot / (double)d);
#pragma omp simd
        for (int64_t i = 0; i < d; i++) dx[i] += s * dy[i] * w[i] - shrink * x[i];
    }
}

lemoe_status cpu_rmsnorm_bwd(lemoe_device *device, lemoe_tensor dy, lemoe_tensor x, lemoe_tensor w,
                             lemoe_tensor inv_rms, lemoe_tensor dx) {
    norm_args args = {.d_model = cpu_columns(x),
                      .x = cpu_f32(x),
                      .w = cpu_f32(w),
                      .dy = cpu_f32(dy),
                      .inv_rms = cpu_f32(inv_rms),
                      .dx = cpu_f32(dx)};
    cpu_for(device, cpu_rows(x), args.d_model, bwd_loop, &args);
    return LEMOE_OK;
}

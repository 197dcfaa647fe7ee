/* Elementwise operations. Loops are plain so that the compiler vectorises them. */
#include "kernels/cpu/cpu_internal.h"

#include "kernels/base/mem.h"

lemoe_status cpu_cast(lemoe_device *device, lemoe_tensor from, lemoe_tensor to) {
    (void)device;
    int64_t n = lemoe_tensor_count(&from);
    if (to.dtype == LEMOE_F32) {
        lemoe_dtype_to_f32(from.dtype, from.data, n, to.data);
        return LEMOE_OK;
    }
    enum { CHUNK = 1024 };
    float chunk[CHUNK];
    for (int64_t i = 0; i < n; i += CHUNK) {
        int64_t count = n - i < CHUNK ? n - i : CHUNK;
        const char *source = (const char *)from.data + (size_t)i * lemoe_dtype_bytes(from.dtype);
        lemoe_dtype_to_f32(from.dtype, source, count, chunk);
        lemoe_dtype_from_f32(to.dtype, chunk, count, (char *)to.data + (size_t)i * lemoe_dtype_bytes(to.dtype));
    }
    return LEMOE_OK;
}

lemoe_status cpu_axpy(lemoe_device *device, float a, lemoe_tensor x, lemoe_tensor y) {
    (void)device;
    int64_t n = lemoe_tensor_count(&x);
    const float *restrict from = cpu_f32(x);
    float *restrict to = cpu_f32(y);
    for (int64_t i = 0; i < n; i++) to[i] += a * from[i];
    return LEMOE_OK;
}

lemoe_status cpu_scale(lemoe_device *device, float a, lemoe_tensor x) {
    (void)device;
    int64_t n = lemoe_tensor_count(&x);
    float *values = cpu_f32(x);
    for (int64_t i = 0; i < n; i++) values[i] *= a;
    return LEMOE_OK;
}

lemoe_status cpu_silu_fwd(lemoe_device *device, lemoe_tensor x, lemoe_tensor y) {
    (void)device;
    int64_t n = lemoe_tensor_count(&x);
    const float *from = cpu_f32(x);
    float *to = cpu_f32(y);
    for (int64_t i = 0; i < n; i++) to[i] = from[i] * cpu_sigmoid(from[i]);
    return LEMOE_OK;
}

/* d/dx x s(x) = s (1 + x (1 - s)) */
static inline float silu_slope(float x, float sigmoid) { return sigmoid * (1.0f + x * (1.0f - sigmoid)); }

lemoe_status cpu_silu_bwd(lemoe_device *device, lemoe_tensor dy, lemoe_tensor x, lemoe_tensor dx) {
    (void)device;
    int64_t n = lemoe_tensor_count(&x);
    const float *from = cpu_f32(x), *gradient = cpu_f32(dy);
    float *to = cpu_f32(dx);
    for (int64_t i = 0; i < n; i++) to[i] = gradient[i] * silu_slope(from[i], cpu_sigmoid(from[i]));
    return LEMOE_OK;
}

lemoe_status cpu_swiglu_fwd(lemoe_device *device, lemoe_tensor gate, lemoe_tensor up, lemoe_tensor act) {
    int64_t n = lemoe_tensor_count(&gate);
    const float *g = cpu_f32(gate), *u = cpu_f32(up);
    float *to = cpu_f32(act);
#pragma omp parallel for simd num_threads(device->n_threads) if (device->n_threads > 1 && n > CPU_PARALLEL_ELEMENTS)
    for (int64_t i = 0; i < n; i++) to[i] = g[i] * cpu_sigmoid(g[i]) * u[i];
    return LEMOE_OK;
}

lemoe_status cpu_swiglu_bwd(lemoe_device *device, lemoe_tensor d_act, lemoe_tensor gate, lemoe_tensor up, lemoe_tensor d_gate,
                            lemoe_tensor d_up) {
    int64_t n = lemoe_tensor_count(&gate);
    const float *da = cpu_f32(d_act), *g = cpu_f32(gate), *u = cpu_f32(up);
    float *dg = cpu_f32(d_gate), *du = cpu_f32(d_up);
#pragma omp parallel for simd num_threads(device->n_threads) if (device->n_threads > 1 && n > CPU_PARALLEL_ELEMENTS)
    for (int64_t i = 0; i < n; i++) {
        float sigmoid = cpu_sigmoid(g[i]), gradient = da[i]; /* d_act may share storage with an output */
        dg[i] = gradient * u[i] * silu_slope(g[i], sigmoid);
        du[i] = gradient * g[i] * sigmoid;
    }
    return LEMOE_OK;
}

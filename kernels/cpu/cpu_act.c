/* Elementwise operations. Several allow an output to be an input's storage, so pointers are not restrict: the loops say
 * themselves (omp simd) that elements do not depend on each other. */
#include "kernels/cpu/cpu_internal.h"

typedef struct act_args {
    float factor; /* or a limit */
    const float *a, *b, *c;
    float *x, *y;
    uint16_t *x_bf16, *y_bf16; /* in place of x and y */
} act_args;

CPU_LOOP static void axpy_loop(const void *data, int i_thread, int64_t begin, int64_t end) {
    const act_args *a = data;
    const float *x = a->a;
    float *y = a->y, factor = a->factor;
    (void)i_thread;
#pragma omp simd
    for (int64_t i = begin; i < end; i++) y[i] += factor * x[i];
}

lemoe_status cpu_axpy(lemoe_device *device, float a, lemoe_tensor x, lemoe_tensor y) {
    act_args args = {.factor = a, .a = cpu_f32(x), .y = cpu_f32(y)};
    cpu_for(device, lemoe_tensor_count(&x), 1, axpy_loop, &args);
    return LEMOE_OK;
}

CPU_LOOP static void scale_loop(const void *data, int i_thread, int64_t begin, int64_t end) {
    const act_args *a = data;
    float *x = a->x, factor = a->factor;
    (void)i_thread;
#pragma omp simd
    for (int64_t i = begin; i < end; i++) x[i] *= factor;
}

lemoe_status cpu_scale(lemoe_device *device, float a, lemoe_tensor x) {
    act_args args = {.factor = a, .x = cpu_f32(x)};
    cpu_for(device, lemoe_tensor_count(&x), 1, scale_loop, &args);
    return LEMOE_OK;
}

/* Comparisons with NaN do not hold. */
static inline float clamped(float x, float low, float high) { return x > high ? high : x < low ? low : x; }

CPU_LOOP static void clamp_around_loop(const void *data, int i_thread, int64_t begin, int64_t end) {
    const act_args *a = data;
    const float *reference = a->a;
    float *x = a->x, limit = a->factor;
    (void)i_thread;
#pragma omp simd
    for (int64_t i = begin; i < end; i++) x[i] = clamped(x[i], reference[i] - limit, reference[i] + limit);
}

lemoe_status cpu_clamp_around(lemoe_device *device, lemoe_tensor reference, float limit, lemoe_tensor x) {
    act_args args = {.factor = limit, .a = cpu_f32(reference), .x = cpu_f32(x)};
    cpu_for(device, lemoe_tensor_count(&x), 1, clamp_around_loop, &args);
    return LEMOE_OK;
}

CPU_LOOP static void silu_loop(const void *data, int i_thread, int64_t begin, int64_t end) {
    const act_args *a = data;
    const float *x = a->a;
    float *y = a->y;
    (void)i_thread;
#pragma omp simd
    for (int64_t i = begin; i < end; i++) y[i] = x[i] * cpu_sigmoid(x[i]);
}

lemoe_status cpu_silu_fwd(lemoe_device *device, lemoe_tensor x, lemoe_tensor y) {
    act_args args = {.a = cpu_f32(x), .y = cpu_f32(y)};
    cpu_for(device, lemoe_tensor_count(&x), 4, silu_loop, &args);
    return LEMOE_OK;
}

/* d/dx x s(x) = s (1 + x (1 - s)) */
static inline float silu_slope(float x, float sigmoid) { return sigmoid * (1.0f + x * (1.0f - sigmoid)); }

CPU_LOOP static void silu_bwd_loop(const void *data, int i_thread, int64_t begin, int64_t end) {
    const act_args *a = data;
    const float *dy = a->a, *x = a->b;
    float *dx = a->x;
    (void)i_thread;
#pragma omp simd
    for (int64_t i = begin; i < end; i++) dx[i] = dy[i] * silu_slope(x[i], cpu_sigmoid(x[i]));
}

lemoe_status cpu_silu_bwd(lemoe_device *device, lemoe_tensor dy, lemoe_tensor x, lemoe_tensor dx) {
    act_args args = {.a = cpu_f32(dy), .b = cpu_f32(x), .x = cpu_f32(dx)};
    cpu_for(device, lemoe_tensor_count(&x), 4, silu_bwd_loop, &args);
    return LEMOE_OK;
}

static inline float swiglu(float gate, float up) { return gate * cpu_sigmoid(gate) * up; }

CPU_LOOP static void swiglu_loop(const void *data, int i_thread, int64_t begin, int64_t end) {
    const act_args *a = data;
    const float *gate = a->a, *up = a->b;
    float *act = a->y;
    (void)i_thread;
#pragma omp simd
    for (int64_t i = begin; i < end; i++) act[i] = swiglu(gate[i], up[i]);
}

CPU_LOOP static void swiglu_bf16_loop(const void *data, int i_thread, int64_t begin, int64_t end) {
    const act_args *a = data;
    const float *gate = a->a, *up = a->b;
    uint16_t *act = a->y_bf16;
    (void)i_thread;
#pragma omp simd
    for (int64_t i = begin; i < end; i++) act[i] = cpu_to_bf16(swiglu(gate[i], up[i]));
}

lemoe_status cpu_swiglu_fwd(lemoe_device *device, lemoe_tensor gate, lemoe_tensor up, lemoe_tensor act) {
    act_args args = {.a = cpu_f32(gate), .b = cpu_f32(up), .y = cpu_f32(act), .y_bf16 = cpu_bf16(act)};
    cpu_for(device, lemoe_tensor_count(&gate), 4, act.dtype == LEMOE_BF16 ? swiglu_bf16_loop : swiglu_loop, &args);
    return LEMOE_OK;
}

static inline float swiglu_d_gate(float d_act, float gate, float up, float sigmoid) {
    return d_act * up * silu_slope(gate, sigmoid);
}
static inline float swiglu_d_up(float d_act, float gate, float sigmoid) { return d_act * (gate * sigmoid); }

CPU_LOOP static void swiglu_bwd_loop(const void *data, int i_thread, int64_t begin, int64_t end) {
    const act_args *a = data;
    const float *d_act = a->a, *gate = a->b, *up = a->c;
    float *d_gate = a->x, *d_up = a->y;
    (void)i_thread;
#pragma omp simd
    for (int64_t i = begin; i < end; i++) {
        float sigmoid = cpu_sigmoid(gate[i]), gradient = d_act[i]; /* read before an output takes its place */
        d_gate[i] = swiglu_d_gate(gradient, gate[i], up[i], sigmoid);
        d_up[i] = swiglu_d_up(gradient, gate[i], sigmoid);
    }
}

CPU_LOOP static void swiglu_bwd_bf16_loop(const void *data, int i_thread, int64_t begin, int64_t end) {
    const act_args *a = data;
    const float *d_act = a->a, *gate = a->b, *up = a->c;
    uint16_t *d_gate = a->x_bf16, *d_up = a->y_bf16;
    (void)i_thread;
#pragma omp simd
    for (int64_t i = begin; i < end; i++) {
        float sigmoid = cpu_sigmoid(gate[i]);
        d_gate[i] = cpu_to_bf16(swiglu_d_gate(d_act[i], gate[i], up[i], sigmoid));
        d_up[i] = cpu_to_bf16(swiglu_d_up(d_act[i], gate[i], sigmoid));
    }
}

lemoe_status cpu_swiglu_bwd(lemoe_device *device, lemoe_tensor d_act, lemoe_tensor gate, lemoe_tensor up,
                            lemoe_tensor d_gate, lemoe_tensor d_up) {
    act_args args = {.a = cpu_f32(d_act),
                     .b = cpu_f32(gate),
                     .c = cpu_f32(up),
                     .x = cpu_f32(d_gate),
                     .y = cpu_f32(d_up),
                     .x_bf16 = cpu_bf16(d_gate),
                     .y_bf16 = cpu_bf16(d_up)};
    bool halves = d_gate.dtype == LEMOE_BF16;
    cpu_for(device, lemoe_tensor_count(&gate), 4, halves ? swiglu_bwd_bf16_loop : swiglu_bwd_loop, &args);
    return LEMOE_OK;
}

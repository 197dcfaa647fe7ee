/* Elementwise operations and conversions. Several allow an output to be an input's storage: a thread reads what it
 * needs of an element before it writes there. */
#include "kernels/cuda/cuda_kernel.cuh"

/* ---- conversions ---- */

static __global__ void k_cast(int64_t n, lemoe_dtype from_type, const void *from, lemoe_dtype to_type, void *to) {
    for (CUDA_EACH(i, n)) cuda_store(to_type, cuda_load(from_type, from, i), to, i);
}

static lemoe_status cast(lemoe_device *device, int64_t n, lemoe_dtype from_type, const void *from, lemoe_dtype to_type,
                         void *to) {
    if (n == 0) return LEMOE_OK;
    CUDA_LAUNCH(k_cast, cuda_blocks(n), CUDA_BLOCK, 0, cuda_state_of(device)->stream, n, from_type, from, to_type, to);
    return cuda_launched(device, "cast");
}

lemoe_status cuda_cast(lemoe_device *device, lemoe_tensor from, lemoe_tensor to) {
    return cast(device, lemoe_tensor_count(&from), from.dtype, from.data, to.dtype, to.data);
}

/* This stands in front of many products. */
static __global__ void k_round_bf16(int64_t n, bool wide, const float *from, uint16_t *to) {
    for (CUDA_FOURS(i, n, cuda_thread(), cuda_threads()))
        cuda_store_few(wide, LEMOE_BF16, cuda_load_few<4>(wide, from, i), to, i);
    for (CUDA_REST(i, n, cuda_thread(), cuda_threads())) to[i] = cuda_to_bf16(from[i]);
}

lemoe_status cuda_convert(lemoe_device *device, lemoe_tensor from, lemoe_dtype type, void *to) {
    int64_t n = lemoe_tensor_count(&from);
    if (from.dtype != LEMOE_F32 || type != LEMOE_BF16 || n == 0)
        return cast(device, n, from.dtype, from.data, type, to);
    CUDA_LAUNCH(k_round_bf16, cuda_blocks(n / 4 + 1), CUDA_BLOCK, 0, cuda_state_of(device)->stream, n,
                cuda_is_wide(from), cuda_f32(from), static_cast<uint16_t *>(to));
    return cuda_launched(device, "matmul");
}

/* ---- sums, factors and bounds ---- */

template <int N> static __device__ inline void axpy(int64_t i, bool wide, float a, const float *x, float *y) {
    cuda_few<N> from = cuda_load_few<N>(wide, x, i), to = cuda_load_few<N>(wide, y, i);
#pragma unroll
    for (int j = 0; j < N; j++) to.at[j] += a * from.at[j];
    cuda_store_few(wide, LEMOE_F32, to, y, i);
}

static __global__ void k_axpy(int64_t n, bool wide, float a, const float *x, float *y) {
    for (CUDA_FOURS(i, n, cuda_thread(), cuda_threads())) axpy<4>(i, wide, a, x, y);
    for (CUDA_REST(i, n, cuda_thread(), cuda_threads())) axpy<1>(i, wide, a, x, y);
}

lemoe_status cuda_axpy(lemoe_device *device, float a, lemoe_tensor x, lemoe_tensor y) {
    int64_t n = lemoe_tensor_count(&x);
    if (n == 0) return LEMOE_OK;
    CUDA_LAUNCH(k_axpy, cuda_blocks(n / 4 + 1), CUDA_BLOCK, 0, cuda_state_of(device)->stream, n,
                cuda_is_wide(x) && cuda_is_wide(y), a, cuda_f32(x), cuda_f32(y));
    return cuda_launched(device, "axpy");
}

static __global__ void k_scale(int64_t n, float a, float *x) {
    for (CUDA_EACH(i, n)) x[i] *= a;
}

lemoe_status cuda_scale(lemoe_device *device, float a, lemoe_tensor x) {
    int64_t n = lemoe_tensor_count(&x);
    if (n == 0) return LEMOE_OK;
    CUDA_LAUNCH(k_scale, cuda_blocks(n), CUDA_BLOCK, 0, cuda_state_of(device)->stream, n, a, cuda_f32(x));
    return cuda_launched(device, "scale");
}

template <int N>
static __device__ inline void clamp_around(int64_t i, bool wide, const float *reference, float limit, float *x) {
    cuda_few<N> around = cuda_load_few<N>(wide, reference, i), to = cuda_load_few<N>(wide, x, i);
#pragma unroll
    for (int j = 0; j < N; j++) {
        float low = around.at[j] - limit, high = around.at[j] + limit;
        to.at[j] = to.at[j] > high ? high : to.at[j] < low ? low : to.at[j]; /* not fminf: NaN stays */
    }
    cuda_store_few(wide, LEMOE_F32, to, x, i);
}

static __global__ void k_clamp_around(int64_t n, bool wide, const float *reference, float limit, float *x) {
    for (CUDA_FOURS(i, n, cuda_thread(), cuda_threads())) clamp_around<4>(i, wide, reference, limit, x);
    for (CUDA_REST(i, n, cuda_thread(), cuda_threads())) clamp_around<1>(i, wide, reference, limit, x);
}

lemoe_status cuda_clamp_around(lemoe_device *device, lemoe_tensor reference, float limit, lemoe_tensor x) {
    int64_t n = lemoe_tensor_count(&x);
    if (n == 0) return LEMOE_OK;
    CUDA_LAUNCH(k_clamp_around, cuda_blocks(n / 4 + 1), CUDA_BLOCK, 0, cuda_state_of(device)->stream, n,
                cuda_is_wide(reference) && cuda_is_wide(x), cuda_f32(reference), limit, cuda_f32(x));
    return cuda_launched(device, "clamp_around");
}

/* ---- silu, and silu(gate) up ---- */

static __global__ void k_silu(int64_t n, const float *x, float *y) {
    for (CUDA_EACH(i, n)) y[i] = x[i] * cuda_sigmoid(x[i]);
}

lemoe_status cuda_silu_fwd(lemoe_device *device, lemoe_tensor x, lemoe_tensor y) {
    int64_t n = lemoe_tensor_count(&x);
    if (n == 0) return LEMOE_OK;
    CUDA_LAUNCH(k_silu, cuda_blocks(n), CUDA_BLOCK, 0, cuda_state_of(device)->stream, n, cuda_f32(x), cuda_f32(y));
    return cuda_launched(device, "silu_fwd");
}

/* d/dx x s(x) = s (1 + x (1 - s)) */
static __device__ inline float silu_slope(float x, float sigmoid) { return sigmoid * (1.0f + x * (1.0f - sigmoid)); }

static __global__ void k_silu_bwd(int64_t n, const float *dy, const float *x, float *dx) {
    for (CUDA_EACH(i, n)) dx[i] = dy[i] * silu_slope(x[i], cuda_sigmoid(x[i]));
}

lemoe_status cuda_silu_bwd(lemoe_device *device, lemoe_tensor dy, lemoe_tensor x, lemoe_tensor dx) {
    int64_t n = lemoe_tensor_count(&x);
    if (n == 0) return LEMOE_OK;
    CUDA_LAUNCH(k_silu_bwd, cuda_blocks(n), CUDA_BLOCK, 0, cuda_state_of(device)->stream, n, cuda_f32(dy), cuda_f32(x),
                cuda_f32(dx));
    return cuda_launched(device, "silu_bwd");
}

/* What both kernels are given; those of the backward are NULL in the forward. */
typedef struct swiglu_args {
    bool wide;
    const float *gate, *up, *d_act;
    lemoe_dtype dtype; /* of what is written */
    void *act, *d_gate, *d_up;
} swiglu_args;

template <int N> static __device__ inline void swiglu(int64_t i, const swiglu_args &a) {
    cuda_few<N> gate = cuda_load_few<N>(a.wide, a.gate, i), up = cuda_load_few<N>(a.wide, a.up, i), act;
#pragma unroll
    for (int j = 0; j < N; j++) act.at[j] = gate.at[j] * cuda_sigmoid(gate.at[j]) * up.at[j];
    cuda_store_few(a.wide, a.dtype, act, a.act, i);
}

static __global__ void k_swiglu(int64_t n, swiglu_args a) {
    for (CUDA_FOURS(i, n, cuda_thread(), cuda_threads())) swiglu<4>(i, a);
    for (CUDA_REST(i, n, cuda_thread(), cuda_threads())) swiglu<1>(i, a);
}

lemoe_status cuda_swiglu_fwd(lemoe_device *device, lemoe_tensor gate, lemoe_tensor up, lemoe_tensor act) {
    int64_t n = lemoe_tensor_count(&gate);
    swiglu_args a = {};
    if (n == 0) return LEMOE_OK;
    a.wide = cuda_is_wide(gate) && cuda_is_wide(up) && cuda_is_wide(act);
    a.gate = cuda_f32(gate);
    a.up = cuda_f32(up);
    a.dtype = act.dtype;
    a.act = act.data;
    CUDA_LAUNCH(k_swiglu, cuda_blocks(n / 4 + 1), CUDA_BLOCK, 0, cuda_state_of(device)->stream, n, a);
    return cuda_launched(device, "swiglu_fwd");
}

template <int N> static __device__ inline void swiglu_bwd(int64_t i, const swiglu_args &a) {
    cuda_few<N> gate = cuda_load_few<N>(a.wide, a.gate, i), up = cuda_load_few<N>(a.wide, a.up, i),
                d_act = cuda_load_few<N>(a.wide, a.d_act, i), d_gate, d_up;
#pragma unroll
    for (int j = 0; j < N; j++) {
        float x = gate.at[j], sigmoid = cuda_sigmoid(x), gradient = d_act.at[j];
        d_gate.at[j] = gradient * up.at[j] * silu_slope(x, sigmoid);
        d_up.at[j] = gradient * (x * sigmoid);
    }
    cuda_store_few(a.wide, a.dtype, d_gate, a.d_gate, i);
    cuda_store_few(a.wide, a.dtype, d_up, a.d_up, i);
}

static __global__ void k_swiglu_bwd(int64_t n, swiglu_args a) {
    for (CUDA_FOURS(i, n, cuda_thread(), cuda_threads())) swiglu_bwd<4>(i, a);
    for (CUDA_REST(i, n, cuda_thread(), cuda_threads())) swiglu_bwd<1>(i, a);
}

lemoe_status cuda_swiglu_bwd(lemoe_device *device, lemoe_tensor d_act, lemoe_tensor gate, lemoe_tensor up,
                             lemoe_tensor d_gate, lemoe_tensor d_up) {
    int64_t n = lemoe_tensor_count(&gate);
    swiglu_args a = {};
    if (n == 0) return LEMOE_OK;
    a.wide =
        cuda_is_wide(gate) && cuda_is_wide(up) && cuda_is_wide(d_act) && cuda_is_wide(d_gate) && cuda_is_wide(d_up);
    a.gate = cuda_f32(gate);
    a.up = cuda_f32(up);
    a.d_act = cuda_f32(d_act);
    a.dtype = d_gate.dtype;
    a.d_gate = d_gate.data;
    a.d_up = d_up.data;
    CUDA_LAUNCH(k_swiglu_bwd, cuda_blocks(n / 4 + 1), CUDA_BLOCK, 0, cuda_state_of(device)->stream, n, a);
    return cuda_launched(device, "swiglu_bwd");
}

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

/* Four elements a thread: this stands in front of most products. n_four = n / 4. */
static __global__ void k_round_bf16(int64_t n_four, int64_t n, const float *from, uint16_t *to) {
    const float4 *wide = reinterpret_cast<const float4 *>(from);
    ushort4 *narrow = reinterpret_cast<ushort4 *>(to);
    for (CUDA_EACH(i, n_four)) {
        float4 x = wide[i];
        narrow[i] = make_ushort4(cuda_to_bf16(x.x), cuda_to_bf16(x.y), cuda_to_bf16(x.z), cuda_to_bf16(x.w));
    }
    int64_t rest = 4 * n_four + threadIdx.x;
    if (blockIdx.x == 0 && rest < n) to[rest] = cuda_to_bf16(from[rest]);
}

lemoe_status cuda_convert(lemoe_device *device, lemoe_tensor from, lemoe_dtype type, void *to) {
    int64_t n = lemoe_tensor_count(&from);
    bool is_aligned = (reinterpret_cast<uintptr_t>(from.data) & 15u) == 0; /* a view may begin anywhere */
    if (from.dtype != LEMOE_F32 || type != LEMOE_BF16 || !is_aligned)
        return cast(device, n, from.dtype, from.data, type, to);
    CUDA_LAUNCH(k_round_bf16, cuda_blocks(n / 4 + 1), CUDA_BLOCK, 0, cuda_state_of(device)->stream, n / 4, n,
                cuda_f32(from), static_cast<uint16_t *>(to));
    return cuda_launched(device, "matmul");
}

/* ---- sums and factors ---- */

static __global__ void k_axpy(int64_t n, float a, const float *x, float *y) {
    for (CUDA_EACH(i, n)) y[i] += a * x[i];
}

lemoe_status cuda_axpy(lemoe_device *device, float a, lemoe_tensor x, lemoe_tensor y) {
    int64_t n = lemoe_tensor_count(&x);
    if (n == 0) return LEMOE_OK;
    CUDA_LAUNCH(k_axpy, cuda_blocks(n), CUDA_BLOCK, 0, cuda_state_of(device)->stream, n, a, cuda_f32(x), cuda_f32(y));
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

static __global__ void k_swiglu(int64_t n, const float *gate, const float *up, lemoe_dtype dtype, void *act) {
    for (CUDA_EACH(i, n)) cuda_store(dtype, gate[i] * cuda_sigmoid(gate[i]) * up[i], act, i);
}

lemoe_status cuda_swiglu_fwd(lemoe_device *device, lemoe_tensor gate, lemoe_tensor up, lemoe_tensor act) {
    int64_t n = lemoe_tensor_count(&gate);
    if (n == 0) return LEMOE_OK;
    CUDA_LAUNCH(k_swiglu, cuda_blocks(n), CUDA_BLOCK, 0, cuda_state_of(device)->stream, n, cuda_f32(gate), cuda_f32(up),
                act.dtype, act.data);
    return cuda_launched(device, "swiglu_fwd");
}

static __global__ void k_swiglu_bwd(int64_t n, const float *d_act, const float *gate, const float *up,
                                    lemoe_dtype dtype, void *d_gate, void *d_up) {
    for (CUDA_EACH(i, n)) {
        float x = gate[i], sigmoid = cuda_sigmoid(x), gradient = d_act[i];
        float gate_gradient = gradient * up[i] * silu_slope(x, sigmoid);
        cuda_store(dtype, gradient * (x * sigmoid), d_up, i);
        cuda_store(dtype, gate_gradient, d_gate, i);
    }
}

lemoe_status cuda_swiglu_bwd(lemoe_device *device, lemoe_tensor d_act, lemoe_tensor gate, lemoe_tensor up,
                             lemoe_tensor d_gate, lemoe_tensor d_up) {
    int64_t n = lemoe_tensor_count(&gate);
    if (n == 0) return LEMOE_OK;
    CUDA_LAUNCH(k_swiglu_bwd, cuda_blocks(n), CUDA_BLOCK, 0, cuda_state_of(device)->stream, n, cuda_f32(d_act),
                cuda_f32(gate), cuda_f32(up), d_gate.dtype, d_gate.data, d_up.data);
    return cuda_launched(device, "swiglu_bwd");
}

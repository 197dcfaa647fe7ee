/* What a transformer does to a row beside products: RMSNorm (Zhang & Sennrich 2019), rotary positions (RoPE, Su et al.
 * 2021; halves paired as Hugging Face pairs them), the rows of the embedding table. */
#include "kernels/cuda/cuda_kernel.cuh"

/* Sums of a row: fp32 in a thread, which does one column in blockDim.x, and double over the block. */
enum { SUM_BYTES = CUDA_BLOCK / CUDA_WARP * sizeof(double) };

/* ---- y = x / sqrt(mean(x^2) + eps) * w ---- */

static __global__ void k_rmsnorm(int64_t d, float eps, const float *x, const float *w, lemoe_dtype dtype, void *y,
                                 float *inv_rms) {
    CUDA_SHARED(double, sums);
    const float *from = x + blockIdx.x * d;
    float sum = 0;
    for (int64_t i = threadIdx.x; i < d; i += blockDim.x) sum += from[i] * from[i];
    double total = cuda_block_sum((double)sum, sums);
    float inverse = (float)(1.0 / sqrt(total / (double)d + (double)eps));
    if (threadIdx.x == 0) inv_rms[blockIdx.x] = inverse;
    for (int64_t i = threadIdx.x; i < d; i += blockDim.x)
        cuda_store(dtype, from[i] * inverse * w[i], y, blockIdx.x * d + i);
}

lemoe_status cuda_rmsnorm_fwd(lemoe_device *device, lemoe_tensor x, lemoe_tensor w, float eps, lemoe_tensor y,
                              lemoe_tensor inv_rms) {
    int64_t rows = cuda_rows(x), d = cuda_columns(x);
    if (rows == 0 || d == 0) return LEMOE_OK;
    CUDA_LAUNCH(k_rmsnorm, (unsigned)rows, cuda_row_threads(d), SUM_BYTES, cuda_state_of(device)->stream, d, eps,
                cuda_f32(x), cuda_f32(w), y.dtype, y.data, cuda_f32(inv_rms));
    return cuda_launched(device, "rmsnorm_fwd");
}

/* With s = inv_rms and g = dy * w:  dx += s g - x s^3 <g, x> / d. */
static __global__ void k_rmsnorm_bwd(int64_t d, const float *dy, const float *x, const float *w, const float *inv_rms,
                                     float *dx) {
    CUDA_SHARED(double, sums);
    const float *gradient = dy + blockIdx.x * d, *from = x + blockIdx.x * d;
    float *to = dx + blockIdx.x * d, s = inv_rms[blockIdx.x], sum = 0;
    for (int64_t i = threadIdx.x; i < d; i += blockDim.x) sum += gradient[i] * w[i] * from[i];
    double dot = cuda_block_sum((double)sum, sums);
    float shrink = (float)((double)s * s * s * dot / (double)d);
    for (int64_t i = threadIdx.x; i < d; i += blockDim.x) to[i] += s * gradient[i] * w[i] - shrink * from[i];
}

lemoe_status cuda_rmsnorm_bwd(lemoe_device *device, lemoe_tensor dy, lemoe_tensor x, lemoe_tensor w,
                              lemoe_tensor inv_rms, lemoe_tensor dx) {
    int64_t rows = cuda_rows(x), d = cuda_columns(x);
    if (rows == 0 || d == 0) return LEMOE_OK;
    CUDA_LAUNCH(k_rmsnorm_bwd, (unsigned)rows, cuda_row_threads(d), SUM_BYTES, cuda_state_of(device)->stream, d,
                cuda_f32(dy), cuda_f32(x), cuda_f32(w), cuda_f32(inv_rms), cuda_f32(dx));
    return cuda_launched(device, "rmsnorm_bwd");
}

/* ---- rotary positions ---- */

/* A block does a token: angles once, as fp32 like the checkpoints' own code, their cosines in double, then all heads.
 * In half turns, so that no slow path of the trigonometric functions is taken. */
static __global__ void k_rope(int64_t n_head, int64_t half, float *x, const int32_t *position, const float *inv_freq,
                              float sign, int *fault) {
    int p = position[blockIdx.x];
    if (p < 0 || p >= 1 << 20) {
        if (threadIdx.x == 0) *fault = CUDA_FAULT_ROPE;
        return;
    }
    float *token = x + blockIdx.x * n_head * 2 * half;
    for (int64_t i = threadIdx.x; i < half; i += blockDim.x) {
        float angle = (float)p * inv_freq[i];
        double sine_wide, cosine_wide;
        sincospi((double)angle * 0.318309886183790671538, &sine_wide, &cosine_wide);
        float cosine = (float)cosine_wide, s = sign * (float)sine_wide;
        for (int64_t h = 0; h < n_head; h++) {
            float *low = token + h * 2 * half + i, *high = low + half;
            float a = *low, b = *high;
            *low = a * cosine - b * s;
            *high = b * cosine + a * s;
        }
    }
}

lemoe_status cuda_rope(lemoe_device *device, lemoe_tensor x, lemoe_tensor position, lemoe_tensor inv_freq, int sign) {
    cuda_state *state = cuda_state_of(device);
    int64_t n_tok = x.shape[0], n_head = x.shape[1], half = x.shape[2] / 2;
    if (n_tok * n_head * half == 0) return LEMOE_OK;
    CUDA_LAUNCH(k_rope, (unsigned)n_tok, cuda_row_threads(half), 0, state->stream, n_head, half, cuda_f32(x),
                cuda_i32(position), cuda_f32(inv_freq), (float)sign, state->fault);
    return cuda_launched(device, "rope");
}

/* ---- embedding: rows that another rank holds are zeros, so that a sum over ranks is the embedding ---- */

static __global__ void k_embed(int64_t d, int64_t rows, int64_t row_begin, const int32_t *id, lemoe_dtype dtype,
                               const void *table, float *y) {
    int64_t row = id[blockIdx.x] - row_begin;
    bool is_here = row >= 0 && row < rows;
    float *to = y + blockIdx.x * d;
    for (int64_t i = threadIdx.x; i < d; i += blockDim.x) to[i] = is_here ? cuda_load(dtype, table, row * d + i) : 0.0f;
}

lemoe_status cuda_embed_fwd(lemoe_device *device, lemoe_tensor id, lemoe_tensor table, int64_t row_begin,
                            lemoe_tensor y) {
    int64_t n = lemoe_tensor_count(&id), d = cuda_columns(y);
    if (n == 0 || d == 0) return LEMOE_OK;
    CUDA_LAUNCH(k_embed, (unsigned)n, cuda_row_threads(d), 0, cuda_state_of(device)->stream, d, table.shape[0],
                row_begin, cuda_i32(id), table.dtype, table.data, cuda_f32(y));
    return cuda_launched(device, "embed_fwd");
}

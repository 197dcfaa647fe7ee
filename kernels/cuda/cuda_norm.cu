/* What a transformer does to a row beside products: RMSNorm (Zhang & Sennrich 2019), rotary positions (RoPE, Su et al.
 * 2021; halves paired as Hugging Face pairs them), the rows of the embedding table. */
#include "kernels/cuda/cuda_kernel.cuh"

/* Sums of a row: fp32 in a thread, which adds four neighbours in a fours' turn one by one and then what is left over,
 * and double over the block. So the order depends on the number of columns alone, not on where a row lies. */
enum { SUM_BYTES = CUDA_BLOCK / CUDA_WARP * sizeof(double) };

/* Threads for a row: of so many fours. */
static inline unsigned norm_threads(int64_t d) { return cuda_row_threads((d + 3) / 4); }

/* ---- y = x / sqrt(mean(x^2) + eps) * w ---- */

template <int N> static __device__ inline float add_squares(float sum, cuda_few<N> x) {
#pragma unroll
    for (int j = 0; j < N; j++) sum += x.at[j] * x.at[j];
    return sum;
}

template <int N> static __device__ inline cuda_few<N> scaled(cuda_few<N> x, float inverse, cuda_few<N> w) {
#pragma unroll
    for (int j = 0; j < N; j++) x.at[j] = x.at[j] * inverse * w.at[j];
    return x;
}

static __global__ void k_rmsnorm(int64_t d, bool wide, float eps, const float *x, const float *w, lemoe_dtype dtype,
                                 void *y, float *inv_rms) {
    CUDA_SHARED(double, sums);
    int64_t begin = blockIdx.x * d; /* of the row */
    const float *from = x + begin;
    float sum = 0;
    for (CUDA_FOURS(i, d, threadIdx.x, blockDim.x)) sum = add_squares(sum, cuda_load_few<4>(wide, from, i));
    for (CUDA_REST(i, d, threadIdx.x, blockDim.x)) sum = add_squares(sum, cuda_load_few<1>(wide, from, i));
    double total = cuda_block_sum((double)sum, sums);
    float inverse = (float)(1.0 / sqrt(total / (double)d + (double)eps));
    if (threadIdx.x == 0) inv_rms[blockIdx.x] = inverse;
    for (CUDA_FOURS(i, d, threadIdx.x, blockDim.x)) {
        cuda_few<4> value = cuda_load_few<4>(wide, from, i), weight = cuda_load_few<4>(wide, w, i);
        cuda_store_few(wide, dtype, scaled(value, inverse, weight), y, begin + i);
    }
    for (CUDA_REST(i, d, threadIdx.x, blockDim.x)) cuda_store(dtype, from[i] * inverse * w[i], y, begin + i);
}

lemoe_status cuda_rmsnorm_fwd(lemoe_device *device, lemoe_tensor x, lemoe_tensor w, float eps, lemoe_tensor y,
                              lemoe_tensor inv_rms) {
    int64_t rows = cuda_rows(x), d = cuda_columns(x);
    if (rows == 0 || d == 0) return LEMOE_OK;
    bool wide = cuda_has_wide_rows(x) && cuda_has_wide_rows(y) && cuda_is_wide(w);
    CUDA_LAUNCH(k_rmsnorm, (unsigned)rows, norm_threads(d), SUM_BYTES, cuda_state_of(device)->stream, d, wide, eps,
                cuda_f32(x), cuda_f32(w), y.dtype, y.data, cuda_f32(inv_rms));
    return cuda_launched(device, "rmsnorm_fwd");
}

/* One row of it: dx += s g - x s^3 <g, x> / d, with s = inv_rms and g = dy * w. */
typedef struct norm_row {
    bool wide;
    const float *dy, *w, *x;
    float *dx;
} norm_row;

template <int N> static __device__ inline float add_products(float sum, const norm_row &r, int64_t i) {
    cuda_few<N> dy = cuda_load_few<N>(r.wide, r.dy, i), w = cuda_load_few<N>(r.wide, r.w, i),
                x = cuda_load_few<N>(r.wide, r.x, i);
#pragma unroll
    for (int j = 0; j < N; j++) sum += dy.at[j] * w.at[j] * x.at[j];
    return sum;
}

template <int N> static __device__ inline void add_gradient(float s, float shrink, const norm_row &r, int64_t i) {
    cuda_few<N> dy = cuda_load_few<N>(r.wide, r.dy, i), w = cuda_load_few<N>(r.wide, r.w, i),
                x = cuda_load_few<N>(r.wide, r.x, i), dx = cuda_load_few<N>(r.wide, r.dx, i);
#pragma unroll
    for (int j = 0; j < N; j++) dx.at[j] += s * dy.at[j] * w.at[j] - shrink * x.at[j];
    cuda_store_few(r.wide, LEMOE_F32, dx, r.dx, i);
}

static __global__ void k_rmsnorm_bwd(int64_t d, bool wide, const float *dy, const float *x, const float *w,
                                     const float *inv_rms, float *dx) {
    CUDA_SHARED(double, sums);
    norm_row r = {wide, dy + blockIdx.x * d, w, x + blockIdx.x * d, dx + blockIdx.x * d};
    float s = inv_rms[blockIdx.x], sum = 0;
    for (CUDA_FOURS(i, d, threadIdx.x, blockDim.x)) sum = add_products<4>(sum, r, i);
    for (CUDA_REST(i, d, threadIdx.x, blockDim.x)) sum = add_products<1>(sum, r, i);
    double dot = cuda_block_sum((double)sum, sums);
    float shrink = (float)((double)s * s * s * dot / (double)d);
    for (CUDA_FOURS(i, d, threadIdx.x, blockDim.x)) add_gradient<4>(s, shrink, r, i);
    for (CUDA_REST(i, d, threadIdx.x, blockDim.x)) add_gradient<1>(s, shrink, r, i);
}

lemoe_status cuda_rmsnorm_bwd(lemoe_device *device, lemoe_tensor dy, lemoe_tensor x, lemoe_tensor w,
                              lemoe_tensor inv_rms, lemoe_tensor dx) {
    int64_t rows = cuda_rows(x), d = cuda_columns(x);
    if (rows == 0 || d == 0) return LEMOE_OK;
    bool wide = cuda_has_wide_rows(dy) && cuda_has_wide_rows(x) && cuda_has_wide_rows(dx) && cuda_is_wide(w);
    CUDA_LAUNCH(k_rmsnorm_bwd, (unsigned)rows, norm_threads(d), SUM_BYTES, cuda_state_of(device)->stream, d, wide,
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

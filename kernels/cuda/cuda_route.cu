/* What routing and experts need: means over token ranges, softmax with its largest entries, rows moved and weighted. A
 * block does a row; rows that are not there are reported, and nothing is read or written for them. */
#include "kernels/cuda/cuda_kernel.cuh"

/* ---- means over ranges of rows, added in order ---- */

static __global__ void k_seg_mean(int64_t d, int64_t rows, const float *x, const int32_t *begin, const int32_t *end,
                                  float *y, int *fault) {
    int64_t first = begin[blockIdx.x], last = end[blockIdx.x];
    bool is_there = first >= last || (first >= 0 && last <= rows);
    if (!is_there && threadIdx.x == 0) *fault = CUDA_FAULT_SEG_MEAN;
    if (!is_there) return;
    float *to = y + blockIdx.x * d;
    for (int64_t c = threadIdx.x; c < d; c += blockDim.x) {
        float sum = 0;
        for (int64_t r = first; r < last; r++) sum += x[r * d + c];
        to[c] = last > first ? sum / (float)(last - first) : 0.0f;
    }
}

lemoe_status cuda_seg_mean(lemoe_device *device, lemoe_tensor x, lemoe_tensor begin, lemoe_tensor end, lemoe_tensor y) {
    cuda_state *state = cuda_state_of(device);
    int64_t n = lemoe_tensor_count(&begin), d = cuda_columns(y);
    if (n == 0 || d == 0) return LEMOE_OK;
    CUDA_LAUNCH(k_seg_mean, (unsigned)n, cuda_row_threads(d), 0, state->stream, d, cuda_rows(x), cuda_f32(x),
                cuda_i32(begin), cuda_i32(end), cuda_f32(y), state->fault);
    return cuda_launched(device, "seg_mean");
}

/* ---- softmax of a row by a warp ---- */

static __device__ inline float warp_max(float value) {
    for (int step = CUDA_WARP / 2; step > 0; step /= 2)
        value = fmaxf(value, __shfl_xor_sync(cuda_all_lanes, value, step));
    return value;
}

static __device__ inline float warp_sum(float value) {
    for (int step = CUDA_WARP / 2; step > 0; step /= 2) value += __shfl_xor_sync(cuda_all_lanes, value, step);
    return value;
}

/* Whether entry j comes behind entry at in falling order, ties to the lower index; at < 0 is in front of all. */
static __device__ inline bool is_behind(const float *z, int j, int at) {
    return at < 0 || z[j] < z[at] || (z[j] == z[at] && j > at);
}

/* Of two indices, -1 for none, the one that comes first in that order. */
static __device__ inline int front(const float *z, int a, int b) {
    if (a < 0 || b < 0) return a < 0 ? b : a;
    return z[b] > z[a] || (z[b] == z[a] && b < a) ? b : a;
}

/* The k largest, each found among what comes behind the one before. */
static __global__ void k_topk_softmax(int n, int k, const float *logits, float *probabilities, int32_t *index) {
    const float *z = logits + (int64_t)blockIdx.x * n;
    float *p = probabilities + (int64_t)blockIdx.x * n, top = -INFINITY, sum = 0;
    for (int j = threadIdx.x; j < n; j += CUDA_WARP) top = fmaxf(top, z[j]);
    top = warp_max(top);
    for (int j = threadIdx.x; j < n; j += CUDA_WARP) sum += expf(z[j] - top);
    sum = warp_sum(sum);
    for (int j = threadIdx.x; j < n; j += CUDA_WARP) p[j] = expf(z[j] - top) / sum;
    for (int i = 0, at = -1; i < k; i++) {
        int best = -1;
        for (int j = threadIdx.x; j < n; j += CUDA_WARP)
            if (is_behind(z, j, at)) best = front(z, best, j);
        for (int step = CUDA_WARP / 2; step > 0; step /= 2)
            best = front(z, best, __shfl_xor_sync(cuda_all_lanes, best, step));
        at = best < 0 ? i : best; /* none: NaN, which stands in no order */
        if (threadIdx.x == 0) index[(int64_t)blockIdx.x * k + i] = at;
    }
}

lemoe_status cuda_topk_softmax_fwd(lemoe_device *device, lemoe_tensor z, lemoe_tensor p, lemoe_tensor index) {
    int64_t rows = cuda_rows(z), n = cuda_columns(z), k = cuda_columns(index);
    if (rows == 0) return LEMOE_OK;
    CUDA_LAUNCH(k_topk_softmax, (unsigned)rows, CUDA_WARP, 0, cuda_state_of(device)->stream, (int)n, (int)k,
                cuda_f32(z), cuda_f32(p), cuda_i32(index));
    return cuda_launched(device, "topk_softmax_fwd");
}

static __global__ void k_softmax_bwd(int64_t n, const float *p, const float *dp, float *dz) {
    const float *probability = p + blockIdx.x * n, *gradient = dp + blockIdx.x * n;
    float *to = dz + blockIdx.x * n, dot = 0;
    for (int64_t j = threadIdx.x; j < n; j += CUDA_WARP) dot += probability[j] * gradient[j];
    dot = warp_sum(dot);
    for (int64_t j = threadIdx.x; j < n; j += CUDA_WARP) to[j] = probability[j] * (gradient[j] - dot);
}

lemoe_status cuda_softmax_bwd(lemoe_device *device, lemoe_tensor p, lemoe_tensor dp, lemoe_tensor dz) {
    int64_t rows = cuda_rows(p), n = cuda_columns(p);
    if (rows == 0 || n == 0) return LEMOE_OK;
    CUDA_LAUNCH(k_softmax_bwd, (unsigned)rows, CUDA_WARP, 0, cuda_state_of(device)->stream, n, cuda_f32(p),
                cuda_f32(dp), cuda_f32(dz));
    return cuda_launched(device, "softmax_bwd");
}

/* ---- rows moved and weighted ---- */

template <typename T>
static __global__ void k_gather(int64_t d, int64_t rows, const T *x, const int32_t *row, T *y, int *fault) {
    int64_t r = row[blockIdx.x];
    bool is_there = r >= 0 && r < rows;
    if (!is_there && threadIdx.x == 0) *fault = CUDA_FAULT_GATHER;
    if (!is_there) return;
    for (int64_t c = threadIdx.x; c < d; c += blockDim.x) y[blockIdx.x * d + c] = x[r * d + c];
}

lemoe_status cuda_rows_gather(lemoe_device *device, lemoe_tensor x, lemoe_tensor row, lemoe_tensor y) {
    cuda_state *state = cuda_state_of(device);
    int64_t n = lemoe_tensor_count(&row), d = cuda_columns(y);
    if (n == 0 || d == 0) return LEMOE_OK;
    if (x.dtype == LEMOE_BF16)
        CUDA_LAUNCH(k_gather<uint16_t>, (unsigned)n, cuda_row_threads(d), 0, state->stream, d, cuda_rows(x),
                    cuda_bf16(x), cuda_i32(row), cuda_bf16(y), state->fault);
    else
        CUDA_LAUNCH(k_gather<float>, (unsigned)n, cuda_row_threads(d), 0, state->stream, d, cuda_rows(x), cuda_f32(x),
                    cuda_i32(row), cuda_f32(y), state->fault);
    return cuda_launched(device, "rows_gather");
}

/* The rows of one call are distinct, so no two blocks add to the same place. */
static __global__ void k_scatter_add(int64_t d, int64_t rows, const float *x, const int32_t *row, const float *weight,
                                     float *y, int *fault) {
    int64_t r = row[blockIdx.x];
    bool is_there = r >= 0 && r < rows;
    if (!is_there && threadIdx.x == 0) *fault = CUDA_FAULT_SCATTER;
    if (!is_there) return;
    float factor = weight ? weight[blockIdx.x] : 1.0f;
    for (int64_t c = threadIdx.x; c < d; c += blockDim.x) y[r * d + c] += factor * x[blockIdx.x * d + c];
}

lemoe_status cuda_rows_scatter_add(lemoe_device *device, lemoe_tensor x, lemoe_tensor row, lemoe_tensor weight,
                                   lemoe_tensor y) {
    cuda_state *state = cuda_state_of(device);
    int64_t n = cuda_rows(x), d = cuda_columns(x);
    if (n == 0 || d == 0) return LEMOE_OK;
    CUDA_LAUNCH(k_scatter_add, (unsigned)n, cuda_row_threads(d), 0, state->stream, d, cuda_rows(y), cuda_f32(x),
                cuda_i32(row), weight.data ? cuda_f32(weight) : NULL, cuda_f32(y), state->fault);
    return cuda_launched(device, "rows_scatter_add");
}

static __global__ void k_rows_scale(int64_t d, const float *weight, float *x) {
    float factor = weight[blockIdx.x];
    for (int64_t c = threadIdx.x; c < d; c += blockDim.x) x[blockIdx.x * d + c] *= factor;
}

lemoe_status cuda_rows_scale(lemoe_device *device, lemoe_tensor weight, lemoe_tensor x) {
    int64_t n = cuda_rows(x), d = cuda_columns(x);
    if (n == 0 || d == 0) return LEMOE_OK;
    CUDA_LAUNCH(k_rows_scale, (unsigned)n, cuda_row_threads(d), 0, cuda_state_of(device)->stream, d, cuda_f32(weight),
                cuda_f32(x));
    return cuda_launched(device, "rows_scale");
}

static __global__ void k_row_dot(int64_t d, const float *a, const float *b, float *dot) {
    CUDA_SHARED(double, sums);
    float part = 0;
    for (int64_t c = threadIdx.x; c < d; c += blockDim.x) part += a[blockIdx.x * d + c] * b[blockIdx.x * d + c];
    double total = cuda_block_sum((double)part, sums);
    if (threadIdx.x == 0) dot[blockIdx.x] = (float)total;
}

lemoe_status cuda_row_dot(lemoe_device *device, lemoe_tensor a, lemoe_tensor b, lemoe_tensor dot) {
    int64_t n = cuda_rows(a), d = cuda_columns(a);
    if (n == 0) return LEMOE_OK;
    CUDA_LAUNCH(k_row_dot, (unsigned)n, cuda_row_threads(d), CUDA_BLOCK / CUDA_WARP * sizeof(double),
                cuda_state_of(device)->stream, d, cuda_f32(a), cuda_f32(b), cuda_f32(dot));
    return cuda_launched(device, "row_dot");
}

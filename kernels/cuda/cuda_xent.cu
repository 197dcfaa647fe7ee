/* Cross entropy in local pieces, for a vocabulary split over ranks; the caller reduces between them. A block does a
 * row. */
#include "kernels/cuda/cuda_kernel.cuh"

enum { WARPS = CUDA_BLOCK / CUDA_WARP, AT_ONCE = 4 };

/* The larger value, and of equal ones the lower index. */
static __device__ inline void take_larger(float value, int64_t index, float *best, int64_t *at) {
    if (value > *best || (value == *best && index < *at)) {
        *best = value;
        *at = index;
    }
}

static __global__ void k_rowmax(int64_t n, int64_t row_begin, const float *logits, float *row_max, int32_t *row_arg) {
    CUDA_SHARED(float, shared);
    int *shared_at = reinterpret_cast<int *>(shared + WARPS);
    const float *x = logits + blockIdx.x * n;
    float best = -INFINITY; /* what a rank without vocabulary rows answers: it never wins */
    int64_t at = INT32_MAX;
    for (int64_t j = threadIdx.x; j < n; j += blockDim.x) take_larger(x[j], j, &best, &at);
    for (int step = CUDA_WARP / 2; step > 0; step /= 2) {
        float other = __shfl_xor_sync(cuda_all_lanes, best, step);
        int other_at = __shfl_xor_sync(cuda_all_lanes, (int)at, step);
        take_larger(other, other_at, &best, &at);
    }
    if (threadIdx.x % CUDA_WARP == 0) {
        shared[threadIdx.x / CUDA_WARP] = best;
        shared_at[threadIdx.x / CUDA_WARP] = (int)at;
    }
    __syncthreads();
    if (threadIdx.x > 0) return;
    for (int w = 1; w < (int)blockDim.x / CUDA_WARP; w++) take_larger(shared[w], shared_at[w], &best, &at);
    row_max[blockIdx.x] = best;
    row_arg[blockIdx.x] = (int32_t)(row_begin + (at < n ? at : 0));
}

lemoe_status cuda_xent_rowmax(lemoe_device *device, lemoe_tensor logits, int64_t row_begin, lemoe_tensor row_max,
                              lemoe_tensor row_arg) {
    int64_t rows = cuda_rows(logits), n = cuda_columns(logits);
    if (rows == 0) return LEMOE_OK;
    CUDA_LAUNCH(k_rowmax, (unsigned)rows, cuda_row_threads(n), WARPS * (sizeof(float) + sizeof(int)),
                cuda_state_of(device)->stream, n, row_begin, cuda_f32(logits), cuda_f32(row_max), cuda_i32(row_arg));
    return cuda_launched(device, "xent_rowmax");
}

static __global__ void k_rowsum(int64_t n, int64_t row_begin, const float *logits, const float *row_max,
                                const int32_t *label, float *sum, float *label_logit) {
    CUDA_SHARED(double, sums);
    const float *x = logits + blockIdx.x * n;
    float largest = row_max[blockIdx.x], part = 0;
    for (int64_t j = threadIdx.x; j < n; j += blockDim.x) part += cuda_exp(x[j] - largest);
    double total = cuda_block_sum((double)part, sums);
    if (threadIdx.x > 0) return;
    int64_t own = label[blockIdx.x] - row_begin;
    sum[blockIdx.x] = (float)total;
    label_logit[blockIdx.x] = own >= 0 && own < n ? x[own] : 0.0f;
}

lemoe_status cuda_xent_rowsum(lemoe_device *device, lemoe_tensor logits, lemoe_tensor row_max, lemoe_tensor label,
                              int64_t row_begin, lemoe_tensor sum, lemoe_tensor label_logit) {
    int64_t rows = cuda_rows(logits), n = cuda_columns(logits);
    if (rows == 0) return LEMOE_OK;
    CUDA_LAUNCH(k_rowsum, (unsigned)rows, cuda_row_threads(n), WARPS * sizeof(double), cuda_state_of(device)->stream, n,
                row_begin, cuda_f32(logits), cuda_f32(row_max), cuda_i32(label), cuda_f32(sum), cuda_f32(label_logit));
    return cuda_launched(device, "xent_rowsum");
}

static __global__ void k_xent_bwd(int64_t n, int64_t row_begin, float *logits, const float *row_max, const float *sum,
                                  const int32_t *label, const float *weight) {
    float *x = logits + blockIdx.x * n, largest = row_max[blockIdx.x], own_weight = weight[blockIdx.x];
    float factor = own_weight / sum[blockIdx.x];
    int64_t own = label[blockIdx.x] - row_begin;
    for (int64_t first = threadIdx.x; first < n; first += AT_ONCE * blockDim.x) {
        float kept[AT_ONCE]; /* read before any is written: the compiler cannot know that none is the same */
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) {
            int64_t j = first + i * blockDim.x;
            kept[i] = j < n ? x[j] : 0.0f;
        }
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) {
            int64_t j = first + i * blockDim.x;
            if (j < n) x[j] = factor * cuda_exp(kept[i] - largest) - (j == own ? own_weight : 0.0f);
        }
    }
}

lemoe_status cuda_xent_bwd(lemoe_device *device, lemoe_tensor logits, lemoe_tensor row_max, lemoe_tensor sum,
                           lemoe_tensor label, lemoe_tensor weight, int64_t row_begin) {
    int64_t rows = cuda_rows(logits), n = cuda_columns(logits);
    if (rows == 0 || n == 0) return LEMOE_OK;
    CUDA_LAUNCH(k_xent_bwd, (unsigned)rows, cuda_row_threads(n), 0, cuda_state_of(device)->stream, n, row_begin,
                cuda_f32(logits), cuda_f32(row_max), cuda_f32(sum), cuda_i32(label), cuda_f32(weight));
    return cuda_launched(device, "xent_bwd");
}

/*
 * Private to kernels/cuda: what kernels share. Names of the language that a test build without a GPU replaces
 * (tests/cuda_host) go through the macros here: launches, and shared memory, which is always the dynamic kind.
 */
#ifndef KERNELS_CUDA_CUDA_KERNEL_CUH
#define KERNELS_CUDA_CUDA_KERNEL_CUH

#include "kernels/cuda/cuda_internal.h"

#include <cuda_runtime.h>

#include <math.h>
#include <stdint.h>

/* Runs a kernel on the device's stream; the arguments of the kernel follow. */
#ifndef CUDA_LAUNCH
#define CUDA_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                                    \
    (kernel)<<<(grid), (block), (shared_bytes), (stream)>>>(__VA_ARGS__)
#endif
/* Shared memory of the block, as many bytes as the launch says. */
#ifndef CUDA_SHARED
#define CUDA_SHARED(type, name)                                                                                        \
    extern __shared__ __align__(16) unsigned char cuda_shared_bytes[];                                                 \
    type *name = reinterpret_cast<type *>(cuda_shared_bytes)
#endif

enum { CUDA_WARP = 32, CUDA_BLOCK = 256 };
static const unsigned cuda_all_lanes = 0xffffffffu;

static inline int64_t cuda_rows(lemoe_tensor t) { return t.shape[0]; }
static inline int64_t cuda_columns(lemoe_tensor t) { return t.shape[0] ? lemoe_tensor_count(&t) / t.shape[0] : 0; }
static inline float *cuda_f32(lemoe_tensor t) { return static_cast<float *>(t.data); }
static inline uint16_t *cuda_bf16(lemoe_tensor t) { return static_cast<uint16_t *>(t.data); }
static inline int32_t *cuda_i32(lemoe_tensor t) { return static_cast<int32_t *>(t.data); }

/* ---- how many threads ---- */

/* Blocks for a loop over n elements in which a thread does every so-many-th; enough to fill any device. */
static inline unsigned cuda_blocks(int64_t n) {
    const int64_t most = 4096;
    int64_t blocks = (n + CUDA_BLOCK - 1) / CUDA_BLOCK;
    return (unsigned)(blocks < most ? blocks : most);
}
/* Threads of a block that does one row: whole warps, no more than there are columns. */
static inline unsigned cuda_row_threads(int64_t columns) {
    const int64_t least = CUDA_WARP, most = CUDA_BLOCK;
    int64_t threads = (columns + CUDA_WARP - 1) / CUDA_WARP * CUDA_WARP;
    return (unsigned)(threads < least ? least : threads < most ? threads : most);
}
/* The elements of a loop over n. */
#define CUDA_EACH(i, n)                                                                                                \
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;                                                        \
    i < (n);                                                                                                           \
    i += (int64_t)gridDim.x * blockDim.x

/* Of an elementwise kernel: this thread among all, and how many there are. */
static __device__ inline int64_t cuda_thread() { return (int64_t)blockIdx.x * blockDim.x + threadIdx.x; }
static __device__ inline int64_t cuda_threads() { return (int64_t)gridDim.x * blockDim.x; }
/* The same n elements four neighbours at a time, begun by thread `at` of n_thread; and those that are left over. Which
 * thread has which element, and in which order, depends on n alone. */
#define CUDA_FOURS(i, n, at, n_thread)                                                                                 \
    int64_t i = 4 * (int64_t)(at);                                                                                     \
    i + 4 <= (n);                                                                                                      \
    i += 4 * (int64_t)(n_thread)
#define CUDA_REST(i, n, at, n_thread)                                                                                  \
    int64_t i = (n) / 4 * 4 + (int64_t)(at);                                                                           \
    i < (n);                                                                                                           \
    i += (int64_t)(n_thread)

/* ---- sums of a block: a fixed tree, so the same bits in every run ---- */

/* The sum over the block's threads, for all of them. shared: one element a warp; may be used again at once. */
template <typename T> static __device__ inline T cuda_block_sum(T value, T *shared) {
    for (int step = CUDA_WARP / 2; step > 0; step /= 2) value += __shfl_xor_sync(cuda_all_lanes, value, step);
    int n_warp = (int)blockDim.x / CUDA_WARP;
    if (n_warp == 1) return value;
    __syncthreads();
    if (threadIdx.x % CUDA_WARP == 0) shared[threadIdx.x / CUDA_WARP] = value;
    __syncthreads();
    T total = shared[0];
    for (int w = 1; w < n_warp; w++) total += shared[w];
    return total;
}

/* ---- arithmetic ---- */

/* exp as kernels/cpu has it: relative error below 2e-7, 0 below -87, capped at exp(88), NaN stays NaN. */
static __device__ inline float cuda_exp(float x) {
    float clamped = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    float rounded = clamped * 1.44269504f + 12582912.0f; /* 1.5 * 2^23: the sum is rounded to an integer */
    float whole = rounded - 12582912.0f;
    float r = clamped - whole * 0.693359375f - whole * -2.12194440e-4f; /* ln 2 in two parts */
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    float scale = __int_as_float((int)(((unsigned)__float_as_int(rounded) << 23) + 0x3f800000u));
    return x < -87.0f ? 0.0f : p * scale;
}

static __device__ inline float cuda_sigmoid(float x) { return 1.0f / (1.0f + cuda_exp(-x)); }

/* ---- halves: the conversions of kernels/base/dtype.c, bit for bit, NaN included ---- */

static __device__ inline float cuda_from_bf16(uint16_t half) { return __int_as_float((int)((uint32_t)half << 16)); }

static __device__ inline uint16_t cuda_to_bf16(float value) {
    uint32_t bits = (uint32_t)__float_as_int(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((bits >> 16) | 0x40u);
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

static __device__ inline float cuda_from_fp16(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16, exponent = (half >> 10) & 0x1fu, mantissa = half & 0x3ffu;
    if (exponent == 0) /* zero or subnormal */
        return __int_as_float((int)((uint32_t)__float_as_int((float)mantissa * 5.9604644775390625e-08f) | sign));
    if (exponent == 31) return __int_as_float((int)(sign | 0x7f800000u | (mantissa << 13)));
    return __int_as_float((int)(sign | ((exponent + 112) << 23) | (mantissa << 13)));
}

static __device__ inline uint16_t cuda_to_fp16(float value) {
    uint32_t bits = (uint32_t)__float_as_int(value), sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
    if (magnitude >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u);
    if (magnitude < 0x38800000u) { /* below the smallest normal half: adding 0.5 rounds at 2^-24 */
        float shifted = __int_as_float((int)magnitude) + 0.5f;
        return (uint16_t)(sign | ((uint32_t)__float_as_int(shifted) - 0x3f000000u));
    }
    return (uint16_t)(sign | ((magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13));
}

static __device__ inline float cuda_load(lemoe_dtype dtype, const void *from, int64_t i) {
    if (dtype == LEMOE_F32) return static_cast<const float *>(from)[i];
    uint16_t half = static_cast<const uint16_t *>(from)[i];
    return dtype == LEMOE_BF16 ? cuda_from_bf16(half) : cuda_from_fp16(half);
}

static __device__ inline void cuda_store(lemoe_dtype dtype, float value, void *to, int64_t i) {
    if (dtype == LEMOE_F32)
        static_cast<float *>(to)[i] = value;
    else
        static_cast<uint16_t *>(to)[i] = dtype == LEMOE_BF16 ? cuda_to_bf16(value) : cuda_to_fp16(value);
}

/* ---- one element, or four neighbours that are read and written at once where they lie so ---- */

template <int N> struct cuda_few { float at[N]; };

/* Whether four neighbours of a tensor lie so; a view may begin anywhere. */
static inline bool cuda_is_wide(lemoe_tensor t) {
    return reinterpret_cast<uintptr_t>(t.data) % (4 * lemoe_dtype_bytes(t.dtype)) == 0;
}
/* And four neighbours of every row. */
static inline bool cuda_has_wide_rows(lemoe_tensor t) { return cuda_is_wide(t) && cuda_columns(t) % 4 == 0; }

template <int N> static __device__ inline cuda_few<N> cuda_load_few(bool wide, const float *from, int64_t i) {
    cuda_few<N> out;
    if constexpr (N == 4)
        if (wide) {
            float4 x = *reinterpret_cast<const float4 *>(from + i);
            return {x.x, x.y, x.z, x.w};
        }
#pragma unroll
    for (int j = 0; j < N; j++) out.at[j] = from[i + j];
    return out;
}

static __device__ inline void cuda_store_wide(lemoe_dtype dtype, cuda_few<4> x, void *to, int64_t i) {
    if (dtype == LEMOE_F32)
        *reinterpret_cast<float4 *>(static_cast<float *>(to) + i) = make_float4(x.at[0], x.at[1], x.at[2], x.at[3]);
    else
        *reinterpret_cast<ushort4 *>(static_cast<uint16_t *>(to) + i) =
            make_ushort4(cuda_to_bf16(x.at[0]), cuda_to_bf16(x.at[1]), cuda_to_bf16(x.at[2]), cuda_to_bf16(x.at[3]));
}

/* dtype fp32 or bf16. */
template <int N>
static __device__ inline void cuda_store_few(bool wide, lemoe_dtype dtype, cuda_few<N> x, void *to, int64_t i) {
    if constexpr (N == 4)
        if (wide) return cuda_store_wide(dtype, x, to, i);
#pragma unroll
    for (int j = 0; j < N; j++) cuda_store(dtype, x.at[j], to, i + j);
}

#endif

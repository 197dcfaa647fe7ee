/*
 * The language of kernels, as far as kernels/cuda uses it, for g++: a block's threads are fibers that change places at
 * barriers and at exchanges within a warp (cuda_host.cc).
 */
#ifndef TESTS_CUDA_HOST_CUDA_RUNTIME_H
#define TESTS_CUDA_HOST_CUDA_RUNTIME_H

#include <cuda_runtime_api.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <tuple>

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned nx = 1, unsigned ny = 1, unsigned nz = 1) : x(nx), y(ny), z(nz) {}
};

/* Of the thread that runs. */
extern dim3 threadIdx, blockIdx, blockDim, gridDim;

/* ---- launches ---- */

/* Runs, or records where the stream captures; `body` is one thread. address: what attributes of the kernel go by. */
void cuda_host_launch(const char *kernel, const void *address, size_t argument_bytes, dim3 grid, dim3 block,
                      size_t shared_bytes, cudaStream_t stream, std::function<void()> body);

/* What one thread does by the PTX of `kernel` (ptx/ptx.h), with a copy of the arguments; empty where none is wanted. */
struct cuda_host_argument {
    const void *value;
    size_t n_bytes;
};
std::function<void()> cuda_host_ptx_thread(const char *name, const void *kernel,
                                           std::initializer_list<cuda_host_argument> arguments);

/* Arguments are evaluated and converted now, as a launch does. */
template <typename... P, typename... A>
void cuda_host_launch_with(const char *name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes,
                           cudaStream_t stream, A... arguments) {
    std::tuple<P...> kept(arguments...);
    std::function<void()> body = std::apply(
        [&](const P &...value) {
            return cuda_host_ptx_thread(name, reinterpret_cast<const void *>(kernel),
                                        {
                                            {&value, sizeof value}
                                            ...
            });
        },
        kept);
    if (!body) body = [kernel, kept] { std::apply(kernel, kept); };
    cuda_host_launch(name, reinterpret_cast<const void *>(kernel), (0 + ... + sizeof(P)), grid, block, shared_bytes,
                     stream, body);
}
#define CUDA_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                                    \
    cuda_host_launch_with(#kernel, kernel, grid, block, shared_bytes, stream, __VA_ARGS__)

/* ---- inside a block ---- */

void *cuda_host_shared();
#define CUDA_SHARED(type, name) type *name = static_cast<type *>(cuda_host_shared())
void __syncthreads();
/* All 32 lanes give a value of up to 8 bytes; each gets that of `lane`. */
void cuda_host_exchange(unsigned mask, const void *value, size_t n_bytes, int lane, void *out);
int cuda_host_lane();

template <typename T> T __shfl_sync(unsigned mask, T value, int lane) {
    T out;
    cuda_host_exchange(mask, &value, sizeof value, lane, &out);
    return out;
}
template <typename T> T __shfl_xor_sync(unsigned mask, T value, int step) {
    return __shfl_sync(mask, value, cuda_host_lane() ^ step);
}

/* ---- values ---- */

/* Aligned as a device wants them: one that lies elsewhere ends the process, as far as g++ uses such instructions. */
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) ushort4 {
    unsigned short x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) { return float4{x, y, z, w}; }
inline ushort4 make_ushort4(unsigned short x, unsigned short y, unsigned short z, unsigned short w) {
    return ushort4{x, y, z, w};
}
inline int __float_as_int(float value) {
    int bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}
inline float __int_as_float(int bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
/* Reduced exactly to [-1, 1] half turns first. */
inline double cospi(double x) { return cos(3.14159265358979323846 * remainder(x, 2.0)); }
inline double sinpi(double x) { return sin(3.14159265358979323846 * remainder(x, 2.0)); }
inline void sincospi(double x, double *sine, double *cosine) {
    *sine = sinpi(x);
    *cosine = cospi(x);
}

#endif

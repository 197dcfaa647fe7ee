/* Products of the emulated cuBLAS, by the CPU's library in fp32: operands are what their type can hold, and with TF32
 * what 11 significant bits can hold. */
#include "tests/cuda_host/cuda_host.h"

#include <cblas.h>
#include <cublas_v2.h>

struct cublasContext {
    cudaStream_t stream;
};

namespace {

struct product {
    cublasOperation_t transa, transb;
    int64_t m, n, k, lda, ldb, ldc;
    float alpha, beta;
    const void *a, *b;
    cudaDataType atype, btype;
    float *c;
    bool is_tf32;
};

float rounded_to_tf32(float value) {
    uint32_t bits = (uint32_t)__float_as_int(value);
    if ((bits & 0x7f800000u) == 0x7f800000u) return value;
    return __int_as_float((int)((bits + 0xfffu + ((bits >> 13) & 1u)) & ~0x1fffu));
}

/* A matrix of the library's own, rows x columns stored by columns without gaps. */
std::vector<float> widened(const product &p, const void *from, cudaDataType type, int64_t rows, int64_t columns,
                           int64_t ld) {
    std::vector<float> out((size_t)(rows * columns));
    for (int64_t j = 0; j < columns; j++)
        for (int64_t i = 0; i < rows; i++) {
            float value = type == CUDA_R_16BF
                              ? __int_as_float((int)((uint32_t) static_cast<const uint16_t *>(from)[j * ld + i] << 16))
                              : static_cast<const float *>(from)[j * ld + i];
            out[(size_t)(j * rows + i)] = p.is_tf32 ? rounded_to_tf32(value) : value;
        }
    return out;
}

void multiply(const product &p) {
    bool ta = p.transa == CUBLAS_OP_T, tb = p.transb == CUBLAS_OP_T;
    std::vector<float> a = widened(p, p.a, p.atype, ta ? p.k : p.m, ta ? p.m : p.k, p.lda);
    std::vector<float> b = widened(p, p.b, p.btype, tb ? p.n : p.k, tb ? p.k : p.n, p.ldb);
    std::vector<float> c((size_t)(p.m * p.n)); /* the library's threads may not touch device memory */
    for (int64_t j = 0; j < p.n && p.beta != 0.0f; j++)
        memcpy(&c[(size_t)(j * p.m)], p.c + j * p.ldc, (size_t)p.m * sizeof(float));
    cblas_sgemm(CblasColMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, (int)p.m, (int)p.n,
                (int)p.k, p.alpha, a.data(), (int)(ta ? p.k : p.m), b.data(), (int)(tb ? p.n : p.k), p.beta, c.data(),
                (int)p.m);
    for (int64_t j = 0; j < p.n; j++) memcpy(p.c + j * p.ldc, &c[(size_t)(j * p.m)], (size_t)p.m * sizeof(float));
}

} // namespace

cublasStatus_t cublasCreate(cublasHandle_t *handle) {
    if (cuda_host_is_broken()) return CUBLAS_STATUS_NOT_INITIALIZED;
    *handle = new cublasContext{nullptr};
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasDestroy(cublasHandle_t handle) {
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream) {
    handle->stream = stream;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetWorkspace(cublasHandle_t, void *workspace, size_t n_bytes) {
    return cuda_host_on_device(workspace, n_bytes) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}
cublasStatus_t cublasSetMathMode(cublasHandle_t, cublasMath_t) { return CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasGetProperty(libraryPropertyType, int *value) {
    *value = 0;
    return CUBLAS_STATUS_SUCCESS;
}
const char *cublasGetStatusString(cublasStatus_t status) {
    return status == CUBLAS_STATUS_SUCCESS            ? "success"
           : status == CUBLAS_STATUS_INVALID_VALUE    ? "invalid value"
           : status == CUBLAS_STATUS_EXECUTION_FAILED ? "the function failed to launch on the GPU"
                                                      : "not supported";
}

cublasStatus_t cublasGemmEx_64(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int64_t m,
                               int64_t n, int64_t k, const void *alpha, const void *a, cudaDataType atype, int64_t lda,
                               const void *b, cudaDataType btype, int64_t ldb, const void *beta, void *c,
                               cudaDataType ctype, int64_t ldc, cublasComputeType_t compute, cublasGemmAlgo_t) {
    bool fits = m > 0 && n > 0 && k > 0 && ldc >= m && lda >= (transa == CUBLAS_OP_T ? k : m) &&
                ldb >= (transb == CUBLAS_OP_T ? n : k) && cuda_host_on_device(c, (size_t)((n - 1) * ldc + m) * 4);
    if (!fits) return CUBLAS_STATUS_INVALID_VALUE;
    bool is_offered = ctype == CUDA_R_32F && atype == btype && (atype == CUDA_R_32F || atype == CUDA_R_16BF);
    if (!is_offered) return CUBLAS_STATUS_NOT_SUPPORTED;
    product p = {transa,
                 transb,
                 m,
                 n,
                 k,
                 lda,
                 ldb,
                 ldc,
                 *static_cast<const float *>(alpha),
                 *static_cast<const float *>(beta),
                 a,
                 b,
                 atype,
                 btype,
                 static_cast<float *>(c),
                 compute == CUBLAS_COMPUTE_32F_FAST_TF32};
    (void)cuda_host_done(cuda_host_queue(handle->stream, {[p] { multiply(p); }, nullptr}));
    return cuda_host_is_broken() ? CUBLAS_STATUS_EXECUTION_FAILED : CUBLAS_STATUS_SUCCESS;
}

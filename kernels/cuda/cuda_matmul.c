/*
 * Matrix products by cuBLAS, sums in fp32 always. What is multiplied depends on how b is stored:
 *   fp32   both operands as they are; no TF32
 *   bf16   a is rounded to bf16 into the workspace, so that the matrix units take both
 *   fp16   b is widened into the workspace, and both are rounded to the 11 significant bits of TF32: exact for b, and a
 *          keeps the range that fp16 lacks; slower than bf16, which models should be stored as for speed
 * A caller who wants the speed of bf16 for an fp32 operand stores a copy of it as bf16 (lemoe_op_cast).
 */
#include "kernels/cuda/cuda_internal.h"

#include <cublas_v2.h>

/* Operands as the library is given them. */
typedef struct operands {
    const void *a, *b;
    cudaDataType_t type;
    cublasComputeType_t compute;
} operands;

static lemoe_status prepare(lemoe_device *device, const lemoe_matmul_args *args, operands *out) {
    int64_t n_a = lemoe_tensor_count(&args->a), n_b = lemoe_tensor_count(&args->b);
    void *room = NULL;
    *out = (operands){args->a.data, args->b.data, CUDA_R_32F, CUBLAS_COMPUTE_32F};
    if (args->b.dtype == LEMOE_BF16) {
        LEMOE_TRY(cuda_workspace(device, (size_t)n_a * 2, &room));
        LEMOE_TRY(cuda_round_bf16(device, args->a.data, n_a, room));
        out->a = room;
        out->type = CUDA_R_16BF;
    } else if (args->b.dtype == LEMOE_F16) {
        LEMOE_TRY(cuda_workspace(device, (size_t)n_b * sizeof(float), &room));
        LEMOE_TRY(cuda_widen_fp16(device, args->b.data, n_b, room));
        out->b = room;
        out->compute = CUBLAS_COMPUTE_32F_FAST_TF32;
    }
    return LEMOE_OK;
}

/* Rows of a tensor, and elements of a row. */
static int64_t width(lemoe_tensor t) { return t.shape[0] ? lemoe_tensor_count(&t) / t.shape[0] : 0; }

/* The library stores columns, so our row-major c = op(a) op(b) is its c^T = op(b)^T op(a)^T. */
static lemoe_status multiply(lemoe_device *device, const lemoe_matmul_args *args, const operands *o) {
    const cuda_state *state = device->state;
    int64_t m = args->c.shape[0], n = width(args->c), k = args->trans_a ? args->a.shape[0] : width(args->a);
    cublasStatus_t status = cublasGemmEx_64(state->blas, args->trans_b ? CUBLAS_OP_T : CUBLAS_OP_N,
                                            args->trans_a ? CUBLAS_OP_T : CUBLAS_OP_N, n, m, k, &args->alpha, o->b,
                                            o->type, args->trans_b ? k : n, o->a, o->type, args->trans_a ? m : k,
                                            &args->beta, args->c.data, CUDA_R_32F, n, o->compute, CUBLAS_GEMM_DEFAULT);
    LEMOE_CHECK(status == CUBLAS_STATUS_SUCCESS, LEMOE_ERR_DEVICE, "matmul [%lld, %lld, %lld]: cuBLAS says %s",
                (long long)m, (long long)n, (long long)k, cublasGetStatusString(status));
    return cuda_launched(device, "matmul");
}

/* Without terms c is beta c. */
static lemoe_status scale_only(lemoe_device *device, const lemoe_matmul_args *args) {
    if (args->beta != 0.0f) return cuda_scale(device, args->beta, args->c);
    return cuda_memory_ops.zero(device, args->c.data, lemoe_tensor_bytes(&args->c));
}

lemoe_status cuda_matmul(lemoe_device *device, const lemoe_matmul_args *args) {
    operands o;
    (void)cuda_state_of(device);
    if (lemoe_tensor_count(&args->a) == 0) return scale_only(device, args);
    LEMOE_TRY(prepare(device, args, &o));
    return multiply(device, args, &o);
}

/*
 * Matrix products by cuBLAS, sums in fp32 always. What is multiplied (kernels/workspace.h):
 *   LEMOE_PRODUCTS_F32    both operands as fp32, without TF32; b widened where it is bf16, which is slow
 *   LEMOE_PRODUCTS_BF16   both as bf16, by the matrix units: what is stored as fp32 is rounded, what trains included;
 * but for exact products, which are as above. An fp16 b is widened, and both are rounded to the 11 significant bits of
 * TF32: exact for b, and a keeps the range that fp16 lacks; slower than bf16, which models should be stored as for
 * speed.
 *
 * Operands are converted into the workspace, each time: 6 bytes a weight that trains, 1 % of an update at the shape of
 * a 7B model (docs/gpu.md has the count). A bf16 copy beside the master weights would have to be kept true.
 */
#include "kernels/cuda/cuda_internal.h"
#include "kernels/workspace.h"

#include <cublas_v2.h>

/* Operands as the library is given them. */
typedef struct operands {
    const void *a, *b;
    cudaDataType_t type;
    cublasComputeType_t compute;
} operands;

static lemoe_status prepare(lemoe_device *device, const lemoe_matmul_args *args, operands *out) {
    lemoe_multiplied how = lemoe_workspace_multiplied(args, device->products);
    lemoe_dtype type = how.type == LEMOE_BF16 ? LEMOE_BF16 : LEMOE_F32;
    void *room = NULL;
    *out = (operands){args->a.data, args->b.data, type == LEMOE_BF16 ? CUDA_R_16BF : CUDA_R_32F,
                      how.type == LEMOE_F16 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F};
    if (how.a_bytes + how.b_bytes == 0) return LEMOE_OK;
    LEMOE_TRY(cuda_workspace(device, lemoe_workspace_matmul(args, device->products), &room));
    char *a = room, *b = a + how.a_bytes;
    if (how.a_bytes) {
        LEMOE_TRY(cuda_convert(device, args->a, type, a));
        out->a = a;
    }
    if (how.b_bytes) {
        LEMOE_TRY(cuda_convert(device, args->b, type, b));
        out->b = b;
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

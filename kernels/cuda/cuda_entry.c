/* The one function that the module exports, and its table of operations. */
#include "kernels/cuda/cuda_internal.h"
#include "lemoe_kernels_id.h"

static const lemoe_compute_ops compute_ops = {
    .matmul = cuda_matmul,
    .cast = cuda_cast,
    .axpy = cuda_axpy,
    .scale = cuda_scale,
    .clamp_around = cuda_clamp_around,
    .silu_fwd = cuda_silu_fwd,
    .silu_bwd = cuda_silu_bwd,
    .swiglu_fwd = cuda_swiglu_fwd,
    .swiglu_bwd = cuda_swiglu_bwd,
    .rmsnorm_fwd = cuda_rmsnorm_fwd,
    .rmsnorm_bwd = cuda_rmsnorm_bwd,
    .rope = cuda_rope,
    .embed_fwd = cuda_embed_fwd,
    .attn_fwd = cuda_attn_fwd,
    .attn_bwd = cuda_attn_bwd,
    .xent_rowmax = cuda_xent_rowmax,
    .xent_rowsum = cuda_xent_rowsum,
    .xent_bwd = cuda_xent_bwd,
    .sumsq = cuda_sumsq,
    .sumsq_add = cuda_sumsq_add,
    .count_nonfinite = cuda_count_nonfinite,
    .adamw = cuda_adamw,
    .fill_normal = cuda_fill_normal,
    .seg_mean = cuda_seg_mean,
    .topk_softmax_fwd = cuda_topk_softmax_fwd,
    .softmax_bwd = cuda_softmax_bwd,
    .rows_gather = cuda_rows_gather,
    .rows_scatter_add = cuda_rows_scatter_add,
    .rows_scale = cuda_rows_scale,
    .row_dot = cuda_row_dot,
};

/* Every device that the module has machine code for multiplies bf16. */
static lemoe_status check_bf16_products(void) { return LEMOE_OK; }

static const lemoe_backend backend = {
    .kind = "cuda",
    .memory = &cuda_memory_ops,
    .compute = &compute_ops,
#ifdef LEMOE_NCCL
    .collective = &cuda_collective_ops,
#endif
    .count = cuda_count,
    .describe = cuda_describe,
    .describe_libraries = cuda_describe_libraries,
    .check_bf16_products = check_bf16_products,
};

static const lemoe_module module = {.abi = LEMOE_MODULE_ABI, .build_id = LEMOE_KERNELS_ID, .backend = &backend};

__attribute__((visibility("default"))) const lemoe_module *lemoe_cuda_module(const lemoe_module_host *host);

const lemoe_module *lemoe_cuda_module(const lemoe_module_host *host) {
    cuda_keep_host(host);
    return &module;
}

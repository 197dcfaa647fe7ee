/*
 * Private to kernels/cuda: what the module's files share. Host code is C (cuda_*.c), kernels and their launchers are
 * CUDA (cuda_*.cu), one family of operations a file as in cpu/. Everything runs on one stream a device, in order.
 *
 * No operation allocates or waits once the workspace is large enough, but for those that give values to the host. No
 * float atomics, and no sum whose order depends on timing: two runs on one kind of device are bit-identical.
 */
#ifndef KERNELS_CUDA_CUDA_INTERNAL_H
#define KERNELS_CUDA_CUDA_INTERNAL_H

#include "kernels/module.h"

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a kernel found wrong in values that only it reads; reported where the host waits next. */
typedef enum cuda_fault {
    CUDA_FAULT_NONE = 0,
    CUDA_FAULT_ROPE,
    CUDA_FAULT_ATTENTION,
    CUDA_FAULT_SEG_MEAN,
    CUDA_FAULT_GATHER,
    CUDA_FAULT_SCATTER,
    CUDA_FAULT_COUNT
} cuda_fault;

enum { CUDA_N_STAGE = 2 };

/* Memory that a workspace outgrew while captured graphs may still name it. */
typedef struct cuda_retired {
    void *block;
    struct cuda_retired *next;
} cuda_retired;

typedef struct cuda_state {
    cudaStream_t stream;
    struct cublasContext *blas; /* cublasHandle_t */
    void *blas_workspace;       /* given to the library, so that it allocates nothing and captures well */
    char *workspace;
    size_t workspace_bytes;
    cuda_retired *retired;
    int n_graph;
    bool is_capturing, waits_always;  /* waits_always: LEMOE_SYNC=1, to find the operation that fails */
    int *fault;                       /* on the device */
    char *pinned;                     /* a few host values: the fault, and what operations give to the host */
    char *stage[CUDA_N_STAGE];        /* pinned; pieces of uploads travel through them in turn */
    cudaEvent_t staged[CUDA_N_STAGE]; /* when the piece in it has left */
    int next_stage;
    struct lemoe_collective *groups; /* open on this device, for whoever waits to look at */
    lemoe_status (*check_groups)(const struct lemoe_collective *groups);
} cuda_state;

/* The device's state, made current for this thread. */
cuda_state *cuda_state_of(lemoe_device *device);

/* ---- errors ---- */

lemoe_status cuda_failed(const char *file, int line, const char *call, cudaError_t error);
/* Raises for a failed call of the CUDA run time. */
#define CUDA_TRY(call)                                                                                                 \
    do {                                                                                                               \
        cudaError_t cuda_error_ = (call);                                                                              \
        if (cuda_error_ != cudaSuccess) return cuda_failed(__FILE__, __LINE__, #call, cuda_error_);                    \
    } while (0)
/* After a launch: whether it was accepted. */
lemoe_status cuda_launched(lemoe_device *device, const char *op) LEMOE_MUST_CHECK;

/* ---- memory of the device's own ---- */

/* Local. At least n_bytes that operations after this one overwrite. Errors: NOMEM; STATE while a graph is captured. */
lemoe_status cuda_workspace(lemoe_device *device, size_t n_bytes, void **out) LEMOE_MUST_CHECK;
/* Local. Waits, and copies a few bytes of device memory to the host. Errors: STATE while a graph is captured. */
lemoe_status cuda_to_host(lemoe_device *device, const char *op, void *to_host, const void *from,
                          size_t n_bytes) LEMOE_MUST_CHECK;
/* Local. Errors: STATE while a graph is captured: what cannot be recorded is refused by name. */
lemoe_status cuda_not_captured(lemoe_device *device, const char *what) LEMOE_MUST_CHECK;

/* ---- used by other families ---- */

/* The values of a tensor as another floating type, aligned to 16 bytes. */
lemoe_status cuda_convert(lemoe_device *device, lemoe_tensor from, lemoe_dtype type, void *to) LEMOE_MUST_CHECK;

/* ---- the tables ---- */

void cuda_keep_host(const lemoe_module_host *host);
extern const lemoe_memory_ops cuda_memory_ops;
extern const lemoe_collective_ops cuda_collective_ops; /* only where the module is built with NCCL */
lemoe_status cuda_count(int *out);
lemoe_status cuda_describe(int index, lemoe_device_info *out);
void cuda_describe_libraries(lemoe_device_libraries *out);
/* "NCCL 2.28.9; NCCL_ALGO=Ring"; only where the module is built with it. */
void cuda_collective_library(char *text, size_t text_bytes);
/* Those of the n variables that the environment has, as "; NAME=VALUE" one behind the other. */
void cuda_write_settings(const char *const *names, size_t n, char *text, size_t text_bytes);

/* ---- the families, as ops_table.h describes them ---- */

lemoe_status cuda_matmul(lemoe_device *device, const lemoe_matmul_args *args);

lemoe_status cuda_cast(lemoe_device *device, lemoe_tensor from, lemoe_tensor to);
lemoe_status cuda_axpy(lemoe_device *device, float a, lemoe_tensor x, lemoe_tensor y);
lemoe_status cuda_scale(lemoe_device *device, float a, lemoe_tensor x);
lemoe_status cuda_clamp_around(lemoe_device *device, lemoe_tensor reference, float limit, lemoe_tensor x);
lemoe_status cuda_silu_fwd(lemoe_device *device, lemoe_tensor x, lemoe_tensor y);
lemoe_status cuda_silu_bwd(lemoe_device *device, lemoe_tensor dy, lemoe_tensor x, lemoe_tensor dx);
lemoe_status cuda_swiglu_fwd(lemoe_device *device, lemoe_tensor gate, lemoe_tensor up, lemoe_tensor act);
lemoe_status cuda_swiglu_bwd(lemoe_device *device, lemoe_tensor d_act, lemoe_tensor gate, lemoe_tensor up,
                             lemoe_tensor d_gate, lemoe_tensor d_up);

lemoe_status cuda_rmsnorm_fwd(lemoe_device *device, lemoe_tensor x, lemoe_tensor w, float eps, lemoe_tensor y,
                              lemoe_tensor inv_rms);
lemoe_status cuda_rmsnorm_bwd(lemoe_device *device, lemoe_tensor dy, lemoe_tensor x, lemoe_tensor w,
                              lemoe_tensor inv_rms, lemoe_tensor dx);
lemoe_status cuda_rope(lemoe_device *device, lemoe_tensor x, lemoe_tensor position, lemoe_tensor inv_freq, int sign);
lemoe_status cuda_embed_fwd(lemoe_device *device, lemoe_tensor id, lemoe_tensor table, int64_t row_begin,
                            lemoe_tensor y);

lemoe_status cuda_attn_fwd(lemoe_device *device, const lemoe_attn_args *args);
lemoe_status cuda_attn_bwd(lemoe_device *device, const lemoe_attn_args *args);

lemoe_status cuda_xent_rowmax(lemoe_device *device, lemoe_tensor logits, int64_t row_begin, lemoe_tensor row_max,
                              lemoe_tensor row_arg);
lemoe_status cuda_xent_rowsum(lemoe_device *device, lemoe_tensor logits, lemoe_tensor row_max, lemoe_tensor label,
                              int64_t row_begin, lemoe_tensor sum, lemoe_tensor label_logit);
lemoe_status cuda_xent_bwd(lemoe_device *device, lemoe_tensor logits, lemoe_tensor row_max, lemoe_tensor sum,
                           lemoe_tensor label, lemoe_tensor weight, int64_t row_begin);

lemoe_status cuda_seg_mean(lemoe_device *device, lemoe_tensor x, lemoe_tensor begin, lemoe_tensor end, lemoe_tensor y);
lemoe_status cuda_topk_softmax_fwd(lemoe_device *device, lemoe_tensor z, lemoe_tensor p, lemoe_tensor index);
lemoe_status cuda_softmax_bwd(lemoe_device *device, lemoe_tensor p, lemoe_tensor dp, lemoe_tensor dz);
lemoe_status cuda_rows_gather(lemoe_device *device, lemoe_tensor x, lemoe_tensor row, lemoe_tensor y);
lemoe_status cuda_rows_scatter_add(lemoe_device *device, lemoe_tensor x, lemoe_tensor row, lemoe_tensor weight,
                                   lemoe_tensor y);
lemoe_status cuda_rows_scale(lemoe_device *device, lemoe_tensor weight, lemoe_tensor x);
lemoe_status cuda_row_dot(lemoe_device *device, lemoe_tensor a, lemoe_tensor b, lemoe_tensor dot);

lemoe_status cuda_sumsq(lemoe_device *device, lemoe_tensor x, double *out);
lemoe_status cuda_sumsq_add(lemoe_device *device, lemoe_tensor x, lemoe_tensor total);
lemoe_status cuda_count_nonfinite(lemoe_device *device, lemoe_tensor x, int64_t *out);
lemoe_status cuda_adamw(lemoe_device *device, const lemoe_adamw_args *args);
lemoe_status cuda_fill_normal(lemoe_device *device, const lemoe_fill_args *args);

#ifdef __cplusplus
}
#endif
#endif

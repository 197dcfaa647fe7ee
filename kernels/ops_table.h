/*
 * Private to kernels/: the tables a backend fills in, and what stands behind lemoe_device. The front ends (device.c,
 * ops.c, collective.c) check arguments once; a backend trusts shapes and types and computes. What the tensors mean is
 * said once, in ops.h. Every entry but those under "optional" is required; a missing optional one is an UNSUPPORTED
 * error that names op and backend. A new backend is a folder with such tables and a row in device.c.
 */
#ifndef KERNELS_OPS_TABLE_H
#define KERNELS_OPS_TABLE_H

#include "kernels/collective.h"
#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What every block of device memory is aligned to; arenas hand out multiples of it. */
enum { LEMOE_DEVICE_ALIGNMENT = 256 };

typedef struct lemoe_memory_ops {
    /* whether the host may read and write what alloc gives */
    bool is_host;
    /* fills device->state and device->domain; backend, index and n_threads are set */
    lemoe_status (*open)(lemoe_device *device);
    /* gives back what open and the ops kept in device->state */
    void (*close)(lemoe_device *device);
    /* n_bytes aligned to LEMOE_DEVICE_ALIGNMENT, not cleared */
    lemoe_status (*alloc)(lemoe_device *device, size_t n_bytes, void **out);
    /* a block from alloc, never NULL */
    void (*free)(lemoe_device *device, void *block);
    /* host to device, device to host, device to device; n_bytes > 0; complete on return */
    lemoe_status (*upload)(lemoe_device *device, void *to, const void *from_host, size_t n_bytes);
    lemoe_status (*download)(lemoe_device *device, void *to_host, const void *from, size_t n_bytes);
    lemoe_status (*copy)(lemoe_device *device, void *to, const void *from, size_t n_bytes);
    /* all bytes zero */
    lemoe_status (*zero)(lemoe_device *device, void *block, size_t n_bytes);
    /* waits for what is under way and reports its errors */
    lemoe_status (*sync)(lemoe_device *device);
    /* free and total bytes this process may count on */
    lemoe_status (*mem_info)(lemoe_device *device, size_t *free_bytes, size_t *total_bytes);

    /* ---- optional: whether the device answers no more; without, it always does ---- */

    bool (*is_lost)(lemoe_device *device);

    /* ---- optional: pinned host memory; without, it is plain ---- */

    lemoe_status (*host_alloc)(lemoe_device *device, size_t n_bytes, void **out);
    void (*host_free)(lemoe_device *device, void *block);

    /* ---- optional: room beside the arguments of operations ---- */

    lemoe_status (*reserve_workspace)(lemoe_device *device, size_t n_bytes);
    void (*release_workspace)(lemoe_device *device);
    size_t (*workspace_bytes)(const lemoe_device *device);

    /* ---- optional, all four or none: captured work ---- */

    lemoe_status (*capture_begin)(lemoe_device *device);
    lemoe_status (*capture_end)(lemoe_device *device, lemoe_graph **out);
    lemoe_status (*replay)(lemoe_device *device, lemoe_graph *graph);
    void (*graph_destroy)(lemoe_device *device, lemoe_graph *graph);
} lemoe_memory_ops;

/* As collective.h describes them; all required where a backend has the table. */
typedef struct lemoe_collective_ops {
    lemoe_status (*unique_id)(lemoe_device *device, lemoe_collective_id *out);
    lemoe_status (*open)(lemoe_device *device, const lemoe_collective_id *id, int rank, int size,
                         lemoe_collective **out);
    int (*size)(const lemoe_collective *collective);
    lemoe_status (*allreduce)(lemoe_device *device, lemoe_collective *collective, lemoe_reduction reduction,
                              lemoe_tensor x);
    lemoe_status (*allreduce_begin)(lemoe_device *device, lemoe_collective *collective, lemoe_reduction reduction,
                                    lemoe_tensor x, int lane);
    lemoe_status (*allreduce_end)(lemoe_device *device, lemoe_collective *collective, int lane);
    lemoe_status (*allgather)(lemoe_device *device, lemoe_collective *collective, lemoe_tensor x, lemoe_tensor out);
    lemoe_status (*broadcast)(lemoe_device *device, lemoe_collective *collective, int root, lemoe_tensor x);
    void (*abort)(lemoe_device *device, lemoe_collective *collective);
    void (*close)(lemoe_device *device, lemoe_collective *collective);
} lemoe_collective_ops;

typedef struct lemoe_compute_ops {
    /* ---- required: what every model and editor runs on ---- */

    /* c = alpha op(a) op(b) + beta c; m, n > 0, k >= 0; b of any float type; a bf16 only where it would be rounded to
     * that, with alpha 1 */
    lemoe_status (*matmul)(lemoe_device *device, const lemoe_matmul_args *args);

    /* to = from, between float types */
    lemoe_status (*cast)(lemoe_device *device, lemoe_tensor from, lemoe_tensor to);
    /* y += a x */
    lemoe_status (*axpy)(lemoe_device *device, float a, lemoe_tensor x, lemoe_tensor y);
    /* x *= a */
    lemoe_status (*scale)(lemoe_device *device, float a, lemoe_tensor x);
    /* x within limit of reference; limit >= 0; NaN leaves x as it is */
    lemoe_status (*clamp_around)(lemoe_device *device, lemoe_tensor reference, float limit, lemoe_tensor x);
    /* y = silu(x); y may be x */
    lemoe_status (*silu_fwd)(lemoe_device *device, lemoe_tensor x, lemoe_tensor y);
    /* dx = dy silu'(x); dx may be dy */
    lemoe_status (*silu_bwd)(lemoe_device *device, lemoe_tensor dy, lemoe_tensor x, lemoe_tensor dx);
    /* act = silu(gate) up; act fp32 or bf16 */
    lemoe_status (*swiglu_fwd)(lemoe_device *device, lemoe_tensor gate, lemoe_tensor up, lemoe_tensor act);
    /* d_gate, d_up from d_act, both fp32, and then either may be d_act, or both bf16 */
    lemoe_status (*swiglu_bwd)(lemoe_device *device, lemoe_tensor d_act, lemoe_tensor gate, lemoe_tensor up,
                               lemoe_tensor d_gate, lemoe_tensor d_up);

    /* y = x inv_rms w, y fp32 or bf16, keeps inv_rms */
    lemoe_status (*rmsnorm_fwd)(lemoe_device *device, lemoe_tensor x, lemoe_tensor w, float eps, lemoe_tensor y,
                                lemoe_tensor inv_rms);
    /* dx += gradient */
    lemoe_status (*rmsnorm_bwd)(lemoe_device *device, lemoe_tensor dy, lemoe_tensor x, lemoe_tensor w,
                                lemoe_tensor inv_rms, lemoe_tensor dx);
    /* rotates x in place; angle = fp32(position * inv_freq) */
    lemoe_status (*rope)(lemoe_device *device, lemoe_tensor x, lemoe_tensor position, lemoe_tensor inv_freq, int sign);
    /* rows of the table, zeros for foreign ids */
    lemoe_status (*embed_fwd)(lemoe_device *device, lemoe_tensor id, lemoe_tensor table, int64_t row_begin,
                              lemoe_tensor y);

    /* writes out and log_sum_exp */
    lemoe_status (*attn_fwd)(lemoe_device *device, const lemoe_attn_args *args);
    /* writes dq, dk, dv from q, k, v, out, log_sum_exp and d_out */
    lemoe_status (*attn_bwd)(lemoe_device *device, const lemoe_attn_args *args);

    /* largest logit of each row and its lowest global id; -infinity without local vocabulary */
    lemoe_status (*xent_rowmax)(lemoe_device *device, lemoe_tensor logits, int64_t row_begin, lemoe_tensor row_max,
                                lemoe_tensor row_arg);
    /* local sum of exp(logit - row_max), and the label's logit where it is local */
    lemoe_status (*xent_rowsum)(lemoe_device *device, lemoe_tensor logits, lemoe_tensor row_max, lemoe_tensor label,
                                int64_t row_begin, lemoe_tensor sum, lemoe_tensor label_logit);
    /* logits become their gradient */
    lemoe_status (*xent_bwd)(lemoe_device *device, lemoe_tensor logits, lemoe_tensor row_max, lemoe_tensor sum,
                             lemoe_tensor label, lemoe_tensor weight, int64_t row_begin);

    /* sum of squares in double, fixed order, to the host */
    lemoe_status (*sumsq)(lemoe_device *device, lemoe_tensor x, double *out);
    /* total += the same, on the device */
    lemoe_status (*sumsq_add)(lemoe_device *device, lemoe_tensor x, lemoe_tensor total);
    /* how many are NaN or infinite, to the host */
    lemoe_status (*count_nonfinite)(lemoe_device *device, lemoe_tensor x, int64_t *out);
    /* one AdamW update; step >= 1 */
    lemoe_status (*adamw)(lemoe_device *device, const lemoe_adamw_args *args);
    /* normal numbers by global element */
    lemoe_status (*fill_normal)(lemoe_device *device, const lemoe_fill_args *args);

    /* ---- optional: editors that route ---- */

    /* means of row ranges */
    lemoe_status (*seg_mean)(lemoe_device *device, lemoe_tensor x, lemoe_tensor begin, lemoe_tensor end,
                             lemoe_tensor y);
    /* softmax of each row, and the indices of its largest entries */
    lemoe_status (*topk_softmax_fwd)(lemoe_device *device, lemoe_tensor z, lemoe_tensor p, lemoe_tensor index);
    /* dz = p (dp - <p, dp>); dz may be dp */
    lemoe_status (*softmax_bwd)(lemoe_device *device, lemoe_tensor p, lemoe_tensor dp, lemoe_tensor dz);
    /* y[i] = x[row[i]], both fp32 or both bf16 */
    lemoe_status (*rows_gather)(lemoe_device *device, lemoe_tensor x, lemoe_tensor row, lemoe_tensor y);
    /* y[row[i]] += weight[i] x[i]; weight.data may be NULL: 1; rows are distinct */
    lemoe_status (*rows_scatter_add)(lemoe_device *device, lemoe_tensor x, lemoe_tensor row, lemoe_tensor weight,
                                     lemoe_tensor y);
    /* x[i] *= weight[i] */
    lemoe_status (*rows_scale)(lemoe_device *device, lemoe_tensor weight, lemoe_tensor x);
    /* dot[i] = <a[i], b[i]> */
    lemoe_status (*row_dot)(lemoe_device *device, lemoe_tensor a, lemoe_tensor b, lemoe_tensor dot);
} lemoe_compute_ops;

/* A kind of device. */
typedef struct lemoe_backend {
    const char *kind;
    const lemoe_memory_ops *memory;
    const lemoe_compute_ops *compute;
    const lemoe_collective_ops *collective; /* optional */
    /* as device.h describes them; describe is given an index inside */
    lemoe_status (*count)(int *out);
    lemoe_status (*describe)(int index, lemoe_device_info *out);
    void (*describe_libraries)(lemoe_device_libraries *out);
    /* optional: whether products can be LEMOE_PRODUCTS_BF16; without, they cannot */
    lemoe_status (*check_bf16_products)(void);
} lemoe_backend;

struct lemoe_device {
    const lemoe_backend *backend;
    const lemoe_compute_ops *compute; /* the backend's; tests put another in its place */
    int index, n_threads;
    lemoe_products products;
    char domain[384];
    void *state; /* the backend's own */
};

/* The other operand of a product with b stored as that type: LEMOE_BF16, or LEMOE_F32 where it is not rounded. A host
 * multiplies bf16 where b is bf16; a device with matrix units where b is fp32 as well. */
static inline lemoe_dtype lemoe_rounded_to(lemoe_products products, bool is_host, lemoe_dtype b) {
    bool rounds = products == LEMOE_PRODUCTS_BF16 && (b == LEMOE_BF16 || (b == LEMOE_F32 && !is_host));
    return rounds ? LEMOE_BF16 : LEMOE_F32;
}

/* The backend that is always there: const tables, typed, no registration. */
extern const lemoe_backend lemoe_cpu_backend;

#ifdef __cplusplus
}
#endif
#endif

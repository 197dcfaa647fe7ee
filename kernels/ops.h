/*
 * The operations of lemoe on a device: shapes and types are checked here, once, and then a backend computes. All are
 * Local, synchronous in effect (a later op or download sees the result) and deterministic for a given device domain: no
 * atomics on floats, sums in a fixed order. Tensors are fp32 unless said otherwise; "index" tensors are int32.
 *
 * Errors of every op: SHAPE or ARG when the arguments do not fit, naming op and sizes; UNSUPPORTED when the backend
 * lacks it; DEVICE when the library fails. Outputs never alias inputs unless said so.
 */
#ifndef KERNELS_OPS_H
#define KERNELS_OPS_H

#include "kernels/base/rng.h"
#include "kernels/device.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- dense ------------------------------------------------------------------------------------------------------- */

/* c[m,n] = alpha * op(a) op(b) + beta * c, op = transpose where the flag is set. a and c fp32; b fp32, bf16 or fp16 (a
 * frozen weight: products accumulate in fp32). beta = 0 overwrites c whatever it held. m = 0 is a no-op. What the
 * operands are rounded to before depends on lemoe_device_set_products; exact: to nothing. a may be bf16 where it would
 * be rounded to that (lemoe_device_product_type of b's type) and alpha is 1. */
typedef struct lemoe_matmul_args {
    lemoe_tensor a, b, c;
    bool trans_a, trans_b;
    float alpha, beta;
    bool exact;
} lemoe_matmul_args;
lemoe_status lemoe_op_matmul(lemoe_device *device, const lemoe_matmul_args *args) LEMOE_MUST_CHECK;
/* The three products of a linear layer y = x W^T, W[n_out, n_in]:
 * forward  y[n_tok,n_out] (+)= x[n_tok,n_in] W^T;  dx[n_tok,n_in] (+)= dy W;  dw[n_out,n_in] (+)= dy^T x. */
lemoe_status lemoe_op_linear(lemoe_device *device, lemoe_tensor x, lemoe_tensor w, lemoe_tensor y,
                             bool accumulate) LEMOE_MUST_CHECK;
lemoe_status lemoe_op_linear_dx(lemoe_device *device, lemoe_tensor dy, lemoe_tensor w, lemoe_tensor dx,
                                bool accumulate) LEMOE_MUST_CHECK;
lemoe_status lemoe_op_linear_dw(lemoe_device *device, lemoe_tensor dy, lemoe_tensor x, lemoe_tensor dw,
                                bool accumulate) LEMOE_MUST_CHECK;
/* The same, exact: for scores that decide where something goes, and their gradients. They are small. */
lemoe_status lemoe_op_exact_linear(lemoe_device *device, lemoe_tensor x, lemoe_tensor w, lemoe_tensor y,
                                   bool accumulate) LEMOE_MUST_CHECK;
lemoe_status lemoe_op_exact_linear_dx(lemoe_device *device, lemoe_tensor dy, lemoe_tensor w, lemoe_tensor dx,
                                      bool accumulate) LEMOE_MUST_CHECK;
lemoe_status lemoe_op_exact_linear_dw(lemoe_device *device, lemoe_tensor dy, lemoe_tensor x, lemoe_tensor dw,
                                      bool accumulate) LEMOE_MUST_CHECK;

/* ---- elementwise ------------------------------------------------------------------------------------------------- */

/* to = from in another floating type; same count. */
lemoe_status lemoe_op_cast(lemoe_device *device, lemoe_tensor from, lemoe_tensor to) LEMOE_MUST_CHECK;
/* y += a * x, and x *= a. Any equal shapes. */
lemoe_status lemoe_op_axpy(lemoe_device *device, float a, lemoe_tensor x, lemoe_tensor y) LEMOE_MUST_CHECK;
lemoe_status lemoe_op_scale(lemoe_device *device, float a, lemoe_tensor x) LEMOE_MUST_CHECK;
/* x = min(max(x, reference - limit), reference + limit), limit >= 0. Any equal shapes. What is NaN, in x or in the
 * reference, leaves x as it is. */
lemoe_status lemoe_op_clamp_around(lemoe_device *device, lemoe_tensor reference, float limit,
                                   lemoe_tensor x) LEMOE_MUST_CHECK;
/* y = silu(x);  dx = dy * silu'(x). y may be x. */
lemoe_status lemoe_op_silu_fwd(lemoe_device *device, lemoe_tensor x, lemoe_tensor y) LEMOE_MUST_CHECK;
lemoe_status lemoe_op_silu_bwd(lemoe_device *device, lemoe_tensor dy, lemoe_tensor x, lemoe_tensor dx) LEMOE_MUST_CHECK;
/* act = silu(gate) * up, all [n_tok, d_ff]; backward gives d_gate and d_up (either may be the storage of d_act, where
 * it is fp32). act may be bf16, as may d_gate and d_up, both: the fp32 result rounded. */
lemoe_status lemoe_op_swiglu_fwd(lemoe_device *device, lemoe_tensor gate, lemoe_tensor up,
                                 lemoe_tensor act) LEMOE_MUST_CHECK;
lemoe_status lemoe_op_swiglu_bwd(lemoe_device *device, lemoe_tensor d_act, lemoe_tensor gate, lemoe_tensor up,
                                 lemoe_tensor d_gate, lemoe_tensor d_up) LEMOE_MUST_CHECK;

/* ---- normalisation, position, embedding -------------------------------------------------------------------------- */

/* y = x / rms(x) * w, rms over d_model with eps; inv_rms[n_tok] is kept for the backward. x, y [n_tok, d_model]. y may
 * be bf16: the fp32 result rounded. */
lemoe_status lemoe_op_rmsnorm_fwd(lemoe_device *device, lemoe_tensor x, lemoe_tensor w, float eps, lemoe_tensor y,
                                  lemoe_tensor inv_rms) LEMOE_MUST_CHECK;
/* dx += (gradient of the above with respect to x): accumulates, since the residual path is already in dx. */
lemoe_status lemoe_op_rmsnorm_bwd(lemoe_device *device, lemoe_tensor dy, lemoe_tensor x, lemoe_tensor w,
                                  lemoe_tensor inv_rms, lemoe_tensor dx) LEMOE_MUST_CHECK;
/* Rotates the halves of each head (Hugging Face convention) in place: x[n_tok, n_head, d_head], position[n_tok] int32,
 * inv_freq[d_head/2]. sign +1 forward, -1 backward. */
lemoe_status lemoe_op_rope(lemoe_device *device, lemoe_tensor x, lemoe_tensor position, lemoe_tensor inv_freq,
                           int sign) LEMOE_MUST_CHECK;
/* y[i] = table[id[i] - row_begin], or zeros where another rank holds that row. table: any float type; y fp32. */
lemoe_status lemoe_op_embed_fwd(lemoe_device *device, lemoe_tensor id, lemoe_tensor table, int64_t row_begin,
                                lemoe_tensor y) LEMOE_MUST_CHECK;

/* ---- attention --------------------------------------------------------------------------------------------------- */

/* Causal attention inside each packed sequence: sequence s holds rows [seq_start[s], seq_start[s+1]). Grouped heads:
 * query head h uses key/value head h / (n_head / n_kv). window > 0: a token sees itself and the window - 1 tokens
 * before it. */
typedef struct lemoe_attn_args {
    lemoe_tensor q;           /* [n_tok, n_head, d_head] */
    lemoe_tensor k, v;        /* [n_tok, n_kv, d_head] */
    lemoe_tensor out;         /* [n_tok, n_head, d_head] */
    lemoe_tensor log_sum_exp; /* [n_head, n_tok], written forward, read backward */
    lemoe_tensor seq_start;   /* [n_seq + 1] int32 */
    int64_t first_row;        /* where seq_start has the first of the n_tok rows; else than 0 for part of a pack */
    int64_t max_seq;          /* longest sequence of the pack */
    int64_t window;           /* 0: no limit */
    float scale;              /* 1 / sqrt(d_head) */
    lemoe_tensor d_out, dq, dk, dv; /* backward only; dk and dv are written, not accumulated */
} lemoe_attn_args;
lemoe_status lemoe_op_attn_fwd(lemoe_device *device, const lemoe_attn_args *args) LEMOE_MUST_CHECK;
lemoe_status lemoe_op_attn_bwd(lemoe_device *device, const lemoe_attn_args *args) LEMOE_MUST_CHECK;

/* ---- loss over a vocabulary split by rows, in local pieces (the caller reduces between them) ----------------------
 */

/* row_max[n] and row_arg[n] (int32, global id: row_begin + lowest index of the maximum) of logits[n, n_vocab_local]. */
lemoe_status lemoe_op_xent_rowmax(lemoe_device *device, lemoe_tensor logits, int64_t row_begin, lemoe_tensor row_max,
                                  lemoe_tensor row_arg) LEMOE_MUST_CHECK;
/* sum[n] = sum_j exp(logits - row_max);  label_logit[n] = logits[label - row_begin], 0 where the label is foreign. */
lemoe_status lemoe_op_xent_rowsum(lemoe_device *device, lemoe_tensor logits, lemoe_tensor row_max, lemoe_tensor label,
                                  int64_t row_begin, lemoe_tensor sum, lemoe_tensor label_logit) LEMOE_MUST_CHECK;
/* In place: logits = weight[i] * (exp(logits - row_max) / sum - onehot(label)), the gradient of weighted NLL. */
lemoe_status lemoe_op_xent_bwd(lemoe_device *device, lemoe_tensor logits, lemoe_tensor row_max, lemoe_tensor sum,
                               lemoe_tensor label, lemoe_tensor weight, int64_t row_begin) LEMOE_MUST_CHECK;

/* ---- routing and experts ----------------------------------------------------------------------------------------- */

/* y[i] = mean of x rows [begin[i], end[i]) (int32 indices); an empty range gives zeros. x [n_tok,d], y [n,d]. */
lemoe_status lemoe_op_seg_mean(lemoe_device *device, lemoe_tensor x, lemoe_tensor begin, lemoe_tensor end,
                               lemoe_tensor y) LEMOE_MUST_CHECK;
/* p[n, n_expert] = softmax(z); index[n, top_k] (int32) the largest entries, in falling order, ties to the lower index.
 */
lemoe_status lemoe_op_topk_softmax_fwd(lemoe_device *device, lemoe_tensor z, lemoe_tensor p,
                                       lemoe_tensor index) LEMOE_MUST_CHECK;
/* dz = p * (dp - sum_j p_j dp_j): the full softmax Jacobian; dp is 0 where an expert was not selected. dz may be dp. */
lemoe_status lemoe_op_softmax_bwd(lemoe_device *device, lemoe_tensor p, lemoe_tensor dp,
                                  lemoe_tensor dz) LEMOE_MUST_CHECK;
/* y[i] = x[row[i]] (row int32) and y[row[i]] += weight[i] * x[i] (weight may have data NULL: 1). Rows of one call to
 * scatter are distinct. Each is the other's backward. What is gathered may be bf16, x and y alike. */
lemoe_status lemoe_op_rows_gather(lemoe_device *device, lemoe_tensor x, lemoe_tensor row,
                                  lemoe_tensor y) LEMOE_MUST_CHECK;
lemoe_status lemoe_op_rows_scatter_add(lemoe_device *device, lemoe_tensor x, lemoe_tensor row, lemoe_tensor weight,
                                       lemoe_tensor y) LEMOE_MUST_CHECK;
/* x[i] *= weight[i];  dot[i] = <a[i], b[i]>. [n, d] and [n]. */
lemoe_status lemoe_op_rows_scale(lemoe_device *device, lemoe_tensor weight, lemoe_tensor x) LEMOE_MUST_CHECK;
lemoe_status lemoe_op_row_dot(lemoe_device *device, lemoe_tensor a, lemoe_tensor b, lemoe_tensor dot) LEMOE_MUST_CHECK;

/* ---- optimiser, guards ------------------------------------------------------------------------------------------- */

/* *out = sum of squares in double, fixed order (host value). *out = number of elements that are NaN or infinite. */
lemoe_status lemoe_op_sumsq(lemoe_device *device, lemoe_tensor x, double *out) LEMOE_MUST_CHECK;
/* total[1] (fp64, on the device) += that sum: for several tensors in a row without waiting for each. */
lemoe_status lemoe_op_sumsq_add(lemoe_device *device, lemoe_tensor x, lemoe_tensor total) LEMOE_MUST_CHECK;
lemoe_status lemoe_op_count_nonfinite(lemoe_device *device, lemoe_tensor x, int64_t *out) LEMOE_MUST_CHECK;
/* AdamW (Loshchilov & Hutter 2019, as torch.optim.AdamW): g = grad_scale * grad; m, v moments; step counts from 1;
 * w -= lr * weight_decay * w;  w -= lr * (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) + eps). */
typedef struct lemoe_adamw_args {
    lemoe_tensor w, grad, m, v;
    float lr, beta1, beta2, eps, weight_decay, grad_scale;
    int64_t step;
} lemoe_adamw_args;
lemoe_status lemoe_op_adamw(lemoe_device *device, const lemoe_adamw_args *args) LEMOE_MUST_CHECK;
/* x = mean 0, standard deviation std, drawn by global element: x is the block of rows [row_begin, +rows) and columns
 * [column_begin, +columns) of a matrix with n_columns columns, so shards of any split hold the same matrix. */
typedef struct lemoe_fill_args {
    lemoe_tensor x;
    lemoe_rng rng;
    float std;
    int64_t row_begin, column_begin, n_columns;
} lemoe_fill_args;
lemoe_status lemoe_op_fill_normal(lemoe_device *device, const lemoe_fill_args *args) LEMOE_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif

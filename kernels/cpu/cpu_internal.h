/* Private to kernels/cpu: what the op families share. Each family is one file; cpu_device.c lists them in the table. */
#ifndef KERNELS_CPU_CPU_INTERNAL_H
#define KERNELS_CPU_CPU_INTERNAL_H

#include "kernels/ops_table.h"

#include <math.h>
#include <string.h>

/* The CPU's own state: scratch for widened weight panels and for attention scores, grown on demand and kept. */
typedef struct cpu_state {
    float *panel, *scores;
    int64_t panel_capacity, scores_capacity;
} cpu_state;

static inline cpu_state *cpu_state_of(lemoe_device *device) { return device->state; }

/* Rows and columns of a tensor seen as a matrix. */
static inline int64_t cpu_rows(lemoe_tensor t) { return t.shape[0]; }
static inline int64_t cpu_columns(lemoe_tensor t) { return t.shape[0] ? lemoe_tensor_count(&t) / t.shape[0] : 0; }
static inline float *cpu_f32(lemoe_tensor t) { return t.data; }
static inline int32_t *cpu_i32(lemoe_tensor t) { return t.data; }

/* exp as 2^k * p(r): a polynomial that the compiler vectorises, where libm's expf is a call per element. Relative error below
 * 2e-7 (tests/ops). Underflows to 0 below -87, as softmax wants. */
static inline float cpu_exp(float x) {
    float clamped = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    float k = (clamped * 1.44269504f + 12582912.0f) - 12582912.0f; /* round to nearest by the magic number 1.5 * 2^23 */
    float r = clamped - k * 0.693359375f - k * -2.12194440e-4f;   /* ln 2 in two parts */
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    union {
        int32_t bits;
        float value;
    } scale = {((int32_t)k + 127) << 23};
    return x < -87.0f ? 0.0f : p * scale.value;
}
static inline float cpu_sigmoid(float x) { return 1.0f / (1.0f + cpu_exp(-x)); }

/* Whether a loop over n elements is worth waking threads for. */
enum { CPU_PARALLEL_ELEMENTS = 1 << 16 };

/* Families. */
lemoe_status cpu_matmul(lemoe_device *device, const lemoe_matmul_args *args);
void cpu_matmul_set_threads(int n_threads);
const char *cpu_matmul_library(void);
/* c[m,n] = alpha op(a) op(b) + beta c with row strides: for attention's small products. */
void cpu_gemm(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda,
              const float *b, int64_t ldb, float beta, float *c, int64_t ldc);

lemoe_status cpu_cast(lemoe_device *device, lemoe_tensor from, lemoe_tensor to);
lemoe_status cpu_axpy(lemoe_device *device, float a, lemoe_tensor x, lemoe_tensor y);
lemoe_status cpu_scale(lemoe_device *device, float a, lemoe_tensor x);
lemoe_status cpu_silu_fwd(lemoe_device *device, lemoe_tensor x, lemoe_tensor y);
lemoe_status cpu_silu_bwd(lemoe_device *device, lemoe_tensor dy, lemoe_tensor x, lemoe_tensor dx);
lemoe_status cpu_swiglu_fwd(lemoe_device *device, lemoe_tensor gate, lemoe_tensor up, lemoe_tensor act);
lemoe_status cpu_swiglu_bwd(lemoe_device *device, lemoe_tensor d_act, lemoe_tensor gate, lemoe_tensor up,
                            lemoe_tensor d_gate, lemoe_tensor d_up);

lemoe_status cpu_rmsnorm_fwd(lemoe_device *device, lemoe_tensor x, lemoe_tensor w, float eps, lemoe_tensor y,
                             lemoe_tensor inv_rms);
lemoe_status cpu_rmsnorm_bwd(lemoe_device *device, lemoe_tensor dy, lemoe_tensor x, lemoe_tensor w, lemoe_tensor inv_rms,
                             lemoe_tensor dx);
lemoe_status cpu_rope(lemoe_device *device, lemoe_tensor x, lemoe_tensor position, lemoe_tensor inv_freq, int sign);
lemoe_status cpu_embed_fwd(lemoe_device *device, lemoe_tensor id, lemoe_tensor table, int64_t row_begin, lemoe_tensor y);

lemoe_status cpu_attn_fwd(lemoe_device *device, const lemoe_attn_args *args);
lemoe_status cpu_attn_bwd(lemoe_device *device, const lemoe_attn_args *args);

lemoe_status cpu_xent_rowmax(lemoe_device *device, lemoe_tensor logits, int64_t row_begin, lemoe_tensor row_max,
                             lemoe_tensor row_arg);
lemoe_status cpu_xent_rowsum(lemoe_device *device, lemoe_tensor logits, lemoe_tensor row_max, lemoe_tensor label,
                             int64_t row_begin, lemoe_tensor sum, lemoe_tensor label_logit);
lemoe_status cpu_xent_bwd(lemoe_device *device, lemoe_tensor logits, lemoe_tensor row_max, lemoe_tensor sum,
                          lemoe_tensor label, lemoe_tensor weight, int64_t row_begin);

lemoe_status cpu_seg_mean(lemoe_device *device, lemoe_tensor x, lemoe_tensor begin, lemoe_tensor end, lemoe_tensor y);
lemoe_status cpu_topk_softmax_fwd(lemoe_device *device, lemoe_tensor z, lemoe_tensor p, lemoe_tensor index);
lemoe_status cpu_softmax_bwd(lemoe_device *device, lemoe_tensor p, lemoe_tensor dp, lemoe_tensor dz);
lemoe_status cpu_rows_gather(lemoe_device *device, lemoe_tensor x, lemoe_tensor row, lemoe_tensor y);
lemoe_status cpu_rows_scatter_add(lemoe_device *device, lemoe_tensor x, lemoe_tensor row, lemoe_tensor weight, lemoe_tensor y);
lemoe_status cpu_rows_scale(lemoe_device *device, lemoe_tensor weight, lemoe_tensor x);
lemoe_status cpu_row_dot(lemoe_device *device, lemoe_tensor a, lemoe_tensor b, lemoe_tensor dot);

lemoe_status cpu_sumsq(lemoe_device *device, lemoe_tensor x, double *out);
lemoe_status cpu_count_nonfinite(lemoe_device *device, lemoe_tensor x, int64_t *out);
lemoe_status cpu_adamw(lemoe_device *device, const lemoe_adamw_args *args);
lemoe_status cpu_fill_normal(lemoe_device *device, const lemoe_fill_args *args);

#endif

/*
 * Private to kernels/cpu: what the op families share. Each family is one file; cpu_device.c lists them in the table.
 *
 * Loops over elements are plain C in a function of their own, marked CPU_LOOP, and run through cpu_for. Floating-point
 * contraction is off (kernels/CMakeLists.txt), so an elementwise result has the same bits whatever the vector width,
 * the thread count or the row it sits in; only sums inside a row depend on the instruction set, which the domain names.
 */
#ifndef KERNELS_CPU_CPU_INTERNAL_H
#define KERNELS_CPU_CPU_INTERNAL_H

#include "kernels/ops_table.h"

#include <math.h>
#include <string.h>

/* Compiled for AVX2 as well as for the baseline, chosen when the program is loaded: measured 2.6 times the speed for
 * loops with exp, 1.7 for the optimiser. AVX-512 is left out: it gave nothing more that could be measured or tested. */
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__)
#define CPU_LOOP __attribute__((target_clones("avx2", "default")))
#else
#define CPU_LOOP
#endif

/* ---- the CPU ---- */

/* Whether it has instructions that multiply bf16 (AVX512_BF16; AMX comes with it). */
bool cpu_has_bf16(void);

/* ---- state ---- */

typedef struct cpu_scratch {
    float *data;
    int64_t capacity;
} cpu_scratch;

/* Cosines and sines of one set of frequencies at positions 0 .. n_position - 1, kept between calls. */
typedef struct cpu_rope_table {
    cpu_scratch inv_freq, turn; /* turn[position][cos | sin][half] */
    int64_t half, n_position;
} cpu_rope_table;

/* The device's own state: scratch grown on demand and kept. */
typedef struct cpu_state {
    cpu_scratch panel, scores; /* a widened weight panel, or an operand rounded to bf16; attention's scores */
    cpu_rope_table rope;
} cpu_state;

static inline cpu_state *cpu_state_of(lemoe_device *device) { return device->state; }
/* Local. Makes room for n elements, contents lost. Errors: NOMEM. */
lemoe_status cpu_reserve(cpu_scratch *scratch, int64_t n) LEMOE_MUST_CHECK;

/* ---- tensors seen as matrices ---- */

static inline int64_t cpu_rows(lemoe_tensor t) { return t.shape[0]; }
static inline int64_t cpu_columns(lemoe_tensor t) { return t.shape[0] ? lemoe_tensor_count(&t) / t.shape[0] : 0; }
static inline float *cpu_f32(lemoe_tensor t) { return t.data; }
static inline int32_t *cpu_i32(lemoe_tensor t) { return t.data; }
static inline uint16_t *cpu_bf16(lemoe_tensor t) { return t.data; }

/* ---- threads ---- */

/* Computes items [begin, end) of what args describe; i_thread picks its scratch. */
typedef void (*cpu_loop)(const void *args, int i_thread, int64_t begin, int64_t end);
/* Local. Runs the loop over n items, split in one contiguous piece a thread; item_cost is about the item's number of
 * elements. Small work stays on the calling thread. The loop's result must not depend on the split. */
void cpu_for(const lemoe_device *device, int64_t n, int64_t item_cost, cpu_loop loop, const void *args);

/* ---- arithmetic that the compiler vectorises ---- */

/* exp as 2^k * p(r), where libm's expf is a call per element. Relative error below 2e-7 (tests/ops); 0 below -87, as
 * softmax wants; capped at exp(88); NaN stays NaN. k is taken from the bits of the sum that rounds it: no conversion of
 * a float to an integer, which is undefined for NaN. */
static inline float cpu_exp(float x) {
    union {
        float value;
        uint32_t bits;
    } k, scale;
    float clamped = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    k.value = clamped * 1.44269504f + 12582912.0f; /* 1.5 * 2^23: the sum is rounded to an integer */
    float whole = k.value - 12582912.0f;
    float r = clamped - whole * 0.693359375f - whole * -2.12194440e-4f; /* ln 2 in two parts */
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    scale.bits = (k.bits << 23) + 0x3f800000u;
    return x < -87.0f ? 0.0f : p * scale.value;
}

static inline float cpu_sigmoid(float x) { return 1.0f / (1.0f + cpu_exp(-x)); }

/* To nearest even, NaN stays NaN: as kernels/base/dtype.c, without a branch. */
static inline uint16_t cpu_to_bf16(float x) {
    union {
        float value;
        uint32_t bits;
    } wide = {x};
    uint32_t nearest = (wide.bits + 0x7fffu + (wide.bits >> 16 & 1u)) >> 16, nan = wide.bits >> 16 | 0x40u;
    return (uint16_t)((wide.bits & 0x7fffffffu) > 0x7f800000u ? nan : nearest);
}

/* Sums: fp32 within blocks, which vectorises, and double over the blocks, so that long rows lose nothing. */
enum { CPU_SUM_BLOCK = 256 };

static inline double cpu_dot(const float *a, const float *b, int64_t n) {
    double total = 0;
    for (int64_t begin = 0; begin < n; begin += CPU_SUM_BLOCK) {
        int64_t end = begin + CPU_SUM_BLOCK < n ? begin + CPU_SUM_BLOCK : n;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = begin; i < end; i++) sum += a[i] * b[i];
        total += (double)sum;
    }
    return total;
}

/* ---- matrix products (cpu_matmul.c) and conversions (cpu_convert.c), used by other families ---- */

/* c[m,n] = alpha op(a) op(b) + beta c with row strides, by OpenBLAS: also for small products inside parallel regions.
 * beta = 0 overwrites. */
typedef struct cpu_gemm_args {
    bool trans_a, trans_b;
    int64_t m, n, k, lda, ldb, ldc;
    float alpha, beta;
    const float *a, *b;
    float *c;
} cpu_gemm_args;
void cpu_gemm(const cpu_gemm_args *args);
/* Gives the library this device's thread count, unless it has it. Before products, outside parallel regions. */
void cpu_matmul_threads(const lemoe_device *device);
/* "OpenBLAS 0.3.21 (Zen), oneDNN 2.6.3 (avx2)" into text. */
void cpu_matmul_library(char *text, size_t text_bytes);

/* n elements of a floating type to fp32, by the device's threads; exact. */
void cpu_widen(const lemoe_device *device, lemoe_dtype from, const void *source, int64_t n, float *out);
/* out = factor x in bf16, to nearest even, by the device's threads; NaN stays NaN. */
void cpu_round_bf16(const lemoe_device *device, float factor, const float *x, int64_t n, uint16_t *out);

/* What this process may use of the node: proc is "/proc" and cgroup "/sys/fs/cgroup" but in tests. */
void cpu_memory_info(const char *proc, const char *cgroup, size_t *free_bytes, size_t *total_bytes);

/* ---- the families, as ops_table.h describes them ---- */

lemoe_status cpu_matmul(lemoe_device *device, const lemoe_matmul_args *args);

lemoe_status cpu_cast(lemoe_device *device, lemoe_tensor from, lemoe_tensor to);
lemoe_status cpu_axpy(lemoe_device *device, float a, lemoe_tensor x, lemoe_tensor y);
lemoe_status cpu_scale(lemoe_device *device, float a, lemoe_tensor x);
lemoe_status cpu_clamp_around(lemoe_device *device, lemoe_tensor reference, float limit, lemoe_tensor x);
lemoe_status cpu_silu_fwd(lemoe_device *device, lemoe_tensor x, lemoe_tensor y);
lemoe_status cpu_silu_bwd(lemoe_device *device, lemoe_tensor dy, lemoe_tensor x, lemoe_tensor dx);
lemoe_status cpu_swiglu_fwd(lemoe_device *device, lemoe_tensor gate, lemoe_tensor up, lemoe_tensor act);
lemoe_status cpu_swiglu_bwd(lemoe_device *device, lemoe_tensor d_act, lemoe_tensor gate, lemoe_tensor up,
                            lemoe_tensor d_gate, lemoe_tensor d_up);

lemoe_status cpu_rmsnorm_fwd(lemoe_device *device, lemoe_tensor x, lemoe_tensor w, float eps, lemoe_tensor y,
                             lemoe_tensor inv_rms);
lemoe_status cpu_rmsnorm_bwd(lemoe_device *device, lemoe_tensor dy, lemoe_tensor x, lemoe_tensor w,
                             lemoe_tensor inv_rms, lemoe_tensor dx);
lemoe_status cpu_rope(lemoe_device *device, lemoe_tensor x, lemoe_tensor position, lemoe_tensor inv_freq, int sign);
lemoe_status cpu_embed_fwd(lemoe_device *device, lemoe_tensor id, lemoe_tensor table, int64_t row_begin,
                           lemoe_tensor y);

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
lemoe_status cpu_rows_scatter_add(lemoe_device *device, lemoe_tensor x, lemoe_tensor row, lemoe_tensor weight,
                                  lemoe_tensor y);
lemoe_status cpu_rows_scale(lemoe_device *device, lemoe_tensor weight, lemoe_tensor x);
lemoe_status cpu_row_dot(lemoe_device *device, lemoe_tensor a, lemoe_tensor b, lemoe_tensor dot);

lemoe_status cpu_sumsq(lemoe_device *device, lemoe_tensor x, double *out);
lemoe_status cpu_sumsq_add(lemoe_device *device, lemoe_tensor x, lemoe_tensor total);
lemoe_status cpu_count_nonfinite(lemoe_device *device, lemoe_tensor x, int64_t *out);
lemoe_status cpu_adamw(lemoe_device *device, const lemoe_adamw_args *args);
lemoe_status cpu_fill_normal(lemoe_device *device, const lemoe_fill_args *args);

#endif

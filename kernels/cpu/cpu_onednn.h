/*
 * Private to kernels/cpu: matrix products by oneDNN, where the build has it (CMake: LEMOE_ONEDNN). cpu_onednn.c is the
 * library; cpu_onednn_none.c stands in its place in a build without. Local, all of it.
 */
#ifndef KERNELS_CPU_CPU_ONEDNN_H
#define KERNELS_CPU_CPU_ONEDNN_H

#include "kernels/cpu/cpu_internal.h"

bool cpu_onednn_is_there(void);
/* "oneDNN 2.6.3 (avx512_core_bf16)", the instruction set it may use, which its own environment variables can narrow;
 * "" without it. */
void cpu_onednn_library(char *text, size_t text_bytes);

/* c = alpha op(a) op(b) + beta c, fp32. Errors: NOMEM and DEVICE, as the library says; UNSUPPORTED without it. */
lemoe_status cpu_onednn_gemm(const cpu_gemm_args *args) LEMOE_MUST_CHECK;

/* Whether bf16 is multiplied in hardware here. Errors: UNSUPPORTED, saying what is lacking: the library or the CPU. */
lemoe_status cpu_onednn_check_bf16(void) LEMOE_MUST_CHECK;
/* The same product of bf16 operands, accumulated and stored in fp32; alpha is 1 and beta 0 or 1. */
typedef struct cpu_bf16_args {
    bool trans_a, trans_b;
    int64_t m, n, k, lda, ldb, ldc;
    bool accumulate;
    const uint16_t *a, *b;
    float *c;
} cpu_bf16_args;
lemoe_status cpu_onednn_gemm_bf16(const cpu_bf16_args *args) LEMOE_MUST_CHECK;

#endif

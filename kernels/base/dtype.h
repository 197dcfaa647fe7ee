/* Element types of tensors, and the conversions between them that loaders and tests need on the host. */
#ifndef KERNELS_BASE_DTYPE_H
#define KERNELS_BASE_DTYPE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum lemoe_dtype {
    LEMOE_F32 = 0,
    LEMOE_BF16,
    LEMOE_F16,
    LEMOE_F64,
    LEMOE_I32,
    LEMOE_I64,
    LEMOE_DTYPE_COUNT
} lemoe_dtype;

/* How products with a frozen bf16 weight are computed on the CPU: the weight widened to fp32 (exact), or the other
 * operand rounded to bf16; sums are fp32 either way. */
typedef enum lemoe_products { LEMOE_PRODUCTS_F32 = 0, LEMOE_PRODUCTS_BF16 } lemoe_products;

size_t lemoe_dtype_bytes(lemoe_dtype dtype);
/* "fp32", "bf16", "fp16", "fp64", "int32", "int64". */
const char *lemoe_dtype_name(lemoe_dtype dtype);

/* Local. n elements of a floating type to fp32 and back; round to nearest even, NaN stays NaN. */
void lemoe_dtype_to_f32(lemoe_dtype from, const void *source, int64_t n, float *out);
void lemoe_dtype_from_f32(lemoe_dtype to, const float *source, int64_t n, void *out);
/* Local. Index of the first of n values of fp32, bf16 or fp16 that is infinite or NaN, -1 when there is none (or for
 * other types). values may lie anywhere, aligned or not. */
int64_t lemoe_dtype_find_nonfinite(lemoe_dtype dtype, const void *values, int64_t n);

#ifdef __cplusplus
}
#endif
#endif

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

/* How products are computed where weights are stored as bf16; sums are fp32 either way.
 * F32: in fp32, bf16 weights widened (exact).
 * BF16: in bf16. The CPU rounds the other operand of a bf16 weight and leaves products of fp32 alone; a GPU rounds
 * those as well, what trains and its gradients included, but for those that ask to be exact (lemoe_matmul_args). */
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

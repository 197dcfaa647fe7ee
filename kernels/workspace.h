/*
 * Private to kernels/: the room that operations of "cuda" take beside their arguments (lemoe_device_reserve_workspace),
 * from shapes and types alone. The backend takes it by these functions, and a device that plans counts it by them.
 */
#ifndef KERNELS_WORKSPACE_H
#define KERNELS_WORKSPACE_H

#include "kernels/ops_table.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a product multiplies, and the bytes of a and of b in that type where they are stored in another; 0: as they are.
 * a lies in front of b. */
typedef struct lemoe_multiplied {
    lemoe_dtype type; /* of both operands; LEMOE_F16: fp32 of which the library reads 11 significant bits (TF32) */
    size_t a_bytes, b_bytes;
} lemoe_multiplied;

static inline size_t lemoe_workspace_aligned(size_t n_bytes) {
    const size_t piece = LEMOE_DEVICE_ALIGNMENT;
    return (n_bytes + piece - 1) / piece * piece;
}

static inline lemoe_multiplied lemoe_workspace_multiplied(const lemoe_matmul_args *args, lemoe_products products) {
    lemoe_dtype stored = args->b.dtype;
    bool rounds = products == LEMOE_PRODUCTS_BF16 && stored != LEMOE_F16 && !args->exact;
    lemoe_multiplied out = {LEMOE_F32, 0, 0};
    if (rounds) out.type = LEMOE_BF16;
    if (stored == LEMOE_F16 && !args->exact) out.type = LEMOE_F16;
    if (rounds) out.a_bytes = lemoe_workspace_aligned((size_t)lemoe_tensor_count(&args->a) * 2);
    if (rounds ? stored == LEMOE_F32 : stored != LEMOE_F32)
        out.b_bytes = lemoe_workspace_aligned((size_t)lemoe_tensor_count(&args->b) * (rounds ? 2 : sizeof(float)));
    return out;
}

#ifdef __cplusplus
}
#endif
#endif

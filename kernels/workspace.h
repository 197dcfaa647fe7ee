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

static inline size_t lemoe_workspace_rounded(size_t n_bytes, size_t piece) {
    return (n_bytes + piece - 1) / piece * piece;
}
static inline size_t lemoe_workspace_aligned(size_t n_bytes) {
    return lemoe_workspace_rounded(n_bytes, LEMOE_DEVICE_ALIGNMENT);
}
/* It grows by whole megabytes, so that sizes settle soon. */
static inline size_t lemoe_workspace_grown(size_t n_bytes) { return lemoe_workspace_rounded(n_bytes, (size_t)1 << 20); }

static inline lemoe_multiplied lemoe_workspace_multiplied(const lemoe_matmul_args *args, lemoe_products products) {
    lemoe_dtype stored = args->b.dtype;
    bool rounds = lemoe_rounded_to(products, false, stored) == LEMOE_BF16 && !args->exact;
    lemoe_multiplied out = {LEMOE_F32, 0, 0};
    if (rounds) out.type = LEMOE_BF16;
    if (stored == LEMOE_F16 && !args->exact) out.type = LEMOE_F16;
    if (rounds && args->a.dtype == LEMOE_F32)
        out.a_bytes = lemoe_workspace_aligned((size_t)lemoe_tensor_count(&args->a) * 2);
    if (rounds ? stored == LEMOE_F32 : stored != LEMOE_F32)
        out.b_bytes = lemoe_workspace_aligned((size_t)lemoe_tensor_count(&args->b) * (rounds ? 2 : sizeof(float)));
    return out;
}

static inline size_t lemoe_workspace_matmul(const lemoe_matmul_args *args, lemoe_products products) {
    lemoe_multiplied how = lemoe_workspace_multiplied(args, products);
    return lemoe_tensor_count(&args->a) > 0 ? how.a_bytes + how.b_bytes : 0;
}

/* Of the backward: <d_out, out> of every row and head. */
static inline size_t lemoe_workspace_attn(const lemoe_attn_args *args) {
    if (!args->d_out.data || lemoe_tensor_count(&args->seq_start) <= 1) return 0;
    return (size_t)(args->q.shape[0] * args->q.shape[1]) * sizeof(float);
}

/* Sums over a whole tensor: of parts of so many elements, and in all. */
enum { LEMOE_WORKSPACE_PART = 4096 };
static inline int64_t lemoe_workspace_parts(int64_t n) { return (n + LEMOE_WORKSPACE_PART - 1) / LEMOE_WORKSPACE_PART; }
static inline size_t lemoe_workspace_sum(lemoe_tensor x) {
    return (size_t)(lemoe_workspace_parts(lemoe_tensor_count(&x)) + 1) * sizeof(double);
}

#ifdef __cplusplus
}
#endif
#endif

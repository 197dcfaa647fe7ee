/* Conversions of the element type, the widening of frozen weights first of all: written so that they vectorise. */
#include "kernels/cpu/cpu_internal.h"

typedef union float_bits {
    uint32_t bits;
    float value;
} float_bits;

typedef struct widen_args {
    const uint16_t *from;
    float *to;
} widen_args;

CPU_LOOP static void widen_bf16(const void *data, int i_thread, int64_t begin, int64_t end) {
    const widen_args *a = data;
    (void)i_thread;
    for (int64_t i = begin; i < end; i++) {
        float_bits wide = {(uint32_t)a->from[i] << 16};
        a->to[i] = wide.value;
    }
}

/* A half's bits, moved to where fp32 has them, read 2^-112 times the value, subnormals included; infinity and NaN need
 * the largest exponent put in. Exact, and no branch. */
CPU_LOOP static void widen_f16(const void *data, int i_thread, int64_t begin, int64_t end) {
    const widen_args *a = data;
    (void)i_thread;
    for (int64_t i = begin; i < end; i++) {
        uint32_t half = a->from[i], special = (half & 0x7c00u) == 0x7c00u ? 0x7f800000u : 0u;
        float_bits small = {(half & 0x7fffu) << 13};
        small.value *= 0x1p112f;
        small.bits |= special | (half & 0x8000u) << 16;
        a->to[i] = small.value;
    }
}

void cpu_widen(const lemoe_device *device, lemoe_dtype from, const void *source, int64_t n, float *out) {
    widen_args args = {source, out};
    if (from == LEMOE_BF16)
        cpu_for(device, n, 1, widen_bf16, &args);
    else if (from == LEMOE_F16)
        cpu_for(device, n, 1, widen_f16, &args);
    else
        lemoe_dtype_to_f32(from, source, n, out);
}

typedef struct round_args {
    float factor;
    const float *from;
    uint16_t *to;
} round_args;

CPU_LOOP static void round_bf16(const void *data, int i_thread, int64_t begin, int64_t end) {
    const round_args *a = data;
    (void)i_thread;
    for (int64_t i = begin; i < end; i++) a->to[i] = cpu_to_bf16(a->factor * a->from[i]);
}

void cpu_round_bf16(const lemoe_device *device, float factor, const float *x, int64_t n, uint16_t *out) {
    cpu_for(device, n, 1, round_bf16, &(round_args){factor, x, out});
}

lemoe_status cpu_cast(lemoe_device *device, lemoe_tensor from, lemoe_tensor to) {
    int64_t n = lemoe_tensor_count(&from);
    if (to.dtype == LEMOE_F32) {
        cpu_widen(device, from.dtype, from.data, n, to.data);
        return LEMOE_OK;
    }
    enum { CHUNK = 1024 };
    float chunk[CHUNK];
    for (int64_t i = 0; i < n; i += CHUNK) {
        int64_t count = n - i < CHUNK ? n - i : CHUNK;
        const char *source = (const char *)from.data + (size_t)i * lemoe_dtype_bytes(from.dtype);
        lemoe_dtype_to_f32(from.dtype, source, count, chunk);
        lemoe_dtype_from_f32(to.dtype, chunk, count, (char *)to.data + (size_t)i * lemoe_dtype_bytes(to.dtype));
    }
    return LEMOE_OK;
}

#include "kernels/base/dtype.h"

#include <stdbool.h>
#include <string.h>

static const struct {
    size_t bytes;
    const char *name;
} dtypes[LEMOE_DTYPE_COUNT] = {
    [LEMOE_F32] = {4, "fp32" },
      [LEMOE_BF16] = {2, "bf16" },
      [LEMOE_F16] = {2, "fp16" },
    [LEMOE_F64] = {8, "fp64" },
      [LEMOE_I32] = {4, "int32"},
      [LEMOE_I64] = {8, "int64"},
};

size_t lemoe_dtype_bytes(lemoe_dtype dtype) { return dtypes[dtype].bytes; }
const char *lemoe_dtype_name(lemoe_dtype dtype) { return dtypes[dtype].name; }

static float bits_to_f32(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint32_t f32_to_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float f16_to_f32(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16, exponent = (half >> 10) & 0x1fu, mantissa = half & 0x3ffu;
    if (exponent == 0) { /* zero or subnormal: the value is mantissa * 2^-24, exact in fp32 */
        float magnitude = (float)mantissa * 0x1p-24f;
        return bits_to_f32(f32_to_bits(magnitude) | sign);
    }
    if (exponent == 31) return bits_to_f32(sign | 0x7f800000u | (mantissa << 13));
    return bits_to_f32(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

static uint16_t f32_to_bf16(float value) {
    uint32_t bits = f32_to_bits(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((bits >> 16) | 0x40u);
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

static uint16_t f32_to_f16(float value) {
    uint32_t bits = f32_to_bits(value), sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
    if (magnitude >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u);
    if (magnitude < 0x38800000u) { /* below the smallest normal half: adding 0.5 rounds at 2^-24 */
        float shifted = bits_to_f32(magnitude) + 0.5f;
        return (uint16_t)(sign | (f32_to_bits(shifted) - 0x3f000000u));
    }
    uint32_t rounded = magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u);
    return (uint16_t)(sign | (rounded >> 13));
}

void lemoe_dtype_to_f32(lemoe_dtype from, const void *source, int64_t n, float *out) {
    const uint16_t *half = source;
    switch (from) {
    case LEMOE_F32: memcpy(out, source, (size_t)n * sizeof *out); break;
    case LEMOE_BF16:
        for (int64_t i = 0; i < n; i++) out[i] = bits_to_f32((uint32_t)half[i] << 16);
        break;
    case LEMOE_F16:
        for (int64_t i = 0; i < n; i++) out[i] = f16_to_f32(half[i]);
        break;
    case LEMOE_F64:
        for (int64_t i = 0; i < n; i++) out[i] = (float)((const double *)source)[i];
        break;
    default: break;
    }
}

void lemoe_dtype_from_f32(lemoe_dtype to, const float *source, int64_t n, void *out) {
    uint16_t *half = out;
    switch (to) {
    case LEMOE_F32: memcpy(out, source, (size_t)n * sizeof *source); break;
    case LEMOE_BF16:
        for (int64_t i = 0; i < n; i++) half[i] = f32_to_bf16(source[i]);
        break;
    case LEMOE_F16:
        for (int64_t i = 0; i < n; i++) half[i] = f32_to_f16(source[i]);
        break;
    case LEMOE_F64:
        for (int64_t i = 0; i < n; i++) ((double *)out)[i] = source[i];
        break;
    default: break;
    }
}

/* A value is not finite when all bits of its exponent are set. No branch inside: these loops vectorise, and what is
 * read is a whole model. */
static bool has_nonfinite_16(const unsigned char *bytes, int64_t n, uint16_t exponent) {
    uint16_t found = 0;
    for (int64_t i = 0; i < n; i++) {
        uint16_t bits;
        memcpy(&bits, bytes + 2 * i, sizeof bits);
        found |= (uint16_t)((bits & exponent) == exponent);
    }
    return found != 0;
}

static bool has_nonfinite_32(const unsigned char *bytes, int64_t n, uint32_t exponent) {
    uint32_t found = 0;
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, bytes + 4 * i, sizeof bits);
        found |= (uint32_t)((bits & exponent) == exponent);
    }
    return found != 0;
}

static bool has_nonfinite(lemoe_dtype dtype, const unsigned char *bytes, int64_t n) {
    switch (dtype) {
    case LEMOE_F32: return has_nonfinite_32(bytes, n, 0x7f800000);
    case LEMOE_BF16: return has_nonfinite_16(bytes, n, 0x7f80);
    case LEMOE_F16: return has_nonfinite_16(bytes, n, 0x7c00);
    default: return false;
    }
}

int64_t lemoe_dtype_find_nonfinite(lemoe_dtype dtype, const void *values, int64_t n) {
    const int64_t block = 4096, n_bytes = (int64_t)lemoe_dtype_bytes(dtype);
    const unsigned char *bytes = values;
    for (int64_t at = 0; at < n; at += block) {
        int64_t n_here = n - at < block ? n - at : block;
        if (!has_nonfinite(dtype, bytes + at * n_bytes, n_here)) continue;
        while (!has_nonfinite(dtype, bytes + at * n_bytes, 1)) at++;
        return at;
    }
    return -1;
}

/* Embedding rows, and the rotation that gives them a position (RoPE, Su et al. 2021; halves as Hugging Face pairs them). */
#include "kernels/cpu/cpu_internal.h"

lemoe_status cpu_embed_fwd(lemoe_device *device, lemoe_tensor id, lemoe_tensor table, int64_t row_begin, lemoe_tensor y) {
    (void)device;
    int64_t n = lemoe_tensor_count(&id), d = cpu_columns(y), rows = table.shape[0];
    size_t row_bytes = (size_t)d * lemoe_dtype_bytes(table.dtype);
    for (int64_t i = 0; i < n; i++) {
        int64_t row = cpu_i32(id)[i] - row_begin;
        float *to = cpu_f32(y) + i * d;
        if (row >= 0 && row < rows) lemoe_dtype_to_f32(table.dtype, (const char *)table.data + (size_t)row * row_bytes, d, to);
        else memset(to, 0, (size_t)d * sizeof *to);
    }
    return LEMOE_OK;
}

lemoe_status cpu_rope(lemoe_device *device, lemoe_tensor x, lemoe_tensor position, lemoe_tensor inv_freq, int sign) {
    int64_t n_tok = x.shape[0], n_head = x.shape[1], d_head = x.shape[2], half = d_head / 2;
    const float *frequency = cpu_f32(inv_freq);
#pragma omp parallel for num_threads(device->n_threads) if (device->n_threads > 1 && n_tok * n_head * d_head > CPU_PARALLEL_ELEMENTS)
    for (int64_t t = 0; t < n_tok; t++) {
        float *row = cpu_f32(x) + t * n_head * d_head;
        for (int64_t i = 0; i < half; i++) { /* one angle serves all heads */
            double angle = (double)cpu_i32(position)[t] * (double)frequency[i];
            float c = (float)cos(angle), s = (float)sign * (float)sin(angle);
            for (int64_t h = 0; h < n_head; h++) {
                float *low = row + h * d_head + i, *high = low + half, a = *low, b = *high;
                *low = a * c - b * s;
                *high = b * c + a * s;
            }
        }
    }
    return LEMOE_OK;
}

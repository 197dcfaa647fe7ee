/* Rows of the embedding table; rows that another rank holds are zeros, so that a sum over ranks is the embedding. */
#include "kernels/cpu/cpu_internal.h"

lemoe_status cpu_embed_fwd(lemoe_device *device, lemoe_tensor id, lemoe_tensor table, int64_t row_begin,
                           lemoe_tensor y) {
    (void)device;
    int64_t n = lemoe_tensor_count(&id), d = cpu_columns(y), rows = table.shape[0];
    size_t row_bytes = (size_t)d * lemoe_dtype_bytes(table.dtype);
    for (int64_t i = 0; i < n; i++) {
        int64_t row = cpu_i32(id)[i] - row_begin;
        float *to = cpu_f32(y) + i * d;
        if (row >= 0 && row < rows)
            lemoe_dtype_to_f32(table.dtype, (const char *)table.data + (size_t)row * row_bytes, d, to);
        else
            memset(to, 0, (size_t)d * sizeof *to);
    }
    return LEMOE_OK;
}

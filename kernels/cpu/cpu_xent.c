/* Cross entropy in local pieces, for a vocabulary split over ranks; tp_loss.c reduces between them. */
#include "kernels/cpu/cpu_internal.h"

lemoe_status cpu_xent_rowmax(lemoe_device *device, lemoe_tensor logits, int64_t row_begin, lemoe_tensor row_max,
                             lemoe_tensor row_arg) {
    (void)device;
    int64_t rows = cpu_rows(logits), n = cpu_columns(logits);
    for (int64_t r = 0; r < rows; r++) {
        const float *x = cpu_f32(logits) + r * n;
        int64_t best = 0;
        for (int64_t j = 1; j < n; j++)
            if (x[j] > x[best]) best = j;
        /* a rank without vocabulary rows never wins the maximum */
        cpu_f32(row_max)[r] = n ? x[best] : -INFINITY;
        cpu_i32(row_arg)[r] = (int32_t)(row_begin + best);
    }
    return LEMOE_OK;
}

lemoe_status cpu_xent_rowsum(lemoe_device *device, lemoe_tensor logits, lemoe_tensor row_max, lemoe_tensor label,
                             int64_t row_begin, lemoe_tensor sum, lemoe_tensor label_logit) {
    int64_t rows = cpu_rows(logits), n = cpu_columns(logits);
#pragma omp parallel for num_threads(device->n_threads) if (device->n_threads > 1 && rows * n > CPU_PARALLEL_ELEMENTS)
    for (int64_t r = 0; r < rows; r++) {
        const float *x = cpu_f32(logits) + r * n;
        float largest = cpu_f32(row_max)[r], total = 0;
        int64_t own = cpu_i32(label)[r] - row_begin;
#pragma omp simd reduction(+ : total)
        for (int64_t j = 0; j < n; j++) total += cpu_exp(x[j] - largest);
        cpu_f32(sum)[r] = total;
        cpu_f32(label_logit)[r] = own >= 0 && own < n ? x[own] : 0.0f;
    }
    return LEMOE_OK;
}

lemoe_status cpu_xent_bwd(lemoe_device *device, lemoe_tensor logits, lemoe_tensor row_max, lemoe_tensor sum, lemoe_tensor label,
                          lemoe_tensor weight, int64_t row_begin) {
    int64_t rows = cpu_rows(logits), n = cpu_columns(logits);
#pragma omp parallel for num_threads(device->n_threads) if (device->n_threads > 1 && rows * n > CPU_PARALLEL_ELEMENTS)
    for (int64_t r = 0; r < rows; r++) {
        float *x = cpu_f32(logits) + r * n, largest = cpu_f32(row_max)[r], w = cpu_f32(weight)[r];
        float factor = w / cpu_f32(sum)[r];
        int64_t own = cpu_i32(label)[r] - row_begin;
        for (int64_t j = 0; j < n; j++) x[j] = factor * cpu_exp(x[j] - largest);
        if (own >= 0 && own < n) x[own] -= w;
    }
    return LEMOE_OK;
}

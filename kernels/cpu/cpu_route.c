/* What routing and experts need: means over token ranges, softmax with its largest entries, rows moved and weighted. */
#include "kernels/cpu/cpu_internal.h"

lemoe_status cpu_seg_mean(lemoe_device *device, lemoe_tensor x, lemoe_tensor begin, lemoe_tensor end, lemoe_tensor y) {
    (void)device;
    int64_t n = lemoe_tensor_count(&begin), d = cpu_columns(y);
    for (int64_t i = 0; i < n; i++) {
        int64_t first = cpu_i32(begin)[i], last = cpu_i32(end)[i];
        float *to = cpu_f32(y) + i * d;
        memset(to, 0, (size_t)d * sizeof *to);
        for (int64_t r = first; r < last; r++)
            for (int64_t c = 0; c < d; c++) to[c] += cpu_f32(x)[r * d + c];
        for (int64_t c = 0; c < d && last > first; c++) to[c] /= (float)(last - first);
    }
    return LEMOE_OK;
}

/* The k largest in falling order, ties to the lower index; k is small. */
static void largest(const float *p, int64_t n, int64_t k, int32_t *index) {
    for (int64_t i = 0; i < k; i++) {
        int64_t best = -1;
        for (int64_t j = 0; j < n; j++) {
            bool taken = false;
            for (int64_t t = 0; t < i; t++) taken = taken || index[t] == j;
            if (!taken && (best < 0 || p[j] > p[best])) best = j;
        }
        index[i] = (int32_t)best;
    }
}

lemoe_status cpu_topk_softmax_fwd(lemoe_device *device, lemoe_tensor z, lemoe_tensor p, lemoe_tensor index) {
    (void)device;
    int64_t rows = cpu_rows(z), n = cpu_columns(z), k = cpu_columns(index);
    for (int64_t r = 0; r < rows; r++) {
        const float *from = cpu_f32(z) + r * n;
        float *to = cpu_f32(p) + r * n, top = from[0], sum = 0;
        for (int64_t j = 1; j < n; j++) top = from[j] > top ? from[j] : top;
        for (int64_t j = 0; j < n; j++) sum += to[j] = expf(from[j] - top);
        for (int64_t j = 0; j < n; j++) to[j] /= sum;
        largest(from, n, k, cpu_i32(index) + r * k);
    }
    return LEMOE_OK;
}

lemoe_status cpu_softmax_bwd(lemoe_device *device, lemoe_tensor p, lemoe_tensor dp, lemoe_tensor dz) {
    (void)device;
    int64_t rows = cpu_rows(p), n = cpu_columns(p);
    for (int64_t r = 0; r < rows; r++) {
        const float *probability = cpu_f32(p) + r * n, *gradient = cpu_f32(dp) + r * n;
        float *to = cpu_f32(dz) + r * n, dot = 0;
        for (int64_t j = 0; j < n; j++) dot += probability[j] * gradient[j];
        for (int64_t j = 0; j < n; j++) to[j] = probability[j] * (gradient[j] - dot);
    }
    return LEMOE_OK;
}

lemoe_status cpu_rows_gather(lemoe_device *device, lemoe_tensor x, lemoe_tensor row, lemoe_tensor y) {
    (void)device;
    int64_t n = lemoe_tensor_count(&row), d = cpu_columns(y);
    for (int64_t i = 0; i < n; i++)
        memcpy(cpu_f32(y) + i * d, cpu_f32(x) + cpu_i32(row)[i] * d, (size_t)d * sizeof(float));
    return LEMOE_OK;
}

lemoe_status cpu_rows_scatter_add(lemoe_device *device, lemoe_tensor x, lemoe_tensor row, lemoe_tensor weight, lemoe_tensor y) {
    (void)device;
    int64_t n = cpu_rows(x), d = cpu_columns(x);
    for (int64_t i = 0; i < n; i++) {
        const float *from = cpu_f32(x) + i * d;
        float *to = cpu_f32(y) + cpu_i32(row)[i] * d, w = weight.data ? cpu_f32(weight)[i] : 1.0f;
        for (int64_t c = 0; c < d; c++) to[c] += w * from[c];
    }
    return LEMOE_OK;
}

lemoe_status cpu_rows_scale(lemoe_device *device, lemoe_tensor weight, lemoe_tensor x) {
    (void)device;
    int64_t rows = cpu_rows(x), d = cpu_columns(x);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < d; c++) cpu_f32(x)[r * d + c] *= cpu_f32(weight)[r];
    return LEMOE_OK;
}

lemoe_status cpu_row_dot(lemoe_device *device, lemoe_tensor a, lemoe_tensor b, lemoe_tensor dot) {
    (void)device;
    int64_t rows = cpu_rows(a), d = cpu_columns(a);
    for (int64_t r = 0; r < rows; r++) {
        const float *x = cpu_f32(a) + r * d, *y = cpu_f32(b) + r * d;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t c = 0; c < d; c++) sum += x[c] * y[c];
        cpu_f32(dot)[r] = sum;
    }
    return LEMOE_OK;
}

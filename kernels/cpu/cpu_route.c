/* What routing and experts need: means over token ranges, softmax with its largest entries, rows moved and weighted. */
#include "kernels/cpu/cpu_internal.h"

lemoe_status cpu_seg_mean(lemoe_device *device, lemoe_tensor x, lemoe_tensor begin, lemoe_tensor end, lemoe_tensor y) {
    (void)device;
    int64_t n = lemoe_tensor_count(&begin), d = cpu_columns(y), rows = cpu_rows(x);
    for (int64_t i = 0; i < n; i++) {
        int64_t first = cpu_i32(begin)[i], last = cpu_i32(end)[i];
        float *to = cpu_f32(y) + i * d;
        LEMOE_CHECK(first >= last || (first >= 0 && last <= rows), LEMOE_ERR_ARG, "seg_mean: rows [%lld, %lld) of %lld",
                    (long long)first, (long long)last, (long long)rows);
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

static lemoe_status check_rows(const char *op, lemoe_tensor row, int64_t n_row) {
    for (int64_t i = 0; i < lemoe_tensor_count(&row); i++) {
        int64_t r = cpu_i32(row)[i];
        LEMOE_CHECK(r >= 0 && r < n_row, LEMOE_ERR_ARG, "%s: row %lld of %lld", op, (long long)r, (long long)n_row);
    }
    return LEMOE_OK;
}

lemoe_status cpu_rows_gather(lemoe_device *device, lemoe_tensor x, lemoe_tensor row, lemoe_tensor y) {
    (void)device;
    int64_t n = lemoe_tensor_count(&row);
    size_t row_bytes = (size_t)cpu_columns(y) * lemoe_dtype_bytes(y.dtype);
    const char *from = x.data;
    char *to = y.data;
    LEMOE_TRY(check_rows("rows_gather", row, cpu_rows(x)));
    for (int64_t i = 0; i < n; i++)
        memcpy(to + (size_t)i * row_bytes, from + (size_t)cpu_i32(row)[i] * row_bytes, row_bytes);
    return LEMOE_OK;
}

/* Rows of several tensors, one loop over rows each. */
typedef struct rows_args {
    int64_t d;
    const float *a, *b, *weight;
    const int32_t *row;
    float *out;
} rows_args;

CPU_LOOP static void scatter_loop(const void *data, int i_thread, int64_t begin, int64_t end) {
    const rows_args *a = data;
    (void)i_thread;
    for (int64_t r = begin; r < end; r++) {
        const float *from = a->a + r * a->d;
        float *to = a->out + a->row[r] * a->d, weight = a->weight ? a->weight[r] : 1.0f;
#pragma omp simd
        for (int64_t c = 0; c < a->d; c++) to[c] += weight * from[c];
    }
}

lemoe_status cpu_rows_scatter_add(lemoe_device *device, lemoe_tensor x, lemoe_tensor row, lemoe_tensor weight,
                                  lemoe_tensor y) {
    rows_args args = {.d = cpu_columns(y),
                      .a = cpu_f32(x),
                      .weight = weight.data ? cpu_f32(weight) : NULL,
                      .row = cpu_i32(row),
                      .out = cpu_f32(y)};
    LEMOE_TRY(check_rows("rows_scatter_add", row, cpu_rows(y)));
    cpu_for(device, cpu_rows(x), args.d, scatter_loop, &args);
    return LEMOE_OK;
}

CPU_LOOP static void scale_loop(const void *data, int i_thread, int64_t begin, int64_t end) {
    const rows_args *a = data;
    (void)i_thread;
    for (int64_t r = begin; r < end; r++) {
        float *x = a->out + r * a->d, weight = a->weight[r];
#pragma omp simd
        for (int64_t c = 0; c < a->d; c++) x[c] *= weight;
    }
}

lemoe_status cpu_rows_scale(lemoe_device *device, lemoe_tensor weight, lemoe_tensor x) {
    rows_args args = {.d = cpu_columns(x), .weight = cpu_f32(weight), .out = cpu_f32(x)};
    cpu_for(device, cpu_rows(x), args.d, scale_loop, &args);
    return LEMOE_OK;
}

CPU_LOOP static void dot_loop(const void *data, int i_thread, int64_t begin, int64_t end) {
    const rows_args *a = data;
    (void)i_thread;
    for (int64_t r = begin; r < end; r++) a->out[r] = (float)cpu_dot(a->a + r * a->d, a->b + r * a->d, a->d);
}

lemoe_status cpu_row_dot(lemoe_device *device, lemoe_tensor a, lemoe_tensor b, lemoe_tensor dot) {
    rows_args args = {.d = cpu_columns(a), .a = cpu_f32(a), .b = cpu_f32(b), .out = cpu_f32(dot)};
    cpu_for(device, cpu_rows(a), args.d, dot_loop, &args);
    return LEMOE_OK;
}

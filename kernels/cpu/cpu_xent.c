/* Cross entropy in local pieces, for a vocabulary split over ranks; the caller reduces between them. */
#include "kernels/cpu/cpu_internal.h"

typedef struct xent_args {
    int64_t n_vocab, row_begin;
    const float *logits, *weight;
    const int32_t *label;
    float *row_max, *sum, *label_logit, *gradient;
    int32_t *row_arg;
} xent_args;

CPU_LOOP static void rowmax_loop(const void *data, int i_thread, int64_t begin, int64_t end) {
    const xent_args *a = data;
    int64_t n = a->n_vocab;
    (void)i_thread;
    for (int64_t r = begin; r < end; r++) {
        const float *x = a->logits + r * n;
        float largest = -INFINITY; /* what a rank without vocabulary rows answers: it never wins */
#pragma omp simd reduction(max : largest)
        for (int64_t j = 0; j < n; j++) largest = x[j] > largest ? x[j] : largest;
        int64_t first = 0;
        while (first < n && !(x[first] == largest)) first++;
        a->row_max[r] = largest;
        a->row_arg[r] = (int32_t)(a->row_begin + (first < n ? first : 0));
    }
}

lemoe_status cpu_xent_rowmax(lemoe_device *device, lemoe_tensor logits, int64_t row_begin, lemoe_tensor row_max,
                             lemoe_tensor row_arg) {
    xent_args args = {.n_vocab = cpu_columns(logits),
                      .row_begin = row_begin,
                      .logits = cpu_f32(logits),
                      .row_max = cpu_f32(row_max),
                      .row_arg = cpu_i32(row_arg)};
    cpu_for(device, cpu_rows(logits), args.n_vocab, rowmax_loop, &args);
    return LEMOE_OK;
}

CPU_LOOP static void rowsum_loop(const void *data, int i_thread, int64_t begin, int64_t end) {
    const xent_args *a = data;
    int64_t n = a->n_vocab;
    (void)i_thread;
    for (int64_t r = begin; r < end; r++) {
        const float *x = a->logits + r * n;
        float largest = a->row_max[r];
        double total = 0;
        for (int64_t at = 0; at < n; at += CPU_SUM_BLOCK) {
            int64_t stop = at + CPU_SUM_BLOCK < n ? at + CPU_SUM_BLOCK : n;
            float sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int64_t j = at; j < stop; j++) sum += cpu_exp(x[j] - largest);
            total += (double)sum;
        }
        int64_t own = a->label[r] - a->row_begin;
        a->sum[r] = (float)total;
        a->label_logit[r] = own >= 0 && own < n ? x[own] : 0.0f;
    }
}

lemoe_status cpu_xent_rowsum(lemoe_device *device, lemoe_tensor logits, lemoe_tensor row_max, lemoe_tensor label,
                             int64_t row_begin, lemoe_tensor sum, lemoe_tensor label_logit) {
    xent_args args = {.n_vocab = cpu_columns(logits),
                      .row_begin = row_begin,
                      .logits = cpu_f32(logits),
                      .row_max = cpu_f32(row_max),
                      .label = cpu_i32(label),
                      .sum = cpu_f32(sum),
                      .label_logit = cpu_f32(label_logit)};
    cpu_for(device, cpu_rows(logits), args.n_vocab * 4, rowsum_loop, &args);
    return LEMOE_OK;
}

CPU_LOOP static void bwd_loop(const void *data, int i_thread, int64_t begin, int64_t end) {
    const xent_args *a = data;
    int64_t n = a->n_vocab;
    (void)i_thread;
    for (int64_t r = begin; r < end; r++) {
        float *x = a->gradient + r * n, largest = a->row_max[r], weight = a->weight[r], factor = weight / a->sum[r];
        int64_t own = a->label[r] - a->row_begin;
#pragma omp simd
        for (int64_t j = 0; j < n; j++) x[j] = factor * cpu_exp(x[j] - largest);
        if (own >= 0 && own < n) x[own] -= weight;
    }
}

lemoe_status cpu_xent_bwd(lemoe_device *device, lemoe_tensor logits, lemoe_tensor row_max, lemoe_tensor sum,
                          lemoe_tensor label, lemoe_tensor weight, int64_t row_begin) {
    xent_args args = {.n_vocab = cpu_columns(logits),
                      .row_begin = row_begin,
                      .weight = cpu_f32(weight),
                      .label = cpu_i32(label),
                      .row_max = cpu_f32(row_max),
                      .sum = cpu_f32(sum),
                      .gradient = cpu_f32(logits)};
    cpu_for(device, cpu_rows(logits), args.n_vocab * 4, bwd_loop, &args);
    return LEMOE_OK;
}

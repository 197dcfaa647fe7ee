/* Optimiser step, guards, and weights drawn by global index. */
#include "kernels/cpu/cpu_internal.h"

#include "kernels/base/mem.h"

/* Elements of a partial sum. Part of the numerics: partial sums are added in order, so threads change nothing. */
enum { PART = 4096 };

typedef struct guard_args {
    int64_t n;
    const float *x;
    double *part;
} guard_args;

static int64_t part_end(const guard_args *a, int64_t i) { return (i + 1) * PART < a->n ? (i + 1) * PART : a->n; }

CPU_LOOP static void sumsq_loop(const void *data, int i_thread, int64_t begin, int64_t end) {
    const guard_args *a = data;
    (void)i_thread;
    for (int64_t p = begin; p < end; p++) {
        const float *x = a->x;
        double sum = 0;
        int64_t stop = part_end(a, p);
#pragma omp simd reduction(+ : sum)
        for (int64_t i = p * PART; i < stop; i++) sum += (double)x[i] * (double)x[i];
        a->part[p] = sum;
    }
}

CPU_LOOP static void nonfinite_loop(const void *data, int i_thread, int64_t begin, int64_t end) {
    const guard_args *a = data;
    (void)i_thread;
    for (int64_t p = begin; p < end; p++) {
        const float *x = a->x;
        int32_t count = 0;
        int64_t stop = part_end(a, p);
#pragma omp simd reduction(+ : count)
        for (int64_t i = p * PART; i < stop; i++) count += x[i] - x[i] == 0.0f ? 0 : 1; /* inf - inf is NaN */
        a->part[p] = count;
    }
}

static lemoe_status sum_of_parts(lemoe_device *device, lemoe_tensor x, cpu_loop loop, double *out) {
    guard_args args = {.n = lemoe_tensor_count(&x), .x = cpu_f32(x)};
    int64_t n_part = (args.n + PART - 1) / PART;
    LEMOE_TRY(lemoe_mem_alloc(n_part, sizeof *args.part, &args.part));
    cpu_for(device, n_part, PART, loop, &args);
    *out = 0;
    for (int64_t p = 0; p < n_part; p++) *out += args.part[p];
    lemoe_mem_free(args.part);
    return LEMOE_OK;
}

lemoe_status cpu_sumsq(lemoe_device *device, lemoe_tensor x, double *out) {
    return sum_of_parts(device, x, sumsq_loop, out);
}

lemoe_status cpu_sumsq_add(lemoe_device *device, lemoe_tensor x, lemoe_tensor total) {
    double sum = 0;
    LEMOE_TRY(sum_of_parts(device, x, sumsq_loop, &sum));
    *(double *)total.data += sum;
    return LEMOE_OK;
}

lemoe_status cpu_count_nonfinite(lemoe_device *device, lemoe_tensor x, int64_t *out) {
    double count = 0; /* exact up to 2^53 */
    LEMOE_TRY(sum_of_parts(device, x, nonfinite_loop, &count));
    *out = (int64_t)count;
    return LEMOE_OK;
}

typedef struct step_args {
    float *w, *m, *v;
    const float *grad;
    float beta1, beta2, grad_scale, step_size, inverse_root, eps, keep;
} step_args;

CPU_LOOP static void adamw_loop(const void *data, int i_thread, int64_t begin, int64_t end) {
    const step_args a = *(const step_args *)data;
    float *w = a.w, *m = a.m, *v = a.v;
    const float *grad = a.grad;
    (void)i_thread;
#pragma omp simd
    for (int64_t i = begin; i < end; i++) {
        float g = grad[i] * a.grad_scale;
        m[i] = a.beta1 * m[i] + (1.0f - a.beta1) * g;
        v[i] = a.beta2 * v[i] + (1.0f - a.beta2) * g * g;
        w[i] = a.keep * w[i] - a.step_size * m[i] / (sqrtf(v[i]) * a.inverse_root + a.eps);
    }
}

lemoe_status cpu_adamw(lemoe_device *device, const lemoe_adamw_args *args) {
    double beta1 = args->beta1, beta2 = args->beta2, step = (double)args->step, lr = args->lr;
    step_args a = {.w = cpu_f32(args->w),
                   .m = cpu_f32(args->m),
                   .v = cpu_f32(args->v),
                   .grad = cpu_f32(args->grad),
                   .beta1 = args->beta1,
                   .beta2 = args->beta2,
                   .grad_scale = args->grad_scale,
                   .step_size = (float)(lr / (1.0 - pow(beta1, step))),
                   .inverse_root = (float)(1.0 / sqrt(1.0 - pow(beta2, step))),
                   .eps = args->eps,
                   .keep = (float)(1.0 - lr * (double)args->weight_decay)};
    cpu_for(device, lemoe_tensor_count(&args->w), 2, adamw_loop, &a);
    return LEMOE_OK;
}

static void fill_loop(const void *data, int i_thread, int64_t begin, int64_t end) {
    const lemoe_fill_args *args = data;
    int64_t columns = cpu_columns(args->x);
    (void)i_thread;
    for (int64_t r = begin; r < end; r++)
        for (int64_t c = 0; c < columns; c++) {
            uint64_t index = (uint64_t)((args->row_begin + r) * args->n_columns + args->column_begin + c);
            cpu_f32(args->x)[r * columns + c] = (float)((double)args->std * lemoe_rng_normal(args->rng, index));
        }
}

lemoe_status cpu_fill_normal(lemoe_device *device, const lemoe_fill_args *args) {
    cpu_for(device, cpu_rows(args->x), cpu_columns(args->x) * 64, fill_loop, args); /* a draw costs a logarithm */
    return LEMOE_OK;
}

/* Optimiser step, guards, and weights drawn by global index. */
#include "kernels/cuda/cuda_kernel.cuh"
#include "kernels/workspace.h"

#include <Random123/philox.h>

/* ---- sums over a whole tensor: parts of a fixed size, added in order ---- */

enum { SUM_BYTES = CUDA_BLOCK / CUDA_WARP * sizeof(double) };

/* One block a part. counts: how many are NaN or infinite, exact up to 2^53; else the sum of squares. */
static __global__ void k_parts(int64_t n, const float *x, bool counts, double *part) {
    CUDA_SHARED(double, sums);
    const int64_t part_size = LEMOE_WORKSPACE_PART;
    int64_t begin = (int64_t)blockIdx.x * part_size, end = begin + part_size < n ? begin + part_size : n;
    double sum = 0;
    for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
        float value = x[i];
        double bad = value - value == 0.0f ? 0.0 : 1.0; /* inf - inf is NaN */
        sum += counts ? bad : (double)value * (double)value;
    }
    double total = cuda_block_sum(sum, sums);
    if (threadIdx.x == 0) part[blockIdx.x] = total;
}

/* One block: *total = (keeps ? *total : 0) + all parts. */
static __global__ void k_total(int64_t n_part, const double *part, bool keeps, double *total) {
    CUDA_SHARED(double, sums);
    double sum = 0;
    for (int64_t i = threadIdx.x; i < n_part; i += blockDim.x) sum += part[i];
    sum = cuda_block_sum(sum, sums);
    if (threadIdx.x == 0) *total = keeps ? *total + sum : sum;
}

/* total NULL: into the workspace, whose place is handed back. */
static lemoe_status sum_of_parts(lemoe_device *device, const char *op, lemoe_tensor x, bool counts, bool keeps,
                                 double **total) {
    cuda_state *state = cuda_state_of(device);
    int64_t n = lemoe_tensor_count(&x), n_part = lemoe_workspace_parts(n);
    void *room = NULL;
    LEMOE_TRY(cuda_workspace(device, lemoe_workspace_sum(x), &room));
    double *part = static_cast<double *>(room);
    if (!*total) *total = part + n_part;
    if (n_part > 0)
        CUDA_LAUNCH(k_parts, (unsigned)n_part, CUDA_BLOCK, SUM_BYTES, state->stream, n, cuda_f32(x), counts, part);
    CUDA_LAUNCH(k_total, 1, CUDA_BLOCK, SUM_BYTES, state->stream, n_part, part, keeps, *total);
    return cuda_launched(device, op);
}

lemoe_status cuda_sumsq(lemoe_device *device, lemoe_tensor x, double *out) {
    double *total = NULL;
    LEMOE_TRY(cuda_not_captured(device, "sumsq"));
    LEMOE_TRY(sum_of_parts(device, "sumsq", x, false, false, &total));
    return cuda_to_host(device, "sumsq", out, total, sizeof *out);
}

lemoe_status cuda_sumsq_add(lemoe_device *device, lemoe_tensor x, lemoe_tensor total) {
    double *place = static_cast<double *>(total.data);
    return sum_of_parts(device, "sumsq_add", x, false, true, &place);
}

lemoe_status cuda_count_nonfinite(lemoe_device *device, lemoe_tensor x, int64_t *out) {
    double *total = NULL, count = 0;
    LEMOE_TRY(cuda_not_captured(device, "count_nonfinite"));
    LEMOE_TRY(sum_of_parts(device, "count_nonfinite", x, true, false, &total));
    LEMOE_TRY(cuda_to_host(device, "count_nonfinite", &count, total, sizeof count));
    *out = (int64_t)count;
    return LEMOE_OK;
}

/* ---- AdamW ---- */

typedef struct step_args {
    float *w, *m, *v;
    const float *grad;
    float beta1, beta2, grad_scale, step_size, inverse_root, eps, keep;
} step_args;

static __global__ void k_adamw(int64_t n, step_args a) {
    for (CUDA_EACH(i, n)) {
        float g = a.grad[i] * a.grad_scale, w = a.w[i]; /* all are read before one is written */
        float m = a.beta1 * a.m[i] + (1.0f - a.beta1) * g;
        float v = a.beta2 * a.v[i] + (1.0f - a.beta2) * g * g;
        a.m[i] = m;
        a.v[i] = v;
        a.w[i] = a.keep * w - a.step_size * m / (sqrtf(v) * a.inverse_root + a.eps);
    }
}

lemoe_status cuda_adamw(lemoe_device *device, const lemoe_adamw_args *args) {
    double beta1 = args->beta1, beta2 = args->beta2, step = (double)args->step, lr = args->lr;
    int64_t n = lemoe_tensor_count(&args->w);
    step_args a = {cuda_f32(args->w),
                   cuda_f32(args->m),
                   cuda_f32(args->v),
                   cuda_f32(args->grad),
                   args->beta1,
                   args->beta2,
                   args->grad_scale,
                   (float)(lr / (1.0 - pow(beta1, step))),
                   (float)(1.0 / sqrt(1.0 - pow(beta2, step))),
                   args->eps,
                   (float)(1.0 - lr * (double)args->weight_decay)};
    if (n == 0) return LEMOE_OK;
    CUDA_LAUNCH(k_adamw, cuda_blocks(n), CUDA_BLOCK, 0, cuda_state_of(device)->stream, n, a);
    return cuda_launched(device, "adamw");
}

/* ---- normal numbers, as kernels/base/rng.c draws them ---- */

static __device__ inline double unit(uint32_t low, uint32_t high) {
    uint64_t bits = (uint64_t)high << 32 | low;
    return (double)(bits >> 11) * 1.1102230246251565e-16; /* 2^-53 */
}

static __device__ inline double normal(lemoe_rng rng, uint64_t index) {
    philox4x32_ctr_t counter = {
        {(uint32_t)index, (uint32_t)(index >> 32), rng.purpose, rng.stream}
    };
    philox4x32_key_t key = {
        {(uint32_t)rng.seed, (uint32_t)(rng.seed >> 32)}
    };
    philox4x32_ctr_t r = philox4x32(counter, key);
    double radius = sqrt(-2.0 * log(1.0 - unit(r.v[0], r.v[1]))); /* 1 - u is in (0, 1] */
    return radius * cospi(2.0 * unit(r.v[2], r.v[3]));
}

static __global__ void k_fill_normal(int64_t n, int64_t columns, int64_t first, int64_t n_columns, lemoe_rng rng,
                                     float std, float *x) {
    for (CUDA_EACH(i, n)) {
        uint64_t index = (uint64_t)(first + i / columns * n_columns + i % columns);
        x[i] = (float)((double)std * normal(rng, index));
    }
}

lemoe_status cuda_fill_normal(lemoe_device *device, const lemoe_fill_args *args) {
    int64_t n = lemoe_tensor_count(&args->x);
    if (n == 0) return LEMOE_OK;
    CUDA_LAUNCH(k_fill_normal, cuda_blocks(n), CUDA_BLOCK, 0, cuda_state_of(device)->stream, n, cuda_columns(args->x),
                args->row_begin * args->n_columns + args->column_begin, args->n_columns, args->rng, args->std,
                cuda_f32(args->x));
    return cuda_launched(device, "fill_normal");
}

/*
 * Causal attention inside packed sequences: scores = Q K^T and out = P V are library products per sequence and query head, in
 * blocks of query rows, so scratch is block x sequence whatever the length. The backward recomputes P from the log-sum-exp.
 */
#include "kernels/cpu/cpu_internal.h"

#include "kernels/base/mem.h"

enum { BLOCK_ROWS = 128 };

/* One sequence and one query head. Pointers are to its first row; strides are whole rows. */
typedef struct head {
    const float *q, *k, *v;
    int64_t n, d_head, q_stride, kv_stride, window;
    float scale;
    float *log_sum_exp; /* [n] */
} head;

/* Keys a query row may see: [first, row]. */
static int64_t first_key(const head *h, int64_t row) {
    return h->window > 0 && row + 1 > h->window ? row + 1 - h->window : 0;
}

static head head_of(const lemoe_attn_args *a, int64_t begin, int64_t end, int64_t h) {
    int64_t n_head = a->q.shape[1], d_head = a->q.shape[2], n_kv = a->k.shape[1], kv = h / (n_head / n_kv);
    return (head){.q = cpu_f32(a->q) + (begin * n_head + h) * d_head,
                  .k = cpu_f32(a->k) + (begin * n_kv + kv) * d_head,
                  .v = cpu_f32(a->v) + (begin * n_kv + kv) * d_head,
                  .n = end - begin,
                  .d_head = d_head,
                  .q_stride = n_head * d_head,
                  .kv_stride = n_kv * d_head,
                  .window = a->window,
                  .scale = a->scale,
                  .log_sum_exp = cpu_f32(a->log_sum_exp) + h * a->q.shape[0] + begin};
}

/* s[rows, keys] = scale Q K^T for query rows [row, row + rows) and keys [0, row + rows). */
static void scores(const head *h, int64_t row, int64_t rows, float *s) {
    int64_t keys = row + rows;
    cpu_gemm(false, true, rows, keys, h->d_head, h->scale, h->q + row * h->q_stride, h->q_stride, h->k, h->kv_stride, 0.0f, s,
             keys);
}

/* Softmax of one row over the keys it sees, zeros elsewhere; returns the log-sum-exp. */
static float softmax_row(float *s, int64_t first, int64_t last, int64_t keys) {
    float largest = s[first], sum = 0;
    for (int64_t j = first + 1; j <= last; j++) largest = s[j] > largest ? s[j] : largest;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = first; j <= last; j++) {
        s[j] = cpu_exp(s[j] - largest);
        sum += s[j];
    }
    float inverse = 1.0f / sum;
    for (int64_t j = 0; j < first; j++) s[j] = 0;
    for (int64_t j = first; j <= last; j++) s[j] *= inverse;
    for (int64_t j = last + 1; j < keys; j++) s[j] = 0;
    return largest + logf(sum);
}

static void head_fwd(const head *h, float *out, float *s) {
    for (int64_t row = 0; row < h->n; row += BLOCK_ROWS) {
        int64_t rows = h->n - row < BLOCK_ROWS ? h->n - row : BLOCK_ROWS, keys = row + rows;
        scores(h, row, rows, s);
        for (int64_t i = 0; i < rows; i++)
            h->log_sum_exp[row + i] = softmax_row(s + i * keys, first_key(h, row + i), row + i, keys);
        cpu_gemm(false, false, rows, h->d_head, keys, 1.0f, s, keys, h->v, h->kv_stride, 0.0f, out + row * h->q_stride,
                 h->q_stride);
    }
}

static lemoe_status reserve(lemoe_device *device, const lemoe_attn_args *args, int64_t n_blocks) {
    cpu_state *state = cpu_state_of(device);
    int64_t rows = args->max_seq < BLOCK_ROWS ? args->max_seq : BLOCK_ROWS;
    return lemoe_mem_grow(&state->scores, &state->scores_capacity, n_blocks * rows * args->max_seq, sizeof *state->scores);
}

lemoe_status cpu_attn_fwd(lemoe_device *device, const lemoe_attn_args *args) {
    LEMOE_TRY(reserve(device, args, 1));
    int64_t n_seq = lemoe_tensor_count(&args->seq_start) - 1, n_head = args->q.shape[1], d_head = args->q.shape[2];
    for (int64_t s = 0; s < n_seq; s++) {
        int64_t begin = cpu_i32(args->seq_start)[s], end = cpu_i32(args->seq_start)[s + 1];
        for (int64_t i = 0; i < n_head; i++) {
            head h = head_of(args, begin, end, i);
            head_fwd(&h, cpu_f32(args->out) + (begin * n_head + i) * d_head, cpu_state_of(device)->scores);
        }
    }
    return LEMOE_OK;
}

/* ---- backward: dV = P^T dO;  dP = dO V^T;  dS = P (dP - <dO, O>) scale;  dQ = dS K;  dK = dS^T Q ---- */

typedef struct head_gradients {
    const float *out, *d_out; /* rows of q_stride */
    float *dq;                /* rows of q_stride */
    float *dk, *dv;           /* rows of kv_stride; accumulated over the heads of a group */
} head_gradients;

/* p becomes P, dp becomes dS, for one block of query rows. */
static void block_gradient(const head *h, const head_gradients *g, int64_t row, int64_t rows, float *p, float *dp) {
    int64_t keys = row + rows;
    for (int64_t i = 0; i < rows; i++) {
        int64_t first = first_key(h, row + i), last = row + i;
        const float *o = g->out + (row + i) * h->q_stride, *d_o = g->d_out + (row + i) * h->q_stride;
        float *pi = p + i * keys, *di = dp + i * keys, lse = h->log_sum_exp[row + i], delta = 0;
        for (int64_t c = 0; c < h->d_head; c++) delta += o[c] * d_o[c];
        for (int64_t j = 0; j < first; j++) pi[j] = di[j] = 0;
        for (int64_t j = first; j <= last; j++) {
            pi[j] = cpu_exp(pi[j] - lse);
            di[j] = pi[j] * (di[j] - delta) * h->scale;
        }
        for (int64_t j = last + 1; j < keys; j++) pi[j] = di[j] = 0;
    }
}

static void head_bwd(const head *h, const head_gradients *g, float *p, float *dp) {
    for (int64_t row = 0; row < h->n; row += BLOCK_ROWS) {
        int64_t rows = h->n - row < BLOCK_ROWS ? h->n - row : BLOCK_ROWS, keys = row + rows;
        const float *d_out = g->d_out + row * h->q_stride;
        scores(h, row, rows, p);
        cpu_gemm(false, true, rows, keys, h->d_head, 1.0f, d_out, h->q_stride, h->v, h->kv_stride, 0.0f, dp, keys);
        block_gradient(h, g, row, rows, p, dp);
        cpu_gemm(true, false, keys, h->d_head, rows, 1.0f, p, keys, d_out, h->q_stride, 1.0f, g->dv, h->kv_stride);
        cpu_gemm(false, false, rows, h->d_head, keys, 1.0f, dp, keys, h->k, h->kv_stride, 0.0f, g->dq + row * h->q_stride,
                 h->q_stride);
        cpu_gemm(true, false, keys, h->d_head, rows, 1.0f, dp, keys, h->q + row * h->q_stride, h->q_stride, 1.0f, g->dk,
                 h->kv_stride);
    }
}

lemoe_status cpu_attn_bwd(lemoe_device *device, const lemoe_attn_args *args) {
    LEMOE_TRY(reserve(device, args, 2));
    int64_t n_seq = lemoe_tensor_count(&args->seq_start) - 1, n_head = args->q.shape[1], d_head = args->q.shape[2];
    int64_t n_kv = args->k.shape[1], rows = args->max_seq < BLOCK_ROWS ? args->max_seq : BLOCK_ROWS;
    float *p = cpu_state_of(device)->scores, *dp = p + rows * args->max_seq;
    memset(args->dk.data, 0, lemoe_tensor_bytes(&args->dk));
    memset(args->dv.data, 0, lemoe_tensor_bytes(&args->dv));
    for (int64_t s = 0; s < n_seq; s++) {
        int64_t begin = cpu_i32(args->seq_start)[s], end = cpu_i32(args->seq_start)[s + 1];
        for (int64_t i = 0; i < n_head; i++) {
            int64_t at = (begin * n_head + i) * d_head, kv = (begin * n_kv + i / (n_head / n_kv)) * d_head;
            head h = head_of(args, begin, end, i);
            head_gradients g = {cpu_f32(args->out) + at, cpu_f32(args->d_out) + at, cpu_f32(args->dq) + at,
                                cpu_f32(args->dk) + kv, cpu_f32(args->dv) + kv};
            head_bwd(&h, &g, p, dp);
        }
    }
    return LEMOE_OK;
}

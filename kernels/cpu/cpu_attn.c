/*
 * Causal attention inside packed sequences: scores = Q K^T and out = P V are library products per sequence and query
 * head, in blocks of query rows, so scratch is block x sequence whatever the length. The backward recomputes P from the
 * log-sum-exp. Work is shared between threads by (sequence, key/value head), each product then on one thread, so the
 * thread count changes no bit.
 */
#include "kernels/cpu/cpu_internal.h"

enum { BLOCK_ROWS = 128 };

/* What one call works on; scratch holds n_block blocks of scores a thread. */
typedef struct attn {
    const lemoe_attn_args *args;
    int64_t n_head, n_kv, d_head, block_elements, n_block;
    float *scratch;
} attn;

/* One sequence and one query head. Pointers are to its first row; strides are whole rows. */
typedef struct head {
    const float *q, *k, *v, *out, *d_out;
    float *log_sum_exp; /* [n] */
    int64_t n, d_head, q_stride, kv_stride, window;
    float scale;
} head;

static float *at(lemoe_tensor t, int64_t offset) { return t.data ? cpu_f32(t) + offset : NULL; }

/* Rows of a sequence, among those that the call has. */
typedef struct span {
    int64_t begin, end;
} span;

static span span_of(const lemoe_attn_args *args, int64_t s) {
    const int32_t *start = cpu_i32(args->seq_start);
    return (span){start[s] - args->first_row, start[s + 1] - args->first_row};
}

static head head_of(const attn *a, span rows, int64_t h) {
    const lemoe_attn_args *args = a->args;
    int64_t q = (rows.begin * a->n_head + h) * a->d_head;
    int64_t kv = (rows.begin * a->n_kv + h / (a->n_head / a->n_kv)) * a->d_head;
    return (head){.q = at(args->q, q),
                  .k = at(args->k, kv),
                  .v = at(args->v, kv),
                  .out = at(args->out, q),
                  .d_out = at(args->d_out, q),
                  .log_sum_exp = at(args->log_sum_exp, h * args->q.shape[0] + rows.begin),
                  .n = rows.end - rows.begin,
                  .d_head = a->d_head,
                  .q_stride = a->n_head * a->d_head,
                  .kv_stride = a->n_kv * a->d_head,
                  .window = args->window,
                  .scale = args->scale};
}

/* A block of query rows [row, row + rows) and the keys that any of them sees, [key, key + keys). */
typedef struct block {
    int64_t row, rows, key, keys;
} block;

/* Keys a query row may see: [first_key, row]. */
static int64_t first_key(const head *h, int64_t row) {
    return h->window > 0 && row + 1 > h->window ? row + 1 - h->window : 0;
}

static block block_at(const head *h, int64_t row) {
    int64_t rows = h->n - row < BLOCK_ROWS ? h->n - row : BLOCK_ROWS, key = first_key(h, row);
    return (block){row, rows, key, row + rows - key};
}

/* s[rows, keys] = factor * x y^T, x rows of queries, y rows of keys. */
static void rows_by_keys(const head *h, const block *b, float factor, const float *x, const float *y, float *s) {
    cpu_gemm(&(cpu_gemm_args){.trans_b = true,
                              .m = b->rows,
                              .n = b->keys,
                              .k = h->d_head,
                              .alpha = factor,
                              .a = x + b->row * h->q_stride,
                              .lda = h->q_stride,
                              .b = y + b->key * h->kv_stride,
                              .ldb = h->kv_stride,
                              .c = s,
                              .ldc = b->keys});
}

/* x[rows, d_head] = s[rows, keys] y, y rows of keys. */
static void from_keys(const head *h, const block *b, const float *s, const float *y, float *x) {
    cpu_gemm(&(cpu_gemm_args){.m = b->rows,
                              .n = h->d_head,
                              .k = b->keys,
                              .alpha = 1.0f,
                              .a = s,
                              .lda = b->keys,
                              .b = y + b->key * h->kv_stride,
                              .ldb = h->kv_stride,
                              .c = x + b->row * h->q_stride,
                              .ldc = h->q_stride});
}

/* y[keys, d_head] += s[rows, keys]^T x, x rows of queries. */
static void add_to_keys(const head *h, const block *b, const float *s, const float *x, float *y) {
    cpu_gemm(&(cpu_gemm_args){.trans_a = true,
                              .m = b->keys,
                              .n = h->d_head,
                              .k = b->rows,
                              .alpha = 1.0f,
                              .beta = 1.0f,
                              .a = s,
                              .lda = b->keys,
                              .b = x + b->row * h->q_stride,
                              .ldb = h->q_stride,
                              .c = y + b->key * h->kv_stride,
                              .ldc = h->kv_stride});
}

/* Scores become probabilities, row by row over the keys each sees, zeros elsewhere. */
CPU_LOOP static void softmax_block(const head *h, const block *b, float *scores) {
    for (int64_t i = 0; i < b->rows; i++) {
        float *s = scores + i * b->keys, largest = -INFINITY, sum = 0;
        int64_t first = first_key(h, b->row + i) - b->key, end = b->row + i + 1 - b->key;
#pragma omp simd reduction(max : largest)
        for (int64_t j = first; j < end; j++) largest = s[j] > largest ? s[j] : largest;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = first; j < end; j++) {
            s[j] = cpu_exp(s[j] - largest);
            sum += s[j];
        }
        float inverse = 1.0f / sum;
        for (int64_t j = 0; j < first; j++) s[j] = 0;
        for (int64_t j = first; j < end; j++) s[j] *= inverse;
        for (int64_t j = end; j < b->keys; j++) s[j] = 0;
        h->log_sum_exp[b->row + i] = largest + logf(sum);
    }
}

static void head_fwd(const head *h, float *out, float *scores) {
    for (int64_t row = 0; row < h->n; row += BLOCK_ROWS) {
        block b = block_at(h, row);
        rows_by_keys(h, &b, h->scale, h->q, h->k, scores);
        softmax_block(h, &b, scores);
        from_keys(h, &b, scores, h->v, out);
    }
}

/* Items are (sequence, key/value head). */
static void fwd_loop(const void *data, int i_thread, int64_t begin, int64_t end) {
    const attn *a = data;
    int64_t group = a->n_head / a->n_kv;
    for (int64_t item = begin; item < end; item++) {
        int64_t kv = item % a->n_kv;
        span rows = span_of(a->args, item / a->n_kv);
        for (int64_t i = kv * group; i < (kv + 1) * group; i++) {
            head h = head_of(a, rows, i);
            head_fwd(&h, at(a->args->out, (rows.begin * a->n_head + i) * a->d_head),
                     a->scratch + i_thread * a->n_block * a->block_elements);
        }
    }
}

/* The bounds of the sequences are data: what does not fit would write outside the scratch. */
static lemoe_status check_sequences(const lemoe_attn_args *args, int64_t n_seq) {
    for (int64_t s = 0; s < n_seq; s++) {
        span rows = span_of(args, s);
        LEMOE_CHECK(rows.begin >= 0 && rows.begin <= rows.end && rows.end - rows.begin <= args->max_seq &&
                        rows.end <= args->q.shape[0],
                    LEMOE_ERR_ARG, "attention: sequence %lld holds rows [%lld, %lld) of %lld, at most %lld each",
                    (long long)s, (long long)rows.begin, (long long)rows.end, (long long)args->q.shape[0],
                    (long long)args->max_seq);
    }
    return LEMOE_OK;
}

static lemoe_status run(lemoe_device *device, const lemoe_attn_args *args, int64_t n_block, cpu_loop loop) {
    int64_t n_seq = lemoe_tensor_count(&args->seq_start) - 1, n_tok = args->q.shape[0];
    attn a = {.args = args,
              .n_head = args->q.shape[1],
              .n_kv = args->k.shape[1],
              .d_head = args->q.shape[2],
              .block_elements = (args->max_seq < BLOCK_ROWS ? args->max_seq : BLOCK_ROWS) * args->max_seq,
              .n_block = n_block};
    if (n_seq <= 0 || n_tok == 0) return LEMOE_OK;
    LEMOE_TRY(check_sequences(args, n_seq));
    LEMOE_TRY(cpu_reserve(&cpu_state_of(device)->scores, device->n_threads * n_block * a.block_elements));
    a.scratch = cpu_state_of(device)->scores.data;
    cpu_matmul_threads(device);
    cpu_for(device, n_seq * a.n_kv, n_tok / n_seq * a.d_head * (a.n_head / a.n_kv) * 4, loop, &a);
    return LEMOE_OK;
}

lemoe_status cpu_attn_fwd(lemoe_device *device, const lemoe_attn_args *args) { return run(device, args, 1, fwd_loop); }

/* ---- backward: dV = P^T dO;  dP = dO V^T;  dS = P (dP - <dO, O>) scale;  dQ = dS K;  dK = dS^T Q ---- */

/* Scores become P, and dP becomes dS. */
CPU_LOOP static void gradient_block(const head *h, const block *b, float *scores, float *d_scores) {
    for (int64_t i = 0; i < b->rows; i++) {
        int64_t row = b->row + i, first = first_key(h, row) - b->key, end = row + 1 - b->key;
        float *p = scores + i * b->keys, *ds = d_scores + i * b->keys, lse = h->log_sum_exp[row];
        float delta = (float)cpu_dot(h->out + row * h->q_stride, h->d_out + row * h->q_stride, h->d_head);
        for (int64_t j = 0; j < first; j++) p[j] = ds[j] = 0;
#pragma omp simd
        for (int64_t j = first; j < end; j++) {
            p[j] = cpu_exp(p[j] - lse);
            ds[j] = p[j] * (ds[j] - delta) * h->scale;
        }
        for (int64_t j = end; j < b->keys; j++) p[j] = ds[j] = 0;
    }
}

static void head_bwd(const head *h, float *dq, float *dk, float *dv, float *p, float *ds) {
    for (int64_t row = 0; row < h->n; row += BLOCK_ROWS) {
        block b = block_at(h, row);
        rows_by_keys(h, &b, h->scale, h->q, h->k, p);
        rows_by_keys(h, &b, 1.0f, h->d_out, h->v, ds);
        gradient_block(h, &b, p, ds);
        add_to_keys(h, &b, p, h->d_out, dv);
        from_keys(h, &b, ds, h->k, dq);
        add_to_keys(h, &b, ds, h->q, dk);
    }
}

/* The heads of a group add to the same dk and dv, so one item does them all, in order. */
static void bwd_loop(const void *data, int i_thread, int64_t begin, int64_t end) {
    const attn *a = data;
    int64_t group = a->n_head / a->n_kv;
    float *p = a->scratch + i_thread * a->n_block * a->block_elements, *ds = p + a->block_elements;
    for (int64_t item = begin; item < end; item++) {
        int64_t kv = item % a->n_kv;
        span rows = span_of(a->args, item / a->n_kv);
        for (int64_t i = kv * group; i < (kv + 1) * group; i++) {
            head h = head_of(a, rows, i);
            head_bwd(&h, at(a->args->dq, (rows.begin * a->n_head + i) * a->d_head),
                     at(a->args->dk, (rows.begin * a->n_kv + kv) * a->d_head),
                     at(a->args->dv, (rows.begin * a->n_kv + kv) * a->d_head), p, ds);
        }
    }
}

lemoe_status cpu_attn_bwd(lemoe_device *device, const lemoe_attn_args *args) {
    if (args->dk.data) memset(args->dk.data, 0, lemoe_tensor_bytes(&args->dk));
    if (args->dv.data) memset(args->dv.data, 0, lemoe_tensor_bytes(&args->dv));
    return run(device, args, 2, bwd_loop);
}

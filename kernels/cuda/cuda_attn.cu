/*
 * Causal attention inside each packed sequence, in fp32, without a matrix of scores (FlashAttention, Dao et al. 2022):
 * a block takes ROWS rows of one head of one sequence, a warp each, and walks over the other side in tiles of 32 rows
 * that lie in shared memory. Within a tile a lane first has one row of the other side (its score), then some columns of
 * the result, to which the 32 rows are added in order. Forward keeps log-sum-exp; backward computes scores again, once
 * by queries for dQ and once by keys for dK and dV, so that nothing is added from two places.
 */
#include "kernels/cuda/cuda_kernel.cuh"
#include "kernels/workspace.h"

#include <string.h>

enum { ROWS = 8, TILE = CUDA_WARP, THREADS = ROWS * CUDA_WARP, PLAIN_SHARED_BYTES = 48 << 10 };

typedef struct attn {
    const float *q, *k, *v, *d_out;
    float *out, *log_sum_exp, *dq, *dk, *dv;
    float *delta; /* [n_head, n_tok] <d_out, out>, written by the queries' pass and read by the keys' */
    const int32_t *seq_start;
    int64_t n_tok;
    int n_head, n_kv, d_head, max_seq, window, n_tile; /* n_tile: blocks that a sequence of max_seq rows takes */
    float scale;
    int *fault;
} attn;

/* What a block works on: rows [row, row + ROWS) of a sequence of n rows that begins at begin. */
typedef struct place {
    int64_t begin;
    int n, row;
} place;

/* False where the sequence is not there or ends before these rows: then the whole block has nothing to do. */
static __device__ inline bool find_place(const attn &a, place *at) {
    int s = (int)blockIdx.x / a.n_tile;
    int64_t begin = a.seq_start[s], end = a.seq_start[s + 1];
    bool is_there = begin >= 0 && begin <= end && end - begin <= a.max_seq && end <= a.n_tok;
    if (!is_there && threadIdx.x == 0) *a.fault = CUDA_FAULT_ATTENTION;
    *at = place{begin, (int)(end - begin), ((int)blockIdx.x % a.n_tile) * ROWS};
    return is_there && at->row < at->n;
}

static __device__ inline int first_key(const attn &a, int row) {
    return a.window > 0 && row >= a.window ? row - a.window + 1 : 0;
}

/* ---- rows of a head in shared memory; columns behind d_head, and rows that are not there, are zeros ---- */

template <int CHUNKS> static __device__ inline void load_row(const float *from, bool is_there, int d, float *to) {
    int lane = (int)threadIdx.x % CUDA_WARP;
#pragma unroll
    for (int c = 0; c < CHUNKS; c++) {
        int column = c * CUDA_WARP + lane;
        to[column] = is_there && column < d ? from[column] : 0.0f;
    }
}

/* TILE rows, row_stride apart, of which n are there; all warps of the block. */
template <int CHUNKS>
static __device__ inline void load_tile(const float *from, int64_t row_stride, int n, int d, float *tile) {
    const int stride = CHUNKS * CUDA_WARP + 1; /* odd, so that a column of the tile lies in all banks */
    for (int r = (int)threadIdx.x / CUDA_WARP; r < TILE; r += ROWS)
        load_row<CHUNKS>(from + r * row_stride, r < n, d, tile + r * stride);
}

static __device__ inline float dot(const float *a, const float *b, int d) {
    float sum = 0;
    for (int c = 0; c < d; c++) sum += a[c] * b[c];
    return sum;
}

/* sums[own columns] += the rows of the tile, each times the weight that its lane holds. */
template <int CHUNKS> static __device__ inline void add_tile(float weight, const float *tile, float *sums) {
    const int stride = CHUNKS * CUDA_WARP + 1;
    int lane = (int)threadIdx.x % CUDA_WARP;
    for (int t = 0; t < TILE; t++) {
        float factor = __shfl_sync(cuda_all_lanes, weight, t);
#pragma unroll
        for (int c = 0; c < CHUNKS; c++) sums[c] += factor * tile[t * stride + c * CUDA_WARP + lane];
    }
}

template <int CHUNKS> static __device__ inline void store_row(const float *sums, float factor, int d, float *to) {
    int lane = (int)threadIdx.x % CUDA_WARP;
#pragma unroll
    for (int c = 0; c < CHUNKS; c++)
        if (c * CUDA_WARP + lane < d) to[c * CUDA_WARP + lane] = sums[c] * factor;
}

static __device__ inline float warp_max(float value) {
    for (int step = CUDA_WARP / 2; step > 0; step /= 2)
        value = fmaxf(value, __shfl_xor_sync(cuda_all_lanes, value, step));
    return value;
}

static __device__ inline float warp_sum(float value) {
    for (int step = CUDA_WARP / 2; step > 0; step /= 2) value += __shfl_xor_sync(cuda_all_lanes, value, step);
    return value;
}

/* ---- forward ---- */

/* The softmax so far of a row: the largest score, and sums of exp(score - largest). */
template <int CHUNKS> struct row_softmax { float largest, sum, out[CHUNKS]; };

template <int CHUNKS>
static __device__ inline void take_scores(float score, const float *values, row_softmax<CHUNKS> *s) {
    float largest = fmaxf(s->largest, warp_max(score));
    float shrink = cuda_exp(s->largest - largest), p = cuda_exp(score - largest); /* exp(-infinity) is 0 */
    s->largest = largest;
    s->sum = s->sum * shrink + warp_sum(p);
#pragma unroll
    for (int c = 0; c < CHUNKS; c++) s->out[c] *= shrink;
    add_tile<CHUNKS>(p, values, s->out);
}

template <int CHUNKS> static __global__ void k_attn_fwd(attn a) {
    const int stride = CHUNKS * CUDA_WARP + 1;
    CUDA_SHARED(float, shared);
    place at;
    if (!find_place(a, &at)) return;
    int lane = (int)threadIdx.x % CUDA_WARP, warp = (int)threadIdx.x / CUDA_WARP, head = (int)blockIdx.y;
    int kv = head / (a.n_head / a.n_kv), row = at.row + warp, first = first_key(a, row);
    int last = at.row + ROWS < at.n ? at.row + ROWS : at.n; /* keys that the block's rows see end here */
    int64_t kv_stride = (int64_t)a.n_kv * a.d_head, q_at = ((at.begin + row) * a.n_head + head) * a.d_head;
    float *query = shared + warp * stride, *keys = shared + ROWS * stride, *values = keys + TILE * stride;
    row_softmax<CHUNKS> s = {-INFINITY, 0.0f, {0.0f}};
    load_row<CHUNKS>(a.q + q_at, row < at.n, a.d_head, query);
    for (int key = first_key(a, at.row) / TILE * TILE; key < last; key += TILE) {
        int64_t kv_at = ((at.begin + key) * a.n_kv + kv) * a.d_head;
        __syncthreads();
        load_tile<CHUNKS>(a.k + kv_at, kv_stride, at.n - key, a.d_head, keys);
        load_tile<CHUNKS>(a.v + kv_at, kv_stride, at.n - key, a.d_head, values);
        __syncthreads();
        if (row >= at.n || key > row || key + TILE <= first) continue; /* the row sees none of these */
        bool is_seen = key + lane >= first && key + lane <= row;
        float score = dot(query, keys + lane * stride, a.d_head) * a.scale;
        take_scores<CHUNKS>(is_seen ? score : -INFINITY, values, &s);
    }
    if (row >= at.n) return;
    store_row<CHUNKS>(s.out, 1.0f / s.sum, a.d_head, a.out + q_at);
    if (lane == 0) a.log_sum_exp[head * a.n_tok + at.begin + row] = s.largest + logf(s.sum);
}

/* ---- backward: dV = P^T dO;  dP = dO V^T;  dS = P (dP - <dO, O>) scale;  dQ = dS K;  dK = dS^T Q ---- */

template <int CHUNKS> static __global__ void k_attn_dq(attn a) {
    const int stride = CHUNKS * CUDA_WARP + 1;
    CUDA_SHARED(float, shared);
    place at;
    if (!find_place(a, &at)) return;
    int lane = (int)threadIdx.x % CUDA_WARP, warp = (int)threadIdx.x / CUDA_WARP, head = (int)blockIdx.y;
    int kv = head / (a.n_head / a.n_kv), row = at.row + warp, first = first_key(a, row);
    int last = at.row + ROWS < at.n ? at.row + ROWS : at.n;
    int64_t kv_stride = (int64_t)a.n_kv * a.d_head, q_at = ((at.begin + row) * a.n_head + head) * a.d_head;
    float *query = shared + warp * stride, *d_out = query + ROWS * stride;
    float *keys = shared + 2 * ROWS * stride, *values = keys + TILE * stride;
    float dq[CHUNKS] = {0.0f}, lse = 0, delta = 0;
    load_row<CHUNKS>(a.q + q_at, row < at.n, a.d_head, query);
    load_row<CHUNKS>(a.d_out + q_at, row < at.n, a.d_head, d_out);
    if (row < at.n) {
        for (int c = lane; c < a.d_head; c += CUDA_WARP) delta += a.d_out[q_at + c] * a.out[q_at + c];
        delta = warp_sum(delta);
        lse = a.log_sum_exp[head * a.n_tok + at.begin + row];
        if (lane == 0) a.delta[head * a.n_tok + at.begin + row] = delta;
    }
    for (int key = first_key(a, at.row) / TILE * TILE; key < last; key += TILE) {
        int64_t kv_at = ((at.begin + key) * a.n_kv + kv) * a.d_head;
        __syncthreads();
        load_tile<CHUNKS>(a.k + kv_at, kv_stride, at.n - key, a.d_head, keys);
        load_tile<CHUNKS>(a.v + kv_at, kv_stride, at.n - key, a.d_head, values);
        __syncthreads();
        if (row >= at.n || key > row || key + TILE <= first) continue;
        bool is_seen = key + lane >= first && key + lane <= row;
        float p = cuda_exp(dot(query, keys + lane * stride, a.d_head) * a.scale - lse);
        float ds = p * (dot(d_out, values + lane * stride, a.d_head) - delta) * a.scale;
        add_tile<CHUNKS>(is_seen ? ds : 0.0f, keys, dq);
    }
    if (row < at.n) store_row<CHUNKS>(dq, 1.0f, a.d_head, a.dq + q_at);
}

/* A warp has one key; the heads of its group add to it in order. */
template <int CHUNKS> static __global__ void k_attn_dkv(attn a) {
    const int stride = CHUNKS * CUDA_WARP + 1;
    CUDA_SHARED(float, shared);
    place at;
    if (!find_place(a, &at)) return;
    int lane = (int)threadIdx.x % CUDA_WARP, warp = (int)threadIdx.x / CUDA_WARP, kv = (int)blockIdx.y;
    int group = a.n_head / a.n_kv, key = at.row + warp; /* rows that see it: [key, end) */
    int end = a.window > 0 && key + a.window < at.n ? key + a.window : at.n;
    int last = a.window > 0 && at.row + ROWS - 1 + a.window < at.n ? at.row + ROWS - 1 + a.window : at.n;
    int64_t q_stride = (int64_t)a.n_head * a.d_head, kv_at = ((at.begin + key) * a.n_kv + kv) * a.d_head;
    float *own_key = shared + warp * stride, *own_value = own_key + ROWS * stride;
    float *queries = shared + 2 * ROWS * stride, *d_outs = queries + TILE * stride;
    float dk[CHUNKS] = {0.0f}, dv[CHUNKS] = {0.0f};
    load_row<CHUNKS>(a.k + kv_at, key < at.n, a.d_head, own_key);
    load_row<CHUNKS>(a.v + kv_at, key < at.n, a.d_head, own_value);
    for (int head = kv * group; head < (kv + 1) * group; head++)
        for (int row = at.row / TILE * TILE; row < last; row += TILE) {
            int64_t q_at = ((at.begin + row) * a.n_head + head) * a.d_head;
            __syncthreads();
            load_tile<CHUNKS>(a.q + q_at, q_stride, at.n - row, a.d_head, queries);
            load_tile<CHUNKS>(a.d_out + q_at, q_stride, at.n - row, a.d_head, d_outs);
            __syncthreads();
            if (key >= at.n || row >= end || row + TILE <= key) continue;
            bool is_seen = row + lane >= key && row + lane < end;
            int64_t note = is_seen ? head * a.n_tok + at.begin + row + lane : 0;
            float p = cuda_exp(dot(own_key, queries + lane * stride, a.d_head) * a.scale - a.log_sum_exp[note]);
            float ds = p * (dot(own_value, d_outs + lane * stride, a.d_head) - a.delta[note]) * a.scale;
            add_tile<CHUNKS>(is_seen ? p : 0.0f, d_outs, dv);
            add_tile<CHUNKS>(is_seen ? ds : 0.0f, queries, dk);
        }
    if (key >= at.n) return;
    store_row<CHUNKS>(dk, 1.0f, a.d_head, a.dk + kv_at);
    store_row<CHUNKS>(dv, 1.0f, a.d_head, a.dv + kv_at);
}

/* ---- launches ---- */

typedef void (*attn_kernel)(attn a);

/* n_vector: rows of the block's own side that each warp keeps, beside two tiles. */
static lemoe_status run(lemoe_device *device, const char *op, attn_kernel kernel, int chunks, int n_vector, int heads,
                        int64_t n_seq, attn a) {
    size_t shared_bytes = (size_t)(n_vector * ROWS + 2 * TILE) * (size_t)(chunks * CUDA_WARP + 1) * sizeof(float);
    if (shared_bytes > PLAIN_SHARED_BYTES)
        CUDA_TRY(
            cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared_bytes));
    dim3 grid((unsigned)(n_seq * a.n_tile), (unsigned)heads, 1);
    CUDA_LAUNCH(kernel, grid, THREADS, shared_bytes, cuda_state_of(device)->stream, a);
    return cuda_launched(device, op);
}

/* Columns in chunks of a warp: the kernels that there are. */
typedef struct attn_kernels {
    int chunks;
    attn_kernel fwd, dq, dkv;
} attn_kernels;

static const attn_kernels *find_kernels(int64_t d_head) {
    static const attn_kernels all[] = {
        {1, k_attn_fwd<1>, k_attn_dq<1>, k_attn_dkv<1>},
        {2, k_attn_fwd<2>, k_attn_dq<2>, k_attn_dkv<2>},
        {4, k_attn_fwd<4>, k_attn_dq<4>, k_attn_dkv<4>},
        {8, k_attn_fwd<8>, k_attn_dq<8>, k_attn_dkv<8>},
    };
    for (int i = 0; i < 4; i++)
        if (d_head <= (int64_t)all[i].chunks * CUDA_WARP) return &all[i];
    return NULL;
}

static lemoe_status attn_of(lemoe_device *device, const char *op, const lemoe_attn_args *args, attn *a) {
    LEMOE_CHECK(find_kernels(args->q.shape[2]), LEMOE_ERR_UNSUPPORTED, "%s: heads of %lld columns; 256 at most", op,
                (long long)args->q.shape[2]);
    LEMOE_CHECK(args->q.shape[0] <= INT32_MAX && args->q.shape[1] <= 65535 && args->window <= INT32_MAX,
                LEMOE_ERR_UNSUPPORTED, "%s: %lld rows, %lld heads, window %lld", op, (long long)args->q.shape[0],
                (long long)args->q.shape[1], (long long)args->window);
    memset(a, 0, sizeof *a);
    a->q = cuda_f32(args->q);
    a->k = cuda_f32(args->k);
    a->v = cuda_f32(args->v);
    a->out = cuda_f32(args->out);
    a->log_sum_exp = cuda_f32(args->log_sum_exp);
    a->seq_start = cuda_i32(args->seq_start);
    a->n_tok = args->q.shape[0];
    a->n_head = (int)args->q.shape[1];
    a->n_kv = (int)args->k.shape[1];
    a->d_head = (int)args->q.shape[2];
    a->max_seq = (int)args->max_seq;
    a->window = (int)args->window;
    a->n_tile = (int)((args->max_seq + ROWS - 1) / ROWS);
    a->n_tile = a->n_tile > 0 ? a->n_tile : 1; /* a sequence longer than max_seq is still noticed */
    a->scale = args->scale;
    a->fault = cuda_state_of(device)->fault;
    return LEMOE_OK;
}

static bool is_nothing(const lemoe_attn_args *args) {
    return lemoe_tensor_count(&args->seq_start) <= 1 || lemoe_tensor_count(&args->q) == 0;
}

lemoe_status cuda_attn_fwd(lemoe_device *device, const lemoe_attn_args *args) {
    attn a;
    if (is_nothing(args)) return LEMOE_OK;
    LEMOE_TRY(attn_of(device, "attn_fwd", args, &a));
    const attn_kernels *kernels = find_kernels(a.d_head);
    return run(device, "attn_fwd", kernels->fwd, kernels->chunks, 1, a.n_head, lemoe_tensor_count(&args->seq_start) - 1,
               a);
}

lemoe_status cuda_attn_bwd(lemoe_device *device, const lemoe_attn_args *args) {
    attn a;
    void *room = NULL;
    int64_t n_seq = lemoe_tensor_count(&args->seq_start) - 1;
    if (is_nothing(args)) return LEMOE_OK;
    LEMOE_TRY(attn_of(device, "attn_bwd", args, &a));
    LEMOE_TRY(cuda_workspace(device, lemoe_workspace_attn(args), &room));
    a.delta = static_cast<float *>(room);
    a.d_out = cuda_f32(args->d_out);
    a.dq = cuda_f32(args->dq);
    a.dk = cuda_f32(args->dk);
    a.dv = cuda_f32(args->dv);
    const attn_kernels *kernels = find_kernels(a.d_head);
    LEMOE_TRY(run(device, "attn_bwd", kernels->dq, kernels->chunks, 2, a.n_head, n_seq, a));
    return run(device, "attn_bwd", kernels->dkv, kernels->chunks, 2, a.n_kv, n_seq, a);
}

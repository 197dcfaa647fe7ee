/*
 * Causal attention inside each packed sequence, in fp32, without a matrix of scores (FlashAttention, Dao et al. 2022):
 * a block takes rows of one head of one sequence, a few a warp, and walks over the other side in tiles of 32 rows that
 * lie in shared memory. Within a tile a lane first has one row of the other side (its scores), then some columns of the
 * results, to which the tile's rows are added in order. What is read of shared memory is the time this takes, so each
 * read serves all rows of a warp. Forward keeps log-sum-exp; backward computes scores again, once by queries for dQ and
 * once by keys for dK and dV, so that nothing is added from two places.
 */
#include "kernels/cuda/cuda_kernel.cuh"
#include "kernels/workspace.h"

#include <string.h>

enum { WARPS = 8, TILE = CUDA_WARP, THREADS = WARPS * CUDA_WARP, PLAIN_SHARED_BYTES = 48 << 10 };

/* Columns come in chunks of a warp. Rows of a warp, of a block, and elements from one row in shared memory to the next:
 * whole float4, and four banks further, so that neither 32 columns of a row nor a float4 of each of 32 rows collide. */
static __host__ __device__ constexpr int own_of(int chunks) { return chunks > 4 ? 2 : 4; }
static __host__ __device__ constexpr int rows_of(int chunks) { return WARPS * own_of(chunks); }
static __host__ __device__ constexpr int stride_of(int chunks) { return chunks * CUDA_WARP + 4; }

typedef struct attn {
    const float *q, *k, *v, *d_out;
    float *out, *log_sum_exp, *dq, *dk, *dv;
    float *delta; /* [n_head, n_tok] <d_out, out>, written by the queries' pass and read by the keys' */
    const int32_t *seq_start;
    int64_t first_row, n_tok;                          /* the call's rows, as seq_start counts them */
    int n_head, n_kv, d_head, max_seq, window, n_tile; /* n_tile: blocks that a sequence of max_seq rows takes */
    float scale;
    int *fault;
} attn;

/* What a block works on: so many rows from `row` on of a sequence of n rows that begins at begin. */
typedef struct place {
    int64_t begin;
    int n, row;
} place;

/* False where the sequence is not there or ends before these rows: then the whole block has nothing to do. */
static __device__ inline bool find_place(const attn &a, int rows, place *at) {
    int s = (int)blockIdx.x / a.n_tile;
    int64_t begin = a.seq_start[s] - a.first_row, end = a.seq_start[s + 1] - a.first_row;
    bool is_there = begin >= 0 && begin <= end && end - begin <= a.max_seq && end <= a.n_tok;
    if (!is_there && threadIdx.x == 0) *a.fault = CUDA_FAULT_ATTENTION;
    *at = place{begin, (int)(end - begin), ((int)blockIdx.x % a.n_tile) * rows};
    return is_there && at->row < at->n;
}

static __device__ inline int first_key(const attn &a, int row) {
    return a.window > 0 && row >= a.window ? row - a.window + 1 : 0;
}

/* ---- rows of a head in shared memory; columns behind d_head, and rows that are not there, are zeros ---- */

/* N rows, of which rows first, first + step, ... go to their places; all are read before one is written. */
template <int CHUNKS, int N>
static __device__ inline void load_rows(const float *from, int64_t from_stride, int first, int step, int n, int d,
                                        float *to) {
    int lane = (int)threadIdx.x % CUDA_WARP;
    float kept[N][CHUNKS];
#pragma unroll
    for (int i = 0; i < N; i++)
#pragma unroll
        for (int c = 0; c < CHUNKS; c++) {
            int row = first + i * step, column = c * CUDA_WARP + lane;
            kept[i][c] = row < n && column < d ? from[row * from_stride + column] : 0.0f;
        }
#pragma unroll
    for (int i = 0; i < N; i++)
#pragma unroll
        for (int c = 0; c < CHUNKS; c++) to[(first + i * step) * stride_of(CHUNKS) + c * CUDA_WARP + lane] = kept[i][c];
}

/* A warp's own rows, of which n are there. */
template <int CHUNKS>
static __device__ inline void load_own(const float *from, int64_t from_stride, int n, int d, float *to) {
    load_rows<CHUNKS, own_of(CHUNKS)>(from, from_stride, 0, 1, n, d, to);
}

/* TILE rows, of which n are there; all warps of the block. In halves: with all of it on its way registers run out. */
template <int CHUNKS>
static __device__ inline void load_tile(const float *from, int64_t from_stride, int n, int d, float *tile) {
    const int part = TILE / WARPS / 2;
#pragma unroll 1
    for (int half = 0; half < 2; half++)
        load_rows<CHUNKS, part>(from, from_stride, (int)threadIdx.x / CUDA_WARP + half * part * WARPS, WARPS, n, d,
                                tile);
}

/* sums[r] = <row r of the warp's own, the lane's row of the tile> */
template <int CHUNKS> static __device__ inline void dots(const float *own, const float *tile, int d, float *sums) {
    const float *row = tile + (int)threadIdx.x % CUDA_WARP * stride_of(CHUNKS);
#pragma unroll
    for (int r = 0; r < own_of(CHUNKS); r++) sums[r] = 0.0f;
#pragma unroll 1
    for (int c = 0; c < d; c += 4) {
        float4 x = *reinterpret_cast<const float4 *>(row + c);
#pragma unroll
        for (int r = 0; r < own_of(CHUNKS); r++) {
            float4 y = *reinterpret_cast<const float4 *>(own + r * stride_of(CHUNKS) + c);
            sums[r] += y.x * x.x;
            sums[r] += y.y * x.y;
            sums[r] += y.z * x.z;
            sums[r] += y.w * x.w;
        }
    }
}

/* sums[r][own columns] += the first n rows of the tile, each times weight[r] of its lane. */
template <int CHUNKS>
static __device__ inline void add_tile(const float *weight, const float *tile, int n, float (*sums)[CHUNKS]) {
    int lane = (int)threadIdx.x % CUDA_WARP;
#pragma unroll 1
    for (int t = 0; t < n; t++) {
        float value[CHUNKS];
#pragma unroll
        for (int c = 0; c < CHUNKS; c++) value[c] = tile[t * stride_of(CHUNKS) + c * CUDA_WARP + lane];
#pragma unroll
        for (int r = 0; r < own_of(CHUNKS); r++) {
            float factor = __shfl_sync(cuda_all_lanes, weight[r], t);
#pragma unroll
            for (int c = 0; c < CHUNKS; c++) sums[r][c] += factor * value[c];
        }
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

/* The softmax so far of a warp's rows: the largest score, and sums of exp(score - largest). */
template <int CHUNKS> struct row_softmax {
    float largest[own_of(CHUNKS)], sum[own_of(CHUNKS)], out[own_of(CHUNKS)][CHUNKS];
};

/* Row r's scores of a tile become factors of its values; -infinity where a key is not seen. What the row had shrinks to
 * the new largest score. A row that sees nothing of the tile stays as it is. */
template <int CHUNKS>
static __device__ inline void take_scores(int r, bool sees, float *score, row_softmax<CHUNKS> *s) {
    float largest = fmaxf(s->largest[r], warp_max(*score));
    float shrink = cuda_exp(s->largest[r] - largest), p = cuda_exp(*score - largest); /* exp(-infinity) is 0 */
    float sum = warp_sum(p);
    *score = sees ? p : 0.0f;
    if (!sees) return;
    s->largest[r] = largest;
    s->sum[r] = s->sum[r] * shrink + sum;
#pragma unroll
    for (int c = 0; c < CHUNKS; c++) s->out[r][c] *= shrink;
}

template <int CHUNKS> static __global__ void __launch_bounds__(THREADS, 2) k_attn_fwd(attn a) {
    const int own = own_of(CHUNKS), stride = stride_of(CHUNKS);
    CUDA_SHARED(float, shared);
    place at;
    if (!find_place(a, rows_of(CHUNKS), &at)) return;
    int lane = (int)threadIdx.x % CUDA_WARP, warp = (int)threadIdx.x / CUDA_WARP, head = (int)blockIdx.y;
    int kv = head / (a.n_head / a.n_kv), row = at.row + warp * own, there = at.n - row;
    int last = at.row + rows_of(CHUNKS) < at.n ? at.row + rows_of(CHUNKS) : at.n; /* what the block sees ends here */
    int64_t q_stride = (int64_t)a.n_head * a.d_head, kv_stride = (int64_t)a.n_kv * a.d_head;
    int64_t q_at = (at.begin + row) * q_stride + head * a.d_head;
    float *queries = shared + warp * own * stride, *keys = shared + rows_of(CHUNKS) * stride;
    float *values = keys + TILE * stride;
    row_softmax<CHUNKS> s = {{0.0f}, {0.0f}, {{0.0f}}};
#pragma unroll
    for (int r = 0; r < own; r++) s.largest[r] = -INFINITY;
    load_own<CHUNKS>(a.q + q_at, q_stride, there, a.d_head, queries);
    for (int key = first_key(a, at.row) / TILE * TILE; key < last; key += TILE) {
        int64_t kv_at = (at.begin + key) * kv_stride + kv * a.d_head;
        float score[own];
        __syncthreads();
        load_tile<CHUNKS>(a.k + kv_at, kv_stride, at.n - key, a.d_head, keys);
        load_tile<CHUNKS>(a.v + kv_at, kv_stride, at.n - key, a.d_head, values);
        __syncthreads();
        if (there <= 0 || key >= row + own || key + TILE <= first_key(a, row)) continue; /* the warp sees none of it */
        dots<CHUNKS>(queries, keys, a.d_head, score);
#pragma unroll
        for (int r = 0; r < own; r++) {
            int first = first_key(a, row + r);
            bool is_seen = key + lane >= first && key + lane <= row + r && r < there;
            score[r] = is_seen ? score[r] * a.scale : -INFINITY;
            take_scores<CHUNKS>(r, r < there && key <= row + r && key + TILE > first, &score[r], &s);
        }
        add_tile<CHUNKS>(score, values, at.n - key < TILE ? at.n - key : TILE, s.out);
    }
#pragma unroll
    for (int r = 0; r < own; r++) {
        if (r >= there) break;
        store_row<CHUNKS>(s.out[r], 1.0f / s.sum[r], a.d_head, a.out + q_at + r * q_stride);
        if (lane == 0) a.log_sum_exp[head * a.n_tok + at.begin + row + r] = s.largest[r] + logf(s.sum[r]);
    }
}

/* ---- backward: dV = P^T dO;  dP = dO V^T;  dS = P (dP - <dO, O>) scale;  dQ = dS K;  dK = dS^T Q ---- */

template <int CHUNKS> static __global__ void __launch_bounds__(THREADS, 2) k_attn_dq(attn a) {
    const int own = own_of(CHUNKS), stride = stride_of(CHUNKS);
    CUDA_SHARED(float, shared);
    place at;
    if (!find_place(a, rows_of(CHUNKS), &at)) return;
    int lane = (int)threadIdx.x % CUDA_WARP, warp = (int)threadIdx.x / CUDA_WARP, head = (int)blockIdx.y;
    int kv = head / (a.n_head / a.n_kv), row = at.row + warp * own, there = at.n - row;
    int last = at.row + rows_of(CHUNKS) < at.n ? at.row + rows_of(CHUNKS) : at.n;
    int64_t q_stride = (int64_t)a.n_head * a.d_head, kv_stride = (int64_t)a.n_kv * a.d_head;
    int64_t q_at = (at.begin + row) * q_stride + head * a.d_head, note = head * a.n_tok + at.begin + row;
    float *queries = shared + warp * own * stride, *d_outs = queries + rows_of(CHUNKS) * stride;
    float *keys = shared + 2 * rows_of(CHUNKS) * stride, *values = keys + TILE * stride;
    float dq[own][CHUNKS] = {{0.0f}}, lse[own] = {0.0f}, delta[own] = {0.0f};
    load_own<CHUNKS>(a.q + q_at, q_stride, there, a.d_head, queries);
    load_own<CHUNKS>(a.d_out + q_at, q_stride, there, a.d_head, d_outs);
#pragma unroll
    for (int r = 0; r < own; r++) {
        if (r >= there) break;
        const float *d_out = a.d_out + q_at + r * q_stride, *out = a.out + q_at + r * q_stride;
        for (int c = lane; c < a.d_head; c += CUDA_WARP) delta[r] += d_out[c] * out[c];
        delta[r] = warp_sum(delta[r]);
        lse[r] = a.log_sum_exp[note + r];
        if (lane == 0) a.delta[note + r] = delta[r];
    }
    for (int key = first_key(a, at.row) / TILE * TILE; key < last; key += TILE) {
        int64_t kv_at = (at.begin + key) * kv_stride + kv * a.d_head;
        float score[own], ds[own];
        __syncthreads();
        load_tile<CHUNKS>(a.k + kv_at, kv_stride, at.n - key, a.d_head, keys);
        load_tile<CHUNKS>(a.v + kv_at, kv_stride, at.n - key, a.d_head, values);
        __syncthreads();
        if (there <= 0 || key >= row + own || key + TILE <= first_key(a, row)) continue;
        dots<CHUNKS>(queries, keys, a.d_head, score);
        dots<CHUNKS>(d_outs, values, a.d_head, ds);
#pragma unroll
        for (int r = 0; r < own; r++) {
            bool is_seen = key + lane >= first_key(a, row + r) && key + lane <= row + r && r < there;
            float p = cuda_exp(score[r] * a.scale - lse[r]);
            ds[r] = is_seen ? p * (ds[r] - delta[r]) * a.scale : 0.0f;
        }
        add_tile<CHUNKS>(ds, keys, at.n - key < TILE ? at.n - key : TILE, dq);
    }
#pragma unroll
    for (int r = 0; r < own; r++)
        if (r < there) store_row<CHUNKS>(dq[r], 1.0f, a.d_head, a.dq + q_at + r * q_stride);
}

/* A warp has a few keys; the heads of its group add to them in order. */
template <int CHUNKS> static __global__ void __launch_bounds__(THREADS, 2) k_attn_dkv(attn a) {
    const int own = own_of(CHUNKS), stride = stride_of(CHUNKS);
    CUDA_SHARED(float, shared);
    place at;
    if (!find_place(a, rows_of(CHUNKS), &at)) return;
    int lane = (int)threadIdx.x % CUDA_WARP, warp = (int)threadIdx.x / CUDA_WARP, kv = (int)blockIdx.y;
    int group = a.n_head / a.n_kv, key = at.row + warp * own, there = at.n - key;
    int window = a.window > 0 && a.window < at.n ? a.window : at.n; /* key k is seen by rows [k, k + window) */
    int last = at.row + rows_of(CHUNKS) - 1 + window < at.n ? at.row + rows_of(CHUNKS) - 1 + window : at.n;
    int64_t q_stride = (int64_t)a.n_head * a.d_head, kv_stride = (int64_t)a.n_kv * a.d_head;
    int64_t kv_at = (at.begin + key) * kv_stride + kv * a.d_head;
    float *own_keys = shared + warp * own * stride, *own_values = own_keys + rows_of(CHUNKS) * stride;
    float *queries = shared + 2 * rows_of(CHUNKS) * stride, *d_outs = queries + TILE * stride;
    float dk[own][CHUNKS] = {{0.0f}}, dv[own][CHUNKS] = {{0.0f}};
    load_own<CHUNKS>(a.k + kv_at, kv_stride, there, a.d_head, own_keys);
    load_own<CHUNKS>(a.v + kv_at, kv_stride, there, a.d_head, own_values);
    for (int head = kv * group; head < (kv + 1) * group; head++)
        for (int row = at.row / TILE * TILE; row < last; row += TILE) {
            int64_t q_at = (at.begin + row) * q_stride + head * a.d_head;
            float p[own], ds[own];
            __syncthreads();
            load_tile<CHUNKS>(a.q + q_at, q_stride, at.n - row, a.d_head, queries);
            load_tile<CHUNKS>(a.d_out + q_at, q_stride, at.n - row, a.d_head, d_outs);
            __syncthreads();
            if (there <= 0 || row >= key + own - 1 + window || row + TILE <= key) continue;
            int64_t note = row + lane < at.n ? head * a.n_tok + at.begin + row + lane : 0;
            float lse = a.log_sum_exp[note], delta = a.delta[note];
            dots<CHUNKS>(own_keys, queries, a.d_head, p);
            dots<CHUNKS>(own_values, d_outs, a.d_head, ds);
#pragma unroll
            for (int r = 0; r < own; r++) {
                int distance = row + lane - key - r;
                bool is_seen = distance >= 0 && distance < window && row + lane < at.n;
                p[r] = is_seen ? cuda_exp(p[r] * a.scale - lse) : 0.0f;
                ds[r] = is_seen ? p[r] * (ds[r] - delta) * a.scale : 0.0f;
            }
            int n = at.n - row < TILE ? at.n - row : TILE;
            add_tile<CHUNKS>(p, d_outs, n, dv);
            add_tile<CHUNKS>(ds, queries, n, dk);
        }
#pragma unroll
    for (int r = 0; r < own; r++) {
        if (r >= there) break;
        store_row<CHUNKS>(dk[r], 1.0f, a.d_head, a.dk + kv_at + r * kv_stride);
        store_row<CHUNKS>(dv[r], 1.0f, a.d_head, a.dv + kv_at + r * kv_stride);
    }
}

/* ---- launches ---- */

typedef void (*attn_kernel)(attn a);

/* n_own: tensors of which the block's own rows are kept, beside two tiles. */
static lemoe_status run(lemoe_device *device, const char *op, attn_kernel kernel, int chunks, int n_own, int heads,
                        int64_t n_seq, attn a) {
    size_t shared_bytes = (size_t)(n_own * rows_of(chunks) + 2 * TILE) * (size_t)stride_of(chunks) * sizeof(float);
    if (shared_bytes > PLAIN_SHARED_BYTES)
        CUDA_TRY(
            cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared_bytes));
    a.n_tile = (a.max_seq + rows_of(chunks) - 1) / rows_of(chunks);
    if (a.n_tile == 0) a.n_tile = 1; /* a sequence longer than max_seq is still noticed */
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
    a->first_row = args->first_row;
    a->n_tok = args->q.shape[0];
    a->n_head = (int)args->q.shape[1];
    a->n_kv = (int)args->k.shape[1];
    a->d_head = (int)args->q.shape[2];
    a->max_seq = (int)args->max_seq;
    a->window = (int)args->window;
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

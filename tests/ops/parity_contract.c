/*
 * What holds for every op at once: bits do not depend on the thread count (products aside, whose library decides), and
 * arguments that do not fit are refused by name before anything is computed.
 */
#include "kernels/base/mem.h"
#include "kernels/ops_table.h"
#include "tests/ops/ops_parity.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- threads ---- */

enum { ROWS = 701, D = 96, N_SEQ = 5, N_HEAD = 4, N_KV = 2, D_HEAD = 24 };

/* Outputs of one pass over the ops, end to end in host memory. */
typedef struct pass {
    float *values;
    int64_t n, capacity;
} pass;

static void keep(ops_test *t, pass *p, lemoe_tensor tensor) {
    int64_t n = lemoe_tensor_count(&tensor);
    OPS(lemoe_mem_grow(&p->values, &p->capacity, p->n + n, sizeof *p->values));
    memcpy(p->values + p->n, ops_get(t, tensor), (size_t)n * sizeof *p->values);
    p->n += n;
}

static lemoe_tensor rows_of(ops_test *t, bool random) {
    return ops_tensor(t, random ? ops_random(t, ROWS * D, 2.0) : NULL, ROWS, D, 0);
}

/* Outputs that are stored as bf16. */
static void keep_rounded(ops_test *t, pass *p, lemoe_tensor x, lemoe_tensor y, lemoe_tensor z) {
    lemoe_tensor out = rows_of(t, false), inverse = ops_tensor(t, NULL, ROWS, 0, 0), half[4];
    for (int i = 0; i < 4; i++) OPS(lemoe_arena_matrix(t->arena, LEMOE_BF16, ROWS, D, &half[i]));
    OPS(lemoe_op_swiglu_fwd(t->device, x, y, half[0]));
    OPS(lemoe_op_swiglu_bwd(t->device, z, x, y, half[1], half[2]));
    OPS(lemoe_op_rmsnorm_fwd(t->device, x, ops_tensor(t, ops_random(t, D, 1.0), D, 0, 0), 1e-5f, half[3], inverse));
    for (int i = 0; i < 4; i++) {
        OPS(lemoe_op_cast(t->device, half[i], out));
        keep(t, p, out);
    }
}

static void pass_elementwise(ops_test *t, pass *p) {
    lemoe_tensor x = rows_of(t, true), y = rows_of(t, true), z = rows_of(t, true), out = rows_of(t, false);
    lemoe_tensor inverse = ops_tensor(t, NULL, ROWS, 0, 0), w = ops_tensor(t, ops_random(t, D, 1.0), D, 0, 0);
    OPS(lemoe_op_silu_fwd(t->device, x, out));
    keep(t, p, out);
    OPS(lemoe_op_swiglu_fwd(t->device, x, y, out));
    keep(t, p, out);
    keep_rounded(t, p, x, y, z);
    OPS(lemoe_op_swiglu_bwd(t->device, z, x, y, out, z));
    keep(t, p, z);
    OPS(lemoe_op_axpy(t->device, 0.3f, x, y));
    OPS(lemoe_op_scale(t->device, 1.7f, y));
    keep(t, p, y);
    OPS(lemoe_op_clamp_around(t->device, x, 0.5f, z));
    keep(t, p, z);
    OPS(lemoe_op_rmsnorm_fwd(t->device, x, w, 1e-5f, out, inverse));
    OPS(lemoe_op_rmsnorm_bwd(t->device, y, x, w, inverse, out));
    keep(t, p, out);
}

static void pass_rows(ops_test *t, pass *p) {
    lemoe_tensor x = rows_of(t, true), y = rows_of(t, true),
                 weight = ops_tensor(t, ops_random(t, ROWS, 1.0), ROWS, 0, 0);
    lemoe_tensor max = ops_tensor(t, NULL, ROWS, 0, 0), sum = ops_tensor(t, NULL, ROWS, 0, 0);
    lemoe_tensor picked = ops_tensor(t, NULL, ROWS, 0, 0), arg = ops_index(t, NULL, ROWS);
    int32_t *row = ops_array(t, ROWS, sizeof *row);
    for (int32_t i = 0; i < ROWS; i++) row[i] = ROWS - 1 - i;
    lemoe_tensor index = ops_index(t, row, ROWS), none = {.dtype = LEMOE_F32, .n_dim = 1};
    OPS(lemoe_op_rows_scatter_add(t->device, x, index, weight, y));
    OPS(lemoe_op_rows_scatter_add(t->device, x, index, none, y));
    OPS(lemoe_op_rows_scale(t->device, weight, y));
    OPS(lemoe_op_row_dot(t->device, x, y, sum));
    keep(t, p, y);
    keep(t, p, sum);
    for (int32_t i = 0; i < ROWS; i++) row[i] = i % D;
    OPS(lemoe_op_xent_rowmax(t->device, x, 0, max, arg));
    OPS(lemoe_op_xent_rowsum(t->device, x, max, ops_index(t, row, ROWS), 0, sum, picked));
    OPS(lemoe_op_xent_bwd(t->device, x, max, sum, ops_index(t, row, ROWS), weight, 0));
    keep(t, p, sum);
    keep(t, p, x);
}

static void pass_attention(ops_test *t, pass *p) {
    static const int32_t start[N_SEQ + 1] = {0, 200, 201, 350, 500, ROWS};
    int64_t nq = (int64_t)ROWS * N_HEAD * D_HEAD, nk = (int64_t)ROWS * N_KV * D_HEAD;
    int32_t *position = ops_array(t, ROWS, sizeof *position);
    for (int32_t i = 0; i < ROWS; i++) position[i] = i % 97;
    lemoe_attn_args a = {.q = ops_tensor(t, ops_random(t, nq, 1.0), ROWS, N_HEAD, D_HEAD),
                         .k = ops_tensor(t, ops_random(t, nk, 1.0), ROWS, N_KV, D_HEAD),
                         .v = ops_tensor(t, ops_random(t, nk, 1.0), ROWS, N_KV, D_HEAD),
                         .out = ops_tensor(t, NULL, ROWS, N_HEAD, D_HEAD),
                         .log_sum_exp = ops_tensor(t, NULL, N_HEAD, ROWS, 0),
                         .seq_start = ops_index(t, start, N_SEQ + 1),
                         .max_seq = 201,
                         .scale = 0.2f,
                         .d_out = ops_tensor(t, ops_random(t, nq, 1.0), ROWS, N_HEAD, D_HEAD),
                         .dq = ops_tensor(t, NULL, ROWS, N_HEAD, D_HEAD),
                         .dk = ops_tensor(t, NULL, ROWS, N_KV, D_HEAD),
                         .dv = ops_tensor(t, NULL, ROWS, N_KV, D_HEAD)};
    lemoe_tensor inv_freq = ops_tensor(t, ops_random(t, D_HEAD / 2, 1.0), D_HEAD / 2, 0, 0);
    OPS(lemoe_op_rope(t->device, a.q, ops_index(t, position, ROWS), inv_freq, 1));
    OPS(lemoe_op_attn_fwd(t->device, &a));
    OPS(lemoe_op_attn_bwd(t->device, &a));
    keep(t, p, a.out);
    keep(t, p, a.dq);
    keep(t, p, a.dk);
    keep(t, p, a.dv);
}

static void pass_optimiser(ops_test *t, pass *p) {
    lemoe_adamw_args a = {.w = rows_of(t, true),
                          .grad = rows_of(t, true),
                          .m = rows_of(t, true),
                          .v = ops_tensor(t, ops_array(t, ROWS * D, sizeof(float)), ROWS, D, 0),
                          .lr = 0.01f,
                          .beta1 = 0.9f,
                          .beta2 = 0.999f,
                          .eps = 1e-8f,
                          .weight_decay = 0.1f,
                          .grad_scale = 0.5f,
                          .step = 3};
    lemoe_fill_args fill = {rows_of(t, false), lemoe_rng_make(3, LEMOE_RNG_TEST, 9), 1.0f, 0, 0, D};
    double sum = 0;
    float narrow[2];
    OPS(lemoe_op_adamw(t->device, &a));
    OPS(lemoe_op_fill_normal(t->device, &fill));
    OPS(lemoe_op_sumsq(t->device, a.w, &sum));
    memcpy(narrow, &sum, sizeof sum);
    keep(t, p, a.w);
    keep(t, p, fill.x);
    keep(t, p, ops_tensor(t, narrow, 2, 0, 0));
}

/* The same inputs on a device with that many threads. */
static pass pass_with(ops_test *t, int n_threads) {
    lemoe_device *device = t->device;
    lemoe_arena *arena = t->arena;
    uint32_t n_stream = t->n_stream;
    pass p = {0};
    OPS(lemoe_device_open(lemoe_device_kind(device), n_threads, &t->device));
    OPS(lemoe_arena_create(t->device, 1 << 20, &t->arena));
    pass_elementwise(t, &p);
    pass_rows(t, &p);
    pass_attention(t, &p);
    pass_optimiser(t, &p);
    lemoe_arena_destroy(t->arena);
    lemoe_device_close(t->device);
    t->device = device;
    t->arena = arena;
    t->n_stream = n_stream;
    return p;
}

void parity_threads(ops_test *t) {
    pass one = pass_with(t, 1);
    for (int n_threads = 2; n_threads <= 3; n_threads++) {
        pass more = pass_with(t, n_threads);
        ops_true(t, "outputs of every thread count", more.n == one.n);
        ops_same(t, "bits with more threads", more.values, one.values, (size_t)one.n * sizeof *one.values);
        lemoe_mem_free(more.values);
    }
    lemoe_mem_free(one.values);
}

/* ---- refusals ---- */

static void refused(ops_test *t, const char *op, lemoe_status status, lemoe_status want) {
    bool named = strstr(lemoe_error_message(), op) != NULL;
    ops_true(t, op, status == want && named);
    lemoe_error_clear();
}

/* bf16 where it cannot be, fp16 where bf16 can. */
static void refuse_halves(ops_test *t) {
    lemoe_device *d = t->device;
    lemoe_tensor x34 = ops_tensor(t, NULL, 3, 4, 0), x33 = ops_tensor(t, NULL, 3, 3, 0), i3 = ops_index(t, NULL, 3);
    lemoe_tensor v4 = ops_tensor(t, NULL, 4, 0, 0), v3 = ops_tensor(t, NULL, 3, 0, 0), bf16, fp16, in_place;
    OPS(lemoe_arena_matrix(t->arena, LEMOE_BF16, 3, 4, &bf16));
    OPS(lemoe_arena_matrix(t->arena, LEMOE_F16, 3, 4, &fp16));
    in_place = lemoe_tensor_2d(x34.data, LEMOE_BF16, 3, 4);
    refused(t, "matmul", lemoe_op_linear(d, bf16, x34, x33, false), LEMOE_ERR_ARG); /* this device rounds nothing */
    refused(t, "matmul", lemoe_op_linear(d, bf16, bf16, x33, false), LEMOE_ERR_ARG);
    refused(t, "clamp_around", lemoe_op_clamp_around(d, bf16, 1.0f, x34), LEMOE_ERR_ARG);
    refused(t, "swiglu_fwd", lemoe_op_swiglu_fwd(d, x34, x34, fp16), LEMOE_ERR_ARG);
    refused(t, "swiglu_fwd", lemoe_op_swiglu_fwd(d, bf16, x34, x34), LEMOE_ERR_ARG);
    refused(t, "swiglu_bwd", lemoe_op_swiglu_bwd(d, x34, x34, x34, x34, bf16), LEMOE_ERR_ARG);
    refused(t, "swiglu_bwd", lemoe_op_swiglu_bwd(d, x34, x34, x34, bf16, x34), LEMOE_ERR_ARG);
    refused(t, "swiglu_bwd", lemoe_op_swiglu_bwd(d, x34, x34, x34, bf16, in_place), LEMOE_ERR_ARG);
    refused(t, "rmsnorm_fwd", lemoe_op_rmsnorm_fwd(d, x34, v4, 1e-5f, fp16, v3), LEMOE_ERR_ARG);
    refused(t, "rows_gather", lemoe_op_rows_gather(d, x34, i3, bf16), LEMOE_ERR_ARG);
    refused(t, "rows_gather", lemoe_op_rows_gather(d, fp16, i3, fp16), LEMOE_ERR_ARG);
}

static void refuse_dense(ops_test *t) {
    lemoe_device *d = t->device;
    lemoe_tensor x34 = ops_tensor(t, NULL, 3, 4, 0), x43 = ops_tensor(t, NULL, 4, 3, 0),
                 x33 = ops_tensor(t, NULL, 3, 3, 0);
    lemoe_tensor v4 = ops_tensor(t, NULL, 4, 0, 0), i3 = ops_index(t, NULL, 3),
                 bare = {
                     .n_dim = 2, .shape = {3, 4, 1, 1}
    };
    refused(t, "matmul", lemoe_op_linear(d, x34, x43, x33, false), LEMOE_ERR_SHAPE);
    refused(t, "matmul", lemoe_op_linear(d, bare, x34, x33, false), LEMOE_ERR_ARG);
    refused(t, "matmul", lemoe_op_matmul(d, &(lemoe_matmul_args){.a = x34, .b = i3, .c = x34}), LEMOE_ERR_SHAPE);
    refused(t, "cast", lemoe_op_cast(d, i3, v4), LEMOE_ERR_ARG);
    refused(t, "cast", lemoe_op_cast(d, x34, v4), LEMOE_ERR_SHAPE);
    refused(t, "axpy", lemoe_op_axpy(d, 1.0f, x34, v4), LEMOE_ERR_SHAPE);
    refused(t, "axpy", lemoe_op_axpy(d, 1.0f, i3, i3), LEMOE_ERR_ARG);
    refused(t, "scale", lemoe_op_scale(d, 1.0f, i3), LEMOE_ERR_ARG);
    refused(t, "clamp_around", lemoe_op_clamp_around(d, v4, 1.0f, x34), LEMOE_ERR_SHAPE);
    refused(t, "clamp_around", lemoe_op_clamp_around(d, x34, 1.0f, v4), LEMOE_ERR_SHAPE);
    refused(t, "clamp_around", lemoe_op_clamp_around(d, i3, 1.0f, i3), LEMOE_ERR_ARG);
    refused(t, "clamp_around", lemoe_op_clamp_around(d, x34, -1.0f, x34), LEMOE_ERR_ARG);
    refused(t, "clamp_around", lemoe_op_clamp_around(d, x34, NAN, x34), LEMOE_ERR_ARG);
    refused(t, "silu_fwd", lemoe_op_silu_fwd(d, x34, x33), LEMOE_ERR_SHAPE);
    refused(t, "silu_bwd", lemoe_op_silu_bwd(d, x33, x34, x34), LEMOE_ERR_SHAPE);
    refused(t, "swiglu_fwd", lemoe_op_swiglu_fwd(d, x34, x33, x34), LEMOE_ERR_SHAPE);
    refused(t, "swiglu_bwd", lemoe_op_swiglu_bwd(d, x34, x34, x34, x33, x34), LEMOE_ERR_SHAPE);
    refused(t, "rmsnorm_fwd", lemoe_op_rmsnorm_fwd(d, x34, x33, 1e-5f, x34, v4), LEMOE_ERR_SHAPE);
    refused(t, "rmsnorm_bwd", lemoe_op_rmsnorm_bwd(d, x34, x34, v4, v4, x34), LEMOE_ERR_SHAPE);
    refused(t, "rope", lemoe_op_rope(d, x34, i3, v4, 1), LEMOE_ERR_SHAPE);
    refuse_halves(t);
    refused(t, "embed_fwd", lemoe_op_embed_fwd(d, i3, x43, 0, x34), LEMOE_ERR_SHAPE);
}

static void refuse_sequences(ops_test *t) {
    lemoe_device *d = t->device;
    lemoe_tensor q = ops_tensor(t, NULL, 2, 3, 4), k = ops_tensor(t, NULL, 2, 2, 4), v2 = ops_tensor(t, NULL, 2, 0, 0);
    lemoe_tensor x34 = ops_tensor(t, NULL, 3, 4, 0), x24 = ops_tensor(t, NULL, 2, 4, 0), i2 = ops_index(t, NULL, 2);
    lemoe_tensor i3 = ops_index(t, NULL, 3), x23 = ops_tensor(t, NULL, 2, 3, 0);
    lemoe_attn_args a = {.q = q, .k = k, .v = k, .out = q, .log_sum_exp = x34, .seq_start = i2, .max_seq = 2};
    refused(t, "attn_fwd", lemoe_op_attn_fwd(d, &a), LEMOE_ERR_SHAPE); /* 3 heads on 2 */
    a.max_seq = 3;
    refused(t, "attn_fwd", lemoe_op_attn_fwd(d, &a), LEMOE_ERR_ARG);
    refused(t, "xent_rowmax", lemoe_op_xent_rowmax(d, x24, 0, v2, i3), LEMOE_ERR_SHAPE);
    refused(t, "xent_rowsum", lemoe_op_xent_rowsum(d, x24, v2, v2, 0, v2, v2), LEMOE_ERR_ARG);
    refused(t, "xent_bwd", lemoe_op_xent_bwd(d, x24, v2, v2, i3, v2, 0), LEMOE_ERR_SHAPE);
    refused(t, "seg_mean", lemoe_op_seg_mean(d, x34, i2, i3, x24), LEMOE_ERR_SHAPE);
    refused(t, "topk_softmax_fwd", lemoe_op_topk_softmax_fwd(d, x24, x24, i3), LEMOE_ERR_SHAPE);
    refused(t, "softmax_bwd", lemoe_op_softmax_bwd(d, x24, x23, x24), LEMOE_ERR_SHAPE);
    refused(t, "rows_gather", lemoe_op_rows_gather(d, x34, i3, x24), LEMOE_ERR_SHAPE);
    refused(t, "rows_scatter_add", lemoe_op_rows_scatter_add(d, x24, i3, v2, x34), LEMOE_ERR_SHAPE);
    refused(t, "rows_scale", lemoe_op_rows_scale(d, v2, x34), LEMOE_ERR_SHAPE);
    refused(t, "row_dot", lemoe_op_row_dot(d, x24, x23, v2), LEMOE_ERR_SHAPE);
    refused(t, "adamw", lemoe_op_adamw(d, &(lemoe_adamw_args){.w = v2, .grad = v2, .m = v2, .v = v2}), LEMOE_ERR_ARG);
    refused(t, "fill_normal", lemoe_op_fill_normal(d, &(lemoe_fill_args){.x = x24, .n_columns = 3}), LEMOE_ERR_SHAPE);
}

/* A backend without an optional op says so by name. */
static void refuse_missing(ops_test *t) {
    lemoe_compute_ops table = *t->device->compute;
    const lemoe_compute_ops *whole = t->device->compute;
    lemoe_tensor x = ops_tensor(t, NULL, 2, 2, 0), i = ops_index(t, NULL, 2);
    table.seg_mean = NULL;
    t->device->compute = &table;
    refused(t, "seg_mean", lemoe_op_seg_mean(t->device, x, i, i, x), LEMOE_ERR_UNSUPPORTED);
    t->device->compute = whole;
}

static void memory_moves(ops_test *t) {
    enum { N = 1000 };
    float *x = ops_random(t, N, 1.0), *zero = ops_array(t, N, sizeof *zero), *got = ops_array(t, N, sizeof *got);
    size_t n_bytes = N * sizeof *x, free_bytes = 0, total_bytes = 0;
    void *a = NULL, *b = NULL;
    lemoe_device *none = NULL;
    OPS(lemoe_device_alloc(t->device, n_bytes, &a));
    OPS(lemoe_device_alloc(t->device, n_bytes, &b));
    ops_true(t, "blocks are aligned",
             (uintptr_t)a % LEMOE_DEVICE_ALIGNMENT == 0 && (uintptr_t)b % LEMOE_DEVICE_ALIGNMENT == 0);
    OPS(lemoe_device_upload(t->device, a, x, n_bytes));
    OPS(lemoe_device_copy(t->device, b, a, n_bytes));
    OPS(lemoe_device_zero(t->device, a, n_bytes));
    OPS(lemoe_device_download(t->device, got, b, n_bytes));
    ops_same(t, "upload, copy, download", got, x, n_bytes);
    OPS(lemoe_device_download(t->device, got, a, n_bytes));
    ops_same(t, "zero", got, zero, n_bytes);
    OPS(lemoe_device_mem_info(t->device, &free_bytes, &total_bytes));
    ops_true(t, "memory there is", free_bytes > 0 && free_bytes <= total_bytes);
    lemoe_device_free(t->device, a);
    lemoe_device_free(t->device, b);
    lemoe_device_free(t->device, NULL);
    OPS(lemoe_device_sync(t->device));
    refused(t, "abacus", lemoe_device_open("abacus", 1, &none), LEMOE_ERR_UNSUPPORTED);
}

void parity_contract(ops_test *t) {
    refuse_dense(t);
    refuse_sequences(t);
    refuse_missing(t);
    memory_moves(t);
}

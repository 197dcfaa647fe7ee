#include "tests/bench/op_watch.h"

#include "kernels/base/mem.h"
#include "kernels/cpu/cpu_onednn.h" /* the library itself, for its own rate */
#include "tests/bench/bench_clock.h"

#include <stdio.h>
#include <string.h>

const char *const op_family_name[OP_FAMILY_COUNT] = {
    [OP_LINEAR] = "y",     [OP_LINEAR_DX] = "dx", [OP_LINEAR_DW] = "dw",   [OP_ATTN] = "attention",
    [OP_NORM] = "rmsnorm", [OP_ACT] = "swiglu",   [OP_ROPE] = "rope",      [OP_LOSS] = "loss",
    [OP_ROWS] = "rows",    [OP_AXPY] = "axpy",    [OP_NORM2] = "gradnorm", [OP_ADAMW] = "adamw",
    [OP_MEMORY] = "memory"};

typedef lemoe_status (*linear_fn)(lemoe_device *, lemoe_tensor, lemoe_tensor, lemoe_tensor, bool);

typedef struct product {
    op_family kind;
    linear_fn real;
    lemoe_tensor a, b, c;
    bool accumulate;
    uint16_t *rounded; /* a in bf16, where the library is given that */
} product;

double op_seconds[OP_FAMILY_COUNT];
static product *products;
static int64_t n_product, capacity;
static bool is_noting;
static lemoe_device *awaited; /* NULL: an operation is over when its call is */

void op_watch_reset(void) { memset(op_seconds, 0, sizeof op_seconds); }

static void forget(void) {
    for (int64_t i = 0; i < n_product; i++) lemoe_mem_free(products[i].rounded);
    n_product = 0;
}

void op_watch_note(bool noting) {
    is_noting = noting;
    if (noting) forget();
}

/* Terms of each of its sums. */
static int64_t inner_of(const product *p) { return p->a.shape[p->kind == OP_LINEAR_DW ? 0 : 1]; }

double op_watch_flop(void) {
    double flop = 0;
    for (int64_t i = 0; i < n_product; i++)
        flop += 2.0 * (double)lemoe_tensor_count(&products[i].c) * (double)inner_of(&products[i]);
    return flop;
}

void op_watch_wait(lemoe_device *device) { awaited = device; }

void op_watch_print(void) {
    for (int64_t i = 0; i < n_product; i++) {
        const product *p = &products[i];
        printf(" %s %lld %lld %lld", op_family_name[p->kind], (long long)p->c.shape[0], (long long)p->c.shape[1],
               (long long)inner_of(p));
    }
}

void op_watch_free(void) {
    forget();
    lemoe_mem_free(products);
    products = NULL;
    capacity = 0;
}

/* ---- what stands between the runner and each operation ---- */

/* Counts an operation that began then; awaited, it ends when the device has done it. */
static lemoe_status count(op_family family, double begin, lemoe_status status) {
    if (awaited && status == LEMOE_OK) status = lemoe_device_sync(awaited);
    op_seconds[family] += bench_seconds() - begin;
    return status;
}

static lemoe_status linear(op_family kind, linear_fn real, lemoe_device *device, lemoe_tensor a, lemoe_tensor b,
                           lemoe_tensor c, bool accumulate) {
    if (is_noting) {
        LEMOE_TRY(lemoe_mem_grow(&products, &capacity, n_product + 1, sizeof *products));
        products[n_product++] = (product){kind, real, a, b, c, accumulate, NULL};
    }
    double begin = bench_seconds();
    return count(kind, begin, real(device, a, b, c, accumulate));
}

#define WATCH_LINEAR(name, kind)                                                                                       \
    lemoe_status __real_##name(lemoe_device *, lemoe_tensor, lemoe_tensor, lemoe_tensor, bool);                        \
    lemoe_status __wrap_##name(lemoe_device *, lemoe_tensor, lemoe_tensor, lemoe_tensor, bool);                        \
    lemoe_status __wrap_##name(lemoe_device *device, lemoe_tensor a, lemoe_tensor b, lemoe_tensor c, bool add) {       \
        return linear(kind, __real_##name, device, a, b, c, add);                                                      \
    }
WATCH_LINEAR(lemoe_op_linear, OP_LINEAR)
WATCH_LINEAR(lemoe_op_linear_dx, OP_LINEAR_DX)
WATCH_LINEAR(lemoe_op_linear_dw, OP_LINEAR_DW)
WATCH_LINEAR(lemoe_op_exact_linear, OP_LINEAR)
WATCH_LINEAR(lemoe_op_exact_linear_dx, OP_LINEAR_DX)
WATCH_LINEAR(lemoe_op_exact_linear_dw, OP_LINEAR_DW)

lemoe_status op_watch_prepare(lemoe_products mode) {
    for (int64_t i = 0; i < n_product; i++) {
        product *p = &products[i];
        bool rounds = p->b.dtype == LEMOE_BF16 && p->a.dtype == LEMOE_F32 && mode == LEMOE_PRODUCTS_BF16;
        if (!rounds || p->rounded) continue;
        int64_t n = lemoe_tensor_count(&p->a);
        LEMOE_TRY(lemoe_mem_alloc(n, sizeof *p->rounded, &p->rounded));
        lemoe_dtype_from_f32(LEMOE_BF16, p->a.data, n, p->rounded);
    }
    return LEMOE_OK;
}

static lemoe_status replay_bf16(const product *p) {
    bool is_y = p->kind == OP_LINEAR;
    int64_t k = p->a.shape[1], n = p->c.shape[1];
    return cpu_onednn_gemm_bf16(&(cpu_bf16_args){.trans_b = is_y,
                                                 .m = p->c.shape[0],
                                                 .n = n,
                                                 .k = k,
                                                 .lda = k,
                                                 .ldb = is_y ? k : n,
                                                 .ldc = n,
                                                 .accumulate = p->accumulate,
                                                 .a = p->rounded,
                                                 .b = p->b.data,
                                                 .c = p->c.data});
}

lemoe_status op_watch_replay(lemoe_device *device) {
    for (int64_t i = 0; i < n_product; i++) {
        const product *p = &products[i];
        LEMOE_TRY(p->rounded ? replay_bf16(p) : p->real(device, p->a, p->b, p->c, p->accumulate));
    }
    return LEMOE_OK;
}

#define WATCH(name, family, parameters, arguments)                                                                     \
    lemoe_status __real_##name parameters;                                                                             \
    lemoe_status __wrap_##name parameters;                                                                             \
    lemoe_status __wrap_##name parameters {                                                                            \
        double begin = bench_seconds();                                                                                \
        return count(family, begin, __real_##name arguments);                                                          \
    }

WATCH(lemoe_op_attn_fwd, OP_ATTN, (lemoe_device * d, const lemoe_attn_args *args), (d, args))
WATCH(lemoe_op_attn_bwd, OP_ATTN, (lemoe_device * d, const lemoe_attn_args *args), (d, args))
WATCH(lemoe_op_rmsnorm_fwd, OP_NORM,
      (lemoe_device * d, lemoe_tensor x, lemoe_tensor w, float eps, lemoe_tensor y, lemoe_tensor inv_rms),
      (d, x, w, eps, y, inv_rms))
WATCH(lemoe_op_rmsnorm_bwd, OP_NORM,
      (lemoe_device * d, lemoe_tensor dy, lemoe_tensor x, lemoe_tensor w, lemoe_tensor inv_rms, lemoe_tensor dx),
      (d, dy, x, w, inv_rms, dx))
WATCH(lemoe_op_swiglu_fwd, OP_ACT, (lemoe_device * d, lemoe_tensor gate, lemoe_tensor up, lemoe_tensor act),
      (d, gate, up, act))
WATCH(lemoe_op_swiglu_bwd, OP_ACT,
      (lemoe_device * d, lemoe_tensor d_act, lemoe_tensor gate, lemoe_tensor up, lemoe_tensor d_gate,
       lemoe_tensor d_up),
      (d, d_act, gate, up, d_gate, d_up))
WATCH(lemoe_op_rope, OP_ROPE,
      (lemoe_device * d, lemoe_tensor x, lemoe_tensor position, lemoe_tensor inv_freq, int sign),
      (d, x, position, inv_freq, sign))
WATCH(lemoe_op_xent_rowmax, OP_LOSS,
      (lemoe_device * d, lemoe_tensor logits, int64_t row_begin, lemoe_tensor row_max, lemoe_tensor row_arg),
      (d, logits, row_begin, row_max, row_arg))
WATCH(lemoe_op_xent_rowsum, OP_LOSS,
      (lemoe_device * d, lemoe_tensor logits, lemoe_tensor row_max, lemoe_tensor label, int64_t row_begin,
       lemoe_tensor sum, lemoe_tensor label_logit),
      (d, logits, row_max, label, row_begin, sum, label_logit))
WATCH(lemoe_op_xent_bwd, OP_LOSS,
      (lemoe_device * d, lemoe_tensor logits, lemoe_tensor row_max, lemoe_tensor sum, lemoe_tensor label,
       lemoe_tensor weight, int64_t row_begin),
      (d, logits, row_max, sum, label, weight, row_begin))
WATCH(lemoe_op_rows_gather, OP_ROWS, (lemoe_device * d, lemoe_tensor x, lemoe_tensor row, lemoe_tensor y),
      (d, x, row, y))
WATCH(lemoe_op_rows_scatter_add, OP_ROWS,
      (lemoe_device * d, lemoe_tensor x, lemoe_tensor row, lemoe_tensor weight, lemoe_tensor y), (d, x, row, weight, y))
WATCH(lemoe_op_rows_scale, OP_ROWS, (lemoe_device * d, lemoe_tensor weight, lemoe_tensor x), (d, weight, x))
WATCH(lemoe_op_row_dot, OP_ROWS, (lemoe_device * d, lemoe_tensor a, lemoe_tensor b, lemoe_tensor dot), (d, a, b, dot))
WATCH(lemoe_op_axpy, OP_AXPY, (lemoe_device * d, float a, lemoe_tensor x, lemoe_tensor y), (d, a, x, y))
WATCH(lemoe_op_sumsq, OP_NORM2, (lemoe_device * d, lemoe_tensor x, double *out), (d, x, out))
WATCH(lemoe_op_sumsq_add, OP_NORM2, (lemoe_device * d, lemoe_tensor x, lemoe_tensor total), (d, x, total))
WATCH(lemoe_op_adamw, OP_ADAMW, (lemoe_device * d, const lemoe_adamw_args *args), (d, args))
WATCH(lemoe_device_zero, OP_MEMORY, (lemoe_device * d, void *block, size_t n_bytes), (d, block, n_bytes))
WATCH(lemoe_device_copy, OP_MEMORY, (lemoe_device * d, void *to, const void *from, size_t n_bytes),
      (d, to, from, n_bytes))
WATCH(lemoe_device_upload, OP_MEMORY, (lemoe_device * d, void *to, const void *from, size_t n_bytes),
      (d, to, from, n_bytes))
WATCH(lemoe_device_download, OP_MEMORY, (lemoe_device * d, void *to, const void *from, size_t n_bytes),
      (d, to, from, n_bytes))

/* Front end of the operations: shapes and types are checked here, then the backend's table computes. */
#include "kernels/ops.h"

#include "kernels/ops_table.h"

typedef long long ll;

/* ---- what a tensor must be ---- */

static lemoe_status want_type(const char *op, const char *name, lemoe_tensor t, lemoe_dtype dtype) {
    LEMOE_CHECK(t.dtype == dtype, LEMOE_ERR_ARG, "%s: %s is %s, not %s", op, name, lemoe_dtype_name(t.dtype),
                lemoe_dtype_name(dtype));
    LEMOE_CHECK(t.data || lemoe_tensor_count(&t) == 0, LEMOE_ERR_ARG, "%s: %s has no data", op, name);
    return LEMOE_OK;
}

static lemoe_status want_matrix(const char *op, const char *name, lemoe_tensor t, int64_t rows, int64_t columns,
                                lemoe_dtype dtype) {
    int64_t n = lemoe_tensor_count(&t);
    LEMOE_CHECK(t.shape[0] == rows && n == rows * columns, LEMOE_ERR_SHAPE, "%s: %s is %lld x %lld, not %lld x %lld",
                op, name, (ll)t.shape[0], (ll)(t.shape[0] ? n / t.shape[0] : t.shape[1]), (ll)rows, (ll)columns);
    return want_type(op, name, t, dtype);
}

static lemoe_status want_count(const char *op, const char *name, lemoe_tensor t, int64_t n, lemoe_dtype dtype) {
    LEMOE_CHECK(lemoe_tensor_count(&t) == n, LEMOE_ERR_SHAPE, "%s: %s has %lld elements, not %lld", op, name,
                (ll)lemoe_tensor_count(&t), (ll)n);
    return want_type(op, name, t, dtype);
}

/* Of an operand that may be bf16 as well as fp32. */
static lemoe_dtype bf16_or_f32(lemoe_tensor t) { return t.dtype == LEMOE_BF16 ? LEMOE_BF16 : LEMOE_F32; }

static bool is_float(lemoe_dtype dtype) { return dtype == LEMOE_F32 || dtype == LEMOE_BF16 || dtype == LEMOE_F16; }

/* Columns of a tensor seen as rows x the rest. */
static int64_t width(lemoe_tensor t) {
    int64_t n = 1;
    for (int i = 1; i < t.n_dim; i++) n *= t.shape[i];
    return n;
}

#define OPTIONAL(entry)                                                                                                \
    LEMOE_CHECK(device->compute->entry, LEMOE_ERR_UNSUPPORTED, #entry ": not offered by device %s",                    \
                device->backend->kind)
#define F32(op, t, n)                LEMOE_TRY(want_count(op, #t, t, n, LEMOE_F32))
#define I32(op, t, n)                LEMOE_TRY(want_count(op, #t, t, n, LEMOE_I32))
#define MATRIX(op, t, rows, columns) LEMOE_TRY(want_matrix(op, #t, t, rows, columns, LEMOE_F32))

/* ---- dense ---- */

lemoe_status lemoe_op_matmul(lemoe_device *device, const lemoe_matmul_args *args) {
    const lemoe_tensor *a = &args->a, *b = &args->b, *c = &args->c;
    int64_t m = args->trans_a ? width(*a) : a->shape[0], k = args->trans_a ? a->shape[0] : width(*a);
    int64_t kb = args->trans_b ? width(*b) : b->shape[0], n = args->trans_b ? b->shape[0] : width(*b);
    LEMOE_CHECK(k == kb && c->shape[0] == m && width(*c) == n, LEMOE_ERR_SHAPE,
                "matmul: [%lld, %lld] times [%lld, %lld] does not give [%lld, %lld]", (ll)m, (ll)k, (ll)kb, (ll)n,
                (ll)c->shape[0], (ll)width(*c));
    LEMOE_CHECK(is_float(b->dtype), LEMOE_ERR_ARG, "matmul: b is %s", lemoe_dtype_name(b->dtype));
    bool rounds = !args->exact && args->alpha == 1.0f && lemoe_device_product_type(device, b->dtype) == LEMOE_BF16;
    LEMOE_TRY(want_type("matmul", "a", *a, rounds ? bf16_or_f32(*a) : LEMOE_F32));
    LEMOE_TRY(want_type("matmul", "c", *c, LEMOE_F32));
    if (m == 0 || n == 0) return LEMOE_OK;
    return device->compute->matmul(device, args);
}

/* y = x W^T, dx = dy W, dw = dy^T x, each in one of two precisions. */
#define LINEAR(name, trans_a, trans_b, exact)                                                                          \
    lemoe_status name(lemoe_device *device, lemoe_tensor a, lemoe_tensor b, lemoe_tensor c, bool accumulate) {         \
        lemoe_matmul_args args = {a, b, c, trans_a, trans_b, 1.0f, accumulate ? 1.0f : 0.0f, exact};                   \
        return lemoe_op_matmul(device, &args);                                                                         \
    }
LINEAR(lemoe_op_linear, false, true, false)
LINEAR(lemoe_op_linear_dx, false, false, false)
LINEAR(lemoe_op_linear_dw, true, false, false)
LINEAR(lemoe_op_exact_linear, false, true, true)
LINEAR(lemoe_op_exact_linear_dx, false, false, true)
LINEAR(lemoe_op_exact_linear_dw, true, false, true)

/* ---- elementwise ---- */

lemoe_status lemoe_op_cast(lemoe_device *device, lemoe_tensor from, lemoe_tensor to) {
    LEMOE_CHECK(is_float(from.dtype) && is_float(to.dtype), LEMOE_ERR_ARG, "cast: %s to %s",
                lemoe_dtype_name(from.dtype), lemoe_dtype_name(to.dtype));
    LEMOE_TRY(want_count("cast", "to", to, lemoe_tensor_count(&from), to.dtype));
    return device->compute->cast(device, from, to);
}

lemoe_status lemoe_op_axpy(lemoe_device *device, float a, lemoe_tensor x, lemoe_tensor y) {
    F32("axpy", y, lemoe_tensor_count(&x));
    F32("axpy", x, lemoe_tensor_count(&x));
    return device->compute->axpy(device, a, x, y);
}

lemoe_status lemoe_op_scale(lemoe_device *device, float a, lemoe_tensor x) {
    F32("scale", x, lemoe_tensor_count(&x));
    return device->compute->scale(device, a, x);
}

lemoe_status lemoe_op_clamp_around(lemoe_device *device, lemoe_tensor reference, float limit, lemoe_tensor x) {
    F32("clamp_around", x, lemoe_tensor_count(&x));
    F32("clamp_around", reference, lemoe_tensor_count(&x));
    LEMOE_CHECK(limit >= 0, LEMOE_ERR_ARG, "clamp_around: limit is %g, not 0 or more", (double)limit);
    return device->compute->clamp_around(device, reference, limit, x);
}

lemoe_status lemoe_op_silu_fwd(lemoe_device *device, lemoe_tensor x, lemoe_tensor y) {
    F32("silu_fwd", x, lemoe_tensor_count(&x));
    F32("silu_fwd", y, lemoe_tensor_count(&x));
    return device->compute->silu_fwd(device, x, y);
}

lemoe_status lemoe_op_silu_bwd(lemoe_device *device, lemoe_tensor dy, lemoe_tensor x, lemoe_tensor dx) {
    int64_t n = lemoe_tensor_count(&x);
    F32("silu_bwd", x, n);
    F32("silu_bwd", dy, n);
    F32("silu_bwd", dx, n);
    return device->compute->silu_bwd(device, dy, x, dx);
}

lemoe_status lemoe_op_swiglu_fwd(lemoe_device *device, lemoe_tensor gate, lemoe_tensor up, lemoe_tensor act) {
    int64_t n = lemoe_tensor_count(&gate);
    F32("swiglu_fwd", gate, n);
    F32("swiglu_fwd", up, n);
    LEMOE_TRY(want_count("swiglu_fwd", "act", act, n, bf16_or_f32(act)));
    return device->compute->swiglu_fwd(device, gate, up, act);
}

lemoe_status lemoe_op_swiglu_bwd(lemoe_device *device, lemoe_tensor d_act, lemoe_tensor gate, lemoe_tensor up,
                                 lemoe_tensor d_gate, lemoe_tensor d_up) {
    int64_t n = lemoe_tensor_count(&gate);
    F32("swiglu_bwd", d_act, n);
    F32("swiglu_bwd", gate, n);
    F32("swiglu_bwd", up, n);
    LEMOE_TRY(want_count("swiglu_bwd", "d_gate", d_gate, n, bf16_or_f32(d_gate)));
    LEMOE_TRY(want_count("swiglu_bwd", "d_up", d_up, n, d_gate.dtype));
    LEMOE_CHECK(d_gate.dtype == LEMOE_F32 || n == 0 || (d_gate.data != d_act.data && d_up.data != d_act.data),
                LEMOE_ERR_ARG, "swiglu_bwd: d_act has no room for an output of another type");
    return device->compute->swiglu_bwd(device, d_act, gate, up, d_gate, d_up);
}

/* ---- normalisation, position, embedding ---- */

lemoe_status lemoe_op_rmsnorm_fwd(lemoe_device *device, lemoe_tensor x, lemoe_tensor w, float eps, lemoe_tensor y,
                                  lemoe_tensor inv_rms) {
    int64_t rows = x.shape[0], d = width(x);
    MATRIX("rmsnorm_fwd", x, rows, d);
    F32("rmsnorm_fwd", w, d);
    LEMOE_TRY(want_matrix("rmsnorm_fwd", "y", y, rows, d, bf16_or_f32(y)));
    F32("rmsnorm_fwd", inv_rms, rows);
    return device->compute->rmsnorm_fwd(device, x, w, eps, y, inv_rms);
}

lemoe_status lemoe_op_rmsnorm_bwd(lemoe_device *device, lemoe_tensor dy, lemoe_tensor x, lemoe_tensor w,
                                  lemoe_tensor inv_rms, lemoe_tensor dx) {
    int64_t rows = x.shape[0], d = width(x);
    MATRIX("rmsnorm_bwd", dy, rows, d);
    MATRIX("rmsnorm_bwd", x, rows, d);
    F32("rmsnorm_bwd", w, d);
    F32("rmsnorm_bwd", inv_rms, rows);
    MATRIX("rmsnorm_bwd", dx, rows, d);
    return device->compute->rmsnorm_bwd(device, dy, x, w, inv_rms, dx);
}

lemoe_status lemoe_op_rope(lemoe_device *device, lemoe_tensor x, lemoe_tensor position, lemoe_tensor inv_freq,
                           int sign) {
    LEMOE_CHECK(x.n_dim == 3 && x.shape[2] % 2 == 0 && (sign == 1 || sign == -1), LEMOE_ERR_SHAPE,
                "rope: x needs [n_tok, n_head, even d_head] and sign 1 or -1");
    F32("rope", x, lemoe_tensor_count(&x));
    I32("rope", position, x.shape[0]);
    F32("rope", inv_freq, x.shape[2] / 2);
    return device->compute->rope(device, x, position, inv_freq, sign);
}

lemoe_status lemoe_op_embed_fwd(lemoe_device *device, lemoe_tensor id, lemoe_tensor table, int64_t row_begin,
                                lemoe_tensor y) {
    LEMOE_CHECK(is_float(table.dtype), LEMOE_ERR_ARG, "embed_fwd: table is %s", lemoe_dtype_name(table.dtype));
    I32("embed_fwd", id, lemoe_tensor_count(&id));
    MATRIX("embed_fwd", y, lemoe_tensor_count(&id), width(table));
    return device->compute->embed_fwd(device, id, table, row_begin, y);
}

/* ---- attention ---- */

static lemoe_status check_attn(const char *op, const lemoe_attn_args *a) {
    LEMOE_CHECK(a->q.n_dim == 3 && a->k.n_dim == 3, LEMOE_ERR_SHAPE, "%s: q and k need three axes", op);
    LEMOE_CHECK(a->max_seq >= 0 && a->max_seq <= a->q.shape[0] && a->window >= 0 && a->seq_start.shape[0] >= 1,
                LEMOE_ERR_ARG, "%s: max_seq %lld of %lld rows, window %lld", op, (ll)a->max_seq, (ll)a->q.shape[0],
                (ll)a->window);
    int64_t n_tok = a->q.shape[0], n_head = a->q.shape[1], d_head = a->q.shape[2], n_kv = a->k.shape[1];
    LEMOE_CHECK(n_kv > 0 && n_head % n_kv == 0, LEMOE_ERR_SHAPE, "%s: %lld heads on %lld key/value heads", op,
                (ll)n_head, (ll)n_kv);
    LEMOE_TRY(want_count(op, "q", a->q, n_tok * n_head * d_head, LEMOE_F32));
    LEMOE_TRY(want_count(op, "k", a->k, n_tok * n_kv * d_head, LEMOE_F32));
    LEMOE_TRY(want_count(op, "v", a->v, n_tok * n_kv * d_head, LEMOE_F32));
    LEMOE_TRY(want_count(op, "out", a->out, n_tok * n_head * d_head, LEMOE_F32));
    LEMOE_TRY(want_count(op, "log_sum_exp", a->log_sum_exp, n_head * n_tok, LEMOE_F32));
    return want_type(op, "seq_start", a->seq_start, LEMOE_I32);
}

lemoe_status lemoe_op_attn_fwd(lemoe_device *device, const lemoe_attn_args *args) {
    LEMOE_TRY(check_attn("attn_fwd", args));
    return device->compute->attn_fwd(device, args);
}

lemoe_status lemoe_op_attn_bwd(lemoe_device *device, const lemoe_attn_args *args) {
    LEMOE_TRY(check_attn("attn_bwd", args));
    F32("attn_bwd", args->d_out, lemoe_tensor_count(&args->out));
    F32("attn_bwd", args->dq, lemoe_tensor_count(&args->q));
    F32("attn_bwd", args->dk, lemoe_tensor_count(&args->k));
    F32("attn_bwd", args->dv, lemoe_tensor_count(&args->v));
    return device->compute->attn_bwd(device, args);
}

/* ---- loss ---- */

lemoe_status lemoe_op_xent_rowmax(lemoe_device *device, lemoe_tensor logits, int64_t row_begin, lemoe_tensor row_max,
                                  lemoe_tensor row_arg) {
    F32("xent_rowmax", logits, lemoe_tensor_count(&logits));
    F32("xent_rowmax", row_max, logits.shape[0]);
    I32("xent_rowmax", row_arg, logits.shape[0]);
    return device->compute->xent_rowmax(device, logits, row_begin, row_max, row_arg);
}

lemoe_status lemoe_op_xent_rowsum(lemoe_device *device, lemoe_tensor logits, lemoe_tensor row_max, lemoe_tensor label,
                                  int64_t row_begin, lemoe_tensor sum, lemoe_tensor label_logit) {
    int64_t n = logits.shape[0];
    F32("xent_rowsum", logits, lemoe_tensor_count(&logits));
    F32("xent_rowsum", row_max, n);
    I32("xent_rowsum", label, n);
    F32("xent_rowsum", sum, n);
    F32("xent_rowsum", label_logit, n);
    return device->compute->xent_rowsum(device, logits, row_max, label, row_begin, sum, label_logit);
}

lemoe_status lemoe_op_xent_bwd(lemoe_device *device, lemoe_tensor logits, lemoe_tensor row_max, lemoe_tensor sum,
                               lemoe_tensor label, lemoe_tensor weight, int64_t row_begin) {
    int64_t n = logits.shape[0];
    F32("xent_bwd", logits, lemoe_tensor_count(&logits));
    F32("xent_bwd", row_max, n);
    F32("xent_bwd", sum, n);
    I32("xent_bwd", label, n);
    F32("xent_bwd", weight, n);
    return device->compute->xent_bwd(device, logits, row_max, sum, label, weight, row_begin);
}

/* ---- routing and experts ---- */

lemoe_status lemoe_op_seg_mean(lemoe_device *device, lemoe_tensor x, lemoe_tensor begin, lemoe_tensor end,
                               lemoe_tensor y) {
    int64_t n = lemoe_tensor_count(&begin);
    OPTIONAL(seg_mean);
    F32("seg_mean", x, lemoe_tensor_count(&x));
    I32("seg_mean", begin, n);
    I32("seg_mean", end, n);
    MATRIX("seg_mean", y, n, width(x));
    return device->compute->seg_mean(device, x, begin, end, y);
}

lemoe_status lemoe_op_topk_softmax_fwd(lemoe_device *device, lemoe_tensor z, lemoe_tensor p, lemoe_tensor index) {
    OPTIONAL(topk_softmax_fwd);
    MATRIX("topk_softmax_fwd", z, z.shape[0], width(z));
    MATRIX("topk_softmax_fwd", p, z.shape[0], width(z));
    LEMOE_CHECK(index.shape[0] == z.shape[0] && width(index) >= 1 && width(index) <= width(z), LEMOE_ERR_SHAPE,
                "topk_softmax_fwd: the largest %lld of %lld", (ll)width(index), (ll)width(z));
    LEMOE_TRY(want_type("topk_softmax_fwd", "index", index, LEMOE_I32));
    return device->compute->topk_softmax_fwd(device, z, p, index);
}

lemoe_status lemoe_op_softmax_bwd(lemoe_device *device, lemoe_tensor p, lemoe_tensor dp, lemoe_tensor dz) {
    OPTIONAL(softmax_bwd);
    MATRIX("softmax_bwd", p, p.shape[0], width(p));
    MATRIX("softmax_bwd", dp, p.shape[0], width(p));
    MATRIX("softmax_bwd", dz, p.shape[0], width(p));
    return device->compute->softmax_bwd(device, p, dp, dz);
}

lemoe_status lemoe_op_rows_gather(lemoe_device *device, lemoe_tensor x, lemoe_tensor row, lemoe_tensor y) {
    OPTIONAL(rows_gather);
    LEMOE_TRY(want_matrix("rows_gather", "x", x, x.shape[0], width(x), bf16_or_f32(x)));
    I32("rows_gather", row, lemoe_tensor_count(&row));
    LEMOE_TRY(want_matrix("rows_gather", "y", y, lemoe_tensor_count(&row), width(x), x.dtype));
    return device->compute->rows_gather(device, x, row, y);
}

lemoe_status lemoe_op_rows_scatter_add(lemoe_device *device, lemoe_tensor x, lemoe_tensor row, lemoe_tensor weight,
                                       lemoe_tensor y) {
    OPTIONAL(rows_scatter_add);
    MATRIX("rows_scatter_add", x, x.shape[0], width(x));
    I32("rows_scatter_add", row, x.shape[0]);
    if (weight.data) F32("rows_scatter_add", weight, x.shape[0]);
    MATRIX("rows_scatter_add", y, y.shape[0], width(x));
    return device->compute->rows_scatter_add(device, x, row, weight, y);
}

lemoe_status lemoe_op_rows_scale(lemoe_device *device, lemoe_tensor weight, lemoe_tensor x) {
    OPTIONAL(rows_scale);
    F32("rows_scale", weight, x.shape[0]);
    MATRIX("rows_scale", x, x.shape[0], width(x));
    return device->compute->rows_scale(device, weight, x);
}

lemoe_status lemoe_op_row_dot(lemoe_device *device, lemoe_tensor a, lemoe_tensor b, lemoe_tensor dot) {
    OPTIONAL(row_dot);
    MATRIX("row_dot", a, a.shape[0], width(a));
    MATRIX("row_dot", b, a.shape[0], width(a));
    F32("row_dot", dot, a.shape[0]);
    return device->compute->row_dot(device, a, b, dot);
}

/* ---- optimiser, guards ---- */

lemoe_status lemoe_op_sumsq(lemoe_device *device, lemoe_tensor x, double *out) {
    F32("sumsq", x, lemoe_tensor_count(&x));
    return device->compute->sumsq(device, x, out);
}

lemoe_status lemoe_op_sumsq_add(lemoe_device *device, lemoe_tensor x, lemoe_tensor total) {
    F32("sumsq_add", x, lemoe_tensor_count(&x));
    LEMOE_TRY(want_count("sumsq_add", "total", total, 1, LEMOE_F64));
    return device->compute->sumsq_add(device, x, total);
}

lemoe_status lemoe_op_count_nonfinite(lemoe_device *device, lemoe_tensor x, int64_t *out) {
    F32("count_nonfinite", x, lemoe_tensor_count(&x));
    return device->compute->count_nonfinite(device, x, out);
}

lemoe_status lemoe_op_adamw(lemoe_device *device, const lemoe_adamw_args *args) {
    int64_t n = lemoe_tensor_count(&args->w);
    F32("adamw", args->w, n);
    F32("adamw", args->grad, n);
    F32("adamw", args->m, n);
    F32("adamw", args->v, n);
    LEMOE_CHECK(args->step >= 1, LEMOE_ERR_ARG, "adamw: steps count from 1");
    return device->compute->adamw(device, args);
}

lemoe_status lemoe_op_fill_normal(lemoe_device *device, const lemoe_fill_args *args) {
    F32("fill_normal", args->x, lemoe_tensor_count(&args->x));
    LEMOE_CHECK(args->column_begin + width(args->x) <= args->n_columns, LEMOE_ERR_SHAPE,
                "fill_normal: columns [%lld, %lld) of %lld", (ll)args->column_begin,
                (ll)(args->column_begin + width(args->x)), (ll)args->n_columns);
    return device->compute->fill_normal(device, args);
}

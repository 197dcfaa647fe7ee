/* Elementwise ops, conversions, normalisation, position and embedding. */
#include "tests/ops/ops_parity.h"

#include <math.h>
#include <string.h>

/* Every half there is, both ways, bit for bit against the host's conversions (tests/unit/test_dtype checks those). */
void parity_cast(ops_test *t) {
    static const lemoe_dtype dtypes[] = {LEMOE_BF16, LEMOE_F16};
    enum { N = 65536 };
    uint16_t *all = ops_array(t, N, sizeof *all);
    float *wide = ops_array(t, N, sizeof *wide), *values = ops_random(t, N, 70000.0);
    for (int64_t i = 0; i < N; i++) all[i] = (uint16_t)i;
    for (int d = 0; d < 2; d++) {
        lemoe_tensor half, to = ops_tensor(t, NULL, N, 0, 0);
        OPS(lemoe_arena_vector(t->arena, dtypes[d], N, &half));
        OPS(lemoe_device_upload(t->device, half.data, all, sizeof *all * N));
        OPS(lemoe_op_cast(t->device, half, to));
        lemoe_dtype_to_f32(dtypes[d], all, N, wide);
        ops_same(t, "half to fp32", ops_get(t, to), wide, sizeof *wide * N);
        OPS(lemoe_op_cast(t->device, ops_tensor(t, values, N, 0, 0), half));
        uint16_t *narrow = ops_array(t, N, sizeof *narrow);
        lemoe_dtype_from_f32(dtypes[d], values, N, narrow);
        ops_same(t, "fp32 to half", ops_get(t, half), narrow, sizeof *narrow * N);
    }
    lemoe_tensor none = ops_tensor(t, values, 0, 0, 0);
    OPS(lemoe_op_cast(t->device, none, none));
}

static void silu_case(ops_test *t, int64_t n) {
    float *x = ops_random(t, n, 12.0), *dy = ops_random(t, n, 1.0);
    double *want = ops_array(t, n, sizeof *want);
    lemoe_tensor tx = ops_tensor(t, x, n, 0, 0), tdy = ops_tensor(t, dy, n, 0, 0), y = ops_tensor(t, NULL, n, 0, 0);
    OPS(lemoe_op_silu_fwd(t->device, tx, y));
    for (int64_t i = 0; i < n; i++) want[i] = ref_silu((double)x[i]);
    ops_near_tensor(t, "silu_fwd", y, want, OPS_CLOSE);
    OPS(lemoe_op_silu_bwd(t->device, tdy, tx, y));
    OPS(lemoe_op_silu_fwd(t->device, tx, tx));
    ops_near_tensor(t, "silu_fwd in place", tx, want, OPS_CLOSE);
    for (int64_t i = 0; i < n; i++) want[i] = (double)dy[i] * ref_silu_slope((double)x[i]);
    ops_near_tensor(t, "silu_bwd", y, want, OPS_CLOSE);
}

static void swiglu_case(ops_test *t, int64_t rows, int64_t d, int share) {
    int64_t n = rows * d;
    float *gate = ops_random(t, n, 6.0), *up = ops_random(t, n, 2.0), *d_act = ops_random(t, n, 1.0);
    double *act = ops_array(t, n, sizeof *act), *d_gate = ops_array(t, n, sizeof *d_gate);
    double *d_up = ops_array(t, n, sizeof *d_up);
    lemoe_tensor tg = ops_tensor(t, gate, rows, d, 0), tu = ops_tensor(t, up, rows, d, 0);
    lemoe_tensor td = ops_tensor(t, d_act, rows, d, 0), y = ops_tensor(t, NULL, rows, d, 0);
    lemoe_tensor tdg = share == 1 ? td : ops_tensor(t, NULL, rows, d, 0);
    lemoe_tensor tdu = share == 2 ? td : ops_tensor(t, NULL, rows, d, 0);
    for (int64_t i = 0; i < n; i++) {
        act[i] = ref_silu((double)gate[i]) * (double)up[i];
        d_gate[i] = (double)d_act[i] * (double)up[i] * ref_silu_slope((double)gate[i]);
        d_up[i] = (double)d_act[i] * ref_silu((double)gate[i]);
    }
    OPS(lemoe_op_swiglu_fwd(t->device, tg, tu, y));
    OPS(lemoe_op_swiglu_bwd(t->device, td, tg, tu, tdg, tdu));
    ops_near_tensor(t, "swiglu_fwd", y, act, OPS_CLOSE);
    ops_near_tensor(t, "swiglu_bwd gate", tdg, d_gate, OPS_CLOSE);
    ops_near_tensor(t, "swiglu_bwd up", tdu, d_up, OPS_CLOSE);
}

static void vector_case(ops_test *t, int64_t n) {
    float *x = ops_random(t, n, 1.0), *y = ops_random(t, n, 1.0);
    double *want = ops_array(t, n, sizeof *want);
    lemoe_tensor tx = ops_tensor(t, x, n, 0, 0), ty = ops_tensor(t, y, n, 0, 0);
    OPS(lemoe_op_axpy(t->device, -0.75f, tx, ty));
    for (int64_t i = 0; i < n; i++) want[i] = (double)y[i] - 0.75 * (double)x[i];
    ops_near_tensor(t, "axpy", ty, want, OPS_CLOSE);
    OPS(lemoe_op_scale(t->device, 3.0f, tx));
    for (int64_t i = 0; i < n; i++) want[i] = 3.0 * (double)x[i];
    ops_near_tensor(t, "scale", tx, want, OPS_CLOSE);
}

/* A bound is one sum, rounded once: the same bits on every device. */
static void clamp_case(ops_test *t, int64_t n) {
    const float limit = 0.3f;
    float *x = ops_random(t, n, 1.0), *reference = ops_random(t, n, 1.0), *want = ops_array(t, n, sizeof *want);
    lemoe_tensor tx = ops_tensor(t, x, n, 0, 0), around = ops_tensor(t, reference, n, 0, 0);
    OPS(lemoe_op_clamp_around(t->device, around, limit, tx));
    for (int64_t i = 0; i < n; i++) want[i] = fminf(fmaxf(x[i], reference[i] - limit), reference[i] + limit);
    ops_same(t, "clamp_around", ops_get(t, tx), want, (size_t)n * sizeof *want);
    ops_same(t, "clamp_around keeps the reference", ops_get(t, around), reference, (size_t)n * sizeof *reference);
    OPS(lemoe_op_clamp_around(t->device, around, 0.0f, tx));
    ops_same(t, "clamp_around with no room", ops_get(t, tx), reference, (size_t)n * sizeof *reference);
}

/* At the bounds and where there are none. As often as every kind of place in a row of four sees each. */
static void clamp_far_out(ops_test *t) {
    enum { N_KIND = 9, N = 7 * N_KIND };
    static const struct {
        float x, reference, want;
    } kinds[N_KIND] = {
        {1.25f,     1.0f,      1.25f    },
        {0.75f,     1.0f,      0.75f    },
        {-0.0f,     0.0f,      -0.0f    },
        {5.0f,      1e30f,     1e30f    },
        {INFINITY,  1.0f,      1.25f    },
        {-INFINITY, 1.0f,      0.75f    },
        {3.0f,      -INFINITY, -INFINITY},
        {NAN,       1.0f,      NAN      },
        {3.0f,      NAN,       3.0f     },
    };
    float x[N], reference[N], want[N];
    for (int i = 0; i < N; i++) {
        x[i] = kinds[i % N_KIND].x;
        reference[i] = kinds[i % N_KIND].reference;
        want[i] = kinds[i % N_KIND].want;
    }
    lemoe_tensor tx = ops_tensor(t, x, N, 0, 0);
    OPS(lemoe_op_clamp_around(t->device, ops_tensor(t, reference, N, 0, 0), 0.25f, tx));
    ops_same(t, "clamp_around far out", ops_get(t, tx), want, sizeof want);
}

void parity_elementwise(ops_test *t) {
    static const int64_t sizes[] = {0, 1, 7, 8, 33, 1000};
    clamp_far_out(t);
    for (int s = 0; s < 6; s++) {
        vector_case(t, sizes[s]);
        clamp_case(t, sizes[s]);
        silu_case(t, sizes[s]);
    }
    for (int share = 0; share < 3; share++) {
        swiglu_case(t, 5, 13, share);
        swiglu_case(t, 0, 13, share);
        swiglu_case(t, 33, 352, share);
    }
    /* far out the exponential is cut off: the values must still be right, and not NaN */
    float far[] = {-200.0f, -90.0f, 90.0f, 200.0f};
    double want[4];
    for (int i = 0; i < 4; i++) want[i] = ref_silu((double)far[i]);
    lemoe_tensor x = ops_tensor(t, far, 4, 0, 0);
    OPS(lemoe_op_silu_fwd(t->device, x, x));
    ops_near_tensor(t, "silu_fwd far out", x, want, OPS_CLOSE);
}

/* An element that is left out, or done twice, is some 4e-4 of the norm. */
void parity_large(ops_test *t) {
    vector_case(t, OPS_LARGE);
    clamp_case(t, OPS_LARGE);
    silu_case(t, OPS_LARGE);
    swiglu_case(t, 1, OPS_LARGE, 0);
    float *values = ops_random(t, OPS_LARGE, 2.0);
    uint16_t *narrow = ops_array(t, OPS_LARGE, sizeof *narrow);
    lemoe_tensor half, back = ops_tensor(t, NULL, OPS_LARGE, 0, 0);
    OPS(lemoe_arena_vector(t->arena, LEMOE_BF16, OPS_LARGE, &half));
    OPS(lemoe_op_cast(t->device, ops_tensor(t, values, OPS_LARGE, 0, 0), half));
    OPS(lemoe_op_cast(t->device, half, back));
    lemoe_dtype_from_f32(LEMOE_BF16, values, OPS_LARGE, narrow);
    lemoe_dtype_to_f32(LEMOE_BF16, narrow, OPS_LARGE, values);
    ops_same(t, "to half and back", ops_get(t, back), values, sizeof *values * OPS_LARGE);
}

void parity_norm(ops_test *t) {
    static const int64_t shapes[][2] = {
        {0,  16  },
        {1,  1   },
        {7,  17  },
        {33, 128 },
        {3,  4097}
    };
    for (int s = 0; s < 5; s++) {
        int64_t rows = shapes[s][0], d = shapes[s][1], n = rows * d;
        float *x = ops_random(t, n, 3.0), *w = ops_random(t, d, 1.0), *dy = ops_random(t, n, 1.0);
        float *dx = ops_random(t, n, 1.0);
        double *y = ops_array(t, n, sizeof *y), *inverse = ops_array(t, rows, sizeof *inverse);
        double *want = ops_double(t, dx, n), *xd = ops_double(t, x, n), *wd = ops_double(t, w, d);
        lemoe_tensor tx = ops_tensor(t, x, rows, d, 0), tw = ops_tensor(t, w, d, 0, 0),
                     ty = ops_tensor(t, NULL, rows, d, 0);
        lemoe_tensor ti = ops_tensor(t, NULL, rows, 0, 0), tdx = ops_tensor(t, dx, rows, d, 0);
        ref_rmsnorm(rows, d, xd, wd, 1e-5, y, inverse);
        OPS(lemoe_op_rmsnorm_fwd(t->device, tx, tw, 1e-5f, ty, ti));
        ops_near_tensor(t, "rmsnorm_fwd", ty, y, OPS_CLOSE);
        ops_near_tensor(t, "rmsnorm_fwd inv_rms", ti, inverse, OPS_CLOSE);
        ref_rmsnorm_bwd(rows, d, ops_double(t, dy, n), xd, wd, 1e-5, want);
        OPS(lemoe_op_rmsnorm_bwd(t->device, ops_tensor(t, dy, rows, d, 0), tx, tw, ti, tdx));
        ops_near_tensor(t, "rmsnorm_bwd adds", tdx, want, OPS_CLOSE);
    }
}

static void rope_case(ops_test *t, int64_t n_tok, int64_t n_head, int64_t d_head, double base) {
    int64_t n = n_tok * n_head * d_head;
    float *x = ops_random(t, n, 1.0), *inv_freq = ops_array(t, d_head / 2, sizeof *inv_freq);
    int32_t *position = ops_array(t, n_tok, sizeof *position);
    for (int64_t i = 0; i < d_head / 2; i++) inv_freq[i] = (float)pow(base, -2.0 * (double)i / (double)d_head);
    for (int64_t i = 0; i < n_tok; i++) position[i] = (int32_t)((i * 37) % 301);
    double *want = ops_double(t, x, n), *start = ops_double(t, x, n);
    lemoe_tensor tx = ops_tensor(t, x, n_tok, n_head, d_head), tp = ops_index(t, position, n_tok);
    lemoe_tensor tf = ops_tensor(t, inv_freq, d_head / 2, 0, 0);
    ref_rope(n_tok, n_head, d_head, position, inv_freq, 1, want);
    OPS(lemoe_op_rope(t->device, tx, tp, tf, 1));
    ops_near_tensor(t, "rope", tx, want, OPS_CLOSE);
    OPS(lemoe_op_rope(t->device, tx, tp, tf, -1));
    ops_near_tensor(t, "rope there and back", tx, start, OPS_CLOSE);
}

void parity_rope(ops_test *t) {
    rope_case(t, 7, 3, 10, 10000.0);
    rope_case(t, 0, 3, 10, 10000.0);
    rope_case(t, 40, 2, 64, 500000.0); /* other frequencies on the same device: nothing kept may be stale */
    rope_case(t, 40, 2, 10, 10000.0);
    rope_case(t, 40, 2, 10, 500.0);
    float x[2] = {1, 2}, frequency = 1;
    int32_t position = -1;
    ops_true(t, "rope refuses a negative position",
             ops_refuses_values(t, lemoe_op_rope(t->device, ops_tensor(t, x, 1, 1, 2), ops_index(t, &position, 1),
                                                 ops_tensor(t, &frequency, 1, 0, 0), 1)));
}

void parity_embed(ops_test *t) {
    enum { ROWS = 9, D = 21, BEGIN = 100, N = 6 };
    static const int32_t id[N] = {100, 108, 99, 109, 104, 0};
    static const lemoe_dtype dtypes[] = {LEMOE_F32, LEMOE_BF16, LEMOE_F16};
    for (int d = 0; d < 3; d++) {
        float *table, *want = ops_array(t, N * D, sizeof *want);
        lemoe_tensor tt = ops_stored(t, dtypes[d], ops_random(t, ROWS * D, 1.0), ROWS, D, &table);
        lemoe_tensor y = ops_tensor(t, NULL, N, D, 0);
        for (int64_t i = 0; i < N; i++)
            if (id[i] >= BEGIN && id[i] < BEGIN + ROWS)
                memcpy(want + i * D, table + (id[i] - BEGIN) * D, D * sizeof *want);
        OPS(lemoe_op_embed_fwd(t->device, ops_index(t, id, N), tt, BEGIN, y));
        ops_same(t, "embed_fwd", ops_get(t, y), want, N * D * sizeof *want);
        OPS(lemoe_op_embed_fwd(t->device, ops_index(t, id, 0), tt, BEGIN, ops_tensor(t, want, 0, D, 0)));
    }
}

/*
 * Which library computes our matrix products: the candidates side by side at the shapes that occur, in turn within each
 * round, median of the rounds. One run prints Markdown tables of GFLOP/s; kernels/README.md holds one such run.
 *
 * Usage: bench_matmul [threads ...]   (default 1 2). OPENBLAS_CORETYPE must be unset.
 */
#include "kernels/base/mem.h"
#include "kernels/ops.h"
#include "tests/bench/bench_clock.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef BENCH_HAVE_DNNL
#include <dnnl.h>
#endif

enum { MAX_ROUNDS = 9, ROW_MAJOR = 101, NO_TRANS = 111, TRANS = 112 };

typedef void (*gemm_fn)(int, int, int, int, int, int, float, const float *, int, const float *, int, float, float *,
                        int);
typedef void (*sbgemm_fn)(int, int, int, int, int, int, float, const uint16_t *, int, const uint16_t *, int, float,
                          float *, int);
typedef void (*threads_fn)(int);
typedef void (*blis_threads_fn)(int64_t);

/* c[m,n] = op(a) op(b); kind: which of a linear layer's three products. */
typedef struct problem {
    const char *kind;
    bool trans_a, trans_b;
    int m, n, k;
    float *a, *b, *c;
    uint16_t *a_bf16, *b_bf16;
} problem;

typedef struct bench {
    lemoe_device *device;
    int n_threads;
    gemm_fn openblas, blis;
    sbgemm_fn sbgemm;
    threads_fn openblas_threads;
    blis_threads_fn blis_threads;
#ifdef BENCH_HAVE_DNNL
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_t bf16_product;
    dnnl_memory_t bf16_memory[3];
#endif
} bench;

static int lda(const problem *p) { return p->trans_a ? p->m : p->k; }
static int ldb(const problem *p) { return p->trans_b ? p->k : p->n; }

/* ---- the candidates: each computes the problem once, or says that it cannot ---- */

static bool cblas_like(gemm_fn gemm, const problem *p) {
    if (!gemm) return false;
    gemm(ROW_MAJOR, p->trans_a ? TRANS : NO_TRANS, p->trans_b ? TRANS : NO_TRANS, p->m, p->n, p->k, 1.0f, p->a, lda(p),
         p->b, ldb(p), 0.0f, p->c, p->n);
    return true;
}
static bool run_openblas(bench *s, const problem *p) { return cblas_like(s->openblas, p); }
static bool run_blis(bench *s, const problem *p) { return cblas_like(s->blis, p); }

static bool run_dnnl(bench *s, const problem *p) {
#ifdef BENCH_HAVE_DNNL
    (void)s;
    return dnnl_sgemm(p->trans_a ? 'T' : 'N', p->trans_b ? 'T' : 'N', p->m, p->n, p->k, 1.0f, p->a, lda(p), p->b,
                      ldb(p), 0.0f, p->c, p->n) == dnnl_success;
#else
    (void)s, (void)p;
    return false;
#endif
}

static bool run_op(bench *s, const problem *p, lemoe_dtype dtype) {
    void *b = dtype == LEMOE_F32 ? (void *)p->b : (void *)p->b_bf16;
    lemoe_matmul_args args = {.a = lemoe_tensor_2d(p->a, LEMOE_F32, p->trans_a ? p->k : p->m, lda(p)),
                              .b = lemoe_tensor_2d(b, dtype, p->trans_b ? p->n : p->k, ldb(p)),
                              .c = lemoe_tensor_2d(p->c, LEMOE_F32, p->m, p->n),
                              .trans_a = p->trans_a,
                              .trans_b = p->trans_b,
                              .alpha = 1.0f};
    return lemoe_op_matmul(s->device, &args) == LEMOE_OK;
}
static bool run_lemoe(bench *s, const problem *p) { return run_op(s, p, LEMOE_F32); }
static bool run_lemoe_bf16(bench *s, const problem *p) { return !p->trans_a && run_op(s, p, LEMOE_BF16); }

/* bf16 times bf16: a is rounded too, which the widening of weights does not do. */
static bool run_sbgemm(bench *s, const problem *p) {
    if (!s->sbgemm || p->trans_a) return false;
    s->sbgemm(ROW_MAJOR, NO_TRANS, p->trans_b ? TRANS : NO_TRANS, p->m, p->n, p->k, 1.0f, p->a_bf16, lda(p), p->b_bf16,
              ldb(p), 0.0f, p->c, p->n);
    return true;
}

#ifdef BENCH_HAVE_DNNL
static bool dnnl_prepare(bench *s, const problem *p) {
    dnnl_memory_desc_t a, b, c;
    dnnl_matmul_desc_t desc;
    dnnl_primitive_desc_t primitive;
    dnnl_dims_t da = {p->m, p->k}, db = {p->k, p->n}, dc = {p->m, p->n}, sa = {p->k, 1}, sc = {p->n, 1};
    dnnl_dims_t sb = {p->trans_b ? 1 : p->n, p->trans_b ? p->k : 1};
    if (dnnl_memory_desc_init_by_strides(&a, 2, da, dnnl_bf16, sa) != dnnl_success ||
        dnnl_memory_desc_init_by_strides(&b, 2, db, dnnl_bf16, sb) != dnnl_success ||
        dnnl_memory_desc_init_by_strides(&c, 2, dc, dnnl_f32, sc) != dnnl_success ||
        dnnl_matmul_desc_init(&desc, &a, &b, NULL, &c) != dnnl_success ||
        dnnl_primitive_desc_create(&primitive, &desc, NULL, s->engine, NULL) != dnnl_success)
        return false;
    bool ok = dnnl_primitive_create(&s->bf16_product, primitive) == dnnl_success &&
              dnnl_memory_create(&s->bf16_memory[0], &a, s->engine, p->a_bf16) == dnnl_success &&
              dnnl_memory_create(&s->bf16_memory[1], &b, s->engine, p->b_bf16) == dnnl_success &&
              dnnl_memory_create(&s->bf16_memory[2], &c, s->engine, p->c) == dnnl_success;
    (void)dnnl_primitive_desc_destroy(primitive);
    return ok;
}
#endif

static bool run_dnnl_bf16(bench *s, const problem *p) {
#ifdef BENCH_HAVE_DNNL
    if (p->trans_a || (!s->bf16_product && !dnnl_prepare(s, p))) return false;
    dnnl_exec_arg_t args[3] = {
        {DNNL_ARG_SRC,     s->bf16_memory[0]},
        {DNNL_ARG_WEIGHTS, s->bf16_memory[1]},
        {DNNL_ARG_DST,     s->bf16_memory[2]}
    };
    return dnnl_primitive_execute(s->bf16_product, s->stream, 3, args) == dnnl_success &&
           dnnl_stream_wait(s->stream) == dnnl_success;
#else
    (void)s, (void)p;
    return false;
#endif
}

static void forget_bf16_product(bench *s) {
#ifdef BENCH_HAVE_DNNL
    if (!s->bf16_product) return;
    (void)dnnl_primitive_destroy(s->bf16_product);
    for (int i = 0; i < 3; i++) (void)dnnl_memory_destroy(s->bf16_memory[i]);
    s->bf16_product = NULL;
#else
    (void)s;
#endif
}

static const struct candidate {
    const char *name;
    bool (*run)(bench *, const problem *);
    bool slow_allowed; /* measured only where a call stays short */
} candidates[] = {
    {"OpenBLAS",    run_openblas,   true },
    {"BLIS",        run_blis,       true },
    {"oneDNN",      run_dnnl,       true },
    {"lemoe fp32",  run_lemoe,      true },
    {"lemoe bf16",  run_lemoe_bf16, true },
    {"sbgemm",      run_sbgemm,     false},
    {"oneDNN bf16", run_dnnl_bf16,  false},
};
enum { N_CANDIDATE = sizeof candidates / sizeof *candidates };

/* ---- timing ---- */

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Seconds of one call, from as many calls as fill about 4 ms. 0: the candidate cannot. */
static double seconds_of(bench *s, const struct candidate *c, const problem *p, int calls) {
    double begin = bench_seconds();
    for (int i = 0; i < calls; i++)
        if (!c->run(s, p)) return 0;
    return (bench_seconds() - begin) / calls;
}

static void measure(bench *s, const problem *p) {
    double flop = 2.0 * p->m * p->n * p->k, seconds[N_CANDIDATE][MAX_ROUNDS];
    int calls[N_CANDIDATE], rounds = flop > 4e9 ? 3 : MAX_ROUNDS;
    for (int i = 0; i < N_CANDIDATE; i++) {
        bool skip = !candidates[i].slow_allowed && flop > 4e9;
        double once = skip ? 0 : seconds_of(s, &candidates[i], p, 1); /* warms up as well */
        if (once > 0 && flop < 4e9) once = seconds_of(s, &candidates[i], p, 1);
        calls[i] = once == 0 ? 0 : once > 4e-3 ? 1 : (int)(4e-3 / once);
    }
    for (int r = 0; r < rounds; r++)
        for (int i = 0; i < N_CANDIDATE; i++) {
            int j = (i + r) % N_CANDIDATE;
            if (calls[j] > 0) seconds[j][r] = seconds_of(s, &candidates[j], p, calls[j]);
        }
    printf("| %s | %d | %d | %d |", p->kind, p->m, p->n, p->k);
    for (int i = 0; i < N_CANDIDATE; i++) {
        if (calls[i] > 0) qsort(seconds[i], (size_t)rounds, sizeof(double), by_value);
        if (calls[i] > 0)
            printf(" %.1f |", flop / seconds[i][rounds / 2] * 1e-9);
        else
            printf(" - |");
    }
    printf("\n");
    (void)fflush(stdout);
    forget_bf16_product(s);
}

static void fill(float *x, uint16_t *half, int64_t n, uint32_t stream) {
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(lemoe_rng_uniform(lemoe_rng_make(1, LEMOE_RNG_TEST, stream), (uint64_t)(i % 65536)) - 0.5);
    lemoe_dtype_from_f32(LEMOE_BF16, x, n, half);
}

static lemoe_status run_problem(bench *s, problem p) {
    int64_t na = (int64_t)p.m * p.k, nb = (int64_t)p.n * p.k;
    lemoe_status status = LEMOE_OK;
    LEMOE_TRY_GOTO(lemoe_mem_alloc(na, sizeof *p.a, &p.a));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(nb, sizeof *p.b, &p.b));
    LEMOE_TRY_GOTO(lemoe_mem_alloc((int64_t)p.m * p.n, sizeof *p.c, &p.c));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(na, sizeof *p.a_bf16, &p.a_bf16));
    LEMOE_TRY_GOTO(lemoe_mem_alloc(nb, sizeof *p.b_bf16, &p.b_bf16));
    fill(p.a, p.a_bf16, na, 1);
    fill(p.b, p.b_bf16, nb, 2);
    measure(s, &p);
out:
    lemoe_mem_free(p.a);
    lemoe_mem_free(p.b);
    lemoe_mem_free(p.c);
    lemoe_mem_free(p.a_bf16);
    lemoe_mem_free(p.b_bf16);
    return status;
}

/* The three products of a layer W[n_out, n_in] on n_tok rows: y = x W^T, dx = dy W, dw = dy^T x. */
static lemoe_status run_layer(bench *s, int n_tok, int n_in, int n_out) {
    LEMOE_TRY(run_problem(s, (problem){.kind = "y  NT", .trans_b = true, .m = n_tok, .n = n_out, .k = n_in}));
    LEMOE_TRY(run_problem(s, (problem){.kind = "dx NN", .m = n_tok, .n = n_in, .k = n_out}));
    return run_problem(s, (problem){.kind = "dw TN", .trans_a = true, .m = n_out, .n = n_in, .k = n_tok});
}

static lemoe_status run_table(bench *s) {
    static const int rows[] =
        {
            1, 16, 200, 1000, 2000
    },
                     small[][2] = {{128, 352}, {352, 128}, {128, 1024}};
    static const int large[][2] = {
        {4096, 4096 },
        {4096, 11008}
    };
    static const int tiny[][3] = {
        {8,  8,  16 },
        {16, 16, 16 },
        {16, 16, 64 },
        {32, 32, 16 },
        {64, 64, 128}
    };
    printf("\n%s\n\n| product | m | n | k |", lemoe_device_domain(s->device));
    for (int i = 0; i < N_CANDIDATE; i++) printf(" %s |", candidates[i].name);
    printf("\n|---|---|---|---|");
    for (int i = 0; i < N_CANDIDATE; i++) printf("---|");
    printf("\n");
    for (size_t i = 0; i < sizeof tiny / sizeof *tiny; i++)
        LEMOE_TRY(run_problem(
            s, (problem){.kind = "attention NT", .trans_b = true, .m = tiny[i][0], .n = tiny[i][1], .k = tiny[i][2]}));
    for (size_t i = 0; i < sizeof small / sizeof *small; i++)
        for (size_t m = 0; m < sizeof rows / sizeof *rows; m++)
            LEMOE_TRY(run_layer(s, rows[m], small[i][0], small[i][1]));
    for (size_t i = 0; i < sizeof large / sizeof *large; i++) {
        LEMOE_TRY(run_layer(s, 1, large[i][0], large[i][1]));
        LEMOE_TRY(run_layer(s, 16, large[i][0], large[i][1]));
        LEMOE_TRY(run_layer(s, 512, large[i][0], large[i][1]));
    }
    return LEMOE_OK;
}

/* A function of a library, or NULL; ISO C has no cast from object to function pointers. */
static void symbol(void *library, const char *name, void *out) {
    void *address = library ? dlsym(library, name) : NULL;
    memcpy(out, &address, sizeof address);
}

static lemoe_status run_threads(int n_threads) {
    bench s = {.n_threads = n_threads};
    void *openblas = dlopen(BENCH_OPENBLAS, RTLD_NOW | RTLD_LOCAL);
    void *blis = dlopen(BENCH_BLIS, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND); /* both define the same names */
    LEMOE_TRY(lemoe_device_open("cpu", n_threads, &s.device));
    symbol(openblas, "cblas_sgemm", &s.openblas);
    symbol(openblas, "cblas_sbgemm", &s.sbgemm);
    symbol(blis, "cblas_sgemm", &s.blis);
    symbol(blis, "bli_thread_set_num_threads", &s.blis_threads);
    if (s.blis_threads) s.blis_threads(n_threads);
#ifdef BENCH_HAVE_DNNL
    LEMOE_CHECK(dnnl_engine_create(&s.engine, dnnl_cpu, 0) == dnnl_success &&
                    dnnl_stream_create(&s.stream, s.engine, dnnl_stream_default_flags) == dnnl_success,
                LEMOE_ERR_DEVICE, "oneDNN does not open the CPU");
#endif
    lemoe_status status = run_table(&s);
#ifdef BENCH_HAVE_DNNL
    (void)dnnl_stream_destroy(s.stream);
    (void)dnnl_engine_destroy(s.engine);
#endif
    lemoe_device_close(s.device);
    return status;
}

int main(int argc, char **argv) {
    lemoe_status status = LEMOE_OK;
    if (getenv("OPENBLAS_CORETYPE")) {
        (void)fprintf(stderr, "bench_matmul: OPENBLAS_CORETYPE is set; unset it, or the figures are another CPU's\n");
        return 1;
    }
    if (argc < 2) {
        status = run_threads(1);
        if (status == LEMOE_OK) status = run_threads(2);
    }
    for (int i = 1; i < argc && status == LEMOE_OK; i++) status = run_threads(atoi(argv[i]));
    if (status != LEMOE_OK) (void)fprintf(stderr, "%s\n%s\n", lemoe_error_message(), lemoe_error_trace());
    return status == LEMOE_OK ? 0 : 1;
}

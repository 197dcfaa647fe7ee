/*
 * oneDNN: its sgemm, and its matmul primitive for bf16. Two major versions are in use (Debian 12 has 2.6), which
 * describe a primitive differently; that difference is in one function.
 *
 * Bits: sgemm gave the same ones wherever its operands lay and however often it was called (kernels/README.md). The
 * mode in which fp32 may be computed as bf16 is for its primitives only, and off: ours are bf16 or nothing.
 */
#include "kernels/cpu/cpu_onednn.h"

#include <dnnl.h>
#include <stdio.h>

bool cpu_onednn_is_there(void) { return true; }

static const char *instruction_set(void) {
    static const struct {
        dnnl_cpu_isa_t isa;
        const char *name;
    } names[] = {
        {dnnl_cpu_isa_sse41,            "sse41"           },
        {dnnl_cpu_isa_avx,              "avx"             },
        {dnnl_cpu_isa_avx2,             "avx2"            },
        {dnnl_cpu_isa_avx512_core,      "avx512_core"     },
        {dnnl_cpu_isa_avx512_core_vnni, "avx512_core_vnni"},
        {dnnl_cpu_isa_avx512_core_bf16, "avx512_core_bf16"},
        {dnnl_cpu_isa_avx512_core_amx,  "avx512_core_amx" },
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (dnnl_get_effective_cpu_isa() == names[i].isa) return names[i].name;
    return NULL;
}

void cpu_onednn_library(char *text, size_t text_bytes) {
    const dnnl_version_t *version = dnnl_version();
    const char *name = instruction_set();
    char number[24];
    (void)snprintf(number, sizeof number, "isa %#x", (unsigned)dnnl_get_effective_cpu_isa());
    (void)snprintf(text, text_bytes, "oneDNN %d.%d.%d (%s)", version->major, version->minor, version->patch,
                   name ? name : number);
}

static lemoe_status check(dnnl_status_t status, const char *what) {
    if (status == dnnl_success) return LEMOE_OK;
    return lemoe_raise(status == dnnl_out_of_memory ? LEMOE_ERR_NOMEM : LEMOE_ERR_DEVICE, "oneDNN: %s failed (%d)",
                       what, (int)status);
}

lemoe_status cpu_onednn_gemm(const cpu_gemm_args *g) {
    return check(dnnl_sgemm(g->trans_a ? 'T' : 'N', g->trans_b ? 'T' : 'N', g->m, g->n, g->k, g->alpha, g->a, g->lda,
                            g->b, g->ldb, g->beta, g->c, g->ldc),
                 "sgemm");
}

/* ---- bf16 ---- */

/* Operands of one product. The library keeps what it compiled for a shape, so nothing is kept here. */
typedef struct product {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_attr_t attributes;
    dnnl_primitive_desc_t description;
    dnnl_primitive_t primitive;
    dnnl_memory_t operand[3];
} product;

static const dnnl_data_type_t types[3] = {dnnl_bf16, dnnl_bf16, dnnl_f32};

static void shape_of(const cpu_bf16_args *g, dnnl_dims_t dims[3], dnnl_dims_t strides[3]) {
    const int64_t rows[3] = {g->m, g->k, g->m}, columns[3] = {g->k, g->n, g->n}, ld[3] = {g->lda, g->ldb, g->ldc};
    const bool transposed[3] = {g->trans_a, g->trans_b, false};
    for (int i = 0; i < 3; i++) {
        dims[i][0] = rows[i];
        dims[i][1] = columns[i];
        strides[i][0] = transposed[i] ? 1 : ld[i];
        strides[i][1] = transposed[i] ? ld[i] : 1;
    }
}

#if DNNL_VERSION_MAJOR >= 3
static lemoe_status describe(product *p, dnnl_dims_t dims[3], dnnl_dims_t strides[3], void *const data[3]) {
    dnnl_memory_desc_t desc[3] = {NULL, NULL, NULL};
    lemoe_status status = LEMOE_OK;
    for (int i = 0; i < 3; i++) {
        LEMOE_TRY_GOTO(
            check(dnnl_memory_desc_create_with_strides(&desc[i], 2, dims[i], types[i], strides[i]), "shape"));
        LEMOE_TRY_GOTO(check(dnnl_memory_create(&p->operand[i], desc[i], p->engine, data[i]), "operand"));
    }
    LEMOE_TRY_GOTO(check(
        dnnl_matmul_primitive_desc_create(&p->description, p->engine, desc[0], desc[1], NULL, desc[2], p->attributes),
        "a product of bf16"));
out:
    for (int i = 0; i < 3; i++)
        if (desc[i]) (void)dnnl_memory_desc_destroy(desc[i]);
    return status;
}
#else
static lemoe_status describe(product *p, dnnl_dims_t dims[3], dnnl_dims_t strides[3], void *const data[3]) {
    dnnl_memory_desc_t desc[3];
    dnnl_matmul_desc_t matmul;
    for (int i = 0; i < 3; i++) {
        LEMOE_TRY(check(dnnl_memory_desc_init_by_strides(&desc[i], 2, dims[i], types[i], strides[i]), "shape"));
        LEMOE_TRY(check(dnnl_memory_create(&p->operand[i], &desc[i], p->engine, data[i]), "operand"));
    }
    LEMOE_TRY(check(dnnl_matmul_desc_init(&matmul, &desc[0], &desc[1], NULL, &desc[2]), "description"));
    return check(dnnl_primitive_desc_create(&p->description, &matmul, p->attributes, p->engine, NULL),
                 "a product of bf16");
}
#endif

static lemoe_status set_accumulate(product *p) {
    dnnl_post_ops_t after = NULL;
    LEMOE_TRY(check(dnnl_post_ops_create(&after), "post-operation"));
#if DNNL_VERSION_MAJOR >= 3
    dnnl_status_t status = dnnl_post_ops_append_sum(after, 1.0f, 0, dnnl_data_type_undef);
#else
    dnnl_status_t status = dnnl_post_ops_append_sum(after, 1.0f);
#endif
    if (status == dnnl_success) status = dnnl_primitive_attr_set_post_ops(p->attributes, after);
    (void)dnnl_post_ops_destroy(after);
    return check(status, "post-operation");
}

static lemoe_status create(product *p, const cpu_bf16_args *g) {
    dnnl_dims_t dims[3], strides[3];
    void *const data[3] = {(void *)(uintptr_t)g->a, (void *)(uintptr_t)g->b, g->c};
    shape_of(g, dims, strides);
    LEMOE_TRY(check(dnnl_engine_create(&p->engine, dnnl_cpu, 0), "engine"));
    LEMOE_TRY(check(dnnl_stream_create(&p->stream, p->engine, dnnl_stream_default_flags), "stream"));
    LEMOE_TRY(check(dnnl_primitive_attr_create(&p->attributes), "attributes"));
    LEMOE_TRY(check(dnnl_primitive_attr_set_fpmath_mode(p->attributes, dnnl_fpmath_mode_strict), "strict mode"));
    if (g->accumulate) LEMOE_TRY(set_accumulate(p));
    LEMOE_TRY(describe(p, dims, strides, data));
    return check(dnnl_primitive_create(&p->primitive, p->description), "compiling a product");
}

static lemoe_status execute(const product *p) {
    const dnnl_exec_arg_t args[3] = {
        {DNNL_ARG_SRC,     p->operand[0]},
        {DNNL_ARG_WEIGHTS, p->operand[1]},
        {DNNL_ARG_DST,     p->operand[2]}
    };
    LEMOE_TRY(check(dnnl_primitive_execute(p->primitive, p->stream, 3, args), "a product of bf16"));
    return check(dnnl_stream_wait(p->stream), "a product of bf16");
}

static void destroy(product *p) {
    for (int i = 0; i < 3; i++)
        if (p->operand[i]) (void)dnnl_memory_destroy(p->operand[i]);
    if (p->primitive) (void)dnnl_primitive_destroy(p->primitive);
    if (p->description) (void)dnnl_primitive_desc_destroy(p->description);
    if (p->attributes) (void)dnnl_primitive_attr_destroy(p->attributes);
    if (p->stream) (void)dnnl_stream_destroy(p->stream);
    if (p->engine) (void)dnnl_engine_destroy(p->engine);
}

lemoe_status cpu_onednn_gemm_bf16(const cpu_bf16_args *args) {
    product p = {0};
    lemoe_status status = create(&p, args);
    if (status == LEMOE_OK) status = execute(&p);
    destroy(&p);
    return status;
}

/* The library may offer such products without the instructions as well, slower than fp32; those are not meant. */
lemoe_status cpu_onednn_check_bf16(void) {
    LEMOE_CHECK(cpu_has_bf16(), LEMOE_ERR_UNSUPPORTED, "this CPU has no instructions for bf16 (AVX512_BF16, AMX)");
    static const uint16_t ones[4] = {0x3f80, 0x3f80, 0x3f80, 0x3f80};
    float c[4];
    cpu_bf16_args args = {.m = 2, .n = 2, .k = 2, .lda = 2, .ldb = 2, .ldc = 2, .a = ones, .b = ones, .c = c};
    if (cpu_onednn_gemm_bf16(&args) == LEMOE_OK && c[3] == 2.0f) return LEMOE_OK;
    char library[64];
    cpu_onednn_library(library, sizeof library);
    return lemoe_raise(LEMOE_ERR_UNSUPPORTED, "%s multiplies no bf16 here", library);
}

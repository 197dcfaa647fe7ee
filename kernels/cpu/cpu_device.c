/* The CPU as a device: host memory, and the table of its operations. */
#include "kernels/cpu/cpu_onednn.h"

#include "kernels/base/log.h"
#include "kernels/base/mem.h"

#include <stdio.h>
#include <stdlib.h>

/* Of our own loops; the library names its kernels itself. */
static const char *instruction_set(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") ? "avx2" : "x86-64";
#else
    return "baseline";
#endif
}

static lemoe_status cpu_open(lemoe_device *device) {
    cpu_state *state = NULL;
    char library[128];
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof *state, &state));
    device->state = state;
    cpu_matmul_library(library, sizeof library);
    (void)snprintf(device->domain, sizeof device->domain, "cpu; %s; threads %d; isa %s", library, device->n_threads,
                   instruction_set());
    if (getenv("OPENBLAS_CORETYPE"))
        lemoe_log(LEMOE_LOG_INFO,
                  "OPENBLAS_CORETYPE is set to %s, so products use %s, which may be half as fast as this "
                  "CPU allows; unset it unless you mean it",
                  getenv("OPENBLAS_CORETYPE"), library);
    return LEMOE_OK;
}

static void cpu_close(lemoe_device *device) {
    cpu_state *state = cpu_state_of(device);
    lemoe_mem_free(state->panel.data);
    lemoe_mem_free(state->scores.data);
    lemoe_mem_free(state->rope.inv_freq.data);
    lemoe_mem_free(state->rope.turn.data);
    lemoe_mem_free(state);
}

/* Not cleared (a large arena would touch every page for nothing), so from lemoe_mem_grow; where the block begins is
 * kept in front of the aligned address. */
static lemoe_status cpu_alloc(lemoe_device *device, size_t n_bytes, void **out) {
    char *block = NULL;
    int64_t capacity = 0;
    (void)device;
    LEMOE_CHECK(n_bytes <= INT64_MAX - 2 * LEMOE_DEVICE_ALIGNMENT, LEMOE_ERR_NOMEM, "no memory for %zu bytes", n_bytes);
    LEMOE_TRY(lemoe_mem_grow(&block, &capacity, (int64_t)n_bytes + 2 * LEMOE_DEVICE_ALIGNMENT, 1));
    uintptr_t address = ((uintptr_t)block + sizeof block + LEMOE_DEVICE_ALIGNMENT - 1) / LEMOE_DEVICE_ALIGNMENT *
                        LEMOE_DEVICE_ALIGNMENT;
    char *aligned = block + (address - (uintptr_t)block);
    memcpy(aligned - sizeof block, &block, sizeof block);
    *out = aligned;
    return LEMOE_OK;
}

static void cpu_free(lemoe_device *device, void *aligned) {
    void *block = NULL;
    (void)device;
    memcpy(&block, (char *)aligned - sizeof block, sizeof block);
    lemoe_mem_free(block);
}

static lemoe_status cpu_move(lemoe_device *device, void *to, const void *from, size_t n_bytes) {
    (void)device;
    memmove(to, from, n_bytes);
    return LEMOE_OK;
}

static lemoe_status cpu_zero(lemoe_device *device, void *block, size_t n_bytes) {
    (void)device;
    memset(block, 0, n_bytes);
    return LEMOE_OK;
}

static lemoe_status cpu_sync(lemoe_device *device) {
    (void)device;
    return LEMOE_OK;
}

static lemoe_status cpu_mem_info(lemoe_device *device, size_t *free_bytes, size_t *total_bytes) {
    (void)device;
    cpu_memory_info("/proc", "/sys/fs/cgroup", free_bytes, total_bytes);
    return LEMOE_OK;
}

static lemoe_status cpu_count(int *out) {
    *out = 1;
    return LEMOE_OK;
}

static lemoe_status cpu_describe(int index, lemoe_device_info *out) {
    size_t free_bytes = 0;
    (void)index;
    (void)snprintf(out->name, sizeof out->name, "CPU (%s)", instruction_set());
    cpu_memory_info("/proc", "/sys/fs/cgroup", &free_bytes, &out->total_bytes);
    return LEMOE_OK;
}

static void cpu_describe_libraries(lemoe_device_libraries *out) {
    cpu_matmul_library(out->compute, sizeof out->compute);
}

static const lemoe_memory_ops memory_ops = {
    .is_host = true,
    .open = cpu_open,
    .close = cpu_close,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .upload = cpu_move,
    .download = cpu_move,
    .copy = cpu_move,
    .zero = cpu_zero,
    .sync = cpu_sync,
    .mem_info = cpu_mem_info,
};

static const lemoe_compute_ops compute_ops = {
    .matmul = cpu_matmul,
    .cast = cpu_cast,
    .axpy = cpu_axpy,
    .scale = cpu_scale,
    .clamp_around = cpu_clamp_around,
    .silu_fwd = cpu_silu_fwd,
    .silu_bwd = cpu_silu_bwd,
    .swiglu_fwd = cpu_swiglu_fwd,
    .swiglu_bwd = cpu_swiglu_bwd,
    .rmsnorm_fwd = cpu_rmsnorm_fwd,
    .rmsnorm_bwd = cpu_rmsnorm_bwd,
    .rope = cpu_rope,
    .embed_fwd = cpu_embed_fwd,
    .attn_fwd = cpu_attn_fwd,
    .attn_bwd = cpu_attn_bwd,
    .xent_rowmax = cpu_xent_rowmax,
    .xent_rowsum = cpu_xent_rowsum,
    .xent_bwd = cpu_xent_bwd,
    .sumsq = cpu_sumsq,
    .sumsq_add = cpu_sumsq_add,
    .count_nonfinite = cpu_count_nonfinite,
    .adamw = cpu_adamw,
    .fill_normal = cpu_fill_normal,
    .seg_mean = cpu_seg_mean,
    .topk_softmax_fwd = cpu_topk_softmax_fwd,
    .softmax_bwd = cpu_softmax_bwd,
    .rows_gather = cpu_rows_gather,
    .rows_scatter_add = cpu_rows_scatter_add,
    .rows_scale = cpu_rows_scale,
    .row_dot = cpu_row_dot,
};

const lemoe_backend lemoe_cpu_backend = {
    .kind = "cpu",
    .memory = &memory_ops,
    .compute = &compute_ops,
    .count = cpu_count,
    .describe = cpu_describe,
    .describe_libraries = cpu_describe_libraries,
    .check_bf16_products = cpu_onednn_check_bf16,
};

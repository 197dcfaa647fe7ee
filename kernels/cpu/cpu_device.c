/* The CPU as a device: host memory, and the table of its operations. */
#include "kernels/cpu/cpu_internal.h"

#include "kernels/base/mem.h"

#include <stdio.h>
#include <unistd.h>

static const char *instruction_set(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f")) return "avx512";
    if (__builtin_cpu_supports("avx2")) return "avx2";
    return "x86-64";
#else
    return "generic";
#endif
}

static lemoe_status cpu_open(lemoe_device *device) {
    cpu_state *state = NULL;
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof *state, &state));
    device->state = state;
    cpu_matmul_set_threads(device->n_threads);
    (void)snprintf(device->domain, sizeof device->domain, "cpu; %s; threads %d; isa %s", cpu_matmul_library(),
                   device->n_threads, instruction_set());
    return LEMOE_OK;
}

static void cpu_close(lemoe_device *device) {
    cpu_state *state = cpu_state_of(device);
    lemoe_mem_free(state->panel);
    lemoe_mem_free(state->scores);
    lemoe_mem_free(state);
}

static lemoe_status cpu_alloc(lemoe_device *device, size_t n_bytes, void **out) {
    (void)device;
    return lemoe_mem_alloc((int64_t)n_bytes, 1, out);
}

static void cpu_free(lemoe_device *device, void *block) {
    (void)device;
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

/* One number from a file such as a cgroup's limit; -1 when there is none ("max", no file). */
static int64_t number_in(const char *path) {
    long long value = -1;
    FILE *file = fopen(path, "r");
    if (!file) return -1;
    if (fscanf(file, "%lld", &value) != 1) value = -1;
    (void)fclose(file);
    return value;
}

static int64_t available_bytes(void) {
    char line[128];
    long long kilobytes = -1;
    FILE *file = fopen("/proc/meminfo", "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "MemAvailable: %lld", &kilobytes) == 1) break;
    if (file) (void)fclose(file);
    return kilobytes * 1024;
}

/* The smaller of what the node has and what the cgroup allows. */
static lemoe_status cpu_mem_info(lemoe_device *device, size_t *free_bytes, size_t *total_bytes) {
    (void)device;
    int64_t total = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE), available = available_bytes();
    int64_t limit = number_in("/sys/fs/cgroup/memory.max"), used = number_in("/sys/fs/cgroup/memory.current");
    if (limit < 0) {
        limit = number_in("/sys/fs/cgroup/memory/memory.limit_in_bytes");
        used = number_in("/sys/fs/cgroup/memory/memory.usage_in_bytes");
    }
    if (available < 0) available = total;
    if (limit >= 0 && limit < total) {
        total = limit;
        int64_t left = used >= 0 && used < limit ? limit - used : limit;
        if (left < available) available = left;
    }
    *free_bytes = (size_t)available;
    *total_bytes = (size_t)total;
    return LEMOE_OK;
}

const lemoe_memory_ops lemoe_cpu_memory_ops = {
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

const lemoe_compute_ops lemoe_cpu_compute_ops = {
    .matmul = cpu_matmul,
    .cast = cpu_cast,
    .axpy = cpu_axpy,
    .scale = cpu_scale,
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

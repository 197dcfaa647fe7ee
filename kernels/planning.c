#define _DEFAULT_SOURCE /* anonymous mappings */

#include "kernels/planning.h"

#include "kernels/base/mem.h"
#include "kernels/workspace.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

/* ---- memory: addresses ---- */

typedef struct planning_state {
    size_t now, peak, workspace;
} planning_state;

static lemoe_status planning_open(lemoe_device *device) {
    planning_state *state = NULL;
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof *state, &state));
    device->state = state;
    (void)snprintf(device->domain, sizeof device->domain, "planning");
    return LEMOE_OK;
}

static void planning_close(lemoe_device *device) { lemoe_mem_free(device->state); }

/* The length in front of the aligned address. What the host writes there (a few words that describe device memory) gets
 * its page. */
static lemoe_status planning_alloc(lemoe_device *device, size_t n_bytes, void **out) {
    planning_state *state = device->state;
    size_t length = n_bytes + LEMOE_DEVICE_ALIGNMENT;
    char *block = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    LEMOE_CHECK(block != MAP_FAILED, LEMOE_ERR_NOMEM, "no addresses for %zu bytes", n_bytes);
    memcpy(block, &length, sizeof length);
    *out = block + LEMOE_DEVICE_ALIGNMENT;
    if (n_bytes >= LEMOE_PLANNING_BLOCK_BYTES) return LEMOE_OK;
    state->now += n_bytes;
    if (state->now > state->peak) state->peak = state->now;
    return LEMOE_OK;
}

static void planning_free(lemoe_device *device, void *aligned) {
    planning_state *state = device->state;
    size_t length = 0;
    char *block = (char *)aligned - LEMOE_DEVICE_ALIGNMENT;
    memcpy(&length, block, sizeof length);
    if (length - LEMOE_DEVICE_ALIGNMENT < LEMOE_PLANNING_BLOCK_BYTES) state->now -= length - LEMOE_DEVICE_ALIGNMENT;
    (void)munmap(block, length);
}

static lemoe_status planning_move(lemoe_device *device, void *to, const void *from, size_t n_bytes) { return LEMOE_OK; }

static lemoe_status planning_download(lemoe_device *device, void *to, const void *from, size_t n_bytes) {
    memset(to, 0, n_bytes);
    return LEMOE_OK;
}

static lemoe_status planning_zero(lemoe_device *device, void *block, size_t n_bytes) { return LEMOE_OK; }
static lemoe_status planning_sync(lemoe_device *device) { return LEMOE_OK; }

static lemoe_status planning_mem_info(lemoe_device *device, size_t *free_bytes, size_t *total_bytes) {
    *free_bytes = *total_bytes = SIZE_MAX;
    return LEMOE_OK;
}

/* Of a device that is not the host: there operations take none. */
static size_t planning_workspace(const lemoe_device *device) {
    const planning_state *state = device->state;
    return device->backend->memory->is_host ? 0 : lemoe_workspace_grown(state->workspace);
}

#define PLANNING_MEMORY(reached_by_host)                                                                               \
    {                                                                                                                  \
        .is_host = (reached_by_host), .open = planning_open, .close = planning_close, .alloc = planning_alloc,         \
        .free = planning_free, .upload = planning_move, .download = planning_download, .copy = planning_move,          \
        .zero = planning_zero, .sync = planning_sync, .mem_info = planning_mem_info,                                   \
        .workspace_bytes = planning_workspace,                                                                         \
    }

static const lemoe_memory_ops host_memory = PLANNING_MEMORY(true), device_memory = PLANNING_MEMORY(false);

/* ---- operations: nothing, and zero where the host gets a number ---- */

typedef lemoe_device dev;
typedef lemoe_tensor ten;

/* The most that one operation takes beside its arguments. */
static lemoe_status takes(dev *d, size_t n_bytes) {
    planning_state *state = d->state;
    if (n_bytes > state->workspace) state->workspace = n_bytes;
    return LEMOE_OK;
}

static lemoe_status matmul(dev *d, const lemoe_matmul_args *a) {
    return takes(d, lemoe_workspace_matmul(a, d->products));
}
static lemoe_status cast(dev *d, ten from, ten to) { return LEMOE_OK; }
static lemoe_status axpy(dev *d, float a, ten x, ten y) { return LEMOE_OK; }
static lemoe_status scale(dev *d, float a, ten x) { return LEMOE_OK; }
static lemoe_status clamp_around(dev *d, ten reference, float limit, ten x) { return LEMOE_OK; }
static lemoe_status two(dev *d, ten x, ten y) { return LEMOE_OK; }
static lemoe_status three(dev *d, ten x, ten y, ten z) { return LEMOE_OK; }
static lemoe_status four(dev *d, ten x, ten y, ten z, ten w) { return LEMOE_OK; }
static lemoe_status five(dev *d, ten x, ten y, ten z, ten w, ten v) { return LEMOE_OK; }
static lemoe_status rmsnorm_fwd(dev *d, ten x, ten w, float eps, ten y, ten inv_rms) { return LEMOE_OK; }
static lemoe_status rope(dev *d, ten x, ten position, ten inv_freq, int sign) { return LEMOE_OK; }
static lemoe_status embed_fwd(dev *d, ten id, ten table, int64_t row_begin, ten y) { return LEMOE_OK; }
static lemoe_status attention(dev *d, const lemoe_attn_args *a) { return takes(d, lemoe_workspace_attn(a)); }
static lemoe_status xent_rowmax(dev *d, ten logits, int64_t row_begin, ten max, ten arg) { return LEMOE_OK; }
static lemoe_status xent_rowsum(dev *d, ten x, ten max, ten label, int64_t begin, ten sum, ten out) { return LEMOE_OK; }
static lemoe_status xent_bwd(dev *d, ten x, ten max, ten sum, ten label, ten weight, int64_t begin) { return LEMOE_OK; }
static lemoe_status adamw(dev *d, const lemoe_adamw_args *a) { return LEMOE_OK; }
static lemoe_status fill_normal(dev *d, const lemoe_fill_args *a) { return LEMOE_OK; }

static lemoe_status sumsq(dev *d, ten x, double *out) {
    *out = 0;
    return takes(d, lemoe_workspace_sum(x));
}

static lemoe_status sumsq_add(dev *d, ten x, ten total) { return takes(d, lemoe_workspace_sum(x)); }

static lemoe_status count_nonfinite(dev *d, ten x, int64_t *out) {
    *out = 0;
    return takes(d, lemoe_workspace_sum(x));
}

static const lemoe_compute_ops compute_ops = {
    .matmul = matmul,
    .cast = cast,
    .axpy = axpy,
    .scale = scale,
    .clamp_around = clamp_around,
    .silu_fwd = two,
    .silu_bwd = three,
    .swiglu_fwd = three,
    .swiglu_bwd = five,
    .rmsnorm_fwd = rmsnorm_fwd,
    .rmsnorm_bwd = five,
    .rope = rope,
    .embed_fwd = embed_fwd,
    .attn_fwd = attention,
    .attn_bwd = attention,
    .xent_rowmax = xent_rowmax,
    .xent_rowsum = xent_rowsum,
    .xent_bwd = xent_bwd,
    .sumsq = sumsq,
    .sumsq_add = sumsq_add,
    .count_nonfinite = count_nonfinite,
    .adamw = adamw,
    .fill_normal = fill_normal,
    .seg_mean = four,
    .topk_softmax_fwd = three,
    .softmax_bwd = three,
    .rows_gather = three,
    .rows_scatter_add = four,
    .rows_scale = two,
    .row_dot = three,
};

/* ---- the device ---- */

static const lemoe_backend like_host_backend = {.kind = "planning", .memory = &host_memory, .compute = &compute_ops},
                           like_device_backend = {
                               .kind = "planning", .memory = &device_memory, .compute = &compute_ops};

lemoe_status lemoe_planning_device_open(bool like_host, lemoe_products products, lemoe_device **out) {
    lemoe_device *device = NULL;
    *out = NULL;
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof *device, &device));
    *device = (lemoe_device){.backend = like_host ? &like_host_backend : &like_device_backend,
                             .compute = &compute_ops,
                             .n_threads = 1,
                             .products = products};
    lemoe_status status = planning_open(device);
    if (status == LEMOE_OK)
        *out = device;
    else
        lemoe_mem_free(device);
    return status;
}

lemoe_status lemoe_planning_device_open_like(const lemoe_device *device, lemoe_device **out) {
    return lemoe_planning_device_open(lemoe_device_is_host(device), device->products, out);
}

bool lemoe_device_is_planning(const lemoe_device *device) { return device->backend->compute == &compute_ops; }

size_t lemoe_planning_device_peak_bytes(const lemoe_device *device) {
    return ((const planning_state *)device->state)->peak;
}

#define _DEFAULT_SOURCE /* MAP_ANONYMOUS, MAP_NORESERVE */
#include "tests/wall/wall.h"

#include "kernels/base/mem.h"
#include "kernels/ops_table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Two ranges of addresses of one size: what is handed out, without access, and where the bytes are. Address space is
 * cheap, so nothing is used twice: a pointer into memory that was freed finds poison. */
static const size_t range_bytes = (size_t)64 << 30, poison_bytes = (size_t)4 << 20;
static char *outside, *inside;
static size_t n_used, page_bytes;

wall_counts wall_count;
size_t wall_free_bytes;

static void die(const char *reason, const void *address) {
    (void)fprintf(stderr, "wall: %s (%p)\n", reason, address);
    abort();
}

static void *reserve(int protection) {
    void *range = mmap(NULL, range_bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (range == MAP_FAILED) die("no address space", NULL);
    return range;
}

static bool is_outside(const void *address) {
    return outside && (const char *)address >= outside && (const char *)address < outside + range_bytes;
}

/* Where the bytes of a device address are. */
static void *through(const void *address) {
    if (!address) return NULL;
    if (!is_outside(address)) die("host memory where device memory is due", address);
    return inside + ((const char *)address - outside);
}

void *wall_inside(const void *address) { return through(address); }

static const void *host(const void *address) {
    if (is_outside(address)) die("device memory where host memory is due", address);
    return address;
}

static lemoe_tensor in(lemoe_tensor t) {
    t.data = lemoe_tensor_count(&t) ? through(t.data) : NULL;
    return t;
}

/* ---- memory ---- */

static lemoe_status wall_open(lemoe_device *device) {
    if (!outside) {
        page_bytes = (size_t)sysconf(_SC_PAGESIZE);
        outside = reserve(PROT_NONE);
        inside = reserve(PROT_READ | PROT_WRITE);
    }
    return lemoe_cpu_backend.memory->open(device);
}

static void wall_close(lemoe_device *device) { lemoe_cpu_backend.memory->close(device); }

/* Poisoned, since a GPU's memory is not zero either: as much of it as a test uses. */
static lemoe_status wall_alloc(lemoe_device *device, size_t n_bytes, void **out) {
    (void)device;
    size_t wanted = (n_bytes + page_bytes - 1) / page_bytes * page_bytes + page_bytes;
    LEMOE_CHECK(wanted <= range_bytes - n_used, LEMOE_ERR_NOMEM, "no memory for %zu bytes behind the wall", n_bytes);
    *out = outside + n_used;
    memset(inside + n_used, 0xff, n_bytes < poison_bytes ? n_bytes : poison_bytes);
    n_used += wanted;
    wall_count.n_alloc++;
    return LEMOE_OK;
}

/* The size is not kept: the first page is poisoned, which is where a view of freed memory begins as a rule. */
static void wall_free(lemoe_device *device, void *block) {
    (void)device;
    memset(through(block), 0xff, page_bytes);
}

static lemoe_status wall_upload(lemoe_device *device, void *to, const void *from_host, size_t n_bytes) {
    (void)device;
    memmove(through(to), host(from_host), n_bytes);
    wall_count.n_upload++;
    wall_count.upload_bytes += n_bytes;
    return LEMOE_OK;
}

static lemoe_status wall_download(lemoe_device *device, void *to_host, const void *from, size_t n_bytes) {
    (void)device;
    (void)host(to_host);
    memmove(to_host, through(from), n_bytes);
    wall_count.n_download++;
    wall_count.download_bytes += n_bytes;
    return LEMOE_OK;
}

/* "Pinned" memory, with its size in front. */
enum { SIZE_ROOM = 64 };

static lemoe_status wall_host_alloc(lemoe_device *device, size_t n_bytes, void **out) {
    char *block = NULL;
    (void)device;
    LEMOE_TRY(lemoe_mem_alloc((int64_t)n_bytes + SIZE_ROOM, 1, &block));
    memcpy(block, &n_bytes, sizeof n_bytes);
    *out = block + SIZE_ROOM;
    wall_count.host_bytes += n_bytes;
    if (wall_count.host_bytes > wall_count.most_host_bytes) wall_count.most_host_bytes = wall_count.host_bytes;
    return LEMOE_OK;
}

static void wall_host_free(lemoe_device *device, void *block) {
    size_t n_bytes = 0;
    (void)device;
    memcpy(&n_bytes, (char *)block - SIZE_ROOM, sizeof n_bytes);
    wall_count.host_bytes -= n_bytes;
    lemoe_mem_free((char *)block - SIZE_ROOM);
}

static lemoe_status wall_copy(lemoe_device *device, void *to, const void *from, size_t n_bytes) {
    (void)device;
    memmove(through(to), through(from), n_bytes);
    return LEMOE_OK;
}

static lemoe_status wall_zero(lemoe_device *device, void *block, size_t n_bytes) {
    (void)device;
    memset(through(block), 0, n_bytes);
    return LEMOE_OK;
}

static lemoe_status wall_sync(lemoe_device *device) { return lemoe_cpu_backend.memory->sync(device); }

static lemoe_status wall_mem_info(lemoe_device *device, size_t *free_bytes, size_t *total_bytes) {
    LEMOE_TRY(lemoe_cpu_backend.memory->mem_info(device, free_bytes, total_bytes));
    if (wall_free_bytes) *free_bytes = wall_free_bytes;
    return LEMOE_OK;
}

static const lemoe_memory_ops wall_memory_ops = {
    .is_host = false,
    .open = wall_open,
    .close = wall_close,
    .alloc = wall_alloc,
    .free = wall_free,
    .upload = wall_upload,
    .download = wall_download,
    .copy = wall_copy,
    .zero = wall_zero,
    .sync = wall_sync,
    .mem_info = wall_mem_info,
    .host_alloc = wall_host_alloc,
    .host_free = wall_host_free,
};

/* ---- operations: the CPU's, on translated tensors ---- */

#define CPU(call) (wall_count.n_op++, lemoe_cpu_backend.compute->call)

static lemoe_status wall_matmul(lemoe_device *d, const lemoe_matmul_args *args) {
    lemoe_matmul_args a = *args;
    a.a = in(a.a), a.b = in(a.b), a.c = in(a.c);
    return CPU(matmul(d, &a));
}
static lemoe_status wall_cast(lemoe_device *d, lemoe_tensor from, lemoe_tensor to) {
    return CPU(cast(d, in(from), in(to)));
}
static lemoe_status wall_axpy(lemoe_device *d, float a, lemoe_tensor x, lemoe_tensor y) {
    return CPU(axpy(d, a, in(x), in(y)));
}
static lemoe_status wall_scale(lemoe_device *d, float a, lemoe_tensor x) { return CPU(scale(d, a, in(x))); }
static lemoe_status wall_clamp_around(lemoe_device *d, lemoe_tensor reference, float limit, lemoe_tensor x) {
    return CPU(clamp_around(d, in(reference), limit, in(x)));
}
static lemoe_status wall_silu_fwd(lemoe_device *d, lemoe_tensor x, lemoe_tensor y) {
    return CPU(silu_fwd(d, in(x), in(y)));
}
static lemoe_status wall_silu_bwd(lemoe_device *d, lemoe_tensor dy, lemoe_tensor x, lemoe_tensor dx) {
    return CPU(silu_bwd(d, in(dy), in(x), in(dx)));
}
static lemoe_status wall_swiglu_fwd(lemoe_device *d, lemoe_tensor gate, lemoe_tensor up, lemoe_tensor act) {
    return CPU(swiglu_fwd(d, in(gate), in(up), in(act)));
}
static lemoe_status wall_swiglu_bwd(lemoe_device *d, lemoe_tensor d_act, lemoe_tensor gate, lemoe_tensor up,
                                    lemoe_tensor d_gate, lemoe_tensor d_up) {
    return CPU(swiglu_bwd(d, in(d_act), in(gate), in(up), in(d_gate), in(d_up)));
}
static lemoe_status wall_rmsnorm_fwd(lemoe_device *d, lemoe_tensor x, lemoe_tensor w, float eps, lemoe_tensor y,
                                     lemoe_tensor inv_rms) {
    return CPU(rmsnorm_fwd(d, in(x), in(w), eps, in(y), in(inv_rms)));
}
static lemoe_status wall_rmsnorm_bwd(lemoe_device *d, lemoe_tensor dy, lemoe_tensor x, lemoe_tensor w,
                                     lemoe_tensor inv_rms, lemoe_tensor dx) {
    return CPU(rmsnorm_bwd(d, in(dy), in(x), in(w), in(inv_rms), in(dx)));
}
static lemoe_status wall_rope(lemoe_device *d, lemoe_tensor x, lemoe_tensor position, lemoe_tensor inv_freq, int sign) {
    return CPU(rope(d, in(x), in(position), in(inv_freq), sign));
}
static lemoe_status wall_embed_fwd(lemoe_device *d, lemoe_tensor id, lemoe_tensor table, int64_t row_begin,
                                   lemoe_tensor y) {
    return CPU(embed_fwd(d, in(id), in(table), row_begin, in(y)));
}

static lemoe_attn_args attn_in(const lemoe_attn_args *args) {
    lemoe_attn_args a = *args;
    lemoe_tensor *const all[] = {&a.q, &a.k, &a.v, &a.out, &a.log_sum_exp, &a.seq_start, &a.d_out, &a.dq, &a.dk, &a.dv};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i]->data) *all[i] = in(*all[i]);
    return a;
}
static lemoe_status wall_attn_fwd(lemoe_device *d, const lemoe_attn_args *args) {
    lemoe_attn_args a = attn_in(args);
    return CPU(attn_fwd(d, &a));
}
static lemoe_status wall_attn_bwd(lemoe_device *d, const lemoe_attn_args *args) {
    lemoe_attn_args a = attn_in(args);
    return CPU(attn_bwd(d, &a));
}

static lemoe_status wall_xent_rowmax(lemoe_device *d, lemoe_tensor logits, int64_t row_begin, lemoe_tensor row_max,
                                     lemoe_tensor row_arg) {
    return CPU(xent_rowmax(d, in(logits), row_begin, in(row_max), in(row_arg)));
}
static lemoe_status wall_xent_rowsum(lemoe_device *d, lemoe_tensor logits, lemoe_tensor row_max, lemoe_tensor label,
                                     int64_t row_begin, lemoe_tensor sum, lemoe_tensor label_logit) {
    return CPU(xent_rowsum(d, in(logits), in(row_max), in(label), row_begin, in(sum), in(label_logit)));
}
static lemoe_status wall_xent_bwd(lemoe_device *d, lemoe_tensor logits, lemoe_tensor row_max, lemoe_tensor sum,
                                  lemoe_tensor label, lemoe_tensor weight, int64_t row_begin) {
    return CPU(xent_bwd(d, in(logits), in(row_max), in(sum), in(label), in(weight), row_begin));
}

static lemoe_status wall_sumsq(lemoe_device *d, lemoe_tensor x, double *out) { return CPU(sumsq(d, in(x), out)); }
static lemoe_status wall_sumsq_add(lemoe_device *d, lemoe_tensor x, lemoe_tensor total) {
    return CPU(sumsq_add(d, in(x), in(total)));
}
static lemoe_status wall_count_nonfinite(lemoe_device *d, lemoe_tensor x, int64_t *out) {
    return CPU(count_nonfinite(d, in(x), out));
}
static lemoe_status wall_adamw(lemoe_device *d, const lemoe_adamw_args *args) {
    lemoe_adamw_args a = *args;
    a.w = in(a.w), a.grad = in(a.grad), a.m = in(a.m), a.v = in(a.v);
    return CPU(adamw(d, &a));
}
static lemoe_status wall_fill_normal(lemoe_device *d, const lemoe_fill_args *args) {
    lemoe_fill_args a = *args;
    a.x = in(a.x);
    return CPU(fill_normal(d, &a));
}

static lemoe_status wall_seg_mean(lemoe_device *d, lemoe_tensor x, lemoe_tensor begin, lemoe_tensor end,
                                  lemoe_tensor y) {
    return CPU(seg_mean(d, in(x), in(begin), in(end), in(y)));
}
static lemoe_status wall_topk_softmax_fwd(lemoe_device *d, lemoe_tensor z, lemoe_tensor p, lemoe_tensor index) {
    return CPU(topk_softmax_fwd(d, in(z), in(p), in(index)));
}
static lemoe_status wall_softmax_bwd(lemoe_device *d, lemoe_tensor p, lemoe_tensor dp, lemoe_tensor dz) {
    return CPU(softmax_bwd(d, in(p), in(dp), in(dz)));
}
static lemoe_status wall_rows_gather(lemoe_device *d, lemoe_tensor x, lemoe_tensor row, lemoe_tensor y) {
    return CPU(rows_gather(d, in(x), in(row), in(y)));
}
static lemoe_status wall_rows_scatter_add(lemoe_device *d, lemoe_tensor x, lemoe_tensor row, lemoe_tensor weight,
                                          lemoe_tensor y) {
    return CPU(rows_scatter_add(d, in(x), in(row), in(weight), in(y)));
}
static lemoe_status wall_rows_scale(lemoe_device *d, lemoe_tensor weight, lemoe_tensor x) {
    return CPU(rows_scale(d, in(weight), in(x)));
}
static lemoe_status wall_row_dot(lemoe_device *d, lemoe_tensor a, lemoe_tensor b, lemoe_tensor dot) {
    return CPU(row_dot(d, in(a), in(b), in(dot)));
}

static const lemoe_compute_ops wall_compute_ops = {
    .matmul = wall_matmul,
    .cast = wall_cast,
    .axpy = wall_axpy,
    .scale = wall_scale,
    .clamp_around = wall_clamp_around,
    .silu_fwd = wall_silu_fwd,
    .silu_bwd = wall_silu_bwd,
    .swiglu_fwd = wall_swiglu_fwd,
    .swiglu_bwd = wall_swiglu_bwd,
    .rmsnorm_fwd = wall_rmsnorm_fwd,
    .rmsnorm_bwd = wall_rmsnorm_bwd,
    .rope = wall_rope,
    .embed_fwd = wall_embed_fwd,
    .attn_fwd = wall_attn_fwd,
    .attn_bwd = wall_attn_bwd,
    .xent_rowmax = wall_xent_rowmax,
    .xent_rowsum = wall_xent_rowsum,
    .xent_bwd = wall_xent_bwd,
    .sumsq = wall_sumsq,
    .sumsq_add = wall_sumsq_add,
    .count_nonfinite = wall_count_nonfinite,
    .adamw = wall_adamw,
    .fill_normal = wall_fill_normal,
    .seg_mean = wall_seg_mean,
    .topk_softmax_fwd = wall_topk_softmax_fwd,
    .softmax_bwd = wall_softmax_bwd,
    .rows_gather = wall_rows_gather,
    .rows_scatter_add = wall_rows_scatter_add,
    .rows_scale = wall_rows_scale,
    .row_dot = wall_row_dot,
};

static lemoe_status wall_count_devices(int *out) { return lemoe_cpu_backend.count(out); }
static lemoe_status wall_describe(int index, lemoe_device_info *out) { return lemoe_cpu_backend.describe(index, out); }
static void wall_describe_libraries(lemoe_device_libraries *out) { lemoe_cpu_backend.describe_libraries(out); }

const lemoe_backend wall_backend = {
    .kind = "cpu",
    .memory = &wall_memory_ops,
    .compute = &wall_compute_ops,
    .count = wall_count_devices,
    .describe = wall_describe,
    .describe_libraries = wall_describe_libraries,
};

#include "kernels/device.h"

#include "kernels/base/mem.h"
#include "kernels/cuda_module.h"
#include "kernels/ops_table.h"

#include <stdio.h>
#include <string.h>

/* ---- which there are ---- */

/* need_driver: only where it could be used, not merely described. */
static lemoe_status find_backend(const char *kind, bool need_driver, const lemoe_backend **out) {
    *out = &lemoe_cpu_backend;
    if (strcmp(kind, "cpu") == 0) return LEMOE_OK;
    LEMOE_CHECK(strcmp(kind, "cuda") == 0, LEMOE_ERR_UNSUPPORTED,
                "there is no device kind '%s'; there are cpu and cuda", kind);
    return lemoe_cuda_module_open(need_driver, out);
}

static lemoe_status find_device(const char *kind, int index, const lemoe_backend **out) {
    int n = 0;
    LEMOE_TRY(find_backend(kind, true, out));
    LEMOE_TRY((*out)->count(&n));
    LEMOE_CHECK(index >= 0 && index < n, LEMOE_ERR_ARG, "device %d of kind %s; there are %d", index, kind, n);
    return LEMOE_OK;
}

lemoe_status lemoe_device_count(const char *kind, int *out) {
    const lemoe_backend *backend = NULL;
    LEMOE_TRY(find_backend(kind, true, &backend));
    return backend->count(out);
}

lemoe_status lemoe_device_describe(const char *kind, int index, lemoe_device_info *out) {
    const lemoe_backend *backend = NULL;
    memset(out, 0, sizeof *out);
    LEMOE_TRY(find_device(kind, index, &backend));
    return backend->describe(index, out);
}

lemoe_status lemoe_device_describe_libraries(const char *kind, lemoe_device_libraries *out) {
    const lemoe_backend *backend = NULL;
    memset(out, 0, sizeof *out);
    LEMOE_TRY(find_backend(kind, false, &backend));
    backend->describe_libraries(out);
    return LEMOE_OK;
}

/* ---- life ---- */

lemoe_status lemoe_device_open_at(const char *kind, int index, int n_threads, lemoe_device **out) {
    const lemoe_backend *backend = NULL;
    lemoe_device *device = NULL;
    LEMOE_TRY(find_device(kind, index, &backend));
    LEMOE_CHECK(n_threads >= 1, LEMOE_ERR_ARG, "a device with %d threads; there must be one at least", n_threads);
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof *device, &device));
    *device = (lemoe_device){.backend = backend, .compute = backend->compute, .index = index, .n_threads = n_threads};
    lemoe_status status = backend->memory->open(device);
    if (status != LEMOE_OK) {
        lemoe_mem_free(device);
        return lemoe_error_frame(status, __FILE__, __LINE__, __func__);
    }
    *out = device;
    return LEMOE_OK;
}

lemoe_status lemoe_device_open(const char *kind, int n_threads, lemoe_device **out) {
    return lemoe_device_open_at(kind, 0, n_threads, out);
}

void lemoe_device_close(lemoe_device *device) {
    if (!device) return;
    device->backend->memory->close(device);
    lemoe_mem_free(device);
}

lemoe_status lemoe_device_check_products(const char *kind, lemoe_products products) {
    const lemoe_backend *backend = NULL;
    if (products == LEMOE_PRODUCTS_F32) return LEMOE_OK;
    LEMOE_TRY(find_backend(kind, false, &backend));
    LEMOE_CHECK(backend->check_bf16_products, LEMOE_ERR_UNSUPPORTED, "devices of kind %s multiply no bf16", kind);
    return backend->check_bf16_products();
}

lemoe_status lemoe_device_set_products(lemoe_device *device, lemoe_products products) {
    size_t used = strlen(device->domain);
    LEMOE_TRY(lemoe_device_check_products(device->backend->kind, products));
    if (products == device->products) return LEMOE_OK;
    device->products = products;
    (void)snprintf(device->domain + used, sizeof device->domain - used, "; products bf16");
    return LEMOE_OK;
}

lemoe_dtype lemoe_device_product_type(const lemoe_device *device, lemoe_dtype weight) {
    return lemoe_rounded_to(device->products, device->backend->memory->is_host, weight);
}

const char *lemoe_device_kind(const lemoe_device *device) { return device->backend->kind; }
const char *lemoe_device_domain(const lemoe_device *device) { return device->domain; }
bool lemoe_device_is_host(const lemoe_device *device) { return device->backend->memory->is_host; }

/* ---- memory and transfers ---- */

static const lemoe_memory_ops *memory_of(const lemoe_device *device) { return device->backend->memory; }

lemoe_status lemoe_device_alloc(lemoe_device *device, size_t n_bytes, void **out) {
    return memory_of(device)->alloc(device, n_bytes, out);
}
void lemoe_device_free(lemoe_device *device, void *block) {
    if (block) memory_of(device)->free(device, block);
}
lemoe_status lemoe_device_upload(lemoe_device *device, void *to, const void *from_host, size_t n_bytes) {
    return n_bytes ? memory_of(device)->upload(device, to, from_host, n_bytes) : LEMOE_OK;
}
lemoe_status lemoe_device_download(lemoe_device *device, void *to_host, const void *from, size_t n_bytes) {
    return n_bytes ? memory_of(device)->download(device, to_host, from, n_bytes) : LEMOE_OK;
}
lemoe_status lemoe_device_copy(lemoe_device *device, void *to, const void *from, size_t n_bytes) {
    return n_bytes ? memory_of(device)->copy(device, to, from, n_bytes) : LEMOE_OK;
}
lemoe_status lemoe_device_zero(lemoe_device *device, void *block, size_t n_bytes) {
    return n_bytes ? memory_of(device)->zero(device, block, n_bytes) : LEMOE_OK;
}
lemoe_status lemoe_device_sync(lemoe_device *device) { return memory_of(device)->sync(device); }
bool lemoe_device_is_lost(lemoe_device *device) {
    return memory_of(device)->is_lost && memory_of(device)->is_lost(device);
}

lemoe_status lemoe_device_host_alloc(lemoe_device *device, size_t n_bytes, void **out) {
    if (memory_of(device)->host_alloc) return memory_of(device)->host_alloc(device, n_bytes, out);
    int64_t capacity = 0;
    *out = NULL;
    LEMOE_CHECK(n_bytes <= INT64_MAX, LEMOE_ERR_NOMEM, "no memory for %zu bytes", n_bytes);
    return lemoe_mem_grow(out, &capacity, (int64_t)n_bytes, 1); /* not cleared, so that only touched pages count */
}

void lemoe_device_host_free(lemoe_device *device, void *block) {
    if (!block) return;
    if (memory_of(device)->host_free)
        memory_of(device)->host_free(device, block);
    else
        lemoe_mem_free(block);
}

lemoe_status lemoe_device_mem_info(lemoe_device *device, size_t *free_bytes, size_t *total_bytes) {
    return memory_of(device)->mem_info(device, free_bytes, total_bytes);
}

lemoe_status lemoe_device_reserve_workspace(lemoe_device *device, size_t n_bytes) {
    return memory_of(device)->reserve_workspace ? memory_of(device)->reserve_workspace(device, n_bytes) : LEMOE_OK;
}
void lemoe_device_release_workspace(lemoe_device *device) {
    if (memory_of(device)->release_workspace) memory_of(device)->release_workspace(device);
}
size_t lemoe_device_workspace_bytes(const lemoe_device *device) {
    return memory_of(device)->workspace_bytes ? memory_of(device)->workspace_bytes(device) : 0;
}

/* ---- captured work ---- */

bool lemoe_device_can_capture(const lemoe_device *device) { return memory_of(device)->capture_begin != NULL; }

lemoe_status lemoe_device_capture_begin(lemoe_device *device) {
    LEMOE_CHECK(lemoe_device_can_capture(device), LEMOE_ERR_UNSUPPORTED,
                "device %s captures nothing; run the operations plainly", device->backend->kind);
    return memory_of(device)->capture_begin(device);
}

lemoe_status lemoe_device_capture_end(lemoe_device *device, lemoe_graph **out) {
    *out = NULL;
    LEMOE_CHECK(lemoe_device_can_capture(device), LEMOE_ERR_UNSUPPORTED, "device %s captures nothing",
                device->backend->kind);
    return memory_of(device)->capture_end(device, out);
}

lemoe_status lemoe_graph_replay(lemoe_device *device, lemoe_graph *graph) {
    return memory_of(device)->replay(device, graph);
}

void lemoe_graph_destroy(lemoe_device *device, lemoe_graph *graph) {
    if (graph) memory_of(device)->graph_destroy(device, graph);
}

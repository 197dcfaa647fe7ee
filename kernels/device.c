#include "kernels/device.h"

#include "kernels/base/mem.h"
#include "kernels/ops_table.h"

#include <string.h>

static const struct backend {
    const char *kind;
    const lemoe_memory_ops *memory;
    const lemoe_compute_ops *compute;
} backends[] = {
    {"cpu", &lemoe_cpu_memory_ops, &lemoe_cpu_compute_ops},
};

static const struct backend *find_backend(const char *kind) {
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++)
        if (strcmp(backends[i].kind, kind) == 0) return &backends[i];
    return NULL;
}

lemoe_status lemoe_device_open(const char *kind, int n_threads, lemoe_device **out) {
    const struct backend *b = find_backend(kind);
    LEMOE_CHECK(b, LEMOE_ERR_UNSUPPORTED, "there is no device kind '%s' in this build; cpu is always there", kind);
    LEMOE_CHECK(n_threads >= 1, LEMOE_ERR_ARG, "a device with %d threads; there must be one at least", n_threads);
    lemoe_device *device = NULL;
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof *device, &device));
    *device = (lemoe_device){.kind = b->kind, .memory = b->memory, .compute = b->compute, .n_threads = n_threads};
    lemoe_status status = b->memory->open(device);
    if (status != LEMOE_OK) {
        lemoe_mem_free(device);
        return lemoe_error_frame(status, __FILE__, __LINE__, __func__);
    }
    *out = device;
    return LEMOE_OK;
}

void lemoe_device_close(lemoe_device *device) {
    if (!device) return;
    device->memory->close(device);
    lemoe_mem_free(device);
}

const char *lemoe_device_kind(const lemoe_device *device) { return device->kind; }
const char *lemoe_device_domain(const lemoe_device *device) { return device->domain; }
bool lemoe_device_is_host(const lemoe_device *device) { return device->memory->is_host; }

lemoe_status lemoe_device_alloc(lemoe_device *device, size_t n_bytes, void **out) {
    return device->memory->alloc(device, n_bytes, out);
}
void lemoe_device_free(lemoe_device *device, void *block) {
    if (block) device->memory->free(device, block);
}
lemoe_status lemoe_device_upload(lemoe_device *device, void *to, const void *from_host, size_t n_bytes) {
    return n_bytes ? device->memory->upload(device, to, from_host, n_bytes) : LEMOE_OK;
}
lemoe_status lemoe_device_download(lemoe_device *device, void *to_host, const void *from, size_t n_bytes) {
    return n_bytes ? device->memory->download(device, to_host, from, n_bytes) : LEMOE_OK;
}
lemoe_status lemoe_device_copy(lemoe_device *device, void *to, const void *from, size_t n_bytes) {
    return n_bytes ? device->memory->copy(device, to, from, n_bytes) : LEMOE_OK;
}
lemoe_status lemoe_device_zero(lemoe_device *device, void *block, size_t n_bytes) {
    return n_bytes ? device->memory->zero(device, block, n_bytes) : LEMOE_OK;
}
lemoe_status lemoe_device_sync(lemoe_device *device) { return device->memory->sync(device); }
lemoe_status lemoe_device_mem_info(lemoe_device *device, size_t *free_bytes, size_t *total_bytes) {
    return device->memory->mem_info(device, free_bytes, total_bytes);
}

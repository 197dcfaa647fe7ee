/*
 * A device: where tensors live and where operations run. Two tables stand behind it, memory and compute; the model, the
 * adaptors and the editors see neither, nor any library's name. "cpu" is always there; "cuda" will be a module opened
 * at run time (runner code is the same for both: data moves by upload and download only).
 */
#ifndef KERNELS_DEVICE_H
#define KERNELS_DEVICE_H

#include "kernels/base/status.h"
#include "kernels/base/tensor.h"

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lemoe_device lemoe_device;

/* Local. Opens a device by kind ("cpu"). n_threads: compute threads of this rank, a constant of the configuration
 * because it can change the last bits. Errors: UNSUPPORTED for another kind. */
lemoe_status lemoe_device_open(const char *kind, int n_threads, lemoe_device **out) LEMOE_MUST_CHECK;
void lemoe_device_close(lemoe_device *device);

const char *lemoe_device_kind(const lemoe_device *device);
/* What decides the last bits, as text for the results: library, version, kernels in use, threads, instruction set. */
const char *lemoe_device_domain(const lemoe_device *device);
/* Whether the host may read and write device pointers directly (then weights can be views of a mapped file). */
bool lemoe_device_is_host(const lemoe_device *device);

/* Local. Device memory, not cleared. Freeing NULL is fine. */
lemoe_status lemoe_device_alloc(lemoe_device *device, size_t n_bytes, void **out) LEMOE_MUST_CHECK;
void lemoe_device_free(lemoe_device *device, void *block);
/* Local. Host to device, device to host, device to device; complete when they return. */
lemoe_status lemoe_device_upload(lemoe_device *device, void *to, const void *from_host,
                                 size_t n_bytes) LEMOE_MUST_CHECK;
lemoe_status lemoe_device_download(lemoe_device *device, void *to_host, const void *from,
                                   size_t n_bytes) LEMOE_MUST_CHECK;
lemoe_status lemoe_device_copy(lemoe_device *device, void *to, const void *from, size_t n_bytes) LEMOE_MUST_CHECK;
lemoe_status lemoe_device_zero(lemoe_device *device, void *block, size_t n_bytes) LEMOE_MUST_CHECK;
lemoe_status lemoe_device_sync(lemoe_device *device) LEMOE_MUST_CHECK;
/* Local. What is free and what there is: device memory, or the smaller of cgroup limit and node for the CPU. */
lemoe_status lemoe_device_mem_info(lemoe_device *device, size_t *free_bytes, size_t *total_bytes) LEMOE_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif

/*
 * A device: where tensors live and where operations run. Two tables stand behind it, memory and compute; the model, the
 * adaptors and the editors see neither, nor any library's name. "cpu" is always there; "cuda" is a module opened at run
 * time (cuda_module.h), so that the program also runs where there is no driver, device or toolkit. Runner code is the
 * same for both: data moves by upload and download only. A device may also offer collectives (collective.h).
 */
#ifndef KERNELS_DEVICE_H
#define KERNELS_DEVICE_H

#include "kernels/base/dtype.h"
#include "kernels/base/status.h"
#include "kernels/base/tensor.h"

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lemoe_device lemoe_device;

/* ---- which there are --------------------------------------------------------------------------------------------- */

/* Local. How many devices of a kind ("cpu": 1) this process may open; at least 1 where it returns OK. Errors:
 * UNSUPPORTED with the reason in one line: no such kind, no module, a module of another build, no driver, no device. */
lemoe_status lemoe_device_count(const char *kind, int *out) LEMOE_MUST_CHECK;

typedef struct lemoe_device_info {
    char name[128]; /* for people: "NVIDIA H200" */
    char id[64];    /* equal for two processes if and only if they see the same device, on one node; "" for the CPU */
    size_t total_bytes;
} lemoe_device_info;
/* Local. Device 0 <= index < count of a kind, without opening it. Errors: as count; ARG for an index outside. */
lemoe_status lemoe_device_describe(const char *kind, int index, lemoe_device_info *out) LEMOE_MUST_CHECK;

typedef struct lemoe_device_libraries {
    char compute[160]; /* "CUDA 13.0, cuBLAS 13.1.0, no driver" */
    /* "NCCL 2.28.9", and what the environment tells it about the order of sums; "" where the kind has no collectives */
    char collective[144];
} lemoe_device_libraries;
/* Local. What stands behind a kind, also where count fails for want of a driver or a device. Errors: UNSUPPORTED, as
 * count, where not even the module is there. */
lemoe_status lemoe_device_describe_libraries(const char *kind, lemoe_device_libraries *out) LEMOE_MUST_CHECK;

/* ---- life ------------------------------------------------------------------------------------------------------- */

/* Local. Opens the first device of a kind, or the one with that index. n_threads: compute threads of this rank, a
 * constant of the configuration because it can change the last bits. Errors: as count; ARG for an index outside. */
lemoe_status lemoe_device_open(const char *kind, int n_threads, lemoe_device **out) LEMOE_MUST_CHECK;
lemoe_status lemoe_device_open_at(const char *kind, int index, int n_threads, lemoe_device **out) LEMOE_MUST_CHECK;
/* Local. Whoever opened it closes it, after everything that lies on it is given back. NULL is fine. */
void lemoe_device_close(lemoe_device *device);

/* Local. Whether devices of a kind can compute products that way. Errors: UNSUPPORTED, saying what is lacking: the
 * instructions, the library. */
lemoe_status lemoe_device_check_products(const char *kind, lemoe_products products) LEMOE_MUST_CHECK;
/* Local. How this device computes them, from its opening on LEMOE_PRODUCTS_F32; once, before the first operation, and
 * part of the domain. Errors: as lemoe_device_check_products. */
lemoe_status lemoe_device_set_products(lemoe_device *device, lemoe_products products) LEMOE_MUST_CHECK;
/* Local. What products of a weight stored as that type round their other operand to, LEMOE_BF16, or LEMOE_F32: nothing.
 * Rows that nobody but such products reads may be stored so when they are written: the same bits, rounded once. */
lemoe_dtype lemoe_device_product_type(const lemoe_device *device, lemoe_dtype weight);

const char *lemoe_device_kind(const lemoe_device *device);
/* What decides the last bits, as text for the results: library, version, kernels in use, threads, instruction set. */
const char *lemoe_device_domain(const lemoe_device *device);
/* Whether the host may read and write device pointers directly (then weights can be views of a mapped file). */
bool lemoe_device_is_host(const lemoe_device *device);

/* ---- memory and transfers ---------------------------------------------------------------------------------------- */

/* Local. Device memory, not cleared. Freeing NULL is fine. */
lemoe_status lemoe_device_alloc(lemoe_device *device, size_t n_bytes, void **out) LEMOE_MUST_CHECK;
void lemoe_device_free(lemoe_device *device, void *block);
/* Local. Host to device, device to host, device to device, after all operations before and before all that follow. When
 * they return the host's memory was read, or holds what was asked for. Uploads go through pinned buffers of the
 * device's own, filled while the one before travels: the source may be a mapped file, and is read once, in order; small
 * ones wait for nothing. */
lemoe_status lemoe_device_upload(lemoe_device *device, void *to, const void *from_host,
                                 size_t n_bytes) LEMOE_MUST_CHECK;
lemoe_status lemoe_device_download(lemoe_device *device, void *to_host, const void *from,
                                   size_t n_bytes) LEMOE_MUST_CHECK;
lemoe_status lemoe_device_copy(lemoe_device *device, void *to, const void *from, size_t n_bytes) LEMOE_MUST_CHECK;
lemoe_status lemoe_device_zero(lemoe_device *device, void *block, size_t n_bytes) LEMOE_MUST_CHECK;
/* Local. Waits for all operations. Errors of operations that did not wait show up here, and in download: DEVICE, ARG
 * where an operation met an index outside its tensor, or COMM for a collective that will never end (collective.h). */
lemoe_status lemoe_device_sync(lemoe_device *device) LEMOE_MUST_CHECK;
/* Local. After a failure: whether it was the device's last, as an access outside of its memory or an error of that
 * memory are. Every call fails from then on, in this process; another may open it anew. Waits for all operations but
 * collectives, and keeps the error record. The CPU is never lost. */
bool lemoe_device_is_lost(lemoe_device *device);
/* Local. Host memory that transfers fastest (pinned where the device has such a thing), not cleared;
 * freed before the device is closed. Freeing NULL is fine. Errors: NOMEM. */
lemoe_status lemoe_device_host_alloc(lemoe_device *device, size_t n_bytes, void **out) LEMOE_MUST_CHECK;
void lemoe_device_host_free(lemoe_device *device, void *block);
/* Local. What is free and what there is: device memory, or the smaller of cgroup limit and node for the CPU. */
lemoe_status lemoe_device_mem_info(lemoe_device *device, size_t *free_bytes, size_t *total_bytes) LEMOE_MUST_CHECK;
/* Local. Room that operations need besides their arguments (operands of products rounded to the weights' type, partial
 * sums): reserve makes it once, so that no operation asks for more later; at least n_bytes afterwards. Without it room
 * grows on demand, never while a graph is captured. On the CPU nothing: scratch is small and its own. Errors: NOMEM. */
lemoe_status lemoe_device_reserve_workspace(lemoe_device *device, size_t n_bytes) LEMOE_MUST_CHECK;
/* Local. Gives that room back, while there is no captured graph that could name it; it grows again where it is needed.
 */
void lemoe_device_release_workspace(lemoe_device *device);
/* Bytes of that room now; 0 on the CPU. */
size_t lemoe_device_workspace_bytes(const lemoe_device *device);

/* ---- captured work ----------------------------------------------------------------------------------------------- */

/* Operations captured once and replayed as one, without launching each: for a step whose shapes, addresses and scalar
 * arguments (learning rates and steps of adamw included) do not change. */
typedef struct lemoe_graph lemoe_graph;

/* Whether the device can capture. Where it cannot, as the CPU, run the operations plainly: that is all there is to
 * gain. */
bool lemoe_device_can_capture(const lemoe_device *device);
/* Local. Operations between begin and end are recorded and not run; end gives the graph, which the caller destroys
 * before closing the device. What waits or gives values to the host (upload, download, alloc, sync, sumsq,
 * count_nonfinite) fails there with STATE, as does an operation that needs more workspace than there is: run once
 * plainly before. After a failure between them end is called all the same, and what it gives is destroyed. Copy and
 * zero may be captured; collectives of the device as well. Errors: UNSUPPORTED, DEVICE, STATE; NOMEM from end, where
 * the device has no room for what replaying takes: nothing is lost, the operations can be run plainly. */
lemoe_status lemoe_device_capture_begin(lemoe_device *device) LEMOE_MUST_CHECK;
lemoe_status lemoe_device_capture_end(lemoe_device *device, lemoe_graph **out) LEMOE_MUST_CHECK;
/* Local. Runs it, in order with other operations. Errors: DEVICE. */
lemoe_status lemoe_graph_replay(lemoe_device *device, lemoe_graph *graph) LEMOE_MUST_CHECK;
/* Local. NULL is fine. */
void lemoe_graph_destroy(lemoe_device *device, lemoe_graph *graph);

#ifdef __cplusplus
}
#endif
#endif

/*
 * A device that plans: memory is handed out as addresses without pages behind them, operations are checked and compute
 * nothing, what comes back to the host is zero. The very code that will run elsewhere runs here to find out how much
 * memory it takes, in milliseconds and without taking it.
 */
#ifndef KERNELS_PLANNING_H
#define KERNELS_PLANNING_H

#include "kernels/device.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Blocks of arenas on a planning device: no request goes beyond, so no block has a rest. Addresses only. */
#define LEMOE_PLANNING_BLOCK_BYTES ((size_t)1 << 40)

/* Local. A device in place of one whose memory the host reaches (like_host, the CPU) or does not: host data of arenas
 * lies where it would lie there, and lemoe_device_workspace_bytes is the room that operations of a GPU would have taken
 * by now, with products computed that way. Closed like any device. Errors: NOMEM. */
lemoe_status lemoe_planning_device_open(bool like_host, lemoe_products products, lemoe_device **out) LEMOE_MUST_CHECK;
/* Local. In place of that one. */
lemoe_status lemoe_planning_device_open_like(const lemoe_device *device, lemoe_device **out) LEMOE_MUST_CHECK;
/* Local. Whether operations of this device compute nothing. */
bool lemoe_device_is_planning(const lemoe_device *device);
/* Local. The most bytes of blocks smaller than LEMOE_PLANNING_BLOCK_BYTES that there were at once: of what is no arena.
 */
size_t lemoe_planning_device_peak_bytes(const lemoe_device *device);

#ifdef __cplusplus
}
#endif
#endif

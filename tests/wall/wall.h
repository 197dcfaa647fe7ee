/*
 * The CPU backend behind a wall: device memory that the host cannot touch. What alloc hands out is an address where
 * nothing may be read or written; copies and operations translate it to where the bytes are. So a program that takes a
 * device pointer for a host pointer dies, and one that takes a host pointer for a device pointer is told so: what holds
 * behind the wall holds on a GPU, with the results of the CPU bit for bit.
 *
 * A test gets it by linking lemoe_wall (CMakeLists.txt), which stands in for kernels/device.c: the device "cpu" is then
 * the walled one. No build that a user gets has it.
 */
#ifndef TESTS_WALL_WALL_H
#define TESTS_WALL_WALL_H

#include <stddef.h>
#include <stdint.h>

/* What went through the wall since the counts were set to zero, of all devices of the process. */
typedef struct wall_counts {
    int64_t n_upload, n_download, n_op, n_alloc;
    size_t upload_bytes, download_bytes;
    size_t host_bytes, most_host_bytes; /* of lemoe_device_host_alloc: now, and the most there were */
} wall_counts;

extern wall_counts wall_count;

/* What mem_info calls free; 0: what the machine has. */
extern size_t wall_free_bytes;

/* Where the bytes behind a device address are: for tests that play a device's part. */
void *wall_inside(const void *address);

#endif

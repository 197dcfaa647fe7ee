/*
 * Collectives of a device, played by MPI on what lies behind the wall (tests/wall): they stand for NCCL's. A sum that
 * runs beside other operations is worked out as late as it may be, at its end; until then its tensor holds NaN, so that
 * whoever reads it too early has them, and what is written to it is lost.
 */
#ifndef TESTS_PARALLEL_DEVICE_GROUP_H
#define TESTS_PARALLEL_DEVICE_GROUP_H

#include "kernels/ops_table.h"

typedef struct device_group_counts {
    int n_id, n_open, n_reduce, n_close, n_abort;
    int n_begin, most_begun; /* sums beside: all, and the most that were under way at once */
} device_group_counts;

extern device_group_counts device_group_seen;
/* Whether this rank finds no way to its peers, has no memory for a reduction, or is told in one that a peer is gone. */
extern bool device_group_fails_to_open, device_group_fails_to_reduce, device_group_misses_a_peer;

extern const lemoe_collective_ops device_group_ops;

#endif

/* What a launch can compute on: whether every rank has a GPU, which one it takes, and how to say so. */
#ifndef RUNNER_SWEEP_DEVICES_H
#define RUNNER_SWEEP_DEVICES_H

#include "runner/comm/team.h"

#include <stdbool.h>

typedef struct lemoe_devices {
    bool are_asked; /* some run does not say cpu; nothing else is known otherwise */
    bool has_cuda;  /* on every rank */
    char why_not[512];
    int64_t cuda_bytes; /* memory of the smallest GPU */
    int n_share;        /* ranks that share a GPU, where that is most */
    bool are_linked;    /* every rank has a GPU of its own, and they reduce between themselves */
    char who[1024];     /* "rank 0 on GPU 0, rank 1 on GPU 1 (NVIDIA H200)" */
} lemoe_devices;

/* Local, pure. This rank's place among those of its node, from lemoe_launch_nodes: it takes that GPU, or starts over
 * where there are fewer. */
int lemoe_devices_local_rank(const int *node_of, int rank);
/* Collective on the launch's world. Looks at the GPUs of every rank's node without opening one. No GPU is not an error:
 * has_cuda is false and why_not gives the reason of the lowest rank that has none. Errors: COMM. */
lemoe_status lemoe_devices_find(lemoe_launch *launch, lemoe_devices *out) LEMOE_MUST_CHECK;
/* Local. What parallel.device means here: "auto" becomes "cuda" or "cpu". Errors: UNSUPPORTED, with the reason, for
 * cuda where there is none. */
lemoe_status lemoe_devices_resolve(const lemoe_devices *devices, const char *wanted, const char **out) LEMOE_MUST_CHECK;

#endif

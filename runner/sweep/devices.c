#include "runner/sweep/devices.h"

#include "kernels/base/mem.h"
#include "kernels/device.h"

#include <stdio.h>
#include <string.h>

enum { MOST_NAMED = 16 }; /* ranks, in one line */

int lemoe_devices_local_rank(const int *node_of, int rank) {
    int local = 0;
    for (int r = 0; r < rank; r++) local += node_of[r] == node_of[rank];
    return local;
}

/* One rank's GPU, as it travels. */
typedef struct choice {
    int32_t index, has_collectives;
    char id[64], name[128];
} choice;
enum { CHOICE_WORDS = sizeof(choice) / sizeof(int32_t) };

static lemoe_status choose(const int *node_of, int rank, choice *own, int64_t *n_bytes) {
    int n = 0;
    lemoe_device_info info;
    lemoe_device_libraries libraries;
    LEMOE_TRY(lemoe_device_count("cuda", &n));
    LEMOE_TRY(lemoe_device_describe_libraries("cuda", &libraries));
    own->has_collectives = libraries.collective[0] != '\0';
    own->index = lemoe_devices_local_rank(node_of, rank) % n;
    LEMOE_TRY(lemoe_device_describe("cuda", own->index, &info));
    memcpy(own->id, info.id, sizeof own->id);
    memcpy(own->name, info.name, sizeof own->name);
    *n_bytes = (int64_t)info.total_bytes;
    return LEMOE_OK;
}

static void describe(const choice *all, const int *node_of, int n_rank, lemoe_devices *out) {
    size_t n = 0;
    bool have_collectives = true;
    for (int r = 0; r < n_rank; r++) {
        int n_share = 0;
        have_collectives = have_collectives && all[r].has_collectives;
        for (int s = 0; s < n_rank; s++) n_share += node_of[r] == node_of[s] && strcmp(all[r].id, all[s].id) == 0;
        if (n_share > out->n_share) out->n_share = n_share;
        if (r >= MOST_NAMED) continue;
        n += (size_t)snprintf(out->who + n, sizeof out->who - n, "%srank %d on GPU %d", r ? ", " : "", r,
                              (int)all[r].index);
    }
    out->are_linked = have_collectives && out->n_share == 1;
    (void)snprintf(out->who + n, sizeof out->who - n, "%s (%s)", n_rank > MOST_NAMED ? ", ..." : "", all[0].name);
}

/* The lowest of all ranks' values. */
static lemoe_status smallest(lemoe_comm *world, int64_t value, int64_t *out) {
    double negative = -(double)value; /* exact below 2^53 */
    LEMOE_TRY(lemoe_comm_allreduce_max(world, lemoe_tensor_1d(&negative, LEMOE_F64, 1)));
    *out = (int64_t)-negative;
    return LEMOE_OK;
}

static lemoe_status gather(lemoe_launch *launch, const choice *own, int64_t n_bytes, lemoe_devices *out) {
    lemoe_comm *world = lemoe_launch_world(launch);
    int n_rank = lemoe_comm_size(world);
    choice *all = NULL;
    LEMOE_TRY(smallest(world, n_bytes, &out->cuda_bytes));
    LEMOE_TRY(lemoe_comm_agree(world, lemoe_mem_alloc(n_rank, sizeof *all, &all)));
    lemoe_status status = lemoe_comm_allgather(world, lemoe_tensor_1d((void *)own, LEMOE_I32, CHOICE_WORDS),
                                               lemoe_tensor_1d(all, LEMOE_I32, (int64_t)n_rank * CHOICE_WORDS));
    if (status == LEMOE_OK) describe(all, lemoe_launch_nodes(launch), n_rank, out);
    lemoe_mem_free(all);
    return status;
}

lemoe_status lemoe_devices_find(lemoe_launch *launch, lemoe_devices *out) {
    lemoe_comm *world = lemoe_launch_world(launch);
    choice own = {0};
    int64_t n_bytes = 0;
    *out = (lemoe_devices){.are_asked = true};
    lemoe_status status = choose(lemoe_launch_nodes(launch), lemoe_comm_rank(world), &own, &n_bytes);
    status = lemoe_comm_agree(world, status);
    if (status == LEMOE_ERR_COMM) return status;
    out->has_cuda = status == LEMOE_OK;
    if (out->has_cuda) return gather(launch, &own, n_bytes, out);
    (void)snprintf(out->why_not, sizeof out->why_not, "%s", lemoe_error_message());
    lemoe_error_clear();
    return LEMOE_OK;
}

lemoe_status lemoe_devices_resolve(const lemoe_devices *devices, const char *wanted, const char **out) {
    bool is_cuda = strcmp(wanted, "cuda") == 0 || (strcmp(wanted, "auto") == 0 && devices->has_cuda);
    *out = is_cuda ? "cuda" : "cpu";
    LEMOE_CHECK(!is_cuda || devices->has_cuda, LEMOE_ERR_UNSUPPORTED, "parallel.device: cuda: %s; use cpu or auto",
                devices->why_not);
    return LEMOE_OK;
}

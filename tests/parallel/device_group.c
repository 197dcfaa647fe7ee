#include "tests/parallel/device_group.h"

#include "kernels/base/mem.h"
#include "tests/wall/wall.h"

#include <math.h>
#include <mpi.h>
#include <string.h>

struct lemoe_collective {
    int rank, size, n_begun;
    struct {
        lemoe_tensor x;
        float *values; /* of this rank; NULL: nothing has begun */
    } lanes[LEMOE_COLLECTIVE_LANES];
};

device_group_counts device_group_seen;
bool device_group_fails_to_open, device_group_fails_to_reduce, device_group_misses_a_peer;

static const char id_text[] = "made by rank 0, carried to the others";

static lemoe_status group_unique_id(lemoe_device *device, lemoe_collective_id *out) {
    (void)device;
    memset(out, 0, sizeof *out);
    memcpy(out->bytes, id_text, sizeof id_text);
    device_group_seen.n_id++;
    return LEMOE_OK;
}

static lemoe_status group_open(lemoe_device *device, const lemoe_collective_id *id, int rank, int size,
                               lemoe_collective **out) {
    (void)device;
    LEMOE_CHECK(!device_group_fails_to_open, LEMOE_ERR_COMM, "no way to the peer");
    LEMOE_CHECK(strcmp(id->bytes, id_text) == 0, LEMOE_ERR_COMM, "another group's id");
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof **out, out));
    **out = (lemoe_collective){.rank = rank, .size = size};
    device_group_seen.n_open++;
    return LEMOE_OK;
}

static int group_size(const lemoe_collective *group) { return group->size; }

static void reduce(void *values, lemoe_tensor like, lemoe_reduction reduction) {
    MPI_Datatype type = like.dtype == LEMOE_F32 ? MPI_FLOAT : like.dtype == LEMOE_F64 ? MPI_DOUBLE : MPI_INT32_T;
    (void)MPI_Allreduce(MPI_IN_PLACE, values, (int)lemoe_tensor_count(&like), type,
                        reduction == LEMOE_REDUCE_MAX ? MPI_MAX : MPI_SUM, MPI_COMM_WORLD);
}

static lemoe_status group_allreduce(lemoe_device *device, lemoe_collective *group, lemoe_reduction reduction,
                                    lemoe_tensor x) {
    (void)device;
    LEMOE_CHECK(group->n_begun == 0, LEMOE_ERR_STATE, "a reduction while others are under way");
    reduce(wall_inside(x.data), x, reduction);
    device_group_seen.n_reduce++;
    LEMOE_CHECK(!device_group_fails_to_reduce, LEMOE_ERR_NOMEM, "no room for buffers");
    LEMOE_CHECK(!device_group_misses_a_peer, LEMOE_ERR_COMM, "a peer is gone");
    return LEMOE_OK;
}

static lemoe_status group_allreduce_begin(lemoe_device *device, lemoe_collective *group, lemoe_reduction reduction,
                                          lemoe_tensor x, int lane) {
    float *inside = wall_inside(x.data);
    (void)device;
    LEMOE_CHECK(!group->lanes[lane].values && reduction == LEMOE_REDUCE_SUM && x.dtype == LEMOE_F32, LEMOE_ERR_STATE,
                "lane %d, reduction %d", lane, (int)reduction);
    LEMOE_TRY(lemoe_mem_alloc(lemoe_tensor_count(&x), sizeof *inside, &group->lanes[lane].values));
    memcpy(group->lanes[lane].values, inside, lemoe_tensor_bytes(&x));
    for (int64_t i = 0; i < lemoe_tensor_count(&x); i++) inside[i] = NAN;
    group->lanes[lane].x = x;
    device_group_seen.n_begin++;
    if (++group->n_begun > device_group_seen.most_begun) device_group_seen.most_begun = group->n_begun;
    return LEMOE_OK;
}

static lemoe_status group_allreduce_end(lemoe_device *device, lemoe_collective *group, int lane) {
    lemoe_tensor x = group->lanes[lane].x;
    (void)device;
    LEMOE_CHECK(group->lanes[lane].values, LEMOE_ERR_STATE, "lane %d has not begun", lane);
    reduce(group->lanes[lane].values, x, LEMOE_REDUCE_SUM);
    memcpy(wall_inside(x.data), group->lanes[lane].values, lemoe_tensor_bytes(&x));
    lemoe_mem_free(group->lanes[lane].values);
    group->lanes[lane].values = NULL;
    group->n_begun--;
    return LEMOE_OK;
}

static void group_abort(lemoe_device *device, lemoe_collective *group) {
    (void)device, (void)group;
    device_group_seen.n_abort++;
}

static void group_close(lemoe_device *device, lemoe_collective *group) {
    (void)device;
    if (group) device_group_seen.n_close++;
    lemoe_mem_free(group);
}

const lemoe_collective_ops device_group_ops = {
    .unique_id = group_unique_id,
    .open = group_open,
    .size = group_size,
    .allreduce = group_allreduce,
    .allreduce_begin = group_allreduce_begin,
    .allreduce_end = group_allreduce_end,
    .abort = group_abort,
    .close = group_close,
};

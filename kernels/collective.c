/* Front end of a device's collectives: shapes are checked here, then the backend's table moves the data. */
#include "kernels/collective.h"

#include "kernels/ops_table.h"

static lemoe_status table_of(const lemoe_device *device, const lemoe_collective_ops **out) {
    *out = device->backend->collective;
    LEMOE_CHECK(*out, LEMOE_ERR_UNSUPPORTED, "device %s has no collectives", device->backend->kind);
    return LEMOE_OK;
}

bool lemoe_collective_offered(const lemoe_device *device) { return device->backend->collective != NULL; }

lemoe_status lemoe_collective_unique_id(lemoe_device *device, lemoe_collective_id *out) {
    const lemoe_collective_ops *table = NULL;
    LEMOE_TRY(table_of(device, &table));
    return table->unique_id(device, out);
}

lemoe_status lemoe_collective_open(lemoe_device *device, const lemoe_collective_id *id, int rank, int size,
                                   lemoe_collective **out) {
    const lemoe_collective_ops *table = NULL;
    LEMOE_TRY(table_of(device, &table));
    LEMOE_CHECK(rank >= 0 && rank < size, LEMOE_ERR_ARG, "collective: rank %d of %d", rank, size);
    return table->open(device, id, rank, size, out);
}

lemoe_status lemoe_collective_allreduce(lemoe_device *device, lemoe_collective *collective, lemoe_reduction reduction,
                                        lemoe_tensor x) {
    const lemoe_collective_ops *table = NULL;
    LEMOE_TRY(table_of(device, &table));
    return lemoe_tensor_count(&x) ? table->allreduce(device, collective, reduction, x) : LEMOE_OK;
}

static lemoe_status check_lane(int lane) {
    LEMOE_CHECK(lane >= 0 && lane < LEMOE_COLLECTIVE_LANES, LEMOE_ERR_ARG, "reductions have %d lanes, not lane %d",
                LEMOE_COLLECTIVE_LANES, lane);
    return LEMOE_OK;
}

lemoe_status lemoe_collective_allreduce_begin(lemoe_device *device, lemoe_collective *collective,
                                              lemoe_reduction reduction, lemoe_tensor x, int lane) {
    const lemoe_collective_ops *table = NULL;
    LEMOE_TRY(table_of(device, &table));
    LEMOE_TRY(check_lane(lane));
    return table->allreduce_begin(device, collective, reduction, x, lane);
}

lemoe_status lemoe_collective_allreduce_end(lemoe_device *device, lemoe_collective *collective, int lane) {
    const lemoe_collective_ops *table = NULL;
    LEMOE_TRY(table_of(device, &table));
    LEMOE_TRY(check_lane(lane));
    return table->allreduce_end(device, collective, lane);
}

lemoe_status lemoe_collective_allgather(lemoe_device *device, lemoe_collective *collective, lemoe_tensor x,
                                        lemoe_tensor out) {
    const lemoe_collective_ops *table = NULL;
    LEMOE_TRY(table_of(device, &table));
    int64_t n = lemoe_tensor_count(&x);
    LEMOE_CHECK(lemoe_tensor_count(&out) == n * table->size(collective) && x.dtype == out.dtype, LEMOE_ERR_SHAPE,
                "allgather: %lld elements of %d ranks into %lld", (long long)n, table->size(collective),
                (long long)lemoe_tensor_count(&out));
    return n ? table->allgather(device, collective, x, out) : LEMOE_OK;
}

lemoe_status lemoe_collective_broadcast(lemoe_device *device, lemoe_collective *collective, int root, lemoe_tensor x) {
    const lemoe_collective_ops *table = NULL;
    LEMOE_TRY(table_of(device, &table));
    LEMOE_CHECK(root >= 0 && root < table->size(collective), LEMOE_ERR_ARG, "broadcast: from rank %d of %d", root,
                table->size(collective));
    return lemoe_tensor_count(&x) ? table->broadcast(device, collective, root, x) : LEMOE_OK;
}

void lemoe_collective_abort(lemoe_device *device, lemoe_collective *collective) {
    if (collective) device->backend->collective->abort(device, collective);
}

void lemoe_collective_close(lemoe_device *device, lemoe_collective *collective) {
    if (collective) device->backend->collective->close(device, collective);
}

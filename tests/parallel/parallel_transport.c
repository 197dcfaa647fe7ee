/*
 * Tensors of a device whose memory the host cannot touch (tests/wall), between ranks: staged through the host where
 * ranks share a device, or directly where each has its own and devices have collectives - here a table of their own
 * that stands for NCCL's and moves the bytes behind the wall by MPI. Sums are of whole numbers, so equality is exact.
 */
#include "kernels/base/mem.h"
#include "kernels/ops_table.h"
#include "tests/parallel/parallel.h"
#include "tests/wall/wall.h"

#include <mpi.h>
#include <stdio.h>
#include <string.h>

/* ---- a device's collectives ---- */

struct lemoe_collective {
    int rank, size;
};

static struct {
    int n_id, n_open, n_reduce, n_close, n_abort;
    bool fails_to_open;
} seen;

static const char id_text[] = "made by rank 0, carried to the others";

static lemoe_status fake_unique_id(lemoe_device *device, lemoe_collective_id *out) {
    (void)device;
    memset(out, 0, sizeof *out);
    memcpy(out->bytes, id_text, sizeof id_text);
    seen.n_id++;
    return LEMOE_OK;
}

static lemoe_status fake_open(lemoe_device *device, const lemoe_collective_id *id, int rank, int size,
                              lemoe_collective **out) {
    (void)device;
    LEMOE_CHECK(!seen.fails_to_open, LEMOE_ERR_COMM, "no way to the peer");
    LEMOE_CHECK(strcmp(id->bytes, id_text) == 0, LEMOE_ERR_COMM, "another group's id");
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof **out, out));
    **out = (lemoe_collective){rank, size};
    seen.n_open++;
    return LEMOE_OK;
}

static int fake_size(const lemoe_collective *group) { return group->size; }

static lemoe_status fake_allreduce(lemoe_device *device, lemoe_collective *group, lemoe_reduction reduction,
                                   lemoe_tensor x) {
    (void)device, (void)group;
    MPI_Datatype type = x.dtype == LEMOE_F32 ? MPI_FLOAT : x.dtype == LEMOE_F64 ? MPI_DOUBLE : MPI_INT32_T;
    (void)MPI_Allreduce(MPI_IN_PLACE, wall_inside(x.data), (int)lemoe_tensor_count(&x), type,
                        reduction == LEMOE_REDUCE_MAX ? MPI_MAX : MPI_SUM, MPI_COMM_WORLD);
    seen.n_reduce++;
    return LEMOE_OK;
}

static void fake_abort(lemoe_device *device, lemoe_collective *group) {
    (void)device, (void)group;
    seen.n_abort++;
}

static void fake_close(lemoe_device *device, lemoe_collective *group) {
    (void)device;
    if (group) seen.n_close++;
    lemoe_mem_free(group);
}

static const lemoe_collective_ops fake_ops = {
    .unique_id = fake_unique_id,
    .open = fake_open,
    .size = fake_size,
    .allreduce = fake_allreduce,
    .abort = fake_abort,
    .close = fake_close,
};

/* ---- what is reduced ---- */

enum { N = 1000 };

/* x[i] = (i % 100) (rank + 1): sums and maxima are whole numbers. */
static void reduce_and_check(parallel *p, lemoe_device *device, const char *transport) {
    float *x = NULL, host[N];
    double total = 0;
    for (int r = 0; r < p->size; r++) total += r + 1;
    (void)parallel_check(p, strcmp(lemoe_comm_transport_name(p->world), transport) == 0, "by %s, not %s",
                         lemoe_comm_transport_name(p->world), transport);
    PAR(p, lemoe_device_alloc(device, sizeof host, (void **)&x));
    for (int max = 0; max < 2; max++) {
        lemoe_tensor t = lemoe_tensor_1d(x, LEMOE_F32, N);
        bool holds = true;
        for (int i = 0; i < N; i++) host[i] = (float)((i % 100) * (p->rank + 1));
        PAR(p, lemoe_device_upload(device, x, host, sizeof host));
        wall_count = (wall_counts){0};
        PAR(p, max ? lemoe_comm_device_max(p->world, t) : lemoe_comm_device_sum(p->world, t));
        CHECK(p, (wall_count.n_upload + wall_count.n_download > 0) == (strcmp(transport, "staged") == 0));
        PAR(p, lemoe_device_download(device, host, x, sizeof host));
        for (int i = 0; i < N; i++) holds = holds && (double)host[i] == (i % 100) * (max ? (double)p->size : total);
        CHECK(p, holds);
        PAR(p, lemoe_comm_device_sum(p->world, lemoe_tensor_1d(x, LEMOE_F32, 0)));
    }
    lemoe_tensor wrong = lemoe_tensor_1d(x, LEMOE_BF16, N);
    CHECK(p, lemoe_comm_device_sum(p->world, wrong) == LEMOE_ERR_ARG);
    lemoe_device_free(device, x);
}

static void staged(parallel *p, lemoe_device *device) {
    PAR(p, lemoe_comm_attach(p->world, device, "card 0"));
    CHECK(p, lemoe_comm_stays_on_device(p->world) == (p->size == 1));
    CHECK(p, lemoe_comm_attach(p->world, device, "card 0") == LEMOE_ERR_STATE);
    reduce_and_check(p, device, p->size == 1 ? "host" : "staged");
    lemoe_comm_detach(p->world);
    lemoe_comm_detach(p->world);
}

static void direct(parallel *p, lemoe_device *device) {
    char id[16];
    (void)snprintf(id, sizeof id, "card %d", p->rank);
    memset(&seen, 0, sizeof seen);
    PAR(p, lemoe_comm_attach(p->world, device, "card 0")); /* collectives, but one device for all */
    reduce_and_check(p, device, p->size == 1 ? "host" : "staged");
    lemoe_comm_detach(p->world);
    CHECK(p, seen.n_open == 0);
    PAR(p, lemoe_comm_attach(p->world, device, id));
    CHECK(p, lemoe_comm_stays_on_device(p->world));
    reduce_and_check(p, device, p->size == 1 ? "host" : "direct");
    lemoe_comm_detach(p->world);
    if (p->size == 1) return;
    CHECK(p, seen.n_open == 1 && seen.n_close == 1 && seen.n_reduce == 2 && seen.n_abort == 0);
    CHECK(p, seen.n_id == (p->rank == 0));
    seen.fails_to_open = p->rank == p->size - 1; /* one rank cannot: all learn why, none is left in the group */
    CHECK(p, lemoe_comm_attach(p->world, device, id) == LEMOE_ERR_COMM);
    CHECK(p, strstr(lemoe_error_message(), "no way to the peer") != NULL);
    CHECK(p, seen.n_close == seen.n_open && seen.n_abort == (p->rank == p->size - 1 ? 0 : 1));
    seen.fails_to_open = false;
    PAR(p, lemoe_comm_attach(p->world, device, id));
    lemoe_comm_detach(p->world);
}

int main(int argc, char **argv) {
    parallel p;
    lemoe_device *device = NULL;
    parallel_open(&p, &argc, &argv);
    PAR(&p, lemoe_device_open("cpu", 1, &device));
    staged(&p, device);
    lemoe_backend with_collectives = *device->backend;
    with_collectives.collective = &fake_ops;
    device->backend = &with_collectives;
    direct(&p, device);
    lemoe_device_close(device);
    return parallel_close(&p);
}

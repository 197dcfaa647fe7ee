/*
 * Tensors of a device whose memory the host cannot touch, between ranks: staged through the host where ranks share a
 * device, or directly where each has its own and devices have collectives. Sums are of whole numbers, so equality is
 * exact.
 *
 *     parallel_transport           behind the wall (tests/wall), with collectives that stand for NCCL's
 *     parallel_transport cuda      on the emulated devices of LEMOE_CUDA_MODULE, one a rank
 *     parallel_transport abandon   there: the last rank gives up where the others wait for it
 *     parallel_transport broken    there: it leaves the group that the others still use; both end with status 2
 */
#include "kernels/base/mem.h"
#include "kernels/collective.h"
#include "kernels/ops_table.h"
#include "tests/parallel/parallel.h"
#include "tests/wall/wall.h"

#include <mpi.h>
#include <stdio.h>
#include <string.h>

/* ---- a device's collectives: they count, and move the bytes by MPI ---- */

struct lemoe_collective {
    int rank, size;
};

static struct {
    int n_id, n_open, n_reduce, n_close, n_abort;
    bool fails_to_open, fails_to_reduce, misses_a_peer;
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
    LEMOE_CHECK(!seen.fails_to_reduce, LEMOE_ERR_NOMEM, "no room for buffers");
    LEMOE_CHECK(!seen.misses_a_peer, LEMOE_ERR_COMM, "a peer is gone");
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

static double sum_of_ranks(const parallel *p) { return p->size * (p->size + 1) / 2.0; }

/* x[i] = (i % 100) (rank + 1): sums and maxima are whole numbers. */
static void fill(parallel *p, lemoe_device *device, float *x) {
    float host[N];
    for (int i = 0; i < N; i++) host[i] = (float)((i % 100) * (p->rank + 1));
    PAR(p, lemoe_device_upload(device, x, host, sizeof host));
}

static bool is_scaled(parallel *p, lemoe_device *device, const float *x, double factor) {
    float host[N];
    PAR(p, lemoe_device_download(device, host, x, sizeof host));
    for (int i = 0; i < N; i++)
        if ((double)host[i] != (i % 100) * factor) return false;
    return true;
}

static void reduce_and_check(parallel *p, lemoe_device *device, const char *transport) {
    float *x = NULL;
    bool is_walled = strcmp(lemoe_device_kind(device), "cpu") == 0;
    (void)parallel_check(p, strcmp(lemoe_comm_transport_name(p->world), transport) == 0, "by %s, not %s",
                         lemoe_comm_transport_name(p->world), transport);
    PAR(p, lemoe_device_alloc(device, N * sizeof *x, (void **)&x));
    for (int max = 0; max < 2; max++) {
        lemoe_tensor t = lemoe_tensor_1d(x, LEMOE_F32, N);
        fill(p, device, x);
        wall_count = (wall_counts){0};
        PAR(p, max ? lemoe_comm_device_max(p->world, t) : lemoe_comm_device_sum(p->world, t));
        bool is_staged = wall_count.n_upload + wall_count.n_download > 0;
        CHECK(p, !is_walled || is_staged == (strcmp(transport, "staged") == 0));
        CHECK(p, is_scaled(p, device, x, max ? (double)p->size : sum_of_ranks(p)));
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
    CHECK(p, seen.n_open == 1 && seen.n_close == 1 && seen.n_reduce == 3 && seen.n_abort == 0); /* once to try */
    CHECK(p, seen.n_id == (p->rank == 0));
    seen.fails_to_open = p->rank == p->size - 1; /* one rank cannot: all learn why, none is left in the group */
    CHECK(p, lemoe_comm_attach(p->world, device, id) == LEMOE_ERR_COMM);
    CHECK(p, strstr(lemoe_error_message(), "no way to the peer") != NULL);
    CHECK(p, seen.n_close == seen.n_open && seen.n_abort == (p->rank == p->size - 1 ? 0 : 1));
    memset(&seen, 0, sizeof seen);
    seen.fails_to_reduce = p->rank == p->size - 1; /* one rank has no memory, and leaves: that is what all learn */
    seen.misses_a_peer = !seen.fails_to_reduce;
    CHECK(p, lemoe_comm_attach(p->world, device, id) == LEMOE_ERR_NOMEM);
    CHECK(p, strstr(lemoe_error_message(), "no room for buffers") != NULL);
    CHECK(p, seen.n_open == 1 && seen.n_close == 1 && seen.n_abort > 0);
    seen.fails_to_reduce = seen.misses_a_peer = false;
    PAR(p, lemoe_comm_attach(p->world, device, id));
    lemoe_comm_detach(p->world);
}

/* ---- emulated devices ---- */

/* A reduction in a graph: every replay reduces what is there then. */
static void replay_and_check(parallel *p, lemoe_device *device) {
    float *x = NULL;
    double factor = 1;
    lemoe_graph *graph = NULL;
    CHECK(p, lemoe_comm_stays_on_device(p->world));
    PAR(p, lemoe_device_alloc(device, N * sizeof *x, (void **)&x));
    fill(p, device, x);
    PAR(p, lemoe_device_capture_begin(device));
    PAR(p, lemoe_comm_device_sum(p->world, lemoe_tensor_1d(x, LEMOE_F32, N)));
    PAR(p, lemoe_device_capture_end(device, &graph));
    for (int i = 0; i < 4; i++) {
        PAR(p, lemoe_graph_replay(device, graph));
        factor = i == 0 ? sum_of_ranks(p) : factor * p->size;
        CHECK(p, is_scaled(p, device, x, p->size == 1 ? p->rank + 1 : factor));
    }
    lemoe_graph_destroy(device, graph);
    lemoe_device_free(device, x);
}

static lemoe_device *own_device(const parallel *p, lemoe_device_info *info) {
    lemoe_device *device = NULL;
    PAR(p, lemoe_device_describe("cuda", p->rank, info));
    PAR(p, lemoe_device_open_at("cuda", p->rank, 1, &device));
    return device;
}

static void emulated(parallel *p) {
    lemoe_device_info own, first;
    lemoe_device *device = own_device(p, &own), *shared = NULL;
    PAR(p, lemoe_device_describe("cuda", 0, &first));
    PAR(p, lemoe_device_open_at("cuda", 0, 1, &shared));
    CHECK(p, lemoe_collective_offered(device));
    PAR(p, lemoe_comm_attach(p->world, device, own.id));
    reduce_and_check(p, device, p->size == 1 ? "host" : "direct");
    replay_and_check(p, device);
    lemoe_comm_detach(p->world);
    PAR(p, lemoe_comm_attach(p->world, shared, first.id)); /* collectives, but one device for all */
    reduce_and_check(p, shared, p->size == 1 ? "host" : "staged");
    lemoe_comm_detach(p->world);
    if (p->size > 1) { /* two ranks say that they have devices of their own, and have not */
        bool is_wrong = p->rank == p->size - 1;
        CHECK(p, lemoe_comm_attach(p->world, is_wrong ? shared : device, own.id) == LEMOE_ERR_COMM);
        CHECK(p, strstr(lemoe_error_message(), "Duplicate GPU") != NULL);
    }
    PAR(p, lemoe_comm_attach(p->world, device, own.id));
    reduce_and_check(p, device, p->size == 1 ? "host" : "direct");
    lemoe_comm_detach(p->world);
    lemoe_device_close(shared);
    lemoe_device_close(device);
}

/* A reduction that the last rank takes no part in: the others have queued it, and the host waits for the device. */
static lemoe_status reduce_without_the_last(parallel *p, lemoe_device *device, lemoe_status (*instead)(parallel *p)) {
    float *x = NULL;
    PAR(p, lemoe_device_alloc(device, N * sizeof *x, (void **)&x));
    fill(p, device, x);
    if (p->rank == p->size - 1) return instead(p);
    LEMOE_TRY(lemoe_comm_device_sum(p->world, lemoe_tensor_1d(x, LEMOE_F32, N)));
    return lemoe_device_sync(device);
}

static lemoe_status fail_alone(parallel *p) {
    (void)p;
    return lemoe_raise(LEMOE_ERR_IO, "the disk is full");
}

static lemoe_status leave_early(parallel *p) {
    lemoe_comm_detach(p->world);
    return LEMOE_OK;
}

static void abandon(parallel *p) {
    lemoe_device_info own;
    lemoe_device *device = own_device(p, &own);
    PAR(p, lemoe_comm_attach(p->world, device, own.id));
    PAR(p, lemoe_comm_keep_step(p->world, reduce_without_the_last(p, device, fail_alone)));
}

static void break_apart(parallel *p) {
    lemoe_device_info own;
    lemoe_device *device = own_device(p, &own);
    PAR(p, lemoe_comm_attach(p->world, device, own.id));
    PAR(p, lemoe_comm_agree(p->world, reduce_without_the_last(p, device, leave_early)));
}

/* ---- behind the wall ---- */

static void walled(parallel *p) {
    lemoe_device *device = NULL;
    PAR(p, lemoe_device_open("cpu", 1, &device));
    staged(p, device);
    lemoe_backend with_collectives = *device->backend;
    with_collectives.collective = &fake_ops;
    device->backend = &with_collectives;
    direct(p, device);
    lemoe_device_close(device);
}

int main(int argc, char **argv) {
    parallel p;
    parallel_open(&p, &argc, &argv);
    if (argc == 1) walled(&p);
    if (argc > 1 && strcmp(argv[1], "cuda") == 0) emulated(&p);
    if (argc > 1 && strcmp(argv[1], "abandon") == 0) abandon(&p);
    if (argc > 1 && strcmp(argv[1], "broken") == 0) break_apart(&p);
    return parallel_close(&p);
}

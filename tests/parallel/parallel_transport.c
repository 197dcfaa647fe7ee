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
#include "kernels/collective.h"
#include "kernels/ops_table.h"
#include "tests/parallel/device_group.h"
#include "tests/parallel/parallel.h"
#include "tests/wall/wall.h"

#include <stdio.h>
#include <string.h>

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

/* Whole numbers of (rank, lane, index). */
static void fill_lane(parallel *p, lemoe_device *device, lemoe_tensor x, int lane) {
    float host[N];
    for (int i = 0; i < N; i++) host[i] = (float)((i % 100 + lane) * (p->rank + 1));
    PAR(p, lemoe_device_upload(device, x.data, host, sizeof host));
}

static void check_lane(parallel *p, lemoe_device *device, lemoe_tensor x, int lane) {
    float host[N];
    bool holds = true;
    PAR(p, lemoe_device_download(device, host, x.data, sizeof host));
    for (int i = 0; i < N; i++) holds = holds && (double)host[i] == (i % 100 + lane) * sum_of_ranks(p);
    (void)parallel_check(p, holds, "the sum of lane %d is not whole", lane);
}

static void refuse_beside(parallel *p, lemoe_tensor x) {
    CHECK(p, lemoe_comm_device_sum_begin(p->world, x, 0) == LEMOE_ERR_STATE);
    CHECK(p, lemoe_comm_device_sum(p->world, x) == LEMOE_ERR_STATE);
    CHECK(p, lemoe_comm_device_max(p->world, x) == LEMOE_ERR_STATE);
}

/* Two sums under way at once; a lane is used again while the other still has one. */
static void sum_beside(parallel *p, lemoe_device *device) {
    lemoe_comm *comm = p->world;
    lemoe_tensor x[2];
    for (int lane = 0; lane < 2; lane++) {
        float *data = NULL;
        PAR(p, lemoe_device_alloc(device, N * sizeof *data, (void **)&data));
        x[lane] = lemoe_tensor_1d(data, LEMOE_F32, N);
        fill_lane(p, device, x[lane], lane);
    }
    CHECK(p, lemoe_comm_device_sum_end(comm, 0) == LEMOE_ERR_STATE);
    CHECK(p, lemoe_comm_device_sum_begin(comm, x[0], 2) == LEMOE_ERR_ARG);
    CHECK(p, lemoe_comm_device_sum_begin(comm, x[0], -1) == LEMOE_ERR_ARG);
    PAR(p, lemoe_comm_device_sum_begin(comm, x[0], 0));
    PAR(p, lemoe_comm_device_sum_begin(comm, x[1], 1));
    refuse_beside(p, x[0]);
    PAR(p, lemoe_comm_device_sum_end(comm, 0));
    check_lane(p, device, x[0], 0);
    fill_lane(p, device, x[0], 0);
    PAR(p, lemoe_comm_device_sum_begin(comm, x[0], 0));
    PAR(p, lemoe_comm_device_sum_end(comm, 1));
    PAR(p, lemoe_comm_device_sum_end(comm, 0));
    for (int lane = 0; lane < 2; lane++) {
        check_lane(p, device, x[lane], lane);
        lemoe_device_free(device, x[lane].data);
    }
}

static void staged(parallel *p, lemoe_device *device) {
    PAR(p, lemoe_comm_attach(p->world, device, "card 0"));
    CHECK(p, lemoe_comm_stays_on_device(p->world) == (p->size == 1));
    CHECK(p, lemoe_comm_attach(p->world, device, "card 0") == LEMOE_ERR_STATE);
    reduce_and_check(p, device, p->size == 1 ? "host" : "staged");
    sum_beside(p, device);
    lemoe_comm_detach(p->world);
    lemoe_comm_detach(p->world);
}

static void direct(parallel *p, lemoe_device *device) {
    char id[16];
    (void)snprintf(id, sizeof id, "card %d", p->rank);
    device_group_seen = (device_group_counts){0};
    PAR(p, lemoe_comm_attach(p->world, device, "card 0")); /* collectives, but one device for all */
    reduce_and_check(p, device, p->size == 1 ? "host" : "staged");
    sum_beside(p, device);
    lemoe_comm_detach(p->world);
    CHECK(p, device_group_seen.n_open == 0);
    PAR(p, lemoe_comm_attach(p->world, device, id));
    CHECK(p, lemoe_comm_stays_on_device(p->world));
    reduce_and_check(p, device, p->size == 1 ? "host" : "direct");
    sum_beside(p, device);
    lemoe_comm_detach(p->world);
    if (p->size == 1) return;
    const device_group_counts *seen = &device_group_seen;
    CHECK(p, seen->n_open == 1 && seen->n_close == 1 && seen->n_reduce == 3 && seen->n_abort == 0); /* once to try */
    CHECK(p, seen->n_begin == 3 && seen->most_begun == 2);
    CHECK(p, seen->n_id == (p->rank == 0));
    device_group_fails_to_open = p->rank == p->size - 1; /* one rank cannot: all learn why, none is left in the group */
    CHECK(p, lemoe_comm_attach(p->world, device, id) == LEMOE_ERR_COMM);
    CHECK(p, strstr(lemoe_error_message(), "no way to the peer") != NULL);
    CHECK(p, seen->n_close == seen->n_open && seen->n_abort == (p->rank == p->size - 1 ? 0 : 1));
    device_group_seen = (device_group_counts){0};
    device_group_fails_to_open = false;
    /* one rank has no memory, and leaves: that is what all learn */
    device_group_fails_to_reduce = p->rank == p->size - 1;
    device_group_misses_a_peer = !device_group_fails_to_reduce;
    CHECK(p, lemoe_comm_attach(p->world, device, id) == LEMOE_ERR_NOMEM);
    CHECK(p, strstr(lemoe_error_message(), "no room for buffers") != NULL);
    CHECK(p, seen->n_open == 1 && seen->n_close == 1 && seen->n_abort > 0);
    device_group_fails_to_reduce = device_group_misses_a_peer = false;
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
    sum_beside(p, device);
    replay_and_check(p, device);
    lemoe_comm_detach(p->world);
    PAR(p, lemoe_comm_attach(p->world, shared, first.id)); /* collectives, but one device for all */
    reduce_and_check(p, shared, p->size == 1 ? "host" : "staged");
    sum_beside(p, shared);
    lemoe_comm_detach(p->world);
    if (p->size > 1) { /* two ranks say that they have devices of their own, and have not */
        bool is_wrong = p->rank == p->size - 1;
        CHECK(p, lemoe_comm_attach(p->world, is_wrong ? shared : device, own.id) == LEMOE_ERR_COMM);
        CHECK(p, strstr(lemoe_error_message(), "Duplicate GPU") != NULL);
    }
    PAR(p, lemoe_comm_attach(p->world, device, own.id));
    reduce_and_check(p, device, p->size == 1 ? "host" : "direct");
    sum_beside(p, device);
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
    with_collectives.collective = &device_group_ops;
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

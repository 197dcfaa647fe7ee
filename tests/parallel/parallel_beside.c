/*
 * Sums beside other operations (lemoe_comm_device_sum_begin) on devices that reduce between themselves, one a rank:
 * launched plainly, and captured and replayed. What is under way is read and written around as closely as it may be,
 * with whole numbers, so a wait that is missing between the streams shows in what comes out.
 */
#include "kernels/ops.h"
#include "tests/parallel/parallel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 2000, ROUNDS = 6 };

typedef struct bench {
    parallel *p;
    lemoe_device *device;
    lemoe_tensor a, b, x[2], y, all; /* [N] */
} bench;

static int a_of(int rank, int i) { return i % 50 + 3 * rank; }
static int b_of(int rank, int i) { return i % 7 - 2 * rank; }

static lemoe_tensor make(const bench *b, const float *values) {
    void *data = NULL;
    PAR(b->p, lemoe_device_alloc(b->device, N * sizeof *values, &data));
    PAR(b->p, lemoe_device_upload(b->device, data, values, N * sizeof *values));
    return lemoe_tensor_1d(data, LEMOE_F32, N);
}

static void open_bench(parallel *p, bench *b) {
    const char *kind = getenv("LEMOE_TEST_DEVICE");
    float of_a[N], of_b[N], zero[N] = {0};
    lemoe_device_info info;
    int n = 0;
    *b = (bench){.p = p};
    kind = kind ? kind : "cuda";
    PAR(p, lemoe_device_count(kind, &n));
    PAR(p, lemoe_device_describe(kind, p->rank % n, &info));
    PAR(p, lemoe_device_open_at(kind, p->rank % n, 1, &b->device));
    PAR(p, lemoe_comm_attach(p->world, b->device, info.id));
    CHECK(p, p->size == 1 || strcmp(lemoe_comm_transport_name(p->world), "direct") == 0);
    for (int i = 0; i < N; i++) of_a[i] = (float)a_of(p->rank, i);
    for (int i = 0; i < N; i++) of_b[i] = (float)b_of(p->rank, i);
    b->a = make(b, of_a);
    b->b = make(b, of_b);
    b->y = make(b, zero);
    b->all = make(b, zero);
    for (int lane = 0; lane < 2; lane++) b->x[lane] = make(b, zero);
}

static void close_bench(bench *b) {
    const lemoe_tensor all[] = {b->a, b->b, b->x[0], b->x[1], b->y, b->all};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) lemoe_device_free(b->device, all[i].data);
    lemoe_comm_detach(b->p->world);
    lemoe_device_close(b->device);
}

static lemoe_status copy(const bench *b, lemoe_tensor to, lemoe_tensor from) {
    return lemoe_device_copy(b->device, to.data, from.data, lemoe_tensor_bytes(&from));
}

static lemoe_status add(const bench *b, float factor, lemoe_tensor from, lemoe_tensor to) {
    return lemoe_op_axpy(b->device, factor, from, to);
}

/* y += a + sum(a) + sum(b + 2 a) + sum(b), all = sum(y): two sums under way at once, and a lane that is used again. */
static lemoe_status work(const bench *b) {
    lemoe_comm *comm = b->p->world;
    LEMOE_TRY(copy(b, b->x[0], b->a));
    LEMOE_TRY(lemoe_comm_device_sum_begin(comm, b->x[0], 0));
    LEMOE_TRY(copy(b, b->x[1], b->b));
    LEMOE_TRY(add(b, 2.0f, b->a, b->x[1]));
    LEMOE_TRY(lemoe_comm_device_sum_begin(comm, b->x[1], 1));
    LEMOE_TRY(add(b, 1.0f, b->a, b->y));
    LEMOE_TRY(lemoe_comm_device_sum_end(comm, 0));
    LEMOE_TRY(add(b, 1.0f, b->x[0], b->y));
    LEMOE_TRY(copy(b, b->x[0], b->b));
    LEMOE_TRY(lemoe_comm_device_sum_begin(comm, b->x[0], 0));
    LEMOE_TRY(lemoe_comm_device_sum_end(comm, 1));
    LEMOE_TRY(add(b, 1.0f, b->x[1], b->y));
    LEMOE_TRY(lemoe_comm_device_sum_end(comm, 0));
    LEMOE_TRY(add(b, 1.0f, b->x[0], b->y));
    LEMOE_TRY(copy(b, b->all, b->y));
    return lemoe_comm_device_sum(comm, b->all);
}

/* After so many times. */
static void check(const bench *b, int n, const char *how) {
    float y[N], all[N];
    int n_wrong = 0;
    PAR(b->p, lemoe_device_download(b->device, y, b->y.data, sizeof y));
    PAR(b->p, lemoe_device_download(b->device, all, b->all.data, sizeof all));
    for (int i = 0; i < N; i++) {
        int sum = 0, sum_a = 0;
        for (int r = 0; r < b->p->size; r++) sum_a += a_of(r, i);
        for (int r = 0; r < b->p->size; r++) sum += 3 * a_of(r, i) + 2 * b_of(r, i);
        int of_y = n * (a_of(b->p->rank, i) + sum), of_all = n * (sum_a + b->p->size * sum);
        n_wrong += y[i] != (float)of_y || all[i] != (float)of_all;
    }
    (void)parallel_check(b->p, n_wrong == 0, "%s, round %d: %d of %d are wrong", how, n, n_wrong, N);
}

int main(int argc, char **argv) {
    parallel p;
    bench b;
    lemoe_graph *graph = NULL;
    int n = 0;
    parallel_open(&p, &argc, &argv);
    open_bench(&p, &b);
    while (n < ROUNDS) {
        PAR(&p, work(&b));
        check(&b, ++n, "plain");
    }
    PAR(&p, lemoe_device_capture_begin(b.device));
    PAR(&p, work(&b));
    PAR(&p, lemoe_device_capture_end(b.device, &graph));
    for (; n < 2 * ROUNDS; check(&b, ++n, "replayed")) PAR(&p, lemoe_graph_replay(b.device, graph));
    PAR(&p, work(&b)); /* the same lanes, outside again, behind and before a graph */
    PAR(&p, lemoe_graph_replay(b.device, graph));
    check(&b, n + 2, "in turn");
    lemoe_graph_destroy(b.device, graph);
    close_bench(&b);
    return parallel_close(&p);
}

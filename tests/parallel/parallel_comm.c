/* Collectives against plain MPI on inputs whose sums are exact, agreement, teams, mailbox. */
#include "kernels/base/mem.h"
#include "kernels/base/rng.h"
#include "tests/parallel/parallel.h"

#include <mpi.h>
#include <stdio.h>
#include <string.h>

static const int64_t sizes[] = {0, 1, 7, 1000, 262144};
enum { N_SIZE = 5 };

/* A small whole number of (rank, index): sums over ranks are exact in every type. */
static int number(int rank, int64_t i) {
    return (int)(lemoe_rng_bits(lemoe_rng_make(1, LEMOE_RNG_TEST, (uint32_t)rank), (uint64_t)i) % 2001) - 1000;
}

static void fill(void *values, lemoe_dtype dtype, int rank, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        int x = number(rank, i);
        if (dtype == LEMOE_F32) ((float *)values)[i] = (float)x;
        if (dtype == LEMOE_F64) ((double *)values)[i] = x;
        if (dtype == LEMOE_I32) ((int32_t *)values)[i] = x;
    }
}

static void reductions(parallel *p) {
    static const struct {
        lemoe_dtype dtype;
        MPI_Datatype mpi;
    } types[] = {
        {LEMOE_F32, MPI_FLOAT  },
        {LEMOE_F64, MPI_DOUBLE },
        {LEMOE_I32, MPI_INT32_T}
    };
    for (int t = 0; t < 3; t++)
        for (int s = 0; s < N_SIZE; s++)
            for (int max = 0; max < 2; max++) {
                size_t n_bytes = (size_t)sizes[s] * lemoe_dtype_bytes(types[t].dtype);
                void *x = NULL, *want = NULL;
                PAR(p, lemoe_mem_alloc((int64_t)n_bytes, 1, &x));
                PAR(p, lemoe_mem_alloc((int64_t)n_bytes, 1, &want));
                fill(x, types[t].dtype, p->rank, sizes[s]);
                (void)MPI_Allreduce(x, want, (int)sizes[s], types[t].mpi, max ? MPI_MAX : MPI_SUM, MPI_COMM_WORLD);
                lemoe_tensor tensor = lemoe_tensor_1d(x, types[t].dtype, sizes[s]);
                PAR(p, max ? lemoe_comm_allreduce_max(p->world, tensor) : lemoe_comm_allreduce_sum(p->world, tensor));
                CHECK(p, n_bytes == 0 || memcmp(x, want, n_bytes) == 0);
                lemoe_mem_free(x);
                lemoe_mem_free(want);
            }
}

static void gathers_and_broadcasts(parallel *p) {
    for (int s = 0; s < N_SIZE; s++) {
        int64_t n = sizes[s];
        float *x = NULL, *all = NULL, *want = NULL;
        PAR(p, lemoe_mem_alloc(n, sizeof *x, &x));
        PAR(p, lemoe_mem_alloc(n * p->size, sizeof *all, &all));
        PAR(p, lemoe_mem_alloc(n, sizeof *want, &want));
        fill(x, LEMOE_F32, p->rank, n);
        PAR(p, lemoe_comm_allgather(p->world, lemoe_tensor_1d(x, LEMOE_F32, n),
                                    lemoe_tensor_1d(all, LEMOE_F32, n * p->size)));
        for (int r = 0; r < p->size; r++) {
            fill(want, LEMOE_F32, r, n);
            CHECK(p, memcmp(all + r * n, want, (size_t)n * sizeof *want) == 0);
            fill(x, LEMOE_F32, p->rank, n);
            PAR(p, lemoe_comm_broadcast(p->world, r, lemoe_tensor_1d(x, LEMOE_F32, n)));
            CHECK(p, memcmp(x, want, (size_t)n * sizeof *want) == 0);
        }
        lemoe_mem_free(x);
        lemoe_mem_free(all);
        lemoe_mem_free(want);
    }
    lemoe_tensor none = {.dtype = LEMOE_F32, .n_dim = 1}, one = lemoe_tensor_1d(&(float){0}, LEMOE_F32, 1);
    CHECK(p, lemoe_comm_allgather(p->world, one, none) == LEMOE_ERR_SHAPE); /* refused before anybody waits */
}

/* ---- agreement ---- */

/* Ranks in the bit set fail, each with a code and a message of its own; all hear of the lowest. */
static void agree_with(parallel *p, unsigned failing) {
    int first = 0;
    char want[80];
    lemoe_status local = LEMOE_OK;
    while (failing && !(failing >> first & 1)) first++;
    lemoe_error_clear();
    if (failing >> p->rank & 1)
        local = lemoe_raise(p->rank % 2 ? LEMOE_ERR_IO : LEMOE_ERR_NUMERIC, "trouble number %d", p->rank);
    lemoe_status status = lemoe_comm_agree(p->world, local);
    (void)snprintf(want, sizeof want, "trouble number %d", first);
    if (first > 0) (void)snprintf(want, sizeof want, "rank %d: trouble number %d", first, first);
    if (!failing) {
        CHECK(p, status == LEMOE_OK);
        return;
    }
    CHECK(p, status == (first % 2 ? LEMOE_ERR_IO : LEMOE_ERR_NUMERIC));
    (void)parallel_check(p, strcmp(lemoe_error_message(), want) == 0, "'%s', not '%s'", lemoe_error_message(), want);
}

static void agreements(parallel *p) {
    for (unsigned failing = 0; failing < 1u << p->size; failing++) agree_with(p, failing);
    for (int i = 0; i < 3; i++) { /* and the next collective is in step */
        int32_t x = 1;
        PAR(p, lemoe_comm_allreduce_sum(p->world, lemoe_tensor_1d(&x, LEMOE_I32, 1)));
        CHECK(p, x == p->size);
    }
    if (p->size == 1) return;
    char text[3000];
    memset(text, 'y', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    lemoe_status local = p->rank == p->size - 1 ? lemoe_raise(LEMOE_ERR_FORMAT, "%s", text) : LEMOE_OK;
    CHECK(p, lemoe_comm_agree(p->world, local) == LEMOE_ERR_FORMAT); /* a long message is cut, not lost */
    CHECK(p, strstr(lemoe_error_message(), "yyyyyyyyyy") != NULL);
}

/* ---- teams ---- */

/* Sums over a team see its ranks only. */
static void one_team(parallel *p, const int *ranks, int n_rank, int tag) {
    lemoe_comm *team = NULL;
    int place = -1, sum = 0, x = p->rank + 1;
    for (int i = 0; i < n_rank; i++) {
        sum += ranks[i] + 1;
        if (ranks[i] == p->rank) place = i;
    }
    if (place < 0) return;
    PAR(p, lemoe_team_open(p->launch, ranks, n_rank, tag, &team));
    CHECK(p, lemoe_comm_rank(team) == place && lemoe_comm_size(team) == n_rank);
    PAR(p, lemoe_comm_allreduce_sum(team, lemoe_tensor_1d(&x, LEMOE_I32, 1)));
    CHECK(p, x == sum);
    lemoe_comm_close(team);
}

static void teams(parallel *p) {
    int everybody[LEMOE_TEAM_RANKS], rest[LEMOE_TEAM_RANKS];
    for (int i = 0; i < p->size; i++) everybody[i] = rest[i] = i;
    for (int round = 0; round < 3; round++) { /* opened, closed and opened again */
        one_team(p, everybody, p->size, 1);
        int half = p->size / 2;
        if (half > 0)
            one_team(p, p->rank < half ? everybody : rest + half, p->rank < half ? half : p->size - half,
                     p->rank < half ? 2 : 3); /* side by side, of unequal sizes with 3 ranks */
        one_team(p, &everybody[p->rank], 1, 4 + p->rank);
        if (p->size > 2) one_team(p, (int[]){0, p->size - 1}, 2, 20); /* not neighbours; the others are not asked */
    }
    const int *nodes = lemoe_launch_nodes(p->launch);
    for (int i = 0; i < p->size; i++) CHECK(p, nodes[i] == 0); /* these tests run on one machine */
}

/* ---- mailbox ---- */

static lemoe_message wait_for_message(parallel *p) {
    lemoe_message m;
    for (bool got = false; !got;) PAR(p, lemoe_mailbox_poll(lemoe_launch_mailbox(p->launch), &got, &m));
    return m;
}

/* Everybody sends to everybody, itself included; messages of one sender arrive in order, with all their words. */
static void mailbox(parallel *p) {
    enum { N_MESSAGE = 5 };
    lemoe_mailbox *box = lemoe_launch_mailbox(p->launch);
    int next[LEMOE_TEAM_RANKS] = {0};
    for (int i = 0; i < N_MESSAGE; i++)
        for (int to = 0; to < p->size; to++) {
            lemoe_message m = {
                .peer = to, .kind = 7 + i, .n_word = 2, .word = {p->rank, i}
            };
            char text[40];
            (void)snprintf(text, sizeof text, "from %d to %d", p->rank, to);
            lemoe_message_put_text(&m, text);
            PAR(p, lemoe_mailbox_send(box, &m));
        }
    for (int i = 0; i < N_MESSAGE * p->size; i++) {
        lemoe_message m = wait_for_message(p);
        char text[40], want[40];
        (void)snprintf(want, sizeof want, "from %d to %d", m.peer, p->rank);
        lemoe_message_get_text(&m, 2, text, sizeof text);
        CHECK(p, m.word[0] == m.peer && m.word[1] == next[m.peer] && m.kind == 7 + next[m.peer]);
        CHECK(p, strcmp(text, want) == 0);
        next[m.peer]++;
    }
    bool got = true;
    lemoe_message m;
    PAR(p, lemoe_comm_agree(p->world, LEMOE_OK)); /* everything was received, so nothing is under way */
    PAR(p, lemoe_mailbox_poll(box, &got, &m));
    CHECK(p, !got);
}

/* Rank 1 cannot go on while the others wait for it in a reduction. Returns only where that does not end the job. */
static void abandon(parallel *p) {
    int32_t x = 0;
    lemoe_status status = LEMOE_OK;
    if (p->rank == 1) status = lemoe_comm_keep_step(p->world, lemoe_raise(LEMOE_ERR_IO, "the disk is full"));
    if (p->rank != 1) status = lemoe_comm_allreduce_sum(p->world, lemoe_tensor_1d(&x, LEMOE_I32, 1));
    (void)parallel_check(p, false, "still here, with status %s", lemoe_status_name(status));
}

/* A job of one rank has nobody to keep step with, and ends all the same where it has to. */
static void end_job(parallel *p) {
    (void)!lemoe_raise(LEMOE_ERR_DEVICE, "no answer");
    lemoe_comm_end_job(p->world, "the job ends");
    (void)parallel_check(p, false, "still here");
}

int main(int argc, char **argv) {
    parallel p;
    parallel_open(&p, &argc, &argv);
    if (argc > 1 && strcmp(argv[1], "end") == 0) end_job(&p);
    if (argc > 1 && strcmp(argv[1], "abandon") == 0) abandon(&p);
    reductions(&p);
    gathers_and_broadcasts(&p);
    agreements(&p);
    teams(&p);
    mailbox(&p);
    return parallel_close(&p);
}

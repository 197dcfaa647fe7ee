/*
 * Harness of the programs that run on several ranks. A failed check is counted and printed with its rank, and the rank
 * goes on, so that all of them enter the same collectives; the exit status is agreed on at the end. What cannot go on
 * (PAR) ends the job.
 */
#ifndef TESTS_PARALLEL_PARALLEL_H
#define TESTS_PARALLEL_PARALLEL_H

#include "runner/comm/team.h"

typedef struct parallel {
    lemoe_launch *launch;
    lemoe_comm *world;
    int rank, size;
    int64_t n_check, n_failed;
    double largest;   /* error met by parallel_near since the last report */
    char folder[256]; /* of this job, shared by its ranks; removed at the end */
} parallel;

void parallel_open(parallel *p, int *argc, char ***argv);
/* Collective. Removes the folder, prints the counts, ends MPI; the exit status, equal on all ranks. */
int parallel_close(parallel *p);

void parallel_require(const parallel *p, lemoe_status status, const char *call);
#define PAR(p, call) parallel_require((p), (call), #call)

/* Local. Counts a check; a failed one is printed. Returns whether it held. */
bool parallel_check(parallel *p, bool holds, const char *format, ...) LEMOE_PRINTF(3, 4);
#define CHECK(p, condition) (void)parallel_check((p), (condition), "%s:%d %s", __FILE__, __LINE__, #condition)
/* Local. |a - b|_2 <= limit * |b|_2. */
void parallel_near(parallel *p, const char *what, const float *a, const float *b, int64_t n, double limit);
/* Collective. The same bits on every rank of the world. */
void parallel_same_everywhere(parallel *p, const char *what, const void *bytes, size_t n_bytes);
/* Local, rank 0. "what: largest error so far", and starts over. */
void parallel_report(parallel *p, const char *what);

#endif

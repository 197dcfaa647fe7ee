#include "tests/parallel/parallel.h"

#include "kernels/base/mem.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void parallel_require(const parallel *p, lemoe_status status, const char *call) {
    if (status == LEMOE_OK) return;
    (void)fprintf(stderr, "[rank %d] %s: %s\n%s\n", p->rank, call, lemoe_error_message(), lemoe_error_trace());
    abort(); /* the launcher ends the others */
}

void parallel_open(parallel *p, int *argc, char ***argv) {
    *p = (parallel){0};
    PAR(p, lemoe_launch_open(argc, argv, &p->launch));
    p->world = lemoe_launch_world(p->launch);
    p->rank = lemoe_comm_rank(p->world);
    p->size = lemoe_comm_size(p->world);
    const char *tmp = getenv("TMPDIR");
    (void)snprintf(p->folder, sizeof p->folder, "%s/lemoe-parallel-XXXXXX", tmp ? tmp : "/tmp");
    if (p->rank == 0 && !mkdtemp(p->folder)) abort();
    PAR(p, lemoe_comm_broadcast_bytes(p->world, 0, p->folder, sizeof p->folder));
}

int parallel_close(parallel *p) {
    int64_t counts[2] = {p->n_check, p->n_failed};
    double total[2] = {(double)counts[0], (double)counts[1]};
    char command[300];
    PAR(p, lemoe_comm_allreduce_sum(p->world, lemoe_tensor_1d(total, LEMOE_F64, 2)));
    (void)snprintf(command, sizeof command, "rm -rf '%s'", p->folder);
    if (p->rank == 0 && system(command) != 0) (void)fprintf(stderr, "%s is left\n", p->folder);
    if (p->rank == 0) (void)fprintf(stderr, "%d ranks: %.0f checks, %.0f failed\n", p->size, total[0], total[1]);
    lemoe_launch_close(p->launch);
    return total[1] > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

bool parallel_check(parallel *p, bool holds, const char *format, ...) {
    p->n_check++;
    if (holds) return true;
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    p->n_failed++;
    (void)fprintf(stderr, "[rank %d] FAILED %s\n", p->rank, text);
    return false;
}

void parallel_near(parallel *p, const char *what, const float *a, const float *b, int64_t n, double limit) {
    double difference = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        difference += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        size += (double)b[i] * (double)b[i];
    }
    double error = sqrt(difference) / (sqrt(size) + 1e-30);
    if (!(error <= p->largest)) p->largest = error;
    (void)parallel_check(p, error <= limit, "%s: relative error %.3g, at most %.3g", what, error, limit);
}

void parallel_same_everywhere(parallel *p, const char *what, const void *bytes, size_t n_bytes) {
    unsigned char *first = NULL;
    PAR(p, lemoe_mem_alloc((int64_t)n_bytes, 1, &first));
    if (n_bytes) memcpy(first, bytes, n_bytes);
    PAR(p, lemoe_comm_broadcast_bytes(p->world, 0, first, n_bytes));
    (void)parallel_check(p, n_bytes == 0 || memcmp(first, bytes, n_bytes) == 0, "%s differs from rank 0's", what);
    lemoe_mem_free(first);
}

void parallel_report(parallel *p, const char *what) {
    if (p->rank == 0) (void)fprintf(stderr, "%-40s largest error %.2g\n", what, p->largest);
    p->largest = 0;
}

/* Seconds of a benchmark: wall clock, or with BENCH_CPU_CLOCK set the process' CPU time, which other programs on the
 * machine disturb less (for one thread: threads that wait count too). */
#ifndef TESTS_BENCH_BENCH_CLOCK_H
#define TESTS_BENCH_BENCH_CLOCK_H

#include <stdlib.h>
#include <time.h>

static inline double bench_seconds(void) {
    static int by_cpu = -1;
    struct timespec now;
    if (by_cpu < 0) by_cpu = getenv("BENCH_CPU_CLOCK") != NULL;
    (void)clock_gettime(by_cpu ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

#endif

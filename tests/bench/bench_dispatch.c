/*
 * What coordinating costs: the coordinator, claims and messages of a launch, with runs that only wait.
 *
 *     mpirun -n 64 bench_dispatch [RUNS [MILLISECONDS a run]]
 *
 * Prints the CPU time of rank 0 per run, the ranks' gap between two runs, and what idle ranks use. Writes claims and a
 * sweep.h5 in a temporary folder that it removes.
 */
#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "runner/sweep/coordinator.h"
#include "runner/sweep/worker.h"
#include "tests/sweep/stand_in_sweep.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static double run_seconds = 0.1, busy_seconds; /* of this rank's runs: a bench may have globals */

static double cpu_seconds(void) {
    struct rusage used;
    (void)getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           1e-6 * (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
}

/* Ten batches of waiting, with ticks in between as between steps. */
static lemoe_status wait_instead(const lemoe_run_args *args) {
    enum { N_BATCH = 10 };
    double began = lemoe_clock_seconds();
    lemoe_run_progress progress = {
        .phase = "editing", .n_batch = N_BATCH, .loss = NAN, .immediate = {NAN, NAN, NAN}
    };
    for (int batch = 0; batch < N_BATCH; batch++) {
        long nanoseconds = (long)(1e9 * run_seconds / N_BATCH);
        struct timespec nap = {nanoseconds / 1000000000, nanoseconds % 1000000000};
        (void)nanosleep(&nap, NULL);
        lemoe_tick_now(args->world->tick);
        progress.n_batch_done = batch + 1;
        args->report(args->report_context, &progress);
    }
    busy_seconds += lemoe_clock_seconds() - began;
    return LEMOE_OK;
}

typedef struct measures {
    double cpu, wall, busy;
} measures;

static lemoe_status play(lemoe_launch *launch, lemoe_sweep *sweep, measures *out) {
    lemoe_status status = LEMOE_OK;
    lemoe_estimates *estimates = NULL;
    lemoe_coordinator *coordinator = NULL;
    bool is_first = lemoe_comm_rank(lemoe_launch_world(launch)) == 0;
    busy_seconds = 0;
    double cpu = cpu_seconds(), began = lemoe_clock_seconds();
    if (is_first) {
        LEMOE_TRY_GOTO(lemoe_estimates_open(sweep->output_folder, &estimates));
        lemoe_coordinator_args args = {launch, sweep, estimates, LEMOE_PROGRESS_NONE};
        LEMOE_TRY_GOTO(lemoe_coordinator_create(&args, &coordinator));
    }
    lemoe_worker_args args = {launch, sweep, coordinator, wait_instead};
    LEMOE_TRY_GOTO(lemoe_worker_run(&args));
    *out = (measures){cpu_seconds() - cpu, lemoe_clock_seconds() - began, busy_seconds};
out:
    lemoe_coordinator_destroy(coordinator);
    lemoe_estimates_close(estimates);
    return status;
}

static lemoe_status bench(lemoe_launch *launch, const char *folder, int64_t n_run) {
    lemoe_comm *world = lemoe_launch_world(launch);
    int size = lemoe_comm_size(world);
    bool is_first = lemoe_comm_rank(world) == 0;
    lemoe_sweep sweep = {0};
    measures m;
    double sums[3];
    LEMOE_TRY(stand_in_sweep(&sweep, folder, n_run, run_seconds));
    LEMOE_TRY(play(launch, &sweep, &m));
    memcpy(sums, &m, sizeof sums);
    LEMOE_TRY(lemoe_comm_allreduce_sum(world, lemoe_tensor_1d(sums, LEMOE_F64, 3)));
    if (is_first) {
        double per_rank = (double)n_run / size;
        printf(
            "%lld runs of %.0f ms on %d ranks: %.3f ms of rank 0's CPU a run; gap between two runs of a rank %.1f ms; "
            "%.2f %% of a core used by a rank\n",
            (long long)n_run, 1e3 * run_seconds, size, 1e3 * m.cpu / (double)n_run,
            1e3 * (sums[1] - sums[2]) / size / (per_rank > 1 ? per_rank : 1), 100 * sums[0] / sums[1]);
        (void)fflush(stdout);
    }
    lemoe_sweep_close(&sweep);
    return LEMOE_OK;
}

int main(int argc, char **argv) {
    lemoe_launch *launch = NULL;
    char folder[64] = "/tmp/lemoe-bench-XXXXXX", idle[80], command[128];
    int64_t n_run = argc > 1 ? strtoll(argv[1], NULL, 10) : 1000;
    if (argc > 2) run_seconds = 1e-3 * strtod(argv[2], NULL);
    lemoe_status status = lemoe_launch_open(&argc, &argv, &launch);
    if (status != LEMOE_OK) return 1;
    lemoe_comm *world = lemoe_launch_world(launch);
    bool is_first = lemoe_comm_rank(world) == 0;
    if (is_first && !mkdtemp(folder)) status = LEMOE_ERR_IO;
    if (status == LEMOE_OK) status = lemoe_comm_broadcast_bytes(world, 0, folder, sizeof folder);
    if (status == LEMOE_OK) status = bench(launch, folder, n_run);
    run_seconds = 10; /* one run, so every other rank is idle, and rank 0 coordinates next to nothing */
    (void)snprintf(idle, sizeof idle, "%s/idle", folder);
    if (status == LEMOE_OK) status = bench(launch, idle, 1);
    if (is_first) {
        (void)snprintf(command, sizeof command, "rm -r '%s'", folder);
        if (system(command) != 0) status = LEMOE_ERR_IO;
        if (status != LEMOE_OK) (void)fprintf(stderr, "%s\n", lemoe_error_message());
    }
    lemoe_launch_close(launch);
    return status != LEMOE_OK;
}

/* lemoe-run: start, one call, report, exit status. */
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "kernels/device.h"
#include "lemoe_version.h"
#include "runner/comm/team.h"
#include "runner/config/config.h"
#include "runner/edit/editor.h"
#include "runner/io/signals.h"
#include "runner/results/results.h"
#include "runner/sweep/options.h"
#include "runner/sweep/sweep.h"
#include "runner/sweep/table.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static lemoe_status print_text(lemoe_status (*make)(char **out)) {
    char *text = NULL;
    LEMOE_TRY(make(&text));
    (void)fputs(text, stdout);
    lemoe_mem_free(text);
    return LEMOE_OK;
}

static lemoe_status print_version(void) {
    lemoe_device *device = NULL;
    lemoe_device_libraries cuda;
    LEMOE_TRY(lemoe_device_open("cpu", 1, &device));
    (void)printf("lemoe %s\ncommit %s%s\nMPI    %s\nHDF5   %s\nCPU    %s\n", LEMOE_VERSION, LEMOE_GIT_COMMIT,
                 LEMOE_GIT_DIRTY ? " (with local changes)" : "", lemoe_launch_mpi_version(),
                 lemoe_results_hdf5_version(), lemoe_device_domain(device));
    lemoe_device_close(device);
    bool has_cuda = lemoe_device_describe_libraries("cuda", &cuda) == LEMOE_OK;
    (void)printf("CUDA   %s\nNCCL   %s\n", has_cuda ? cuda.compute : lemoe_error_message(),
                 has_cuda && cuda.collective[0] ? cuda.collective : "none");
    return LEMOE_OK;
}

static lemoe_status list_editors(void) {
    for (const char *const *name = lemoe_editor_names(); *name; name++) (void)puts(*name);
    return LEMOE_OK;
}

/* Commands that look at things and start nothing: no MPI needed. */
static lemoe_status run_alone(const lemoe_options *options) {
    switch (options->command) {
    case LEMOE_COMMAND_STATUS: return lemoe_table_status(options->folder, options->json, stdout);
    case LEMOE_COMMAND_REPUBLISH: return lemoe_table_republish(options->folder, options->salvage, stdout);
    case LEMOE_COMMAND_DESCRIBE_CONFIG: return print_text(lemoe_config_describe);
    case LEMOE_COMMAND_DESCRIBE_SCHEMA: return print_text(lemoe_results_describe_schema);
    case LEMOE_COMMAND_LIST_EDITORS: return list_editors();
    case LEMOE_COMMAND_VERSION: return print_version();
    default: return print_text(lemoe_options_help);
    }
}

/* Nothing started yet: one clear line, once, whatever the number of ranks. */
static int refuse(int rank) {
    if (rank == 0) (void)fprintf(stderr, "lemoe-run: %s\n", lemoe_error_message());
    return LEMOE_EXIT_NOTHING_STARTED;
}

static int launch_sweep(lemoe_launch *launch, const lemoe_options *options) {
    int rank = lemoe_comm_rank(lemoe_launch_world(launch)), exit_status = LEMOE_EXIT_OK;
    lemoe_sweep sweep;
    if (rank > 0) lemoe_log_set_level(LEMOE_LOG_WARN);
    lemoe_status opened = lemoe_sweep_open(launch, options, &sweep);
    if (opened == LEMOE_ERR_INTERRUPTED) {
        if (rank == 0)
            lemoe_log(LEMOE_LOG_WARN, "stopped by a signal before the first run; the same command continues");
        exit_status = LEMOE_EXIT_INTERRUPTED;
    } else if (opened != LEMOE_OK) {
        exit_status = refuse(rank);
    } else if (lemoe_sweep_execute(launch, options, &sweep, &exit_status) != LEMOE_OK) {
        if (rank == 0) lemoe_log(LEMOE_LOG_ERROR, "%s\n%s", lemoe_error_message(), lemoe_error_trace());
        exit_status = LEMOE_EXIT_RUN_FAILED;
    }
    lemoe_sweep_close(&sweep);
    return exit_status;
}

/* A run is stopped by a signal at its next safe place, from before MPI starts; a dry run is just ended. */
static lemoe_status open_launch(int *argc, char ***argv, const lemoe_options *options, lemoe_launch **launch) {
    if (!options->dry_run) LEMOE_TRY(lemoe_signals_install());
    LEMOE_TRY(lemoe_launch_open(argc, argv, launch));
    lemoe_signals_hold();
    return LEMOE_OK;
}

/* What was printed may be gone: a full disk, a closed pipe. A command has failed then, and a launch has its results in
 * files. */
static int close_output(const lemoe_options *options, int exit_status) {
    bool is_written = fflush(stdout) == 0 && !ferror(stdout);
    if (is_written) return exit_status;
    bool is_launch = options->command == LEMOE_COMMAND_RUN;
    (void)fprintf(stderr, "lemoe-run: standard output cannot be written (%s)%s\n", strerror(errno),
                  is_launch ? "; what it was to show is in the output folder (lemoe-run --status DIR)" : "");
    return exit_status == LEMOE_EXIT_OK && !is_launch ? LEMOE_EXIT_NOTHING_STARTED : exit_status;
}

int main(int argc, char **argv) {
    lemoe_options options;
    lemoe_launch *launch = NULL;
    lemoe_status parsed = lemoe_options_parse(argc, argv, &options);
    int exit_status = LEMOE_EXIT_OK;
    if (parsed == LEMOE_OK && options.command != LEMOE_COMMAND_RUN) {
        if (run_alone(&options) != LEMOE_OK) exit_status = refuse(0);
    } else if (open_launch(&argc, &argv, &options, &launch) != LEMOE_OK) {
        exit_status = refuse(lemoe_launch_is_first_process() ? 0 : 1);
    } else if (parsed != LEMOE_OK) { /* started MPI first, so that the message comes from one rank */
        lemoe_options_free(&options);
        lemoe_status again = lemoe_options_parse(argc, argv, &options);
        exit_status = again == LEMOE_OK ? LEMOE_EXIT_OK : refuse(lemoe_comm_rank(lemoe_launch_world(launch)));
    } else {
        exit_status = launch_sweep(launch, &options);
    }
    exit_status = close_output(&options, exit_status);
    lemoe_options_free(&options);
    lemoe_launch_close(launch);
    return exit_status;
}

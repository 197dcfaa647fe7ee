/*
 * A launch: from the text of a configuration to the table of its runs. Every rank expands the same text; rank 0 checks
 * what comes from outside, coordinates besides working, and prints. A single configuration is a sweep of one through
 * the same code.
 */
#ifndef RUNNER_SWEEP_SWEEP_H
#define RUNNER_SWEEP_SWEEP_H

#include "runner/comm/team.h"
#include "runner/config/config.h"
#include "runner/sweep/options.h"

/* One run of the sweep as the launch sees it. Equal on all ranks. */
typedef struct lemoe_sweep_run {
    const lemoe_config *config; /* borrowed from the spec */
    const char *label;
    lemoe_text run_id;
    char identity[33];
    int64_t tensor_parallel;
    bool skip; /* already complete (or failed before, without --retry-failed), or not matched by --only */
} lemoe_sweep_run;

typedef struct lemoe_sweep {
    lemoe_sweep_spec *spec;
    lemoe_sweep_run *runs; /* [spec->n_run] */
    int64_t n_skipped;
    char *output_folder; /* of the first run: one output folder a sweep */
} lemoe_sweep;

/* What the process should end with, besides an error. */
enum { LEMOE_EXIT_OK = 0, LEMOE_EXIT_NOTHING_STARTED = 1, LEMOE_EXIT_RUN_FAILED = 2, LEMOE_EXIT_INTERRUPTED = 75 };

/* Collective on the launch's world. Reads, expands, checks every run (models, tokenizers, data, splits, identities) and
 * agrees: a failure here means nothing was started or written. */
lemoe_status lemoe_sweep_open(lemoe_launch *launch, const lemoe_options *options, lemoe_sweep *out) LEMOE_MUST_CHECK;
void lemoe_sweep_close(lemoe_sweep *sweep);

/* Collective. Prints what will run (rank 0), works on it in teams, publishes the table; *exit_status as above. */
lemoe_status lemoe_sweep_execute(lemoe_launch *launch, const lemoe_options *options, lemoe_sweep *sweep,
                                 int *exit_status) LEMOE_MUST_CHECK;

#endif

/*
 * A launch: from the text of a configuration to the table of its runs. Every rank expands the same text; rank 0 checks
 * what comes from outside, coordinates besides working, and prints. A single configuration is a sweep of one through
 * the same code.
 */
#ifndef RUNNER_SWEEP_SWEEP_H
#define RUNNER_SWEEP_SWEEP_H

#include "runner/comm/team.h"
#include "runner/config/config.h"
#include "runner/data/edit_stream.h"
#include "runner/model/llama_config.h"
#include "runner/sweep/devices.h"
#include "runner/sweep/options.h"

/* Why this launch does not start a run. */
typedef enum lemoe_skip {
    LEMOE_SKIP_NOT,
    LEMOE_SKIP_COMPLETE,
    LEMOE_SKIP_FAILED,      /* before; --retry-failed runs it again */
    LEMOE_SKIP_QUARANTINED, /* several launches died while it was under way; --retry-failed runs it again */
    LEMOE_SKIP_DIED,        /* its own code, while its memory was planned; the next launch tries again */
    LEMOE_SKIP_UNWANTED,    /* --only */
    LEMOE_SKIP_OTHER_SHARD  /* --shard */
} lemoe_skip;

enum { LEMOE_RUN_ID_MAX = 256 };

/* One run of the sweep as the launch sees it. Equal on all ranks. */
typedef struct lemoe_sweep_run {
    int64_t spec, spec_index;   /* which file's spec, and which of its runs */
    const char *label;          /* borrowed from the spec */
    char method[32], order[48]; /* for tables: "kmeans seed 3" */
    char run_id[LEMOE_RUN_ID_MAX];
    char identity[33];
    int64_t tensor_parallel;
    uint64_t order_key;           /* lemoe_orders_key */
    uint64_t memory_key;          /* equal for runs that take the same memory */
    char shape[33];               /* equal for runs of which an update takes the same time */
    double steps_low, steps_high; /* updates, fewest and most */
    int input; /* index of sweep->inputs; equal numbers: model and data stay loaded from one run to the other */
    lemoe_skip skip;
    /* estimates; 0: unknown */
    int64_t predicted_bytes, process_bytes; /* of arenas and a GPU's workspace; of a rank's process. Planned alone */
    bool memory_is_exact;                   /* else in an order that is like the run's */
    int planning_death;                     /* of LEMOE_SKIP_DIED: lemoe_child_describe says it in words */
    double predicted_step_seconds, seconds_low, seconds_high;
    double expected_seconds; /* for scheduling: never 0, a rough guess where nothing was measured */
} lemoe_sweep_run;

/* A model with a dataset, as identities name them, and what planning needs of them. */
typedef struct lemoe_sweep_input {
    char model_fingerprint[33], data_fingerprint[33];
    int64_t n_edit;
    lemoe_llama_config shape;
    lemoe_edit_stream *stream; /* tokens; its dataset is closed */
} lemoe_sweep_input;

typedef struct lemoe_sweep {
    lemoe_sweep_spec **specs; /* [n_spec] one a file */
    int64_t n_spec;
    const char **axis_keys; /* [n_axis] of all files; borrowed from the specs */
    int64_t n_axis;
    char *swept_keys;      /* the same in one text, comma between */
    lemoe_sweep_run *runs; /* [n_run] those of the specs, each identity once */
    int64_t n_run, n_repeated, n_todo;
    lemoe_sweep_input *inputs; /* on rank 0 */
    int64_t n_input;
    char *output_folder; /* of the first run: one output folder a sweep */
    bool fail_fast;
    lemoe_devices devices;
} lemoe_sweep;

/* What the process should end with, besides an error. */
enum { LEMOE_EXIT_OK = 0, LEMOE_EXIT_NOTHING_STARTED = 1, LEMOE_EXIT_RUN_FAILED = 2, LEMOE_EXIT_INTERRUPTED = 75 };

/* Collective on the launch's world. Reads, expands, checks every run (models, tokenizers, data, splits, identities) and
 * agrees: a failure here means nothing was started or written. */
lemoe_status lemoe_sweep_open(lemoe_launch *launch, const lemoe_options *options, lemoe_sweep *out) LEMOE_MUST_CHECK;
void lemoe_sweep_close(lemoe_sweep *sweep);
/* Local. The resolved configuration of a run: parallel.device is a kind that this launch has, parallel.products and
 * parallel.overlap are what is computed there. Errors: UNSUPPORTED, with the reason, where it has none. */
lemoe_status lemoe_sweep_config(const lemoe_sweep *sweep, int64_t index, lemoe_config *out) LEMOE_MUST_CHECK;

/* Collective. Prints what will run (rank 0), works on it in teams, publishes the table; *exit_status as above. */
lemoe_status lemoe_sweep_execute(lemoe_launch *launch, const lemoe_options *options, lemoe_sweep *sweep,
                                 int *exit_status) LEMOE_MUST_CHECK;

#endif

/*
 * A run: one resolved configuration, worked on by one team inside its world, from the plan to the published HDF5 file.
 * The order of things is the order of run.c, top to bottom.
 */
#ifndef RUNNER_RUN_RUN_H
#define RUNNER_RUN_RUN_H

#include "runner/world/world.h"

/* How far a run is, for displays and estimates. */
typedef struct lemoe_run_progress {
    const char *phase; /* opening, base, editing, final */
    int64_t n_batch, n_batch_done;
    int64_t n_step;        /* updates since this execution began */
    double train_seconds;  /* of those updates */
    double loss;           /* of the last update; NaN before the first */
    double immediate[3];   /* reliability, generality, locality of the batch that just ended; NaN otherwise */
    int64_t peak_bytes;    /* of the run's arenas so far, and of a GPU's workspace */
    int64_t planned_bytes; /* what they were planned to take, on the team's first rank; 0: not planned yet */
} lemoe_run_progress;

typedef struct lemoe_run_args {
    lemoe_world *world; /* prepared or not: the run prepares it */
    const lemoe_config *config;
    const char *run_id, *identity;
    const char *output_folder; /* runs/ and cache/ are made in it */
    const char *mpi_version;
    const char *swept_keys;        /* of the sweep that the run belongs to, comma between */
    int64_t sweep_place;           /* among its runs */
    int64_t predicted_bytes;       /* as planned beforehand, for an order like the run's; 0: unknown */
    double predicted_step_seconds; /* as estimated beforehand, for /cost; 0: unknown */
    /* Local, on every rank, at every update, batch end and change of phase; must be quick. NULL: nobody asks. */
    void (*report)(void *context, const lemoe_run_progress *progress);
    void *report_context;
} lemoe_run_args;

/* Collective on the world's comm. Edits and evaluates; everything it finds is in the journal and HDF5 of run_id. The
 * status is agreed: OK, or what went wrong, which is recorded in the results as well (STATE "interrupted": stopped by a
 * signal). But where a device of the team answers no more (DEVICE, world->is_lost) nothing is recorded or closed, and
 * the caller ends the job. */
lemoe_status lemoe_run_execute(const lemoe_run_args *args) LEMOE_MUST_CHECK;
/* Local. For a run that ended before this launch: what its process left undone, if it was killed right then - the last
 * publish, and of a complete run the removal of its checkpoints. Errors: those of publishing. */
lemoe_status lemoe_run_tidy(const char *output_folder, const char *run_id, bool is_complete) LEMOE_MUST_CHECK;

#endif

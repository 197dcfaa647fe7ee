/*
 * A run: one resolved configuration, worked on by one team inside its world, from the plan to the published HDF5 file.
 * The order of things is the order of run.c, top to bottom.
 */
#ifndef RUNNER_RUN_RUN_H
#define RUNNER_RUN_RUN_H

#include "runner/world/world.h"

typedef struct lemoe_run_args {
    lemoe_world *world; /* prepared or not: the run prepares it */
    const lemoe_config *config;
    const char *run_id, *identity;
    const char *output_folder; /* runs/ and cache/ are made in it */
    const char *mpi_version;
} lemoe_run_args;

/* Collective on the world's comm. Edits and evaluates; everything it finds is in the journal and HDF5 of run_id. The
 * status is agreed: OK, or what went wrong, which is recorded in the results as well (STATE "interrupted": stopped by a
 * signal). */
lemoe_status lemoe_run_execute(const lemoe_run_args *args) LEMOE_MUST_CHECK;

#endif

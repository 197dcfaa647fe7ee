/*
 * The checkpoints of a run: a file a rank in runs/<id>/, numbered, the last two of them kept. One counts when the files
 * of all ranks are durable and a commit of the journal names it: until then the one before is the newest.
 */
#ifndef RUNNER_RUN_CHECKPOINTS_H
#define RUNNER_RUN_CHECKPOINTS_H

#include "runner/comm/comm.h"
#include "runner/results/results.h"
#include "runner/state/state.h"

typedef struct lemoe_checkpoints {
    lemoe_comm *comm;
    lemoe_results *results; /* on the first rank; NULL elsewhere */
    char *path;
    lemoe_state_folder folder;
    int64_t serial; /* of the newest one ever named */
    int64_t kept[2];
} lemoe_checkpoints;

/* Collective on comm. path: runs/<id>, made when missing, copied. results: on the first rank, just opened. */
lemoe_status lemoe_checkpoints_open(lemoe_comm *comm, const char *path, lemoe_results *results,
                                    lemoe_checkpoints *out) LEMOE_MUST_CHECK;
/* Local. Leaves the files where they are. */
void lemoe_checkpoints_close(lemoe_checkpoints *checkpoints);

/* Collective. Saves what visit describes on every rank, names it, and removes the one before the one before. Errors are
 * agreed: IO (then nothing new is named, and what was there stays), those of visit. */
lemoe_status lemoe_checkpoints_save(lemoe_checkpoints *checkpoints, lemoe_state_visit visit,
                                    void *object) LEMOE_MUST_CHECK;

/* What is to be filled from a checkpoint. */
typedef struct lemoe_checkpoints_target {
    lemoe_state_visit visit;
    /* Collective. Makes the object as new again, after a load that broke off. */
    lemoe_status (*reset)(void *object);
    void *object;
} lemoe_checkpoints_target;
/* Collective. Loads the newest checkpoint that every rank can load; one that is missing, damaged or of another domain
 * is passed over with a warning. *state: where its visit stopped, for what is loaded later (the caller closes); NULL
 * when none could be loaded, and then the object is as new. Errors: those of reset. */
lemoe_status lemoe_checkpoints_load(lemoe_checkpoints *checkpoints, const lemoe_checkpoints_target *target,
                                    lemoe_state **state) LEMOE_MUST_CHECK;
/* Collective. Removes all of them: the run is complete, or starts over. */
void lemoe_checkpoints_clear(lemoe_checkpoints *checkpoints);
/* Local. The same for a run that is not open, whose folder is path; fine when there is none. */
void lemoe_checkpoints_remove(const char *path);

#endif

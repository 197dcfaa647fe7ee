/*
 * How long a run will take, from what runs of the same shape have taken: seconds an update, seconds besides updates.
 * Kept in the cache folder; a shape that was never measured is unknown, not guessed.
 */
#ifndef RUNNER_SWEEP_ESTIMATE_H
#define RUNNER_SWEEP_ESTIMATE_H

#include "runner/sweep/messages.h"
#include "runner/sweep/sweep.h"

typedef struct lemoe_estimates lemoe_estimates;

/* Local. What earlier launches measured; a file that is missing or cannot be read is empty, as caches are. */
lemoe_status lemoe_estimates_open(const char *output_folder, lemoe_estimates **out) LEMOE_MUST_CHECK;
void lemoe_estimates_close(lemoe_estimates *estimates);
/* Local. What costs the same an update: everything but seeds, the order, and how far and how strongly it trains. */
lemoe_status lemoe_estimates_shape(const lemoe_config *config, const lemoe_identity_args *identity,
                                   char shape[33]) LEMOE_MUST_CHECK;
/* Local, pure. Fewest and most updates: with a loss to stop at, one pass of every batch may be enough. */
void lemoe_estimates_count_steps(const lemoe_config *config, int64_t n_edit, double *fewest, double *most);
/* Local. Fills the times of a run whose shape and steps are known. */
void lemoe_estimates_predict(const lemoe_estimates *estimates, const lemoe_sweep *sweep, lemoe_sweep_run *run);
/* Local. A run has ended; what cannot be kept is not, for a cache may be lost. */
void lemoe_estimates_learn(lemoe_estimates *estimates, const lemoe_sweep_run *run, const lemoe_run_measures *measures);
/* Local. Writes what was learnt; warns where it cannot, for a cache may be lost. */
void lemoe_estimates_save(lemoe_estimates *estimates);

#endif

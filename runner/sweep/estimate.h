/*
 * What a run will cost, from what runs of the same shape have cost: seconds an update, seconds besides updates, bytes
 * of its arenas. Kept in the cache folder; a shape that was never measured is unknown, not guessed.
 */
#ifndef RUNNER_SWEEP_ESTIMATE_H
#define RUNNER_SWEEP_ESTIMATE_H

#include "runner/sweep/messages.h"
#include "runner/sweep/sweep.h"

typedef struct lemoe_estimates lemoe_estimates;

/* Local. What earlier launches measured; a file that is missing or cannot be read is empty, as caches are. */
lemoe_status lemoe_estimates_open(const char *output_folder, lemoe_estimates **out) LEMOE_MUST_CHECK;
void lemoe_estimates_close(lemoe_estimates *estimates);
/* Local. Fills the estimates of a run whose identity is known. */
lemoe_status lemoe_estimates_predict(const lemoe_estimates *estimates, lemoe_sweep *sweep,
                                     int64_t index) LEMOE_MUST_CHECK;
/* Local. A run has ended; what cannot be kept is not, for a cache may be lost. */
void lemoe_estimates_learn(lemoe_estimates *estimates, const lemoe_sweep *sweep, int64_t index,
                           const lemoe_run_measures *measures);
/* Local. Writes what was learnt; warns where it cannot, for a cache may be lost. */
void lemoe_estimates_save(lemoe_estimates *estimates);

#endif

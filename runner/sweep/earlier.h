/*
 * What earlier launches on the same output folder did, and what follows for this one: which runs are left to do, whose
 * deaths count, what they left lying about. Local, on rank 0.
 */
#ifndef RUNNER_SWEEP_EARLIER_H
#define RUNNER_SWEEP_EARLIER_H

#include "runner/sweep/options.h"
#include "runner/sweep/sweep.h"

/* Local. Sets each run's skip, and n_todo. Writes nothing: the launch may still be refused. Errors: CONFIG where --only
 * matches nothing; what is wrong with a journal, where every run left has one that cannot be read. */
lemoe_status lemoe_earlier_find_skips(const lemoe_options *options, lemoe_sweep *sweep) LEMOE_MUST_CHECK;
/* Local. Writes down the evidence behind these decisions, once the launch begins: deaths, and runs set aside. Errors:
 * IO, NOMEM. */
lemoe_status lemoe_earlier_note_deaths(const lemoe_options *options, const lemoe_sweep *sweep) LEMOE_MUST_CHECK;
/* Local. Removes what killed launches had begun to write and nobody takes over, and publishes runs that have ended and
 * were not; what cannot be put right is a warning. */
void lemoe_earlier_tidy(const lemoe_sweep *sweep);

#endif

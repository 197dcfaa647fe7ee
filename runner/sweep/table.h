/* The table of a launch: announced before, printed and published (sweep.h5) after, always from what the journals say.
 */
#ifndef RUNNER_SWEEP_TABLE_H
#define RUNNER_SWEEP_TABLE_H

#include "runner/results/results.h"
#include "runner/sweep/sweep.h"

#include <stdio.h>

/* Local. What will run, with ids and teams, on standard error; for --dry-run this is all. */
void lemoe_table_announce(const lemoe_sweep *sweep, int n_rank);
/* Local. The summary of one run of an output folder. */
lemoe_status lemoe_table_read_summary(const char *output_folder, const char *run_id,
                                      lemoe_results_summary *out) LEMOE_MUST_CHECK;
/* Local. sweep.h5 in the output folder. */
lemoe_status lemoe_table_publish(const lemoe_sweep *sweep) LEMOE_MUST_CHECK;
/* Local. One line a run: base, immediate, final and routing consistency; then where the files are. */
lemoe_status lemoe_table_print(const lemoe_sweep *sweep, FILE *out) LEMOE_MUST_CHECK;
/* Local. The same for every journal of an output folder, without a configuration (--status). */
lemoe_status lemoe_table_status(const char *output_folder, bool json, FILE *out) LEMOE_MUST_CHECK;
/* Local. Publishes every journal of an output folder again (--republish). */
lemoe_status lemoe_table_republish(const char *output_folder, bool salvage, FILE *out) LEMOE_MUST_CHECK;

#endif

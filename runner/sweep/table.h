/* The table of a launch's results, always from what the journals say; and commands over an output folder. */
#ifndef RUNNER_SWEEP_TABLE_H
#define RUNNER_SWEEP_TABLE_H

#include "runner/results/results.h"
#include "runner/sweep/sweep.h"

#include <stdio.h>

/* Local. The summary of one run of an output folder. */
lemoe_status lemoe_table_read_summary(const char *output_folder, const char *run_id,
                                      lemoe_results_summary *out) LEMOE_MUST_CHECK;
/* Local. Whether the journal of a run says that it is complete. */
bool lemoe_table_is_complete(const lemoe_sweep *sweep, int64_t index);
/* Local. Whether it is complete, or another process holds its journal. */
bool lemoe_table_is_elsewhere(const lemoe_sweep *sweep, int64_t index);
/* Local. One line a run: base, immediate, final and routing consistency; then where the files are. */
lemoe_status lemoe_table_print(const lemoe_sweep *sweep, FILE *out) LEMOE_MUST_CHECK;
/* Local. The same for every journal of an output folder, without a configuration (--status). */
lemoe_status lemoe_table_status(const char *output_folder, bool json, FILE *out) LEMOE_MUST_CHECK;
/* Local. Publishes every journal of an output folder again (--republish). */
lemoe_status lemoe_table_republish(const char *output_folder, bool salvage, FILE *out) LEMOE_MUST_CHECK;

#endif

/* What a run's results say before anything was edited: where they come from, the stream, the plan. */
#ifndef RUNNER_RUN_RUN_RECORD_H
#define RUNNER_RUN_RUN_RECORD_H

#include "runner/run/run.h"
#include "runner/run/run_stream.h"

/* Local, on the team's first rank. Root attributes of results_schema.c. hosts: "name" or "name x4, ...". */
lemoe_status lemoe_run_record_provenance(lemoe_results *results, const lemoe_run_args *args,
                                         const char *hosts) LEMOE_MUST_CHECK;
/* Local. /edit and /plan. */
lemoe_status lemoe_run_record_stream(lemoe_results *results, const lemoe_world *world,
                                     const lemoe_run_stream *stream) LEMOE_MUST_CHECK;
/* Collective on the world's comm. The team's host names, for the provenance; the caller frees. */
lemoe_status lemoe_run_hosts(lemoe_comm *comm, char **out) LEMOE_MUST_CHECK;

/* Local, on the team's first rank. Of a run that could not begin: results without a row that say failed, and why. Where
 * there is a journal already, it is left as it is. Errors: those of results. */
lemoe_status lemoe_run_record_refusal(const lemoe_run_args *args, const char *reason) LEMOE_MUST_CHECK;

#endif

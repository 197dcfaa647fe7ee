/* runs/<id>/run.log: what is logged while a run is under way, whatever standard error shows; appended to on a resume.
 */
#ifndef RUNNER_RUN_RUN_LOG_H
#define RUNNER_RUN_RUN_LOG_H

#include "kernels/base/status.h"

#include <stdio.h>

/* Local, on the team's first rank. Makes the run's folder where it is not there. Errors: IO. */
lemoe_status lemoe_run_log_open(const char *output_folder, const char *run_id, FILE **out) LEMOE_MUST_CHECK;
/* Local. NULL is fine. */
void lemoe_run_log_close(FILE *log);

#endif

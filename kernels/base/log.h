/*
 * Log lines on standard error, and in one optional file besides: "2026-11-23T08:16:38Z level text". The sink is, with
 * the error record, the only process-wide state.
 */
#ifndef KERNELS_BASE_LOG_H
#define KERNELS_BASE_LOG_H

#include "kernels/base/status.h"

#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum lemoe_log_level { LEMOE_LOG_ERROR = 0, LEMOE_LOG_WARN, LEMOE_LOG_INFO, LEMOE_LOG_DEBUG } lemoe_log_level;

/* Local. Lines above the level are dropped. Ranks other than the first of a launch are usually set to LEMOE_LOG_WARN.
 */
void lemoe_log_set_level(lemoe_log_level level);
/* Local. A second place for every line, whatever the level of standard error (run.log); NULL ends it. Borrowed. */
void lemoe_log_set_file(FILE *file);
void lemoe_log(lemoe_log_level level, const char *format, ...) LEMOE_PRINTF(2, 3);

#ifdef __cplusplus
}
#endif
#endif

/* Time: monotonic seconds for durations, UTC ISO 8601 text for stamps. */
#ifndef KERNELS_BASE_CLOCK_H
#define KERNELS_BASE_CLOCK_H

#ifdef __cplusplus
extern "C" {
#endif

double lemoe_clock_seconds(void);
/* Writes "2026-11-23T08:16:38Z" into out[21]. */
void lemoe_clock_utc(char out[21]);

#ifdef __cplusplus
}
#endif
#endif

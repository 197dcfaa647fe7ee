/* The summary of a run from its replay, and its form in the journal's end frame. */
#ifndef RUNNER_RESULTS_SUMMARY_H
#define RUNNER_RESULTS_SUMMARY_H

#include "runner/results/replay.h"
#include "runner/results/results.h"

/* Local. Fills *out, which lemoe_results_summary_free resets. exists is false without a committed header. */
lemoe_status lemoe_summary_from_replay(const lemoe_replay *replay, lemoe_results_summary *out) LEMOE_MUST_CHECK;
/* Local. The payload of an end frame and back; *is_whole is false when it is not one of this version. */
lemoe_status lemoe_summary_encode(const lemoe_results_summary *summary, lemoe_payload *out) LEMOE_MUST_CHECK;
lemoe_status lemoe_summary_decode(const unsigned char *data, int64_t n_bytes, lemoe_results_summary *out,
                                  bool *is_whole) LEMOE_MUST_CHECK;

/* Names of the three moments and metrics of lemoe_results_summary. */
extern const char *const lemoe_summary_moments[3];
extern const char *const lemoe_summary_metrics[3];

#endif

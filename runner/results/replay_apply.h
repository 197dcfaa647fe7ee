/* One committed frame into a replay. Private to runner/results/replay*.c. */
#ifndef RUNNER_RESULTS_REPLAY_APPLY_H
#define RUNNER_RESULTS_REPLAY_APPLY_H

#include "runner/results/replay.h"

/* Local. n_known_bytes: how much of the journal has been seen, the measure of what sizes are plausible. Errors: FORMAT
 * naming the frame's offset; NOMEM. */
lemoe_status lemoe_replay_apply(lemoe_replay *replay, const lemoe_frame *frame, int64_t n_known_bytes) LEMOE_MUST_CHECK;

#endif

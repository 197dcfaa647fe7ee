/*
 * What a launch says while it works, on standard error: on a terminal one line a team and one for the sweep, refreshed
 * in place below the lines that stay; elsewhere only those, with a time stamp.
 */
#ifndef RUNNER_SWEEP_PROGRESS_H
#define RUNNER_SWEEP_PROGRESS_H

#include "runner/config/config.h"
#include "runner/sweep/messages.h"

#include <stdbool.h>

typedef struct lemoe_progress_display lemoe_progress_display;

/* One team's line. */
typedef struct lemoe_progress_team {
    const char *run_id;
    int first_rank, n_rank;
    lemoe_run_measures measures;
} lemoe_progress_team;

typedef struct lemoe_progress_sweep {
    int64_t n_run, n_ended, n_failed;
    double seconds, seconds_left; /* since the launch began; NaN: not known yet */
} lemoe_progress_sweep;

/* Local. auto is a terminal where env.sh saw one (LEMOE_STDERR_TTY, COLUMNS); without it, where isatty says so. */
lemoe_status lemoe_progress_open(lemoe_progress mode, lemoe_progress_display **out) LEMOE_MUST_CHECK;
/* Local. Takes the lines in place away. NULL is fine. */
void lemoe_progress_close(lemoe_progress_display *display);
/* Local. A line that stays; nothing with mode none. */
void lemoe_progress_say(lemoe_progress_display *display, const char *format, ...) LEMOE_PRINTF(2, 3);
/* Local. Refreshes the lines in place, on a terminal. */
void lemoe_progress_draw(lemoe_progress_display *display, const lemoe_progress_team *teams, int n_team,
                         const lemoe_progress_sweep *sweep);
/* Local. Whether lines in place are shown, so that what they show need not be said. */
bool lemoe_progress_is_tty(const lemoe_progress_display *display);

/* Local, pure. "12 s", "3 min 20 s", "2 h 05 min", "-" for NaN; the caller's storage. */
const char *lemoe_progress_duration(double seconds, char *out, int64_t n_bytes);

#endif

#include "runner/sweep/progress.h"

#include "kernels/base/clock.h"
#include "kernels/base/mem.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BAR = 16, MAX_TEAM_LINES = 32 };

struct lemoe_progress_display {
    bool is_tty, is_silent;
    int columns, n_line; /* lines in place at the moment */
};

/* Under mpirun isatty() is wrong; env.sh looked before it started. */
static bool is_terminal(void) {
    const char *seen = getenv("LEMOE_STDERR_TTY");
    return seen ? strcmp(seen, "1") == 0 : !getenv("OMPI_COMM_WORLD_SIZE") && isatty(2);
}

lemoe_status lemoe_progress_open(lemoe_progress mode, lemoe_progress_display **out) {
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof **out, out));
    const char *columns = getenv("COLUMNS");
    (*out)->is_silent = mode == LEMOE_PROGRESS_NONE;
    (*out)->is_tty = mode == LEMOE_PROGRESS_TTY || (mode == LEMOE_PROGRESS_AUTO && is_terminal());
    (*out)->columns = columns ? (int)strtol(columns, NULL, 10) : 80;
    if ((*out)->columns < 40 || (*out)->columns > 1000) (*out)->columns = 80;
    return LEMOE_OK;
}

bool lemoe_progress_is_tty(const lemoe_progress_display *display) { return display->is_tty; }

static void erase(lemoe_progress_display *display) {
    for (; display->n_line > 0; display->n_line--) (void)fputs("\033[A\033[2K", stderr);
}

void lemoe_progress_close(lemoe_progress_display *display) {
    if (!display) return;
    erase(display);
    (void)fflush(stderr);
    lemoe_mem_free(display);
}

void lemoe_progress_say(lemoe_progress_display *display, const char *format, ...) {
    char line[2048], stamp[21];
    va_list arguments;
    if (display->is_silent) return;
    va_start(arguments, format);
    (void)vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    lemoe_clock_utc(stamp);
    erase(display);
    (void)fprintf(stderr, "%s %s\n", stamp, line);
    (void)fflush(stderr);
}

const char *lemoe_progress_duration(double seconds, char *out, int64_t n_bytes) {
    size_t room = (size_t)n_bytes;
    long long s = isfinite(seconds) && seconds < 1e15 ? llround(seconds) : -1;
    if (s < 0)
        (void)snprintf(out, room, "-");
    else if (s < 10)
        (void)snprintf(out, room, "%.1f s", seconds);
    else if (s < 60)
        (void)snprintf(out, room, "%lld s", s);
    else if (s < 3600)
        (void)snprintf(out, room, "%lld min %02lld s", s / 60, s % 60);
    else
        (void)snprintf(out, room, "%lld h %02lld min", s / 3600, s / 60 % 60);
    return out;
}

static void bar(double share, char out[BAR + 1]) {
    int n = (int)(share * BAR + 0.5);
    for (int i = 0; i < BAR; i++) out[i] = i < n ? '#' : '.';
    out[BAR] = '\0';
}

static void put_line(lemoe_progress_display *display, const char *text) {
    (void)fprintf(stderr, "%.*s\n", display->columns - 1, text); /* a wrapped line could not be taken back */
    display->n_line++;
}

static void draw_team(lemoe_progress_display *display, const lemoe_progress_team *team) {
    const lemoe_run_measures *m = &team->measures;
    char filled[BAR + 1], line[1024], left[32], ranks[32];
    double share = m->n_batch > 0 ? (double)m->n_batch_done / (double)m->n_batch : 0;
    double rate = m->train_seconds > 0 ? (double)m->n_step / m->train_seconds : 0;
    double remaining = share > 0 ? m->seconds * (1 - share) / share : (double)NAN;
    bar(share, filled);
    if (team->n_rank > 1)
        (void)snprintf(ranks, sizeof ranks, "%d-%d", team->first_rank, team->first_rank + team->n_rank - 1);
    else
        (void)snprintf(ranks, sizeof ranks, "%d", team->first_rank);
    (void)snprintf(line, sizeof line, "%5s [%s] %-7s batch %lld/%lld, %.1f updates/s, left %s  %s", ranks, filled,
                   m->phase, (long long)m->n_batch_done, (long long)m->n_batch, rate,
                   lemoe_progress_duration(remaining, left, sizeof left), team->run_id);
    put_line(display, line);
}

void lemoe_progress_draw(lemoe_progress_display *display, const lemoe_progress_team *teams, int n_team,
                         const lemoe_progress_sweep *sweep) {
    char filled[BAR + 1], line[512], left[32], more[32] = "";
    if (!display->is_tty || display->is_silent) return;
    erase(display);
    for (int i = 0; i < n_team && i < MAX_TEAM_LINES; i++) draw_team(display, &teams[i]);
    bar(sweep->n_run > 0 ? (double)sweep->n_ended / (double)sweep->n_run : 0, filled);
    if (n_team > MAX_TEAM_LINES) (void)snprintf(more, sizeof more, ", %d more teams", n_team - MAX_TEAM_LINES);
    double per_hour = sweep->seconds > 0 ? 3600 * (double)sweep->n_ended / sweep->seconds : 0;
    (void)snprintf(line, sizeof line, "sweep [%s] %lld of %lld runs, %lld failed, %.1f runs/h, left %s%s", filled,
                   (long long)sweep->n_ended, (long long)sweep->n_run, (long long)sweep->n_failed, per_hour,
                   lemoe_progress_duration(sweep->seconds_left, left, sizeof left), more);
    put_line(display, line);
    (void)fflush(stderr);
}

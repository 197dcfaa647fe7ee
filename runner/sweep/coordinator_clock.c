/* What the coordinator does when rank 0 polls: claims, sweep.h5, the display, the end. */
#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "runner/io/signals.h"
#include "runner/sweep/claim.h"
#include "runner/sweep/coordinator_internal.h"

#include <math.h>

static const double publish_seconds = 10, draw_seconds = 0.25, renew_seconds = 1;
static const double plan_seconds = 0.002; /* a poll; there are fifty a second at most */

/* ---- by the clock ---- */

/* A claim that is renewed while we look has a living owner; one that goes stale is free. */
static lemoe_status look_at(lemoe_coordinator *c, int64_t run) {
    lemoe_coordinator_run_state *state = &c->runs[run];
    int64_t renewed = 0;
    const char *id = lemoe_coordinator_run(c, run)->run_id;
    bool is_held = lemoe_claim_is_held(c->args.sweep->output_folder, id, &renewed);
    if (is_held && renewed == state->held_renewed) return LEMOE_OK;
    state->is_held = false;
    c->n_held--;
    if (is_held) {
        lemoe_progress_say(c->display, "%s: left to another launch", id);
        return lemoe_coordinator_end_run(c, run, LEMOE_OUTCOME_ELSEWHERE, "worked on by another launch");
    }
    lemoe_schedule_wait(c->schedule, run);
    c->is_dirty = true;
    return LEMOE_OK;
}

static lemoe_status look_at_held(lemoe_coordinator *c, double now) {
    if (c->n_held == 0 || now < c->next_look) return LEMOE_OK;
    c->next_look = now + LEMOE_COORDINATOR_LOOK_SECONDS;
    for (int64_t i = 0; i < c->n_run; i++)
        if (c->runs[i].is_held) LEMOE_TRY(look_at(c, i));
    return LEMOE_OK;
}

/* A claim that was lost (this process stood still for a minute) is only said: the journal has a lease of its own. */
static void renew_claim(lemoe_coordinator *c, int64_t run) {
    if (run < 0 || !c->runs[run].claim || lemoe_lease_renew(c->runs[run].claim) == LEMOE_OK) return;
    lemoe_log(LEMOE_LOG_WARN, "%s", lemoe_error_message());
    lemoe_error_clear();
}

static void renew_claims(lemoe_coordinator *c, double now) {
    if (now < c->next_renewal) return;
    c->next_renewal = now + renew_seconds;
    for (int i = 0; i < c->n_rank; i++) {
        if (!c->teams[i].is_open) continue;
        renew_claim(c, c->teams[i].run);
        renew_claim(c, c->teams[i].reserved);
    }
}

static void publish_if_due(lemoe_coordinator *c, double now) {
    if (!c->is_unpublished || now < c->next_publish) return;
    c->is_unpublished = false;
    if (lemoe_publisher_publish(c->publisher) != LEMOE_OK) {
        lemoe_log(LEMOE_LOG_WARN, "sweep.h5 could not be published: %s", lemoe_error_message());
        lemoe_error_clear(); /* the journals have it all; the next one, or the last, tries again */
    }
    double took = lemoe_clock_seconds() - now;
    c->next_publish = now + (20 * took > publish_seconds ? 20 * took : publish_seconds);
}

/* From the work done so far, by the weights that the schedule uses. */
static double sweep_seconds_left(const lemoe_coordinator *c, double now) {
    double done = c->done_weight;
    for (int i = 0; i < c->n_rank; i++)
        if (c->teams[i].is_open) {
            const lemoe_schedule_run *run = &c->schedule_runs[c->teams[i].run];
            done += run->seconds * run->tensor_parallel * lemoe_coordinator_share_done(&c->teams[i].measures);
        }
    return done > 0 ? (now - c->began) * (c->all_weight - done) / done : (double)NAN;
}

static void draw_if_due(lemoe_coordinator *c, double now) {
    if (now < c->next_draw || !lemoe_progress_is_tty(c->display)) return;
    c->next_draw = now + draw_seconds;
    int n = 0;
    for (int i = 0; i < c->n_rank; i++) {
        const lemoe_coordinator_team *t = &c->teams[i];
        if (t->is_open)
            c->lines[n++] =
                (lemoe_progress_team){lemoe_coordinator_run(c, t->run)->run_id, t->leader, t->n_rank, t->measures};
    }
    lemoe_progress_sweep sweep = {c->n_run, c->n_ended, c->n_failed, now - c->began, sweep_seconds_left(c, now)};
    lemoe_progress_draw(c->display, c->lines, n, &sweep);
}

/* The order of one more run: of those that teams were promised, then of those that wait, the most urgent first and no
 * more than one a team. */
static lemoe_status plan_ahead(lemoe_coordinator *c) {
    const lemoe_plan *unused = NULL;
    for (int i = 0; i < c->n_rank; i++) {
        int64_t run = c->teams[i].is_open ? c->teams[i].reserved : -1;
        if (run >= 0 && !c->runs[run].is_prepared)
            return lemoe_orders_prepare(c->orders, c->runs[run].index, plan_seconds, &c->runs[run].is_prepared);
    }
    while (c->next_order < c->n_run && c->runs[c->order[c->next_order]].has_begun) c->next_order++;
    for (int64_t i = c->next_order; i < c->n_run && i <= c->next_order + c->n_open && !c->is_ending; i++) {
        lemoe_coordinator_run_state *state = &c->runs[c->order[i]];
        if (state->has_begun || state->is_planned) continue;
        return lemoe_orders_advance(c->orders, state->index, plan_seconds, &unused, &state->is_planned);
    }
    return LEMOE_OK;
}

static lemoe_status stop_if_done(lemoe_coordinator *c) {
    if (c->is_stopped || c->n_open > 0 || c->n_held > 0 || lemoe_schedule_n_waiting(c->schedule) > 0) return LEMOE_OK;
    c->is_stopped = true;
    for (int i = 0; i < c->n_rank; i++) LEMOE_TRY(lemoe_coordinator_send(c, i, LEMOE_MESSAGE_STOP, 0));
    return LEMOE_OK;
}

lemoe_status lemoe_coordinator_act(lemoe_coordinator *c) {
    double now = lemoe_clock_seconds();
    if (lemoe_signals_pending() && !c->is_interrupted) {
        c->is_interrupted = true;
        LEMOE_TRY(lemoe_coordinator_stop(c));
    }
    renew_claims(c, now);
    LEMOE_TRY(look_at_held(c, now));
    if (c->is_dirty) {
        c->is_dirty = false;
        LEMOE_TRY(lemoe_coordinator_form_teams(c));
    }
    if (!c->is_ending && lemoe_schedule_n_idle(c->schedule) > 0) LEMOE_TRY(lemoe_coordinator_recall_for_idle(c));
    LEMOE_TRY(plan_ahead(c));
    publish_if_due(c, now);
    draw_if_due(c, now);
    return stop_if_done(c);
}

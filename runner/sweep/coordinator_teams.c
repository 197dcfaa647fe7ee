/* Which team works on which run: claims, hand-outs, recalls. */
#include "kernels/base/clock.h"
#include "kernels/base/mem.h"
#include "runner/sweep/claim.h"
#include "runner/sweep/coordinator_internal.h"
#include "runner/sweep/table.h"

#include <math.h>

/* A run that another rank could begin at once is taken back from a team that is busy longer than this. */
static const double recall_seconds = 3;
/* Of planning at a hand-out, for which a team may be waiting. */
static const double hand_out_seconds = 0.02;

/* ---- what may start ---- */

lemoe_status lemoe_coordinator_end_run(lemoe_coordinator *c, int64_t run, lemoe_outcome outcome, const char *error) {
    lemoe_coordinator_run_state *state = &c->runs[run];
    state->outcome = outcome;
    lemoe_lease_release(state->claim);
    state->claim = NULL;
    if (outcome == LEMOE_OUTCOME_COMPLETE)
        lemoe_claim_forget_deaths(c->args.sweep->output_folder, lemoe_coordinator_run(c, run)->run_id);
    lemoe_mem_free(state->error);
    state->error = NULL;
    c->n_ended++;
    c->n_failed += outcome == LEMOE_OUTCOME_FAILED;
    c->done_weight += c->schedule_runs[run].seconds * c->schedule_runs[run].tensor_parallel;
    c->is_unpublished = true;
    return lemoe_mem_strdup(error, &state->error);
}

static void watch_held(lemoe_coordinator *c, int64_t run) {
    char who[320];
    const char *id = lemoe_coordinator_run(c, run)->run_id;
    c->runs[run].is_held = true;
    c->n_held++;
    c->next_look = lemoe_clock_seconds() + LEMOE_COORDINATOR_LOOK_SECONDS;
    lemoe_claim_describe(c->args.sweep->output_folder, id, who, (int64_t)sizeof who);
    lemoe_progress_say(c->display, "%s: held by another launch (%s); looking again", id, who);
}

/* Claims the run, unless another launch has it or has finished it meanwhile. What cannot be claimed has failed. */
static lemoe_status may_start(lemoe_coordinator *c, int64_t run, bool *out) {
    lemoe_coordinator_run_state *state = &c->runs[run];
    const char *folder = c->args.sweep->output_folder, *id = lemoe_coordinator_run(c, run)->run_id;
    bool is_held = false;
    lemoe_status status = lemoe_claim_take(folder, id, &state->claim, &is_held, &state->held_renewed);
    *out = false;
    if (status != LEMOE_OK) {
        lemoe_progress_say(c->display, "%s: FAILED: %s", id, lemoe_error_message());
        state->has_begun = true;
        LEMOE_TRY(lemoe_coordinator_end_run(c, run, LEMOE_OUTCOME_FAILED, lemoe_error_message()));
        lemoe_error_clear();
    } else if (is_held) {
        watch_held(c, run);
    } else if (lemoe_table_is_complete(c->args.sweep, state->index)) {
        lemoe_progress_say(c->display, "%s: finished by another launch", id);
        return lemoe_coordinator_end_run(c, run, LEMOE_OUTCOME_ELSEWHERE, "");
    } else {
        *out = true;
        return lemoe_orders_prepare(c->orders, state->index, hand_out_seconds, &state->is_prepared);
    }
    return LEMOE_OK;
}

static void mark_begun(lemoe_coordinator *c, int64_t run) {
    c->runs[run].has_begun = true;
    lemoe_claim_begin(c->args.sweep->output_folder, lemoe_coordinator_run(c, run)->run_id);
}

static void say_begun(lemoe_coordinator *c, int64_t run, const int *ranks, int n) {
    const lemoe_sweep_run *s = lemoe_coordinator_run(c, run);
    lemoe_progress_say(c->display, "%s: begins on rank%s %d%s%.0d", s->run_id, n > 1 ? "s" : "", ranks[0],
                       n > 1 ? "-" : "", n > 1 ? ranks[n - 1] : 0);
}

static lemoe_status open_team(lemoe_coordinator *c, int number, int64_t run) {
    lemoe_coordinator_team *t = &c->teams[number];
    const int *ranks = lemoe_schedule_team(c->schedule, number, &t->n_rank);
    lemoe_message message = {
        .kind = LEMOE_MESSAGE_FORM, .n_word = 2 + t->n_rank, .word = {number, run}
    };
    message.word[1] = c->runs[run].index;
    for (int i = 0; i < t->n_rank; i++) message.word[2 + i] = ranks[i];
    *t = (lemoe_coordinator_team){.is_open = true, .leader = ranks[0], .n_rank = t->n_rank, .run = run, .reserved = -1};
    c->n_open++;
    mark_begun(c, run);
    for (int i = 0; i < t->n_rank; i++) {
        message.peer = ranks[i];
        LEMOE_TRY(lemoe_mailbox_send(c->mailbox, &message));
    }
    say_begun(c, run, ranks, t->n_rank);
    return LEMOE_OK;
}

lemoe_status lemoe_coordinator_form_teams(lemoe_coordinator *c) {
    int team = 0;
    int64_t run = 0;
    while (!c->is_ending && lemoe_schedule_form(c->schedule, &team, &run)) {
        bool yes = false;
        LEMOE_TRY(may_start(c, run, &yes));
        if (yes)
            LEMOE_TRY(open_team(c, team, run));
        else
            lemoe_schedule_dissolve(c->schedule, team);
    }
    return LEMOE_OK;
}

/* What the team goes on with; -1 when there is nothing for it. */
lemoe_status lemoe_coordinator_choose_next(lemoe_coordinator *c, int number, int64_t *run) {
    bool yes = false;
    do {
        *run = c->is_ending ? -1 : lemoe_schedule_next(c->schedule, number);
        if (*run < 0) return LEMOE_OK;
        LEMOE_TRY(may_start(c, *run, &yes));
    } while (!yes);
    return LEMOE_OK;
}

/* ---- running teams ---- */

static void begin_next(lemoe_coordinator *c, int number, int64_t run) {
    lemoe_coordinator_team *t = &c->teams[number];
    int n = 0;
    t->run = run;
    t->reserved = -1;
    t->is_recalled = false;
    t->measures = (lemoe_run_measures){0};
    mark_begun(c, run);
    const int *ranks = lemoe_schedule_team(c->schedule, number, &n);
    say_begun(c, run, ranks, n);
}

lemoe_status lemoe_coordinator_go_on(lemoe_coordinator *c, int number) {
    lemoe_coordinator_team *t = &c->teams[number];
    int64_t run = t->reserved;
    if (run >= 0) { /* it knows already */
        begin_next(c, number, run);
        return LEMOE_OK;
    }
    LEMOE_TRY(lemoe_coordinator_choose_next(c, number, &run));
    LEMOE_TRY(lemoe_coordinator_send(c, t->leader, LEMOE_MESSAGE_NEXT, run < 0 ? -1 : c->runs[run].index));
    if (run >= 0) {
        begin_next(c, number, run);
        return LEMOE_OK;
    }
    t->is_open = false;
    c->n_open--;
    lemoe_schedule_dissolve(c->schedule, number);
    c->is_dirty = true;
    return LEMOE_OK;
}

static lemoe_status recall(lemoe_coordinator *c, lemoe_coordinator_team *t) {
    t->is_recalled = true;
    return lemoe_coordinator_send(c, t->leader, LEMOE_MESSAGE_RECALL, c->runs[t->reserved].index);
}

static double seconds_left(const lemoe_run_measures *m) {
    double share = lemoe_coordinator_share_done(m);
    return share > 0 ? m->seconds * (1 - share) / share : (double)INFINITY;
}

/* Ranks are idle although a run waits behind a busy team. */
lemoe_status lemoe_coordinator_recall_for_idle(lemoe_coordinator *c) {
    for (int i = 0; i < c->n_rank; i++) {
        lemoe_coordinator_team *t = &c->teams[i];
        if (!t->is_open || t->reserved < 0 || t->is_recalled) continue;
        if (!lemoe_schedule_fits(c->schedule, t->n_rank) || seconds_left(&t->measures) < recall_seconds) continue;
        return recall(c, t);
    }
    return LEMOE_OK;
}

static lemoe_status recall_all(lemoe_coordinator *c) {
    for (int i = 0; i < c->n_rank; i++)
        if (c->teams[i].is_open && c->teams[i].reserved >= 0 && !c->teams[i].is_recalled)
            LEMOE_TRY(recall(c, &c->teams[i]));
    return LEMOE_OK;
}

/* Nothing more is begun. */
lemoe_status lemoe_coordinator_stop(lemoe_coordinator *c) {
    if (c->is_ending) return LEMOE_OK;
    c->is_ending = true;
    while (lemoe_schedule_drop(c->schedule) >= 0) {
    }
    for (int64_t i = 0; i < c->n_run; i++) c->runs[i].is_held = false;
    c->n_held = 0;
    return recall_all(c);
}

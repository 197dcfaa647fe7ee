#include "runner/sweep/coordinator.h"

#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "runner/io/signals.h"
#include "runner/sweep/claim.h"
#include "runner/sweep/progress.h"
#include "runner/sweep/publisher.h"
#include "runner/sweep/schedule.h"
#include "runner/sweep/table.h"

#include <math.h>

/* A team is told its next run when this share of the present one is done: late enough for a good choice, early enough
 * that nobody waits for the answer. */
static const double hand_out_share = 0.75;
/* Runs that others hold are looked at that often; a lease that is renewed meanwhile has a living owner. */
static const double look_seconds = 2;
static const double publish_seconds = 10, draw_seconds = 0.25, batch_line_seconds = 1, renew_seconds = 1;
/* A run that another rank could begin at once is taken back from a team that is busy longer than this. */
static const double recall_seconds = 3;

typedef struct run_state {
    int64_t index;           /* in the sweep */
    bool has_begun, is_held; /* held by another launch, watched */
    int64_t held_renewed;    /* that launch's claim when first seen */
    lemoe_lease *claim;      /* ours, from handing out to the end */
    lemoe_outcome outcome;
    char *error;
    lemoe_run_measures measures;
} run_state;

typedef struct team_state {
    bool is_open, is_recalled;
    int leader, n_rank;
    int64_t run, reserved; /* numbers in the schedule; -1: none */
    lemoe_run_measures measures;
    double next_line;
} team_state;

struct lemoe_coordinator {
    const lemoe_coordinator_args args;
    lemoe_mailbox *mailbox;
    lemoe_schedule *schedule;
    lemoe_schedule_run *schedule_runs;
    int64_t *order;
    run_state *runs;   /* [n_run] of the schedule */
    team_state *teams; /* [n_rank] */
    int n_rank, n_open;
    int64_t n_run, n_ended, n_failed, n_held;
    bool is_ending, is_interrupted, is_stopped, is_dirty; /* dirty: something may start */
    bool is_unpublished;
    double began, next_look, next_publish, next_draw, next_renewal, done_weight, all_weight;
    lemoe_publisher *publisher;
    lemoe_progress_display *display;
    lemoe_progress_team *lines; /* [n_rank] */
};

static const lemoe_sweep_run *sweep_run(const lemoe_coordinator *c, int64_t run) {
    return &c->args.sweep->runs[c->runs[run].index];
}

static lemoe_status send_one(lemoe_coordinator *c, int peer, int kind, int64_t word) {
    lemoe_message message = {.peer = peer, .kind = kind, .n_word = 1, .word = {word}};
    return lemoe_mailbox_send(c->mailbox, &message);
}

/* ---- what may start ---- */

static lemoe_status end_run(lemoe_coordinator *c, int64_t run, lemoe_outcome outcome, const char *error) {
    run_state *state = &c->runs[run];
    state->outcome = outcome;
    lemoe_lease_release(state->claim);
    state->claim = NULL;
    if (outcome == LEMOE_OUTCOME_COMPLETE)
        lemoe_claim_forget_deaths(c->args.sweep->output_folder, sweep_run(c, run)->run_id);
    lemoe_mem_free(state->error);
    state->error = NULL;
    c->n_ended++;
    c->n_failed += outcome == LEMOE_OUTCOME_FAILED;
    c->done_weight += c->schedule_runs[run].seconds * c->schedule_runs[run].tensor_parallel;
    c->is_unpublished = true;
    return lemoe_mem_strdup(error, &state->error);
}

static void watch_held(lemoe_coordinator *c, int64_t run) {
    c->runs[run].is_held = true;
    c->n_held++;
    c->next_look = lemoe_clock_seconds() + look_seconds;
    lemoe_progress_say(c->display, "%s: held by another launch; looking again", sweep_run(c, run)->run_id);
}

/* Claims the run, unless another launch has it or has finished it meanwhile. What cannot be claimed has failed. */
static lemoe_status may_start(lemoe_coordinator *c, int64_t run, bool *out) {
    run_state *state = &c->runs[run];
    const char *folder = c->args.sweep->output_folder, *id = sweep_run(c, run)->run_id;
    bool is_held = false;
    lemoe_status status = lemoe_claim_take(folder, id, &state->claim, &is_held, &state->held_renewed);
    *out = false;
    if (status != LEMOE_OK) {
        lemoe_progress_say(c->display, "%s: FAILED: %s", id, lemoe_error_message());
        state->has_begun = true;
        LEMOE_TRY(end_run(c, run, LEMOE_OUTCOME_FAILED, lemoe_error_message()));
        lemoe_error_clear();
    } else if (is_held) {
        watch_held(c, run);
    } else if (lemoe_table_is_complete(c->args.sweep, state->index)) {
        lemoe_progress_say(c->display, "%s: finished by another launch", id);
        return end_run(c, run, LEMOE_OUTCOME_ELSEWHERE, "");
    } else {
        *out = true;
    }
    return LEMOE_OK;
}

static void mark_begun(lemoe_coordinator *c, int64_t run) {
    c->runs[run].has_begun = true;
    lemoe_claim_begin(c->args.sweep->output_folder, sweep_run(c, run)->run_id);
}

static void say_begun(lemoe_coordinator *c, int64_t run, const int *ranks, int n) {
    const lemoe_sweep_run *s = sweep_run(c, run);
    lemoe_progress_say(c->display, "%s: begins on rank%s %d%s%.0d", s->run_id, n > 1 ? "s" : "", ranks[0],
                       n > 1 ? "-" : "", n > 1 ? ranks[n - 1] : 0);
}

static lemoe_status open_team(lemoe_coordinator *c, int number, int64_t run) {
    team_state *t = &c->teams[number];
    const int *ranks = lemoe_schedule_team(c->schedule, number, &t->n_rank);
    lemoe_message message = {
        .kind = LEMOE_MESSAGE_FORM, .n_word = 2 + t->n_rank, .word = {number, run}
    };
    message.word[1] = c->runs[run].index;
    for (int i = 0; i < t->n_rank; i++) message.word[2 + i] = ranks[i];
    *t = (team_state){.is_open = true, .leader = ranks[0], .n_rank = t->n_rank, .run = run, .reserved = -1};
    c->n_open++;
    mark_begun(c, run);
    for (int i = 0; i < t->n_rank; i++) {
        message.peer = ranks[i];
        LEMOE_TRY(lemoe_mailbox_send(c->mailbox, &message));
    }
    say_begun(c, run, ranks, t->n_rank);
    return LEMOE_OK;
}

static lemoe_status form_teams(lemoe_coordinator *c) {
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
static lemoe_status choose_next(lemoe_coordinator *c, int number, int64_t *run) {
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
    team_state *t = &c->teams[number];
    int n = 0;
    t->run = run;
    t->reserved = -1;
    t->is_recalled = false;
    t->measures = (lemoe_run_measures){0};
    mark_begun(c, run);
    const int *ranks = lemoe_schedule_team(c->schedule, number, &n);
    say_begun(c, run, ranks, n);
}

static lemoe_status go_on(lemoe_coordinator *c, int number) {
    team_state *t = &c->teams[number];
    int64_t run = t->reserved;
    if (run >= 0) { /* it knows already */
        begin_next(c, number, run);
        return LEMOE_OK;
    }
    LEMOE_TRY(choose_next(c, number, &run));
    LEMOE_TRY(send_one(c, t->leader, LEMOE_MESSAGE_NEXT, run < 0 ? -1 : c->runs[run].index));
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

static lemoe_status recall(lemoe_coordinator *c, team_state *t) {
    t->is_recalled = true;
    return send_one(c, t->leader, LEMOE_MESSAGE_RECALL, c->runs[t->reserved].index);
}

static double share_done(const lemoe_run_measures *m) {
    if (m->n_batch <= 0) return 0;
    return (double)m->n_batch_done / (double)m->n_batch;
}

static double seconds_left(const lemoe_run_measures *m) {
    double share = share_done(m);
    return share > 0 ? m->seconds * (1 - share) / share : (double)INFINITY;
}

/* Ranks are idle although a run waits behind a busy team. */
static lemoe_status recall_for_idle(lemoe_coordinator *c) {
    for (int i = 0; i < c->n_rank; i++) {
        team_state *t = &c->teams[i];
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
static lemoe_status stop_handing_out(lemoe_coordinator *c) {
    if (c->is_ending) return LEMOE_OK;
    c->is_ending = true;
    while (lemoe_schedule_drop(c->schedule) >= 0) {
    }
    for (int64_t i = 0; i < c->n_run; i++) c->runs[i].is_held = false;
    c->n_held = 0;
    return recall_all(c);
}

/* ---- messages ---- */

static void say_ended(lemoe_coordinator *c, int64_t run) {
    static const char *const words[] = {"complete", "FAILED", "interrupted", "left to another launch"};
    const run_state *state = &c->runs[run];
    char took[32];
    lemoe_progress_say(c->display, "%s: %s after %s%s%s", sweep_run(c, run)->run_id, words[state->outcome],
                       lemoe_progress_duration(state->measures.seconds, took, sizeof took), *state->error ? ": " : "",
                       state->error);
}

static lemoe_status take_done(lemoe_coordinator *c, const lemoe_message *message) {
    int number = (int)message->word[0];
    team_state *t = &c->teams[number];
    int64_t run = t->run;
    run_state *state = &c->runs[run];
    lemoe_outcome outcome = (lemoe_outcome)message->word[2];
    char error[LEMOE_MESSAGE_WORDS * 8];
    LEMOE_CHECK(t->is_open && state->index == message->word[1], LEMOE_ERR_COMM, "rank %d ended a run it did not have",
                message->peer);
    lemoe_message_get_measures(message, 3, &state->measures);
    lemoe_message_get_text(message, 3 + LEMOE_MEASURE_WORDS, error, sizeof error);
    LEMOE_TRY(end_run(c, run, outcome, error));
    say_ended(c, run);
    if (outcome == LEMOE_OUTCOME_COMPLETE && !state->measures.is_resumed)
        lemoe_estimates_learn(c->args.estimates, c->args.sweep, state->index, &state->measures);
    if (outcome == LEMOE_OUTCOME_INTERRUPTED) c->is_interrupted = true;
    if (c->is_interrupted || (outcome == LEMOE_OUTCOME_FAILED && c->args.sweep->fail_fast))
        LEMOE_TRY(stop_handing_out(c));
    return go_on(c, number);
}

static lemoe_status take_returned(lemoe_coordinator *c, const lemoe_message *message) {
    team_state *t = &c->teams[message->word[0]];
    LEMOE_CHECK(t->is_open && t->reserved >= 0 && c->runs[t->reserved].index == message->word[1], LEMOE_ERR_COMM,
                "rank %d gave back a run it did not have", message->peer);
    int64_t run = t->reserved;
    t->reserved = -1;
    t->is_recalled = false;
    lemoe_lease_release(c->runs[run].claim);
    c->runs[run].claim = NULL;
    if (!c->is_ending) lemoe_schedule_wait(c->schedule, run);
    c->is_dirty = true;
    return LEMOE_OK;
}

static void say_batch(lemoe_coordinator *c, team_state *t) {
    const lemoe_run_measures *m = &t->measures;
    double now = lemoe_clock_seconds();
    if (isnan(m->immediate[0]) || now < t->next_line || lemoe_progress_is_tty(c->display)) return;
    t->next_line = now + batch_line_seconds;
    lemoe_progress_say(c->display,
                       "%s: batch %lld of %lld, loss %.4f; immediate reliability %.3f generality %.3f locality %.3f",
                       sweep_run(c, t->run)->run_id, (long long)m->n_batch_done, (long long)m->n_batch, m->loss,
                       m->immediate[0], m->immediate[1], m->immediate[2]);
}

static lemoe_status take_progress(lemoe_coordinator *c, const lemoe_message *message) {
    int number = (int)message->word[0];
    team_state *t = &c->teams[number];
    if (!t->is_open || c->runs[t->run].index != message->word[1]) return LEMOE_OK;
    lemoe_message_get_measures(message, 2, &t->measures);
    say_batch(c, t);
    if (t->reserved >= 0 || share_done(&t->measures) < hand_out_share) return LEMOE_OK;
    int64_t run = -1;
    LEMOE_TRY(choose_next(c, number, &run));
    if (run < 0) return LEMOE_OK; /* asked again when it has ended */
    t->reserved = run;
    return send_one(c, t->leader, LEMOE_MESSAGE_NEXT, c->runs[run].index);
}

lemoe_status lemoe_coordinator_receive(lemoe_coordinator *c, const lemoe_message *message) {
    int64_t number = message->n_word > 1 ? message->word[0] : -1;
    LEMOE_CHECK(number >= 0 && number < c->n_rank, LEMOE_ERR_COMM, "rank %d speaks for team %lld", message->peer,
                (long long)number);
    switch (message->kind) {
    case LEMOE_MESSAGE_DONE: return take_done(c, message);
    case LEMOE_MESSAGE_RETURNED: return take_returned(c, message);
    case LEMOE_MESSAGE_PROGRESS: return take_progress(c, message);
    default: return lemoe_raise(LEMOE_ERR_COMM, "a message of kind %d", message->kind);
    }
}

/* ---- by the clock ---- */

/* A claim that is renewed while we look has a living owner; one that goes stale is free. */
static lemoe_status look_at(lemoe_coordinator *c, int64_t run) {
    run_state *state = &c->runs[run];
    int64_t renewed = 0;
    const char *id = sweep_run(c, run)->run_id;
    bool is_held = lemoe_claim_is_held(c->args.sweep->output_folder, id, &renewed);
    if (is_held && renewed == state->held_renewed) return LEMOE_OK;
    state->is_held = false;
    c->n_held--;
    if (is_held) {
        lemoe_progress_say(c->display, "%s: left to another launch", id);
        return end_run(c, run, LEMOE_OUTCOME_ELSEWHERE, "worked on by another launch");
    }
    lemoe_schedule_wait(c->schedule, run);
    c->is_dirty = true;
    return LEMOE_OK;
}

static lemoe_status look_at_held(lemoe_coordinator *c, double now) {
    if (c->n_held == 0 || now < c->next_look) return LEMOE_OK;
    c->next_look = now + look_seconds;
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
            done += run->seconds * run->tensor_parallel * share_done(&c->teams[i].measures);
        }
    return done > 0 ? (now - c->began) * (c->all_weight - done) / done : (double)NAN;
}

static void draw_if_due(lemoe_coordinator *c, double now) {
    if (now < c->next_draw || !lemoe_progress_is_tty(c->display)) return;
    c->next_draw = now + draw_seconds;
    int n = 0;
    for (int i = 0; i < c->n_rank; i++) {
        const team_state *t = &c->teams[i];
        if (t->is_open)
            c->lines[n++] = (lemoe_progress_team){sweep_run(c, t->run)->run_id, t->leader, t->n_rank, t->measures};
    }
    lemoe_progress_sweep sweep = {c->n_run, c->n_ended, c->n_failed, sweep_seconds_left(c, now)};
    lemoe_progress_draw(c->display, c->lines, n, &sweep);
}

static lemoe_status stop_if_done(lemoe_coordinator *c) {
    if (c->is_stopped || c->n_open > 0 || c->n_held > 0 || lemoe_schedule_n_waiting(c->schedule) > 0) return LEMOE_OK;
    c->is_stopped = true;
    for (int i = 0; i < c->n_rank; i++) LEMOE_TRY(send_one(c, i, LEMOE_MESSAGE_STOP, 0));
    return LEMOE_OK;
}

lemoe_status lemoe_coordinator_act(lemoe_coordinator *c) {
    double now = lemoe_clock_seconds();
    if (lemoe_signals_pending() && !c->is_interrupted) {
        c->is_interrupted = true;
        LEMOE_TRY(stop_handing_out(c));
    }
    renew_claims(c, now);
    LEMOE_TRY(look_at_held(c, now));
    if (c->is_dirty) {
        c->is_dirty = false;
        LEMOE_TRY(form_teams(c));
    }
    if (!c->is_ending && lemoe_schedule_n_idle(c->schedule) > 0) LEMOE_TRY(recall_for_idle(c));
    publish_if_due(c, now);
    draw_if_due(c, now);
    return stop_if_done(c);
}

/* ---- making and ending ---- */

static lemoe_status list_runs(lemoe_coordinator *c) {
    const lemoe_sweep *sweep = c->args.sweep;
    LEMOE_TRY(lemoe_mem_alloc(sweep->n_run, sizeof *c->runs, &c->runs));
    LEMOE_TRY(lemoe_mem_alloc(sweep->n_run, sizeof *c->schedule_runs, &c->schedule_runs));
    LEMOE_TRY(lemoe_mem_alloc(sweep->n_run, sizeof *c->order, &c->order));
    for (int64_t i = 0; i < sweep->n_run; i++) {
        const lemoe_sweep_run *run = &sweep->runs[i];
        if (run->skip != LEMOE_SKIP_NOT) continue;
        c->runs[c->n_run].index = i;
        c->schedule_runs[c->n_run] = (lemoe_schedule_run){(int)run->tensor_parallel, run->input, run->expected_seconds};
        c->all_weight += run->expected_seconds * (double)run->tensor_parallel;
        c->n_run++;
    }
    return LEMOE_OK;
}

/* Ranks that no run can use are said once. */
static void say_idle(lemoe_coordinator *c) {
    int n = lemoe_schedule_n_idle(c->schedule);
    if (n == 0 || c->n_run == 0) return;
    lemoe_progress_say(c->display, "%d of %d ranks stay idle for now: %s", n, c->n_rank,
                       lemoe_schedule_n_waiting(c->schedule) > 0 ? "the runs that wait need larger teams"
                                                                 : "there are fewer runs than ranks");
}

lemoe_status lemoe_coordinator_create(const lemoe_coordinator_args *args, lemoe_coordinator **out) {
    lemoe_coordinator *c = NULL;
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof *c, &c));
    *out = c;
    *(lemoe_coordinator_args *)&c->args = *args;
    c->mailbox = lemoe_launch_mailbox(args->launch);
    c->n_rank = lemoe_comm_size(lemoe_launch_world(args->launch));
    c->began = lemoe_clock_seconds();
    LEMOE_TRY(list_runs(c));
    LEMOE_TRY(lemoe_mem_alloc(c->n_rank, sizeof *c->teams, &c->teams));
    LEMOE_TRY(lemoe_mem_alloc(c->n_rank, sizeof *c->lines, &c->lines));
    lemoe_schedule_args schedule = {lemoe_launch_nodes(args->launch), c->n_rank, c->schedule_runs, c->n_run, c->order};
    LEMOE_TRY(lemoe_schedule_order(&schedule, c->order));
    LEMOE_TRY(lemoe_schedule_create(&schedule, &c->schedule));
    LEMOE_TRY(lemoe_progress_open(args->progress, &c->display));
    LEMOE_TRY(lemoe_publisher_open(args->sweep, &c->publisher));
    c->is_unpublished = true;
    LEMOE_TRY(form_teams(c));
    say_idle(c);
    return LEMOE_OK;
}

void lemoe_coordinator_destroy(lemoe_coordinator *c) {
    if (!c) return;
    lemoe_publisher_close(c->publisher);
    lemoe_progress_close(c->display);
    lemoe_schedule_destroy(c->schedule);
    for (int64_t i = 0; c->runs && i < c->n_run; i++) {
        lemoe_lease_release(c->runs[i].claim);
        lemoe_mem_free(c->runs[i].error);
    }
    lemoe_mem_free(c->runs);
    lemoe_mem_free(c->schedule_runs);
    lemoe_mem_free(c->order);
    lemoe_mem_free(c->teams);
    lemoe_mem_free(c->lines);
    lemoe_mem_free(c);
}

lemoe_run_ending lemoe_coordinator_ending(const lemoe_coordinator *c, int64_t index) {
    lemoe_run_ending none = {.error = ""};
    int64_t low = 0, high = c->n_run; /* ascending in the sweep's order */
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (c->runs[middle].index < index)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == c->n_run || c->runs[low].index != index || !c->runs[low].error) return none;
    const run_state *state = &c->runs[low];
    return (lemoe_run_ending){state->has_begun, state->outcome, state->error, state->measures};
}

bool lemoe_coordinator_was_interrupted(const lemoe_coordinator *c) { return c->is_interrupted; }

/* The coordinator: made and ended, and what leaders tell it. */
#include "runner/sweep/coordinator_internal.h"

#include "kernels/base/clock.h"
#include "kernels/base/mem.h"

#include <math.h>
#include <stdio.h>

/* A team is told its next run when this share of the present one is done: late enough for a good choice, early enough
 * that nobody waits for the answer. */
static const double hand_out_share = 0.75, batch_line_seconds = 1;

const lemoe_sweep_run *lemoe_coordinator_run(const lemoe_coordinator *c, int64_t run) {
    return &c->args.sweep->runs[c->runs[run].index];
}

lemoe_status lemoe_coordinator_send(lemoe_coordinator *c, int peer, int kind, int64_t word) {
    lemoe_message message = {.peer = peer, .kind = kind, .n_word = 1, .word = {word}};
    return lemoe_mailbox_send(c->mailbox, &message);
}

double lemoe_coordinator_share_done(const lemoe_run_measures *m) {
    if (m->n_batch <= 0) return 0;
    return (double)m->n_batch_done / (double)m->n_batch;
}

/* ---- messages ---- */

static void say_ended(lemoe_coordinator *c, int64_t run) {
    static const char *const words[] = {"complete", "FAILED", "interrupted", "left to another launch"};
    const lemoe_coordinator_run_state *state = &c->runs[run];
    char took[32];
    lemoe_progress_say(c->display, "%s: %s after %s%s%s", lemoe_coordinator_run(c, run)->run_id, words[state->outcome],
                       lemoe_progress_duration(state->measures.seconds, took, sizeof took), *state->error ? ": " : "",
                       state->error);
}

/* What the team was to go on with is free again. */
static void take_back(lemoe_coordinator *c, lemoe_coordinator_team *t) {
    int64_t run = t->reserved;
    t->reserved = -1;
    t->is_recalled = false;
    lemoe_lease_release(c->runs[run].claim);
    c->runs[run].claim = NULL;
    if (!c->is_ending) lemoe_schedule_wait(c->schedule, run);
    c->is_dirty = true;
}

static lemoe_status take_done(lemoe_coordinator *c, const lemoe_message *message) {
    int number = (int)message->word[0];
    lemoe_coordinator_team *t = &c->teams[number];
    int64_t run = t->run;
    lemoe_coordinator_run_state *state = &c->runs[run];
    lemoe_outcome outcome = (lemoe_outcome)message->word[2];
    char error[LEMOE_MESSAGE_WORDS * 8];
    LEMOE_CHECK(t->is_open && state->index == message->word[1], LEMOE_ERR_COMM, "rank %d ended a run it did not have",
                message->peer);
    lemoe_message_get_measures(message, 3, &state->measures);
    lemoe_message_get_text(message, 3 + LEMOE_MEASURE_WORDS, error, sizeof error);
    LEMOE_TRY(lemoe_coordinator_end_run(c, run, outcome, error));
    say_ended(c, run);
    if (outcome == LEMOE_OUTCOME_COMPLETE && !state->measures.is_resumed)
        lemoe_estimates_learn(c->args.estimates, lemoe_coordinator_run(c, run), &state->measures);
    if (outcome == LEMOE_OUTCOME_INTERRUPTED) c->is_interrupted = true;
    bool is_last = lemoe_outcome_is_last(outcome, c->args.sweep->fail_fast);
    if (is_last && t->reserved >= 0) take_back(c, t);
    if (is_last || c->is_interrupted) LEMOE_TRY(lemoe_coordinator_stop(c));
    return lemoe_coordinator_go_on(c, number);
}

static lemoe_status take_returned(lemoe_coordinator *c, const lemoe_message *message) {
    lemoe_coordinator_team *t = &c->teams[message->word[0]];
    LEMOE_CHECK(t->is_open && t->reserved >= 0 && c->runs[t->reserved].index == message->word[1], LEMOE_ERR_COMM,
                "rank %d gave back a run it did not have", message->peer);
    take_back(c, t);
    return LEMOE_OK;
}

static void say_batch(lemoe_coordinator *c, lemoe_coordinator_team *t) {
    const lemoe_run_measures *m = &t->measures;
    double now = lemoe_clock_seconds();
    if (isnan(m->immediate[0]) || now < t->next_line || lemoe_progress_is_tty(c->display)) return;
    t->next_line = now + batch_line_seconds;
    char loss[32] = ""; /* what does not train has none */
    if (!isnan(m->loss)) (void)snprintf(loss, sizeof loss, ", loss %.4f", m->loss);
    lemoe_progress_say(c->display, "%s: batch %lld of %lld%s; immediate reliability %.3f generality %.3f locality %.3f",
                       lemoe_coordinator_run(c, t->run)->run_id, (long long)m->n_batch_done, (long long)m->n_batch,
                       loss, m->immediate[0], m->immediate[1], m->immediate[2]);
}

static lemoe_status take_progress(lemoe_coordinator *c, const lemoe_message *message) {
    int number = (int)message->word[0];
    lemoe_coordinator_team *t = &c->teams[number];
    if (!t->is_open || c->runs[t->run].index != message->word[1]) return LEMOE_OK;
    lemoe_message_get_measures(message, 2, &t->measures);
    say_batch(c, t);
    if (t->reserved >= 0 || lemoe_coordinator_share_done(&t->measures) < hand_out_share) return LEMOE_OK;
    int64_t run = -1;
    LEMOE_TRY(lemoe_coordinator_choose_next(c, number, &run));
    if (run < 0) return LEMOE_OK; /* asked again when it has ended */
    t->reserved = run;
    return lemoe_coordinator_send(c, t->leader, LEMOE_MESSAGE_NEXT, c->runs[run].index);
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
    LEMOE_TRY(lemoe_orders_create(args->sweep, &c->orders));
    c->is_unpublished = true;
    LEMOE_TRY(lemoe_coordinator_form_teams(c));
    say_idle(c);
    return LEMOE_OK;
}

void lemoe_coordinator_destroy(lemoe_coordinator *c) {
    if (!c) return;
    lemoe_publisher_close(c->publisher);
    lemoe_orders_destroy(c->orders);
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

lemoe_status lemoe_coordinator_publish_last(lemoe_coordinator *c, double seconds) {
    return lemoe_publisher_publish_last(c->publisher, seconds);
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
    const lemoe_coordinator_run_state *state = &c->runs[low];
    return (lemoe_run_ending){state->has_begun, state->outcome, state->error, state->measures};
}

bool lemoe_coordinator_was_interrupted(const lemoe_coordinator *c) { return c->is_interrupted; }

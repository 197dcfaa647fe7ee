#include "runner/sweep/worker.h"

#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "runner/io/lease.h"
#include "runner/io/signals.h"
#include "runner/sweep/coordinator.h"
#include "runner/sweep/messages.h"
#include "runner/sweep/table.h"

#include <math.h>
#include <string.h>
#include <time.h>

static const double poll_seconds = 0.02, progress_seconds = 0.5;
enum { FIRST_NAP = 500, LONGEST_NAP = 20000 }; /* microseconds */

/* The team this rank is in. */
typedef struct membership {
    int number;
    bool is_leader;
    lemoe_comm *comm;
    lemoe_world *world;
} membership;

typedef struct worker {
    lemoe_launch *launch;
    lemoe_mailbox *mailbox;
    const lemoe_sweep *sweep;
    lemoe_coordinator *coordinator; /* rank 0 */
    lemoe_status (*execute)(const lemoe_run_args *args);
    lemoe_tick *tick;
    membership team;
    /* what messages said */
    bool is_called, has_next, is_stopped;
    bool is_working; /* on a run: what comes next can still be given back */
    bool is_leaving; /* the team's last run has ended: what comes next is void, but for -1 */
    lemoe_message call;
    int64_t next;
    lemoe_status broken; /* first failure inside a tick, reported at the next chance */
    /* the run under way */
    int64_t run;
    double began, next_progress;
    lemoe_run_measures measures;
} worker;

/* ---- messages ---- */

static lemoe_status tell(worker *w, lemoe_message *message) {
    message->peer = 0;
    return lemoe_mailbox_send(w->mailbox, message);
}

static lemoe_status give_back(worker *w) {
    lemoe_message message = {
        .kind = LEMOE_MESSAGE_RETURNED, .n_word = 2, .word = {w->team.number, w->next}
    };
    w->has_next = false;
    return tell(w, &message);
}

static lemoe_status receive(worker *w, const lemoe_message *message) {
    switch (message->kind) {
    case LEMOE_MESSAGE_FORM:
        w->is_called = true;
        w->call = *message;
        return LEMOE_OK;
    case LEMOE_MESSAGE_NEXT:
        w->has_next = !w->is_leaving || message->word[0] < 0;
        w->next = message->word[0];
        return LEMOE_OK;
    case LEMOE_MESSAGE_RECALL:
        return w->is_working && w->has_next && w->next == message->word[0] ? give_back(w) : LEMOE_OK;
    case LEMOE_MESSAGE_STOP: w->is_stopped = true; return LEMOE_OK;
    default:
        LEMOE_CHECK(w->coordinator, LEMOE_ERR_COMM, "a message of kind %d for the coordinator", message->kind);
        return lemoe_coordinator_receive(w->coordinator, message);
    }
}

static lemoe_status pump(worker *w) {
    for (;;) {
        bool got = false;
        lemoe_message message;
        LEMOE_TRY(lemoe_mailbox_poll(w->mailbox, &got, &message));
        if (!got) break;
        LEMOE_TRY(receive(w, &message));
    }
    return w->coordinator ? lemoe_coordinator_act(w->coordinator) : LEMOE_OK;
}

static void poll(void *context) {
    worker *w = context;
    if (w->broken == LEMOE_OK) w->broken = pump(w);
}

/* Until one of the flags is set. An idle rank must not take a core from one that works, so it sleeps longer and longer.
 */
static lemoe_status wait_for(worker *w, const bool *flag, const bool *other) {
    for (int64_t pause = FIRST_NAP;; pause = 2 * pause < LONGEST_NAP ? 2 * pause : LONGEST_NAP) {
        LEMOE_TRY(w->broken);
        LEMOE_TRY(pump(w));
        if (*flag || *other) return LEMOE_OK;
        struct timespec nap = {0, pause * 1000};
        (void)nanosleep(&nap, NULL);
    }
}

/* ---- one run ---- */

static void report(void *context, const lemoe_run_progress *progress) {
    worker *w = context;
    double now = lemoe_clock_seconds();
    bool is_batch_end = progress->n_batch_done > w->measures.n_batch_done;
    lemoe_run_measures *m = &w->measures;
    *m = (lemoe_run_measures){.n_batch = progress->n_batch,
                              .n_batch_done = progress->n_batch_done,
                              .n_step = progress->n_step,
                              .peak_bytes = progress->peak_bytes,
                              .planned_bytes = progress->planned_bytes,
                              .is_resumed = m->is_resumed || progress->n_batch_done > m->n_batch_done + 1,
                              .train_seconds = progress->train_seconds,
                              .seconds = now - w->began,
                              .loss = progress->loss};
    memcpy(m->immediate, progress->immediate, sizeof m->immediate);
    strncpy(m->phase, progress->phase, sizeof m->phase - 1);
    if (!w->team.is_leader || (!is_batch_end && now < w->next_progress)) return;
    w->next_progress = now + progress_seconds;
    lemoe_message message = {
        .kind = LEMOE_MESSAGE_PROGRESS, .n_word = 2, .word = {w->team.number, w->run}
    };
    lemoe_message_put_measures(&message, m);
    if (w->broken == LEMOE_OK) w->broken = tell(w, &message);
}

/* STATE is what a run says that another launch holds or has finished. */
static lemoe_outcome outcome_of(const worker *w, lemoe_status status) {
    if (status == LEMOE_OK) return LEMOE_OUTCOME_COMPLETE;
    if (status == LEMOE_ERR_INTERRUPTED) return LEMOE_OUTCOME_INTERRUPTED;
    if (status != LEMOE_ERR_STATE) return LEMOE_OUTCOME_FAILED;
    return lemoe_table_is_elsewhere(w->sweep, w->run) ? LEMOE_OUTCOME_ELSEWHERE : LEMOE_OUTCOME_FAILED;
}

static lemoe_status tell_done(worker *w, lemoe_status ended) {
    lemoe_outcome outcome = outcome_of(w, ended);
    w->measures.seconds = lemoe_clock_seconds() - w->began;
    w->is_working = false;
    w->is_leaving = lemoe_outcome_is_last(outcome, w->sweep->fail_fast);
    if (w->is_leaving) w->has_next = false;
    lemoe_message message = {
        .kind = LEMOE_MESSAGE_DONE, .n_word = 3, .word = {w->team.number, w->run, outcome}
    };
    lemoe_message_put_measures(&message, &w->measures);
    lemoe_message_put_text(&message, ended == LEMOE_OK ? "" : lemoe_error_message());
    return tell(w, &message);
}

static lemoe_status do_run(worker *w, int64_t index) {
    const lemoe_sweep_run *run = &w->sweep->runs[index];
    lemoe_config config;
    LEMOE_TRY(lemoe_sweep_config(w->sweep, index, &config));
    lemoe_run_args args = {.world = w->team.world,
                           .config = &config,
                           .run_id = run->run_id,
                           .identity = run->identity,
                           .output_folder = w->sweep->output_folder,
                           .mpi_version = lemoe_launch_mpi_version(),
                           .swept_keys = w->sweep->swept_keys,
                           .sweep_place = index,
                           .predicted_bytes = run->predicted_bytes,
                           .predicted_step_seconds = run->predicted_step_seconds,
                           .report = report,
                           .report_context = w};
    w->run = index;
    w->is_working = true;
    w->began = lemoe_clock_seconds();
    w->measures = (lemoe_run_measures){
        .loss = (double)NAN, .immediate = {(double)NAN, (double)NAN, (double)NAN}
    };
    lemoe_status ended = w->execute(&args);
    if (w->team.world->is_lost)
        lemoe_comm_end_job(lemoe_launch_world(w->launch),
                           "the job ends, and the same command goes on from the last checkpoint");
    LEMOE_TRY(w->broken);
    return w->team.is_leader ? tell_done(w, ended) : LEMOE_OK;
}

/* ---- one team ---- */

static lemoe_status open_team(worker *w, int64_t *first_run) {
    int ranks[LEMOE_TEAM_RANKS], n = w->call.n_word - 2;
    for (int i = 0; i < n; i++) ranks[i] = (int)w->call.word[2 + i];
    w->is_called = w->is_leaving = false;
    w->team.number = (int)w->call.word[0];
    w->team.is_leader = ranks[0] == lemoe_comm_rank(lemoe_launch_world(w->launch));
    *first_run = w->call.word[1];
    LEMOE_TRY(lemoe_team_open(w->launch, ranks, n, w->team.number, &w->team.comm));
    int rank = lemoe_comm_rank(lemoe_launch_world(w->launch));
    int local_rank = lemoe_devices_local_rank(lemoe_launch_nodes(w->launch), rank);
    return lemoe_comm_agree(w->team.comm, lemoe_world_open(w->team.comm, w->tick, local_rank, &w->team.world));
}

static void close_team(worker *w) {
    lemoe_world_close(w->team.world);
    if (w->team.comm) lemoe_comm_close(w->team.comm);
    w->team = (membership){0};
}

/* The leader was told what comes next before its run ended, as a rule, and only passes it on. */
static lemoe_status next_run(worker *w, int64_t *run) {
    static const bool never = false;
    if (w->team.is_leader) {
        LEMOE_TRY(wait_for(w, &w->has_next, &never));
        w->has_next = false;
        *run = w->next;
    }
    return lemoe_comm_broadcast_bytes(w->team.comm, 0, run, sizeof *run);
}

static lemoe_status work_in_team(worker *w) {
    int64_t run = -1;
    lemoe_status status = LEMOE_OK;
    LEMOE_TRY_GOTO(open_team(w, &run));
    while (run >= 0) {
        LEMOE_TRY_GOTO(do_run(w, run));
        LEMOE_TRY_GOTO(next_run(w, &run));
    }
out:
    close_team(w);
    return status;
}

static lemoe_status work(worker *w) {
    LEMOE_TRY(lemoe_tick_create(&w->tick));
    LEMOE_TRY(lemoe_tick_add(w->tick, poll_seconds, poll, w));
    for (;;) {
        LEMOE_TRY(wait_for(w, &w->is_called, &w->is_stopped));
        if (!w->is_called) return LEMOE_OK;
        LEMOE_TRY(work_in_team(w));
    }
}

lemoe_status lemoe_worker_run(const lemoe_worker_args *args) {
    worker w = {.launch = args->launch,
                .mailbox = lemoe_launch_mailbox(args->launch),
                .sweep = args->sweep,
                .coordinator = args->coordinator,
                .execute = args->execute,
                .run = -1};
    lemoe_status status = work(&w);
    lemoe_tick_destroy(w.tick);
    return lemoe_comm_keep_step(lemoe_launch_world(args->launch), status);
}

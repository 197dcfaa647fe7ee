#include "runner/sweep/coordinator.h"

#include "kernels/base/mem.h"

#include <time.h>

enum { MESSAGE_ASK = 1, MESSAGE_RUN = 2 };
static const double poll_seconds = 0.02;

struct lemoe_coordinator {
    lemoe_mailbox *mailbox;
    const lemoe_team *team;
    lemoe_tick *tick;
    bool is_coordinator, fail_fast;
    const int64_t *order;
    int64_t n_order, n_handed;
    int n_told;       /* teams that know that nothing is left */
    bool have_answer; /* the leader's prefetched answer */
    int64_t answer;
    lemoe_status broken; /* first failure inside a tick, reported at the next call */
};

static lemoe_status answer(lemoe_coordinator *c, const lemoe_message *ask) {
    bool failed = ask->word[0] != 0;
    if (failed && c->fail_fast) c->n_handed = c->n_order;
    lemoe_message reply = {.peer = ask->peer, .kind = MESSAGE_RUN, .word = {-1}};
    if (c->n_handed < c->n_order) reply.word[0] = c->order[c->n_handed++];
    if (reply.word[0] < 0) c->n_told++;
    return lemoe_mailbox_send(c->mailbox, &reply);
}

/* Takes in every message that is there: questions on rank 0, the answer on a leader. */
static lemoe_status drain(lemoe_coordinator *c) {
    for (;;) {
        bool got = false;
        lemoe_message message;
        LEMOE_TRY(lemoe_mailbox_poll(c->mailbox, &got, &message));
        if (!got) return LEMOE_OK;
        if (message.kind == MESSAGE_ASK) {
            LEMOE_TRY(answer(c, &message));
        } else {
            c->have_answer = true;
            c->answer = message.word[0];
        }
    }
}

static void poll(void *context) {
    lemoe_coordinator *c = context;
    if (c->broken == LEMOE_OK) c->broken = drain(c);
}

lemoe_status lemoe_coordinator_open(lemoe_launch *launch, const lemoe_team *team, lemoe_tick *tick,
                                    const int64_t *order, int64_t n_order, bool fail_fast, lemoe_coordinator **out) {
    lemoe_coordinator *c = NULL;
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof *c, &c));
    *c = (lemoe_coordinator){.mailbox = lemoe_launch_mailbox(launch),
                             .team = team,
                             .tick = tick,
                             .is_coordinator = lemoe_comm_rank(lemoe_launch_world(launch)) == 0,
                             .fail_fast = fail_fast,
                             .order = order,
                             .n_order = n_order};
    *out = c;
    return c->is_coordinator ? lemoe_tick_add(tick, poll_seconds, poll, c) : LEMOE_OK;
}

static void nap(int64_t *microseconds) {
    struct timespec pause = {0, *microseconds * 1000};
    (void)nanosleep(&pause, NULL);
    if (*microseconds < 20000) *microseconds *= 2; /* an idle rank must not take a core from a working one */
}

static lemoe_status wait_for_answer(lemoe_coordinator *c) {
    int64_t pause = 200;
    for (;;) {
        LEMOE_TRY(c->broken);
        LEMOE_TRY(drain(c));
        if (c->have_answer) return LEMOE_OK;
        nap(&pause);
    }
}

static lemoe_status next_for_leader(lemoe_coordinator *c, bool failed, int64_t *run) {
    lemoe_message ask = {.peer = 0, .kind = MESSAGE_ASK, .word = {failed}};
    LEMOE_TRY(lemoe_mailbox_send(c->mailbox, &ask));
    LEMOE_TRY(wait_for_answer(c));
    c->have_answer = false;
    *run = c->answer;
    return LEMOE_OK;
}

lemoe_status lemoe_coordinator_next(lemoe_coordinator *c, bool failed, int64_t *run) {
    lemoe_status status = LEMOE_OK;
    *run = -1;
    if (lemoe_comm_rank(c->team->comm) == 0) status = next_for_leader(c, failed, run);
    LEMOE_TRY(lemoe_comm_agree(c->team->comm, status));
    return lemoe_comm_broadcast_bytes(c->team->comm, 0, run, sizeof *run);
}

lemoe_status lemoe_coordinator_close(lemoe_coordinator *c) {
    if (!c) return LEMOE_OK;
    lemoe_status status = c->broken;
    int64_t pause = 200;
    while (status == LEMOE_OK && c->is_coordinator && c->n_told < c->team->n_team) {
        status = drain(c);
        nap(&pause);
    }
    lemoe_tick_remove(c->tick, c);
    lemoe_mem_free(c);
    return status;
}

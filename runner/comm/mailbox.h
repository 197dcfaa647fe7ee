/*
 * Host messages between the coordinator and team leaders: small, tagged by kind, never blocking. MPI only, on a
 * communicator of its own.
 */
#ifndef RUNNER_COMM_MAILBOX_H
#define RUNNER_COMM_MAILBOX_H

#include "kernels/base/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct lemoe_mailbox lemoe_mailbox;

enum { LEMOE_MESSAGE_WORDS = 4 };
typedef struct lemoe_message {
    int peer; /* world rank: receiver when sent, sender when received */
    int kind;
    int64_t word[LEMOE_MESSAGE_WORDS];
} lemoe_message;

/* Local. Hands a message over; small enough that the library buffers it. To oneself it is queued. */
lemoe_status lemoe_mailbox_send(lemoe_mailbox *mailbox, const lemoe_message *message) LEMOE_MUST_CHECK;
/* Local. The next message, if one is there. */
lemoe_status lemoe_mailbox_poll(lemoe_mailbox *mailbox, bool *got, lemoe_message *out) LEMOE_MUST_CHECK;

#endif

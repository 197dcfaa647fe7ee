/*
 * Host messages between the coordinator and the rest: small, tagged by kind, never blocking. MPI only, on a
 * communicator of its own.
 */
#ifndef RUNNER_COMM_MAILBOX_H
#define RUNNER_COMM_MAILBOX_H

#include "kernels/base/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct lemoe_mailbox lemoe_mailbox;

/* Small enough that every transport buffers it: a message is handed over without waiting for its receiver. */
enum { LEMOE_MESSAGE_WORDS = 80 };
typedef struct lemoe_message {
    int peer; /* world rank: receiver when sent, sender when received */
    int kind;
    int n_word;
    int64_t word[LEMOE_MESSAGE_WORDS]; /* [n_word] */
} lemoe_message;

/* Local. Hands a message over. To oneself it is queued. */
lemoe_status lemoe_mailbox_send(lemoe_mailbox *mailbox, const lemoe_message *message) LEMOE_MUST_CHECK;
/* Local. The next message, if one is there; those of one sender come in the order they were sent. */
lemoe_status lemoe_mailbox_poll(lemoe_mailbox *mailbox, bool *got, lemoe_message *out) LEMOE_MUST_CHECK;

/* Local. Appends text, cut to what fits, as whole words; read gives it back from that word on, NUL-terminated. */
void lemoe_message_put_text(lemoe_message *message, const char *text);
void lemoe_message_get_text(const lemoe_message *message, int first_word, char *out, int64_t n_bytes);

#endif

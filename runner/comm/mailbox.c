#include "runner/comm/mpi_internal.h"

#include "kernels/base/mem.h"

#include <string.h>

enum { N_WORDS = LEMOE_MESSAGE_WORDS + 1, TAG = 1 };

struct lemoe_mailbox {
    MPI_Comm comm;
    int rank;
    lemoe_message *own; /* messages to oneself, in order */
    int64_t n_own, own_capacity;
};

lemoe_status lemoe_mailbox_create(MPI_Comm parent, lemoe_mailbox **out) {
    lemoe_mailbox *mailbox = NULL;
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof *mailbox, &mailbox));
    *out = mailbox;
    LEMOE_MPI(MPI_Comm_dup(parent, &mailbox->comm));
    LEMOE_MPI(MPI_Comm_rank(parent, &mailbox->rank));
    return LEMOE_OK;
}

void lemoe_mailbox_destroy(lemoe_mailbox *mailbox) {
    if (!mailbox) return;
    (void)MPI_Comm_free(&mailbox->comm);
    lemoe_mem_free(mailbox->own);
    lemoe_mem_free(mailbox);
}

lemoe_status lemoe_mailbox_send(lemoe_mailbox *mailbox, const lemoe_message *message) {
    if (message->peer == mailbox->rank) {
        LEMOE_TRY(lemoe_mem_grow(&mailbox->own, &mailbox->own_capacity, mailbox->n_own + 1, sizeof *message));
        mailbox->own[mailbox->n_own++] = *message;
        return LEMOE_OK;
    }
    int64_t words[N_WORDS] = {message->kind};
    memcpy(words + 1, message->word, sizeof message->word);
    /* 40 bytes: far below every eager limit, so this does not wait for the receiver */
    LEMOE_MPI(MPI_Send(words, N_WORDS, MPI_INT64_T, message->peer, TAG, mailbox->comm));
    return LEMOE_OK;
}

lemoe_status lemoe_mailbox_poll(lemoe_mailbox *mailbox, bool *got, lemoe_message *out) {
    *got = mailbox->n_own > 0;
    if (*got) {
        *out = mailbox->own[0];
        mailbox->n_own--;
        memmove(mailbox->own, mailbox->own + 1, (size_t)mailbox->n_own * sizeof *mailbox->own);
        return LEMOE_OK;
    }
    int there = 0;
    MPI_Status envelope;
    LEMOE_MPI(MPI_Iprobe(MPI_ANY_SOURCE, TAG, mailbox->comm, &there, &envelope));
    if (!there) return LEMOE_OK;
    int64_t words[N_WORDS];
    LEMOE_MPI(MPI_Recv(words, N_WORDS, MPI_INT64_T, envelope.MPI_SOURCE, TAG, mailbox->comm, MPI_STATUS_IGNORE));
    *got = true;
    out->peer = envelope.MPI_SOURCE;
    out->kind = (int)words[0];
    memcpy(out->word, words + 1, sizeof out->word);
    return LEMOE_OK;
}

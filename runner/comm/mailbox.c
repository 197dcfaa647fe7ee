#include "runner/comm/mpi_internal.h"

#include "kernels/base/mem.h"

#include <string.h>

enum { TAG = 1 };

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
    LEMOE_ASSERT(message->n_word >= 0 && message->n_word <= LEMOE_MESSAGE_WORDS);
    if (message->peer == mailbox->rank) {
        LEMOE_TRY(lemoe_mem_grow(&mailbox->own, &mailbox->own_capacity, mailbox->n_own + 1, sizeof *message));
        mailbox->own[mailbox->n_own] = *message;
        mailbox->own[mailbox->n_own++].peer = mailbox->rank;
        return LEMOE_OK;
    }
    int64_t words[LEMOE_MESSAGE_WORDS + 1] = {message->kind};
    memcpy(words + 1, message->word, (size_t)message->n_word * sizeof *message->word);
    LEMOE_MPI(MPI_Send(words, message->n_word + 1, MPI_INT64_T, message->peer, TAG, mailbox->comm));
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
    int there = 0, n = 0;
    MPI_Status envelope;
    LEMOE_MPI(MPI_Iprobe(MPI_ANY_SOURCE, TAG, mailbox->comm, &there, &envelope));
    if (!there) return LEMOE_OK;
    int64_t words[LEMOE_MESSAGE_WORDS + 1];
    LEMOE_MPI(
        MPI_Recv(words, LEMOE_MESSAGE_WORDS + 1, MPI_INT64_T, envelope.MPI_SOURCE, TAG, mailbox->comm, &envelope));
    LEMOE_MPI(MPI_Get_count(&envelope, MPI_INT64_T, &n));
    LEMOE_CHECK(n >= 1, LEMOE_ERR_COMM, "an empty message from rank %d", envelope.MPI_SOURCE);
    *got = true;
    out->peer = envelope.MPI_SOURCE;
    out->kind = (int)words[0];
    out->n_word = n - 1;
    memcpy(out->word, words + 1, (size_t)out->n_word * sizeof *out->word);
    return LEMOE_OK;
}

void lemoe_message_put_text(lemoe_message *message, const char *text) {
    size_t room = (size_t)(LEMOE_MESSAGE_WORDS - message->n_word) * sizeof *message->word;
    size_t length = strlen(text);
    if (room == 0) return;
    if (length > room - 1) length = room - 1;
    int n_word = (int)(length / sizeof *message->word) + 1; /* at least one NUL stands at the end */
    memset(message->word + message->n_word, 0, (size_t)n_word * sizeof *message->word);
    memcpy(message->word + message->n_word, text, length);
    message->n_word += n_word;
}

void lemoe_message_get_text(const lemoe_message *message, int first_word, char *out, int64_t n_bytes) {
    size_t room = (size_t)n_bytes - 1, length = 0;
    if (first_word < message->n_word) {
        const char *text = (const char *)(message->word + first_word);
        size_t held = (size_t)(message->n_word - first_word) * sizeof *message->word;
        length = strnlen(text, held < room ? held : room);
        memcpy(out, text, length);
    }
    out[length] = '\0';
}

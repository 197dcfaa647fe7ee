#include "runner/results/journal.h"

#include "kernels/base/mem.h"
#include "runner/io/atomic_file.h"
#include "runner/io/crc32c.h"
#include "runner/results/journal_frame.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* Frames wait in memory until this much has come together, or a commit. */
enum { BUFFER_BYTES = 256 * 1024 };

_Static_assert(sizeof(lemoe_frame_head) == LEMOE_FRAME_HEAD_BYTES, "the frame head has no padding");

struct lemoe_journal {
    char *path;
    int file;
    lemoe_payload buffer;
    int64_t n_written, n_committed; /* file lengths */
    uint64_t sequence, committed_sequence;
    bool folder_is_synced, has_ended;
};

lemoe_status lemoe_frame_encode(lemoe_frame_kind kind, uint64_t sequence, const lemoe_payload *payload,
                                lemoe_payload *out) {
    lemoe_frame_head head;
    memset(&head, 0, sizeof head);
    memcpy(head.magic, LEMOE_FRAME_MAGIC, sizeof head.magic);
    head.major = LEMOE_JOURNAL_MAJOR;
    head.minor = LEMOE_JOURNAL_MINOR;
    head.byte_order = LEMOE_FRAME_BYTE_ORDER;
    head.kind = (uint32_t)kind;
    head.n_bytes = payload ? (uint64_t)payload->n_bytes : 0;
    head.sequence = sequence;
    int64_t begin = out->n_bytes;
    LEMOE_TRY(lemoe_payload_put(out, &head, (int64_t)sizeof head));
    if (payload) LEMOE_TRY(lemoe_payload_put(out, payload->data, payload->n_bytes));
    uint32_t crc = lemoe_crc32c(0, out->data + begin, (size_t)(out->n_bytes - begin));
    return lemoe_payload_put(out, &crc, (int64_t)sizeof crc);
}

static lemoe_status open_file(const char *path, int flags, lemoe_journal **out) {
    lemoe_journal *journal = NULL;
    lemoe_status status = LEMOE_OK;
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof *journal, &journal));
    journal->file = -1;
    LEMOE_TRY_GOTO(lemoe_mem_strdup(path, &journal->path));
    journal->file = open(path, O_RDWR | O_CLOEXEC | flags, 0666);
    if (journal->file < 0) {
        status = lemoe_raise(LEMOE_ERR_IO, "%s: cannot be opened for writing: %s", path, strerror(errno));
        goto out;
    }
    *out = journal;
    journal = NULL;
out:
    lemoe_journal_close(journal);
    return status;
}

lemoe_status lemoe_journal_create(const char *path, lemoe_journal **out) {
    return open_file(path, O_CREAT | O_TRUNC, out);
}

/* Length and next sequence number at the last commit. */
static lemoe_status find_last_commit(const char *path, bool may_have_ended, int64_t *n_committed, uint64_t *sequence) {
    lemoe_journal_reader reader = {.name = path};
    lemoe_frame frame;
    unsigned char *data = NULL;
    lemoe_status status = LEMOE_OK;
    bool more = true;
    LEMOE_TRY_GOTO(lemoe_journal_load(path, 0, &data, &reader.n_bytes));
    reader.data = data;
    while (true) {
        LEMOE_TRY_GOTO(lemoe_journal_next(&reader, &frame, &more));
        if (!more) break;
        if (frame.kind == LEMOE_FRAME_END && may_have_ended) break;
        if (frame.kind == LEMOE_FRAME_END) {
            status = lemoe_raise(LEMOE_ERR_STATE, "%s: the run has ended; nothing can be added to it", path);
            goto out;
        }
        if (frame.kind != LEMOE_FRAME_COMMIT) continue;
        *n_committed = reader.at;
        *sequence = reader.next_sequence;
    }
out:
    lemoe_mem_free(data);
    return status;
}

static lemoe_status reopen(const char *path, bool may_have_ended, lemoe_journal **out) {
    int64_t n_committed = 0;
    uint64_t sequence = 0;
    LEMOE_TRY(find_last_commit(path, may_have_ended, &n_committed, &sequence));
    LEMOE_TRY(open_file(path, 0, out));
    lemoe_journal *journal = *out;
    journal->n_written = journal->n_committed = n_committed;
    journal->sequence = journal->committed_sequence = sequence;
    if (ftruncate(journal->file, (off_t)n_committed) == 0 && fsync(journal->file) == 0) return LEMOE_OK;
    lemoe_status status =
        lemoe_raise(LEMOE_ERR_IO, "%s: cannot be cut to %lld bytes: %s", path, (long long)n_committed, strerror(errno));
    lemoe_journal_close(journal);
    *out = NULL;
    return status;
}

lemoe_status lemoe_journal_reopen(const char *path, lemoe_journal **out) { return reopen(path, false, out); }
lemoe_status lemoe_journal_revive(const char *path, lemoe_journal **out) { return reopen(path, true, out); }

/* A frame written in part with others behind it would read as damage. */
static lemoe_status cut_back(lemoe_journal *journal, const char *what, int reason) {
    int cut = ftruncate(journal->file, (off_t)journal->n_committed);
    journal->buffer.n_bytes = 0;
    journal->n_written = journal->n_committed;
    journal->sequence = journal->committed_sequence;
    return lemoe_raise(LEMOE_ERR_IO, "%s: cannot be %s: %s; the results %s the last commit (%lld bytes)", journal->path,
                       what, strerror(reason), cut == 0 ? "stand as of" : "could not be cut back to",
                       (long long)journal->n_committed);
}

static lemoe_status write_out(lemoe_journal *journal) {
    int64_t done = 0;
    while (done < journal->buffer.n_bytes) {
        ssize_t n = pwrite(journal->file, journal->buffer.data + done, (size_t)(journal->buffer.n_bytes - done),
                           (off_t)(journal->n_written + done));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return cut_back(journal, "written", n < 0 ? errno : ENOSPC);
        done += n;
    }
    journal->n_written += done;
    journal->buffer.n_bytes = 0;
    return LEMOE_OK;
}

lemoe_status lemoe_journal_append(lemoe_journal *journal, lemoe_frame_kind kind, const lemoe_payload *payload) {
    LEMOE_CHECK(!journal->has_ended, LEMOE_ERR_STATE, "%s: the run has ended; nothing can be added to it",
                journal->path);
    int64_t before = journal->buffer.n_bytes;
    lemoe_status status = lemoe_frame_encode(kind, journal->sequence, payload, &journal->buffer);
    if (status != LEMOE_OK) {
        journal->buffer.n_bytes = before; /* no part of a frame may stay */
        return lemoe_error_frame(status, __FILE__, __LINE__, __func__);
    }
    journal->sequence++;
    return journal->buffer.n_bytes < BUFFER_BYTES ? LEMOE_OK : write_out(journal);
}

static lemoe_status append_and_sync(lemoe_journal *journal, lemoe_frame_kind kind, const lemoe_payload *payload) {
    LEMOE_TRY(lemoe_journal_append(journal, kind, payload));
    LEMOE_TRY(write_out(journal));
    if (fsync(journal->file) != 0) return cut_back(journal, "synced", errno);
    if (!journal->folder_is_synced) LEMOE_TRY(lemoe_fsync_folder_of(journal->path));
    journal->folder_is_synced = true;
    journal->n_committed = journal->n_written;
    journal->committed_sequence = journal->sequence;
    return LEMOE_OK;
}

lemoe_status lemoe_journal_commit(lemoe_journal *journal) { return append_and_sync(journal, LEMOE_FRAME_COMMIT, NULL); }

lemoe_status lemoe_journal_end(lemoe_journal *journal, const lemoe_payload *summary) {
    LEMOE_TRY(append_and_sync(journal, LEMOE_FRAME_END, summary));
    journal->has_ended = true;
    return LEMOE_OK;
}

void lemoe_journal_close(lemoe_journal *journal) {
    if (!journal) return;
    if (journal->file >= 0) (void)close(journal->file);
    lemoe_payload_reset(&journal->buffer);
    lemoe_mem_free(journal->path);
    lemoe_mem_free(journal);
}

/* The reading half of the journal: frames in order, torn tails told from damage. */
#include "runner/results/journal.h"

#include "kernels/base/mem.h"
#include "runner/io/crc32c.h"
#include "runner/results/journal_frame.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef enum frame_state { FRAME_WHOLE, FRAME_BAD } frame_state;

/* *n_checked counts bytes that went through the check, whatever came of it. */
static frame_state parse(const unsigned char *data, int64_t n_bytes, int64_t offset, lemoe_frame *out,
                         int64_t *n_checked) {
    lemoe_frame_head head;
    if (n_bytes < LEMOE_FRAME_HEAD_BYTES + LEMOE_FRAME_TAIL_BYTES) return FRAME_BAD;
    memcpy(&head, data, sizeof head);
    if (memcmp(head.magic, LEMOE_FRAME_MAGIC, sizeof head.magic) != 0 || head.major != LEMOE_JOURNAL_MAJOR ||
        head.byte_order != LEMOE_FRAME_BYTE_ORDER)
        return FRAME_BAD;
    int64_t room = n_bytes - LEMOE_FRAME_HEAD_BYTES - LEMOE_FRAME_TAIL_BYTES;
    if (head.n_bytes > (uint64_t)room) return FRAME_BAD;
    int64_t n_covered = LEMOE_FRAME_HEAD_BYTES + (int64_t)head.n_bytes;
    uint32_t crc = 0;
    memcpy(&crc, data + n_covered, sizeof crc);
    *n_checked += n_covered;
    if (crc != lemoe_crc32c(0, data, (size_t)n_covered)) return FRAME_BAD;
    out->kind = head.kind;
    out->sequence = head.sequence;
    out->minor = head.minor;
    out->offset = offset;
    out->payload = (lemoe_payload_cursor){data + LEMOE_FRAME_HEAD_BYTES, (int64_t)head.n_bytes, 0, false};
    return FRAME_WHOLE;
}

static int64_t frame_bytes(const lemoe_frame *frame) {
    return LEMOE_FRAME_HEAD_BYTES + frame->payload.n_bytes + LEMOE_FRAME_TAIL_BYTES;
}

/* The first whole frame at or behind from whose number is not an old one; -1 when there is none. A file made to hold
 * very many beginnings of frames would take quadratic time, so the search ends when it has checked the rest of the
 * file a few times over; such a file is damaged, not torn: *gave_up. */
static int64_t find_whole(const lemoe_journal_reader *reader, int64_t from, lemoe_frame *frame, bool *gave_up) {
    const int64_t budget = 16 * (reader->n_bytes - from) + 65536;
    int64_t n_checked = 0;
    *gave_up = false;
    for (int64_t at = from; at < reader->n_bytes; at++) {
        const unsigned char *next = memchr(reader->data + at, LEMOE_FRAME_MAGIC[0], (size_t)(reader->n_bytes - at));
        if (!next) return -1;
        at = next - reader->data;
        if (n_checked > budget) {
            *gave_up = true;
            return -1;
        }
        if (parse(next, reader->n_bytes - at, reader->base + at, frame, &n_checked) == FRAME_WHOLE &&
            frame->sequence >= reader->next_sequence)
            return at;
    }
    return -1;
}

/* Whose file it is at all, told from its first bytes; a cut or empty one passes. */
static lemoe_status check_beginning(const lemoe_journal_reader *reader) {
    static const unsigned char zeros[4];
    lemoe_frame_head head;
    size_t n = reader->n_bytes < 4 ? (size_t)reader->n_bytes : 4;
    /* Zeros are what a power cut leaves of a block that was never written. */
    if (n == 0 || memcmp(reader->data, zeros, n) == 0) return LEMOE_OK;
    LEMOE_CHECK(memcmp(reader->data, LEMOE_FRAME_MAGIC, n) == 0, LEMOE_ERR_FORMAT, "%s: not a journal of lemoe-run",
                reader->name);
    if (reader->n_bytes < 8) return LEMOE_OK;
    memcpy(&head, reader->data, 8);
    LEMOE_CHECK(head.byte_order != LEMOE_FRAME_BYTE_ORDER_FOREIGN, LEMOE_ERR_FORMAT,
                "%s: written on a machine of the other byte order; read it there", reader->name);
    LEMOE_CHECK(
        head.major == LEMOE_JOURNAL_MAJOR, LEMOE_ERR_UNSUPPORTED,
        "%s: journal format %d.%d, and this lemoe-run reads %d.x: use the version that wrote it, or a newer one",
        reader->name, head.major, head.minor, LEMOE_JOURNAL_MAJOR);
    return LEMOE_OK;
}

static lemoe_status raise_damage(const lemoe_journal_reader *reader, int64_t offset, const char *what) {
    return lemoe_raise(LEMOE_ERR_FORMAT,
                       "%s: damaged at byte %lld: %s; `lemoe-run --republish DIR --salvage` recovers what is whole",
                       reader->name, (long long)offset, what);
}

static void accept(lemoe_journal_reader *reader, const lemoe_frame *frame, int64_t at) {
    reader->n_skipped += at - reader->at;
    reader->at = at + frame_bytes(frame);
    reader->next_sequence = frame->sequence + 1;
}

/* No whole frame of the right number stands at reader->at. */
static lemoe_status cope(lemoe_journal_reader *reader, lemoe_frame *frame, bool *more) {
    lemoe_frame behind;
    bool gave_up = false;
    int64_t at = find_whole(reader, reader->at + 1, &behind, &gave_up);
    if (at < 0 && !gave_up) {
        if (reader->base + reader->at == 0) return check_beginning(reader);
        return LEMOE_OK; /* torn: *more is false */
    }
    if (!reader->salvage) {
        if (reader->base + reader->at == 0) LEMOE_TRY(check_beginning(reader));
        return raise_damage(reader, reader->base + reader->at, "a frame that is not whole has others behind it");
    }
    if (at < 0) return LEMOE_OK; /* nothing that could be found in reasonable time */
    accept(reader, &behind, at);
    *frame = behind;
    *more = true;
    return LEMOE_OK;
}

lemoe_status lemoe_journal_next(lemoe_journal_reader *reader, lemoe_frame *frame, bool *more) {
    *more = false;
    if (reader->at >= reader->n_bytes) return LEMOE_OK;
    lemoe_frame found;
    int64_t n_checked = 0;
    frame_state state =
        parse(reader->data + reader->at, reader->n_bytes - reader->at, reader->base + reader->at, &found, &n_checked);
    if (state == FRAME_BAD) return cope(reader, frame, more);
    if (found.sequence != reader->next_sequence && !reader->salvage)
        return raise_damage(reader, found.offset, "frames are missing in front of it, or stand in another order");
    if (found.sequence < reader->next_sequence) return cope(reader, frame, more);
    accept(reader, &found, reader->at);
    *frame = found;
    *more = true;
    return LEMOE_OK;
}

static lemoe_status read_part(const char *path, int file, int64_t from, int64_t n_bytes, unsigned char *data,
                              int64_t *n_read) {
    *n_read = 0;
    while (*n_read < n_bytes) {
        ssize_t n = pread(file, data + *n_read, (size_t)(n_bytes - *n_read), (off_t)(from + *n_read));
        if (n < 0 && errno == EINTR) continue;
        LEMOE_CHECK(n >= 0, LEMOE_ERR_IO, "%s: cannot be read: %s", path, strerror(errno));
        if (n == 0) break; /* cut by its owner meanwhile */
        *n_read += n;
    }
    return LEMOE_OK;
}

static lemoe_status open_for_reading(const char *path, int *file, int64_t *size) {
    struct stat info;
    *file = open(path, O_RDONLY | O_CLOEXEC);
    LEMOE_CHECK(*file >= 0, LEMOE_ERR_IO, "%s: cannot be opened: %s", path, strerror(errno));
    if (fstat(*file, &info) == 0 && S_ISREG(info.st_mode)) {
        *size = (int64_t)info.st_size;
        return LEMOE_OK;
    }
    (void)close(*file);
    *file = -1;
    return lemoe_raise(LEMOE_ERR_IO, "%s: not a regular file", path);
}

static lemoe_status load_part(const char *path, int64_t from, int64_t most, unsigned char **data, int64_t *n_bytes) {
    int file = -1;
    int64_t size = 0;
    unsigned char *bytes = NULL;
    lemoe_status status = LEMOE_OK;
    *data = NULL;
    *n_bytes = 0;
    LEMOE_TRY_GOTO(open_for_reading(path, &file, &size));
    int64_t n_there = size > from ? size - from : 0;
    if (n_there > most) n_there = most;
    LEMOE_TRY_GOTO(lemoe_mem_alloc(n_there, 1, &bytes));
    LEMOE_TRY_GOTO(read_part(path, file, from, n_there, bytes, n_bytes));
    *data = bytes;
    bytes = NULL;
out:
    if (file >= 0) (void)close(file);
    lemoe_mem_free(bytes);
    return status;
}

lemoe_status lemoe_journal_load(const char *path, int64_t from, unsigned char **data, int64_t *n_bytes) {
    return load_part(path, from, INT64_MAX, data, n_bytes);
}

lemoe_status lemoe_journal_load_beginning(const char *path, int64_t most, unsigned char **data, int64_t *n_bytes) {
    return load_part(path, 0, most, data, n_bytes);
}

lemoe_status lemoe_journal_load_end(const char *path, unsigned char **data, int64_t *n_bytes) {
    /* The last 8 bytes of an end frame's payload hold the payload's length. */
    enum { TAIL = 8 + LEMOE_FRAME_TAIL_BYTES };
    const int64_t most = INT64_C(1) << 20;
    int file = -1;
    int64_t size = 0, n_payload = 0, n_read = 0, n_checked = 0;
    unsigned char tail[TAIL], *bytes = NULL;
    lemoe_frame frame;
    lemoe_status status = LEMOE_OK;
    *data = NULL;
    *n_bytes = 0;
    LEMOE_TRY_GOTO(open_for_reading(path, &file, &size));
    if (size < LEMOE_FRAME_HEAD_BYTES + TAIL) goto out;
    LEMOE_TRY_GOTO(read_part(path, file, size - TAIL, TAIL, tail, &n_read));
    memcpy(&n_payload, tail, sizeof n_payload);
    int64_t n_frame = LEMOE_FRAME_HEAD_BYTES + n_payload + LEMOE_FRAME_TAIL_BYTES;
    if (n_read != TAIL || n_payload < 8 || n_payload > most || n_frame > size) goto out;
    LEMOE_TRY_GOTO(lemoe_mem_alloc(n_frame, 1, &bytes));
    LEMOE_TRY_GOTO(read_part(path, file, size - n_frame, n_frame, bytes, &n_read));
    if (n_read != n_frame || parse(bytes, n_frame, size - n_frame, &frame, &n_checked) != FRAME_WHOLE ||
        frame.kind != LEMOE_FRAME_END || frame.payload.n_bytes != n_payload)
        goto out;
    *data = bytes;
    *n_bytes = n_payload;
    memmove(bytes, bytes + LEMOE_FRAME_HEAD_BYTES, (size_t)n_payload);
    bytes = NULL;
out:
    if (file >= 0) (void)close(file);
    lemoe_mem_free(bytes);
    return status;
}

/*
 * Journals from outside. The first byte says how the others are read: as they are, or as the payloads of frames with
 * right check sums, which random bytes would never have. Whatever is accepted must summarise, and play back the same in
 * two parts.
 */
#include "kernels/base/mem.h"
#include "runner/results/replay.h"
#include "runner/results/summary.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_INPUT = 1 << 16 };

static void check(int condition) {
    if (!condition) abort();
}

static void play(const uint8_t *data, size_t size, bool salvage) {
    lemoe_replay *replay = NULL;
    lemoe_results_summary summary;
    check(lemoe_replay_create("fuzz.journal", salvage, &replay) == LEMOE_OK);
    if (lemoe_replay_feed(replay, data, (int64_t)size) == LEMOE_OK) {
        check(replay->offset <= (int64_t)size);
        check(lemoe_summary_from_replay(replay, &summary) == LEMOE_OK);
        check(summary.exists == (replay->schema != NULL));
        lemoe_results_summary_free(&summary);
        /* What is not committed stays to be read: the same bytes again change nothing. */
        int64_t offset = replay->offset;
        if (!salvage) {
            check(lemoe_replay_feed(replay, data + offset, (int64_t)size - offset) == LEMOE_OK);
            check(replay->offset == offset);
        }
    }
    lemoe_replay_destroy(replay);
}

/* What the first byte chooses: its upper two bits the reading, the next one whether there is a second kind of locality,
 * its lower three, all clear, frames without a header. */
enum { STRICT = 0, SALVAGE = 1, FLIPPED = 2, AS_THEY_ARE = 3 };

/* A real header, then frames: kind u8, payload length u8, payload. Each is followed by a commit when its kind is odd.
 */
static void play_frames(const uint8_t *data, size_t size, uint8_t choice) {
    static const char *const kinds[] = {"", "same"};
    const lemoe_results_axes axes = {4, 2, 2, 2, choice & 32 ? 2 : 1, kinds};
    int reading = choice >> 6;
    bool has_header = choice % 8 != 0;
    lemoe_payload bytes = {NULL, 0, 0}, payload = {NULL, 0, 0};
    uint64_t sequence = 0;
    if (has_header) {
        check(lemoe_replay_encode_header(&axes, "fuzz", &payload) == LEMOE_OK);
        check(lemoe_frame_encode(LEMOE_FRAME_HEADER, sequence++, &payload, &bytes) == LEMOE_OK);
    }
    for (size_t at = 0; at + 2 <= size;) {
        lemoe_frame_kind kind = (lemoe_frame_kind)(data[at] / 2 % 8);
        bool is_committed = data[at] % 2 == 1;
        size_t n = data[at + 1];
        at += 2;
        if (n > size - at) n = size - at;
        payload.n_bytes = 0;
        check(lemoe_payload_put(&payload, data + at, (int64_t)n) == LEMOE_OK);
        check(lemoe_frame_encode(kind, sequence++, &payload, &bytes) == LEMOE_OK);
        if (is_committed) check(lemoe_frame_encode(LEMOE_FRAME_COMMIT, sequence++, NULL, &bytes) == LEMOE_OK);
        at += n;
    }
    if (bytes.n_bytes > 0) {
        if (reading == FLIPPED) bytes.data[size % (size_t)bytes.n_bytes] ^= 1;
        play(bytes.data, (size_t)bytes.n_bytes, reading != STRICT);
    }
    lemoe_payload_reset(&bytes);
    lemoe_payload_reset(&payload);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0 || size > MAX_INPUT) return 0;
    if (data[0] >> 6 != AS_THEY_ARE) {
        play_frames(data + 1, size - 1, data[0]);
        return 0;
    }
    lemoe_results_summary summary;
    bool is_whole = false;
    play(data + 1, size - 1, false);
    play(data + 1, size - 1, true);
    if (lemoe_summary_decode(data + 1, (int64_t)size - 1, &summary, &is_whole) == LEMOE_OK)
        lemoe_results_summary_free(&summary);
    return 0;
}

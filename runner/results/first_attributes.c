/* What a run says of itself before its first rows, for tables over many runs: the journal's beginning is enough. */
#include "kernels/base/mem.h"
#include "runner/results/replay.h"
#include "runner/results/replay_apply.h"
#include "runner/results/results.h"

enum { FIRST_BYTES = 16 << 10, GROWTH = 16 };

/* Attributes of the frames up to the first rows. is_over: what follows will not be more. */
static lemoe_status play_beginning(lemoe_replay *replay, lemoe_journal_reader *reader, bool *is_over) {
    for (;;) {
        lemoe_frame frame;
        bool more = false;
        LEMOE_TRY(lemoe_journal_next(reader, &frame, &more));
        *is_over = more && frame.kind == LEMOE_FRAME_ROWS;
        if (!more || *is_over) return LEMOE_OK;
        LEMOE_TRY(lemoe_replay_apply(replay, &frame, reader->n_bytes));
    }
}

static bool has_all(const lemoe_replay *replay, const lemoe_results_asked *asked, int64_t n_asked) {
    for (int64_t i = 0; i < n_asked; i++)
        if (!lemoe_replay_attribute_of(replay, asked[i].name)) return false;
    return true;
}

static lemoe_status take(const lemoe_replay *replay, lemoe_results_asked *asked, int64_t n_asked) {
    for (int64_t i = 0; i < n_asked; i++) {
        const lemoe_replay_attribute *attribute = lemoe_replay_attribute_of(replay, asked[i].name);
        if (!attribute) continue;
        asked[i].value = attribute->value;
        LEMOE_TRY(lemoe_mem_strdup(attribute->text ? attribute->text : "", &asked[i].text));
    }
    return LEMOE_OK;
}

/* One look at so many bytes; is_enough: more of them would say no more. */
static lemoe_status look(const char *journal_path, int64_t most, lemoe_results_asked *asked, int64_t n_asked,
                         bool *is_enough) {
    unsigned char *data = NULL;
    int64_t n_bytes = 0;
    lemoe_replay *replay = NULL;
    lemoe_status status = LEMOE_OK;
    LEMOE_TRY_GOTO(lemoe_journal_load_beginning(journal_path, most, &data, &n_bytes));
    LEMOE_TRY_GOTO(lemoe_replay_create(journal_path, false, &replay));
    lemoe_journal_reader reader = {.name = journal_path, .data = data, .n_bytes = n_bytes};
    LEMOE_TRY_GOTO(play_beginning(replay, &reader, is_enough));
    *is_enough = *is_enough || n_bytes < most || has_all(replay, asked, n_asked);
    if (*is_enough) status = take(replay, asked, n_asked);
out:
    lemoe_replay_destroy(replay);
    lemoe_mem_free(data);
    return status;
}

lemoe_status lemoe_results_read_first_attributes(const char *journal_path, lemoe_results_asked *asked,
                                                 int64_t n_asked) {
    bool is_enough = false;
    for (int64_t i = 0; i < n_asked; i++) asked[i] = (lemoe_results_asked){.name = asked[i].name};
    for (int64_t most = FIRST_BYTES; !is_enough; most *= GROWTH)
        LEMOE_TRY(look(journal_path, most, asked, n_asked, &is_enough));
    return LEMOE_OK;
}

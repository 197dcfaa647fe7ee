#include "tests/unit/results_fixture.h"

#include "runner/results/journal.h"
#include "runner/results/replay.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

/* ---- an independent reading of the format: journal.h's comment, and CRC-32C bit by bit ---- */

static uint32_t crc_of(const unsigned char *data, size_t n) {
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < n; i++) {
        crc ^= data[i];
        for (int k = 0; k < 8; k++) crc = crc & 1 ? (crc >> 1) ^ 0x82f63b78u : crc >> 1;
    }
    return ~crc;
}

static uint64_t u64_at(const unsigned char *data) {
    uint64_t value = 0;
    memcpy(&value, data, 8);
    return value;
}

typedef struct frame_place {
    size_t begin, n;
    uint32_t kind;
} frame_place;

static int find_frames(const file_bytes *file, frame_place *out, int most) {
    int n = 0;
    for (size_t at = 0; at < file->n; n++) {
        assert_true(n < most && at + 36 <= file->n);
        const unsigned char *frame = file->data + at;
        uint32_t crc = 0;
        assert_memory_equal(frame, "LeMJ\1\1\x34\x12", 8);
        out[n] = (frame_place){at, 36 + u64_at(frame + 16), 0};
        memcpy(&out[n].kind, frame + 8, 4);
        assert_int_equal(u64_at(frame + 24), n);
        assert_true(at + out[n].n <= file->n);
        memcpy(&crc, frame + out[n].n - 4, 4);
        assert_int_equal(crc, crc_of(frame, out[n].n - 4));
        at += out[n].n;
    }
    return n;
}

/* ---- a journal of header + three commits; after commit k, /eval/final/reliability[0] is k and [1] is 10 k ---- */

enum { N_COMMIT = 3 };

static void put_double(lemoe_journal *journal, int64_t row, double value) {
    lemoe_payload payload = {NULL, 0, 0};
    lemoe_rows rows = {"/eval/final/reliability", LEMOE_ELEMENT_F64, row, 1, 1, &value};
    assert_ok(lemoe_replay_encode_rows(&rows, &payload));
    assert_ok(lemoe_journal_append(journal, LEMOE_FRAME_ROWS, &payload));
    lemoe_payload_reset(&payload);
}

static void begin(lemoe_journal *journal) {
    lemoe_payload payload = {NULL, 0, 0};
    lemoe_results_args args = fixture_args("", "r");
    assert_ok(lemoe_replay_encode_header(&args.axes, "r", &payload));
    assert_ok(lemoe_journal_append(journal, LEMOE_FRAME_HEADER, &payload));
    lemoe_payload_reset(&payload);
    assert_ok(lemoe_journal_commit(journal));
}

static void write_journal(const char *path) {
    lemoe_journal *journal = NULL;
    assert_ok(lemoe_journal_create(path, &journal));
    begin(journal);
    for (int k = 1; k <= N_COMMIT; k++) {
        put_double(journal, 0, k);
        put_double(journal, 1, 10 * k);
        assert_ok(lemoe_journal_commit(journal));
    }
    lemoe_journal_close(journal);
}

/* -1: no header; 0: header only; k: after commit k. Asserts that the two rows belong together. */
static int state_of(const lemoe_replay *replay) {
    if (!replay->schema) return -1;
    const lemoe_replay_column *column = lemoe_replay_column_of(replay, "/eval/final/reliability");
    if (!column) return 0;
    assert_true(column->f64[1] == 10 * column->f64[0] && isnan(column->f64[2]) && isnan(column->f64[3]));
    return (int)column->f64[0];
}

static lemoe_status play(const unsigned char *data, size_t n, bool salvage, int *out) {
    lemoe_replay *replay = NULL;
    /* A copy of exactly that size: reading behind it is an error that a sanitizer sees. */
    unsigned char *copy = malloc(n ? n : 1);
    memcpy(copy, data, n);
    assert_ok(lemoe_replay_create("test.journal", salvage, &replay));
    lemoe_status status = lemoe_replay_feed(replay, copy, (int64_t)n);
    if (status == LEMOE_OK && out) *out = state_of(replay);
    lemoe_replay_destroy(replay);
    free(copy);
    return status;
}

static file_bytes *make_bytes(void **state) {
    char path[512];
    file_bytes *file = malloc(sizeof *file);
    write_journal(fixture_path(state, "made.journal", path));
    read_bytes(path, file);
    return file;
}

static void frames_are_as_documented(void **state) {
    file_bytes *file = make_bytes(state);
    frame_place frames[16];
    assert_int_equal(find_frames(file, frames, 16), 2 + 3 * N_COMMIT);
    assert_int_equal(frames[0].kind, LEMOE_FRAME_HEADER);
    assert_int_equal(frames[1].kind, LEMOE_FRAME_COMMIT);
    assert_int_equal(frames[2].kind, LEMOE_FRAME_ROWS);
    assert_int_equal(frames[1].n, 36);
    free(file);
}

static void cut_at_every_byte(void **state) {
    file_bytes *file = make_bytes(state);
    frame_place frames[16];
    int n_frame = find_frames(file, frames, 16), found = 0;
    for (size_t n = 0; n <= file->n; n++) {
        int wanted = -1;
        for (int i = 0; i < n_frame; i++)
            if (frames[i].kind == LEMOE_FRAME_COMMIT && frames[i].begin + frames[i].n <= n) wanted++;
        for (int salvage = 0; salvage < 2; salvage++) {
            assert_ok(play(file->data, n, salvage == 1, &found));
            assert_int_equal(found, wanted);
        }
    }
    free(file);
}

static void every_bit_of_the_tail(void **state) {
    file_bytes *file = make_bytes(state);
    frame_place frames[16];
    int n_frame = find_frames(file, frames, 16), found = 0;
    frame_place last = frames[n_frame - 1];
    for (size_t bit = last.begin * 8; bit < (last.begin + last.n) * 8; bit++) {
        file->data[bit / 8] ^= (unsigned char)(1u << bit % 8);
        assert_ok(play(file->data, file->n, false, &found));
        assert_int_equal(found, N_COMMIT - 1);
        file->data[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    free(file);
}

static void every_bit_in_the_middle(void **state) {
    file_bytes *file = make_bytes(state);
    frame_place frames[16];
    char offset[64];
    int n_frame = find_frames(file, frames, 16), found = 0;
    for (int i = 1; i < n_frame - 1; i++) {
        (void)snprintf(offset, sizeof offset, "test.journal: damaged at byte %zu:", frames[i].begin);
        for (size_t bit = frames[i].begin * 8; bit < (frames[i].begin + frames[i].n) * 8; bit++) {
            file->data[bit / 8] ^= (unsigned char)(1u << bit % 8);
            assert_error(play(file->data, file->n, false, NULL), LEMOE_ERR_FORMAT, offset);
            assert_non_null(strstr(lemoe_error_message(), "--republish DIR --salvage"));
            file->data[bit / 8] ^= (unsigned char)(1u << bit % 8);
        }
    }
    assert_ok(play(file->data, file->n, false, &found)); /* all bits are back */
    assert_int_equal(found, N_COMMIT);
    free(file);
}

static void salvage_keeps_whole_frames(void **state) {
    file_bytes *file = make_bytes(state);
    frame_place frames[16];
    lemoe_replay *replay = NULL;
    int n_frame = find_frames(file, frames, 16);
    /* The second row of the last commit: its first row counts, the second keeps what the commit before said. */
    frame_place hit = frames[n_frame - 2];
    file->data[hit.begin + 40] ^= 0x10;
    assert_ok(lemoe_replay_create("test.journal", true, &replay));
    assert_ok(lemoe_replay_feed(replay, file->data, (int64_t)file->n));
    const lemoe_replay_column *column = lemoe_replay_column_of(replay, "/eval/final/reliability");
    assert_true(column->f64[0] == N_COMMIT && column->f64[1] == 10 * (N_COMMIT - 1));
    assert_int_equal(replay->n_skipped_bytes, hit.n);
    lemoe_replay_destroy(replay);
    /* Without its header nothing can be told about a journal. */
    file->data[40] ^= 0x10;
    assert_error(play(file->data, file->n, true, NULL), LEMOE_ERR_FORMAT, "header is missing");
    assert_error(play(file->data, file->n, false, NULL), LEMOE_ERR_FORMAT, "damaged at byte 0");
    free(file);
}

/* A torn frame whose payload holds the image of an older frame (a file's text, say) is torn all the same. */
static void old_frames_behind_a_torn_one_do_not_count(void **state) {
    file_bytes *file = make_bytes(state);
    frame_place frames[16];
    int found = 0;
    (void)find_frames(file, frames, 16);
    const uint64_t n_payload = 4096;
    size_t begin = file->n;
    memcpy(file->data + begin, file->data + frames[1].begin, LEMOE_FRAME_HEAD_BYTES);
    memcpy(file->data + begin + 16, &n_payload, 8);
    memcpy(file->data + begin + LEMOE_FRAME_HEAD_BYTES, file->data + frames[2].begin, frames[2].n);
    assert_ok(play(file->data, begin + LEMOE_FRAME_HEAD_BYTES + frames[2].n, false, &found));
    assert_int_equal(found, N_COMMIT);
    free(file);
}

static void missing_frames_are_damage(void **state) {
    file_bytes *file = make_bytes(state);
    frame_place frames[16];
    int found = 0;
    (void)find_frames(file, frames, 16);
    memmove(file->data + frames[3].begin, file->data + frames[4].begin, file->n - frames[4].begin);
    assert_error(play(file->data, file->n - frames[3].n, false, NULL), LEMOE_ERR_FORMAT, "frames are missing");
    assert_ok(play(file->data, file->n - frames[3].n, true, &found));
    assert_int_equal(found, N_COMMIT);
    free(file);
}

/* ---- versions, strangers ---- */

static void patch_all(file_bytes *file, size_t place, unsigned char value) {
    for (size_t at = 0; at < file->n;) {
        size_t n = 36 + u64_at(file->data + at + 16);
        file->data[at + place] = value;
        uint32_t crc = crc_of(file->data + at, n - 4);
        memcpy(file->data + at + n - 4, &crc, 4);
        at += n;
    }
}

static void versions_and_strangers(void **state) {
    file_bytes *file = make_bytes(state);
    int found = 0;
    patch_all(file, 4, 2);
    assert_error(play(file->data, file->n, false, NULL), LEMOE_ERR_UNSUPPORTED, "journal format 2.1");
    patch_all(file, 4, 1);
    patch_all(file, 5, 7); /* a later minor version is read */
    assert_ok(play(file->data, file->n, false, &found));
    assert_int_equal(found, N_COMMIT);
    patch_all(file, 5, 0);
    patch_all(file, 6, 0x12);
    patch_all(file, 7, 0x34);
    assert_error(play(file->data, file->n, false, NULL), LEMOE_ERR_FORMAT, "other byte order");
    const char text[] = "status: complete\nthis is a YAML file, and a long one at that, so that a frame would fit\n";
    assert_error(play((const unsigned char *)text, sizeof text, false, NULL), LEMOE_ERR_FORMAT, "not a journal");
    memset(file->data, 0, 4096); /* a block that was never written */
    assert_ok(play(file->data, 4096, false, &found));
    assert_int_equal(found, -1);
    free(file);
}

/* ---- whole frames that lie ---- */

typedef struct lie {
    const char *what;
    uint32_t kind, minor;
    int64_t words[12];
    int n_words;
    const char *tail;
} lie;

/* A header of the fixture's axes, one frame of the case's, a commit. */
static lemoe_status play_lie(const lie *test, bool with_header) {
    lemoe_payload bytes = {NULL, 0, 0}, payload = {NULL, 0, 0};
    lemoe_results_args args = fixture_args("", "r");
    uint64_t sequence = 0;
    if (with_header) {
        assert_ok(lemoe_replay_encode_header(&args.axes, "r", &payload));
        assert_ok(lemoe_frame_encode(LEMOE_FRAME_HEADER, sequence++, &payload, &bytes));
    }
    payload.n_bytes = 0;
    assert_ok(lemoe_payload_put(&payload, test->words, test->n_words * 8));
    if (test->tail) assert_ok(lemoe_payload_put(&payload, test->tail, (int64_t)strlen(test->tail)));
    int64_t begin = bytes.n_bytes;
    assert_ok(lemoe_frame_encode((lemoe_frame_kind)test->kind, sequence++, &payload, &bytes));
    bytes.data[begin + 5] = (unsigned char)test->minor;
    size_t n = (size_t)(bytes.n_bytes - begin);
    uint32_t crc = crc_of(bytes.data + begin, n - 4);
    memcpy(bytes.data + begin + n - 4, &crc, 4);
    assert_ok(lemoe_frame_encode(LEMOE_FRAME_COMMIT, sequence, NULL, &bytes));
    lemoe_status status = play(bytes.data, (size_t)bytes.n_bytes, false, NULL);
    lemoe_payload_reset(&bytes);
    lemoe_payload_reset(&payload);
    return status;
}

static void lying_frames_are_refused(void **state) {
    (void)state;
    const int64_t huge = INT64_MAX, one = 0x3ff0000000000000;
    const lie lies[] = {
        {"kind",                77,                    0, {0},                                  1, NULL    },
        {"text behind the end", LEMOE_FRAME_ATTRIBUTE, 0, {huge},                               1, "status"},
        {"negative text",       LEMOE_FRAME_ATTRIBUTE, 0, {-8},                                 1, "status"},
        {"unknown type",        LEMOE_FRAME_ATTRIBUTE, 0, {0, 9},                               2, NULL    },
        {"second header",       LEMOE_FRAME_HEADER,    0, {1, 1, 1, 1, 0, 0},                   6, NULL    },
        {"rows of nothing",     LEMOE_FRAME_ROWS,      0, {LEMOE_ELEMENT_F64, 0, 0, 1, one},    5, NULL    },
        {"path behind the end", LEMOE_FRAME_ROWS,      0, {LEMOE_ELEMENT_F64, huge, 0, 1, one}, 5, NULL    },
        {"empty rows",          LEMOE_FRAME_ROWS,      0, {0},                                  0, NULL    },
    };
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++)
        if (play_lie(&lies[i], true) != LEMOE_ERR_FORMAT) fail_msg("%s: not refused", lies[i].what);
    const lie headers[] = {
        {"huge edit",            LEMOE_FRAME_HEADER, 0, {huge, 1, 1, 1, 0, 0},        6, NULL    },
        {"negative batch",       LEMOE_FRAME_HEADER, 0, {1, -1, 1, 1, 0, 0},          6, NULL    },
        {"many kinds",           LEMOE_FRAME_HEADER, 0, {1, 1, 1, 1, huge, 0},        6, NULL    },
        {"more kinds than text", LEMOE_FRAME_HEADER, 0, {1, 1, 1, 1, 9, 0},           6, NULL    },
        {"kind that is a path",  LEMOE_FRAME_HEADER, 0, {1, 1, 1, 1, 2, 0, 0, 6},     8, "../etc"},
        {"too short",            LEMOE_FRAME_HEADER, 0, {1, 1},                       2, NULL    },
        {"too long",             LEMOE_FRAME_HEADER, 0, {1, 1, 1, 1, 0, 0, 5},        7, NULL    },
        {"rows first",           LEMOE_FRAME_ROWS,   0, {LEMOE_ELEMENT_F64, 0, 0, 1}, 4, NULL    },
    };
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++)
        if (play_lie(&headers[i], false) != LEMOE_ERR_FORMAT) fail_msg("%s: not refused", headers[i].what);
    /* What a later minor version adds is passed over, not refused. */
    const lie later = {"later", 77, 9, {0}, 1, NULL};
    assert_ok(play_lie(&later, true));
}

static lemoe_status play_rows(lemoe_rows rows, int64_t n_given) {
    lemoe_payload bytes = {NULL, 0, 0}, payload = {NULL, 0, 0};
    lemoe_results_args args = fixture_args("", "r");
    args.axes.n_edit = INT64_C(1) << 28; /* allowed, and nothing must be allocated for it on a word alone */
    args.axes.n_batch = args.axes.n_milestone = INT64_C(1) << 28;
    assert_ok(lemoe_replay_encode_header(&args.axes, "r", &payload));
    assert_ok(lemoe_frame_encode(LEMOE_FRAME_HEADER, 0, &payload, &bytes));
    payload.n_bytes = 0;
    rows.n_element = n_given;
    assert_ok(lemoe_replay_encode_rows(&rows, &payload));
    assert_ok(lemoe_frame_encode(LEMOE_FRAME_ROWS, 1, &payload, &bytes));
    assert_ok(lemoe_frame_encode(LEMOE_FRAME_COMMIT, 2, NULL, &bytes));
    lemoe_status status = play(bytes.data, (size_t)bytes.n_bytes, false, NULL);
    lemoe_payload_reset(&bytes);
    lemoe_payload_reset(&payload);
    return status;
}

static void lying_rows_are_refused(void **state) {
    (void)state;
    const double f[2] = {0, 0};
    const int64_t big[1] = {INT64_C(1) << 40};
    const char *text[1] = {"x"};
    const lemoe_element F = LEMOE_ELEMENT_F64, I = LEMOE_ELEMENT_I64, T = LEMOE_ELEMENT_TEXT;
    assert_error(play_rows((lemoe_rows){"/eval/final/reliability", F, 0, 1, 0, f}, 1), LEMOE_ERR_FORMAT, "far more");
    assert_error(play_rows((lemoe_rows){"/eval/milestone/locality", F, 5, 1, 0, f}, 1), LEMOE_ERR_FORMAT, "fewer");
    assert_error(play_rows((lemoe_rows){"/train/loss", F, 1 << 30, 1, 0, f}, 1), LEMOE_ERR_FORMAT, "far more");
    assert_error(play_rows((lemoe_rows){"/train/loss", F, INT64_MAX, 1, 0, f}, 1), LEMOE_ERR_FORMAT, "outside");
    assert_error(play_rows((lemoe_rows){"/train/loss", F, -1, 1, 0, f}, 1), LEMOE_ERR_FORMAT, "outside");
    assert_error(play_rows((lemoe_rows){"/train/loss", F, 0, INT64_MAX, 0, f}, 1), LEMOE_ERR_FORMAT, "outside");
    assert_error(play_rows((lemoe_rows){"/train/loss", F, 0, 1000, 0, f}, 1), LEMOE_ERR_FORMAT, "fewer");
    assert_error(play_rows((lemoe_rows){"/train/loss", F, 0, 1, 0, f}, 2), LEMOE_ERR_FORMAT, "wrong length");
    assert_error(play_rows((lemoe_rows){"/train/loss", I, 0, 1, 0, big}, 1), LEMOE_ERR_FORMAT, "another type");
    assert_error(play_rows((lemoe_rows){"/train/batch", I, 0, 1, 0, big}, 1), LEMOE_ERR_FORMAT, "outside of its type");
    assert_error(play_rows((lemoe_rows){"/edit/prompt", T, 0, 1, 0, text}, 1), LEMOE_ERR_FORMAT, "far more");
    assert_error(play_rows((lemoe_rows){"/eval/base/locality", F, 0, 1, 0, f}, 1), LEMOE_ERR_FORMAT, "unknown dataset");
    assert_ok(play_rows((lemoe_rows){"/train/loss", F, 3, 2, 0, f}, 2));
}

/* Beginnings of frames in great number, each claiming the rest of the file: no quadratic search. */
static void many_false_beginnings_end_in_time(void **state) {
    (void)state;
    const size_t n = 4 << 20;
    unsigned char *data = calloc(n, 1);
    for (size_t at = 0; at + 32 <= n; at += 32) {
        uint64_t claimed = n - at - 36;
        memcpy(data + at, "LeMJ\1\1\x34\x12", 8);
        memcpy(data + at + 16, &claimed, 8);
    }
    assert_error(play(data, n, false, NULL), LEMOE_ERR_FORMAT, "damaged at byte 0");
    free(data);
}

/* ---- the owner's side ---- */

static int state_of_file(const char *path) {
    file_bytes *file = malloc(sizeof *file);
    int found = 0;
    read_bytes(path, file);
    assert_ok(play(file->data, file->n, false, &found));
    free(file);
    return found;
}

static void reopening_cuts_the_torn_tail(void **state) {
    char path[512];
    file_bytes *file = make_bytes(state);
    frame_place frames[16];
    lemoe_journal *journal = NULL;
    int n_frame = find_frames(file, frames, 16);
    fixture_path(state, "torn.journal", path);
    write_bytes(path, file->data, frames[n_frame - 1].begin + 7);
    assert_int_equal(state_of_file(path), N_COMMIT - 1); /* readers leave the tail alone */
    assert_ok(lemoe_journal_reopen(path, &journal));
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_size, frames[n_frame - 3].begin); /* rows without their commit are gone, too */
    put_double(journal, 0, 8);
    put_double(journal, 1, 80);
    assert_ok(lemoe_journal_commit(journal));
    lemoe_journal_close(journal);
    assert_int_equal(state_of_file(path), 8);
    read_bytes(path, file);
    assert_int_equal(find_frames(file, frames, 16), n_frame); /* numbers go on without a gap */
    file->data[frames[3].begin + 9] ^= 1;
    write_bytes(path, file->data, file->n);
    assert_error(lemoe_journal_reopen(path, &journal), LEMOE_ERR_FORMAT, "damaged");
    free(file);
}

static void an_ended_journal_takes_nothing(void **state) {
    char path[512];
    lemoe_journal *journal = NULL;
    fixture_path(state, "ended.journal", path);
    assert_ok(lemoe_journal_create(path, &journal));
    begin(journal);
    assert_ok(lemoe_journal_end(journal, NULL));
    assert_error(lemoe_journal_commit(journal), LEMOE_ERR_STATE, "has ended");
    lemoe_journal_close(journal);
    assert_error(lemoe_journal_reopen(path, &journal), LEMOE_ERR_STATE, "has ended");
    assert_int_equal(state_of_file(path), 0);
    assert_ok(lemoe_journal_revive(path, &journal)); /* unless that is meant */
    put_double(journal, 0, 8);
    put_double(journal, 1, 80);
    assert_ok(lemoe_journal_commit(journal));
    lemoe_journal_close(journal);
    assert_int_equal(state_of_file(path), 8);
}

/* A full disk, as a limit of the file size shows it: writes end half way. */
static void a_refused_write_leaves_the_last_commit(void **state) {
    char path[512], filler[20000];
    struct rlimit old, small;
    lemoe_journal *journal = NULL;
    lemoe_payload payload = {NULL, 0, 0};
    fixture_path(state, "full.journal", path);
    assert_ok(lemoe_journal_create(path, &journal));
    begin(journal);
    put_double(journal, 0, 1);
    put_double(journal, 1, 10);
    assert_ok(lemoe_journal_commit(journal));
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 8192;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    memset(filler, 'x', sizeof filler - 1);
    filler[sizeof filler - 1] = '\0';
    assert_ok(lemoe_replay_encode_attribute("filler", filler, 0, &payload));
    assert_ok(lemoe_journal_append(journal, LEMOE_FRAME_ATTRIBUTE, &payload));
    struct stat before, after;
    assert_int_equal(stat(path, &before), 0);
    lemoe_status refused = lemoe_journal_commit(journal);
    assert_int_equal(stat(path, &after), 0);
    put_double(journal, 0, 2);
    put_double(journal, 1, 20);
    lemoe_status small_one = lemoe_journal_commit(journal);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    (void)signal(SIGXFSZ, SIG_DFL);
    assert_int_equal(refused, LEMOE_ERR_IO);
    assert_int_equal(after.st_size, before.st_size);
    assert_int_equal(small_one, LEMOE_OK);
    assert_int_equal(state_of_file(path), 2); /* no damage in between */
    lemoe_journal_close(journal);
    lemoe_payload_reset(&payload);
}

static void replay_goes_on_where_it_stopped(void **state) {
    char path[512];
    lemoe_journal *journal = NULL;
    lemoe_replay *replay = NULL;
    fixture_path(state, "live.journal", path);
    assert_ok(lemoe_journal_create(path, &journal));
    assert_ok(lemoe_replay_create(path, false, &replay));
    assert_ok(lemoe_replay_advance(replay, path));
    assert_int_equal(state_of(replay), -1);
    begin(journal);
    for (int k = 1; k < 200; k++) {
        put_double(journal, 0, k);
        put_double(journal, 1, 10 * k);
        assert_ok(lemoe_replay_advance(replay, path));
        assert_int_equal(state_of(replay), k - 1);
        assert_ok(lemoe_journal_commit(journal));
        assert_ok(lemoe_replay_advance(replay, path));
        assert_int_equal(state_of(replay), k);
    }
    lemoe_replay_destroy(replay);
    lemoe_journal_close(journal);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_are_as_documented),
        cmocka_unit_test(cut_at_every_byte),
        cmocka_unit_test(every_bit_of_the_tail),
        cmocka_unit_test(every_bit_in_the_middle),
        cmocka_unit_test(salvage_keeps_whole_frames),
        cmocka_unit_test(old_frames_behind_a_torn_one_do_not_count),
        cmocka_unit_test(missing_frames_are_damage),
        cmocka_unit_test(versions_and_strangers),
        cmocka_unit_test(lying_frames_are_refused),
        cmocka_unit_test(lying_rows_are_refused),
        cmocka_unit_test(many_false_beginnings_end_in_time),
        cmocka_unit_test(reopening_cuts_the_torn_tail),
        cmocka_unit_test(an_ended_journal_takes_nothing),
        cmocka_unit_test(a_refused_write_leaves_the_last_commit),
        cmocka_unit_test(replay_goes_on_where_it_stopped),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}

#include "runner/data/tokenizer.h"
#include "tests/unit/fixture.h"
#include "tests/unit/tiny_tokenizer.h"

static const char *const pieces[] = {SPM_SPACE, "a", "b", "c", SPM_SPACE "ab", "abc", "ü", NULL};
enum { UNK = 0, SPACE = 3, A, B, C, SPACE_AB, ABC, UE, N_PIECES };

static lemoe_tokenizer *open_tiny(void **state) {
    lemoe_tokenizer *tokenizer = NULL;
    assert_int_equal(tiny_tokenizer_write((char *)*state, pieces), N_PIECES);
    assert_ok(lemoe_tokenizer_open((char *)*state, N_PIECES, &tokenizer));
    return tokenizer;
}

static void assert_ids(const lemoe_tokenizer *tokenizer, const char *text, const int32_t *expected, int64_t n) {
    int32_t *ids = NULL, *begin = NULL, *end = NULL;
    int64_t n_ids = 0;
    assert_ok(lemoe_tokenizer_encode(tokenizer, text, &ids, &n_ids, &begin, &end));
    assert_int_equal(n_ids, n);
    for (int64_t i = 0; i < n; i++) {
        assert_int_equal(ids[i], expected[i]);
        assert_true(begin[i] <= end[i] && end[i] <= (int32_t)strlen(text));
        if (i) assert_int_equal(begin[i], end[i - 1]); /* the spans cover the text in order */
    }
    lemoe_mem_free(ids);
    lemoe_mem_free(begin);
    lemoe_mem_free(end);
}

static void fewest_pieces_win(void **state) {
    lemoe_tokenizer *t = open_tiny(state);
    assert_int_equal(lemoe_tokenizer_n_pieces(t), N_PIECES);
    assert_int_equal(lemoe_tokenizer_bos(t), 1);
    assert_int_equal(lemoe_tokenizer_eos(t), 2);
    assert_ids(t, "abc", (int32_t[]){SPACE, ABC}, 2);
    assert_ids(t, "ab ab", (int32_t[]){SPACE_AB, SPACE_AB}, 2);
    assert_ids(t, "bü", (int32_t[]){SPACE, B, UE}, 3);
    assert_ids(t, "bxb", (int32_t[]){SPACE, B, UNK, B}, 4);
    assert_ids(t, "", NULL, 0);
    assert_int_equal(strlen(lemoe_tokenizer_fingerprint(t)), 32);
    lemoe_tokenizer_close(t);
    lemoe_tokenizer_close(NULL);
}

static void spans_are_not_required(void **state) {
    lemoe_tokenizer *t = open_tiny(state);
    int32_t *ids = NULL;
    int64_t n = 0;
    assert_ok(lemoe_tokenizer_encode(t, "c", &ids, &n, NULL, NULL));
    assert_int_equal(n, 2);
    lemoe_mem_free(ids);
    lemoe_tokenizer_close(t);
}

static void what_is_no_tokenizer_is_refused(void **state) {
    char path[512], other[512], empty[512];
    lemoe_tokenizer *t = NULL;
    assert_int_equal(tiny_tokenizer_write((char *)*state, pieces), N_PIECES);
    assert_error(lemoe_tokenizer_open((char *)*state, N_PIECES - 1, &t), LEMOE_ERR_FORMAT,
                 "does not belong to this model");
    write_text(fixture_path(state, "tokenizer.model", path), "this is not a protocol buffer");
    assert_error(lemoe_tokenizer_open((char *)*state, 0, &t), LEMOE_ERR_FORMAT, "no SentencePiece model");
    write_text(path, "");
    assert_error(lemoe_tokenizer_open((char *)*state, 0, &t), LEMOE_ERR_FORMAT, "tokenizer.model");
    assert_int_equal(remove(path), 0);
    assert_error(lemoe_tokenizer_open((char *)*state, 0, &t), LEMOE_ERR_IO, "is missing; put");
    write_text(fixture_path(state, "tokenizer.json", other), "{}");
    assert_error(lemoe_tokenizer_open((char *)*state, 0, &t), LEMOE_ERR_UNSUPPORTED, "tokenizer.json");
    assert_int_equal(remove(other), 0);
    assert_error(lemoe_tokenizer_open(fixture_path(state, "absent", empty), 0, &t), LEMOE_ERR_IO, "absent");
    assert_null(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fewest_pieces_win),
        cmocka_unit_test(spans_are_not_required),
        cmocka_unit_test(what_is_no_tokenizer_is_refused),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
